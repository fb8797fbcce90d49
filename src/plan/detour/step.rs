//! The events that the core of detours takes, and the effects that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::view::NodeView;
use crate::plan::attribute::{Attribute, Values};
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::vip::record::{Record, RouterHop, TransitPath, VipSpec};
use crate::types::{NodeName, VserverName};

/// An agent that waits for a path, by a number that the core's caller has given it.
pub(crate) type Asker = u64;

/// Virtual servers that this node can't reach: the node that each is on, and the VIP that a path was sought for.
pub(crate) type Unreached = BTreeMap<VserverName, (NodeName, IpAddr)>;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The state of the node: its VIPs' records by their names, and what it reaches. Both were read at the same time.
    Node {
        /// All records.
        records: BTreeMap<String, Record>,
        /// The ports, the subnets, the cells.
        view: NodeView,
    },
    /// A neighbour has replied.
    Reply(Reply),
    /// The answer to a query: the nodes' values of an attribute. A node without one has deleted it, or the cluster has
    /// forgotten it.
    Attribute(Attribute, Values),
    /// A virtual server's cell was found, or can't be entered for this reason.
    CellFound(VserverName, Result<(), String>),
    /// An [`Effect::Reconcile`] was carried out, or was not.
    Reconciled {
        /// The record's name.
        instance: String,
        /// What has come of it.
        outcome: Outcome,
    },
    /// The bytes that have arrived for each VIP since it was started.
    Traffic(BTreeMap<IpAddr, u64>),
    /// The nodes on which a resource is started according to the cluster.
    Located {
        /// The resource.
        resource: String,
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// An agent wants to know the path to a virtual server's node.
    PathWanted {
        /// The agent.
        asker: Asker,
        /// The virtual server.
        vserver: VserverName,
        /// The VIP that is to be routed.
        vip: IpAddr,
    },
    /// Time has passed. What depends on time alone is done on this event only, after all that has come in was noted: a
    /// reply that is already there must not be taken for missing.
    Tick,
    /// The daemon ends, and no other one continues its work.
    Shutdown {
        /// All records.
        records: BTreeMap<String, Record>,
    },
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Send a neighbour request.
    Probe(Probe),
    /// Query the nodes' values of an attribute, once: [`Event::Attribute`] follows.
    Query(Attribute),
    /// Set an attribute of this node to a value; `None` deletes it.
    Publish(Attribute, Option<String>),
    /// Save this for the next daemon, before what follows is published.
    Save(Saved),
    /// Change a record and what the kernel has for it: [`Event::Reconciled`] follows.
    Reconcile(Box<Reconcile>),
    /// Find a virtual server's cell on this node: [`Event::CellFound`] follows. It stays open until it is released.
    FindCell(VserverName),
    /// Close this virtual server's cell, which was found: no change needs it any more.
    ReleaseCell(VserverName),
    /// Ask the cluster for the nodes that a resource is started on: [`Event::Located`] follows.
    Locate(String),
    /// Read the VIPs' counters: [`Event::Traffic`] follows if they can be read.
    Measure,
    /// Have the cluster delete the history of a resource on a node.
    CleanUp {
        /// The resource.
        resource: String,
        /// The node.
        node: NodeName,
    },
    /// Announce a VIP of this node's again.
    Announce(IpAddr),
    /// Answer an agent: the path, or why there is none.
    Answer(Asker, Result<TransitPath, String>),
    /// End the routing of these records, by their names, which was about to end. This waits for the lock.
    EndRouting(BTreeMap<String, Record>),
    /// Write a line to the log.
    Log(Level, String),
}

/// The severity of a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something has happened as it should.
    Info,
    /// Something is not as it should be.
    Warning,
    /// Something could not be done.
    Error,
}

/// A change to one record, and to what the kernel has for it. The change is made only if the record is still the one
/// from which it was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reconcile {
    /// The record's name.
    pub(crate) instance: String,
    /// What to do.
    pub(crate) change: Change,
}

/// What to do for a VIP; `before` is the record that it must still have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Route the VIP to the node with its cell, by this path.
    Route {
        /// The resource's record.
        before: Record,
        /// The path.
        path: TransitPath,
    },
    /// Send what the VIP's cell sends to the node that routes for it. The cell was found.
    Follow {
        /// The detour's record, if there is one. If not, the VIP's own resource must have no record either.
        before: Option<Record>,
        /// What is known of the VIP.
        spec: VipSpec,
        /// The node that routes.
        hop: RouterHop,
    },
    /// Note on record that this node has no path for the VIP.
    GiveUp {
        /// The resource's record.
        before: Record,
        /// Why.
        why: String,
    },
    /// Remove all that this node has of the VIP, and its record.
    Clear {
        /// The VIP's record.
        before: Record,
        /// Whether its cell was found: then what the VIP has inside the cell is removed, too.
        in_cell: bool,
    },
    /// Delete the record alone: what the kernel has belongs to another record now.
    Forget {
        /// The detour's record.
        before: Record,
    },
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The change is made.
    Done,
    /// The change was not made: the record has changed meanwhile, or the agent of the VIP's own resource is at work.
    Stale,
    /// The change was not made: somebody else has the lock.
    Busy,
    /// The change failed, for this reason.
    Failed(String),
}

/// What a daemon saves for the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The attributes that were published, to be deleted when they no longer hold. Attributes that only a later version
    /// knows are left out: that version deletes them.
    #[serde(deserialize_with = "known")]
    pub(crate) attributes: BTreeSet<Attribute>,
    /// The virtual servers that can't be reached.
    pub(crate) unreached: Unreached,
    /// Resources that have left this node and that the cluster still shows as degraded here.
    #[serde(default)]
    pub(crate) left: BTreeSet<String>,
}

/// The attributes that this version knows.
fn known<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Attribute>, D::Error> {
    let names = BTreeSet::<String>::deserialize(from)?;
    Ok(names
        .iter()
        .filter_map(|name| Attribute::parse(name))
        .collect())
}

impl Effect {
    pub(crate) fn info(text: impl Into<String>) -> Self {
        Self::Log(Level::Info, text.into())
    }

    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self::Log(Level::Warning, text.into())
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self::Log(Level::Error, text.into())
    }
}
