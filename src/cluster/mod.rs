//! Pacemaker: node attributes, resource failures and the CIB, through its own tools.

pub mod allowance;
pub mod canonical;
pub mod cib;
pub mod complaint;
pub mod element;
pub mod fencing;
pub mod history;
pub mod merge;
pub mod patch;
pub mod properties;
pub mod release;
pub mod status;
pub mod survey;
pub mod tool;
pub mod transient;
