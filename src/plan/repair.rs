//! What a file system needs before it may be attached: nothing, a repair, or a person. Pure: the state
//! of the superblock, the policy and exit codes come in, the next step comes out.
//!
//! A file system that was cut off in the middle of its work needs only the replay of its journal, and
//! the kernel does that when it mounts. Everything beyond it is a repair:
//!
//! | | `preen` | `full`: also, when that did not do |
//! |---|---|---|
//! | ext4 | `e2fsck -p`: what is safe to mend without asking | `e2fsck -y` |
//! | XFS | `xfs_repair`, which refuses while the log holds something | `xfs_repair -L`: the log is given up |
//! | btrfs | `btrfs check`: mends nothing, but tells sound from broken | `btrfs check --repair`, or `btrfs rescue zero-log` where only the log is bad |

use std::fmt;
use std::str::FromStr;

mod program;
pub mod progress;

pub use program::{Exit, IMAGE, Program, Stage, Subject, Verdict, program, verdict};

/// A kind of file system that berth serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FsKind {
    /// ext4, and what else its kernel driver mounts (ext2, ext3).
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs on one device.
    Btrfs,
}

impl FsKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The kernel's name for it, as `fsopen` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FsKind {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|k| k.as_str() == s)
            .ok_or_else(|| {
                format!("\"{s}\" is no file-system type berth serves: ext4, xfs or btrfs")
            })
    }
}

/// How far a repair may go without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nothing is changed; a file system with damage stays blocked.
    Never,
    /// Only what the file system's own tool calls safe.
    #[default]
    Preen,
    /// All the tool can do, even if it costs the files that were damaged.
    Full,
}

impl Policy {
    /// The parameter's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Preen => "preen",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Never, Self::Preen, Self::Full]
            .into_iter()
            .find(|p| p.as_str() == s)
            .ok_or_else(|| format!("\"{s}\" is no repair policy: never, preen or full"))
    }
}

/// What the superblock tells of the file system's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its kind.
    pub kind: FsKind,
    /// Whether its journal has to be replayed; `None` where only a mount can tell (XFS).
    pub replay: Option<bool>,
    /// Damage that the file system itself has noted: ext4 "errors detected" or, without a journal, not
    /// cleanly unmounted; XFS "needs repair"; btrfs "error".
    pub damaged: bool,
}

/// What to do next with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Mount it: the kernel replays its journal if need be.
    Attach,
    /// Run this stage of the repair.
    Run(Stage),
    /// Leave it blocked, for this reason.
    Block(String),
}

/// What a file system that is not yet mounted needs.
pub fn before_attach(condition: Condition, policy: Policy) -> Decision {
    if !condition.damaged {
        return Decision::Attach;
    }
    first_stage(policy, "damage is noted in its superblock")
}

/// A mount that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttach {
    /// The mount's error number.
    pub errno: i32,
    /// Whether the superblock could be read since: damage and dead storage both show as EIO.
    pub readable: bool,
    /// The last stage of repair that had ended before this mount was tried.
    pub after: Option<Stage>,
}

/// What it needs after a mount failed.
pub fn after_failed_attach(kind: FsKind, policy: Policy, failed: FailedAttach) -> Decision {
    let reason = std::io::Error::from_raw_os_error(failed.errno);
    match (failed.errno, failed.after) {
        (EIO, _) if !failed.readable => {
            Decision::Block(format!("its storage cannot be read: {reason}"))
        }
        // EUCLEAN and EBADMSG are the kernel's EFSCORRUPTED and EFSBADCRC. EINVAL is a superblock or
        // journal that makes no sense; ENOENT and ESTALE are btrfs trees that are not there.
        (EIO | EUCLEAN | EBADMSG | EINVAL | ENOENT | ESTALE, None) => {
            first_stage(policy, &format!("it cannot be mounted: {reason}"))
        }
        // The trees are sound, so it is the replay of the log that fails.
        (EIO | EUCLEAN | EBADMSG | EINVAL | ENOENT | ESTALE, Some(Stage::Preen)) => {
            let next = match kind {
                FsKind::Ext4 => Stage::Full,
                FsKind::Xfs | FsKind::Btrfs => Stage::DropLog,
            };
            if_full(
                policy,
                next,
                format!("it cannot be mounted after its check: {reason}"),
            )
        }
        (_, Some(_)) => Decision::Block(format!("it cannot be mounted after its repair: {reason}")),
        (_, None) => Decision::Block(format!("it cannot be mounted: {reason}")),
    }
}

// Numbers of asm-generic/errno*.h, here because this module knows only the standard library.
const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EBADMSG: i32 = 74;
const ESTALE: i32 = 116;
const EUCLEAN: i32 = 117;

fn first_stage(policy: Policy, why: &str) -> Decision {
    match policy {
        Policy::Never => Decision::Block(format!("{why}, and repair is \"never\"")),
        Policy::Preen | Policy::Full => Decision::Run(Stage::Preserve),
    }
}

fn if_full(policy: Policy, stage: Stage, why: String) -> Decision {
    match policy {
        Policy::Full => Decision::Run(stage),
        Policy::Never | Policy::Preen => {
            Decision::Block(format!("{why}; more needs repair = \"full\""))
        }
    }
}

/// What follows `stage`, which ended with `verdict`.
pub fn after_stage(kind: FsKind, policy: Policy, stage: Stage, verdict: &Verdict) -> Decision {
    let name = program::name(kind);
    match (stage, verdict) {
        // The image is a precaution: that it cannot be had is no reason to leave the data blocked.
        (Stage::Preserve, _) => Decision::Run(Stage::Preen),
        (_, Verdict::Sound | Verdict::Mended) => Decision::Attach,
        (Stage::Preen, Verdict::MoreNeeded) => if_full(
            policy,
            Stage::Full,
            format!("{name} left damage that it cannot mend safely"),
        ),
        (Stage::Preen, Verdict::LogHolds) => if_full(
            policy,
            Stage::DropLog,
            format!("{name} will not touch it while its log cannot be replayed"),
        ),
        (_, Verdict::MoreNeeded | Verdict::LogHolds) => {
            Decision::Block(format!("{name} could not mend it"))
        }
        (_, Verdict::Failed(why)) => Decision::Block(format!("{name} failed: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Condition = Condition {
        kind: FsKind::Ext4,
        replay: Some(true),
        damaged: false,
    };

    fn failed(errno: i32, readable: bool) -> FailedAttach {
        FailedAttach {
            errno,
            readable,
            after: None,
        }
    }

    #[test]
    fn a_journal_to_replay_is_no_reason_for_a_repair() {
        for policy in [Policy::Never, Policy::Preen, Policy::Full] {
            assert_eq!(before_attach(SOUND, policy), Decision::Attach);
        }
    }

    #[test]
    fn noted_damage_is_mended_before_the_first_access() {
        let damaged = Condition {
            damaged: true,
            ..SOUND
        };
        assert_eq!(
            before_attach(damaged, Policy::Preen),
            Decision::Run(Stage::Preserve)
        );
        assert!(
            matches!(before_attach(damaged, Policy::Never), Decision::Block(w)
            if w.contains("repair is \"never\""))
        );
    }

    #[test]
    fn an_unreadable_device_is_not_repaired() {
        assert!(matches!(
            after_failed_attach(FsKind::Ext4, Policy::Full, failed(EIO, false)),
            Decision::Block(w) if w.contains("storage")
        ));
        assert_eq!(
            after_failed_attach(FsKind::Ext4, Policy::Full, failed(EIO, true)),
            Decision::Run(Stage::Preserve)
        );
    }

    #[test]
    fn a_mount_refused_for_another_reason_is_not_repaired() {
        const EBUSY: i32 = 16;
        assert!(matches!(
            after_failed_attach(FsKind::Xfs, Policy::Full, failed(EBUSY, true)),
            Decision::Block(_)
        ));
    }

    #[test]
    fn a_log_that_cannot_be_replayed_is_given_up_only_by_a_full_repair() {
        let again = FailedAttach {
            after: Some(Stage::Preen),
            ..failed(EIO, true)
        };
        let next = |policy| after_failed_attach(FsKind::Btrfs, policy, again);
        assert_eq!(next(Policy::Full), Decision::Run(Stage::DropLog));
        assert!(matches!(next(Policy::Preen), Decision::Block(_)));
        assert_eq!(
            after_stage(FsKind::Xfs, Policy::Full, Stage::Preen, &Verdict::LogHolds),
            Decision::Run(Stage::DropLog)
        );
    }

    #[test]
    fn a_mount_that_fails_after_the_last_stage_is_not_tried_for_ever() {
        for after in [Stage::Full, Stage::DropLog] {
            let again = FailedAttach {
                after: Some(after),
                ..failed(EUCLEAN, true)
            };
            for kind in FsKind::ALL {
                let next = after_failed_attach(kind, Policy::Full, again);
                assert!(matches!(next, Decision::Block(_)), "{kind}: {next:?}");
            }
        }
    }

    #[test]
    fn each_course_ends_after_at_most_three_stages() {
        for kind in FsKind::ALL {
            for policy in [Policy::Preen, Policy::Full] {
                let mut stages = vec![];
                let mut next = first_stage(policy, "");
                while let Decision::Run(stage) = next {
                    assert!(!stages.contains(&stage), "{kind}: {stage:?} twice");
                    stages.push(stage);
                    next = after_stage(kind, policy, stage, &Verdict::MoreNeeded);
                }
                assert!(matches!(next, Decision::Block(_)));
                assert_eq!(stages.len(), if policy == Policy::Full { 3 } else { 2 });
            }
        }
    }

    #[test]
    fn values_are_read_back_as_written_and_others_are_named() {
        for kind in FsKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for policy in [Policy::Never, Policy::Preen, Policy::Full] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("zfs".parse::<FsKind>().unwrap_err().contains("\"zfs\""));
        assert!("yes".parse::<Policy>().unwrap_err().contains("\"yes\""));
    }
}
