//! A virtual IP address on a node: what is on record of it, and what is made of that in the kernel.

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
