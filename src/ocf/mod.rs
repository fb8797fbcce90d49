//! The OCF contract: action, exit code, environment, parameters, meta-data, logging.
//!
//! An agent is a static [`Agent`]: its parameters and actions are declared once, and meta-data, man
//! page, usage, validation and dispatch all come from that declaration. [`run()`] is the whole life of
//! an agent's process. Written to the Open Cluster Framework Resource Agent API 1.1.

pub(crate) mod action;
pub(crate) mod agent;
pub(crate) mod env;
pub(crate) mod error;
pub(crate) mod exit;
pub mod man;
pub mod meta;
pub(crate) mod param;
pub(crate) mod reason;
pub(crate) mod run;
#[cfg(test)]
mod sample;
pub(crate) mod state;
pub mod usage;
pub(crate) mod watchdog;

pub(crate) use crate::ocf::param::{Optional, Param};
pub use action::Action;
pub use agent::Agent;
pub(crate) use agent::{ActionDecl, Context};
pub use env::Env;
pub use error::Error;
pub(crate) use error::{Explain, Fault};
pub(crate) use run::run;
pub use state::State;
pub(crate) use watchdog::step;
