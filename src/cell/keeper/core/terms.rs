//! What events and effects speak of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cell::protocol::Cause;
use crate::cell::service::XfsIdentity;
use crate::cell::state::Defect;
use crate::plan::repair::FsKind;

/// An agent's connection: never used for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// What a child is to do with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Mount it.
    Mount,
    /// Mount it after a repair: what its superblock says of damage was before.
    MountRepaired,
    /// See whether anybody is at the check that its multiple-mount protection tells of, then mount it.
    Watch,
    /// See whether its device can be read: its repair has failed, for this reason.
    Look(String),
}

/// A block device with a file system on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The device's node.
    pub(crate) path: PathBuf,
    /// The file system's type.
    pub(crate) kind: FsKind,
    /// For XFS, what its handles are made of.
    pub(crate) xfs: Option<XfsIdentity>,
}

/// What a child that mounts has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mounted {
    /// The mount of this block device comes along.
    Done(Found),
    /// It is not sound, or at least can't be mounted.
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
    /// Its multiple-mount protection says that it is being checked, on a node that can't be at it: that takes a
    /// while to verify.
    BeingChecked(String),
    /// It stays as its repair has left it, for this reason: its device can be read, or can't.
    Unmended(String, bool),
    /// Another node has it.
    Elsewhere(String),
    /// It can't be attached at all.
    Refused(Cause, String),
}

/// The number of a child that mounts: never used for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MounterId(pub(crate) u64);

/// How a change of what the cell lets in has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Admission {
    /// It is in force.
    Done,
    /// It is, but connections are not limited: why not.
    Unlimited(String),
    /// `nft` did not end in time, which says nothing of what it would have done.
    Late(String),
    /// It can't be.
    Failed(Cause, String),
}
