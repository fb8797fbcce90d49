//! What the core knows of detours, for people and tests. Nothing is decided by it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Detours;
use crate::types::{Label, Milliseconds, NodeName, VserverName};

/// What this node knows of detours beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// The searches for paths that are going on.
    pub(crate) searches: Vec<OngoingSearch>,
    /// What the other nodes claim to route for this one.
    pub(crate) claims: Vec<ForeignClaim>,
    /// The virtual servers that this node can't reach, and the node that each is on.
    pub(crate) unreached: BTreeMap<VserverName, NodeName>,
    /// The resources of this node that another one routes for too.
    pub(crate) rivalries: BTreeMap<String, Rivalry>,
}

/// A search for the path to the node with a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OngoingSearch {
    /// Who waits for it.
    pub(crate) seeker: Seeker,
    /// The virtual server.
    pub(crate) vserver: VserverName,
    /// The VIP that is to be routed.
    pub(crate) vip: IpAddr,
    /// The node with the virtual server; `None` until that is known.
    pub(crate) node: Option<NodeName>,
    /// How long it has been going on.
    pub(crate) age_ms: Milliseconds,
}

/// Who waits for a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Seeker {
    /// An agent that starts its resource.
    Agent,
    /// A resource that routes, or should.
    Resource {
        /// Its name.
        name: String,
    },
    /// Nobody: the search finds out whether this node may delete the attribute that says that there is no path.
    Nobody,
    /// A kind of seeker that only a later version knows.
    #[serde(other)]
    Unknown,
}

/// Another node's claim that it routes for a VIP of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForeignClaim {
    /// The node that claims it.
    pub(crate) node: NodeName,
    /// The VIP's vserver.
    pub(crate) vserver: VserverName,
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The subnet over which replies are to be sent to that node.
    pub(crate) subnet: Label,
    /// That node's address on the subnet.
    pub(crate) router: IpAddr,
    /// Whether its routing ends: it only forwards what still arrives.
    pub(crate) ending: bool,
    /// How long ago the claim was first seen.
    pub(crate) age_ms: Milliseconds,
    /// Why the claims for this VIP can't be followed; `None` if they can.
    pub(crate) refused: Option<String>,
}

/// How far the dispute with another node that routes for the same VIP has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rivalry {
    /// The other node has claimed the VIP once: one router may just be taking over from the other.
    Suspected,
    /// The cluster is being asked which of the two should route.
    Asked,
    /// The cluster has said that this node should route.
    Meant,
    /// A stage that only a later version knows.
    #[serde(other)]
    Unknown,
}

impl Detours {
    /// The overview at `now`.
    pub(crate) fn overview(&self, now: Instant) -> Overview {
        let agents = self.waiting.iter();
        let agents = agents.map(|waiting| waiting.search.overview(Seeker::Agent, now));
        let unreached = self.router.unreached().iter();
        Overview {
            searches: agents.chain(self.router.ongoing_searches(now)).collect(),
            claims: self.home.foreign_claims(now),
            unreached: unreached
                .map(|(vserver, (node, _))| (vserver.clone(), node.clone()))
                .collect(),
            rivalries: self.router.rivalries(),
        }
    }
}
