//! One file system in the keeper's care: mounted in a child, attached by PID 1, detached again.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::claim::{self, Refusal, Taker};
use crate::cell::job::{Job, Outcome};
use crate::cell::protocol::{Cause, Condition, Exported, Member, Volume};
use crate::cell::repair::{Patient, Repair};
use crate::cell::service::{Export, XfsIdentity};
use crate::ocf::log;
use crate::plan::repair::{self, Decision, FailedAttach, FsKind, Policy, Stage};
use crate::sys::device::{Device, DeviceSpec};
use crate::sys::mount::{self, Options};
use crate::sys::superblock::MmpState;

/// How long a device may take to show its superblock.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Where the records of repairs are kept, a directory for each resource: on the node, since the file
/// system itself is what is being repaired.
const RECORDS: &str = "/var/lib/berth/repair";

/// A file system and where it stands.
#[derive(Debug)]
pub struct Held {
    /// The virtual server in whose cell it is.
    vserver: String,
    /// Its resource.
    pub member: Member,
    /// What is wanted.
    pub volume: Volume,
    /// Where it stands.
    pub phase: Phase,
    /// The last stage of the repair that it has behind it.
    pub repaired: Option<Stage>,
    /// The block device, once it is mounted.
    pub found: Option<Found>,
    /// Since its resource is being stopped: when PID 1 is killed for it.
    pub leaving: Option<Instant>,
}

/// Where a file system stands.
#[derive(Debug)]
pub enum Phase {
    /// A child mounts it.
    Mounting(Job<Mounted>),
    /// It is mounted, in no mount table yet.
    Loose(OwnedFd),
    /// PID 1 attaches it: the order's number.
    Attaching(u64),
    /// A program repairs it.
    Repairing(Box<Repair>),
    /// It is in service.
    Attached,
    /// PID 1 detaches it: the order's number.
    Detaching(u64),
    /// Kept from service until somebody does something about it.
    Blocked(String),
    /// It could not be attached, or was lost with its cell.
    Failed(Cause, String),
}

/// A block device with a file system on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// The device's node.
    pub path: PathBuf,
    /// For XFS, what its handles are made of.
    pub xfs: Option<XfsIdentity>,
}

/// What a child that mounts has come to.
#[derive(Debug, Serialize, Deserialize)]
pub enum Mounted {
    /// The mount of this block device comes along.
    Done(Found),
    /// It is damaged, or at least can't be mounted.
    Unsound {
        /// The device's node.
        path: PathBuf,
        /// The file system's type.
        kind: String,
        /// What is wrong.
        defect: Defect,
    },
    /// It can't be attached at all.
    Refused(Cause, String),
}

impl From<Refusal> for Mounted {
    fn from(Refusal(cause, why): Refusal) -> Self {
        Self::Refused(cause, why)
    }
}

/// What is wrong with a file system.
#[derive(Debug, Serialize, Deserialize)]
pub enum Defect {
    /// Its superblock says that it is damaged.
    Noted,
    /// It can't be mounted.
    Unmountable {
        /// The kernel's error number.
        errno: i32,
        /// Whether its device can be read at all.
        readable: bool,
        /// The failure in words.
        message: String,
    },
}

/// Errors of a mount that stand for damage or dead storage; others are for Pacemaker to judge.
const DAMAGE: [i32; 6] = [
    libc::EIO,
    libc::EUCLEAN,
    libc::EBADMSG,
    libc::EINVAL,
    libc::ENOENT,
    libc::ESTALE,
];

impl Held {
    /// Takes a file system into care and begins to mount it.
    ///
    /// # Errors
    /// If no child can be started.
    pub fn new(vserver: &str, member: Member, volume: Volume) -> io::Result<Self> {
        let taker = Taker {
            vserver,
            member: &member,
            volume: &volume,
        };
        let job = mount(taker, false)?;
        Ok(Self {
            vserver: vserver.to_owned(),
            member,
            volume,
            phase: Phase::Mounting(job),
            found: None,
            repaired: None,
            leaving: None,
        })
    }

    /// How its resource is.
    pub fn condition(&self) -> Condition {
        match &self.phase {
            _ if self.leaving.is_some() => Condition::Changing("being detached".to_owned()),
            Phase::Mounting(_) | Phase::Loose(_) | Phase::Attaching(_) => match self.repaired {
                Some(_) => Condition::Degraded("being attached after its repair".to_owned()),
                None => Condition::Changing("being attached".to_owned()),
            },
            Phase::Repairing(repair) => {
                Condition::Degraded(format!("{}, access blocked", repair.describe()))
            }
            Phase::Detaching(_) => Condition::Changing("being detached".to_owned()),
            Phase::Attached => Condition::Running,
            Phase::Blocked(why) => Condition::Degraded(format!("access blocked: {why}")),
            Phase::Failed(_, why) => Condition::Failed(why.clone()),
        }
    }

    /// Goes on from what the child that mounts has come to.
    pub fn mounted(&mut self, outcome: io::Result<Outcome<Mounted>>) {
        self.phase = match outcome {
            Ok((Mounted::Done(found), Some(mount))) => {
                self.found = Some(found);
                Phase::Loose(mount)
            }
            Ok((Mounted::Done(_), None)) => {
                Phase::Failed(Cause::Failed, "the mount got lost".to_owned())
            }
            Ok((Mounted::Unsound { path, kind, defect }, _)) => self.judge(path, &kind, defect),
            Ok((Mounted::Refused(cause, why), _)) => Phase::Failed(cause, why),
            Err(e) => Phase::Failed(Cause::Failed, format!("the child that mounts: {e}")),
        };
    }

    /// What to do with a file system that is not sound.
    fn judge(&self, device: PathBuf, kind: &str, defect: Defect) -> Phase {
        let (Ok(kind), Ok(policy)) = (kind.parse::<FsKind>(), self.volume.repair.parse::<Policy>())
        else {
            return Phase::Blocked("it is damaged".to_owned());
        };
        let decision = match &defect {
            Defect::Noted => {
                let noted = repair::Condition {
                    kind,
                    replay: None,
                    damaged: true,
                };
                repair::before_attach(noted, policy)
            }
            Defect::Unmountable { errno, message, .. }
                if self.repaired.is_none() && !DAMAGE.contains(errno) =>
            {
                return Phase::Failed(Cause::Failed, message.clone());
            }
            Defect::Unmountable {
                errno, readable, ..
            } => {
                let (errno, readable, after) = (*errno, *readable, self.repaired);
                let failed = FailedAttach {
                    errno,
                    readable,
                    after,
                };
                repair::after_failed_attach(kind, policy, failed)
            }
        };
        log::warn(format_args!(
            "{}: {defect:?}: {decision:?}",
            self.member.resource
        ));
        match decision {
            Decision::Attach => self.mount_again(),
            Decision::Block(why) => Phase::Blocked(why),
            Decision::Run(stage) => {
                let records = Path::new(RECORDS).join(&self.member.resource);
                match Repair::start(
                    Patient {
                        kind,
                        policy,
                        device,
                        records,
                    },
                    stage,
                ) {
                    Ok(repair) => Phase::Repairing(Box::new(repair)),
                    Err(e) => Phase::Blocked(format!("its repair can't be started: {e}")),
                }
            }
        }
    }

    /// Goes on with a repair, if there is one.
    pub fn repair(&mut self) {
        let Phase::Repairing(repair) = &mut self.phase else {
            return;
        };
        let decision = match repair.advance(Instant::now()) {
            Ok(None) => return,
            Ok(Some(decision)) => decision,
            Err(e) => Decision::Block(format!("its repair broke off: {e}")),
        };
        let (resource, record) = (&self.member.resource, repair.record().display());
        log::warn(format_args!(
            "{resource}: repair ended ({record}): {decision:?}"
        ));
        self.repaired = Some(repair.stage());
        self.phase = match decision {
            Decision::Block(why) => Phase::Blocked(why),
            Decision::Attach | Decision::Run(_) => self.mount_again(),
        };
    }

    fn mount_again(&self) -> Phase {
        let taker = Taker {
            vserver: &self.vserver,
            member: &self.member,
            volume: &self.volume,
        };
        match mount(taker, true) {
            Ok(job) => Phase::Mounting(job),
            Err(e) => Phase::Failed(Cause::Failed, format!("start a child: {e}")),
        }
    }

    /// What is to be exported of it now.
    pub fn export(&self) -> Option<Export> {
        let Exported { nfs, smb } = &self.volume.export;
        let serves = self.leaving.is_none() && matches!(self.phase, Phase::Attached);
        (serves && (nfs.is_some() || smb.is_some())).then(|| Export {
            directory: self.volume.directory.display().to_string(),
            xfs: self.found.as_ref().and_then(|found| found.xfs.clone()),
            nfs: nfs.clone(),
            smb: smb.clone(),
        })
    }

    /// Whether PID 1 has it, or is about to.
    pub fn is_in_cell(&self) -> bool {
        matches!(
            self.phase,
            Phase::Attaching(_) | Phase::Attached | Phase::Detaching(_)
        )
    }
}

fn mount(taker: Taker<'_>, repaired: bool) -> io::Result<Job<Mounted>> {
    Job::spawn(c"berth-mount", || match try_mount(taker, repaired) {
        Ok((found, mount)) => (Mounted::Done(found), Some(mount)),
        Err(other) => (other, None),
    })
}

fn refused(cause: Cause) -> impl Fn(String) -> Mounted {
    move |why| Mounted::Refused(cause, why)
}

/// Mounts a file system, without attaching it. Blocks, so it runs in a child.
fn try_mount(taker: Taker<'_>, repaired: bool) -> Result<(Found, OwnedFd), Mounted> {
    let volume = taker.volume;
    let spec: DeviceSpec = volume.device.parse().map_err(refused(Cause::Parameters))?;
    let options = Options::parse(&volume.options)
        .map_err(|e| Mounted::Refused(Cause::Parameters, e.to_string()))?;
    let device = claim::find(&spec)?;
    let _claimed = taker.claim(&device)?;
    let kind = kind_of(volume, &device)?;
    let unsound = |defect| Mounted::Unsound {
        path: device.path.clone(),
        kind: kind.as_str().to_owned(),
        defect,
    };
    let superblock = device.superblock.as_ref();
    if !repaired && superblock.is_some_and(|superblock| superblock.condition.damaged) {
        return Err(unsound(Defect::Noted));
    }
    let mount = mount::create(kind.as_str(), &device.path, &options).map_err(|failure| {
        if failure.by_option {
            let text = format!("parameter options: {}", failure.message);
            return Mounted::Refused(Cause::Parameters, text);
        }
        if let Some(who) = mmp_holder(&device).filter(|_| failure.errno == libc::EBUSY) {
            return Mounted::Refused(Cause::Failed, format!("{}: {who}", device.path.display()));
        }
        let readable = device.read_superblock(Instant::now() + READ_LIMIT).is_ok();
        let (errno, message) = (failure.errno, failure.message);
        unsound(Defect::Unmountable {
            errno,
            readable,
            message,
        })
    })?;
    let xfs = superblock
        .filter(|_| kind == FsKind::Xfs)
        .map(|superblock| XfsIdentity {
            device: device.number,
            uuid: superblock.uuid,
        });
    Ok((
        Found {
            path: device.path,
            xfs,
        },
        mount,
    ))
}

fn kind_of(volume: &Volume, device: &Device) -> Result<FsKind, Mounted> {
    let found = device.superblock.as_ref().map(|s| s.condition.kind);
    let wanted = match &volume.fstype {
        Some(name) => Some(name.parse().map_err(refused(Cause::Parameters))?),
        None => None,
    };
    let place = device.path.display();
    match (found, wanted) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(wanted)) if found == wanted => Ok(found),
        (Some(found), Some(wanted)) => Err(Mounted::Refused(
            Cause::Parameters,
            format!("parameter fstype: {place} has {found} on it, not {wanted}"),
        )),
        // Its superblock is damaged, or it was never formatted: nothing may be done to it unasked.
        (None, _) => Err(Mounted::Refused(
            Cause::Failed,
            format!("parameter device: {place} has no ext4, XFS or btrfs file system on it"),
        )),
    }
}

/// Who else has an ext4 with multiple-mount protection, if somebody does.
fn mmp_holder(device: &Device) -> Option<String> {
    let mmp = device.read_mmp(Instant::now() + READ_LIMIT).ok()??;
    match mmp.state {
        MmpState::Clean => None,
        MmpState::Fsck(node) => Some(format!("e2fsck is running on it on node {node}")),
        MmpState::Mounted(node) => Some(format!("it is mounted on node {node}, which is alive")),
    }
}

/// Whether one of two directories lies in the other.
pub fn nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Where file systems are attached.
pub fn directories<'a>(held: impl Iterator<Item = &'a Held>) -> Vec<PathBuf> {
    held.filter(|h| matches!(h.phase, Phase::Attached))
        .map(|h| h.volume.directory.clone())
        .collect()
}
