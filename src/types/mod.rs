//! Small types that have the same meaning in every module.
//!
//! A leaf: only the standard library and serde.

mod family;
mod mac;
mod milliseconds;
pub(crate) mod name;
mod rate;

pub use family::Family;
pub use mac::Mac;
pub(crate) use milliseconds::Milliseconds;
pub use name::{IfName, Label, NodeName, ResourceId, VserverName};
pub(crate) use rate::BitRate;
