//! The same file system seen through two devices of this node: a clone or a snapshot beside its original, or
//! one disk by two paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::read::Reading;
use super::{Device, Owner, sysfs, usage};
use crate::plan::twin::Beside;
use crate::sys::mounted::Namespace;
use crate::sys::superblock::{self, HEAD, Uuid};

/// A mounted device with the same file system on it as another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// Its node.
    pub path: PathBuf,
    /// Where it is mounted, in words: `/data of alpha`, or with the device.
    pub place: String,
    /// Its relation to the other one.
    pub beside: Beside,
}

/// The types of mounts whose file system berth knows.
const TYPES: [&str; 5] = ["ext2", "ext3", "ext4", "xfs", "btrfs"];

impl Device {
    /// The devices, other than this one, that are mounted on this node and have the same UUID on them.
    /// Devices that do not answer before `deadline` count as others; those in `known` are not asked. `own` is
    /// the virtual server that this device is for, and `owner` tells whose a cell is.
    pub fn twins(
        &self,
        namespaces: &[Namespace],
        known: &BTreeMap<u64, Uuid>,
        own: &str,
        owner: Owner<'_>,
        deadline: Instant,
    ) -> Vec<Twin> {
        let Some(uuid) = self.superblock.as_ref().map(|sb| sb.uuid) else {
            return vec![];
        };
        let mut mounted: BTreeMap<u64, Twin> = BTreeMap::new();
        for namespace in namespaces {
            let cell = namespace.is_cell().then(|| owner(namespace));
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
                let place = match &cell {
                    Some(Some(vserver)) => format!("{place} of {vserver}"),
                    Some(None) => format!("{place} of an unknown cell"),
                    None => {
                        let process = namespace.processes.first().copied().unwrap_or_default();
                        let at = format!("{} at {place}", path.display());
                        match usage::is_here(process) {
                            true => at,
                            false => format!("{at} of process {}", usage::describe(process)),
                        }
                    }
                };
                let is_own = matches!(&cell, Some(Some(vserver)) if vserver == own);
                let twin = mounted.entry(number).or_insert_with(|| Twin {
                    path,
                    place: place.clone(),
                    beside: Beside {
                        distinct: self.is_distinct_from(number),
                        same_cell: false,
                        no_uuid: entry.super_options.split(',').any(|o| o == "nouuid"),
                    },
                });
                // A cell's name says more than the view of somebody who looks into it.
                if matches!(cell, Some(Some(_))) {
                    twin.place = place;
                }
                twin.beside.same_cell |= is_own;
            }
        }
        with_uuid(mounted, known, uuid, deadline)
    }

    /// Whether the kernel knows that the device of this number is other storage than this one.
    pub(crate) fn is_distinct_from(&self, number: u64) -> bool {
        let of = |number| sysfs::identity(Path::new("/sys"), number);
        matches!((of(self.number), of(number)), (Some(one), Some(other)) if one != other)
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

/// The devices that have this UUID.
fn with_uuid(
    mounted: BTreeMap<u64, Twin>,
    known: &BTreeMap<u64, Uuid>,
    uuid: Uuid,
    deadline: Instant,
) -> Vec<Twin> {
    // All are asked at once, before the first answer is waited for.
    let asked: Vec<_> = mounted
        .into_iter()
        .map(|(number, twin)| match known.get(&number) {
            Some(known) => (Some(*known), None, twin),
            None => (None, Some(Reading::start(&twin.path, 0, HEAD)), twin),
        })
        .collect();
    let answer = |reading: Option<std::io::Result<Reading>>| {
        let head = reading?.ok()?.finish(deadline).ok()?;
        superblock::parse(&head).map(|sb| sb.uuid)
    };
    asked
        .into_iter()
        .filter_map(|(known, reading, twin)| {
            let found = known.or_else(|| answer(reading));
            (found == Some(uuid)).then_some(twin)
        })
        .collect()
}
