//! What tests do to disks and file systems, and what is left of repairs.

use std::fs;

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
