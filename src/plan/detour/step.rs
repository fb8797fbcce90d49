//! What the core takes, and what it has done.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::view::NodeView;
use crate::plan::attribute::{Attribute, Values};
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::vip::record::{Record, RouterHop, TransitPath, VipSpec};

/// An agent that waits for a path: whoever feeds the core numbers them.
pub(crate) type Asker = u64;

/// Virtual servers that this node can't reach: which node they are on, and for which VIP it was tried.
pub(crate) type Unreached = BTreeMap<String, (String, IpAddr)>;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// What there is on the node: its VIPs' records by their names, and what it reaches. Both were looked at together.
    Node {
        /// All records.
        records: BTreeMap<String, Record>,
        /// The ports, the subnets, the cells.
        view: NodeView,
    },
    /// A neighbour has replied.
    Reply(Reply),
    /// The nodes' values of an attribute, as they were queried: what is not in there was taken back or is forgotten.
    Attribute(Attribute, Values),
    /// A virtual server's cell was found, or why it can't be had.
    CellFound(String, Result<(), String>),
    /// What was to be reconciled was, or was not.
    Reconciled {
        /// The record's name.
        instance: String,
        /// What has come of it.
        outcome: Outcome,
    },
    /// The bytes that have come for each VIP by now.
    Traffic(BTreeMap<IpAddr, u64>),
    /// The nodes that the cluster takes a resource to be started on.
    Located {
        /// The resource.
        resource: String,
        /// The nodes.
        nodes: Vec<String>,
    },
    /// An agent wants to know the path to a virtual server's node.
    PathWanted {
        /// The agent.
        asker: Asker,
        /// The virtual server.
        vserver: String,
        /// The VIP that is to be routed.
        vip: IpAddr,
    },
    /// Time has passed. Nothing that depends on time alone is done on any other event: what has come in first has to
    /// be taken note of.
    Tick,
    /// The daemon ends, and no other one goes on with its work.
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
    /// Give an attribute of this node a value, or none: then it is deleted.
    Publish(Attribute, Option<String>),
    /// Keep this for the next daemon. It comes before what is published.
    Save(Saved),
    /// Change a record and what the kernel has for it: [`Event::Reconciled`] follows.
    Reconcile(Box<Reconcile>),
    /// Find a virtual server's cell on this node: [`Event::CellFound`] follows. It stays at hand.
    FindCell(String),
    /// This virtual server's cell, which was found, is not needed any more.
    ReleaseCell(String),
    /// Ask the cluster for the nodes that a resource is started on: [`Event::Located`] follows.
    Locate(String),
    /// Read the VIPs' counters: [`Event::Traffic`] follows if that is possible.
    Measure,
    /// Have the cluster forget what a resource has reported on a node.
    CleanUp {
        /// The resource.
        resource: String,
        /// The node.
        node: String,
    },
    /// Announce a VIP of this node's again.
    Announce(IpAddr),
    /// Answer an agent: the path, or why there is none.
    Answer(Asker, Result<TransitPath, String>),
    /// End all routing that was about to end, and wait for the lock: these are the records, by their names.
    EndRouting(BTreeMap<String, Record>),
    /// Tell people.
    Log(Level, String),
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something has happened as it should.
    Info,
    /// Something is not as it should be.
    Warning,
    /// Something could not be done.
    Error,
}

/// A change to one record, and to what the kernel has for it. It is made only if the record is still as it was when the
/// change was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reconcile {
    /// The record's name.
    pub(crate) instance: String,
    /// What to do.
    pub(crate) change: Change,
}

/// What to do for a VIP; `before` is its record as it has to be still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Route to the node with its cell, by this path.
    Route {
        /// The resource's record.
        before: Record,
        /// The path.
        path: TransitPath,
    },
    /// Have what its cell sends go to the node that routes for it. The cell was found.
    Follow {
        /// The detour's record, if there is one. If not, there must be none of the VIP's own resource either.
        before: Option<Record>,
        /// What is known of the VIP.
        spec: VipSpec,
        /// The node that routes.
        hop: RouterHop,
    },
    /// Note that this node can't route for it.
    GiveUp {
        /// The resource's record.
        before: Record,
        /// Why.
        why: String,
    },
    /// Take away all that it has on this node.
    Clear {
        /// Its record.
        before: Record,
        /// Whether its cell was found: then what it has in there goes too.
        in_cell: bool,
    },
    /// Forget the record: what the kernel has is another record's.
    Forget {
        /// The detour's record.
        before: Record,
    },
}

/// What has come of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is made.
    Done,
    /// It was not, as the record has changed meanwhile or the VIP's own resource is at work.
    Stale,
    /// It was not, as somebody else has the lock.
    Busy,
    /// It failed, for this reason.
    Failed(String),
}

/// What the next daemon has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The attributes that were published, which would stay. Those of a later version are for that one to take back.
    #[serde(deserialize_with = "known")]
    pub(crate) attributes: BTreeSet<Attribute>,
    /// The virtual servers that can't be reached.
    pub(crate) unreached: Unreached,
    /// Resources that have left, of which the cluster is still to forget that they were degraded.
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
