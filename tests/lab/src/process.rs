//! The one place where the lab starts programs: bounded output, a limit for each, no shell.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// What is kept of each output stream of a program.
const OUTPUT_LIMIT: u64 = 16 << 20;
/// How long a stream may stay open after its program's end, held by a daemon that it left behind.
const STREAM_GRACE: Duration = Duration::from_millis(300);

/// Where programs are looked for: in the system's directories.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// The exit code, or 128 and the signal's number, as shells count.
    pub fn code(&self) -> i32 {
        let signal = self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or(128 + signal)
    }

    /// Itself if the program exited 0.
    ///
    /// # Errors
    /// Otherwise a line with the program's last words.
    pub fn check(self, what: impl std::fmt::Display) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let last = |text: &str| {
            text.lines()
                .rfind(|l| !l.trim().is_empty())
                .map(str::to_owned)
        };
        let words = last(&self.stderr)
            .or_else(|| last(&self.stdout))
            .unwrap_or_else(|| "no message".to_owned());
        Err(Error::new(format!(
            "{what}: exit code {}: {words}",
            self.code()
        )))
    }
}

/// A command with a fixed environment and no standard input. `program` is looked up in the system's
/// directories, those of the administrator included.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[allow(clippy::disallowed_methods)] // the lab's own only place
    let mut command = Command::new(program);
    command
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Throws away what `command` prints.
pub fn silence(command: &mut Command) {
    command.stdout(Stdio::null()).stderr(Stdio::null());
}

/// Runs `command` to its end, with `input` on its standard input.
///
/// # Errors
/// If it can't be started, or had not ended after `limit` (it is killed then).
pub fn run(mut command: Command, input: &str, limit: Duration) -> Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(format!("start {name}"))?;
    let stdout = child.stdout.take().map(Stream::read);
    let stderr = child.stderr.take().map(Stream::read);
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not want its input says why in its exit code.
        let _ = pipe.write_all(input.as_bytes());
    }
    let status = wait(&mut child, limit).context(&name)?;
    let text = |stream: Option<Stream>| stream.map(Stream::text).unwrap_or_default();
    Ok(Output {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// Waits for `child`; one that has not ended after `limit` is killed.
///
/// # Errors
/// If it had to be killed.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait().context("wait")? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            // Both can only fail if it ended meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            let limit = limit.as_secs_f64();
            return Err(Error::new(format!(
                "not finished after {limit:.1} s, killed"
            )));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// A stream being read by a thread of its own, so that neither a full pipe nor one that a daemon
/// keeps open can hold up the wait for the program.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 16384];
            let mut left = OUTPUT_LIMIT;
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                let keep = n.min(usize::try_from(left).unwrap_or(usize::MAX));
                let mut text = sink.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&buffer[..keep]);
                left -= keep as u64;
            }
        });
        Self { text, reader }
    }

    fn text(self) -> String {
        let deadline = Instant::now() + STREAM_GRACE;
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn exit_code_and_last_words_are_reported() {
        let output = run(
            shell("echo a; echo b >&2; exit 3"),
            "",
            Duration::from_secs(9),
        )
        .unwrap();
        assert_eq!((output.code(), output.stdout.as_str()), (3, "a\n"));
        let line = output.check("sh").unwrap_err().to_string();
        assert_eq!(line, "sh: exit code 3: b");
    }

    #[test]
    fn a_daemon_left_behind_does_not_hold_up_the_result() {
        let started = Instant::now();
        let output = run(shell("echo up; sleep 5 &"), "", Duration::from_secs(4)).unwrap();
        assert_eq!(output.stdout, "up\n");
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn a_program_past_its_limit_is_killed() {
        let error = run(shell("exec sleep 60"), "", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "sh: not finished after 0.1 s, killed");
    }
}
