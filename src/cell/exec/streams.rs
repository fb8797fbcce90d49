//! Pipes in the place of standard streams that are the caller's files.
//!
//! Who may look at a process in /proc can open anew what it has open, also to write to what was opened for reading
//! (proc(5)), and change whose it is. A server that is taken over has the rights for that, over a file of the node's as
//! over its own. So files, directories and devices stay with this process, which passes on what is in them. What is a
//! pipe or a socket already is the program's as it is.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{FileType, OFlags, SeekFrom, fstat, seek};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::isatty;

use crate::sys::message;
use crate::sys::poll::is_ready;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 16;

/// The streams that are passed on.
#[derive(Debug)]
pub(crate) struct Streams {
    input: Option<Input>,
    outputs: Vec<Output>,
    /// What came between first.
    failure: Option<io::Error>,
}

#[derive(Debug)]
struct Input {
    /// Until all was read.
    near: Option<OwnedFd>,
    /// The program's end, for what the program has left in it.
    far: OwnedFd,
    /// What the program had no room for yet.
    pending: Vec<u8>,
    /// How many bytes were read.
    read: u64,
}

#[derive(Debug)]
struct Output {
    near: OwnedFd,
    to: BorrowedFd<'static>,
}

impl Streams {
    /// Gives `program` a pipe in the place of each standard stream that is a file. `program` is to be dropped once it
    /// is started, or its output does not end.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn open(program: &mut Command) -> io::Result<Self> {
        let mut streams = Self {
            input: None,
            outputs: Vec::new(),
            failure: None,
        };
        if is_file(stdin())? {
            let (far, near) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&near, OFlags::NONBLOCK)?;
            program.stdin(Stdio::from(far.try_clone()?));
            streams.input = Some(Input {
                near: Some(near),
                far,
                pending: Vec::new(),
                read: 0,
            });
        }
        let out = match is_file(stdout())? {
            true => Some(streams.add(stdout())?),
            false => None,
        };
        if is_file(stderr())? {
            // With one pipe for both, lines stay in their order.
            let far = match &out {
                Some(out) if is_same(stdout(), stderr())? => out.try_clone()?,
                _ => streams.add(stderr())?,
            };
            program.stderr(far);
        }
        if let Some(out) = out {
            program.stdout(out);
        }
        Ok(streams)
    }

    /// Gives the program's end.
    fn add(&mut self, to: BorrowedFd<'static>) -> io::Result<OwnedFd> {
        let (near, far) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&near, OFlags::NONBLOCK)?;
        self.outputs.push(Output { near, to });
        Ok(far)
    }

    /// What is to be waited for, until [`Streams::relay`] is called.
    pub(crate) fn fds(&self) -> Vec<PollFd<'_>> {
        let outputs = self.outputs.iter();
        let mut fds: Vec<_> = outputs
            .map(|output| PollFd::new(output.near.as_fd(), PollFlags::POLLIN))
            .collect();
        if let Some((input, near)) = self
            .input
            .as_ref()
            .and_then(|i| Some((i, i.near.as_ref()?)))
        {
            fds.push(match input.pending.is_empty() {
                true => PollFd::new(stdin(), PollFlags::POLLIN),
                false => PollFd::new(near.as_fd(), PollFlags::POLLOUT),
            });
        }
        fds
    }

    /// Passes on a piece of each.
    pub(crate) fn relay(&mut self) {
        if let Some(Err(e)) = self.input.as_mut().map(Input::relay) {
            let e = message(e.into(), "read standard input");
            self.failure.get_or_insert(e);
        }
        self.relay_outputs(|_| PIECE);
    }

    /// Passes on what a program has written that has ended, and gives back what it has not read. What others write that
    /// it has left behind is not waited for.
    ///
    /// # Errors
    /// The first that came between.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(input) = &self.input {
            input.give_back();
        }
        self.relay_outputs(|near| {
            let there = ioctl_fionread(near).unwrap_or(0);
            usize::try_from(there).unwrap_or(usize::MAX)
        });
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Passes on as many bytes of each output as `limit` says. One that has ended, or can't be written to, is closed:
    /// the program sees that.
    fn relay_outputs(&mut self, limit: impl Fn(&OwnedFd) -> usize) {
        let failure = &mut self.failure;
        self.outputs.retain(|output| {
            let done = output.relay(limit(&output.near));
            done.unwrap_or_else(|e| {
                failure.get_or_insert(e);
                false
            })
        });
    }
}

impl Input {
    fn relay(&mut self) -> rustix::io::Result<()> {
        let Some(near) = &self.near else {
            return Ok(());
        };
        if self.pending.is_empty() && is_ready(stdin(), PollFlags::POLLIN) {
            let mut piece = vec![0; PIECE];
            match rustix::io::read(stdin(), &mut piece) {
                Ok(0) => self.near = None,
                Ok(length) => {
                    self.read += length as u64;
                    piece.truncate(length);
                    self.pending = piece;
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(e) => {
                    self.near = None;
                    return Err(e);
                }
            }
            return Ok(());
        }
        if let Ok(length) = rustix::io::write(near, &self.pending) {
            self.pending.drain(..length);
        }
        Ok(())
    }

    /// Leaves the caller's file where the program has stopped reading, as if it had read itself: a shell that reads
    /// lines of the same file goes on there.
    fn give_back(&self) {
        let left = ioctl_fionread(&self.far).unwrap_or(0) + self.pending.len() as u64;
        // Others may have written into the pipe.
        if let Ok(left @ 1..) = i64::try_from(left.min(self.read)) {
            // A device has no place to go back to.
            let _ = seek(stdin(), SeekFrom::Current(-left));
        }
    }
}

impl Output {
    /// Passes on up to `limit` bytes. Says whether there may be more.
    fn relay(&self, mut limit: usize) -> io::Result<bool> {
        let mut piece = vec![0; PIECE];
        while limit > 0 {
            let room = limit.min(PIECE);
            match rustix::io::read(&self.near, &mut piece[..room]) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    write_all(self.to, &piece[..length])
                        .map_err(|e| message(e.into(), "write the program's output"))?;
                    limit -= length;
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        Ok(true)
    }
}

/// Whether a stream is not the program's as it is. A terminal is replaced elsewhere.
fn is_file(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    Ok(!matches!(kind, FileType::Fifo | FileType::Socket) && !isatty(fd))
}

fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Writes all of it, however long the caller has it wait.
///
/// # Errors
/// Whatever the kernel refuses; then a part may be written.
pub(crate) fn write_all(at: BorrowedFd<'_>, mut text: &[u8]) -> rustix::io::Result<()> {
    while !text.is_empty() {
        match rustix::io::write(at, text) {
            Ok(length) => text = &text[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut fds = [PollFd::new(at, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
