//! The effects that the core of a keeper asks for.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;

use super::terms::{ClientId, MountTask, MounterId};
use crate::cell::cgroup::Limits;
use crate::cell::init::protocol::Order;
use crate::cell::keeper::rules::Rules;
use crate::cell::protocol::{Reply, VolumeSpec};
use crate::cell::service::ServerSpec;
use crate::cluster::complaint::Member;
use crate::plan::repair::{FsKind, Policy, Proof, Stage};
use crate::types::{IfName, ResourceId};

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Have a child do this with a file system. Answered by [`Event::NoMounter`](super::Event::NoMounter), or by
    /// [`Event::MountEnded`](super::Event::MountEnded) and then
    /// [`Event::MounterDead`](super::Event::MounterDead).
    Mount {
        /// The child's number.
        mounter: MounterId,
        /// The file system's resource.
        member: Member,
        /// The file system to be mounted.
        volume: Box<VolumeSpec>,
        /// What to do.
        task: MountTask,
    },
    /// Kill this child that mounts. Its events follow all the same.
    KillMounter(MounterId),
    /// Close the mount that this child has made, which is attached nowhere.
    DropMount(MounterId),
    /// Start a repair. Answered by [`Event::NoRepair`](super::Event::NoRepair), or by
    /// [`Event::RepairGoesOn`](super::Event::RepairGoesOn) until
    /// [`Event::RepairEnded`](super::Event::RepairEnded).
    Repair(Box<RepairSpec>),
    /// End the repair of the file system of this resource. No event follows.
    CutOff(ResourceId),
    /// Start the cell's PID 1. Answered by [`Event::CellSpawned`](super::Event::CellSpawned) or
    /// [`Event::NoCell`](super::Event::NoCell).
    SpawnCell,
    /// Connect the cell's network. Answered by [`Event::CellConnected`](super::Event::CellConnected) or
    /// [`Event::NotConnected`](super::Event::NotConnected).
    Connect,
    /// Give PID 1 this order. If PID 1 does not take it, [`Event::NotOrdered`](super::Event::NotOrdered) follows.
    Order {
        /// Its number.
        number: u64,
        /// What to do.
        order: Order,
        /// The mount that this child has made goes along. The keeper closes it once PID 1 has it, and keeps it if PID 1
        /// does not take the order.
        mount: Option<MounterId>,
    },
    /// End everything in the cell.
    KillCell,
    /// PID 1 is dead: clear away what was made for its cell, and stop what is being done in it.
    BuryCell,
    /// Show the cell the node's name services that it was not shown yet.
    ShowNames {
        /// Whether this cell has been shown nothing yet.
        anew: bool,
    },
    /// Replace the rules for connections to the cell. Answered by [`Event::Admitted`](super::Event::Admitted).
    Admit {
        /// The new rules.
        rules: Box<Rules>,
        /// The rules in force, if there are any.
        before: Option<Box<Rules>>,
    },
    /// Find out what the admin's own configuration for these servers exports. Answered by
    /// [`Event::Own`](super::Event::Own).
    Look(Box<ServerSpec>),
    /// Keep the cell within these limits from now on.
    Limit(Limits),
    /// Repeat the announcement of a VIP, through the socket that this client has sent.
    Announce {
        /// The client.
        client: ClientId,
        /// The VIP.
        vip: IpAddr,
        /// The port.
        port: IfName,
    },
    /// Answer an agent. A reply that the cell is found takes its network namespace along.
    Reply(ClientId, Reply),
    /// Hang up on an agent, which tells it to start the next keeper.
    HangUp(ClientId),
    /// Report failures to Pacemaker.
    Report {
        /// The members that have failed.
        members: Vec<Member>,
        /// The reason, in one line.
        why: &'static str,
    },
    /// Have Pacemaker forget that this member was degraded.
    CleanUp(Member),
    /// As [`Effect::CleanUp`], after a while, for a member that has left: even if this keeper has ended by then.
    CleanUpLater(Member),
    /// Start another sentinel. Where that fails it is answered by
    /// [`Event::NoSentinel`](super::Event::NoSentinel).
    SpawnSentinel,
    /// Tell the sentinel, if there is one, that these are to be reported if the keeper dies.
    Watch(Vec<Member>),
    /// Take no more agents, so that the next one starts a new keeper, and dismiss the sentinel.
    Retire,
    /// Write a line to the log.
    Log(Level, String),
}

/// A repair to be started.
#[derive(Debug)]
pub(crate) struct RepairSpec {
    /// The file system's resource.
    pub(crate) resource: ResourceId,
    /// The first stage.
    pub(crate) stage: Stage,
    /// The proof that the file system is damaged.
    pub(crate) proof: Proof,
    /// How far the repair may go.
    pub(crate) policy: Policy,
    /// The kind of the file system.
    pub(crate) kind: FsKind,
    /// The block device.
    pub(crate) device: PathBuf,
    /// Whether the file system has multiple-mount protection.
    pub(crate) mmp: bool,
}

/// The severity of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Nothing needs to be done about it.
    Info,
    /// It needs attention, but hinders nothing.
    Warning,
    /// Something does not work.
    Error,
    /// Nothing works any more.
    Critical,
}

/// Effects in their order.
#[derive(Debug, Default)]
pub(crate) struct Effects(Vec<Effect>);

impl Effects {
    /// Adds an effect.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Adds a line to the log.
    pub(crate) fn info(&mut self, line: impl Display) {
        self.push(Effect::Log(Level::Info, line.to_string()));
    }

    /// Adds a warning to the log.
    pub(crate) fn warn(&mut self, line: impl Display) {
        self.push(Effect::Log(Level::Warning, line.to_string()));
    }

    /// Adds an error to the log.
    pub(crate) fn error(&mut self, line: impl Display) {
        self.push(Effect::Log(Level::Error, line.to_string()));
    }

    /// Adds to the log that nothing works any more.
    pub(crate) fn critical(&mut self, line: impl Display) {
        self.push(Effect::Log(Level::Critical, line.to_string()));
    }
}

impl IntoIterator for Effects {
    type Item = Effect;
    type IntoIter = std::vec::IntoIter<Effect>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
