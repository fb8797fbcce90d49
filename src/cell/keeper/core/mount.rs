//! What a child is to do with a file system that is not in service, and what it comes to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::effect::{Effect, Effects};
use crate::cell::protocol::{Cause, Volume};
use crate::cell::service::XfsIdentity;
use crate::cluster::complaint::Member;
use crate::plan::repair::{Finding, FsKind};

/// What a child is to do with a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
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
pub struct Found {
    /// The device's node.
    pub path: PathBuf,
    /// For XFS, what its handles are made of.
    pub xfs: Option<XfsIdentity>,
}

/// What a child that mounts has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Mounted {
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

/// What is wrong with a file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Defect {
    /// Its superblock says that it is damaged.
    Noted,
    /// Its check was cut off, on the node of this name.
    CutOff(String),
    /// It can't be mounted.
    Unmountable(Examined),
}

/// What a failed mount has come to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Examined {
    /// What it proves.
    pub finding: Finding,
    /// The kernel's reason.
    pub said: String,
}

/// The number of a child that mounts: never used for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MounterId(pub u64);

/// A child that mounts.
#[derive(Debug)]
struct Mounter {
    resource: String,
    killed: bool,
}

/// The children that mount, until they are dead: one that was killed is known to have ended before it has let its
/// device go.
#[derive(Debug, Default)]
pub struct Mounters {
    last: u64,
    /// Those that are not known to be dead.
    alive: BTreeMap<MounterId, Mounter>,
}

impl Mounters {
    /// Sends a child on this errand.
    pub fn send(
        &mut self,
        member: &Member,
        volume: &Volume,
        errand: Errand,
        out: &mut Effects,
    ) -> MounterId {
        self.last += 1;
        let mounter = MounterId(self.last);
        let resource = member.resource.clone();
        let killed = false;
        self.alive.insert(mounter, Mounter { resource, killed });
        out.push(Effect::Mount {
            mounter,
            member: member.clone(),
            volume: Box::new(volume.clone()),
            errand,
        });
        mounter
    }

    /// Kills this one, if it was not before.
    pub fn kill(&mut self, mounter: MounterId, out: &mut Effects) {
        let alive = self.alive.get_mut(&mounter);
        if let Some(child) = alive.filter(|child| !child.killed) {
            child.killed = true;
            out.push(Effect::KillMounter(mounter));
        }
    }

    /// This one is dead, or never came to life.
    pub fn bury(&mut self, mounter: MounterId) {
        self.alive.remove(&mounter);
    }

    /// Whether one may still have the device of this resource.
    pub fn may_hold(&self, resource: &str) -> bool {
        self.alive.values().any(|child| child.resource == resource)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }
}
