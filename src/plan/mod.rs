//! Pure decisions: no I/O, no clock (time is an argument), nothing of the other modules.

pub(crate) mod attribute;
pub(crate) mod budget;
pub(crate) mod detour;
pub mod directory;
pub mod holding;
pub(crate) mod mover;
pub(crate) mod neighbour;
pub(crate) mod port;
pub mod repair;
pub(crate) mod slip;
pub(crate) mod twin;
pub mod vip;
