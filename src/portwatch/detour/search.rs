//! The way to the node that has a virtual server: which node that is, and over which subnet it answers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Surroundings;
use crate::address::record::Path as Way;
use crate::plan::attribute::{Attribute, Values};
use crate::portwatch::watch::{Crossing, Shared};
use crate::sys::announce::{Answer, Question};
use crate::types::Mac;

/// How long the cluster may take to say which node it is: a server may have just been started there.
const WHERE_LIMIT: Duration = Duration::from_secs(3);
/// How often it is asked meanwhile, and how often where nobody waits for it.
const WHERE_PAUSE: Duration = Duration::from_millis(150);
const WHERE_CALM: Duration = Duration::from_secs(1);
/// How long the cluster may take to say by which addresses the node is reached, where none is known.
const ADDRESS_LIMIT: Duration = Duration::from_secs(1);
/// How long the node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// How often it is asked meanwhile.
const ANSWER_PAUSE: Duration = Duration::from_millis(40);

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// The virtual server is nowhere, as far as can be told.
    Nowhere(String),
    /// This node has it, but this one can't reach that.
    Unreached(String, String),
}

impl NoWay {
    pub fn reason(&self) -> &str {
        match self {
            Self::Nowhere(why) | Self::Unreached(_, why) => why,
        }
    }
}

/// How long after the first answer others are waited for: a node with two ports on a subnet may answer by
/// both, and it can't be known by which of them it will send.
const GATHERING: Duration = Duration::from_millis(5);
/// More answers than a node has ports and addresses.
const HEARD: usize = 64;

/// A search that goes on.
#[derive(Debug)]
pub(crate) struct Search {
    pub vserver: String,
    pub vip: IpAddr,
    begun: Instant,
    ask_cluster: Option<Instant>,
    pause: Duration,
    /// Whether the cluster was asked for the nodes' addresses.
    asked_addresses: bool,
    /// The nodes that say that they have it.
    claims: Vec<String>,
    /// The one, and since when it is known.
    node: Option<(String, Instant)>,
    ask_node: Instant,
    heard: Vec<Answer>,
    /// When the first answer came.
    heard_at: Option<Instant>,
}

/// A way that another node might be reached by: the subnet, the port, the node's address there.
type Candidate<'s> = (&'s Shared, &'s Crossing, IpAddr);

/// The ways to a node for a VIP: not over the VIP's own subnet, which clients come by.
fn candidates<'s>(vip: IpAddr, node: &str, around: &'s Surroundings) -> Vec<Candidate<'s>> {
    let mut found = Vec::new();
    let others = around
        .shared
        .iter()
        .filter(|subnet| !subnet.nets.iter().any(|net| net.contains(vip)));
    for subnet in others {
        let peers = subnet.peers.get(node).into_iter().flatten();
        for target in peers.filter(|ip| ip.is_ipv4() == vip.is_ipv4() && subnet.fits(**ip)) {
            // The other node answers to an address, which only one port of this node has.
            let ports = subnet
                .ports
                .iter()
                .filter(|port| port.own_like(vip).is_some());
            found.extend(ports.map(|port| (subnet, port, *target)));
        }
    }
    found
}

/// The question whether `target` is there.
fn question((_, port, target): &Candidate<'_>) -> Question {
    Question {
        link: port.index,
        mac: port.mac,
        target: *target,
        source: port.own_like(*target),
        to: None,
    }
}

impl Search {
    pub fn new(vserver: &str, vip: IpAddr, now: Instant) -> Self {
        Self {
            vserver: vserver.to_owned(),
            vip,
            begun: now,
            ask_cluster: Some(now),
            pause: WHERE_PAUSE,
            asked_addresses: false,
            claims: Vec::new(),
            node: None,
            ask_node: now,
            heard: Vec::new(),
            heard_at: None,
        }
    }

    /// One that goes on although nobody waits for it: the cluster is asked less often.
    pub fn patient(vserver: &str, vip: IpAddr, now: Instant) -> Self {
        Self {
            pause: WHERE_CALM,
            ..Self::new(vserver, vip, now)
        }
    }

    /// The attributes that the cluster is to be asked for now.
    pub fn asks(&mut self, around: &Surroundings, now: Instant) -> Vec<Attribute> {
        if self.ask_cluster.is_some_and(|at| at <= now) {
            self.ask_cluster = Some(now + self.pause);
            return vec![Attribute::Cell(self.vserver.clone())];
        }
        // The node may have joined a moment ago.
        match &self.node {
            Some((node, _))
                if !self.asked_addresses && candidates(self.vip, node, around).is_empty() =>
            {
                self.asked_addresses = true;
                let subnets = around.shared.iter();
                subnets.map(|s| Attribute::Addr(s.name.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes note of which nodes say that they have the virtual server.
    pub fn told(&mut self, values: &Values, now: Instant) {
        self.claims = values.keys().cloned().collect();
        if let ([node], None) = (&self.claims[..], &self.node) {
            self.node = Some((node.clone(), now));
            self.ask_cluster = None;
            self.ask_node = now;
        }
    }

    /// The questions to the node that are due.
    pub fn questions(&mut self, around: &Surroundings, now: Instant) -> Vec<Question> {
        let Some((node, _)) = self.node.as_ref().filter(|_| self.ask_node <= now) else {
            return Vec::new();
        };
        self.ask_node = now + ANSWER_PAUSE;
        let candidates = candidates(self.vip, node, around);
        candidates.iter().map(question).collect()
    }

    /// Takes note of an answer: of the node, and addressed to the port that asked. Anything else may be
    /// meant for another port, or forged.
    pub fn hear(&mut self, answer: &Answer, around: &Surroundings, now: Instant) {
        let Some((node, _)) = &self.node else { return };
        let counts = |(_, port, target): &Candidate<'_>| {
            (answer.link, answer.ip, answer.to) == (port.index, *target, port.mac)
        };
        let known = self.heard.contains(answer);
        if !known
            && candidates(self.vip, node, around).iter().any(counts)
            && self.heard.len() < HEARD
        {
            self.heard.push(*answer);
            self.heard_at.get_or_insert(now);
        }
    }

    /// When time alone changes something.
    pub fn next(&self) -> Instant {
        let gathered = self.heard_at.map(|at| at + GATHERING);
        match (&self.node, self.ask_cluster) {
            (None, Some(at)) => at,
            _ => gathered.map_or(self.ask_node, |at| at.min(self.ask_node)),
        }
    }

    /// What it has led to, if it is over.
    pub fn outcome(&self, around: &Surroundings, now: Instant) -> Option<Result<Way, NoWay>> {
        let vserver = &self.vserver;
        let Some((node, since)) = &self.node else {
            let over = now.saturating_duration_since(self.begun) >= WHERE_LIMIT;
            let why = match &self.claims[..] {
                [] => format!("no way to {vserver}: no node says that it has it"),
                several => format!(
                    "no way to {vserver}: {} all say that they have it",
                    several.join(", ")
                ),
            };
            return over.then_some(Err(NoWay::Nowhere(why)));
        };
        if around.node.as_ref() == Some(node) {
            let why = format!("no way to {vserver}: its cell is on this node");
            return Some(Err(NoWay::Nowhere(why)));
        }
        let candidates = candidates(self.vip, node, around);
        if candidates.is_empty() {
            if now.saturating_duration_since(*since) < ADDRESS_LIMIT {
                return None;
            }
            let why = format!(
                "no way to {vserver} on {node}: both nodes work on no other subnet than that of {}",
                self.vip
            );
            return Some(Err(NoWay::Unreached(node.clone(), why)));
        }
        let gathering = |at: Instant| now.saturating_duration_since(at) < GATHERING;
        if self.heard_at.is_some_and(gathering) {
            return None;
        }
        for (subnet, port, target) in &candidates {
            let here = |a: &&Answer| a.link == port.index && a.ip == *target;
            let mut macs: Vec<Mac> = self.heard.iter().filter(here).map(|a| a.from).collect();
            macs.sort_unstable();
            macs.dedup();
            if let (false, Some(own)) = (macs.is_empty(), port.own_like(*target)) {
                return Some(Ok(Way {
                    node: node.clone(),
                    subnet: subnet.name.clone(),
                    port: port.port.clone(),
                    address: *target,
                    macs,
                    own,
                }));
            }
        }
        let over = now.saturating_duration_since(*since) >= ANSWER_LIMIT;
        over.then(|| {
            let mut asked: Vec<String> = candidates
                .iter()
                .map(|(subnet, _, target)| format!("{target} on {}", subnet.name))
                .collect();
            asked.dedup();
            let asked = asked.join(", ");
            let why = format!("no way to {vserver} on {node}: no answer from {asked}");
            Err(NoWay::Unreached(node.clone(), why))
        })
    }
}
