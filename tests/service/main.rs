//! Services on real devices and with real servers: needs root, and the packages of the set-up.

#![allow(clippy::unwrap_used)]

mod cell;
mod device;
mod loop_device;
mod nfs;
mod nfs4;
mod repair;
mod smb;
