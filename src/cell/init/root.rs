//! The root of a cell's file tree: a read-only view of the host's programs and settings, with its
//! own /run, /tmp, /var, /proc and /dev. No block devices, no /sys, none of the host's secrets.
//!
//! Runs in PID 1, in the mount and PID namespaces of the cell.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::wait::waitpid;
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use super::host_tree::HostTrees;
use super::owners::Owners;
use crate::cell::tree::{MERGED, enter, make_directory, relative};
use crate::log;
use crate::runtime::job::Job;
use crate::runtime::paths::RUNTIME;
use crate::runtime::paths::RUNTIME_IN_CELL;
use crate::sys::mount::{self, Room};
use crate::sys::poll::wait_readable;

/// Where the state directory, which is on the home file system, is shown in the cell.
pub(crate) const STATE_DIRECTORY: &str = "/var/lib/berth";

/// Directories of the host that the cell sees, read-only and without what is mounted below them.
const SHARED: [&str; 2] = ["opt", "usr"];

/// The shared directory that may stay empty if it can't be shown: no server is installed there.
const SPARED: &str = "opt";

/// Where the host's /etc is shown. The cell's own /etc consists of links into it. It is as deep below the root as /etc
/// itself, so that relative links in it lead where they should.
const HOST_ETC: &str = ".etc";

/// Files of /etc of which the cell has its own versions.
const OWN: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Files and directories of /etc that are hidden from the cell: secrets of the host, and the cluster's settings.
const MASKED: [&str; 14] = [
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "sudoers",
    "sudoers.d",
    "ssh",
    "corosync",
    "pacemaker",
    "crypttab",
    "iscsi",
    "drbd.d",
    "cron.d",
    "ssl/private",
];

/// The size of the tmpfs mounts that servers write state and logs to, small enough not to fill the host's memory. In
/// /run Samba has some 1,200 bytes for each file that a client has open, and a file for each client.
const ROOM: Room = Room {
    bytes: 256 << 20,
    inodes: 16 << 10,
};
/// The size of the root itself, which has a link for each entry of the host's /etc.
const SKELETON_ROOM: Room = Room {
    bytes: 1 << 20,
    inodes: 16 << 10,
};
/// The sizes of /dev, which nobody writes to, and of /dev/shm, for servers.
const DEVICES_ROOM: Room = Room {
    bytes: 1 << 16,
    inodes: 64,
};
const SHARED_MEMORY_ROOM: Room = Room {
    bytes: 16 << 20,
    inodes: 1 << 10,
};
/// The size of an empty directory that covers something.
pub(crate) const COVER_ROOM: Room = Room {
    bytes: 4096,
    inodes: 1,
};

/// The directory of the cell's own versions of files in /etc.
pub(crate) fn own_etc() -> PathBuf {
    Path::new(RUNTIME_IN_CELL).join("etc")
}

/// The finished root. Processes in the cell can't write to it; PID 1 can, by this handle.
#[derive(Debug)]
pub(crate) struct Root {
    /// A detached copy of the root's mount that is still writable.
    skeleton: OwnedFd,
    /// See [`Root::nobodies`].
    nobodies: Option<OwnedFd>,
}

impl Root {
    /// Builds the tree and makes it this process's root. The host's mounts are gone afterwards.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn build() -> io::Result<Self> {
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let top = mount::create_tmpfs(SKELETON_ROOM, 0o755)?;
        // Mounts can be attached only to an attached tree. This directory is hidden in this
        // namespace alone, until the root is changed.
        mount::attach(&top, CWD, RUNTIME)?;
        let nobodies = Owners::Hidden.namespace();
        let mut trees = HostTrees::new(nobodies.as_ref());
        show_host(&top, &mut trees)?;
        for (name, mode) in [("run", 0o755), ("tmp", 0o1777), ("var", 0o755)] {
            make_directory(&top, Path::new(name))?;
            mount::attach(mount::create_tmpfs(ROOM, mode)?, &top, name)?;
        }
        make_directory(&top, Path::new("proc"))?;
        mount::attach(mount::create_proc()?, &top, "proc")?;
        make_devices(&top)?;
        make_directories(&top)?;
        show_etc(&top, &mut trees)?;
        // The host's log can't be reached after this.
        trees.warn();
        enter(&top)?;
        let skeleton = mount::clone_tree(&top, "")?;
        mount::set_read_only(&top)?;
        let nobodies = nobodies.ok();
        Ok(Self { skeleton, nobodies })
    }

    /// The namespace of [`Owners::Hidden`], if the kernel could make one. With it the cell can read those of the host's
    /// files that everybody may read: not even root in the cell can open a file that only its owner may.
    pub(crate) fn nobodies(&self) -> Option<&OwnedFd> {
        self.nobodies.as_ref()
    }

    /// Attaches the detached `mount` at `target`, an absolute path, making the directory if needed.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn attach(&self, mount: &OwnedFd, target: &Path) -> io::Result<()> {
        make_directory(&self.skeleton, &relative(target))?;
        mount::attach(mount, CWD, target)
    }

    /// Removes the empty directory `target` and those above it that are empty then.
    pub(crate) fn forget(&self, target: &Path) {
        let target = relative(target);
        for directory in target.ancestors().filter(|d| !d.as_os_str().is_empty()) {
            // A directory that is in use stays, and so do those above it.
            if rustix::fs::unlinkat(&self.skeleton, directory, AtFlags::REMOVEDIR).is_err() {
                return;
            }
        }
    }
}

/// Checks, in a child, that this node's programs and settings can be shown to a cell.
///
/// # Errors
/// What can't be shown, in one line; `TimedOut` at `deadline`.
pub(crate) fn check_host(deadline: Instant) -> io::Result<()> {
    let job = Job::spawn(c"berth-look", || {
        (view_needed().map_err(|e| e.to_string()), None)
    })?;
    let ready = wait_readable(&job, deadline);
    job.kill();
    // A child that hangs in the kernel is not waited for.
    ready.map_err(|e| crate::sys::message(e, "look what a cell could be shown"))?;
    let outcome = job.outcome();
    let _ = waitpid(job.pid(), None);
    let (shown, _) = outcome.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
    shown.map_err(io::Error::other)
}

/// Makes the views of the host that no cell can do without, and attaches them nowhere.
fn view_needed() -> io::Result<()> {
    let nobodies = Owners::Hidden.namespace();
    let mut trees = HostTrees::new(nobodies.as_ref());
    let needed = SHARED.into_iter().filter(|name| *name != SPARED);
    for name in needed.chain(MERGED).chain(["etc"]) {
        let host = Path::new("/").join(name);
        if fs::symlink_metadata(&host).is_ok_and(|m| m.is_dir()) {
            trees.view(&host)?;
        }
    }
    Ok(())
}

fn show_host(top: &OwnedFd, trees: &mut HostTrees<'_>) -> io::Result<()> {
    for name in SHARED.into_iter().chain(MERGED) {
        let host = Path::new("/").join(name);
        match fs::symlink_metadata(&host) {
            Ok(m) if m.is_symlink() => {
                rustix::fs::symlinkat(fs::read_link(&host)?, top, name)?;
            }
            Ok(m) if m.is_dir() => {
                make_directory(top, Path::new(name))?;
                match trees.view(&host) {
                    Ok(view) => mount::attach(view, top, name)?,
                    Err(e) if name == SPARED => {
                        log::warn(format_args!("{e}: it is empty for the servers"));
                    }
                    Err(e) => return Err(e),
                }
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(crate::sys::message(e, host.display())),
        }
    }
    Ok(())
}

fn make_devices(top: &OwnedFd) -> io::Result<()> {
    make_directory(top, Path::new("dev"))?;
    mount::attach(mount::create_device_directory(DEVICES_ROOM)?, top, "dev")?;
    let dev = rustix::fs::openat(
        top,
        "dev",
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Numbers of the kernel's "memory" devices: Documentation/admin-guide/devices.txt.
    for (name, minor) in [
        ("null", 3),
        ("zero", 5),
        ("full", 7),
        ("random", 8),
        ("urandom", 9),
    ] {
        mount::make_node(&dev, name, 1, minor)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        rustix::fs::symlinkat(target, &dev, name)?;
    }
    rustix::fs::mkdirat(&dev, "shm", Mode::from_raw_mode(0o755))?;
    mount::attach(
        mount::create_tmpfs(SHARED_MEMORY_ROOM, 0o1777)?,
        &dev,
        "shm",
    )?;
    // A server that could replace /dev/null could make PID 1 and others wait.
    mount::freeze(&dev)
}

fn make_directories(top: &OwnedFd) -> io::Result<()> {
    for directory in [
        // Where servers look for the device nodes of their file systems: see service.rs.
        "devfs",
        "var/lib/berth",
        "var/log/samba",
        "var/cache/samba",
        "var/spool",
        "var/tmp",
        "run/lock",
        "run/berth/etc",
    ] {
        make_directory(top, Path::new(directory))?;
    }
    rustix::fs::chmodat(
        top,
        "var/tmp",
        Mode::from_raw_mode(0o1777),
        AtFlags::empty(),
    )?;
    rustix::fs::symlinkat("/run", top, "var/run")?;
    rustix::fs::symlinkat("/run/lock", top, "var/lock")?;
    Ok(())
}

/// Makes /etc: links to the entries of the host's /etc, but for those that are hidden or the cell's own.
///
/// Links, because programs replace files in /etc by renaming: a mount of a file would go on showing the old one.
fn show_etc(top: &OwnedFd, trees: &mut HostTrees<'_>) -> io::Result<()> {
    make_directory(top, Path::new(HOST_ETC))?;
    mount::attach(trees.view(Path::new("/etc"))?, top, HOST_ETC)?;
    mask(top)?;
    make_directory(top, Path::new("etc"))?;
    for entry in fs::read_dir("/etc")? {
        let name = entry?.file_name();
        let own = OWN.iter().chain(&MASKED).chain(&["mtab"]);
        if own.into_iter().any(|own| name == *own) {
            continue;
        }
        let target = Path::new("..").join(HOST_ETC).join(&name);
        rustix::fs::symlinkat(&target, top, Path::new("etc").join(&name))?;
    }
    for name in OWN {
        let target = own_etc().join(name);
        rustix::fs::symlinkat(&target, top, Path::new("etc").join(name))?;
    }
    // Not to /proc/mounts, as on some hosts: `subset=pid` hides that.
    rustix::fs::symlinkat("/proc/self/mounts", top, "etc/mtab")?;
    Ok(())
}

/// Hides [`MASKED`] behind an empty file or directory.
fn mask(top: &OwnedFd) -> io::Result<()> {
    for name in MASKED {
        let path = Path::new(HOST_ETC).join(name);
        let stat = match rustix::fs::statat(top, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(e) => return Err(crate::sys::message(e.into(), path.display())),
        };
        let cover = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => mount::create_tmpfs(COVER_ROOM, 0o555)?,
            rustix::fs::FileType::RegularFile => mount::clone_tree(top, "dev/null")?,
            // A link needs no cover: its target is hidden or not under its own name.
            _ => continue,
        };
        mount::set_read_only(&cover)?;
        mount::attach(cover, top, &path)?;
    }
    Ok(())
}
