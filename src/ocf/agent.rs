//! An agent as a declaration: all that is known of it, in one static.

use std::fmt;
use std::time::{Duration, Instant};

use super::action::Action;
use super::env::Env;
use super::error::Error;
use super::param::Declared;
use super::state::State;
use crate::plan::budget::Budget;

/// What carries out an action.
pub(crate) type Handler = fn(&Context<'_>) -> Result<State, Error>;

/// What a handler is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The environment, read once.
    pub(crate) env: &'a Env,
    /// The action; a `monitor` without interval is [`Action::Probe`].
    pub(crate) action: Action,
    /// When it was begun.
    pub(crate) begun: Instant,
    /// When the action must have ended: a little before the watchdog, which comes a little before
    /// Pacemaker.
    pub(crate) deadline: Instant,
}

impl Context<'_> {
    /// The time left until the deadline; zero after it.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How the time of the action is shared out.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.env.timeout())
    }

    /// The time left until `share`, counted from the beginning; zero after it.
    pub(crate) fn left(&self, share: Duration) -> Duration {
        share.saturating_sub(self.begun.elapsed())
    }
}

/// One action of an agent: as advertised in the meta-data, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct ActionDecl {
    /// The action. A probe is served by the monitor.
    pub action: Action,
    /// Suggested time limit, in seconds.
    pub timeout: u32,
    /// Suggested interval, in seconds; of monitors only.
    pub interval: u32,
    /// The check level from which on it is used; of monitors and validations only.
    pub depth: u32,
    /// What it does.
    pub(crate) handler: Handler,
}

impl ActionDecl {
    /// An action that runs once, within `timeout` seconds.
    pub(crate) const fn once(action: Action, timeout: u32, handler: Handler) -> Self {
        Self {
            action,
            timeout,
            interval: 0,
            depth: 0,
            handler,
        }
    }

    /// The same from the check level `depth` on.
    pub(crate) const fn at_depth(self, depth: u32) -> Self {
        Self { depth, ..self }
    }

    /// A monitor of `depth` that runs every `interval` seconds, within `timeout` seconds.
    pub(crate) const fn monitor(timeout: u32, interval: u32, depth: u32, handler: Handler) -> Self {
        Self {
            action: Action::Monitor,
            timeout,
            interval,
            depth,
            handler,
        }
    }
}

/// An OCF agent.
pub struct Agent {
    /// Its name: of its file, and `ocf:berth:NAME`.
    pub name: &'static str,
    /// What it manages, in a few words.
    pub shortdesc: &'static str,
    /// The same in sentences; a blank line separates paragraphs.
    pub longdesc: &'static str,
    /// What an example gives besides the required parameters.
    pub(crate) example: &'static [(&'static str, &'static str)],
    /// Whether it is meant to run on every node, as a clone.
    pub(crate) cloned: bool,
    /// Its parameters, in the order of the documentation.
    pub params: &'static [&'static dyn Declared],
    /// Its actions; `meta-data` and `usage` need no declaration.
    pub actions: &'static [ActionDecl],
}

impl Agent {
    /// The declaration that serves `action` at check level `level`: the deepest one that the level
    /// reaches.
    pub fn declaration(&self, action: Action, level: u32) -> Option<&'static ActionDecl> {
        let action = match action {
            Action::Probe => Action::Monitor,
            other => other,
        };
        self.actions
            .iter()
            .filter(|a| a.action == action && a.depth <= level)
            .max_by_key(|a| a.depth)
    }

    /// Whether every parameter is acceptable.
    ///
    /// # Errors
    /// The first one's that is not.
    pub(crate) fn check_parameters(&self, env: &Env) -> Result<(), Error> {
        self.params.iter().try_for_each(|p| p.check(env))
    }

    /// The names of its actions, each once, in the order of their declaration.
    pub(crate) fn action_names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        let declared = self.actions.iter().map(|a| a.action.name());
        for name in declared.chain(["meta-data", "usage"]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("name", &self.name).finish()
    }
}
