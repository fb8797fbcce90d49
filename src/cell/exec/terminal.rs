//! A terminal between the caller's and the program in the cell: who holds the caller's own could type into it, or
//! read what is typed there later.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{self, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios};

use super::streams::write_all;
use crate::sys::poll::is_ready;

/// Bytes that are read at a time.
const PIECE: usize = 4096;

/// Pieces that are read at most in one turn, and after the program has ended: more than a terminal holds.
const PIECES: usize = 64;

/// The longest value of `TERM` that is passed on, in bytes.
const TYPE_LIMIT: usize = 64;

/// What is read from the caller's terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Nothing.
    None,
    /// Each key, as it is.
    Each,
    /// What the terminal makes of them, such as whole lines, and the end of input.
    Made {
        /// Whether it is lines (`ICANON`, termios(3)).
        lines: bool,
    },
}

/// The program's terminal, and the caller's.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// This process's end of the program's terminal.
    near: OwnedFd,
    /// The program's end. Kept open, so that the near one never reports that all others have closed it.
    far: OwnedFd,
    /// Where the caller sees what the program shows.
    shown: BorrowedFd<'static>,
    /// Whose keys are read, and how.
    keys: Keys,
    /// How the caller's terminal was before, if it was changed.
    before: Option<Termios>,
    /// Keys that the program has not taken yet.
    pending: Vec<u8>,
}

impl Terminal {
    /// A new terminal as large as the caller's; `None` if none of the standard streams is one.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        let streams = [stdout(), stderr(), stdin()];
        let Some(shown) = streams.into_iter().find(|fd| termios::isatty(fd)) else {
            return Ok(None);
        };
        let near =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&near)?;
        rustix::pty::unlockpt(&near)?;
        // By the other end and not by a name, which would mean something else where /dev/pts is another's.
        let far = rustix::pty::ioctl_tiocgptpeer(
            &near,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        let flags = rustix::fs::fcntl_getfl(&near)?;
        rustix::fs::fcntl_setfl(&near, flags | OFlags::NONBLOCK)?;
        let terminal = Self {
            near,
            far,
            shown,
            keys: Keys::None,
            before: None,
            pending: Vec::new(),
        };
        terminal.resize();
        Ok(Some(terminal))
    }

    /// Gives the program its end in the place of each standard stream that is a terminal, and from now on each key
    /// of the caller's.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn lend(&mut self, program: &mut Command) -> io::Result<()> {
        let end = || self.far.try_clone().map(Stdio::from);
        if termios::isatty(stdin()) {
            program.stdin(end()?);
        }
        if termios::isatty(stdout()) {
            program.stdout(end()?);
        }
        if termios::isatty(stderr()) {
            program.stderr(end()?);
        }
        // It knows how to draw on the caller's terminal.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-+._".contains(c);
        #[allow(clippy::disallowed_methods)] // a person's environment, not an agent's
        let kind = env::var("TERM").unwrap_or_default();
        if !kind.is_empty() && kind.len() <= TYPE_LIMIT && kind.chars().all(plain) {
            program.env("TERM", kind);
        }
        self.take_keys()
    }

    /// Has the caller's terminal pass on each key as it is. In the background it is somebody else's. In a pipe it is
    /// others', too, who draw on it or read from it: then it stays as it is.
    fn take_keys(&mut self) -> io::Result<()> {
        let keys = stdin();
        let own = rustix::process::getpgrp();
        if !termios::isatty(keys) || !termios::tcgetpgrp(keys).is_ok_and(|group| group == own) {
            return Ok(());
        }
        let before = termios::tcgetattr(keys)?;
        if !termios::isatty(stdout()) {
            let mut far = before.clone();
            // The caller's shows what is typed, and draws lines.
            far.local_modes -= LocalModes::ECHO | LocalModes::ECHONL;
            far.output_modes -= OutputModes::OPOST;
            termios::tcsetattr(&self.far, OptionalActions::Now, &far)?;
            let lines = before.local_modes.contains(LocalModes::ICANON);
            self.keys = Keys::Made { lines };
            return Ok(());
        }
        // The program's begins as the caller's was.
        termios::tcsetattr(&self.far, OptionalActions::Now, &before)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(keys, OptionalActions::Now, &raw)?;
        self.keys = Keys::Each;
        self.before = Some(before);
        Ok(())
    }

    /// Makes the program's terminal as large as the caller's.
    pub(crate) fn resize(&self) {
        if let Ok(size) = termios::tcgetwinsize(self.shown) {
            // One without a size is no reason to stop.
            let _ = termios::tcsetwinsize(&self.near, size);
        }
    }

    /// What is to be waited for, until [`Terminal::relay`] is called.
    pub(crate) fn fds(&self) -> Vec<PollFd<'_>> {
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, !self.pending.is_empty());
        let mut fds = vec![PollFd::new(self.near.as_fd(), wanted)];
        if self.reads_keys() {
            fds.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        fds
    }

    fn reads_keys(&self) -> bool {
        self.keys != Keys::None && self.pending.is_empty()
    }

    /// Passes on what there is, in both directions.
    pub(crate) fn relay(&mut self) {
        self.pass_keys();
        self.show();
    }

    /// Passes on what a program has shown that has ended.
    pub(crate) fn finish(&mut self) {
        self.show();
    }

    fn pass_keys(&mut self) {
        if self.reads_keys() && is_ready(stdin(), PollFlags::POLLIN) {
            let mut piece = [0; PIECE];
            match rustix::io::read(stdin(), &mut piece) {
                Ok(0) if self.ends_input() => self.pending.extend(self.end_of_file()),
                Ok(length @ 1..) => {
                    self.pending.extend_from_slice(&piece[..length]);
                    // The end of input was typed within a line: what was typed of it is to be read.
                    if self.keys == (Keys::Made { lines: true }) && piece[length - 1] != b'\n' {
                        self.pending.extend(self.end_of_file());
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // The caller's terminal has gone: no more keys.
                Ok(_) | Err(_) => self.restore(),
            }
        }
        if let Ok(length) = rustix::io::write(&self.near, &self.pending) {
            self.pending.drain(..length);
        }
    }

    /// Whether nothing to read means that the end of input was typed, and not that the terminal has gone.
    fn ends_input(&self) -> bool {
        // Reported without being asked for.
        let gone = is_ready(stdin(), PollFlags::empty());
        self.keys == (Keys::Made { lines: true }) && !gone
    }

    /// What ends input at the program's terminal; nothing if that has been told to know no such key.
    fn end_of_file(&self) -> Option<u8> {
        let now = termios::tcgetattr(&self.far).ok()?;
        let key = now.special_codes[SpecialCodeIndex::VEOF];
        // _POSIX_VDISABLE.
        Some(key).filter(|key| *key != 0 && now.local_modes.contains(LocalModes::ICANON))
    }

    fn show(&mut self) {
        let mut piece = [0; PIECE];
        for _ in 0..PIECES {
            match rustix::io::read(&self.near, &mut piece) {
                // What can't be shown to a caller who has gone is lost.
                Ok(length @ 1..) => drop(write_all(self.shown, &piece[..length])),
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn restore(&mut self) {
        self.keys = Keys::None;
        if let Some(before) = self.before.take() {
            // One that has gone needs nothing.
            let _ = termios::tcsetattr(stdin(), OptionalActions::Drain, &before);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Makes standard streams' terminal the controlling one of this process's new session. Makes system calls only.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn make_controlling() -> io::Result<()> {
    let streams = [stdin(), stdout(), stderr()];
    let terminal = streams.into_iter().find(|fd| termios::isatty(fd));
    terminal.map_or(Ok(()), |fd| Ok(rustix::process::ioctl_tiocsctty(fd)?))
}
