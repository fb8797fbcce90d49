//! What a failed mount proves.
//!
//! A kernel refuses a mount for many reasons that are no damage: an option, a feature that it lacks, a copy
//! of the same file system that is mounted already, storage that can't be read. A repair of a sound file
//! system destroys what is in its log, so damage has to be proven: by an error number that stands for
//! nothing else, or by the kernel's own words, and by a mount without any option.

use serde::{Deserialize, Serialize};

use super::FsKind;

/// The result of a mount that was only a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The file system could be mounted.
    Mounted,
    /// The file system could not be mounted.
    Failed(Failed),
}

/// A mount that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The error number.
    pub(crate) errno: i32,
    /// The kernel's messages about the mount.
    pub(crate) words: Vec<String>,
}

impl Failed {
    /// Whether the failure says nothing of the file system: a device that is busy may be free the next moment.
    pub(crate) const fn is_busy(&self) -> bool {
        self.errno == EBUSY
    }

    /// Whether a mount without options would show more: the failure may be due to one of the options, or was EIO, which
    /// may be over the next moment.
    pub(crate) const fn is_to_be_tried_plain(&self, has_options: bool) -> bool {
        has_options || self.errno == EIO
    }
}

/// What is known of a failed mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The failure of the mount as it was asked for.
    pub(crate) asked: Failed,
    /// Whether the device can be read since.
    pub(crate) storage: Storage,
    /// Another device of this node that has the same UUID and is mounted.
    pub(crate) twin: Option<String>,
    /// The result of a mount without options: see [`Failed::is_to_be_tried_plain`].
    pub(crate) plain: Option<Outcome>,
    /// The option that makes a mount fail by itself, if a mount without any succeeds.
    pub(crate) culprit: Option<String>,
    /// The result of a read-only mount without options and without a replay of the log.
    pub(crate) unreplayed: Option<Outcome>,
}

/// Whether a device can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// Its superblock can be read.
    Readable,
    /// The device is there, but can't be read.
    Unreadable,
    /// The device is no longer there.
    Gone,
}

impl Storage {
    /// The state of a device whose superblock could not be read, by the error number, if there was one.
    pub(crate) const fn of_unread(errno: Option<i32>) -> Self {
        match errno {
            Some(ENOENT | ENXIO | ENODEV | ENOMEDIUM) => Self::Gone,
            _ => Self::Unreadable,
        }
    }
}

/// What a failed mount proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    /// The device has gone, or can't be read.
    Storage(Storage),
    /// Another device with the same UUID is mounted.
    Twin(String),
    /// This node's kernel lacks a feature of the file system, or its device is too small here.
    Feature,
    /// One of the options makes the mount fail; which, if it is known.
    Option(Option<String>),
    /// The file system is damaged.
    Damage {
        /// Only the replay of the log fails: without it the file system can be mounted.
        log: bool,
    },
    /// Nothing is proven that would justify a change on the device.
    Unclear,
}

/// Concludes from the evidence why a mount has failed.
pub(crate) fn diagnose(kind: FsKind, evidence: &Evidence) -> Finding {
    let Evidence {
        asked,
        storage,
        twin,
        plain,
        culprit,
        unreplayed,
    } = evidence;
    let tried = [plain.as_ref(), unreplayed.as_ref()];
    let tried = tried
        .into_iter()
        .flatten()
        .filter_map(|outcome| match outcome {
            Outcome::Mounted => None,
            Outcome::Failed(failed) => Some(failed),
        });
    let all: Vec<&Failed> = [asked].into_iter().chain(tried).collect();
    let said = |test: fn(FsKind, &str) -> bool| {
        let mut words = all.iter().flat_map(|failed| &failed.words);
        words.any(|word| test(kind, &word.to_lowercase()))
    };
    if *storage != Storage::Readable {
        return Finding::Storage(*storage);
    }
    // While reads from the device fail, other errors prove nothing: they may follow from that.
    if said(is_of_storage) {
        return Finding::Storage(Storage::Unreadable);
    }
    if let Some(device) = twin {
        return Finding::Twin(device.clone());
    }
    if said(is_of_twin) {
        return Finding::Twin("another device".to_owned());
    }
    // The failure of a mount without any option.
    let bare = match plain {
        Some(Outcome::Mounted) if asked.errno == EIO && culprit.is_none() => {
            return Finding::Storage(Storage::Unreadable);
        }
        Some(Outcome::Mounted) => return Finding::Option(culprit.clone()),
        Some(Outcome::Failed(failed)) => failed,
        None => asked,
    };
    if said(is_of_feature) {
        return Finding::Feature;
    }
    // XFS has other error numbers for corrupt data: with it EIO is a failed read.
    if kind == FsKind::Xfs && bare.errno == EIO {
        return Finding::Storage(Storage::Unreadable);
    }
    let beneath = match unreplayed {
        Some(Outcome::Failed(failed)) => Some(failed),
        Some(Outcome::Mounted) | None => None,
    };
    let damaged = shows_damage(kind, bare);
    if damaged || beneath.is_some_and(|failed| shows_damage(kind, failed)) {
        let log = damaged && *unreplayed == Some(Outcome::Mounted);
        return Finding::Damage { log };
    }
    Finding::Unclear
}

// Numbers of asm-generic/errno*.h, here because this module knows only the standard library.
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENXIO: i32 = 6;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EBADMSG: i32 = 74;
const ESTALE: i32 = 116;
const EUCLEAN: i32 = 117;
const ENOMEDIUM: i32 = 123;

/// EUCLEAN and EBADMSG are the kernel's EFSCORRUPTED and EFSBADCRC. EIO is btrfs's error for corrupt data, and that of
/// all file systems for a failed read. EINVAL can be a superblock that makes no sense, ENOENT and ESTALE missing trees
/// of btrfs, or a dozen other things.
fn shows_damage(kind: FsKind, failed: &Failed) -> bool {
    match failed.errno {
        EUCLEAN | EBADMSG => true,
        EIO | EINVAL | ENOENT | ESTALE => {
            let mut words = failed.words.iter();
            words.any(|word| is_of_damage(kind, &word.to_lowercase()))
        }
        _ => false,
    }
}

/// `blk_print_req_error`, `buffer_io_error`.
fn is_of_storage(_: FsKind, word: &str) -> bool {
    word.contains("error, dev ") || word.contains("buffer i/o error on dev ")
}

/// `xfs_uuid_mount`; `device_list_add` of btrfs.
fn is_of_twin(kind: FsKind, word: &str) -> bool {
    match kind {
        FsKind::Ext4 => false,
        FsKind::Xfs => word.contains("duplicate uuid"),
        FsKind::Btrfs => word.contains("duplicate device"),
    }
}

/// `ext4_feature_set_ok` and its neighbours, `xfs_sb_validate_mount`, `xfs_finish_flags`,
/// `btrfs_check_features`: what another kernel could mount, or another build of this one.
fn is_of_feature(_: FsKind, word: &str) -> bool {
    [
        "unsupported optional features",
        "unknown incompat",
        "unknown read-only compat",
        "unknown compat_ro",
        "unknown incompatible",
        "by this kernel",
        "not supported",
        "unsupported",
        "without config_",
        "not built with config_",
        "only pagesize",
        "exceeds size of device",
    ]
    .iter()
    .any(|phrase| word.contains(phrase))
}

fn is_of_damage(_: FsKind, word: &str) -> bool {
    // btrfs lists a device's error counters in such a line, even if they are all zero.
    let counts = word.contains(" errs: wr ");
    let phrases = [
        "corrupt",
        "checksum",
        "crc error",
        "needs repair",
        "run e2fsck",
        "parent transid verify failed",
        "bad tree block",
        // btrfs has read another block than it looked for (`btrfs_verify_level_key`, `check_tree_block_fsid`).
        "level verify failed",
        "level mismatch",
        "key mismatch",
        "bad fsid",
    ];
    !counts && phrases.iter().any(|phrase| word.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(errno: i32, words: &[&str]) -> Failed {
        Failed {
            errno,
            words: words.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    fn evidence(asked: Failed) -> Evidence {
        Evidence {
            asked,
            storage: Storage::Readable,
            twin: None,
            plain: None,
            culprit: None,
            unreplayed: None,
        }
    }

    #[test]
    fn only_what_may_have_failed_by_an_option_or_for_a_moment_is_tried_without_options() {
        let tried = |errno, has_options| failed(errno, &[]).is_to_be_tried_plain(has_options);
        for errno in [EIO, EINVAL, EUCLEAN, EBADMSG, ENOENT, ESTALE] {
            assert!(tried(errno, true), "{errno}");
            assert_eq!(tried(errno, false), errno == EIO, "{errno}");
            assert!(!failed(errno, &[]).is_busy(), "{errno}");
        }
        assert!(failed(EBUSY, &[]).is_busy());
    }

    #[test]
    fn storage_that_is_not_there_is_told_from_what_can_t_be_read() {
        for gone in [ENOENT, ENXIO, ENODEV, ENOMEDIUM] {
            assert_eq!(Storage::of_unread(Some(gone)), Storage::Gone, "{gone}");
        }
        for unread in [Some(EIO), Some(EBADMSG), None] {
            assert_eq!(
                Storage::of_unread(unread),
                Storage::Unreadable,
                "{unread:?}"
            );
        }
    }

    #[test]
    fn only_error_numbers_of_damage_prove_it_without_words() {
        for kind in FsKind::ALL {
            for (errno, proof) in [
                (EUCLEAN, true),
                (EBADMSG, true),
                (EINVAL, false),
                (ENOENT, false),
                (ESTALE, false),
                (EBUSY, false),
                (1, false),
            ] {
                let finding = diagnose(kind, &evidence(failed(errno, &[])));
                let expected = match proof {
                    true => Finding::Damage { log: false },
                    false => Finding::Unclear,
                };
                assert_eq!(finding, expected, "{kind} {errno}");
            }
        }
    }

    #[test]
    fn eio_is_damage_where_it_stays_and_the_kernel_has_words_for_it() {
        let corrupt =
            "BTRFS error (device sdb): bad tree block start, mirror 1 want 30408704 have 0";
        let unread = Finding::Storage(Storage::Unreadable);
        for kind in FsKind::ALL {
            let again = |words: &[&str], outcome| Evidence {
                plain: Some(outcome),
                unreplayed: Some(Outcome::Mounted),
                ..evidence(failed(EIO, words))
            };
            let once = diagnose(kind, &again(&[], Outcome::Mounted));
            assert_eq!(once, unread, "{kind}");
            let twice =
                |words: &[&str]| diagnose(kind, &again(words, Outcome::Failed(failed(EIO, words))));
            let (silent, named) = match kind {
                FsKind::Xfs => (unread.clone(), unread.clone()),
                FsKind::Ext4 | FsKind::Btrfs => (Finding::Unclear, Finding::Damage { log: true }),
            };
            assert_eq!(twice(&[]), silent, "{kind}");
            // ext4 tells that it could not, and not why.
            let journal = ["EXT4-fs (sdb1): error loading journal"];
            assert_eq!(twice(&journal), silent, "{kind}");
            assert_eq!(twice(&[corrupt]), named, "{kind}");
            let medium = "critical medium error, dev sdb, sector 486801495 op 0x0:(READ)";
            assert_eq!(twice(&[medium, corrupt]), unread, "{kind}");
        }
    }

    #[test]
    fn the_kernel_s_own_words_decide_where_the_error_number_does_not() {
        use FsKind::{Btrfs, Ext4, Xfs};
        let damage = Finding::Damage { log: false };
        for (kind, errno, words, expected) in [
            (
                Xfs,
                EINVAL,
                "XFS (sdb): Filesystem has duplicate UUID 3d1c1ae4 - can't mount",
                Finding::Twin("another device".to_owned()),
            ),
            (
                Xfs,
                EINVAL,
                "XFS (sdb): Superblock has unknown incompatible features (0x400) enabled.",
                Finding::Feature,
            ),
            (
                Ext4,
                EINVAL,
                "EXT4-fs (sdb): couldn't mount because of unsupported optional features (4000000)",
                Finding::Feature,
            ),
            (
                Ext4,
                EINVAL,
                "EXT4-fs (sdb): bad geometry: block count 80 exceeds size of device (7 blocks)",
                Finding::Feature,
            ),
            (
                Btrfs,
                EINVAL,
                "BTRFS error (device sdb): cannot mount because of unknown incompat features (0x10)",
                Finding::Feature,
            ),
            (
                Ext4,
                EINVAL,
                "EXT4-fs (sdb): group descriptors corrupted!",
                damage.clone(),
            ),
            (
                Btrfs,
                ESTALE,
                "BTRFS error (device sdb): parent transid verify failed on logical 30 wanted 9 found 7",
                damage.clone(),
            ),
            (
                Btrfs,
                ENOENT,
                "BTRFS info (device sdb): bdev /dev/sdb errs: wr 0, rd 0, flush 0, corrupt 0, gen 0",
                Finding::Unclear,
            ),
            (
                Xfs,
                EUCLEAN,
                "I/O error, dev sdb, sector 8 op 0x0:(READ) flags 0x1000 phys_seg 1 prio class 2",
                Finding::Storage(Storage::Unreadable),
            ),
            (
                Xfs,
                EUCLEAN,
                "XFS (sdb): Corruption of in-memory data (0x8) detected",
                damage,
            ),
        ] {
            let finding = diagnose(kind, &evidence(failed(errno, &[words])));
            assert_eq!(finding, expected, "{words}");
        }
    }

    #[test]
    fn an_option_is_suspected_before_the_file_system() {
        let with_options = |errno| Evidence {
            plain: Some(Outcome::Mounted),
            culprit: Some("subvol=typo".to_owned()),
            ..evidence(failed(errno, &[]))
        };
        for errno in [ENOENT, EINVAL, EIO, EUCLEAN, EBADMSG] {
            assert_eq!(
                diagnose(FsKind::Btrfs, &with_options(errno)),
                Finding::Option(Some("subvol=typo".to_owned())),
            );
        }
        let both = Evidence {
            plain: Some(Outcome::Failed(failed(EUCLEAN, &[]))),
            ..evidence(failed(EINVAL, &[]))
        };
        assert_eq!(diagnose(FsKind::Xfs, &both), Finding::Damage { log: false });
    }

    #[test]
    fn it_is_the_log_if_all_the_rest_can_be_mounted() {
        let without_log = |asked| Evidence {
            unreplayed: Some(Outcome::Mounted),
            ..evidence(asked)
        };
        assert_eq!(
            diagnose(FsKind::Xfs, &without_log(failed(EUCLEAN, &[]))),
            Finding::Damage { log: true }
        );
        // A log that this kernel can't read is none that is broken.
        assert_eq!(
            diagnose(FsKind::Xfs, &without_log(failed(EINVAL, &[]))),
            Finding::Unclear
        );
    }

    #[test]
    fn nothing_is_proven_by_storage_that_cannot_be_read_or_beside_a_twin() {
        for storage in [Storage::Unreadable, Storage::Gone] {
            let unread = Evidence {
                storage,
                ..evidence(failed(EUCLEAN, &[]))
            };
            assert_eq!(diagnose(FsKind::Xfs, &unread), Finding::Storage(storage));
        }
        let beside = Evidence {
            twin: Some("/dev/sdc".to_owned()),
            ..evidence(failed(EUCLEAN, &["XFS (sdb): Corruption detected"]))
        };
        assert_eq!(
            diagnose(FsKind::Xfs, &beside),
            Finding::Twin("/dev/sdc".to_owned())
        );
    }
}
