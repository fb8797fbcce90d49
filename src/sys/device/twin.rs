//! The same file system seen through two devices of this node: a clone or a snapshot beside its original, or
//! one disk by two paths. Mounted twice, the two halves of the second kind destroy each other; of the first
//! kind, XFS and btrfs refuse one or mix them up, as they tell file systems by their UUIDs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::read::Reading;
use super::{Device, Owner, sysfs, usage};
use crate::sys::mounted::Namespace;
use crate::sys::superblock::{self, HEAD, Uuid};

/// A mounted device with the same file system on it as another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// Its node.
    pub path: PathBuf,
    /// Where it is mounted, in words: `/data of alpha`, or with the device.
    pub place: String,
}

/// The types of mounts whose file system berth knows.
const TYPES: [&str; 5] = ["ext2", "ext3", "ext4", "xfs", "btrfs"];

impl Device {
    /// A device, other than this one, that is mounted on this node and has the same UUID on it. Devices that
    /// do not answer before `deadline` count as others. `owner` tells whose a cell is.
    pub fn twin(
        &self,
        namespaces: &[Namespace],
        owner: Owner<'_>,
        deadline: Instant,
    ) -> Option<Twin> {
        let uuid = self.superblock.as_ref()?.uuid;
        let mut places = BTreeMap::new();
        for namespace in namespaces {
            for entry in &namespace.entries {
                if !TYPES.contains(&entry.fstype.as_str()) {
                    continue;
                }
                let Some((number, path)) = device_of(entry.device, &entry.source) else {
                    continue;
                };
                if number == self.number {
                    continue;
                }
                let place = entry.target.display();
                let cell = namespace.is_cell().then(|| owner(namespace));
                let text = match &cell {
                    Some(Some(vserver)) => format!("{place} of {vserver}"),
                    Some(None) => format!("{place} of an unknown cell"),
                    None => {
                        let process = namespace.processes.first().copied().unwrap_or_default();
                        let who = usage::describe(process);
                        match usage::is_here(process) {
                            true => format!("{} at {place}", path.display()),
                            false => format!("{} at {place} of process {who}", path.display()),
                        }
                    }
                };
                // A cell's name says more than the view of somebody who looks into it.
                let known = places.entry(number).or_insert((path, text.clone()));
                if matches!(cell, Some(Some(_))) {
                    known.1 = text;
                }
            }
        }
        with_uuid(places.into_values().collect(), uuid, deadline)
    }
}

/// The device that a mount is of. btrfs has numbers of its own in mount tables.
fn device_of((major, minor): (u32, u32), source: &str) -> Option<(u64, PathBuf)> {
    if major == 0 {
        let device = Device::at(Path::new(source)).ok()?;
        return Some((device.number, device.path));
    }
    let number = libc::makedev(major, minor);
    let path = match sysfs::kernel_name(Path::new("/sys"), number) {
        Some(name) => Path::new("/dev").join(name),
        None => PathBuf::from(source),
    };
    Some((number, path))
}

fn with_uuid(places: Vec<(PathBuf, String)>, uuid: Uuid, deadline: Instant) -> Option<Twin> {
    let asked: Vec<_> = places
        .into_iter()
        .map(|(path, place)| (Reading::start(&path, 0, HEAD), path, place))
        .collect();
    asked.into_iter().find_map(|(reading, path, place)| {
        let head = reading.ok()?.finish(deadline).ok()?;
        (superblock::parse(&head)?.uuid == uuid).then_some(Twin { path, place })
    })
}
