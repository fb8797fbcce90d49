//! Runs the real agents as Pacemaker does: as a process, with parameters in the environment.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use berth::sys::cgroup::set_oom_score;
use berth::sys::command;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// No action of these tests takes longer on a machine that is not stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// User and group `nobody`.
const NOBODY: u32 = 65534;

/// A call of an agent that is being put together.
#[derive(Debug, Clone)]
pub struct AgentCall {
    executable: PathBuf,
    /// The whole environment.
    pub variables: BTreeMap<String, String>,
    /// What follows the action.
    pub arguments: Vec<String>,
    /// In a network and a `/run` of its own; takes root.
    pub apart: bool,
    /// As user `nobody`; takes root.
    pub nobody: bool,
    /// Its score for the kernel's out-of-memory killer.
    pub score: Option<&'static CStr>,
}

impl AgentCall {
    /// A call of the agent at `executable`, without parameters.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            variables: BTreeMap::from([
                ("OCF_RESOURCE_INSTANCE".into(), "contract-test".into()),
                ("OCF_RA_VERSION_MAJOR".into(), "1".into()),
                ("OCF_RA_VERSION_MINOR".into(), "1".into()),
            ]),
            arguments: Vec::new(),
            apart: false,
            nobody: false,
            score: None,
        }
    }

    /// With this parameter, in place of an earlier one of the same name.
    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.variable(&format!("OCF_RESKEY_{name}"), value)
    }

    /// With this variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The agent called for `action`, without what takes rights or changes its surroundings.
    pub fn command(&self, action: &str) -> Command {
        let mut c = command::command(&self.executable);
        c.env_clear().envs(&self.variables);
        c.arg(action).args(&self.arguments);
        c
    }

    fn prepared(&self, action: &str) -> std::process::Command {
        let mut c = self.command(action);
        if self.nobody {
            c.gid(NOBODY).uid(NOBODY);
        }
        if let Some(score) = self.score {
            // SAFETY: makes system calls only.
            unsafe {
                c.pre_exec(move || set_oom_score(score));
            }
        }
        if self.apart {
            // SAFETY: only system calls on constant strings, which nix copies to the stack: nothing
            // that takes a lock or allocates between fork and exec.
            unsafe {
                c.pre_exec(|| Ok(set_apart()?));
            }
        }
        c
    }

    /// Calls the agent for `action`.
    pub fn run(&self, action: &str) -> Outcome {
        let deadline = Instant::now() + LIMIT;
        let output = loop {
            match command::run(self.prepared(action), deadline) {
                // Another test's child, forked while the agent was copied, has the copy open for
                // writing until it executes its own program.
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                result => break result,
            }
            assert!(Instant::now() < deadline, "{self} {action}: still busy");
        };
        let output = output.unwrap_or_else(|e| panic!("{self} {action}: {e}"));
        Outcome {
            call: format!("{self} {action}"),
            code: output.status.code(),
            stdout: output.text(),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }
}

impl fmt::Display for AgentCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            write!(f, "{name}={value:?} ")?;
        }
        write!(f, "{}", self.executable.display())
    }
}

/// Gives the calling thread, and all it will start, a network and a `/run` of their own.
pub fn set_apart() -> nix::Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), none)
}

/// What a call left.
#[derive(Debug)]
pub struct Outcome {
    /// The call, as a shell would be told it.
    pub call: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Panics, with all that is known of the call, unless it ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Panics unless the last line of standard error is a reason that Pacemaker keeps whole and that
    /// contains each of `words`.
    #[track_caller]
    pub fn expect_reason(self, words: &[&str]) -> Self {
        let last = self.stderr.lines().last().unwrap_or_default();
        let reason = last.strip_prefix("ocf-exit-reason:");
        let reason = reason.unwrap_or_else(|| panic!("no exit reason at the end: {self}"));
        assert!(!reason.is_empty() && reason.len() <= 128, "{self}");
        for word in words {
            assert!(
                reason.contains(word),
                "\"{word}\" is not in the reason: {self}"
            );
        }
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.call)?;
        writeln!(f, "ended with {:?}; it wrote:", self.code)?;
        write!(f, "{}{}", self.stdout, self.stderr)
    }
}
