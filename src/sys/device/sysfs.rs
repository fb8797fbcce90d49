//! Block devices as sysfs shows them. Each function takes the tree's root, which is `/sys` but in tests.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An attribute of sysfs is a page at the most.
const ATTRIBUTE_LIMIT: u64 = 4096;

/// The number of a device as sysfs writes it: `8:16`.
pub(crate) fn name_of(number: u64) -> String {
    format!("{}:{}", libc::major(number), libc::minor(number))
}

/// The directory of a device.
pub(crate) fn directory(root: &Path, number: u64) -> PathBuf {
    root.join("dev/block").join(name_of(number))
}

/// An attribute, without the end of its line; `None` if there is none.
pub(crate) fn attribute(directory: &Path, name: &str) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(directory.join(name)).ok()?;
    file.take(ATTRIBUTE_LIMIT).read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

/// The device's size in bytes; `None` if there is no such device.
pub(crate) fn size(root: &Path, number: u64) -> Option<u64> {
    let sectors: u64 = attribute(&directory(root, number), "size")?.parse().ok()?;
    sectors.checked_mul(512)
}

/// A number that no other device of this number has had since the node was booted. Kernels have it since
/// Linux 5.15, for whole disks; `None` otherwise.
pub(crate) fn sequence(root: &Path, number: u64) -> Option<u64> {
    attribute(&directory(root, number), "diskseq")?.parse().ok()
}

/// The kernel's name for the device, such as `sdb1` or `dm-0`; `None` if there is no such device.
pub(crate) fn kernel_name(root: &Path, number: u64) -> Option<String> {
    let uevent = attribute(&directory(root, number), "uevent")?;
    let name = uevent.lines().find_map(|l| l.strip_prefix("DEVNAME="))?;
    Some(name.to_owned())
}

/// The devices that this one is built on, or that are built on it, by the kernel's names, sorted.
pub(crate) fn relatives(directory: &Path, relation: &str) -> Vec<String> {
    let entries = fs::read_dir(directory.join(relation)).into_iter().flatten();
    let names = entries.flatten().map(|e| e.file_name());
    let mut names: Vec<_> = names.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The identity of the storage behind a device, which no other storage has; `None` if the kernel has no name for it.
/// Two paths to one disk have the same, a disk and its copy have not.
pub(crate) fn identity(root: &Path, number: u64) -> Option<String> {
    let dir = directory(root, number);
    if dir.join("partition").exists() {
        let start = attribute(&dir, "start")?;
        let disk = fs::canonicalize(&dir).ok()?;
        return Some(format!("{} from {start}", disk_identity(disk.parent()?)?));
    }
    disk_identity(&dir)
}

fn disk_identity(dir: &Path) -> Option<String> {
    let named = |kind: &str, file: &str| {
        let value = attribute(dir, file).filter(|value| !value.is_empty());
        value.map(|value| format!("{kind} {value}"))
    };
    let image = || {
        let file = named("loop", "loop/backing_file")?;
        Some(format!("{file} from {}", attribute(dir, "loop/offset")?))
    };
    named("dm", "dm/uuid")
        .or_else(|| named("disk", "wwid"))
        .or_else(|| named("disk", "device/wwid"))
        .or_else(image)
}

/// What the device is part of, in words; `None` if the kernel builds nothing on it.
pub(crate) fn part_of(root: &Path, number: u64) -> Option<String> {
    let holders = relatives(&directory(root, number), "holders");
    let holder = holders.first()?;
    let of = root.join("block").join(holder);
    let path = match attribute(&of, "dm/name") {
        Some(name) => format!("/dev/mapper/{name}"),
        None => format!("/dev/{}", holder.replace('!', "/")),
    };
    let uuid = attribute(&of, "dm/uuid").unwrap_or_default();
    Some(match uuid.split_once('-') {
        Some(("mpath", _)) => format!("a path of the multipath device {holder}; use {path}"),
        // Of an LVM volume group: what is built on it is not one thing.
        Some(("LVM", _)) => format!("part of {holder}, a logical volume; use such as {path}"),
        _ => format!("part of {holder}; use {path}"),
    })
}

/// Whether a file system lives on the device, by the kernel's name for it: each kind keeps a directory, from
/// its mount to its end, wherever it is mounted or not any more.
pub(crate) fn has_file_system(root: &Path, kernel_name: &str) -> bool {
    let name = kernel_name.replace('/', "!");
    let btrfs = || {
        let all = fs::read_dir(root.join("fs/btrfs")).into_iter().flatten();
        all.flatten()
            .any(|e| e.path().join("devices").join(&name).exists())
    };
    ["fs/ext4", "fs/xfs"]
        .iter()
        .any(|kind| root.join(kind).join(&name).exists())
        || btrfs()
}

/// Devices on which a file system may lie, as paths under /dev. Not those that something is built on: a
/// path of a multipath device or half of a mirror shows the same superblock as the whole.
///
/// # Errors
/// If the class can't be read.
pub(crate) fn candidates(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![];
    for entry in fs::read_dir(root.join("class/block"))? {
        let entry = entry?;
        let dir = entry.path();
        let is = |file: &str, value: &str| attribute(&dir, file).as_deref() == Some(value);
        let held = !relatives(&dir, "holders").is_empty();
        if !is("size", "0") && !is("hidden", "1") && !held {
            // sysfs writes '!' for the '/' in names such as cciss/c0d0.
            let name = entry.file_name().to_string_lossy().replace('!', "/");
            paths.push(Path::new("/dev").join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Of devices with the same file system on them, the one that the others are snapshots of, as an index.
/// `None` if the kernel does not say so of all of them.
///
/// LVM builds a volume that has snapshots on a hidden one, whose identity ends in `-real`; its snapshots are
/// built on the same and on what has been changed (`-cow`). Volumes of a thin pool are alike.
pub(crate) fn origin(root: &Path, numbers: &[u64]) -> Option<usize> {
    let below: Vec<Vec<String>> = numbers
        .iter()
        .map(|n| relatives(&directory(root, *n), "slaves"))
        .collect();
    let is_real = |name: &String| {
        let identity = attribute(&root.join("block").join(name), "dm/uuid");
        identity.is_some_and(|uuid| uuid.starts_with("LVM-") && uuid.ends_with("-real"))
    };
    let single = |slaves: &[String]| slaves.len() == 1 && is_real(&slaves[0]);
    let one = below.iter().position(|slaves| single(slaves))?;
    let others = below.iter().enumerate().filter(|(i, _)| *i != one);
    let real = &below[one][0];
    others
        .into_iter()
        .all(|(_, slaves)| slaves.len() > 1 && slaves.contains(real))
        .then_some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree like sysfs, from lines of `path content`.
    fn tree(lines: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in lines {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{content}\n")).unwrap();
        }
        root
    }

    fn number(major: u32, minor: u32) -> u64 {
        libc::makedev(major, minor)
    }

    #[test]
    fn only_devices_that_nothing_is_built_on_are_searched() {
        let root = tree(&[
            ("class/block/sda/size", "100"),
            ("class/block/sda/holders/dm-0", ""),
            ("class/block/dm-0/size", "100"),
            ("class/block/loop0/size", "0"),
            ("class/block/cciss!c0d0/size", "8"),
            ("class/block/nvme0c0n1/hidden", "1"),
        ]);
        let paths = candidates(root.path()).unwrap();
        assert_eq!(
            paths,
            [Path::new("/dev/cciss/c0d0"), Path::new("/dev/dm-0")]
        );
    }

    #[test]
    fn what_is_built_on_a_device_is_named_as_it_is_to_be_used() {
        let root = tree(&[
            ("dev/block/8:16/holders/dm-0", ""),
            ("block/dm-0/dm/name", "mpatha"),
            ("block/dm-0/dm/uuid", "mpath-36001405"),
            ("dev/block/8:32/holders/md0", ""),
            ("dev/block/8:48/holders/dm-3", ""),
            ("block/dm-3/dm/name", "vg0-alpha"),
            ("block/dm-3/dm/uuid", "LVM-abc"),
            ("dev/block/8:64/size", "1"),
        ]);
        let of = |minor| part_of(root.path(), number(8, minor));
        assert!(of(16).unwrap().ends_with("dm-0; use /dev/mapper/mpatha"));
        assert_eq!(of(32).unwrap(), "part of md0; use /dev/md0");
        assert!(
            of(48)
                .unwrap()
                .ends_with("use such as /dev/mapper/vg0-alpha")
        );
        assert_eq!(of(64), None);
        assert_eq!(of(80), None);
    }

    #[test]
    fn two_paths_to_a_disk_are_one_and_a_copy_is_another() {
        let root = tree(&[
            ("dev/block/8:16/device/wwid", "naa.6001405a"),
            ("dev/block/8:32/device/wwid", "naa.6001405a"),
            ("dev/block/259:0/wwid", "eui.01"),
            ("dev/block/253:0/dm/uuid", "LVM-a"),
            ("dev/block/253:1/dm/uuid", "LVM-b"),
            ("dev/block/7:1/loop/backing_file", "/srv/image"),
            ("dev/block/7:1/loop/offset", "0"),
            ("dev/block/8:64/size", "1"),
            ("dev/block/253:2/dm/uuid", ""),
        ]);
        let of = |major, minor| identity(root.path(), number(major, minor));
        assert_eq!(of(8, 16), of(8, 32));
        assert!(of(8, 16).is_some() && of(259, 0).is_some() && of(7, 1).is_some());
        assert_ne!(of(253, 0), of(253, 1));
        assert_eq!(of(8, 64), None);
        assert_eq!(of(253, 2), None);
        // Partitions are told by where they begin.
        let disk = root.path().join("devices/sdz");
        for (name, start) in [("sdz1", "2048"), ("sdz2", "4096")] {
            let part = disk.join(name);
            fs::create_dir_all(&part).unwrap();
            fs::write(part.join("partition"), "1\n").unwrap();
            fs::write(part.join("start"), start).unwrap();
        }
        fs::write(disk.join("wwid"), "eui.02\n").unwrap();
        for (minor, name) in [(241, "sdz1"), (242, "sdz2")] {
            let link = directory(root.path(), number(8, minor));
            std::os::unix::fs::symlink(disk.join(name), link).unwrap();
        }
        assert!(of(8, 241).is_some());
        assert_ne!(of(8, 241), of(8, 242));
    }

    #[test]
    fn a_file_system_is_seen_by_its_kind_s_own_directory() {
        let root = tree(&[
            ("fs/ext4/dm-0/x", ""),
            ("fs/xfs/cciss!c0d0/x", ""),
            ("fs/btrfs/3d1c1ae4/devices/sdb", ""),
            ("fs/btrfs/features/x", ""),
        ]);
        for there in ["dm-0", "cciss/c0d0", "sdb"] {
            assert!(has_file_system(root.path(), there), "{there}");
        }
        assert!(!has_file_system(root.path(), "sda"));
    }

    #[test]
    fn a_volume_is_told_from_its_lvm_snapshots_and_equal_ones_are_not() {
        let root = tree(&[
            ("dev/block/253:0/slaves/dm-1", ""),
            ("block/dm-1/dm/uuid", "LVM-x-real"),
            ("dev/block/253:2/slaves/dm-1", ""),
            ("dev/block/253:2/slaves/dm-3", ""),
            ("block/dm-3/dm/uuid", "LVM-y-cow"),
            // Two volumes of a thin pool.
            ("dev/block/253:10/slaves/dm-9", ""),
            ("dev/block/253:11/slaves/dm-9", ""),
            ("block/dm-9/dm/uuid", "LVM-z-tpool"),
            // A copy that happens to lie on one more disk.
            ("dev/block/253:20/slaves/sda", ""),
            ("dev/block/253:21/slaves/sda", ""),
            ("dev/block/253:21/slaves/sdb", ""),
        ]);
        let of = |minors: &[u32]| {
            let numbers: Vec<u64> = minors.iter().map(|m| number(253, *m)).collect();
            origin(root.path(), &numbers)
        };
        assert_eq!(of(&[2, 0]), Some(1));
        assert_eq!(of(&[0, 2]), Some(0));
        assert_eq!(of(&[10, 11]), None);
        assert_eq!(of(&[20, 21]), None);
        // One more that is not of the family.
        assert_eq!(of(&[0, 2, 20]), None);
    }
}
