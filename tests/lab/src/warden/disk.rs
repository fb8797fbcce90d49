//! Shared disks: one image each, and for every node its own path to it.
//!
//! A path is an export of the image as a file, and a loop device on that file. So each node has
//! another device number and a page cache of its own, as hosts on one LUN have, and a double mount
//! really corrupts.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fuse::Export;
use crate::error::{Context, Result};
use crate::loop_device;
use crate::wait::wait_for;

const RELEASE_LIMIT: Duration = Duration::from_secs(20);

/// One node's path to one disk.
#[derive(Debug)]
pub struct DiskPath {
    export: Export,
    at: PathBuf,
    loop_number: u32,
    label: String,
}

impl DiskPath {
    /// Opens a path to `image` through the file `at`; `label` marks the loop device as the lab's.
    ///
    /// # Errors
    /// If the image can't be exported, or there is no loop device to be had.
    pub fn open(image: &Path, at: &Path, label: &str) -> Result<Self> {
        File::create(at).context(at.display())?;
        let export = Export::serve(image, at)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(at)
            .context(at.display())?;
        Ok(Self {
            loop_number: loop_device::attach(&file, label)?,
            label: label.to_owned(),
            export,
            at: at.to_owned(),
        })
    }

    /// Number of the loop device.
    pub fn loop_number(&self) -> u32 {
        self.loop_number
    }

    /// The path breaks, so that every access fails and what the node had not written is lost; or it
    /// works again.
    pub fn set_good(&self, good: bool) {
        self.export.set_good(good);
    }

    /// Takes the path away. The node must have lost its power or its use of the device before.
    ///
    /// # Errors
    /// If something still holds the loop device after a while.
    pub fn close(self) -> Result<()> {
        wait_for(
            format_args!("loop{} to be free", self.loop_number),
            RELEASE_LIMIT,
            || loop_device::detach(self.loop_number, &self.label),
        )?;
        drop(self.export);
        fs::remove_file(&self.at).context(self.at.display())
    }
}

/// Makes a sparse image.
///
/// # Errors
/// If there is no room for its name.
pub fn create_image(path: &Path, mib: u64) -> Result<()> {
    let file = File::create(path).context(path.display())?;
    file.set_len(mib << 20).context(path.display())
}
