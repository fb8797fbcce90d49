//! Small types that have the same meaning in every module.
//!
//! A leaf: only the standard library and serde.

mod family;

pub use family::Family;
