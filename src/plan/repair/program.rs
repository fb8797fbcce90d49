//! The programs that check and repair file systems: the command of each stage of a repair, and what its exit code
//! means.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::FsKind;

/// The name of the metadata image's file.
pub(crate) const IMAGE: &str = "metadata.image";

/// A stage of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Note in the superblock that the file system has to be checked, before the mark of a killed check is cleared:
    /// nothing else would show it if this check were killed, too.
    Note,
    /// Clear the mark of the killed check, which keeps everybody from using the file system.
    Release,
    /// Keep an image of the metadata as it is, so that the repair can be understood and taken back.
    Preserve,
    /// Repair what is safe to repair.
    Preen,
    /// Repair everything, and give up what can't be repaired.
    Full,
    /// Give up the log: the last changes before the failure are lost with it.
    DropLog,
}

impl Stage {
    /// All stages.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::Note,
        Self::Release,
        Self::Preserve,
        Self::Preen,
        Self::Full,
        Self::DropLog,
    ];
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It has exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// What the end of a stage means for the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was nothing to repair.
    Sound,
    /// Damage was found and repaired.
    Mended,
    /// There is damage that this stage does not repair.
    MoreNeeded,
    /// Nothing was done because the log holds changes that only a mount can replay.
    LogHolds,
    /// The program could not begin, for this reason, which may be over the next moment.
    Hindered(String),
    /// The program could not do its work, for this reason.
    Failed(String),
}

/// What a program's output says of the reason for its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    busy: Option<String>,
    superblock: bool,
}

impl Said {
    /// Notes a line of the output.
    pub(crate) fn add(&mut self, line: &str) {
        // Other programs say that they can't open the device; e2fsck checks whether it is mounted first.
        const BUSY: [&str; 3] = ["Device or resource busy", " is in use.", " is mounted."];
        // Messages of libext2fs when it opens a file system.
        const SUPERBLOCK: [&str; 5] = [
            "Bad magic number in super-block",
            "checksum does not match superblock",
            "superblock is corrupt while",
            "orrupt group descriptor",
            "roup descriptors look bad",
        ];
        let has = |phrases: &[&str]| phrases.iter().any(|phrase| line.contains(phrase));
        if self.busy.is_none() && has(&BUSY) {
            self.busy = Some(line.trim().to_owned());
        }
        self.superblock |= has(&SUPERBLOCK);
    }

    /// Whether e2fsck has to use a backup of the superblock. With an undo file (`-z`) it finds each backup as bad as
    /// the first (seen with e2fsprogs 1.47.0).
    pub(crate) const fn needs_backup(&self) -> bool {
        self.superblock
    }
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its arguments.
    pub(crate) args: Vec<String>,
}

/// What a program works on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The block device.
    pub(crate) device: &'a Path,
    /// The directory where the image, or what `e2undo` needs, is kept.
    pub(crate) keep: &'a Path,
    /// Whether there is room to keep that.
    pub(crate) room: bool,
    /// The descriptor to which e2fsck writes its progress.
    pub(crate) progress: i32,
}

/// The name of the program that repairs this kind, for messages.
pub(crate) const fn name(kind: FsKind) -> &'static str {
    match kind {
        FsKind::Ext4 => "e2fsck",
        FsKind::Xfs => "xfs_repair",
        FsKind::Btrfs => "btrfs check",
    }
}

/// The command for `stage`; `None` if this kind of file system has no such stage.
///
/// ext4 needs no image: e2fsck saves each block before it overwrites it (`-z`), which costs the size of
/// the damage, while an image costs a pass over all the metadata before the repair may begin.
///
/// The image of an XFS is made by `xfs_db` and not by `xfs_metadump`: that is a shell script, and what it runs could
/// outlive it when it is killed.
pub(crate) fn program(kind: FsKind, stage: Stage, subject: Subject) -> Option<Program> {
    let device = subject.device.display().to_string();
    let kept = |name: &str| subject.keep.join(name).display().to_string();
    let image = kept(IMAGE);
    let dump = format!("metadump -g -o {image}");
    let saved = undo(kind, stage).map(kept).unwrap_or_default();
    let progress = subject.progress.to_string();
    let (name, args): (_, Vec<&str>) = match (kind, stage) {
        (FsKind::Ext4, Stage::Preserve | Stage::DropLog)
        | (FsKind::Xfs, Stage::Release | Stage::Note | Stage::Full)
        | (FsKind::Btrfs, Stage::Release | Stage::Note) => return None,
        // -f: whatever the mark is and whoever has set it, which was looked at before.
        (FsKind::Ext4, Stage::Note) => ("tune2fs", vec!["-f", "-E", "force_fsck", &device]),
        (FsKind::Ext4, Stage::Release) => ("tune2fs", vec!["-f", "-E", "clear_mmp", &device]),
        (FsKind::Ext4, Stage::Preen | Stage::Full) => {
            let how = if stage == Stage::Full { "-y" } else { "-p" };
            let mut args = vec!["-f", how, "-C", &progress];
            if subject.room {
                args.extend(["-z", &saved]);
            }
            args.push(&device);
            ("e2fsck", args)
        }
        (FsKind::Xfs | FsKind::Btrfs, Stage::Preserve) if !subject.room => return None,
        // -o: real names, or the image could not be restored. -g: shows progress.
        (FsKind::Xfs, Stage::Preserve) => (
            "xfs_db",
            vec!["-r", "-p", "xfs_metadump", "-c", &dump, &device],
        ),
        // -e: the exit code shows whether damage was found.
        (FsKind::Xfs, Stage::Preen) => ("xfs_repair", vec!["-e", &device]),
        (FsKind::Xfs, Stage::DropLog) => ("xfs_repair", vec!["-e", "-L", &device]),
        // -w: walks all trees, as the extent tree may be broken.
        (FsKind::Btrfs, Stage::Preserve) => ("btrfs-image", vec!["-c", "1", "-w", &device, &image]),
        (FsKind::Btrfs, Stage::Preen) => ("btrfs", vec!["check", "--readonly", &device]),
        (FsKind::Btrfs, Stage::Full) => ("btrfs", vec!["check", "--repair", &device]),
        (FsKind::Btrfs, Stage::DropLog) => ("btrfs", vec!["rescue", "zero-log", &device]),
    };
    Some(Program {
        name,
        args: args.into_iter().map(str::to_owned).collect(),
    })
}

/// The name of the file in which `stage` keeps what it overwrites, for `e2undo`.
pub(crate) const fn undo(kind: FsKind, stage: Stage) -> Option<&'static str> {
    match (kind, stage) {
        (FsKind::Ext4, Stage::Preen) => Some("preen.e2undo"),
        (FsKind::Ext4, Stage::Full) => Some("full.e2undo"),
        _ => None,
    }
}

/// The name of the file in which `stage` keeps what was on the device before, if it keeps anything.
pub(crate) const fn kept(kind: FsKind, stage: Stage) -> Option<&'static str> {
    match (kind, stage) {
        (FsKind::Xfs | FsKind::Btrfs, Stage::Preserve) => Some(IMAGE),
        _ => undo(kind, stage),
    }
}

/// What it means for the file system that `stage` ended like this, with this output.
pub(crate) fn verdict(kind: FsKind, stage: Stage, exit: Exit, said: &Said) -> Verdict {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => return Verdict::Failed(format!("ended by signal {signal}")),
    };
    match (kind, stage) {
        (_, Stage::Preserve | Stage::Release | Stage::Note) | (FsKind::Btrfs, Stage::DropLog) => {
            match code {
                0 => Verdict::Sound,
                code => failed(code, said),
            }
        }
        (FsKind::Ext4, _) => e2fsck(code, said),
        (FsKind::Xfs, _) => xfs_repair(code, said),
        (FsKind::Btrfs, _) => match code {
            0 if stage == Stage::Full => Verdict::Mended,
            0 => Verdict::Sound,
            // btrfs exits with 1 for anything that is wrong, even if somebody had the device open for a moment.
            1 if said.busy.is_none() => Verdict::MoreNeeded,
            code => failed(code, said),
        },
    }
}

/// The verdict on a program whose end says nothing of the file system.
fn failed(code: i32, said: &Said) -> Verdict {
    match &said.busy {
        Some(why) => Verdict::Hindered(why.clone()),
        None => Verdict::Failed(format!("exit code {code}")),
    }
}

/// e2fsck(8), "EXIT CODE": a sum of conditions.
fn e2fsck(code: i32, said: &Said) -> Verdict {
    const MENDED: i32 = 1;
    const REBOOT: i32 = 2; // only matters where the file system is mounted
    const LEFT: i32 = 4;
    const OPERATIONAL: i32 = 8;
    let rest = code & !(MENDED | REBOOT);
    match rest {
        0 if code == 0 => Verdict::Sound,
        0 => Verdict::Mended,
        // With a superblock that -p does not repair e2fsck exits with 8; -y goes on with a backup of the superblock.
        OPERATIONAL if said.superblock => Verdict::MoreNeeded,
        // It exits with 8, too, if somebody uses the device, memory is short, or the storage is gone.
        OPERATIONAL => {
            let why = said.busy.clone();
            Verdict::Hindered(why.unwrap_or_else(|| format!("exit code {code}")))
        }
        _ if rest & !(LEFT | OPERATIONAL) == 0 => Verdict::MoreNeeded,
        _ => Verdict::Failed(format!("exit code {code}")),
    }
}

/// xfs_repair(8), "EXIT STATUS", with -e.
fn xfs_repair(code: i32, said: &Said) -> Verdict {
    match code {
        0 => Verdict::Sound,
        2 => Verdict::LogHolds,
        4 => Verdict::Mended,
        code => failed(code, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: FsKind, stage: Stage) -> Option<Program> {
        let subject = Subject {
            device: Path::new("/dev/x"),
            keep: Path::new("/s"),
            room: true,
            progress: 7,
        };
        program(kind, stage, subject)
    }

    #[test]
    fn without_room_nothing_is_kept_and_the_repair_goes_on() {
        let call = |kind, stage| {
            let subject = Subject {
                device: Path::new("/dev/x"),
                keep: Path::new("/s"),
                room: false,
                progress: 7,
            };
            program(kind, stage, subject)
        };
        for kind in FsKind::ALL {
            assert_eq!(call(kind, Stage::Preserve), None);
            let preen = call(kind, Stage::Preen).unwrap();
            assert!(!preen.args.iter().any(|a| a.contains("/s")), "{preen:?}");
        }
    }

    #[test]
    fn no_stage_before_full_gives_anything_up() {
        for kind in FsKind::ALL {
            for stage in [Stage::Release, Stage::Note, Stage::Preserve, Stage::Preen] {
                let args = call(kind, stage).map_or(vec![], |p| p.args);
                for drastic in ["-y", "-L", "--repair", "zero-log"] {
                    assert!(!args.iter().any(|a| a == drastic), "{kind} {stage:?}");
                }
            }
        }
    }

    #[test]
    fn each_call_names_the_device_and_a_program() {
        for kind in FsKind::ALL {
            for stage in Stage::ALL {
                if let Some(p) = call(kind, stage) {
                    assert!(!p.name.contains('/'));
                    assert!(p.args.iter().any(|a| a == "/dev/x"), "{p:?}");
                }
            }
        }
    }

    #[test]
    fn e2fsck_keeps_each_stages_undo_apart() {
        let undo = |stage| call(FsKind::Ext4, stage).unwrap().args[5].clone();
        assert_eq!(
            (undo(Stage::Preen), undo(Stage::Full)),
            ("/s/preen.e2undo".to_owned(), "/s/full.e2undo".to_owned())
        );
    }

    #[test]
    fn exit_codes_mean_what_their_manuals_say() {
        let failed = |code| Verdict::Failed(format!("exit code {code}"));
        for (kind, stage, code, expected) in [
            (FsKind::Ext4, Stage::Preen, 0, Verdict::Sound),
            (FsKind::Ext4, Stage::Preen, 1, Verdict::Mended),
            (FsKind::Ext4, Stage::Preen, 3, Verdict::Mended),
            (FsKind::Ext4, Stage::Preen, 4, Verdict::MoreNeeded),
            (FsKind::Ext4, Stage::Preen, 5, Verdict::MoreNeeded),
            (
                FsKind::Ext4,
                Stage::Preen,
                8,
                Verdict::Hindered("exit code 8".to_owned()),
            ),
            (FsKind::Ext4, Stage::Full, 12, Verdict::MoreNeeded),
            (FsKind::Ext4, Stage::Full, 16, failed(16)),
            (FsKind::Ext4, Stage::Preen, 32, failed(32)),
            (FsKind::Xfs, Stage::Preen, 0, Verdict::Sound),
            (FsKind::Xfs, Stage::Preen, 1, failed(1)),
            (FsKind::Xfs, Stage::Preen, 2, Verdict::LogHolds),
            (FsKind::Xfs, Stage::DropLog, 4, Verdict::Mended),
            (FsKind::Btrfs, Stage::Preen, 0, Verdict::Sound),
            (FsKind::Btrfs, Stage::Preen, 1, Verdict::MoreNeeded),
            (FsKind::Btrfs, Stage::Full, 0, Verdict::Mended),
            (FsKind::Btrfs, Stage::DropLog, 1, failed(1)),
        ] {
            let seen = verdict(kind, stage, Exit::Code(code), &Said::default());
            assert_eq!(seen, expected, "{kind} {stage:?} {code}");
        }
        let killed = verdict(FsKind::Xfs, Stage::Preen, Exit::Signal(9), &Said::default());
        assert_eq!(killed, Verdict::Failed("ended by signal 9".to_owned()));
    }

    fn said(words: &str) -> Said {
        let mut said = Said::default();
        words.lines().for_each(|line| said.add(line));
        said
    }

    #[test]
    fn a_device_in_somebody_s_hands_is_no_damage() {
        let busy = [
            (
                FsKind::Ext4,
                8,
                "/dev/x is in use.\ne2fsck: Cannot continue, aborting.\n",
            ),
            (FsKind::Ext4, 8, "/dev/x is mounted."),
            (
                FsKind::Ext4,
                8,
                "e2fsck: Device or resource busy while trying to open /dev/x",
            ),
            (
                FsKind::Xfs,
                1,
                "xfs_repair: cannot open /dev/x: Device or resource busy",
            ),
            (
                FsKind::Btrfs,
                1,
                "ERROR: cannot open device '/dev/x': Device or resource busy\n\
                 ERROR: cannot open file system",
            ),
        ];
        for (kind, code, words) in busy {
            for stage in [Stage::Preen, Stage::Full, Stage::DropLog] {
                let seen = verdict(kind, stage, Exit::Code(code), &said(words));
                let first = words.lines().next().unwrap().to_owned();
                assert_eq!(seen, Verdict::Hindered(first), "{kind} {stage:?}");
            }
        }
    }

    #[test]
    fn a_superblock_that_e2fsck_cannot_believe_is_damage() {
        for words in [
            "e2fsck: Bad magic number in super-block while trying to open /dev/x",
            "e2fsck: Superblock checksum does not match superblock while trying to open /dev/x",
            "e2fsck: The ext2 superblock is corrupt while trying to open /dev/x",
        ] {
            let seen = verdict(FsKind::Ext4, Stage::Preen, Exit::Code(8), &said(words));
            assert_eq!(seen, Verdict::MoreNeeded, "{words}");
        }
        // Which it says of whatever it could not open.
        let unread = "e2fsck: Input/output error while trying to open /dev/x\n\
                      The superblock could not be read or does not describe a valid ext2/ext3/ext4\n\
                      filesystem (and not swap or ufs or something else), then the superblock\n\
                      is corrupt, and you might try running e2fsck with an alternate superblock:\n";
        let seen = verdict(FsKind::Ext4, Stage::Preen, Exit::Code(8), &said(unread));
        assert_eq!(seen, Verdict::Hindered("exit code 8".to_owned()));
    }
}
