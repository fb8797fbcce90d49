//! Questions to a device that may never answer: asked in children, which are left behind at the deadline.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::poll::wait;
use crate::sys::{message, process};

/// Direct I/O wants offset, length and memory in multiples of the device's block.
const ALIGNMENT: usize = 4096;

/// What a child reports before any data: 0, or the error number.
const STATUS: usize = size_of::<i32>();

/// A child that asks a device, and the pipe by which it reports.
#[derive(Debug)]
struct Inquiry {
    child: Pid,
    pipe: OwnedFd,
    report: Vec<u8>,
}

impl Inquiry {
    /// Starts a child that runs `work` with its end of the pipe.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    ///
    /// # Safety
    /// As of [`process::fork`]. This process may have several threads, so `work` makes system calls on memory that it
    /// has already, and nothing else; it uses no descriptor but the pipe and what it opens itself.
    unsafe fn start(work: impl FnOnce(BorrowedFd<'_>)) -> io::Result<Self> {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let parent = Pid::this();
        let ask = || {
            // It may outlive its parent, and must not keep its locks and sockets open.
            // SAFETY: this child ends without a destructor of what it closes, and `work` uses none of it.
            unsafe { process::close_all_but(&mut [theirs.as_raw_fd()]) };
            // One whose parent was killed would open the device at any later time, when it was said to be
            // free.
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            if Pid::parent() == parent {
                work(theirs.as_fd());
            }
            0
        };
        // SAFETY: the caller's promise, and all that comes before `work` is system calls.
        let child = unsafe { process::fork(ask) }?;
        Ok(Self {
            child,
            pipe: ours,
            report: vec![],
        })
    }

    /// Takes what the pipe has now; `true` when the report is complete. Waits if there is nothing yet.
    fn pump(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 32768];
        let n = rustix::io::read(&self.pipe, &mut buffer)?;
        self.report.extend_from_slice(&buffer[..n]);
        Ok(n == 0)
    }

    fn wait(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            let ready = poll_until(&[self.pipe.as_fd()], deadline)?;
            if ready.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the device does not answer",
                ));
            }
            if self.pump()? {
                return Ok(());
            }
        }
    }

    /// The data of a complete report, or the error that the child met.
    fn outcome(&self) -> io::Result<&[u8]> {
        let (status, data) = self.report.split_first_chunk::<STATUS>().ok_or_else(died)?;
        match i32::from_ne_bytes(*status) {
            0 => Ok(data),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// The error of a report that is not complete.
fn died() -> io::Error {
    io::Error::other("the child that asks the device died")
}

impl Drop for Inquiry {
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

/// Which of `fds` can be read; none of them at `deadline`.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn poll_until(fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<Vec<usize>> {
    let polled = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
    let mut polled: Vec<PollFd<'_>> = polled.collect();
    match wait(&mut polled, deadline) {
        Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(vec![]),
        waited => waited?,
    }
    let ready = polled
        .iter()
        .enumerate()
        .filter(|(_, fd)| fd.any() == Some(true));
    Ok(ready.map(|(at, _)| at).collect())
}

/// A reading under way, in a child.
#[derive(Debug)]
pub(crate) struct Reading {
    inquiry: Inquiry,
    /// How many bytes before the wanted ones are read for the alignment's sake.
    skip: usize,
    len: usize,
}

impl AsFd for Reading {
    /// Readable when there is something for [`Reading::advance`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inquiry.pipe.as_fd()
    }
}

impl Reading {
    /// Starts to read `len` bytes at `offset`.
    ///
    /// # Errors
    /// If no child can be started.
    pub(crate) fn start(path: &Path, offset: u64, len: usize) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let skip = usize::try_from(offset % ALIGNMENT as u64).map_err(io::Error::other)?;
        let whole = (skip + len).next_multiple_of(ALIGNMENT);
        let mut memory = vec![0u8; whole + ALIGNMENT];
        let aligned = memory.as_ptr().align_offset(ALIGNMENT);
        let begin = offset - skip as u64;
        // SAFETY: as `start` wants it, only open, pread and write, on memory that was allocated above.
        let inquiry = unsafe {
            Inquiry::start(|pipe| {
                let report = read_all(&path, begin, &mut memory[aligned..][..whole]);
                let (status, data) = match &report {
                    Ok(data) => (0, *data),
                    Err(errno) => (errno.raw_os_error(), &[][..]),
                };
                write_all(pipe, &status.to_ne_bytes());
                write_all(pipe, data);
            })
        }?;
        Ok(Self { inquiry, skip, len })
    }

    /// A read that never ends.
    #[cfg(test)]
    pub(crate) fn stuck() -> io::Result<Self> {
        // SAFETY: as `start` wants it, the child only waits for the signal that ends it.
        let inquiry = unsafe {
            Inquiry::start(|_| {
                loop {
                    let _ = crate::sys::poll::poll(&mut [], None);
                }
            })
        }?;
        Ok(Self {
            inquiry,
            skip: 0,
            len: 1,
        })
    }

    /// Takes what has come; `true` when it is complete.
    ///
    /// # Errors
    /// The errors of the pipe.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        self.inquiry.pump()
    }

    /// The bytes of a reading that is complete: fewer if the device is shorter.
    ///
    /// # Errors
    /// The device's own.
    pub(crate) fn bytes(self) -> io::Result<Vec<u8>> {
        let data = self.inquiry.outcome()?.iter();
        Ok(data.skip(self.skip).take(self.len).copied().collect())
    }

    /// Waits for the bytes: fewer if the device is shorter.
    ///
    /// # Errors
    /// The device's own; `TimedOut` at `deadline`.
    pub(crate) fn finish(mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        self.inquiry.wait(deadline)?;
        self.bytes()
    }
}

/// Opens a device exclusively, has all that is dirty in its cache written, and drops the cache: what a
/// program that was killed has written would reach the medium up to half a minute later, and what another
/// node has written since would not be seen. Returns what the flush came to.
///
/// # Errors
/// Those of the open, by number: `ResourceBusy` if somebody claims the device; `TimedOut` at `deadline`, and
/// whatever keeps this process from asking, without a number.
pub(crate) fn claim(path: &Path, deadline: Instant) -> io::Result<io::Result<()>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: as `start` wants it, only open, fsync, ioctl, close and write, on memory that is there.
    let mut inquiry = unsafe {
        Inquiry::start(|pipe| {
            let (opened, flushed) = claim_and_flush(&path);
            write_all(pipe, &opened.to_ne_bytes());
            write_all(pipe, &flushed.to_ne_bytes());
        })
    }
    // That there can be no more processes says nothing about the device.
    .map_err(|e| message(e, "start a child"))?;
    inquiry.wait(deadline).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => e,
        _ => message(e, "wait for the child that asks the device"),
    })?;
    flushed(&inquiry)
}

/// The result of a flush, as reported by a child that has opened the device.
fn flushed(inquiry: &Inquiry) -> io::Result<io::Result<()>> {
    // Where the child was killed before it said so, nobody knows.
    let flushed = inquiry.outcome()?.first_chunk().ok_or_else(died)?;
    Ok(match i32::from_ne_bytes(*flushed) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    })
}

/// In the child: the error number of the open, and that of the flush.
fn claim_and_flush(path: &CStr) -> (i32, i32) {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::EXCL;
    let device = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(device) => device,
        Err(errno) => return (errno.raw_os_error(), 0),
    };
    let written = rustix::fs::fsync(&device);
    let dropped = drop_cache(device.as_fd());
    drop(device);
    let flushed = written.and(dropped);
    // The report is not made before the claim is given up.
    (0, flushed.map_or_else(Errno::raw_os_error, |()| 0))
}

/// Drops what the kernel has cached of a block device.
fn drop_cache(device: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `_IO(0x12, 97)`, linux/fs.h.
    const BLKFLSBUF: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 97);
    // SAFETY: this ioctl has no argument and changes no memory of this process.
    unsafe { rustix::ioctl::ioctl(device, rustix::ioctl::NoArg::<BLKFLSBUF>::new()) }
}

/// In the child: fills `memory` past the page cache where the device allows it. What the cache holds
/// may be older than what another node wrote.
fn read_all<'m>(path: &CStr, begin: u64, memory: &'m mut [u8]) -> Result<&'m [u8], Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    let device = match open(flags | OFlags::DIRECT) {
        Err(Errno::INVAL) => open(flags),
        opened => opened,
    }?;
    let mut filled = 0;
    while filled < memory.len() {
        match rustix::io::pread(&device, &mut memory[filled..], begin + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(&memory[..filled])
}

/// In the child.
fn write_all(pipe: BorrowedFd<'_>, mut data: &[u8]) {
    while !data.is_empty() {
        match rustix::io::write(pipe, data) {
            Ok(n) if n > 0 => data = &data[n..],
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
    fn a_report_of_a_flush_that_is_cut_off_is_none_of_success() {
        let told = |report: &[i32]| {
            let report: Vec<u8> = report.iter().flat_map(|n| n.to_ne_bytes()).collect();
            // SAFETY: as `start` wants it, the child only writes what is there.
            let mut inquiry = unsafe { Inquiry::start(|pipe| write_all(pipe, &report)) }.unwrap();
            inquiry.wait(soon()).unwrap();
            flushed(&inquiry)
        };
        assert!(matches!(told(&[0, 0]), Ok(Ok(()))));
        let errno = |e: io::Error| e.raw_os_error();
        assert_eq!(
            told(&[0, libc::EIO]).unwrap().map_err(errno),
            Err(Some(libc::EIO))
        );
        assert_eq!(
            told(&[libc::EBUSY, 0]).map_err(errno).unwrap_err(),
            Some(libc::EBUSY)
        );
        assert_eq!(
            told(&[0]).map_err(errno).unwrap_err(),
            None,
            "killed in between"
        );
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
        let stuck = Reading::stuck().unwrap();
        let child = stuck.inquiry.child;
        let error = stuck.finish(Instant::now() + Duration::from_millis(30));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
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
        let error = claim(&path, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
