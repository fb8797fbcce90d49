//! What the core knows of detours, for people and tests: a picture that decides nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Detours;
use crate::types::Milliseconds;

/// What this node knows of detours beside its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// The searches for paths that go on.
    pub(crate) searches: Vec<OngoingSearch>,
    /// What the other nodes say that they route for this one.
    pub(crate) claims: Vec<ForeignClaim>,
    /// The virtual servers that this node can't reach, and the nodes that they are on.
    pub(crate) unreached: BTreeMap<String, String>,
    /// The resources of this node that another one routes for too.
    pub(crate) rivalries: BTreeMap<String, Rivalry>,
}

/// A search for the path to the node with a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OngoingSearch {
    /// Who waits for it.
    pub(crate) seeker: Seeker,
    /// The virtual server.
    pub(crate) vserver: String,
    /// The VIP that is to be routed.
    pub(crate) vip: IpAddr,
    /// The node with the virtual server; `None` until that is known.
    pub(crate) node: Option<String>,
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
    /// Nobody: the cluster was told that there is no path, which is to be taken back.
    Nobody,
    /// Somebody of whom only a later version knows.
    #[serde(other)]
    Unknown,
}

/// That another node says that it routes for a VIP of this one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForeignClaim {
    /// The node that says so.
    pub(crate) node: String,
    /// The VIP's vserver.
    pub(crate) vserver: String,
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The subnet that replies are to take.
    pub(crate) subnet: String,
    /// That node's address there.
    pub(crate) router: IpAddr,
    /// Whether it only passes on what is still coming.
    pub(crate) ending: bool,
    /// How long it has been known.
    pub(crate) age_ms: Milliseconds,
    /// Why what is claimed for this VIP can't be followed.
    pub(crate) refused: Option<String>,
}

/// How far it has come with another node that routes for the same VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rivalry {
    /// The other one has said so once: it may be just a change of routers.
    Suspected,
    /// The cluster is asked which of the two should route.
    Asked,
    /// The cluster has said that it is this one.
    Meant,
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

impl Detours {
    /// What is known at `now`.
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
