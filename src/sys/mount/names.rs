//! The names by which the kernel speaks of a device.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::sys::device::sysfs;

/// How many devices are looked at beneath one: a volume over a few hundred disks is all there is.
const MOST: usize = 1024;

/// A device's own name, and those of what it lies on.
///
/// A file system speaks of the device that it is on. The block layer speaks of the disk that a request was
/// given to (`blk_print_req_error`): that of a partition, the paths of a multipath device, the members of a
/// RAID or of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    own: String,
    beneath: BTreeSet<String>,
}

impl Names {
    /// Reads them from sysfs. `None` if the kernel has no such device, or not any more.
    pub(crate) fn of(number: u64) -> Option<Self> {
        Self::read(Path::new("/sys"), number)
    }

    fn read(root: &Path, number: u64) -> Option<Self> {
        let directory = fs::canonicalize(sysfs::directory(root, number)).ok()?;
        let own = name_of(&directory)?;
        let mut beneath = BTreeSet::new();
        let mut open = vec![directory];
        while let Some(directory) = open.pop() {
            let is_partition = directory.join("partition").exists();
            let disk = directory.parent().filter(|_| is_partition);
            let mut below: Vec<_> = ["slaves", "multipath"]
                .iter()
                .flat_map(|relation| {
                    let names = sysfs::relatives(&directory, relation);
                    let directory = &directory;
                    names
                        .into_iter()
                        .map(move |name| directory.join(relation).join(name))
                })
                .filter_map(|link| fs::canonicalize(link).ok())
                .collect();
            below.extend(disk.map(Path::to_owned));
            for directory in below {
                let Some(name) = name_of(&directory) else {
                    continue;
                };
                if beneath.len() < MOST && beneath.insert(name) {
                    open.push(directory);
                }
            }
        }
        Some(Self { own, beneath })
    }

    /// Whether a message of the kernel is about this device: `XFS (sda1): …`, `BTRFS error (device sda1 state
    /// E): …`, or about a request to what it lies on: `I/O error, dev sda, sector 8 …`.
    pub(crate) fn are_in(&self, said: &str) -> bool {
        let after = |prefix: &'static str| {
            let ends = said.match_indices(prefix);
            ends.map(move |(at, _)| first_name(&said[at + prefix.len()..]))
        };
        let of_request = |name: &str| {
            let disk = disk_of_path(name);
            let is = |name: &str| self.own == name || self.beneath.contains(name);
            is(name) || disk.is_some_and(|disk| is(&disk))
        };
        ["(", "(device "]
            .into_iter()
            .flat_map(after)
            .any(|name| name == self.own)
            || after("dev ").any(of_request)
    }
}

/// The kernel's name of a block device: that of its directory in sysfs.
///
/// # Errors
/// Whatever the kernel refuses; the device may have gone.
pub(crate) fn kernel_name(number: u64) -> io::Result<String> {
    let target = fs::read_link(sysfs::directory(Path::new("/sys"), number))?;
    let name = target.file_name().unwrap_or_default();
    Ok(name.to_string_lossy().into_owned())
}

fn name_of(directory: &Path) -> Option<String> {
    let name = directory.file_name()?.to_string_lossy();
    Some(name.into_owned())
}

/// The name that a text begins with, which may be empty.
fn first_name(text: &str) -> &str {
    let ends = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '!' | '.');
    text.split(ends).next().unwrap_or_default()
}

/// The disk that one of its paths belongs to in the kernel's own multipathing of NVMe: that of `nvme0c1n2` is
/// `nvme0n2`. sysfs links the one to the other since Linux 6.15 only.
fn disk_of_path(name: &str) -> Option<String> {
    let (subsystem, rest) = name.strip_prefix("nvme")?.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{namespace}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree like sysfs, with these devices (number and directory) and what they are built on.
    fn tree(devices: &[(&str, &str)], slaves: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let numbers = root.path().join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        for (number, directory) in devices {
            let directory = root.path().join("devices").join(directory);
            fs::create_dir_all(directory.join("slaves")).unwrap();
            symlink(&directory, numbers.join(number)).unwrap();
            if directory.ends_with("sdb1") {
                fs::write(directory.join("partition"), "1\n").unwrap();
            }
        }
        for (above, below) in slaves {
            let below = root.path().join("devices").join(below);
            let link = root.path().join("devices").join(above).join("slaves");
            symlink(&below, link.join(below.file_name().unwrap())).unwrap();
        }
        root
    }

    fn names(own: &str, beneath: &[&str]) -> Names {
        Names {
            own: own.to_owned(),
            beneath: beneath.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_device_lies_on_is_found_to_the_bottom() {
        let devices = [
            ("8:16", "sdb"),
            ("8:17", "sdb/sdb1"),
            ("8:32", "sdc"),
            ("253:3", "dm-3"),
            ("9:0", "md0"),
        ];
        let slaves = [("md0", "sdb/sdb1"), ("md0", "sdc"), ("dm-3", "md0")];
        let root = tree(&devices, &slaves);
        let read = |major, minor| Names::read(root.path(), libc::makedev(major, minor));
        assert_eq!(read(8, 16), Some(names("sdb", &[])));
        assert_eq!(read(8, 17), Some(names("sdb1", &["sdb"])));
        let whole = names("dm-3", &["md0", "sdb", "sdb1", "sdc"]);
        assert_eq!(read(253, 3), Some(whole));
        assert_eq!(read(7, 1), None);
    }

    #[test]
    fn a_message_is_about_the_device_that_it_names() {
        let (one, disk) = (names("sda1", &[]), names("sda", &[]));
        for said in [
            "XFS (sda1): log mount failed",
            "EXT4-fs error (device sda1): ext4_fill_super",
            "BTRFS error (device sda1 state E): open_ctree failed: -5",
            "I/O error, dev sda1, sector 8 op 0x0:(READ)",
            "Buffer I/O error on dev sda1, logical block 0",
        ] {
            assert!(one.are_in(said), "{said}");
            assert!(!disk.are_in(said), "{said}");
            assert!(!names("a1", &[]).are_in(said), "{said}");
        }
        assert!(!one.are_in("XFS (sda10): log mount failed"));
        assert!(!one.are_in("EXT4-fs: journaled quota format not specified"));
    }

    #[test]
    fn a_request_that_failed_beneath_it_is_about_it_and_another_file_system_there_is_not() {
        let volume = names("dm-3", &["sdb1", "sdb", "nvme0n2"]);
        for said in [
            "critical medium error, dev sdb, sector 486801495 op 0x0:(READ) flags 0x0",
            "blk_update_request: I/O error, dev sdb, sector 8",
            "I/O error, dev nvme0c1n2, sector 8 op 0x0:(READ)",
            "Buffer I/O error on dev dm-3, logical block 0, async page read",
        ] {
            assert!(volume.are_in(said), "{said}");
        }
        for said in [
            "EXT4-fs (sdb1): error loading journal",
            "XFS (sdb): log mount failed",
            "I/O error, dev sdc, sector 8",
            "I/O error, dev nvme0c1n1, sector 8",
        ] {
            assert!(!volume.are_in(said), "{said}");
        }
    }
}
