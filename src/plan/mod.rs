//! Pure decisions: no I/O, no clock (time is an argument), nothing of the other modules.

pub mod attribute;
pub mod budget;
pub mod detour;
pub mod directory;
pub mod holding;
pub mod mover;
pub mod name;
pub mod neighbour;
pub mod port;
pub mod repair;
pub mod slip;
pub mod twin;
pub mod vip;
