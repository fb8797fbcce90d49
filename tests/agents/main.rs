//! The agents as Pacemaker, `ocf-tester` and the cluster's shells meet them.

#[path = "../common/committed.rs"]
mod committed;
#[path = "../common/mod.rs"]
mod common;

mod contract;
mod generated;
mod installed;
mod ocftester;
mod shells;
