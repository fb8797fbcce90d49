//! One file system of a cell: a child mounts it, PID 1 attaches it and detaches it again; it is repaired if need be.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cell::keeper::core::effect::{Effect, Effects, RepairSpec};
use crate::cell::keeper::core::mount::Mounters;
use crate::cell::keeper::core::terms::{Found, MountTask, Mounted, MounterId};
use crate::cell::protocol::{Cause, Condition, Exported, VolumeSpec};
use crate::cell::service::Export;
use crate::cell::state::{Defect, Examined, RepairProgress, VolumePhase, VolumeState};
use crate::cluster::complaint::Member;
use crate::plan::repair::{self, Decision, FsKind, Stage};

/// A file system and its state.
#[derive(Debug)]
pub(crate) struct Volume {
    /// The file system's resource.
    pub(crate) member: Member,
    /// The parameters of the file system.
    pub(crate) volume: VolumeSpec,
    /// The phase that the file system is in.
    pub(crate) phase: Phase,
    /// The last stage of a repair that has ended.
    repaired: Option<Stage>,
    /// What keeps the file system from service although its start has been answered, while a child works on it. Nobody
    /// waits for it then, and only its monitor reports its condition.
    kept: Option<String>,
    /// How often its storage has been tried again.
    tries: u32,
    /// What the child of the phase is to do.
    work: Work,
    /// What was found to be wrong with the file system, until it is mounted.
    unsound: Option<Unsound>,
    /// The block device, once the file system is mounted.
    pub(crate) found: Option<Found>,
    /// Set while its resource is being stopped: when PID 1 is killed if it is not detached by then.
    pub(crate) leaving: Option<Instant>,
}

/// What the child that is to mount a file system in the end is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    /// It mounts it.
    Mount,
    /// It watches a check that was started on the node of this name.
    Watch(String),
    /// It finds out whether the device can be read after a repair that has failed.
    Look,
}

/// A file system that is not sound.
#[derive(Debug)]
struct Unsound {
    /// The node of its device; `None` once its storage was waited for.
    device: Option<PathBuf>,
    kind: FsKind,
    defect: Defect,
}

/// The phase of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// This child mounts it.
    Mounting(MounterId),
    /// This child has mounted it, but the mount is attached nowhere yet.
    Unattached(MounterId),
    /// PID 1 attaches, by the order of this number, the mount that this child has made.
    Attaching(u64, MounterId),
    /// A program repairs it, with this progress.
    Repairing(RepairProgress),
    /// It is in service.
    Attached,
    /// PID 1 detaches it by the order of this number.
    Detaching(u64),
    /// It is kept from service for this reason, until a person does something about it.
    Blocked(String),
    /// It is kept from service for this reason, until its storage is tried again at this time.
    Waiting(String, Instant),
    /// It could not be attached, or was lost with its cell.
    Failed(Cause, String),
}

impl Volume {
    /// Begins to mount a file system.
    pub(crate) fn new(
        member: Member,
        volume: VolumeSpec,
        mounters: &mut Mounters,
        out: &mut Effects,
    ) -> Self {
        let mounter = mounters.send(&member, &volume, MountTask::Mount, out);
        Self {
            member,
            volume,
            phase: Phase::Mounting(mounter),
            work: Work::Mount,
            unsound: None,
            found: None,
            repaired: None,
            kept: None,
            tries: 0,
            leaving: None,
        }
    }

    /// The condition of its resource; `refusal` is why the servers do not serve it as they should.
    pub(crate) fn condition(&self, refusal: Option<&str>) -> Condition {
        let phase = self.told_phase();
        phase.condition(self.leaving.is_some(), self.restriction(refusal))
    }

    /// The state of the file system; `refusal` is why the servers do not serve it as they should.
    pub(crate) fn state(&self, refusal: Option<&str>) -> VolumeState {
        let (found, unsound) = (self.found.as_ref(), self.unsound.as_ref());
        let kind = unsound.map(|unsound| unsound.kind);
        VolumeState {
            resource: self.member.resource.to_string(),
            device: self.volume.device.to_string(),
            found: self.block_device().map(Path::to_owned),
            directory: self.volume.directory.clone(),
            fstype: kind
                .or(found.map(|found| found.kind))
                .or(self.volume.fstype),
            phase: self.told_phase(),
            leaves: self.leaving.is_some(),
            degraded: self.restriction(refusal).map(str::to_owned),
            defect: unsound.map(|unsound| unsound.defect.clone()),
        }
    }

    /// The node of its block device as a child has found it last, to be mounted or not sound; `None` while its storage
    /// is away, since the node may lead to another device by now.
    pub(crate) fn block_device(&self) -> Option<&Path> {
        let unsound = self
            .unsound
            .as_ref()
            .and_then(|unsound| unsound.device.as_deref());
        let found = self.found.as_ref().map(|found| found.path.as_path());
        unsound.or(found)
    }

    fn told_phase(&self) -> VolumePhase {
        match &self.phase {
            Phase::Mounting(_) => match &self.work {
                Work::Mount => VolumePhase::Mounting,
                Work::Watch(node) => VolumePhase::BeingChecked { node: node.clone() },
                Work::Look => VolumePhase::Examining,
            },
            Phase::Unattached(_) => VolumePhase::Unattached,
            Phase::Attaching(..) => VolumePhase::Attaching,
            Phase::Repairing(progress) => VolumePhase::Repairing(progress.clone()),
            Phase::Attached => VolumePhase::Attached,
            Phase::Detaching(_) => VolumePhase::Detaching,
            Phase::Blocked(why) => VolumePhase::Blocked { why: why.clone() },
            Phase::Waiting(why, _) => VolumePhase::Waiting { why: why.clone() },
            Phase::Failed(cause, why) => VolumePhase::Failed((*cause, why.clone()).into()),
        }
    }

    /// What keeps the file system from full service, if its phase does not say so.
    fn restriction<'a>(&'a self, refusal: Option<&'a str>) -> Option<&'a str> {
        match self.phase {
            Phase::Mounting(_) | Phase::Unattached(_) | Phase::Attaching(..) => {
                self.kept.as_deref()
            }
            Phase::Attached => refusal,
            _ => None,
        }
    }

    /// Whether its start can be answered: it is in service, or will take longer than a start may.
    pub(crate) fn is_settled(&self) -> bool {
        match self.phase {
            Phase::Attached | Phase::Repairing(_) | Phase::Blocked(_) | Phase::Waiting(..) => true,
            Phase::Mounting(_) | Phase::Unattached(_) | Phase::Attaching(..) => self.kept.is_some(),
            Phase::Detaching(_) | Phase::Failed(..) => false,
        }
    }

    /// When its storage is to be tried again.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting(_, at) => Some(*at),
            _ => None,
        }
    }

    /// Whether its start has not been answered yet: if nothing can be begun then, it has not become a member.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.kept.is_none()
    }

    /// Goes on from the result of the child that mounts.
    pub(crate) fn mounted(
        &mut self,
        mounter: MounterId,
        outcome: Result<Mounted, String>,
        now: Instant,
        (mounters, out): (&mut Mounters, &mut Effects),
    ) {
        self.phase = match outcome {
            Ok(Mounted::Done(found)) => {
                self.found = Some(found);
                self.unsound = None;
                self.tries = 0;
                Phase::Unattached(mounter)
            }
            Ok(Mounted::Unsound {
                path,
                kind,
                mmp,
                defect,
            }) => self.judge((path, kind, mmp), &defect, now, (mounters, out)),
            Ok(Mounted::BeingChecked(node)) => {
                let why = format!("access blocked: a check on node {node} may be at work");
                let phase = self.begin(why, MountTask::Watch, mounters, out);
                self.work = Work::Watch(node);
                phase
            }
            Ok(Mounted::Unmended(why, true)) => Phase::Blocked(why),
            Ok(Mounted::Unmended(why, false)) => {
                self.wait(format!("its storage cannot be read: {why}"), now)
            }
            Ok(Mounted::Elsewhere(why)) => Phase::Failed(Cause::Failed, why),
            // What this node lacks, or somebody else uses, may be back before long. It is tried again only if
            // the start has been answered: otherwise another node is to have it.
            Ok(Mounted::Refused(Cause::Node | Cause::Failed, why)) if self.kept.is_some() => {
                self.wait(why, now)
            }
            Ok(Mounted::Refused(cause, why)) => Phase::Failed(cause, why),
            Err(why) => Phase::Failed(Cause::Failed, why),
        };
    }

    /// Decides what to do with a file system that is damaged or can't be mounted.
    fn judge(
        &mut self,
        (device, kind, mmp): (PathBuf, FsKind, bool),
        defect: &Defect,
        now: Instant,
        (mounters, out): (&mut Mounters, &mut Effects),
    ) -> Phase {
        let policy = self.volume.repair;
        let decision = match defect {
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
        self.unsound = Some(Unsound {
            device: Some(device.clone()),
            kind,
            defect: defect.clone(),
        });
        let resource = &self.member.resource;
        out.warn(format_args!("{resource}: {defect:?}: {decision:?}"));
        match decision {
            Decision::Attach => self.mount_repaired(mounters, out),
            Decision::Block(why) => Phase::Blocked(why),
            Decision::Leave(why) => Phase::Failed(Cause::Node, why),
            Decision::Wait(why) => self.wait(why, now),
            Decision::Run(stage, proof) => {
                out.push(Effect::Repair(Box::new(RepairSpec {
                    resource: resource.clone(),
                    stage,
                    proof,
                    policy,
                    kind,
                    device,
                    mmp,
                })));
                self.kept = Some("being repaired, access blocked".to_owned());
                Phase::Repairing(RepairProgress::new(stage, None))
            }
        }
    }

    /// The next phase when its storage fails on this node. While the start is unanswered, it fails, so that another
    /// node gets it; after that the storage is tried again, ever less often and not for ever.
    fn wait(&mut self, why: String, now: Instant) -> Phase {
        if let Some(unsound) = &mut self.unsound {
            unsound.device = None;
        }
        if self.kept.is_none() {
            return Phase::Failed(Cause::Node, why);
        }
        match repair::pause(self.tries) {
            Some(pause) => {
                self.tries += 1;
                Phase::Waiting(why, now + pause)
            }
            None => Phase::Failed(Cause::Failed, why),
        }
    }

    /// Fails the file system for this reason, and ends whatever works on it.
    pub(crate) fn fail(
        &mut self,
        cause: Cause,
        why: String,
        mounters: &mut Mounters,
        out: &mut Effects,
    ) {
        self.let_go(mounters, out);
        self.phase = Phase::Failed(cause, why);
    }

    /// Ends whatever works on the file system outside of the cell, and closes its mount, if that is attached nowhere.
    pub(crate) fn let_go(&self, mounters: &mut Mounters, out: &mut Effects) {
        match &self.phase {
            Phase::Mounting(mounter) => mounters.kill(*mounter, out),
            Phase::Unattached(mounter) => out.push(Effect::DropMount(*mounter)),
            Phase::Repairing(_) => out.push(Effect::CutOff(self.member.resource.clone())),
            _ => {}
        }
    }

    /// Tries its storage again, if that is due.
    pub(crate) fn try_again(&mut self, now: Instant, mounters: &mut Mounters, out: &mut Effects) {
        let Phase::Waiting(why, at) = &self.phase else {
            return;
        };
        if *at > now {
            return;
        }
        let why = format!("access blocked, being tried again: {why}");
        // An earlier repair no longer counts: the storage has been away since.
        self.repaired = None;
        self.phase = self.begin(why, MountTask::Mount, mounters, out);
    }

    /// Notes that its repair could not be started.
    pub(crate) fn have_no_repair(&mut self, cause: Cause, why: String) {
        if matches!(self.phase, Phase::Repairing(_)) {
            self.phase = Phase::Failed(cause, why);
        }
    }

    /// Notes the progress of its repair.
    pub(crate) fn repair_goes_on(&mut self, progress: RepairProgress) {
        if let Phase::Repairing(before) = &mut self.phase {
            *before = progress;
        }
    }

    /// Goes on from the result of its repair, whose last stage was this one.
    pub(crate) fn repair_ended(
        &mut self,
        stage: Stage,
        outcome: Result<Decision, (Cause, String)>,
        now: Instant,
        (mounters, out): (&mut Mounters, &mut Effects),
    ) {
        if !matches!(self.phase, Phase::Repairing(_)) {
            return;
        }
        self.repaired = Some(stage);
        self.phase = match outcome {
            // The resource is being stopped: nothing new is begun.
            _ if self.leaving.is_some() => Phase::Failed(Cause::Failed, "stopped".to_owned()),
            Ok(Decision::Attach | Decision::Run(..)) => self.mount_repaired(mounters, out),
            Ok(Decision::Wait(why)) => self.wait(why, now),
            Ok(Decision::Block(why) | Decision::Leave(why)) => {
                let now = format!("access blocked: {why}");
                let phase = self.begin(now, MountTask::Look(why), mounters, out);
                self.work = Work::Look;
                phase
            }
            Err((cause, why)) => Phase::Failed(cause, format!("its repair broke off: {why}")),
        };
    }

    fn mount_repaired(&mut self, mounters: &mut Mounters, out: &mut Effects) -> Phase {
        let why = "being attached after its repair".to_owned();
        self.begin(why, MountTask::MountRepaired, mounters, out)
    }

    /// Starts a child with this task. The start counts as answered, and `why` is reported meanwhile.
    fn begin(
        &mut self,
        why: String,
        task: MountTask,
        mounters: &mut Mounters,
        out: &mut Effects,
    ) -> Phase {
        self.kept = Some(why);
        self.work = Work::Mount;
        Phase::Mounting(mounters.send(&self.member, &self.volume, task, out))
    }

    /// The export of the file system, if it is in service.
    pub(crate) fn export(&self) -> Option<Export> {
        let Exported { nfs, smb } = &self.volume.export;
        let serves = self.leaving.is_none() && matches!(self.phase, Phase::Attached);
        (serves && (nfs.is_some() || smb.is_some())).then(|| Export {
            directory: self.volume.directory.display().to_string(),
            xfs: self.found.as_ref().and_then(|found| found.xfs.clone()),
            nfs: nfs.clone(),
            smb: smb.clone(),
        })
    }

    /// Whether PID 1 has the file system in the cell, or is about to.
    pub(crate) fn is_in_cell(&self) -> bool {
        matches!(
            self.phase,
            Phase::Attaching(..) | Phase::Attached | Phase::Detaching(_)
        )
    }
}

/// Whether one of two directories is, or lies in, the other.
pub(crate) fn nested(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// The directories of the file systems that are attached.
pub(crate) fn directories<'a>(held: impl Iterator<Item = &'a Volume>) -> Vec<PathBuf> {
    held.filter(|h| matches!(h.phase, Phase::Attached))
        .map(|h| h.volume.directory.clone())
        .collect()
}
