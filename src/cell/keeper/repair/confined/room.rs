//! The file tree of a program of a repair: a root of its own, in which it can write nothing but its device and the one
//! file in which it keeps what it overwrites.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::cell::tree::{MERGED, enter, make_directory, relative};
use crate::sys::mount;

/// The files that the programs read in /etc: their own settings, and where libraries are.
const SETTINGS: [&str; 3] = ["/etc/e2fsck.conf", "/etc/mke2fs.conf", "/etc/ld.so.cache"];

/// Room for directories, links and nodes.
const SKELETON: mount::Room = mount::Room {
    bytes: 1 << 20,
    inodes: 256,
};

/// What the tree has beside programs and libraries.
#[derive(Debug)]
pub(crate) struct Room {
    /// The device's node and its number, if it is there.
    pub(crate) device: Option<(PathBuf, u64)>,
    /// The file that may be written.
    pub(crate) kept: Option<PathBuf>,
}

impl Room {
    /// Builds the tree and makes it this process's root. Everything has the same path as on the host, so that the
    /// program's messages are right.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn build(&self) -> io::Result<()> {
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        let top = mount::create_device_directory(SKELETON)?;
        // Cloned first: what is attached later hides what is below.
        let kept = self.kept.as_deref();
        let kept = kept.map(|path| Ok::<_, io::Error>((mount::clone_tree(CWD, path)?, path)));
        let kept = kept.transpose()?;
        let mut views = vec![];
        for name in MERGED.into_iter().chain(["usr"]) {
            views.extend(show(&top, Path::new("/"), name)?);
        }
        for path in SETTINGS.map(Path::new) {
            if path.is_file() {
                views.push((mount::view(path)?, path.to_owned()));
            }
        }
        // Mounts can be attached only to an attached tree. It hides /proc in this namespace alone.
        mount::attach(&top, CWD, "/proc")?;
        for (view, path) in &views {
            match SETTINGS.map(Path::new).contains(&path.as_path()) {
                true => make_file(&top, path)?,
                false => make_directory(&top, &relative(path))?,
            }
            mount::attach(view, &top, relative(path))?;
        }
        make_directory(&top, Path::new("proc"))?;
        mount::attach(mount::create_proc()?, &top, "proc")?;
        make_directory(&top, Path::new("etc"))?;
        rustix::fs::symlinkat("/proc/self/mounts", &top, "etc/mtab")?;
        self.make_devices(&top)?;
        if let Some((file, path)) = kept {
            make_file(&top, path)?;
            mount::attach(file, &top, relative(path))?;
        }
        enter(&top)?;
        mount::freeze(&top)
    }

    fn make_devices(&self, top: &OwnedFd) -> io::Result<()> {
        make_directory(top, Path::new("dev"))?;
        // Numbers of the kernel's "memory" devices: Documentation/admin-guide/devices.txt.
        for (name, minor) in [("dev/null", 3), ("dev/zero", 5), ("dev/urandom", 9)] {
            mount::make_node(top, name, 1, minor)?;
        }
        if let Some((path, number)) = &self.device {
            let path = relative(path);
            make_directory(top, path.parent().unwrap_or(Path::new("")))?;
            mount::make_block_node(top, &path, *number)?;
        }
        Ok(())
    }
}

/// Shows a directory of the host in the tree: a read-only view of it, or the same symbolic link as on the host.
fn show(top: &OwnedFd, root: &Path, name: &str) -> io::Result<Option<(OwnedFd, PathBuf)>> {
    let host = root.join(name);
    match fs::symlink_metadata(&host) {
        Ok(m) if m.is_symlink() => {
            rustix::fs::symlinkat(fs::read_link(&host)?, top, name)?;
            Ok(None)
        }
        Ok(m) if m.is_dir() => Ok(Some((mount::view(&host)?, host))),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(crate::sys::message(e, host.display())),
    }
}

/// Makes an empty file for something to be mounted over.
fn make_file(top: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = relative(path);
    make_directory(top, path.parent().unwrap_or(Path::new("")))?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(top, &path, flags, Mode::from_raw_mode(0o600))
        .map(drop)
        .map_err(|e| crate::sys::message(e.into(), path.display()))
}
