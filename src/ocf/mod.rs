//! The OCF contract: action, exit code, environment, parameters, meta-data, logging.
//!
//! An agent is a static [`Agent`]: its parameters and actions are declared once, and meta-data, man
//! page, usage, validation and dispatch all come from that declaration. [`run`] is the whole life of
//! an agent's process. Written to the Open Cluster Framework Resource Agent API 1.1.

pub mod action;
pub mod agent;
pub mod env;
pub mod error;
pub mod exit;
pub mod man;
pub mod meta;
pub mod param;
pub mod reason;
pub mod run;
#[cfg(test)]
mod sample;
pub mod state;
pub mod usage;
pub mod watchdog;

pub use crate::ocf::exit::{ExitCode, exit_code};
pub use crate::ocf::param::{Declared, Optional, Param};
pub use action::Action;
pub use agent::{ActionDecl, Agent, Context, Handler};
pub use env::Env;
pub use error::{Error, ErrorList, Explain, Fault};
pub use run::run;
pub use state::State;
pub use watchdog::step;
