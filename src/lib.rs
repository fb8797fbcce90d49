//! berth: highly available virtual file servers on Pacemaker.
//!
//! The modules depend on each other in one direction only:
//!
//! ```text
//! bin → agent → {plan, sys, cluster, cell, ocf}      bin → cli → {config, cluster}; config → {cell, cluster, plan, sys}
//! ```
//!
//! [`plan`] decides and does no I/O: it knows nothing of the other modules. [`sys`] is the kernel and
//! [`cluster`] is Pacemaker; neither knows of OCF. [`agent`] joins them and alone gives errors their
//! OCF meaning. [`hash`] is a leaf that all may use.

pub mod agent;
pub mod cell;
pub mod cli;
pub mod cluster;
pub mod config;
#[cfg(test)]
mod formats;
pub mod hash;
pub mod ocf;
pub mod plan;
pub mod sys;
