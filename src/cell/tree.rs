//! Builds a file tree that becomes a process's root: that of a cell, and that of a repair's programs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// Links to /usr on merged systems, directories of their own on others.
pub(crate) const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// A path below the root, without what leads upwards.
pub(crate) fn relative(path: &Path) -> PathBuf {
    path.components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect()
}

/// Changes the root to `top` and drops the old one (`pivot_root(".", ".")`, see pivot_root(2)).
pub(crate) fn enter(top: &OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(top)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Makes `path` and what is missing above it, below `top`.
pub(crate) fn make_directory(top: &OwnedFd, path: &Path) -> io::Result<()> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        so_far.push(part);
        match rustix::fs::mkdirat(top, &so_far, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => {
                return Err(crate::sys::message(
                    e.into(),
                    format_args!("make directory /{}", so_far.display()),
                ));
            }
        }
    }
    Ok(())
}
