//! Programs of the lab's system that work on the disks' images: the machines get file systems as their
//! own mkfs makes them.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{chdir, chroot};

use crate::error::{Context, Error, Result};
use crate::process::{command, run};
use crate::rootfs;
use crate::system::System;

const MKFS_LIMIT: Duration = Duration::from_secs(60);
/// Where the images are in the tools' root directory.
const IMAGES: &str = "/mnt";

/// A root directory with the system's programs and the images.
#[derive(Debug)]
pub struct Tools {
    root: CString,
}

impl Tools {
    /// Builds it below the lab's `private` directory.
    ///
    /// # Errors
    /// If a mount is refused.
    pub fn build(system: &System, private: &Path) -> Result<Self> {
        let root = rootfs::show(system, None, &private.join("tools"))?;
        rootfs::kernel(&root)?;
        rootfs::bind(&private.join("images"), &root.join(&IMAGES[1..]))?;
        let root = CString::new(root.as_os_str().as_bytes()).context("the tools' directory")?;
        Ok(Self { root })
    }

    /// Makes a file system on the image of `disk`, with the disk's name as its label.
    ///
    /// # Errors
    /// If the lab knows no such kind, or mkfs fails.
    pub fn mkfs(&self, disk: &str, kind: &str) -> Result<()> {
        let force = match kind {
            "ext4" => "-F",
            "xfs" | "btrfs" => "-f",
            _ => {
                let line = format!("file system {kind:?}: must be ext4, xfs or btrfs");
                return Err(Error::new(line));
            }
        };
        let mut mkfs = command(format!("mkfs.{kind}"));
        let image = format!("{IMAGES}/{disk}");
        mkfs.args(["-q", force, "-L", disk, &image]);
        let root = self.root.clone();
        // SAFETY: two system calls on constant strings between fork and exec.
        unsafe {
            mkfs.pre_exec(move || {
                chroot(root.as_c_str())?;
                Ok(chdir(c"/")?)
            });
        }
        run(mkfs, "", MKFS_LIMIT)?.check(format!("mkfs.{kind} on {disk}"))?;
        Ok(())
    }
}
