//! Services on real devices and with real servers: needs root, and the packages of the set-up.

#![allow(clippy::unwrap_used)]

mod cell;
mod device;
mod image;
mod nfs;
mod repair;
mod smb;
