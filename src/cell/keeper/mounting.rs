//! The work on one file system that may block, in children of the keeper: finding its device, claiming it, mounting it,
//! and finding out why it can't be mounted.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::claim::{Refusal, Taker, find};
use crate::cell::keeper::core::{Found, MountTask, Mounted};
use crate::cell::keeper::examine::{examine, storage, twin_of};
use crate::cell::protocol::{Cause, VolumeSpec};
use crate::cell::service::XfsIdentity;
use crate::cell::state::{Defect, Examined};
use crate::cluster::status::Status;
use crate::log;
use crate::plan::repair::mark::{Checker, Peer, checker};
use crate::plan::repair::{Finding, FsKind, Storage};
use crate::runtime::job::Job;
use crate::sys::device::Device;
use crate::sys::mount::{self, Options, Step};
use crate::sys::superblock::{Mmp, MmpState};

/// How long a device may take to show its superblock.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long the cluster may take to say which nodes are down.
const CLUSTER_LIMIT: Duration = Duration::from_secs(10);

impl From<Refusal> for Mounted {
    fn from(Refusal(cause, why): Refusal) -> Self {
        Self::Refused(cause, why)
    }
}

/// Starts a child that does this with a file system.
///
/// # Errors
/// If no child can be started.
pub(crate) fn send(taker: Taker<'_>, task: MountTask) -> io::Result<Job<Mounted>> {
    Job::spawn(c"berth-mount", || match run(taker, task) {
        Ok((found, mount)) => (Mounted::Done(found), Some(mount)),
        Err(other) => (other, None),
    })
}

/// The result of a child once it has one, or why it has none; and the mount that it has made.
pub(crate) fn outcome(job: &Job<Mounted>) -> Option<(Result<Mounted, String>, Option<OwnedFd>)> {
    Some(match job.outcome()? {
        Ok((Mounted::Done(_), None)) => (Err("the mount got lost".to_owned()), None),
        Ok((mounted, mount)) => (Ok(mounted), mount),
        Err(e) => (Err(format!("the child that mounts: {e}")), None),
    })
}

fn run(taker: Taker<'_>, task: MountTask) -> Result<(Found, OwnedFd), Mounted> {
    let spec = &taker.volume.device;
    match task {
        MountTask::Mount => try_mount(taker, &find(spec)?, false),
        MountTask::MountRepaired => try_mount(taker, &find(spec)?, true),
        MountTask::Watch => {
            let device = find(spec)?;
            watch_check(taker, &device)?;
            try_mount(taker, &device, false)
        }
        MountTask::Look(why) => {
            let readable = find(spec).is_ok_and(|d| storage(&d) == Storage::Readable);
            Err(Mounted::Unmended(why, readable))
        }
    }
}

/// Mounts a file system without attaching it to any directory. Blocks, so it runs in a child.
fn try_mount(
    taker: Taker<'_>,
    device: &Device,
    repaired: bool,
) -> Result<(Found, OwnedFd), Mounted> {
    let volume = taker.volume;
    let options = volume.options.options();
    let _claimed = taker.claim(device)?;
    let kind = kind_of(volume, device)?;
    let superblock = device.superblock.as_ref();
    if let Some(beyond) = superblock.and_then(|superblock| superblock.beyond) {
        let text = format!("parameter device: {} {beyond}", device.path.display());
        return Err(Mounted::Refused(Cause::Parameters, text));
    }
    if let Some(MmpState::Fsck(node)) = read_mmp(device).map(|mmp| mmp.state) {
        return Err(match find_checker(&node) {
            Checker::Here | Checker::Down => Mounted::BeingChecked(node),
            Checker::Unknown => marked(device, &node),
        });
    }
    if !repaired && superblock.is_some_and(|superblock| superblock.condition.damaged) {
        return Err(noted(device, kind, options, Defect::Noted));
    }
    let mount = mount::create(kind, device, options).map_err(|failure| match failure.step {
        Step::Kernel => Mounted::Refused(Cause::Node, failure.to_string()),
        // An option that no kernel knows can't be told from one that only this kernel lacks.
        Step::Option => Mounted::Refused(Cause::Node, format!("parameter options: {failure}")),
        Step::Mount => match mmp_holder(device).filter(|_| failure.errno == libc::EBUSY) {
            Some(who) => Mounted::Elsewhere(format!("{}: {who}", device.path.display())),
            None => {
                let examined = examine(kind, device, options, &failure);
                unsound(device, kind, Defect::Unmountable(examined))
            }
        },
    })?;
    let xfs = superblock
        .filter(|_| kind == FsKind::Xfs)
        .map(|superblock| XfsIdentity {
            device: device.number,
            uuid: superblock.uuid,
        });
    Ok((
        Found {
            path: device.path.clone(),
            kind,
            xfs,
        },
        mount,
    ))
}

/// The result for a file system with damage on record, on a device that nobody else on this node uses.
fn noted(device: &Device, kind: FsKind, options: &Options, defect: Defect) -> Mounted {
    let beside = twin_of(device, options).map(|twin| {
        Defect::Unmountable(Examined {
            finding: Finding::Twin(twin),
            said: "it was not tried".to_owned(),
        })
    });
    unsound(device, kind, beside.unwrap_or(defect))
}

fn unsound(device: &Device, kind: FsKind, defect: Defect) -> Mounted {
    Mounted::Unsound {
        path: device.path.clone(),
        kind,
        mmp: device
            .superblock
            .as_ref()
            .is_some_and(|sb| sb.mmp.is_some()),
        defect,
    }
}

fn kind_of(volume: &VolumeSpec, device: &Device) -> Result<FsKind, Mounted> {
    let found = device.superblock.as_ref().map(|s| s.condition.kind);
    let place = device.path.display();
    match (found, volume.fstype) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(wanted)) if found == wanted => Ok(found),
        (Some(found), Some(wanted)) => Err(Mounted::Refused(
            Cause::Parameters,
            format!("parameter fstype: {place} has {found} on it, not {wanted}"),
        )),
        (None, _) if storage(device) == Storage::Gone => Err(Mounted::Refused(
            Cause::Node,
            format!("parameter device: nothing is behind {place} any more"),
        )),
        // The superblock is damaged, or the device was never formatted: nothing may be done to it without being asked.
        (None, _) => Err(Mounted::Refused(
            Cause::Failed,
            format!("parameter device: {place} has no ext4, XFS or btrfs file system on it"),
        )),
    }
}

fn read_mmp(device: &Device) -> Option<Mmp> {
    device.read_mmp(Instant::now() + READ_LIMIT).ok()?
}

/// Who has this ext4 with multiple-mount protection mounted, if somebody does.
fn mmp_holder(device: &Device) -> Option<String> {
    match read_mmp(device)?.state {
        MmpState::Clean => None,
        MmpState::Fsck(node) => Some(being_checked(&node)),
        MmpState::Mounted(node) => Some(format!("it is mounted on node {node}, which is alive")),
    }
}

/// The message about a file system with the mark of a check, and what a person can do about it.
fn being_checked(node: &str) -> String {
    format!("e2fsck on node {node} has it; if none runs there: tune2fs -f -E clear_mmp, e2fsck -f")
}

fn marked(device: &Device, node: &str) -> Mounted {
    let (path, why) = (device.path.display(), being_checked(node));
    Mounted::Elsewhere(format!("{path}: {why}"))
}

/// What is known of the node that is named by the mark of a check.
fn find_checker(node: &str) -> Checker {
    let here = nix::unistd::gethostname().unwrap_or_default();
    let here = here.to_string_lossy();
    if checker(node, &here, []) == Checker::Here {
        return Checker::Here;
    }
    let status = Status::read(Instant::now() + CLUSTER_LIMIT);
    let members = status.map(|status| status.members).unwrap_or_else(|e| {
        log::warn(format_args!("nothing is known of node {node}: {e}"));
        vec![]
    });
    let peers = members.iter().map(|member| Peer {
        name: &member.name,
        down: member.down,
    });
    checker(node, &here, peers)
}

/// Watches the mark of a check whose node seems to be down: if the mark is renewed, the check runs all the same. If
/// not, the check was killed, and has left the file system as it was at that moment.
fn watch_check(taker: Taker<'_>, device: &Device) -> Result<(), Mounted> {
    let Some(before) = read_mmp(device) else {
        return Ok(());
    };
    std::thread::sleep(match &before.state {
        MmpState::Fsck(node) if find_checker(node) == Checker::Down => before.watch_check(),
        // Nobody on this node has the device open: at most a node of the same name elsewhere runs the check.
        _ => before.watch(),
    });
    let after = read_mmp(device);
    let is_alive = after.as_ref().is_some_and(|after| before.is_alive(after));
    match after.map(|mmp| mmp.state) {
        // The check's node may have come back meanwhile.
        Some(MmpState::Fsck(node)) if is_alive || find_checker(&node) == Checker::Unknown => {
            Err(marked(device, &node))
        }
        Some(MmpState::Fsck(node)) => {
            let _claimed = taker.claim(device)?;
            let kind = kind_of(taker.volume, device)?;
            let options = taker.volume.options.options();
            Err(noted(device, kind, options, Defect::CutOff(node)))
        }
        // The check is over, or somebody has the file system mounted: the kernel itself refuses another mount then.
        Some(MmpState::Clean | MmpState::Mounted(_)) | None => Ok(()),
    }
}
