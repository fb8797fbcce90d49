//! The children that mount, until they are dead.

use std::collections::BTreeMap;

use super::effect::{Effect, Effects};
use super::terms::{Errand, MounterId};
use crate::cell::protocol::VolumeSpec;
use crate::cluster::complaint::Member;

/// A child that mounts.
#[derive(Debug)]
struct Mounter {
    resource: String,
    killed: bool,
}

/// The children that mount, until they are dead: one that was killed is known to have ended before it has let its
/// device go.
#[derive(Debug, Default)]
pub(crate) struct Mounters {
    last: u64,
    /// Those that are not known to be dead.
    alive: BTreeMap<MounterId, Mounter>,
}

impl Mounters {
    /// Sends a child on this errand.
    pub(crate) fn send(
        &mut self,
        member: &Member,
        volume: &VolumeSpec,
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
    pub(crate) fn kill(&mut self, mounter: MounterId, out: &mut Effects) {
        let alive = self.alive.get_mut(&mounter);
        if let Some(child) = alive.filter(|child| !child.killed) {
            child.killed = true;
            out.push(Effect::KillMounter(mounter));
        }
    }

    /// This one is dead, or never came to life.
    pub(crate) fn forget(&mut self, mounter: MounterId) {
        self.alive.remove(&mounter);
    }

    /// Whether one may still have the device of this resource.
    pub(crate) fn may_hold(&self, resource: &str) -> bool {
        self.alive.values().any(|child| child.resource == resource)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }
}
