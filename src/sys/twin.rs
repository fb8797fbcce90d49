//! Another device of this node with the same file system on it, mounted, while this one is to be changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::device::Device;
use super::mount::kernel_name;
use crate::plan::repair::FsKind;

/// A device other than this one that has the same UUID on it and is mounted, in whatever namespace: one to be
/// careful of, since a change on this device may be one under that mount. A copy of ext4 on other storage is
/// none, as the kernel does not tell ext4 by its UUID.
///
/// The kernel lists what it has mounted in sysfs, by the device's name; btrfs by the UUID. A device that does
/// not answer before `deadline` counts as another one.
pub(crate) fn mounted(device: &Device, deadline: Instant) -> Option<PathBuf> {
    let superblock = device.superblock.as_ref()?;
    let own = kernel_name(device.number).ok()?;
    let others = match superblock.condition.kind {
        FsKind::Ext4 => names(Path::new("/sys/fs/ext4")),
        FsKind::Xfs => names(Path::new("/sys/fs/xfs")),
        FsKind::Btrfs => names(
            &Path::new("/sys/fs/btrfs")
                .join(superblock.uuid.to_string())
                .join("devices"),
        ),
    };
    others
        .into_iter()
        .filter(|name| *name != own)
        // Besides devices there are directories of the driver's own.
        .filter(|name| Path::new("/sys/class/block").join(name).exists())
        .filter_map(|name| {
            let path = Path::new("/dev").join(name.replace('!', "/"));
            let number = fs::metadata(&path).ok()?.rdev();
            let is_copy =
                superblock.condition.kind == FsKind::Ext4 && device.is_distinct_from(number);
            (!is_copy).then_some((path, number))
        })
        .find(|(path, number)| {
            let other = Device {
                path: path.clone(),
                number: *number,
                superblock: None,
            };
            let found = other.read_superblock(deadline).ok().flatten();
            found.is_some_and(|found| found.uuid == superblock.uuid)
        })
        .map(|(path, _)| path)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
