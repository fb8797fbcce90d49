//! What tests do to disks and file systems, and what is left of repairs.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::node::sh;

/// The image behind a loop device.
pub fn image(device: &str) -> String {
    let path = sh(&format!("losetup --noheadings -O BACK-FILE {device}"));
    path.trim().to_owned()
}

/// A sum of all that is on a device.
pub fn checksum(device: &str) -> String {
    sh(&format!("sha256sum < {device}"))
}

/// Has a file system of ext4 say of itself that it has errors: it is repaired before it is mounted.
pub fn mark_damaged(device: &str) {
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
}

/// What has been kept of repairs: there was one if there is any.
pub fn records() -> usize {
    fs::read_dir("/var/lib/berth/repair").map_or(0, Iterator::count)
}

/// Has the kernel take a part of a disk, in bytes, for its first partition. Not every system has addpart(8), nor
/// every kernel an eye for tables of partitions (linux/blkpg.h).
pub fn add_partition(disk: &str, start: u64, length: u64) -> io::Result<()> {
    const BLKPG: libc::c_ulong = 0x1269;
    const BLKPG_ADD_PARTITION: i32 = 1;
    #[repr(C)]
    struct Partition {
        start: i64,
        length: i64,
        number: i32,
        names: [u8; 128],
    }
    #[repr(C)]
    struct Argument {
        op: i32,
        flags: i32,
        length: i32,
        partition: *mut Partition,
    }
    let number = |n: u64| i64::try_from(n).map_err(io::Error::other);
    let mut partition = Partition {
        start: number(start)?,
        length: number(length)?,
        number: 1,
        names: [0; 128],
    };
    let argument = Argument {
        op: BLKPG_ADD_PARTITION,
        flags: 0,
        length: i32::try_from(size_of::<Partition>()).map_err(io::Error::other)?,
        partition: &raw mut partition,
    };
    let disk = fs::File::open(disk)?;
    // SAFETY: the kernel reads both structures, which live through the call and are as it defines them.
    match unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
