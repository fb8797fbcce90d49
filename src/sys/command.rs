//! The one place that starts a process: absolute path, null standard input, C locale, bounded output,
//! a deadline.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::sys::poll;
use nix::poll::{PollFd, PollFlags};

/// What is kept of each of a program's output streams; the rest is read and thrown away, and the output counts as
/// cut.
pub(crate) const OUTPUT_LIMIT: usize = 4 << 20;

/// The output and exit status of a finished program.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, up to [`OUTPUT_LIMIT`] bytes.
    pub stdout: Vec<u8>,
    /// Its standard error, up to [`OUTPUT_LIMIT`] bytes.
    pub stderr: Vec<u8>,
    /// Whether its standard output was longer.
    pub(crate) cut: bool,
}

impl Output {
    /// As a program leaves it that ends with this exit code.
    #[cfg(test)]
    pub(crate) fn recorded(code: i32, stdout: &str, stderr: &str) -> Self {
        Self {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.into(),
            stderr: stderr.into(),
            cut: false,
        }
    }

    /// Standard output as text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// An error that carries the program's own last words, unless it exited 0; one that says so where its output is
    /// not all there.
    pub fn check(self, what: impl fmt::Display) -> io::Result<Self> {
        if self.status.success() && self.cut {
            let text = format!("{what}: it wrote more than {} MiB", OUTPUT_LIMIT >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        if self.status.success() {
            return Ok(self);
        }
        let how = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".to_owned(),
        };
        let words = String::from_utf8_lossy(&self.stderr);
        let words = words
            .lines()
            .map(str::trim)
            .rfind(|l| !l.is_empty())
            .unwrap_or("no message");
        Err(io::Error::other(format!("{what}: {how}: {words}")))
    }
}

/// A command with berth's fixed surroundings: only an absolute path, no standard input, an
/// environment of `PATH` and `LC_ALL=C`, no blocked signals, its own death when its parent dies.
///
/// # Panics
/// If `program` is not absolute: that is a mistake in berth.
pub fn command(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    assert!(
        program.is_absolute(),
        "{} is not an absolute path",
        program.display()
    );
    #[allow(clippy::disallowed_methods)] // this is the one place
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C");
    let start = || {
        // A mask would be inherited: whoever waits for signals through a descriptor blocks them, and
        // a server that never hears of its children's deaths is no server.
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        Ok(nix::sys::prctl::set_pdeathsig(
            nix::sys::signal::Signal::SIGKILL,
        )?)
    };
    // SAFETY: as pre_exec wants it, the child makes two system calls, which use no memory of its parent's.
    unsafe {
        command.pre_exec(start);
    }
    command
}

/// Runs `command` to its end and collects its output.
///
/// # Errors
/// `NotFound` if the program is not installed; `TimedOut` if it had not ended at `deadline` (it is
/// killed then).
pub fn run(command: Command, deadline: Instant) -> io::Result<Output> {
    run_with_input(command, b"", deadline)
}

/// Like [`run`], with `input` on the program's standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(mut command: Command, input: &[u8], deadline: Instant) -> io::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{name}: {e}"));
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(named)?;
    let result = converse(&mut child, input, deadline);
    if result.is_err() {
        // Killed and reaped; a failure of either means that it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
    result.map_err(named)
}

fn converse(child: &mut Child, mut input: &[u8], deadline: Instant) -> io::Result<Output> {
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take();
    let mut stderr = child.stderr.take();
    if let Some(pipe) = &stdin {
        set_nonblocking(pipe)?;
    }
    let (mut out, mut err) = (Kept::default(), Kept::default());
    while stdin.is_some() || stdout.is_some() || stderr.is_some() {
        let mut fds = Vec::with_capacity(3);
        fds.extend(
            stdin
                .as_ref()
                .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLOUT)),
        );
        fds.extend(
            stdout
                .as_ref()
                .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(
            stderr
                .as_ref()
                .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN)),
        );
        wait(&mut fds, deadline)?;
        let mut ready: Vec<bool> = fds.iter().map(|f| f.any().unwrap_or(false)).collect();
        drop(fds);
        if stdin.is_some() && ready.remove(0) {
            feed(&mut stdin, &mut input)?;
        }
        if stdout.is_some() && ready.remove(0) {
            drain(&mut stdout, &mut out)?;
        }
        if stderr.is_some() && ready.remove(0) {
            drain(&mut stderr, &mut err)?;
        }
    }
    loop {
        // The pipes are closed, so the end is near: it is looked for at short intervals.
        if let Some(status) = child.try_wait()? {
            return Ok(Output {
                status,
                stdout: out.bytes,
                stderr: err.bytes,
                cut: out.cut,
            });
        }
        wait(
            &mut [],
            deadline.min(Instant::now() + Duration::from_millis(1)),
        )
        .or_else(|e| {
            if Instant::now() < deadline {
                Ok(())
            } else {
                Err(e)
            }
        })?;
    }
}

fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<()> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "not finished in time");
    // A program that never stops writing must be ended at its deadline, too.
    if Instant::now() >= deadline {
        return Err(late());
    }
    poll::wait(fds, deadline).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => late(),
        _ => e,
    })
}

fn feed(pipe: &mut Option<impl Write>, input: &mut &[u8]) -> io::Result<()> {
    let Some(writer) = pipe else { return Ok(()) };
    match writer.write(input) {
        Ok(n) => *input = &input[n..],
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        // The program has ended without reading all of its input: its exit code says why.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => *input = &[],
        Err(e) => return Err(e),
    }
    if input.is_empty() {
        *pipe = None;
    }
    Ok(())
}

/// What is kept of an output stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

fn drain(pipe: &mut Option<impl Read>, into: &mut Kept) -> io::Result<()> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut buffer = [0; 16384];
    match reader.read(&mut buffer)? {
        0 => *pipe = None,
        n => {
            let room = OUTPUT_LIMIT - into.bytes.len();
            into.bytes.extend_from_slice(&buffer[..n.min(room)]);
            into.cut |= n > room;
        }
    }
    Ok(())
}

fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(
        &fd,
        flags | rustix::fs::OFlags::NONBLOCK,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn shell(script: &str) -> Command {
        let mut c = command("/bin/sh");
        c.args(["-c", script]);
        c
    }

    #[test]
    fn output_and_exit_code_are_reported() {
        let out = run(shell("echo out; echo err >&2; exit 3"), soon()).unwrap();
        assert_eq!((out.text().as_str(), out.status.code()), ("out\n", Some(3)));
        let error = out.check("probe").unwrap_err().to_string();
        assert_eq!(error, "probe: exit code 3: err");
    }

    #[test]
    fn input_larger_than_a_pipe_passes_through() {
        let input = vec![b'x'; 300_000];
        let out = run_with_input(shell("cat"), &input, soon()).unwrap();
        assert_eq!(out.stdout, input);
    }

    #[test]
    fn a_program_past_its_deadline_is_killed() {
        let error = run(
            shell("exec sleep 600"),
            Instant::now() + Duration::from_millis(50),
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_program_past_its_deadline_is_killed_though_it_always_says_something() {
        let limit = Instant::now() + Duration::from_millis(50);
        let error = run(shell("exec yes"), limit).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn signals_that_the_parent_blocks_reach_the_program() {
        use nix::sys::signal::{SigSet, Signal};
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGCHLD);
        let before = blocked
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
            .unwrap();
        // Not the shell's own: it blocks them all for the moment of a fork.
        let out = run(shell("exec grep SigBlk /proc/self/status"), soon()).unwrap();
        before.thread_set_mask().unwrap();
        assert_eq!(out.text(), "SigBlk:\t0000000000000000\n");
    }

    #[test]
    fn a_missing_program_is_not_found_by_name() {
        let error = run(command("/nonexistent/fsck"), soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/nonexistent/fsck: "));
    }

    #[test]
    fn output_beyond_the_limit_is_dropped_and_not_taken_for_all_of_it() {
        let out = run(shell("head -c 5000000 /dev/zero"), soon()).unwrap();
        assert!(out.cut && out.stdout.len() == OUTPUT_LIMIT);
        let error = out.check("list").unwrap_err().to_string();
        assert_eq!(error, "list: it wrote more than 4 MiB");
        let out = run(shell(&format!("head -c {OUTPUT_LIMIT} /dev/zero")), soon()).unwrap();
        assert!(out.check("list").is_ok());
    }
}
