//! Tests of the decisions, with time and a node that are made up here.

mod home;
mod model;
mod node;
mod overview;
mod rivals;
mod router;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::claim::parse;
use super::*;
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::vip::record::{TransitPath, VipSpec};
use crate::types::Mac;

const RESOURCE: &str = "alpha-ip1";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The index of a node's port on the subnet between the nodes.
const PORT: u32 = 3;

fn vip() -> IpAddr {
    [10, 1, 0, 50].into()
}

fn number(node: &str) -> u8 {
    node.trim_start_matches('n').parse().unwrap()
}

/// A node's address on the subnet between the nodes.
fn address(node: &str) -> IpAddr {
    [10, 2, 0, number(node)].into()
}

fn mac(node: &str) -> Mac {
    Mac([2, 0, 0, 0, 0, number(node)])
}

/// What a node has that knows the addresses of the others.
fn view(node: &str, cells: &[&str]) -> NodeView {
    let peers = NODES.iter().filter(|other| **other != node);
    NodeView {
        node: Some(node.into()),
        cells: cells.iter().map(|&cell| cell.into()).collect(),
        subnets: vec![ReachableSubnet {
            name: "lab".into(),
            nets: vec!["10.2.0.0/24".parse().unwrap()],
            ports: vec![TransitPort {
                name: "eth3".into(),
                index: PORT,
                mac: mac(node),
                own: vec![address(node)],
            }],
            own: vec![address(node)],
            peers: peers
                .map(|&other| (other.into(), vec![address(other)]))
                .collect(),
        }],
        lost_subnet: false,
        interval: Duration::from_millis(200),
        patience: Duration::from_millis(800),
    }
}

fn spec() -> VipSpec {
    VipSpec {
        vserver: "alpha".into(),
        vip: vip(),
        subnet: "10.1.0.0/24".parse().ok(),
        gateway: None,
        ports: None,
        routed: false,
        reroute: true,
    }
}

fn record(role: Role) -> Record {
    Record {
        serving: true,
        ..Record::new(&spec(), role)
    }
}

/// The path from a node to another.
fn path(from: &str, to: &str) -> TransitPath {
    TransitPath {
        node: to.into(),
        subnet: "lab".into(),
        port: "eth3".into(),
        address: address(to),
        macs: vec![mac(to)],
        own: address(from),
    }
}

/// The claim of a router on behalf of the node with the cell.
fn claim(router: &str) -> String {
    format!("alpha/{}/lab/{}", vip(), address(router))
}

fn values(pairs: &[(&str, &str)]) -> Values {
    let pairs = pairs.iter();
    pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

fn cell() -> Attribute {
    Attribute::Cell("alpha".into())
}

/// A node's core, and what it has asked for since that was last looked at.
struct Node {
    core: Detours,
    now: Instant,
    records: BTreeMap<String, Record>,
    view: NodeView,
    effects: Vec<Effect>,
}

impl Node {
    fn new(name: &'static str, cells: &[&str]) -> Self {
        let (view, now) = (view(name, cells), Instant::now());
        let mut node = Self {
            core: Detours::new(Saved::default(), view.clone(), now),
            now,
            records: BTreeMap::new(),
            view,
            effects: Vec::new(),
        };
        node.look();
        node
    }

    /// A node that has been routing to n1.
    fn routing(name: &'static str) -> Self {
        let mut node = Self::new(name, &[]);
        node.put(RESOURCE, record(Role::Router(path(name, "n1"))));
        node.tick();
        node
    }

    fn on(&mut self, event: Event) {
        self.core.on(event, self.now, &mut self.effects);
    }

    fn look(&mut self) {
        let (records, view) = (self.records.clone(), self.view.clone());
        self.on(Event::Node { records, view });
    }

    fn put(&mut self, name: &str, record: Record) {
        self.records.insert(name.to_owned(), record);
        self.look();
    }

    fn remove(&mut self, name: &str) {
        self.records.remove(name);
        self.look();
    }

    fn tick(&mut self) {
        self.on(Event::Tick);
    }

    /// Lets time pass, with all that is due meanwhile; the nodes that are routed to reply if `heard`.
    fn pass(&mut self, time: Duration, heard: bool) {
        let end = self.now + time;
        while let Some(next) = self.core.next().filter(|next| *next <= end) {
            self.now = next.max(self.now + Duration::from_millis(1));
            let before = self.effects.len();
            self.tick();
            let probes: Vec<Probe> = self.effects[before..]
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Probe(probe) => Some(*probe),
                    _ => None,
                })
                .collect();
            for probe in probes.iter().filter(|_| heard) {
                self.reply(probe);
            }
        }
        self.now = end;
        self.tick();
    }

    fn reply(&mut self, probe: &Probe) {
        let from = NODES.iter().find(|node| address(node) == probe.target);
        self.on(Event::Reply(Reply {
            link: probe.link,
            ip: probe.target,
            from: mac(from.unwrap()),
            to: probe.mac,
        }));
    }

    fn attribute(&mut self, attribute: Attribute, pairs: &[(&str, &str)]) {
        self.on(Event::Attribute(attribute, values(pairs)));
    }

    fn reconciled(&mut self, instance: &str, outcome: Outcome) {
        let instance = instance.to_owned();
        self.on(Event::Reconciled { instance, outcome });
    }

    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The changes that were asked for.
    fn changes(&mut self) -> Vec<(String, Change)> {
        let changes = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Reconcile(reconcile) => Some((reconcile.instance, reconcile.change)),
            _ => None,
        });
        changes.collect()
    }

    /// What was said.
    fn log(&mut self) -> Vec<String> {
        let said = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Log(_, text) => Some(text),
            _ => None,
        });
        said.collect()
    }

    /// The attributes that were queried.
    fn queries(&mut self) -> BTreeSet<Attribute> {
        let queries = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Query(attribute) => Some(attribute),
            _ => None,
        });
        queries.collect()
    }

    /// What was published.
    fn published(&mut self) -> BTreeMap<Attribute, Option<String>> {
        let published = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Publish(attribute, value) => Some((attribute, value)),
            _ => None,
        });
        published.collect()
    }
}
