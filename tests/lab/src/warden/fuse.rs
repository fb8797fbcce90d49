//! A file that is a shared disk's image, served through FUSE (linux/fuse.h, protocol 7.31).
//!
//! The file system's root is the file itself. One thread answers one request after the other, so
//! that a cut takes effect between two requests: what was answered before is on the image, what
//! comes after fails. `qemu-storage-daemon` could not be used: up to version 10.0 its FUSE export
//! reads the next request into the buffer of a write that is still being done, and swaps blocks.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Context, Result};

const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const DESTROY: u32 = 38;
const FALLOCATE: u32 = 43;
/// FORGET, INTERRUPT, BATCH_FORGET.
const UNANSWERED: [u32; 3] = [2, 36, 42];

const HEADER: usize = 40;
const MAX_WRITE: u32 = 1 << 20;
/// Room for the largest write with its headers.
const BUFFER: usize = MAX_WRITE as usize + 4096;
const FOPEN_DIRECT_IO: u32 = 1;
/// ASYNC_READ, BIG_WRITES, ASYNC_DIO, PARALLEL_DIROPS, MAX_PAGES.
const INIT_FLAGS: u32 = 1 | (1 << 5) | (1 << 15) | (1 << 18) | (1 << 22);

/// An image being served. Dropping it ends the service.
#[derive(Debug)]
pub struct Export {
    at: PathBuf,
    image: Arc<Mutex<Image>>,
}

#[derive(Debug)]
struct Image {
    file: File,
    size: u64,
    good: bool,
}

impl Export {
    /// Serves `image` as the file `at`, which must exist.
    ///
    /// # Errors
    /// If the kernel does not let it be mounted.
    pub fn serve(image: &Path, at: &Path) -> Result<Self> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        let file = open(image).context(image.display())?;
        let size = file.metadata().context(image.display())?.len();
        let channel = open(Path::new("/dev/fuse")).context("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode=100600,user_id=0,group_id=0,max_read={MAX_WRITE}",
            channel.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some("berth-lab"),
            at,
            Some("fuse"),
            flags,
            Some(options.as_str()),
        )
        .context(format!("mount {}", at.display()))?;
        let good = true;
        let image = Arc::new(Mutex::new(Image { file, size, good }));
        let served = Arc::clone(&image);
        thread::spawn(move || converse(channel, &served));
        Ok(Self {
            at: at.to_owned(),
            image,
        })
    }

    /// From the return of this call on every access fails, or none does.
    pub fn set_good(&self, good: bool) {
        self.image
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .good = good;
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // The thread ends when the last user of the file is gone. Not mounted: it has ended already.
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn converse(mut channel: File, image: &Mutex<Image>) {
    let mut request = vec![0; BUFFER];
    loop {
        let length = match channel.read(&mut request) {
            Ok(length) => length,
            // ENOENT: the request was withdrawn before it was read.
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => continue,
            // ENODEV: unmounted.
            Err(_) => return,
        };
        let Some(header) = request[..length].first_chunk::<HEADER>() else {
            return;
        };
        let opcode = u32_at(header, 4);
        if UNANSWERED.contains(&opcode) {
            continue;
        }
        let result = image
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answer(opcode, &request[HEADER..length]);
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(e) => (-(e as i32), vec![]),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend(
            u32::try_from(16 + body.len())
                .unwrap_or(u32::MAX)
                .to_ne_bytes(),
        );
        reply.extend(error.to_ne_bytes());
        reply.extend(&header[8..16]);
        reply.extend(body);
        // ENOENT: nobody waits for the answer any more. Other failures show at the next read.
        let _ = channel.write(&reply);
    }
}

impl Image {
    fn answer(&self, opcode: u32, body: &[u8]) -> nix::Result<Vec<u8>> {
        if !self.good && [READ, WRITE, FSYNC, FALLOCATE].contains(&opcode) {
            return Err(Errno::EIO);
        }
        match opcode {
            INIT => Ok(init()),
            GETATTR => Ok(self.attributes()),
            OPEN => Ok(words(&[0, 0, FOPEN_DIRECT_IO, 0])),
            READ => self.read(body),
            WRITE => self.write(body),
            FALLOCATE => self.deallocate(body),
            STATFS => Ok(words(&[
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0,
            ])),
            RELEASE | FSYNC | FLUSH | DESTROY => Ok(vec![]),
            _ => Err(Errno::ENOSYS),
        }
    }

    fn read(&self, body: &[u8]) -> nix::Result<Vec<u8>> {
        let (offset, size) = (long(body, 8)?, int(body, 16)?.min(MAX_WRITE));
        let mut data = vec![0; size as usize];
        let read = self
            .file
            .read_at(&mut data, offset)
            .map_err(|_| Errno::EIO)?;
        data.truncate(read);
        Ok(data)
    }

    fn write(&self, body: &[u8]) -> nix::Result<Vec<u8>> {
        let (offset, size) = (long(body, 8)?, int(body, 16)?);
        let data = body.get(40..40 + size as usize).ok_or(Errno::EINVAL)?;
        if offset + u64::from(size) > self.size {
            return Err(Errno::ENOSPC);
        }
        self.file
            .write_all_at(data, offset)
            .map_err(|_| Errno::EIO)?;
        Ok(words(&[size, 0]))
    }

    /// Both what discards and what writes zeros makes a hole, which reads as zeros.
    fn deallocate(&self, body: &[u8]) -> nix::Result<Vec<u8>> {
        let (offset, length) = (long(body, 8)?, long(body, 16)?);
        // The same bits, as fallocate(2) has them.
        let mode = FallocateFlags::from_bits_truncate(int(body, 24)? as i32);
        let zeros = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_ZERO_RANGE;
        if !mode.intersects(zeros) || offset.saturating_add(length) > self.size {
            return Err(Errno::EOPNOTSUPP);
        }
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let signed = |value: u64| libc::off_t::try_from(value).map_err(|_| Errno::EINVAL);
        fallocate(&self.file, hole, signed(offset)?, signed(length)?)?;
        Ok(vec![])
    }

    fn attributes(&self) -> Vec<u8> {
        // Valid for 0 s; inode 1; all times 0.
        let mut out = words(&[0; 4]);
        for value in [1, self.size, self.size / 512, 0, 0, 0] {
            out.extend(value.to_ne_bytes());
        }
        let (mode, links, block_size) = (libc::S_IFREG | 0o600, 1, 4096);
        out.extend(words(&[0, 0, 0, mode, links, 0, 0, 0, block_size, 0]));
        out
    }
}

fn init() -> Vec<u8> {
    let background = u32::from_ne_bytes([64, 0, 48, 0]);
    let max_pages = MAX_WRITE / 4096;
    let mut out = words(&[
        7, 31, MAX_WRITE, INIT_FLAGS, background, MAX_WRITE, 1, max_pages,
    ]);
    out.resize(64, 0);
    out
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    int(bytes, at).unwrap_or_default()
}

fn int(bytes: &[u8], at: usize) -> nix::Result<u32> {
    let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
    part.map(|b| u32::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}

fn long(bytes: &[u8], at: usize) -> nix::Result<u64> {
    let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
    part.map(|b| u64::from_ne_bytes(*b)).ok_or(Errno::EINVAL)
}
