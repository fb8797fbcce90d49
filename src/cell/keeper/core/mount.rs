//! The children that mount, until they are dead.

use std::collections::BTreeMap;

use super::effect::{Effect, Effects};
use super::terms::{MountTask, MounterId};
use crate::cell::protocol::VolumeSpec;
use crate::cluster::complaint::Member;
use crate::types::ResourceId;

/// A child that mounts.
#[derive(Debug)]
struct Mounter {
    resource: ResourceId,
    killed: bool,
}

/// The children that mount, until they are dead. A killed child may hold its device until then, although its result is
/// known.
#[derive(Debug, Default)]
pub(crate) struct Mounters {
    last: u64,
    /// The children that are not known to be dead.
    alive: BTreeMap<MounterId, Mounter>,
}

impl Mounters {
    /// Starts a child with this task.
    pub(crate) fn send(
        &mut self,
        member: &Member,
        volume: &VolumeSpec,
        task: MountTask,
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
            task,
        });
        mounter
    }

    /// Kills this child, unless it was killed before.
    pub(crate) fn kill(&mut self, mounter: MounterId, out: &mut Effects) {
        let alive = self.alive.get_mut(&mounter);
        if let Some(child) = alive.filter(|child| !child.killed) {
            child.killed = true;
            out.push(Effect::KillMounter(mounter));
        }
    }

    /// Notes that this child is dead, or could not be started.
    pub(crate) fn forget(&mut self, mounter: MounterId) {
        self.alive.remove(&mounter);
    }

    /// Whether a child may still hold the device of this resource.
    pub(crate) fn may_hold(&self, resource: &str) -> bool {
        self.alive.values().any(|child| child.resource == resource)
    }

    /// Whether all children are dead.
    pub(crate) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }
}
