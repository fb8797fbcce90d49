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
use crate::types::{Mac, Milliseconds};

/// How long the cluster may take to say which node it is: a server may have just been started there.
const LOCATING_LIMIT: Duration = Duration::from_secs(3);
/// How often it is queried meanwhile, and how often where nobody waits for it.
const LOCATING_PAUSE: Duration = Duration::from_millis(150);
const LOCATING_PAUSE_PATIENT: Duration = Duration::from_secs(1);
/// How long the cluster may take to say by which addresses the node is reached, where none is known.
const ADDRESS_LIMIT: Duration = Duration::from_secs(1);
/// How long the node may take to reply.
const REPLY_LIMIT: Duration = Duration::from_millis(300);
/// How often it is probed meanwhile.
const PROBE_PAUSE: Duration = Duration::from_millis(40);
/// How long after the first reply others are waited for: a node with two ports on a subnet may reply by
/// both, and it can't be known by which of them it will send.
const GATHERING: Duration = Duration::from_millis(5);
/// More replies than a node has ports and addresses.
const REPLIES: usize = 64;

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPath {
    /// The virtual server is nowhere, as far as can be told.
    Nowhere(String),
    /// This node has it, but this one can't reach that.
    Unreached(String, String),
}

impl NoPath {
    /// In words.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Nowhere(why) | Self::Unreached(_, why) => why,
        }
    }
}

/// A search that goes on.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) vserver: String,
    pub(crate) vip: IpAddr,
    begun: Instant,
    /// When the cluster is queried for the virtual server's node; `None` once that is known.
    locate_at: Option<Instant>,
    pause: Duration,
    /// Whether the cluster was queried for the nodes' addresses.
    addresses_queried: bool,
    /// The nodes that say that they have it.
    claimants: Vec<String>,
    /// The one, and since when it is known.
    node: Option<(String, Instant)>,
    probe_at: Instant,
    replies: Vec<Reply>,
    /// Until when others are waited for, after the first one.
    gathering_until: Option<Instant>,
}

/// A path by which another node might be reached: the subnet, the port, the node's address there.
type Candidate<'v> = (&'v ReachableSubnet, &'v TransitPort, IpAddr);

/// The paths to a node for a VIP: not over the VIP's own subnet, which clients come by.
fn candidates<'v>(vip: IpAddr, node: &str, view: &'v NodeView) -> Vec<Candidate<'v>> {
    let mut found = Vec::new();
    let others = view
        .subnets
        .iter()
        .filter(|subnet| !subnet.nets.iter().any(|net| net.contains(vip)));
    for subnet in others {
        let peers = subnet.peers.get(node).into_iter().flatten();
        for target in peers.filter(|ip| ip.is_ipv4() == vip.is_ipv4() && subnet.fits(**ip)) {
            // The other node replies to an address, which only one port of this node has.
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
    pub(crate) fn new(vserver: &str, vip: IpAddr, now: Instant) -> Self {
        Self {
            vserver: vserver.to_owned(),
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

    /// One that goes on although nobody waits for it: the cluster is queried less often.
    pub(crate) fn patient(vserver: &str, vip: IpAddr, now: Instant) -> Self {
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
        // The node may have joined a moment ago.
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

    /// Takes note of which nodes say that they have the virtual server.
    pub(crate) fn on_cell(&mut self, values: &Values, now: Instant) {
        self.claimants = values.keys().cloned().collect();
        if let ([node], None) = (&self.claimants[..], &self.node) {
            self.node = Some((node.clone(), now));
            self.locate_at = None;
            self.probe_at = now;
        }
    }

    /// The probes of the node that are due. What has come of earlier ones has been looked at.
    pub(crate) fn probes_due(&mut self, view: &NodeView, now: Instant) -> Vec<Probe> {
        self.gathering_until = self.gathering_until.filter(|until| now < *until);
        let Some((node, _)) = self.node.as_ref().filter(|_| self.probe_at <= now) else {
            return Vec::new();
        };
        self.probe_at = now + PROBE_PAUSE;
        let candidates = candidates(self.vip, node, view);
        candidates.iter().map(probe).collect()
    }

    /// Takes note of a reply: of the node, and sent to the port that asked. Anything else may be
    /// meant for another port, or forged.
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

    /// When time alone changes something.
    pub(crate) fn next(&self) -> Instant {
        match (&self.node, self.locate_at, self.gathering_until) {
            (None, Some(at), _) => at,
            (_, _, Some(until)) => until.min(self.probe_at),
            _ => self.probe_at,
        }
    }

    /// Itself, for an overview.
    pub(crate) fn overview(&self, seeker: Seeker, now: Instant) -> OngoingSearch {
        OngoingSearch {
            seeker,
            vserver: self.vserver.clone(),
            vip: self.vip,
            node: self.node.as_ref().map(|(node, _)| node.clone()),
            age_ms: Milliseconds::between(self.begun, now),
        }
    }

    /// What it has led to, if it is over.
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

    /// The path over a candidate, if that has replied.
    fn path(&self, node: &str, (subnet, port, target): &Candidate<'_>) -> Option<TransitPath> {
        let here = |r: &&Reply| r.link == port.index && r.ip == *target;
        let mut macs: Vec<Mac> = self.replies.iter().filter(here).map(|r| r.from).collect();
        if macs.is_empty() {
            return None;
        }
        macs.sort_unstable();
        macs.dedup();
        Some(TransitPath {
            node: node.to_owned(),
            subnet: subnet.name.clone(),
            port: port.name.clone(),
            address: *target,
            macs,
            own: port.own_like(*target)?,
        })
    }
}
