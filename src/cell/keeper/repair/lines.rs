//! Lines that come through a pipe from a program of a repair.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe whose reading end never blocks; neither end is inherited.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&reader)?;
    rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// The lines that come through a pipe.
#[derive(Debug)]
pub(crate) struct Lines {
    pipe: Option<File>,
    rest: Vec<u8>,
}

impl Lines {
    /// The most bytes of a line: a longer one is cut into several.
    const LONGEST: usize = 4096;

    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self {
            pipe: Some(pipe.into()),
            rest: vec![],
        }
    }

    /// The descriptor to poll for input; `None` once the pipe has come to its end.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The lines that came since the last call; at most some 64 KiB at a time.
    pub(crate) fn read(&mut self) -> io::Result<Vec<String>> {
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(n) => self.rest.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let mut lines = vec![];
        while let Some(end) = self.rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
        if self.pipe.is_none() && !self.rest.is_empty() || self.rest.len() > Self::LONGEST {
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned());
        }
        Ok(lines)
    }
}
