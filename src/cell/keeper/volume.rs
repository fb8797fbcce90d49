//! One file system in the keeper's care: mounted in a child, attached by PID 1, detached again; repaired
//! where it has to be.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::unistd::Pid;

use super::claim::Taker;
use super::examine::Examined;
use super::mounting::{Defect, Errand, Found, Mounted, send};
use crate::cell::cgroup::Place;
use crate::cell::keeper::repair::{Patient, Repair};
use crate::cell::protocol::{Cause, Condition, Exported, Volume};
use crate::cell::service::Export;
use crate::cluster::complaint::Member;
use crate::log;
use crate::plan::repair::{self, Decision, FsKind, Stage};
use crate::runtime::job::{Job, Outcome};

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
    repaired: Option<Stage>,
    /// What keeps it from service while a child works on it, once its start has been answered: from then on
    /// nobody waits for it, and nobody but the monitor tells how it is.
    kept: Option<String>,
    /// How often its storage has been tried again.
    tries: u32,
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
    /// Kept from service until its storage is tried again: when.
    Waiting(String, Instant),
    /// It could not be attached, or was lost with its cell.
    Failed(Cause, String),
}

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
        let job = send(taker, Errand::Mount)?;
        Ok(Self {
            vserver: vserver.to_owned(),
            member,
            volume,
            phase: Phase::Mounting(job),
            found: None,
            repaired: None,
            kept: None,
            tries: 0,
            leaving: None,
        })
    }

    /// How its resource is.
    pub fn condition(&self) -> Condition {
        match &self.phase {
            _ if self.leaving.is_some() => Condition::Changing("being detached".to_owned()),
            Phase::Mounting(_) | Phase::Loose(_) | Phase::Attaching(_) => match &self.kept {
                Some(why) => Condition::Degraded(why.clone()),
                None => Condition::Changing("being attached".to_owned()),
            },
            Phase::Repairing(repair) => {
                Condition::Degraded(format!("{}, access blocked", repair.describe()))
            }
            Phase::Detaching(_) => Condition::Changing("being detached".to_owned()),
            Phase::Attached => Condition::Running,
            Phase::Blocked(why) => Condition::Degraded(format!("access blocked: {why}")),
            Phase::Waiting(why, _) => {
                Condition::Degraded(format!("access blocked, to be tried again: {why}"))
            }
            Phase::Failed(_, why) => Condition::Failed(why.clone()),
        }
    }

    /// Whether its start can be answered: it is in service, or somebody has to wait for longer than a start
    /// may take.
    pub fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Attached | Phase::Repairing(_) | Phase::Blocked(_) | Phase::Waiting(..) => true,
            Phase::Mounting(_) | Phase::Loose(_) | Phase::Attaching(_) => self.kept.is_some(),
            Phase::Detaching(_) | Phase::Failed(..) => false,
        }
    }

    /// When something is to be done by time alone.
    pub fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Repairing(repair) => repair.deadline(),
            Phase::Waiting(_, at) => Some(*at),
            _ => None,
        }
    }

    /// Goes on from what the child that mounts has come to.
    pub fn mounted(&mut self, outcome: io::Result<Outcome<Mounted>>) {
        self.phase = match outcome {
            Ok((Mounted::Done(found), Some(mount))) => {
                self.found = Some(found);
                self.tries = 0;
                Phase::Loose(mount)
            }
            Ok((Mounted::Done(_), None)) => {
                Phase::Failed(Cause::Failed, "the mount got lost".to_owned())
            }
            Ok((
                Mounted::Unsound {
                    path,
                    kind,
                    mmp,
                    defect,
                },
                _,
            )) => self.judge(path, kind, mmp, defect),
            Ok((Mounted::BeingChecked(node), _)) => {
                let why = format!("access blocked: a check on node {node} may be at work");
                self.begin(why, Errand::Watch)
            }
            Ok((Mounted::Unmended(why, true), _)) => Phase::Blocked(why),
            Ok((Mounted::Unmended(why, false), _)) => {
                self.wait(format!("its storage cannot be read: {why}"))
            }
            Ok((Mounted::Elsewhere(why), _)) => Phase::Failed(Cause::Failed, why),
            // What is lacking here, or in somebody's hands for a moment, may be back before long, once nobody
            // waits for it any more.
            Ok((Mounted::Refused(Cause::Node | Cause::Failed, why), _)) if self.kept.is_some() => {
                self.wait(why)
            }
            Ok((Mounted::Refused(cause, why), _)) => Phase::Failed(cause, why),
            Err(e) => Phase::Failed(Cause::Failed, format!("the child that mounts: {e}")),
        };
    }

    /// What to do with a file system that is not sound.
    fn judge(&mut self, device: PathBuf, kind: FsKind, mmp: bool, defect: Defect) -> Phase {
        let policy = self.volume.repair;
        let decision = match &defect {
            Defect::Noted => {
                let noted = repair::Condition {
                    kind,
                    replay: None,
                    damaged: true,
                };
                repair::before_attach(noted, policy)
            }
            Defect::CutOff(node) => repair::after_cut_off(policy, node),
            Defect::Unmountable(Examined { finding, said }) => {
                repair::after_failed_attach(kind, policy, finding, self.repaired, said)
            }
        };
        let resource = &self.member.resource;
        log::warn(format_args!("{resource}: {defect:?}: {decision:?}"));
        match decision {
            Decision::Attach => self.mount_repaired(),
            Decision::Block(why) => Phase::Blocked(why),
            Decision::Leave(why) => Phase::Failed(Cause::Node, why),
            Decision::Wait(why) => self.wait(why),
            Decision::Run(stage, proof) => {
                let patient = Patient {
                    kind,
                    policy,
                    proof,
                    device,
                    mmp,
                    records: Path::new(RECORDS).join(resource),
                    group: Place::of(&self.vserver).ok().map(|place| place.repair()),
                };
                match Repair::start(patient, stage) {
                    Ok(repair) => {
                        self.kept = Some("being repaired, access blocked".to_owned());
                        Phase::Repairing(Box::new(repair))
                    }
                    Err(e) => Phase::Failed(
                        cause_of(&e),
                        format!("its repair can't be started on this node: {e}"),
                    ),
                }
            }
        }
    }

    /// Its storage fails it on this node. While its start waits for the answer another node is to have it;
    /// after that it is tried again, ever less often and not for ever.
    fn wait(&mut self, why: String) -> Phase {
        if self.kept.is_none() {
            return Phase::Failed(Cause::Node, why);
        }
        match repair::pause(self.tries) {
            Some(pause) => {
                self.tries += 1;
                Phase::Waiting(why, Instant::now() + pause)
            }
            None => Phase::Failed(Cause::Failed, why),
        }
    }

    /// Ends its repair, if it is in one; gives a child that is left to be reaped.
    pub fn cut_off(&mut self) -> Option<Pid> {
        match &mut self.phase {
            Phase::Repairing(repair) => repair.cut_off(),
            _ => None,
        }
    }

    /// Goes on with what is due: a repair, or another try. Gives a child that is left to be reaped.
    pub fn go_on(&mut self) -> Option<Pid> {
        match &mut self.phase {
            Phase::Waiting(why, at) if *at <= Instant::now() => {
                let why = format!("access blocked, being tried again: {why}");
                // Whatever was mended: the storage has been away since.
                self.repaired = None;
                self.phase = self.begin(why, Errand::Mount);
                None
            }
            Phase::Repairing(_) => self.repair(),
            _ => None,
        }
    }

    fn repair(&mut self) -> Option<Pid> {
        let Phase::Repairing(repair) = &mut self.phase else {
            return None;
        };
        let ended = match repair.advance(Instant::now()) {
            Ok(None) => return None,
            Ok(Some(decision)) => Ok(decision),
            Err(e) => Err(e),
        };
        let (resource, record) = (&self.member.resource, repair.record().display());
        log::warn(format_args!(
            "{resource}: repair ended ({record}): {ended:?}"
        ));
        self.repaired = Some(repair.stage());
        // Where it broke off, its program may still run.
        let left = repair.cut_off();
        self.phase = match ended {
            Ok(Decision::Attach | Decision::Run(..)) => self.mount_repaired(),
            Ok(Decision::Wait(why)) => self.wait(why),
            Ok(Decision::Block(why) | Decision::Leave(why)) => {
                let now = format!("access blocked: {why}");
                self.begin(now, Errand::Look(why))
            }
            Err(e) => Phase::Failed(cause_of(&e), format!("its repair broke off: {e}")),
        };
        left
    }

    fn mount_repaired(&mut self) -> Phase {
        let why = "being attached after its repair".to_owned();
        self.begin(why, Errand::MountRepaired)
    }

    /// Has a child do this, with the start answered: `why` it is not in service meanwhile.
    fn begin(&mut self, why: String, errand: Errand) -> Phase {
        self.kept = Some(why);
        let taker = Taker {
            vserver: &self.vserver,
            member: &self.member,
            volume: &self.volume,
        };
        match send(taker, errand) {
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

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::Missing,
        _ => Cause::Failed,
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
