//! A virtual IP address (VIP) on a node: its record, and the kernel's objects that are made from it.

pub(crate) mod action;
pub(crate) mod change;
pub(crate) mod detour;
pub(crate) mod hindrance;
pub(crate) mod kernel;
pub mod location;
pub(crate) mod lock;
pub(crate) mod noting;
pub(crate) mod peers;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod rival;
pub mod service;
pub(crate) mod settings;
pub(crate) mod terms;
