//! The agents that are installed, and how a call of one may be unlike any that Pacemaker makes.

use std::path::Path;
use std::time::{Duration, Instant};

use berth::ocf::Agent;
use berth::sys::command;

use crate::common::AgentCall;

/// An installed agent.
#[derive(Debug, Clone, Copy)]
pub struct Installed {
    /// Its declaration.
    pub agent: &'static Agent,
    /// Its executable, as built for this test.
    pub executable: &'static str,
}

/// Every agent that `make install` installs.
pub const AGENTS: [Installed; 4] = [
    Installed {
        agent: &berth::agent::fscheck::AGENT,
        executable: env!("CARGO_BIN_EXE_fscheck"),
    },
    Installed {
        agent: &berth::agent::vserver::AGENT,
        executable: env!("CARGO_BIN_EXE_vserver"),
    },
    Installed {
        agent: &berth::agent::vip::AGENT,
        executable: env!("CARGO_BIN_EXE_vip"),
    },
    Installed {
        agent: &berth::agent::portwatch::AGENT,
        executable: env!("CARGO_BIN_EXE_portwatch"),
    },
];

/// Copies a program. Another process does it: this one's threads start programs all the time, and whatever is forked
/// while a copy is open for writing keeps that from being executed.
pub fn copy_program(from: &str, to: &Path) {
    let mut cp = command::command("/usr/bin/cp");
    cp.arg(from).arg(to);
    let output = command::run(cp, Instant::now() + Duration::from_secs(60));
    output.and_then(|o| o.check(to.display())).expect("a copy");
}

impl AgentCall {
    /// Without this parameter.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(&format!("OCF_RESKEY_{name}"));
        self
    }

    /// With no variables at all.
    pub fn empty_environment(mut self) -> Self {
        self.variables.clear();
        self
    }

    /// With an argument behind the action.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// As user `nobody`; takes root.
    pub fn unprivileged(mut self) -> Self {
        self.nobody = true;
        self
    }

    /// In a network and a `/run` of its own, so that this machine's cells are neither seen nor
    /// touched; takes root.
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }
}
