//! Small types that have the same meaning in every module.
//!
//! A leaf: only the standard library and serde.

mod family;
mod mac;
mod milliseconds;
mod rate;

pub use family::Family;
pub use mac::Mac;
pub use milliseconds::Milliseconds;
pub use rate::BitRate;
