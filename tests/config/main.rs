//! From a configuration file to what Pacemaker makes of it: what is refused, what a plan says, and whether the
//! agents and the cluster's scheduler do with it what is wanted.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod agents;
mod any_config;
mod detour;
mod input;
mod pacemaker;
mod portwatch;
mod render;
mod simulation;

/// The file that is delivered as an example.
const EXAMPLE: &str = include_str!("../../examples/berth.toml");
