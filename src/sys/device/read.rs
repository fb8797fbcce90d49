//! Reading from a device that may never answer.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Direct I/O wants offset, length and memory in multiples of the device's block.
const ALIGNMENT: usize = 4096;

/// A reading under way, in a child.
pub struct Reading {
    child: Pid,
    pipe: OwnedFd,
    /// How many bytes before the wanted ones are read for the alignment's sake.
    skip: usize,
    len: usize,
}

/// What the child reports before the data: 0, or the error number.
const STATUS: usize = size_of::<i32>();

impl Reading {
    /// Starts to read `len` bytes at `offset`.
    pub fn start(path: &Path, offset: u64, len: usize) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let skip = usize::try_from(offset % ALIGNMENT as u64).map_err(io::Error::other)?;
        let whole = (skip + len).next_multiple_of(ALIGNMENT);
        let mut memory = vec![0u8; whole + ALIGNMENT];
        let aligned = memory.as_ptr().align_offset(ALIGNMENT);
        let begin = libc::off_t::try_from(offset - skip as u64).map_err(io::Error::other)?;
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // SAFETY: the child makes system calls on memory it has already, and ends by _exit.
        match unsafe { fork() }? {
            ForkResult::Child => {
                close_all_but(theirs.as_raw_fd());
                let report = read_all(&path, begin, &mut memory[aligned..][..whole]);
                let (status, data) = match &report {
                    Ok(data) => (0, *data),
                    Err(errno) => (*errno, &[][..]),
                };
                write_all(theirs.as_raw_fd(), &status.to_ne_bytes());
                write_all(theirs.as_raw_fd(), data);
                // SAFETY: ends this process without running anything of its parent's.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self {
                child,
                pipe: ours,
                skip,
                len,
            }),
        }
    }

    /// Waits for the bytes: fewer if the device is shorter.
    ///
    /// # Errors
    /// The device's own; `TimedOut` at `deadline`.
    pub fn finish(self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut report = vec![];
        let mut buffer = [0; 32768];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the device does not answer",
                    ));
                }
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => match rustix::io::read(&self.pipe, &mut buffer)? {
                    0 => break,
                    n => report.extend_from_slice(&buffer[..n]),
                },
                Err(e) => return Err(e.into()),
            }
        }
        let (status, data) = report
            .split_first_chunk::<STATUS>()
            .ok_or_else(|| io::Error::other("the reading child died"))?;
        match i32::from_ne_bytes(*status) {
            0 => Ok(data
                .iter()
                .skip(self.skip)
                .take(self.len)
                .copied()
                .collect()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl Drop for Reading {
    /// Leaves no child behind that can be ended. One that waits for a dead device is a zombie's
    /// worth of memory until the device gives up.
    fn drop(&mut self) {
        let _ = kill(self.child, Signal::SIGKILL);
        // It has closed its pipe or is killed: what is not dead within this poll never will be soon.
        for _ in 0..20 {
            match waitpid(self.child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                _ => return,
            }
        }
    }
}

/// In the child: it may outlive its parent, and must not keep its locks and sockets open.
fn close_all_but(kept: RawFd) {
    let kept = kept.unsigned_abs();
    // SAFETY: the child, which ends by _exit, uses none of the descriptors it closes here.
    unsafe {
        if kept > 0 {
            libc::close_range(0, kept - 1, 0);
        }
        libc::close_range(kept + 1, u32::MAX, 0);
    }
}

/// In the child: fills `memory` past the page cache where the device allows it. What the cache holds
/// may be older than what another node wrote.
fn read_all<'m>(
    path: &CString,
    begin: libc::off_t,
    memory: &'m mut [u8],
) -> Result<&'m [u8], libc::c_int> {
    const FLAGS: libc::c_int = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: open, pread and the errno location take valid pointers that live through the calls.
    unsafe {
        let mut fd = libc::open(path.as_ptr(), FLAGS | libc::O_DIRECT);
        if fd < 0 && *libc::__errno_location() == libc::EINVAL {
            fd = libc::open(path.as_ptr(), FLAGS);
        }
        if fd < 0 {
            return Err(*libc::__errno_location());
        }
        let mut filled = 0;
        while filled < memory.len() {
            let rest = &mut memory[filled..];
            let offset = begin + filled as libc::off_t;
            match libc::pread(fd, rest.as_mut_ptr().cast(), rest.len(), offset) {
                0 => break,
                n if n > 0 => filled += n as usize,
                _ if *libc::__errno_location() == libc::EINTR => {}
                _ => return Err(*libc::__errno_location()),
            }
        }
        Ok(&memory[..filled])
    }
}

fn write_all(fd: RawFd, mut data: &[u8]) {
    while !data.is_empty() {
        // SAFETY: write takes a valid pointer and its length.
        match unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) } {
            n if n > 0 => data = &data[n as usize..],
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn the_wanted_bytes_come_back_whatever_their_alignment() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        for (offset, len) in [
            (0, 8192),
            (5000, 1024),
            (4095, 2),
            (19_990, 1024),
            (30_000, 5),
        ] {
            let read = Reading::start(file.path(), offset, len).unwrap();
            let from = (offset as usize).min(content.len());
            let to = (from + len).min(content.len());
            assert_eq!(read.finish(soon()).unwrap(), &content[from..to]);
        }
    }

    #[test]
    fn what_never_answers_is_left_at_the_deadline() {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // SAFETY: the child only waits for the signal that ends it.
        let child = match unsafe { fork() }.unwrap() {
            ForkResult::Child => loop {
                // SAFETY: pause has no arguments.
                unsafe { libc::pause() };
            },
            ForkResult::Parent { child } => child,
        };
        let stuck = Reading {
            child,
            pipe: ours,
            skip: 0,
            len: 1,
        };
        let error = stuck.finish(Instant::now() + Duration::from_millis(30));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(theirs);
        // It was killed, and reaped unless the machine was too busy for it to die at once.
        let killed = match waitpid(child, None) {
            Err(nix::errno::Errno::ECHILD) => true,
            Ok(WaitStatus::Signaled(_, signal, _)) => signal == Signal::SIGKILL,
            _ => false,
        };
        assert!(killed);
    }

    #[test]
    fn the_errors_of_the_device_come_back() {
        let path = tempfile::tempdir().unwrap().path().join("missing");
        let error = Reading::start(&path, 0, 10).unwrap().finish(soon());
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
