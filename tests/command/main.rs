//! The command `berth` as people and scripts meet it. What it does to a running cluster is tried in the lab.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

#[path = "../common/committed.rs"]
mod committed;

mod cli;
mod generated;
