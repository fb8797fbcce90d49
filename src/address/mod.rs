//! A virtual IP address on a node: what is on record of it, and what is made of that in the kernel.

pub mod action;
pub mod change;
pub mod detour;
pub mod hindrance;
pub mod kernel;
pub mod lock;
pub mod noting;
pub mod peers;
pub mod place;
pub mod record;
pub mod report;
pub mod rival;
pub mod service;
pub mod settings;
pub mod terms;
