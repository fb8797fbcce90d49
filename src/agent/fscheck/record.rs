//! Makes up a missing record of what is attached, being repaired or blocked: a keeper of a version without records lives
//! on through an upgrade, or there may have been no room for one.

use std::io;
use std::path::Path;

use crate::cell::attachment::{self, Attachment};
use crate::log;
use crate::ocf::Context;
use crate::sys::device::Device;
use crate::types::VserverName;

/// Puts on record the device that a keeper says is attached, being repaired or blocked, unless one is on record.
/// `path` is the device as the keeper found it, and `mounted` its number by the mount table, where there is one: the
/// path may lead elsewhere by now. What can't be put on record now is tried anew by the next monitor.
pub(crate) fn make_up(
    cx: &Context<'_>,
    vserver: &VserverName,
    path: &Path,
    mounted: Option<(u32, u32)>,
) {
    let (runtime, resource) = (attachment::runtime(), cx.env.instance());
    if !matches!(Attachment::read(runtime, resource), Ok(None)) {
        return;
    }
    let write = || {
        let record = Attachment::new(vserver, &device(path, mounted)?);
        record.write(runtime, resource)
    };
    match write() {
        Ok(()) => log::info(format_args!("{} is on record now", path.display())),
        Err(e) => log::debug(format_args!("{} is not on record: {e}", path.display())),
    }
}

/// The device that is mounted. What btrfs shows in a mount table is no device's number.
fn device(path: &Path, mounted: Option<(u32, u32)>) -> io::Result<Device> {
    let number = mounted
        .filter(|(major, _)| *major != 0)
        .map(|(major, minor)| libc::makedev(major, minor));
    match (Device::at(path), number) {
        (Ok(device), Some(number)) if device.number == number => Ok(device),
        (found, None) => found,
        (_, Some(number)) => Ok(Device {
            path: path.to_owned(),
            number,
            superblock: None,
        }),
    }
}
