//! What a file system needs before it may be attached: nothing, a repair, or a person. Pure: the state
//! of the superblock, the policy and exit codes come in, the next step comes out.
//!
//! A file system that was cut off in the middle of its work needs only the replay of its journal, and
//! the kernel does that when it mounts. Everything beyond it is a repair, which needs a proof of damage
//! ([`Proof`]):
//!
//! | | `preen` | `full`: also, when that was not enough | |---|---|---| | ext4 | `e2fsck -p`: what is safe to mend
//! without asking | `e2fsck -y` | | XFS | `xfs_repair`, which refuses while the log holds something | `xfs_repair -L`:
//! the log is given up | | btrfs | `btrfs check`: mends nothing, but tells sound from broken | `btrfs check --repair`,
//! or `btrfs rescue zero-log` where only the log is bad |
//!
//! A log is given up only if its replay is what fails: clients were told that all changes in it are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod finding;
pub(crate) mod mark;
mod program;
pub(crate) mod progress;

pub use finding::Finding;
pub(crate) use finding::{Evidence, Failed, Outcome, Storage, diagnose};
pub use program::Stage;
pub(crate) use program::{Exit, Program, Said, Subject, Verdict, kept, program, undo, verdict};

/// A kind of file system that berth serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

    /// The kernel's name of the kind, as `fsopen` takes it.
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

/// How far a repair may go without a person's consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing is changed; a file system with damage stays blocked.
    Never,
    /// Only what the file system's own tool calls safe.
    #[default]
    Preen,
    /// Everything that the tool can do, even if that loses damaged files.
    Full,
}

impl Policy {
    /// The parameter's value.
    pub(crate) const fn as_str(self) -> &'static str {
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

/// The health of a file system according to its superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The kind of the file system.
    pub kind: FsKind,
    /// Whether the journal has to be replayed; `None` if only a mount can tell (XFS).
    pub(crate) replay: Option<bool>,
    /// Damage that the file system itself has noted: ext4 "errors detected" or, without a journal, not
    /// cleanly unmounted; XFS "needs repair"; btrfs "error".
    pub damaged: bool,
}

/// What to do next with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Mount it: the kernel replays the journal if need be.
    Attach,
    /// Run this stage of the repair, on this proof of damage.
    Run(Stage, Proof),
    /// Leave it blocked, for this reason: it is damaged, and another node could do no more.
    Block(String),
    /// Give it up on this node, for this reason: another node may be able to serve it.
    Leave(String),
    /// As [`Decision::Leave`]; if it can't be given up any more, try again after a while.
    Wait(String),
}

/// The proof that a file system is damaged. Without one nothing is changed on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// The superblock says so.
    Noted,
    /// The kernel has found damage when the file system was to be mounted.
    Found,
    /// The kernel has found damage when it replayed the log; without the log the file system can be mounted.
    Log,
    /// A check was killed in the middle of its work.
    CutOff,
}

/// What a file system that is not yet mounted needs.
pub(crate) fn before_attach(condition: Condition, policy: Policy) -> Decision {
    if !condition.damaged {
        return Decision::Attach;
    }
    first_stage(
        policy,
        Stage::Preserve,
        Proof::Noted,
        "damage is noted in its superblock",
    )
}

/// What a file system needs whose multiple-mount protection shows a check that certainly runs no more ([`mark`]).
/// `node` is where the check ran.
pub(crate) fn after_cut_off(policy: Policy, node: &str) -> Decision {
    let why = format!("its check on node {node} was cut off");
    first_stage(policy, Stage::Note, Proof::CutOff, &why)
}

/// What a file system needs after a mount has failed. `after` is the last stage of the repair that ended before the
/// mount, `said` the kernel's reason.
pub(crate) fn after_failed_attach(
    kind: FsKind,
    policy: Policy,
    finding: &Finding,
    after: Option<Stage>,
    said: &str,
) -> Decision {
    let log = match finding {
        Finding::Storage(Storage::Gone) => {
            return Decision::Wait(format!("its device has gone: {said}"));
        }
        Finding::Storage(_) => {
            return Decision::Wait(format!("its storage cannot be read: {said}"));
        }
        Finding::Twin(device) => {
            return Decision::Leave(twin(kind, device));
        }
        Finding::Feature => {
            return Decision::Leave(format!("this node cannot mount it: {said}"));
        }
        Finding::Option(Some(name)) => {
            return Decision::Leave(format!("parameter options: {name:?}: {said}"));
        }
        Finding::Option(None) => {
            return Decision::Leave(format!("parameter options: together refused: {said}"));
        }
        Finding::Unclear => {
            return Decision::Leave(format!("it cannot be mounted: {said}"));
        }
        Finding::Damage { log } => *log,
    };
    let proof = if log { Proof::Log } else { Proof::Found };
    let again = || format!("it cannot be mounted after its check: {said}");
    match (after, kind, proof) {
        (None, ..) => first_stage(
            policy,
            Stage::Preserve,
            proof,
            &format!("it cannot be mounted: {said}"),
        ),
        (Some(Stage::Preen), FsKind::Ext4, _) => if_full(policy, Stage::Full, proof, again()),
        // The check has found the trees sound, so only the replay of the log can have failed, as the proof says.
        (Some(Stage::Preen), FsKind::Xfs | FsKind::Btrfs, Proof::Log) => {
            if_full(policy, Stage::DropLog, proof, again() + LOG_IS_LOST)
        }
        (Some(_), ..) => Decision::Block(format!("it cannot be mounted after its repair: {said}")),
    }
}

/// What giving up a log costs, for messages.
const LOG_IS_LOST: &str = "; the last changes are lost with its log";

/// Why a file system is refused that has the UUID of another one that is mounted.
fn twin(kind: FsKind, device: &str) -> String {
    let has = format!("it has the UUID of {device}, which is mounted on this node");
    match kind {
        FsKind::Ext4 => format!("{has}: unmount that one, or tune2fs -U random"),
        FsKind::Xfs => format!("{has}: options = nouuid, or xfs_admin -U generate"),
        FsKind::Btrfs => format!("{has}: unmount that one, or btrfstune -u"),
    }
}

fn first_stage(policy: Policy, stage: Stage, proof: Proof, why: &str) -> Decision {
    match policy {
        Policy::Never => Decision::Block(format!("{why}, and repair is \"never\"")),
        Policy::Preen | Policy::Full => Decision::Run(stage, proof),
    }
}

fn if_full(policy: Policy, stage: Stage, proof: Proof, why: String) -> Decision {
    match policy {
        Policy::Full => Decision::Run(stage, proof),
        Policy::Never | Policy::Preen => {
            Decision::Block(format!("{why}; more needs repair = \"full\""))
        }
    }
}

/// What follows a stage that was run on this proof and ended with `verdict`.
pub(crate) fn after_stage(
    kind: FsKind,
    policy: Policy,
    proof: Proof,
    stage: Stage,
    verdict: &Verdict,
) -> Decision {
    let name = program::name(kind);
    match (stage, verdict) {
        // The image is a precaution: without it the repair goes on, rather than leave the data blocked.
        (Stage::Preserve, _) => Decision::Run(Stage::Preen, proof),
        // The note only serves a check that is killed: without it the check goes on all the same.
        (Stage::Note, _) => Decision::Run(Stage::Release, proof),
        (Stage::Release, Verdict::Sound) => Decision::Run(Stage::Preen, proof),
        (Stage::Release, Verdict::Hindered(why)) => Decision::Wait(format!(
            "its mark of a check that was cut off cannot be cleared now: {why}"
        )),
        (Stage::Release, _) => Decision::Block(format!(
            "its mark of a check that was cut off cannot be cleared: {verdict:?}"
        )),
        (_, Verdict::Sound | Verdict::Mended) => Decision::Attach,
        // btrfs check can't even open a file system whose log can't be read.
        (Stage::Preen, Verdict::MoreNeeded) if (kind, proof) == (FsKind::Btrfs, Proof::Log) => {
            if_full(
                policy,
                Stage::DropLog,
                proof,
                format!("its log cannot be replayed{LOG_IS_LOST}"),
            )
        }
        (Stage::Preen, Verdict::MoreNeeded) => if_full(
            policy,
            Stage::Full,
            proof,
            format!("{name} left damage that it cannot mend safely"),
        ),
        (Stage::Preen, Verdict::LogHolds) if proof == Proof::Log => if_full(
            policy,
            Stage::DropLog,
            proof,
            format!("{name} will not touch it while its log cannot be replayed{LOG_IS_LOST}"),
        ),
        // Nothing proves that the log is bad, and clients were told that the changes in it are written.
        (Stage::Preen, Verdict::LogHolds) => Decision::Block(format!(
            "{name} will not touch it while its log holds changes, and the kernel does not get to \
             replay them"
        )),
        (_, Verdict::MoreNeeded | Verdict::LogHolds) => {
            Decision::Block(format!("{name} could not mend it"))
        }
        (_, Verdict::Hindered(why)) => Decision::Wait(format!("{name} could not begin: {why}")),
        (_, Verdict::Failed(why)) => Decision::Block(format!("{name} failed: {why}")),
    }
}

/// How long to wait before the storage of a file system is tried again after `tries` further tries; `None`: there were
/// enough, and another node may try.
pub(crate) fn pause(tries: u32) -> Option<Duration> {
    const FIRST: Duration = Duration::from_secs(5);
    const LAST: u32 = 6;
    (tries < LAST).then(|| FIRST * 2u32.pow(tries))
}

#[cfg(test)]
mod tests;
