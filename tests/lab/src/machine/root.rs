//! A machine's root directory: everything of its system to read, nothing of it to write.
//!
//! An overlay shows the system's root under the lab's common layer, and what the machine writes goes
//! to a directory of its own that outlives a power failure, as a local disk does. /run, /tmp and
//! /dev are new at each start. The machine's /dev has only its own disks, so that it can neither
//! find nor touch those of another one, which hold the same UUIDs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Setup, groups};
use crate::error::{Context, Result};
use crate::rootfs::{self, bind, tmpfs};

/// Where agents reach the power switch.
pub const SWITCH: &str = "/run/lab-power.sock";
const LOOP_MAJOR: u64 = 7;
/// Character devices of the machine: name, major, minor.
const DEVICES: [(&str, u64, u64); 7] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    // What the kernel says of a device that can't be mounted.
    ("kmsg", 1, 11),
];
/// Builds the root of the machine and makes it this process's own.
pub fn build(setup: &Setup) -> Result<()> {
    rootfs::make_private()?;
    let root = rootfs::show(&setup.system, Some(&setup.layer), &setup.place)?;
    rootfs::kernel(&root)?;
    if setup.groups.is_some() {
        groups::show(&root)?;
    }
    devices(&root.join("dev"), &setup.disks)?;
    rootfs::runtime(&root)?;
    let switch = root.join(&SWITCH[1..]);
    fs::write(&switch, "").context(switch.display())?;
    bind(&setup.switch, &switch)?;
    rootfs::enter(&root)
}

fn devices(dev: &Path, disks: &[(String, u32)]) -> Result<()> {
    tmpfs(dev, "mode=755")?;
    let all = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, all, makedev(major, minor)).context(path.display())?;
        // mknod's mode was subject to the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context(path.display())?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).context(format!("link /dev/{name}"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).context(format!("make /dev/{name}"))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")?;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID,
        options,
    )
    .context("mount /dev/pts")?;
    for (disk, number) in disks {
        add_disk(dev, disk, *number)?;
    }
    Ok(())
}

/// Puts loop device `number` into `dev`, under its own name and as the disk.
fn add_disk(dev: &Path, disk: &str, number: u32) -> Result<()> {
    let node = dev.join(format!("loop{number}"));
    let device = makedev(LOOP_MAJOR, number.into());
    let mode = Mode::from_bits_truncate(0o660);
    mknod(&node, SFlag::S_IFBLK, mode, device).context(node.display())?;
    let links = dev.join("disk/lab");
    fs::create_dir_all(&links).context(links.display())?;
    let link = links.join(disk);
    symlink(format!("../../loop{number}"), &link).context(link.display())
}
