//! Loop devices, each labelled with what it belongs to, so that even one whose owner was killed is
//! found again.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Context, Error, Result};

const LABEL_SIZE: usize = 64;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LO_FLAGS_PARTSCAN: u32 = 8;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// How often another process may snatch the free device away.
const RACES: u32 = 100;

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    label: [u8; LABEL_SIZE],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        label: [0; LABEL_SIZE],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// A loop device that is detached when the value is dropped. It is read and written through the page cache of its file.
#[derive(Debug)]
pub struct LoopDevice {
    number: u32,
    label: String,
    path: PathBuf,
}

impl LoopDevice {
    /// Attaches a free loop device to the file at this path, by which it is labelled.
    ///
    /// # Errors
    /// If the file can't be opened for writing, or there is no loop device.
    pub fn on(file: &Path) -> Result<Self> {
        Self::with_flags(file, 0)
    }

    /// The same of a disk with partitions, which have devices of their own.
    ///
    /// # Errors
    /// As [`LoopDevice::on`].
    pub fn with_partitions(file: &Path) -> Result<Self> {
        Self::with_flags(file, LO_FLAGS_PARTSCAN)
    }

    fn with_flags(file: &Path, flags: u32) -> Result<Self> {
        let label = file.display().to_string();
        let number = configure(&open(file.to_owned())?, &label, flags)?;
        let path = device(number);
        Ok(Self {
            number,
            label,
            path,
        })
    }

    /// Where the device is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // What still has it open is told: the kernel detaches it when that is over.
        if let Err(e) = detach(self.number, &self.label) {
            eprintln!("{}: {e}", self.path.display());
        }
    }
}

/// Attaches a free loop device, with direct I/O, to `file`, and returns its number.
///
/// # Errors
/// If there is no loop device, or `file` can't back one.
pub fn attach(file: &File, label: &str) -> Result<u32> {
    configure(file, label, LO_FLAGS_DIRECT_IO)
}

fn configure(file: &File, label: &str, flags: u32) -> Result<u32> {
    let control = open(PathBuf::from("/dev/loop-control"))?;
    let mut info = Info::EMPTY;
    info.flags = flags;
    let text = label.as_bytes();
    let length = text.len().min(LABEL_SIZE - 1);
    info.label[..length].copy_from_slice(&text[..length]);
    for _ in 0..RACES {
        // SAFETY: takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        // Neither a number nor a descriptor is negative.
        let number = Errno::result(number).context("get a free loop device")? as u32;
        let device = open(device(number))?;
        let config = Config {
            fd: file.as_raw_fd() as u32,
            block_size: 0,
            info,
            reserved: [0; 8],
        };
        // SAFETY: `config` is a valid loop_config for the whole call.
        let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match Errno::result(done) {
            Ok(_) => return Ok(number),
            // Somebody else was faster.
            Err(Errno::EBUSY) => {}
            Err(e) => return Err(e).context(format!("attach loop{number} for {label}")),
        }
    }
    Err(Error::new(format!(
        "no loop device for {label} in {RACES} attempts"
    )))
}

/// Detaches loop device `number`, if it is still the one whose label begins with `prefix`: when the kernel has
/// detached it, somebody else may have got the number.
///
/// # Errors
/// While something has it open. The kernel then detaches it when the last one closes it.
pub fn detach(number: u32, prefix: &str) -> Result<()> {
    if !is_attached(number) {
        return Ok(());
    }
    // As long as it is open here it can't become another one.
    let file = open(device(number))?;
    if !is_labelled(&file, prefix) {
        return Ok(());
    }
    // SAFETY: takes no argument.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CLR_FD) };
    drop(file);
    match Errno::result(done) {
        Ok(_) | Err(Errno::ENXIO) if !belongs_to(number, prefix) => Ok(()),
        Ok(_) | Err(Errno::ENXIO) => Err(Error::new("still in use")),
        Err(e) => Err(e).context(format!("detach loop{number}")),
    }
}

fn is_attached(number: u32) -> bool {
    PathBuf::from(format!("/sys/block/loop{number}/loop")).exists()
}

/// Whether loop device `number` is attached and its label begins with `prefix`. The label of one
/// whose file is out of reach, its server having been killed, can't be read: it counts too.
pub fn belongs_to(number: u32, prefix: &str) -> bool {
    let file = open(device(number)).ok().filter(|_| is_attached(number));
    file.is_some_and(|file| is_labelled(&file, prefix))
}

fn is_labelled(file: &File, prefix: &str) -> bool {
    let mut info = Info::EMPTY;
    // SAFETY: `info` is a valid loop_info64 to be filled.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    match Errno::result(done) {
        // A longer one was cut off when it was attached.
        Ok(_) => {
            let length = prefix.len().min(LABEL_SIZE - 1);
            info.label.starts_with(&prefix.as_bytes()[..length])
        }
        Err(e) => e != Errno::ENXIO,
    }
}

fn device(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn open(path: PathBuf) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_CLOEXEC);
    options.open(&path).context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_size() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
