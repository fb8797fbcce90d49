//! Calls of agents that are left to themselves, or that the kernel is to spare or to kill first.

use std::ffi::CStr;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::{AgentCall, Outcome};

impl AgentCall {
    /// With this score for the kernel's out-of-memory killer.
    pub fn oom_score(mut self, score: &'static CStr) -> Self {
        self.score = Some(score);
        self
    }

    /// Calls the agent for `action`, and leaves it to itself.
    pub fn start(&self, action: &str) -> Running {
        let mut c = self.command(action);
        c.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = c.spawn().unwrap_or_else(|e| panic!("{self} {action}: {e}"));
        Running {
            call: format!("{self} {action}"),
            child,
        }
    }
}

/// An agent at work.
#[derive(Debug)]
pub struct Running {
    call: String,
    child: Child,
}

impl Running {
    /// Waits for its end. The agents' own watchdog sees to it that it comes.
    pub fn wait(self) -> Outcome {
        let output = self.child.wait_with_output().expect("the agent ends");
        Outcome {
            call: self.call,
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    /// Kills it after this time, unless it has ended by then.
    pub fn kill_after(mut self, delay: Duration) {
        std::thread::sleep(delay);
        // It has ended: then there is nothing to kill.
        let _ = self.child.kill();
        self.child.wait().expect("the agent ends");
    }
}
