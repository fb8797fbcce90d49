//! What the daemon knows of its node, as it tells whoever asks: for people and tests, which need not read its log.
//!
//! Who asks may be of an earlier version than the daemon: it skips fields that it does not know, and reads variants that
//! it does not know as `Unknown`.

mod bounds;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::plan::detour::Overview;
use crate::plan::mover::Mover;
use crate::plan::vip::record::{Record, Role, RouterHop, TransitPath};
use crate::types::{BitRate, Mac, Milliseconds};

/// The node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// Its name, if that is known.
    pub(crate) node: Option<String>,
    /// Its ports, by their names.
    pub(crate) ports: BTreeMap<String, PortState>,
    /// The subnets of its ports, by their names.
    pub(crate) subnets: BTreeMap<String, SubnetState>,
    /// What is on record of VIPs, by resources; a VIP that another node routes for is called `@` and its address.
    pub(crate) vips: BTreeMap<String, VipState>,
    /// What is known of detours beside that.
    pub(crate) detours: Overview,
    /// What the cluster is told, by the attributes' names.
    pub(crate) attributes: BTreeMap<String, AttributeState>,
    /// What is wrong with the ports, in one line.
    pub(crate) trouble: Option<String>,
    /// Why the cluster does not know all that it is told.
    pub(crate) unpublished: Option<String>,
    /// How many entries were left out of the lists above, as there are too many for a message.
    pub(crate) omitted: usize,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortState {
    /// Its subnet.
    pub(crate) subnet: String,
    /// How it is.
    pub(crate) condition: Condition,
    /// Whether the cluster is told that it is good.
    pub(crate) good: bool,
    /// What it can carry, if that is known.
    pub(crate) speed_bits_per_second: Option<BitRate>,
    /// What VIPs move through it, as it was last measured.
    pub(crate) load_bits_per_second: BitRate,
    /// Whom it is asked through whether it forwards.
    pub(crate) targets: Vec<TargetState>,
}

/// How a port is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// It works.
    Good,
    /// It works, but has failed often of late.
    Flapping,
    /// An answer is overdue.
    Suspect,
    /// It works again, and has yet to go on doing so.
    Held {
        /// For how long.
        left_ms: Milliseconds,
    },
    /// It doesn't work.
    Failed {
        /// Why.
        why: Failure,
    },
    /// The node has no such interface.
    Missing,
    /// Another interface takes what comes in by it.
    PartOf {
        /// That bond or bridge.
        interface: String,
    },
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// Why a port has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failure {
    /// It has no carrier.
    Carrier,
    /// It has carrier, but no target answers through it.
    Silent,
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// Somebody who is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetState {
    /// Its address.
    pub(crate) address: IpAddr,
    /// How long ago it answered last; `None` if it has not yet.
    pub(crate) answered_ms_ago: Option<Milliseconds>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubnetState {
    /// Its networks.
    pub(crate) nets: Vec<IpNetwork>,
    /// How long ago this node lost it; `None` if it reaches it.
    pub(crate) lost_ms_ago: Option<Milliseconds>,
    /// Whether targets answer.
    pub(crate) hearing: Hearing,
}

/// Whether targets of a subnet answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hearing {
    /// They do.
    Answers,
    /// None does, and the other nodes have not been heard on it yet.
    InDoubt,
    /// None does here, but at another node.
    OnlyElsewhere,
    /// None does at any node.
    Nowhere,
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// What is on record of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VipState {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its virtual server.
    pub(crate) vserver: String,
    /// What this node does for it.
    pub(crate) role: RoleState,
    /// Whether it has been started, and nobody has begun to stop it.
    pub(crate) serving: bool,
    /// Whether the cluster was told that it is degraded.
    pub(crate) degraded: bool,
    /// The port that answers for it, as it was last seen.
    pub(crate) port: Option<String>,
    /// What it moves, as it was last measured.
    pub(crate) load_bits_per_second: BitRate,
    /// The Ethernet address of somebody who claimed it too.
    pub(crate) claimed_by: Option<Mac>,
}

/// What a node does for a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum RoleState {
    /// It has the cell and serves the VIP.
    Home,
    /// It routes to the node with the cell.
    Router {
        /// The way there.
        path: PathState,
    },
    /// It has the cell, and another node routes.
    Detour {
        /// That node; `None` if it is not known yet.
        router: Option<HopState>,
    },
    /// It should route, but can't.
    Stranded {
        /// Why.
        why: String,
    },
    /// It routed up to now, and passes on what is still coming.
    Ending {
        /// The way it goes.
        path: PathState,
    },
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// The path to the node with a VIP's cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathState {
    /// That node.
    pub(crate) node: String,
    /// The subnet between the two.
    pub(crate) subnet: String,
    /// This node's port on it.
    pub(crate) port: String,
    /// The other node's address on it.
    pub(crate) address: IpAddr,
}

/// The node that routes for a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HopState {
    /// Its name.
    pub(crate) node: String,
    /// Its address.
    pub(crate) address: IpAddr,
    /// This node's ports on the subnet between the two.
    pub(crate) ports: Vec<String>,
}

/// What the cluster is told by an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttributeState {
    /// The value; `None` if it is to be deleted.
    pub(crate) value: Option<String>,
    /// Whether it was told.
    pub(crate) told: bool,
}

impl From<&TransitPath> for PathState {
    fn from(path: &TransitPath) -> Self {
        Self {
            node: path.node.clone(),
            subnet: path.subnet.clone(),
            port: path.port.clone(),
            address: path.address,
        }
    }
}

impl From<&RouterHop> for HopState {
    fn from(hop: &RouterHop) -> Self {
        Self {
            node: hop.node.clone(),
            address: hop.router,
            ports: hop.ports.clone(),
        }
    }
}

impl From<&Role> for RoleState {
    fn from(role: &Role) -> Self {
        match role {
            Role::Home => Self::Home,
            Role::Router(path) => Self::Router { path: path.into() },
            Role::Stranded(why) => Self::Stranded { why: why.clone() },
            Role::Ending(path) => Self::Ending { path: path.into() },
            Role::Detour(hop) => Self::Detour {
                router: hop.as_ref().map(HopState::from),
            },
        }
    }
}

/// The VIPs on record, with what the mover knows of them.
pub(crate) fn vips(
    records: &BTreeMap<String, Record>,
    mover: &Mover,
) -> BTreeMap<String, VipState> {
    let vip = |record: &Record| VipState {
        address: record.spec.vip,
        vserver: record.spec.vserver.clone(),
        role: (&record.role).into(),
        serving: record.serving,
        degraded: record.degraded,
        port: mover.placed().get(&record.spec.vip).cloned().flatten(),
        load_bits_per_second: mover.load(record.spec.vip),
        claimed_by: record.claimed,
    };
    let records = records.iter();
    records
        .map(|(name, record)| (name.clone(), vip(record)))
        .collect()
}

impl NodeState {
    /// The same with what follows from the rest: what is wrong. Nothing is left out yet.
    pub(crate) fn with_trouble(self) -> Self {
        Self {
            trouble: trouble(&self),
            ..self
        }
    }

    /// How many VIPs are at a port.
    fn vips_at(&self, port: &str) -> usize {
        let here = self.vips.values();
        let here = here.filter(|vip| vip.port.as_deref() == Some(port));
        // One that is just handed over has two records.
        here.map(|vip| vip.address).collect::<BTreeSet<_>>().len()
    }
}

/// What is wrong with the ports, in one line: `eth1 down, 2 VIPs on eth2`. It is what people read of a monitor.
fn trouble(state: &NodeState) -> Option<String> {
    let (mut words, mut subnets) = (Vec::new(), BTreeSet::new());
    for (name, port) in &state.ports {
        let word = match &port.condition {
            Condition::PartOf { interface } => part_of(name, interface),
            Condition::Missing => format!("{name} missing"),
            Condition::Failed {
                why: Failure::Carrier,
            } => format!("{name} down"),
            Condition::Failed {
                why: Failure::Silent,
            } => format!("{name} silent"),
            Condition::Held { .. } => format!("{name} recovering"),
            Condition::Flapping => format!("{name} flapping"),
            Condition::Good
            | Condition::Suspect
            | Condition::Unknown
            | Condition::Failed {
                why: Failure::Unknown,
            } => continue,
        };
        words.push(word);
        subnets.insert(&port.subnet);
    }
    for (name, subnet) in &state.subnets {
        let mut ports = state.ports.values().filter(|port| port.subnet == *name);
        if subnet.hearing == Hearing::Nowhere && ports.any(|port| !port.targets.is_empty()) {
            words.push(format!("no target of {name} answers at any node"));
        }
    }
    if words.is_empty() {
        return None;
    }
    for (name, port) in &state.ports {
        let here = state.vips_at(name);
        if here > 0 && subnets.contains(&port.subnet) {
            let plural = if here == 1 { "" } else { "s" };
            words.push(format!("{here} VIP{plural} on {name}"));
        }
    }
    Some(words.join(", "))
}

/// Why a port can't serve addresses that another interface takes everything from.
pub(crate) fn part_of(port: &str, master: &str) -> String {
    format!("{port} is part of {master}: name {master}")
}
