//! Pacemaker: node attributes, resource failures and the CIB, through its own tools.

pub mod allowance;
pub mod canonical;
pub mod cib;
pub(crate) mod complaint;
pub mod element;
pub(crate) mod fencing;
pub(crate) mod history;
pub mod merge;
pub(crate) mod patch;
pub(crate) mod properties;
pub(crate) mod release;
pub(crate) mod status;
pub mod survey;
pub(crate) mod tool;
pub(crate) mod transient;
