//! The lab: a real three-node Corosync/Pacemaker cluster on one machine, without systemd.
//!
//! Nodes, clients and a router between their subnets are sets of namespaces; shared disks are images
//! that each node reaches through a loop device of its own; fencing cuts a node's disks and then
//! kills its PID 1. All of it lives in the namespaces of one process, the [`warden`], so that
//! nothing of the host is changed but the loop devices in use and the directory [`plan::STATE`].
//!
//! [`Lab::up`] gives a lab that is taken down when the value is dropped.

pub mod bench;
mod control;
pub mod demo;
mod enter;
mod error;
pub mod fence;
pub mod flow;
pub mod inside;
mod lifetime;
pub mod loop_device;
pub mod machine;
pub mod nfs4;
pub mod plan;
pub mod ports;
pub mod portwatch;
mod process;
pub mod protocol;
mod rootfs;
pub mod scene;
pub mod smb;
pub mod stage;
pub mod status;
pub mod system;
mod wait;
pub mod warden;
pub mod wire;
pub mod worker;

pub use control::{Lab, Options, ROOT_VARIABLE};
pub use error::{Context, Error, Result};
pub use lifetime::{down, known};
pub use process::Output;
pub use wait::{holds, wait_for};
