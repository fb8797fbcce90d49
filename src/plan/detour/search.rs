//! The search for the path to the node that has a virtual server: which node that is, and over which subnet it answers.
//!
//! ```text
//!            one node names itself                 it replies
//!  locating ───────────────────────► probing ─────────────────────► the path
//!     │ none or several after 3 s       │ no address of its after 1 s, or no reply after 300 ms
//!     ▼                                 ▼
//!  nowhere                          unreached
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::plan::attribute::{Attribute, Values};
use crate::plan::detour::overview::{OngoingSearch, Seeker};
use crate::plan::detour::view::{NodeView, ReachableSubnet, TransitPort};
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::vip::record::TransitPath;
use crate::types::{Mac, Milliseconds, NodeName, VserverName};

/// How long the cluster may take to say which node it is: a server may have just been started there.
const LOCATING_LIMIT: Duration = Duration::from_secs(3);
/// How often the cluster is queried meanwhile, and how often by a search that nobody waits for.
const LOCATING_PAUSE: Duration = Duration::from_millis(150);
const LOCATING_PAUSE_PATIENT: Duration = Duration::from_secs(1);
/// How long the cluster may take to say by which addresses the node is reached, where none is known.
const ADDRESS_LIMIT: Duration = Duration::from_secs(1);
/// How long the node may take to reply.
const REPLY_LIMIT: Duration = Duration::from_millis(300);
/// How often it is probed meanwhile.
const PROBE_PAUSE: Duration = Duration::from_millis(40);
/// How long after the first reply further ones are waited for: a node with two ports on a subnet may reply by both, and
/// may send its packets by either.
const GATHERING: Duration = Duration::from_millis(5);
/// More replies than a node has ports and addresses.
const REPLIES: usize = 64;

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPath {
    /// No other node is known to have the virtual server, for this reason.
    Nowhere(String),
    /// The node with this name has the virtual server, and can't be reached for this reason.
    Unreached(NodeName, String),
}

impl NoPath {
    /// The reason, as people are told it.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Nowhere(why) | Self::Unreached(_, why) => why,
        }
    }
}

/// A search that goes on.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) vserver: VserverName,
    pub(crate) vip: IpAddr,
    begun: Instant,
    /// When the cluster is queried for the virtual server's node; `None` once that is known.
    locate_at: Option<Instant>,
    pause: Duration,
    /// Whether the cluster was queried for the nodes' addresses.
    addresses_queried: bool,
    /// The nodes that say that they have the virtual server's cell.
    claimants: Vec<NodeName>,
    /// The node with the virtual server, and since when it is known.
    node: Option<(NodeName, Instant)>,
    probe_at: Instant,
    replies: Vec<Reply>,
    /// Until when further replies are waited for after the first.
    gathering_until: Option<Instant>,
}

/// A path by which another node might be reached: the subnet, the port, the node's address there.
type Candidate<'v> = (&'v ReachableSubnet, &'v TransitPort, IpAddr);

/// The possible paths to a node for a VIP. The VIP's own subnet, by which clients come, is none of them.
fn candidates<'v>(vip: IpAddr, node: &NodeName, view: &'v NodeView) -> Vec<Candidate<'v>> {
    let mut found = Vec::new();
    let others = view
        .subnets
        .iter()
        .filter(|subnet| !subnet.nets.iter().any(|net| net.contains(vip)));
    for subnet in others {
        let peers = subnet.peers.get(node).into_iter().flatten();
        for target in peers.filter(|ip| ip.is_ipv4() == vip.is_ipv4() && subnet.fits(**ip)) {
            // The other node sends its reply to an address of this node: only a port with an address can be replied to.
            let ports = subnet
                .ports
                .iter()
                .filter(|port| port.own_like(vip).is_some());
            found.extend(ports.map(|port| (subnet, port, *target)));
        }
    }
    found
}

/// The probe whether `target` is there.
fn probe((_, port, target): &Candidate<'_>) -> Probe {
    Probe {
        link: port.index,
        mac: port.mac,
        target: *target,
        source: port.own_like(*target),
        to: None,
    }
}

impl Search {
    pub(crate) fn new(vserver: &VserverName, vip: IpAddr, now: Instant) -> Self {
        Self {
            vserver: vserver.clone(),
            vip,
            begun: now,
            locate_at: Some(now),
            pause: LOCATING_PAUSE,
            addresses_queried: false,
            claimants: Vec::new(),
            node: None,
            probe_at: now,
            replies: Vec::new(),
            gathering_until: None,
        }
    }

    /// A search that no agent waits for: the cluster is queried less often.
    pub(crate) fn patient(vserver: &VserverName, vip: IpAddr, now: Instant) -> Self {
        Self {
            pause: LOCATING_PAUSE_PATIENT,
            ..Self::new(vserver, vip, now)
        }
    }

    /// The attributes that the cluster is to be queried for now.
    pub(crate) fn queries_due(&mut self, view: &NodeView, now: Instant) -> Vec<Attribute> {
        if self.locate_at.is_some_and(|at| at <= now) {
            self.locate_at = Some(now + self.pause);
            return vec![Attribute::Cell(self.vserver.clone())];
        }
        // No address of the node is known: it may have joined the cluster a moment ago.
        match &self.node {
            Some((node, _))
                if !self.addresses_queried && candidates(self.vip, node, view).is_empty() =>
            {
                self.addresses_queried = true;
                let subnets = view.subnets.iter();
                subnets.map(|s| Attribute::Addr(s.name.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Notes which nodes say that they have the virtual server's cell.
    pub(crate) fn on_cell(&mut self, values: &Values, now: Instant) {
        self.claimants = values.keys().cloned().collect();
        if let ([node], None) = (&self.claimants[..], &self.node) {
            self.node = Some((node.clone(), now));
            self.locate_at = None;
            self.probe_at = now;
        }
    }

    /// The probes of the node that are due. To be called after [`Self::outcome`], which takes the earlier probes'
    /// replies.
    pub(crate) fn probes_due(&mut self, view: &NodeView, now: Instant) -> Vec<Probe> {
        self.gathering_until = self.gathering_until.filter(|until| now < *until);
        let Some((node, _)) = self.node.as_ref().filter(|_| self.probe_at <= now) else {
            return Vec::new();
        };
        self.probe_at = now + PROBE_PAUSE;
        let candidates = candidates(self.vip, node, view);
        candidates.iter().map(probe).collect()
    }

    /// Notes a reply if the node has sent it to the port that probed. Any other one may be for another port, or forged.
    pub(crate) fn on_reply(&mut self, reply: &Reply, view: &NodeView, now: Instant) {
        let Some((node, _)) = &self.node else { return };
        let counts = |(_, port, target): &Candidate<'_>| {
            (reply.link, reply.ip, reply.to) == (port.index, *target, port.mac)
        };
        if self.replies.len() < REPLIES
            && !self.replies.contains(reply)
            && candidates(self.vip, node, view).iter().any(counts)
        {
            self.replies.push(*reply);
            self.gathering_until.get_or_insert(now + GATHERING);
        }
    }

    /// When anything is due by time alone.
    pub(crate) fn next(&self) -> Instant {
        match (&self.node, self.locate_at, self.gathering_until) {
            (None, Some(at), _) => at,
            (_, _, Some(until)) => until.min(self.probe_at),
            _ => self.probe_at,
        }
    }

    /// This search, for an overview.
    pub(crate) fn overview(&self, seeker: Seeker, now: Instant) -> OngoingSearch {
        OngoingSearch {
            seeker,
            vserver: self.vserver.clone(),
            vip: self.vip,
            node: self.node.as_ref().map(|(node, _)| node.clone()),
            age_ms: Milliseconds::between(self.begun, now),
        }
    }

    /// The result of the search: the path, or why there is none; `None` while the search goes on.
    pub(crate) fn outcome(
        &self,
        view: &NodeView,
        now: Instant,
    ) -> Option<Result<TransitPath, NoPath>> {
        let vserver = &self.vserver;
        let Some((node, since)) = &self.node else {
            let over = now.saturating_duration_since(self.begun) >= LOCATING_LIMIT;
            let why = match &self.claimants[..] {
                [] => format!("no way to {vserver}: no node says that it has it"),
                several => format!(
                    "no way to {vserver}: {} all say that they have it",
                    several.join(", ")
                ),
            };
            return over.then_some(Err(NoPath::Nowhere(why)));
        };
        if view.node.as_ref() == Some(node) {
            let why = format!("no way to {vserver}: its cell is on this node");
            return Some(Err(NoPath::Nowhere(why)));
        }
        let candidates = candidates(self.vip, node, view);
        if candidates.is_empty() {
            if now.saturating_duration_since(*since) < ADDRESS_LIMIT {
                return None;
            }
            let why = format!(
                "no way to {vserver} on {node}: both nodes work on no other subnet than that of {}",
                self.vip
            );
            return Some(Err(NoPath::Unreached(node.clone(), why)));
        }
        if self.gathering_until.is_some_and(|until| now < until) {
            return None;
        }
        let path = candidates.iter().find_map(|c| self.path(node, c));
        if let Some(path) = path {
            return Some(Ok(path));
        }
        let over = now.saturating_duration_since(*since) >= REPLY_LIMIT;
        over.then(|| {
            let mut probed: Vec<String> = candidates
                .iter()
                .map(|(subnet, _, target)| format!("{target} on {}", subnet.name))
                .collect();
            probed.dedup();
            let probed = probed.join(", ");
            let why = format!("no way to {vserver} on {node}: no answer from {probed}");
            Err(NoPath::Unreached(node.clone(), why))
        })
    }

    /// The path over a candidate, if the node has replied there.
    fn path(&self, node: &NodeName, (subnet, port, target): &Candidate<'_>) -> Option<TransitPath> {
        let here = |r: &&Reply| r.link == port.index && r.ip == *target;
        let mut macs: Vec<Mac> = self.replies.iter().filter(here).map(|r| r.from).collect();
        if macs.is_empty() {
            return None;
        }
        macs.sort_unstable();
        macs.dedup();
        Some(TransitPath {
            node: node.clone(),
            subnet: subnet.name.clone(),
            port: port.name.clone(),
            address: *target,
            macs,
            own: port.own_like(*target)?,
        })
    }
}
