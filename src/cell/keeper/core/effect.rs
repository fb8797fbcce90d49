//! What a keeper has to do for what has been decided.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;

use super::terms::{ClientId, Errand, MounterId};
use crate::cell::cgroup::Limits;
use crate::cell::init::protocol::Order;
use crate::cell::keeper::rules::Rules;
use crate::cell::protocol::{Reply, VolumeSpec};
use crate::cell::service::ServerSpec;
use crate::cluster::complaint::Member;
use crate::plan::repair::{FsKind, Policy, Proof, Stage};

/// Something to be done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Have a child do this with a file system. Answered by [`Event::NoMounter`](super::Event::NoMounter), or by
    /// [`Event::MountEnded`](super::Event::MountEnded) and then
    /// [`Event::MounterDead`](super::Event::MounterDead).
    Mount {
        /// The child's number.
        mounter: MounterId,
        /// Its resource.
        member: Member,
        /// What is wanted.
        volume: Box<VolumeSpec>,
        /// What to do.
        errand: Errand,
    },
    /// Kill this child that mounts. What it comes to is told all the same.
    KillMounter(MounterId),
    /// Close what this child has mounted, which is in no mount table.
    DropMount(MounterId),
    /// Start a repair. Answered by [`Event::NoRepair`](super::Event::NoRepair), or by
    /// [`Event::RepairGoesOn`](super::Event::RepairGoesOn) until
    /// [`Event::RepairEnded`](super::Event::RepairEnded).
    Repair(Box<Treatment>),
    /// End the repair of the file system of this resource. It is not heard of any more.
    CutOff(String),
    /// Start the cell's PID 1. Answered by [`Event::CellSpawned`](super::Event::CellSpawned) or
    /// [`Event::NoCell`](super::Event::NoCell).
    SpawnCell,
    /// Connect the cell's network. Answered by [`Event::CellConnected`](super::Event::CellConnected) or
    /// [`Event::NotConnected`](super::Event::NotConnected).
    Connect,
    /// Give PID 1 this order. Where that fails it is answered by [`Event::NotOrdered`](super::Event::NotOrdered).
    Order {
        /// Its number.
        number: u64,
        /// What to do.
        order: Order,
        /// What this child has mounted goes along: closed here when PID 1 has it, and kept when not.
        mount: Option<MounterId>,
    },
    /// End everything in the cell.
    KillCell,
    /// PID 1 is dead: undo what was made for its cell, and stop what is being done in it.
    BuryCell,
    /// Show the cell what it has not seen yet of the node's name services; anew, if it is another cell.
    ShowNames {
        /// Whether this cell has been shown nothing yet.
        anew: bool,
    },
    /// Have the cell's network let these in, where those of before are. Answered by
    /// [`Event::Admitted`](super::Event::Admitted).
    Admit {
        /// What is wanted.
        rules: Box<Rules>,
        /// What is in force.
        before: Option<Box<Rules>>,
    },
    /// Look what the admin's own configuration for these servers serves. Answered by
    /// [`Event::Own`](super::Event::Own).
    Look(Box<ServerSpec>),
    /// Keep the cell within these limits from now on.
    Limit(Limits),
    /// Announce a VIP some times more, through the socket that this client has sent along.
    Announce {
        /// The client.
        client: ClientId,
        /// The VIP.
        vip: IpAddr,
        /// The port.
        port: String,
    },
    /// Answer an agent; where the cell is, its network goes along.
    Reply(ClientId, Reply),
    /// Hang up on an agent, which tells it to start the next keeper.
    HangUp(ClientId),
    /// Report failures to Pacemaker.
    Report {
        /// Of these.
        members: Vec<Member>,
        /// In one line.
        why: &'static str,
    },
    /// Have Pacemaker forget that this one was degraded.
    CleanUp(Member),
    /// The same in a while, for one that has left; whether this keeper is still there then or not.
    CleanUpLater(Member),
    /// Start another sentinel. Where that fails it is answered by
    /// [`Event::NoSentinel`](super::Event::NoSentinel).
    SpawnSentinel,
    /// Tell the sentinel, if there is one, that these are to be reported if the keeper dies.
    Watch(Vec<Member>),
    /// Take no more agents, so that the next one starts a new keeper, and dismiss the sentinel.
    Retire,
    /// Say this in the log.
    Log(Level, String),
}

/// A repair to be started.
#[derive(Debug)]
pub(crate) struct Treatment {
    /// The file system's resource.
    pub(crate) resource: String,
    /// Where to begin.
    pub(crate) stage: Stage,
    /// What shows that it is needed.
    pub(crate) proof: Proof,
    /// How far it may go.
    pub(crate) policy: Policy,
    /// The file system's kind.
    pub(crate) kind: FsKind,
    /// Its block device.
    pub(crate) device: PathBuf,
    /// Whether it has multiple-mount protection.
    pub(crate) mmp: bool,
}

/// How much a line in the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// It is nothing to be done about.
    Info,
    /// It needs attention and hinders nothing.
    Warning,
    /// Something does not work.
    Error,
    /// Nothing does.
    Critical,
}

/// Effects in their order.
#[derive(Debug, Default)]
pub(crate) struct Effects(Vec<Effect>);

impl Effects {
    /// Adds one.
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
