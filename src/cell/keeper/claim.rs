//! Claims a device for a mount. Nobody else on this node has the device or the file system on it, and the device is put
//! on record. This blocks, so it runs in the child that mounts.

use std::time::{Duration, Instant};

use crate::cell::attachment::{self, Attachment, Locked, Locks};
use crate::cell::client::Client;
use crate::cell::owner;
use crate::cell::protocol::{Cause, Condition, Reply, Request, VolumeSpec};
use crate::cluster::complaint::Member;
use crate::log;
use crate::plan::repair::FsKind;
use crate::plan::twin::{Beside, may_be_beside};
use crate::sys::device::{Device, DeviceSpec, Pause, Unresolved};
use crate::sys::mounted::{self, Namespace};
use crate::types::VserverName;

/// How long a device may take to show the file system on it.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long a device may stay claimed after a cell was killed: the kernel unmounts its file systems only after its
/// processes are gone.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// How long another keeper may take to answer for its resource.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The resource that claims a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taker<'a> {
    /// The virtual server.
    pub(crate) vserver: &'a VserverName,
    /// The resource.
    pub(crate) member: &'a Member,
    /// The file system to be mounted.
    pub(crate) volume: &'a VolumeSpec,
}

/// A claim that keeps berth's other processes on this node from the device. It may be dropped once the kernel has the
/// file system mounted.
#[derive(Debug)]
pub(crate) struct Claimed {
    _locks: Option<Locks>,
}

/// Why a device can't be claimed, and whose fault that is.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Cause, pub(crate) String);

fn refused(cause: Cause, why: impl std::fmt::Display) -> Refusal {
    Refusal(cause, format!("parameter device: {why}"))
}

fn failed(why: impl std::fmt::Display) -> Refusal {
    refused(Cause::Failed, why)
}

/// Finds the device that the parameter names.
pub(crate) fn find(spec: &DeviceSpec) -> Result<Device, Refusal> {
    spec.resolve(Instant::now() + READ_LIMIT).map_err(|e| {
        let cause = match e {
            // Another node may find the device, and so may this one a moment later.
            Unresolved::Ambiguous(_) | Unresolved::Silent(_) => Cause::Failed,
            _ => Cause::Node,
        };
        refused(cause, e)
    })
}

impl Taker<'_> {
    /// Claims the device and puts it on record.
    pub(crate) fn claim(self, device: &Device) -> Result<Claimed, Refusal> {
        let path = device.path.display();
        let limit = Instant::now() + READ_LIMIT;
        let locks = match Locks::open(attachment::runtime(), limit) {
            Ok(locks) => Some(locks),
            // Better a start without the lock than none: there is still the exclusive open below.
            Err(e) => {
                log::warn(format_args!("{path} is attached without a lock: {e}"));
                None
            }
        };
        if let Some(locks) = &locks {
            self.lock(locks, device)?;
        }
        // If another resource has the device on record, the refusal names that resource.
        await_free(device).or_else(|e| self.compare_records(device, &[]).and(Err(e)))?;
        let namespaces = mounted::namespaces().map_err(failed)?;
        for why in namespaces.iter().filter_map(|n| n.unread.as_ref()) {
            log::warn(format_args!(
                "{path} is attached, though a mount table can't be read: {why}"
            ));
        }
        self.compare_mounts(device, &namespaces)?;
        let namespaces = await_writers(device, namespaces)?;
        if let Some(locks) = &locks {
            take_turn(locks)?;
        }
        self.compare_records(device, &namespaces)?;
        let record = Attachment::new(self.vserver, device);
        if let Err(e) = record.write(attachment::runtime(), &self.member.resource) {
            let text = "its stop will have to look for it by its parameter";
            log::warn(format_args!("{path} is not on record: {e}; {text}"));
        }
        if let Some(Err(e)) = locks.as_ref().map(|locks| locks.release(Locks::RECORDS)) {
            log::warn(e);
        }
        Ok(Claimed { _locks: locks })
    }

    /// Locks the device against berth's other processes that are about to mount it.
    fn lock(self, locks: &Locks, device: &Device) -> Result<(), Refusal> {
        let path = device.path.display();
        let process = match locks.take(device.number) {
            Ok(Locked::Had) => return Ok(()),
            Ok(Locked::By(process)) => process,
            Err(e) => {
                log::warn(format_args!("{path} is attached without a lock: {e}"));
                return Ok(());
            }
        };
        let records = Attachment::read_all(attachment::runtime());
        let has_it = |(name, record): &&(String, Attachment)| {
            record.number == device.number && self.member.resource != name.as_str()
        };
        let who = match (records.iter().find(has_it), owner::vserver_by(process)) {
            (Some((resource, record)), _) => format!("{resource} of {}", record.vserver),
            (None, Some(vserver)) => vserver.into(),
            (None, None) => format!("process {process}"),
        };
        Err(failed(format_args!("{path} is being attached by {who}")))
    }

    /// Whether the file system may be mounted beside another one with its UUID.
    fn may_be_beside(self, device: &Device, other: Beside) -> bool {
        let no_uuid = self.volume.options.options().allows_twin();
        let superblock = device.superblock.as_ref();
        superblock.is_none_or(|sb| may_be_beside(sb.condition.kind, no_uuid, other))
    }

    /// Checks that the same file system is not mounted on this node from another device.
    fn compare_mounts(self, device: &Device, namespaces: &[Namespace]) -> Result<(), Refusal> {
        let known = Attachment::read_all(attachment::runtime())
            .into_iter()
            .filter_map(|(_, record)| Some((record.number, record.uuid?)))
            .collect();
        let limit = Instant::now() + ANSWER_LIMIT;
        let owner = &owner::vserver_of;
        let twins = device.twins(namespaces, &known, self.vserver, owner, limit);
        let mut twins = twins.into_iter();
        match twins.find(|twin| !self.may_be_beside(device, twin.beside)) {
            Some(twin) => Err(has_twin(device, &twin.place)),
            None => Ok(()),
        }
    }

    /// Checks that no other resource of this node has the device, or the same file system on another device, without
    /// having it mounted in any of `namespaces`: it is about to mount it, repairs it, or has it blocked.
    fn compare_records(self, device: &Device, namespaces: &[Namespace]) -> Result<(), Refusal> {
        let uuid = device.superblock.as_ref().map(|sb| sb.uuid);
        for (resource, record) in Attachment::read_all(attachment::runtime()) {
            let same = record.number == device.number;
            let is_twin = || {
                let beside = Beside {
                    distinct: device.is_distinct_from(record.number),
                    same_cell: record.vserver == *self.vserver,
                    no_uuid: false,
                };
                uuid.is_some()
                    && record.uuid == uuid
                    && !self.may_be_beside(device, beside)
                    && !namespaces.iter().any(|n| record.is_in(n))
            };
            if self.member.resource == resource.as_str()
                || !(same || is_twin())
                || !is_kept(&resource, &record)
            {
                continue;
            }
            let who = format!("{resource} of {}", record.vserver);
            return Err(match same {
                true => failed(format_args!(
                    "{} is that of {who} on this node",
                    device.path.display()
                )),
                false => has_twin(device, &who),
            });
        }
        Ok(())
    }
}

/// The refusal of a device whose file system is in use already, from another device.
fn has_twin(device: &Device, place: &str) -> Refusal {
    let hint = match device.superblock.as_ref().map(|sb| sb.condition.kind) {
        Some(FsKind::Xfs) => "options = nouuid, or xfs_admin -U generate",
        Some(FsKind::Btrfs) => "if it is a copy, btrfstune -u",
        _ => "if it is a copy, tune2fs -U random",
    };
    let path = device.path.display();
    failed(format_args!(
        "{path} has the UUID of {place} on this node: {hint}"
    ))
}

/// Whether the keeper of the record's virtual server has the resource, attached or about to be. If the keeper does not
/// answer, it may have the resource.
fn is_kept(resource: &str, record: &Attachment) -> bool {
    // The file of a record has its resource's name: what has another one is nobody's.
    let Ok(resource) = resource.parse() else {
        return false;
    };
    let client = match Client::connect(&record.vserver) {
        Ok(Some(client)) => client,
        // There is no keeper, and the device was found free before.
        Ok(None) => return false,
        // There may be a keeper that hangs: it takes no more connections once its queue is full.
        Err(e) => {
            log::warn(e);
            return true;
        }
    };
    let request = Request::Status { resource };
    match client.ask(&request, Instant::now() + ANSWER_LIMIT) {
        Ok((Reply::Member { condition, .. }, _)) => {
            !matches!(condition, Condition::Absent | Condition::Failed(_))
        }
        Ok(_) => false,
        Err(e) => e.kind() != std::io::ErrorKind::UnexpectedEof,
    }
}

/// Waits until nobody on this node claims the device, for [`SETTLE_LIMIT`].
fn await_free(device: &Device) -> Result<(), Refusal> {
    device
        .wait_free(Instant::now() + SETTLE_LIMIT, &owner::vserver_of)
        .map_err(failed)
}

/// Waits until nobody on this node has the device open for writing. Returns the mount tables as last read.
fn await_writers(
    device: &Device,
    mut namespaces: Vec<Namespace>,
) -> Result<Vec<Namespace>, Refusal> {
    let limit = Instant::now() + SETTLE_LIMIT;
    let mut pause = Pause::default();
    while let Some(writer) = device.writer(&namespaces) {
        // A tool that registers with the device for fencing ends in a moment; a virtual machine does not.
        if !pause.until(limit) {
            let path = device.path.display();
            return Err(failed(format_args!(
                "{path} is open for writing by process {writer}"
            )));
        }
        namespaces = mounted::namespaces().map_err(failed)?;
    }
    Ok(namespaces)
}

/// Waits for the lock under which records are compared and written: of two resources that start the same file system at
/// the same time, one sees the other's record.
fn take_turn(locks: &Locks) -> Result<(), Refusal> {
    let limit = Instant::now() + READ_LIMIT;
    let mut pause = Pause::default();
    loop {
        match locks.take(Locks::RECORDS) {
            Ok(Locked::Had) => return Ok(()),
            Ok(Locked::By(_)) if pause.until(limit) => {}
            Ok(Locked::By(process)) => {
                let text = format!("process {process} does not let go of the records");
                return Err(failed(text));
            }
            Err(e) => {
                log::warn(e);
                return Ok(());
            }
        }
    }
}
