//! The terms of events and effects.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cell::protocol::Cause;
use crate::cell::service::XfsIdentity;
use crate::cell::state::Defect;
use crate::plan::repair::FsKind;

/// The number of an agent's connection, never used for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// What a child is to do with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountTask {
    /// Mount it.
    Mount,
    /// Mount it after a repair: damage that its superblock shows is from before.
    MountRepaired,
    /// Find out whether the check that its multiple-mount protection shows still runs, then mount it.
    Watch,
    /// Find out whether its device can be read: its repair has failed, for this reason.
    Look(String),
}

/// A block device with a file system on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The device's node.
    pub(crate) path: PathBuf,
    /// The file system's type.
    pub(crate) kind: FsKind,
    /// For XFS, what its file handles are made of.
    pub(crate) xfs: Option<XfsIdentity>,
}

/// The result of a child that mounts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mounted {
    /// The file system on this device is mounted; the mount comes along.
    Done(Found),
    /// The file system is damaged, or at least can't be mounted.
    Unsound {
        /// The device's node.
        path: PathBuf,
        /// The file system's type.
        kind: FsKind,
        /// Whether it has multiple-mount protection.
        mmp: bool,
        /// What is wrong.
        defect: Defect,
    },
    /// Its multiple-mount protection shows a check on the node of this name, which is this one or is down: to verify
    /// that the check has ended takes a while.
    BeingChecked(String),
    /// It stays as its repair has left it, for this reason; and whether its device can be read.
    Unmended(String, bool),
    /// Another node has it mounted or checks it.
    Elsewhere(String),
    /// It can't be attached, for this reason.
    Refused(Cause, String),
}

/// The number of a child that mounts: never used for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MounterId(pub(crate) u64);

/// The result of a change of the rules for connections to the cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Admission {
    /// The rules are in force.
    Done,
    /// The rules are in force, but without limits of connections, for this reason.
    Unlimited(String),
    /// `nft` did not end in time: it is not known what it has done.
    Late(String),
    /// The rules can't be put in force, for this reason.
    Failed(Cause, String),
}
