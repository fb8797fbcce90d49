//! The state of all ports and subnets.

mod conclusion;
mod picture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ipnetwork::IpNetwork;

use super::mover::View;
use super::settings::Settings;
use super::targets::TargetProbes;
use crate::cell::network::is_own;
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::plan::detour::{NodeView, ReachableSubnet, TransitPort};
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::port::{Fault, Health, Standing, State, Witness};
use crate::plan::vip::vserver_of;
use crate::sys::ethtool;
use crate::sys::netlink::{Address, Link};
use crate::types::{BitRate, Family, IfName, Label, Mac, NodeName, VserverName};

/// A port.
#[derive(Debug)]
struct WatchedPort {
    subnet: Label,
    /// The interface as last seen; `None` if the node has no such interface.
    link: Option<Link>,
    /// The bond or bridge that the port is part of. It takes all packets that come in by the port, which therefore
    /// can't serve addresses.
    part_of: Option<IfName>,
    addresses: Vec<IpNetwork>,
    health: Health,
    target_probes: TargetProbes,
    speed: Option<BitRate>,
    /// What was last concluded from the port's health.
    standing: Standing,
    state: State,
    /// Whether the port counts as good in what is published.
    good: bool,
}

/// A subnet.
#[derive(Debug)]
struct Subnet {
    witness: Witness,
    /// The other nodes' addresses on the subnet, by the nodes' names.
    peers: BTreeMap<NodeName, Vec<IpAddr>>,
    /// Whose fault it was, when last judged, that no target replies.
    fault: Fault,
    /// Since when no port of this node is good on the subnet, which is published; `None` if one is good.
    lost: Option<Instant>,
}

/// The state of the node's ports and subnets.
#[derive(Debug)]
pub(crate) struct Watch {
    settings: Settings,
    ports: BTreeMap<IfName, WatchedPort>,
    subnets: BTreeMap<Label, Subnet>,
    /// The host ends of cells' veths: their interface indices, and the virtual servers' names.
    cells: BTreeMap<u32, VserverName>,
    view: View,
    /// When probes are due.
    ask_at: Instant,
    begun: Instant,
    judged: bool,
}

impl Watch {
    /// A watch that knows nothing of the ports yet.
    pub(crate) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            settings: settings.clone(),
            ports: BTreeMap::new(),
            subnets: BTreeMap::new(),
            cells: BTreeMap::new(),
            view: View::default(),
            ask_at: now,
            begun: now,
            judged: false,
        }
    }

    /// Takes other parameters. If the limits change, all that is known of ports is forgotten.
    pub(crate) fn configure(&mut self, settings: &Settings, now: Instant) {
        if settings.limits() != self.settings.limits() {
            self.ports.clear();
            self.subnets.clear();
        }
        self.settings = settings.clone();
        self.ask_at = now;
        self.judged = false;
    }

    /// Notes the node's interfaces and addresses. Returns whether any of a port or a cell has changed.
    pub(crate) fn look(&mut self, links: Vec<Link>, addresses: &[Address], now: Instant) -> bool {
        let cell_links = links.iter().filter(|link| is_own(link));
        let cell = |l: &Link| Some((l.index, vserver_of(&l.name)?.parse().ok()?));
        let cells: BTreeMap<u32, VserverName> = cell_links.filter_map(cell).collect();
        let mut changed = cells != self.cells;
        self.cells = cells;
        let addresses_of = |link: &Link| -> Vec<IpNetwork> {
            let usable = addresses
                .iter()
                .filter(|a| a.link == link.index && !a.unusable);
            usable.map(|a| a.address).collect()
        };
        // The host ends of cells' veths are no ports.
        let found: BTreeMap<IfName, (Link, Vec<IpNetwork>)> = links
            .iter()
            .filter(|link| !link.loopback && !is_own(link))
            .map(|link| (link.name.clone(), (link.clone(), addresses_of(link))))
            .collect();
        let wanted = self.wanted(&found);
        self.ports
            .retain(|name, port| wanted.get(name) == Some(&port.subnet));
        for (name, subnet) in wanted {
            let (link, addresses) = found.get(&name).cloned().unzip();
            let part_of = link.as_ref().and_then(|link| link.taken_by(&links));
            let part_of = part_of.map(|master| master.name.clone());
            let interface = (link, addresses.unwrap_or_default(), part_of);
            changed |= self.look_at(&name, subnet, interface, now);
        }
        let names: BTreeSet<&Label> = self.ports.values().map(|p| &p.subnet).collect();
        self.subnets.retain(|name, _| names.contains(name));
        for name in names {
            let limits = self.settings.limits();
            self.subnets.entry(name.clone()).or_insert_with(|| {
                let witness = Witness::new(limits, now);
                Subnet {
                    peers: BTreeMap::new(),
                    fault: witness.fault(),
                    lost: Some(now),
                    witness,
                }
            });
        }
        self.set_targets();
        changed
    }

    /// The ports' Ethernet addresses.
    pub(crate) fn macs(&self) -> BTreeSet<Mac> {
        let links = self.ports.values().filter_map(|p| p.link.as_ref());
        links.filter_map(|link| link.mac).collect()
    }

    /// Whether the interface with this index is a port or a cell's.
    pub(crate) fn concerns(&self, index: u32) -> bool {
        let mut ports = self.ports.values().filter_map(|p| p.link.as_ref());
        self.cells.contains_key(&index) || ports.any(|l| l.index == index)
    }

    /// The ports to watch, each with its subnet.
    fn wanted(&self, found: &BTreeMap<IfName, (Link, Vec<IpNetwork>)>) -> BTreeMap<IfName, Label> {
        if let Some(ports) = &self.settings.ports {
            return ports.clone();
        }
        let subnet = |addresses: &[IpNetwork]| {
            let inside = |net: &IpNetwork| addresses.iter().any(|a| net.contains(a.ip()));
            let mut subnets = self.settings.subnets.iter();
            subnets.find(|s| inside(&s.net)).map(|s| s.name.clone())
        };
        found
            .iter()
            .filter_map(|(name, (_, addresses))| Some((name.clone(), subnet(addresses)?)))
            .collect()
    }

    fn look_at(
        &mut self,
        name: &IfName,
        subnet: Label,
        (link, addresses, part_of): (Option<Link>, Vec<IpNetwork>, Option<IfName>),
        now: Instant,
    ) -> bool {
        let carrier = part_of.is_none() && link.as_ref().is_some_and(|l| l.carrier);
        let limits = self.settings.limits();
        let port = self.ports.entry(name.to_owned()).or_insert_with(|| {
            let health = Health::new(limits, carrier, now);
            WatchedPort {
                subnet,
                link: None,
                part_of: None,
                addresses: Vec::new(),
                standing: health.standing(now),
                state: health.state(),
                good: false,
                health,
                target_probes: TargetProbes::default(),
                speed: None,
            }
        });
        let index = |link: &Option<Link>| link.as_ref().map(|l| l.index);
        if index(&port.link).is_some() && index(&link) != index(&port.link) {
            // It is another interface of the same name: the old one, whose state is known, has gone.
            port.health.link(false, now);
        }
        port.health.link(carrier, now);
        if carrier && (port.speed.is_none() || !port.link.as_ref().is_some_and(|l| l.carrier)) {
            port.speed = ethtool::speed(name).ok().flatten();
        }
        let changed = (&port.link, &port.addresses, &port.part_of) != (&link, &addresses, &part_of);
        port.link = link;
        port.part_of = part_of;
        port.addresses = addresses;
        changed
    }

    /// Sets the targets of every port: the gateways, configured targets and other nodes of its subnet.
    fn set_targets(&mut self) {
        let own: BTreeSet<IpAddr> = self
            .ports
            .values()
            .flat_map(|p| p.addresses.iter().map(IpNetwork::ip))
            .collect();
        for port in self.ports.values_mut() {
            let nets: Vec<_> = self.settings.nets(&port.subnet).collect();
            let inside = |ip: &IpAddr| nets.is_empty() || nets.iter().any(|n| n.net.contains(*ip));
            let peers = self.subnets.get(&port.subnet).into_iter();
            let given = self.settings.targets.iter().copied();
            let others = given.chain(peers.flat_map(|s| s.peers.values().flatten().copied()));
            let gateways = nets.iter().filter_map(|net| net.gateway);
            let mut targets: Vec<IpAddr> = gateways.chain(others.filter(inside)).collect();
            targets.retain(|ip| !own.contains(ip));
            targets.sort_unstable();
            targets.dedup();
            port.target_probes.set_targets(targets);
        }
    }

    /// Notes a reply. It counts if it is a target's, and came in through the port by which the target was probed.
    pub(crate) fn on_reply(&mut self, reply: &Reply, now: Instant) {
        let of =
            |port: &&mut WatchedPort| port.link.as_ref().is_some_and(|l| l.index == reply.link);
        let Some(port) = self.ports.values_mut().find(of) else {
            return;
        };
        let Some(mac) = port.link.as_ref().and_then(|l| l.mac) else {
            return;
        };
        if !port.target_probes.takes(reply, mac, now) {
            return;
        }
        let Some(subnet) = self.subnets.get_mut(&port.subnet) else {
            return;
        };
        let in_doubt = subnet.witness.in_doubt_since();
        subnet.witness.on_reply(now);
        if let Some(since) = in_doubt {
            let name = port.subnet.clone();
            port.health.absolve(since, now);
            port.health.on_reply(now);
            let others = self.ports.values_mut().filter(|p| p.subnet == name);
            others.for_each(|other| other.health.absolve(since, now));
        } else {
            port.health.on_reply(now);
        }
    }

    /// Notes the time: replies that are overdue, and ports that have worked for long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        // This process stood still: no target was probed meanwhile, so none could reply.
        let stood_still = now.saturating_duration_since(self.ask_at) > self.settings.interval;
        if stood_still {
            self.ports.values_mut().for_each(|p| p.health.resumed(now));
            self.subnets
                .values_mut()
                .for_each(|s| s.witness.resumed(now));
        }
        for subnet in self.subnets.values_mut() {
            if subnet.witness.tick(now) {
                self.ask_at = self.ask_at.min(now);
            }
        }
        for port in self.ports.values_mut() {
            let subnet = self.subnets.get(&port.subnet);
            let expects = subnet.is_some_and(|s| s.witness.expects());
            port.health
                .listen(expects && port.target_probes.has_targets(), now);
            port.health.tick(now);
        }
    }

    /// The probes that are due.
    pub(crate) fn probes_due(&mut self, now: Instant) -> Vec<Probe> {
        if self.ask_at > now {
            return Vec::new();
        }
        let interval = self.settings.interval;
        self.ask_at = (self.ask_at + interval).max(now + interval / 2);
        let mut questions = Vec::new();
        for port in self.ports.values_mut() {
            let carries = |l: &&Link| l.carrier && port.part_of.is_none();
            let Some(link) = port.link.as_ref().filter(carries) else {
                continue;
            };
            let Some(mac) = link.mac else { continue };
            for (target, to) in port.target_probes.due(now, interval) {
                questions.push(Probe {
                    link: link.index,
                    mac,
                    target,
                    source: source(&port.addresses, target),
                    to,
                });
            }
        }
        questions
    }

    /// The subnets over which other nodes can be reached.
    fn reachable(&self) -> Vec<ReachableSubnet> {
        let reachable = |(name, subnet): (&Label, &Subnet)| {
            let mut ports: Vec<(&IfName, &WatchedPort)> = self
                .ports
                .iter()
                .filter(|(_, p)| p.subnet == *name && p.standing != Standing::Failed)
                .collect();
            // The other nodes reach this one at an address that one port replies for: that port comes first.
            let nets: Vec<IpNetwork> = self.settings.nets(name).map(|s| s.net).collect();
            let inside = |ip: IpAddr| nets.iter().any(|net| net.contains(ip));
            let known = |p: &WatchedPort| p.addresses.iter().any(|a| inside(a.ip()));
            ports.sort_by_key(|(_, p)| (!known(p), p.standing));
            // Configured addresses come before link-local ones, by which the port can be reached in IPv6.
            let own = |p: &WatchedPort| {
                let all = p.addresses.iter().map(IpNetwork::ip);
                let given = all.clone().filter(|ip| inside(*ip));
                let local = all.filter(|ip| !inside(*ip) && is_local(*ip));
                given.chain(local).collect()
            };
            let transit = |(port, one): &(&IfName, &WatchedPort)| {
                let link = one.link.as_ref()?;
                Some(TransitPort {
                    name: (*port).clone(),
                    index: link.index,
                    mac: link.mac?,
                    own: own(one),
                })
            };
            ReachableSubnet {
                name: name.clone(),
                nets: nets.clone(),
                ports: ports.iter().filter_map(transit).collect(),
                own: self.addresses(name),
                peers: subnet.peers.clone(),
            }
        };
        self.subnets.iter().map(reachable).collect()
    }

    /// The state of this node as far as detours depend on it.
    pub(crate) fn node_view(&self) -> NodeView {
        let limits = self.settings.limits();
        NodeView {
            node: self.settings.node.clone(),
            cells: self.cells.values().cloned().collect(),
            subnets: self.reachable(),
            lost_subnet: self.subnets.values().any(|subnet| subnet.lost.is_some()),
            interval: limits.interval,
            patience: limits.silent_after() + limits.interval,
        }
    }

    /// When anything is due by time alone.
    pub(crate) fn next(&self) -> Option<Instant> {
        let ports = self.ports.values().filter_map(|p| p.health.next());
        let subnets = self.subnets.values().map(|s| s.witness.next());
        let ask = (!self.ports.is_empty()).then_some(self.ask_at);
        ports.chain(subnets).chain(ask).min()
    }

    /// The attributes that hold the other nodes' addresses.
    pub(crate) fn peer_attributes(&self) -> impl Iterator<Item = Attribute> {
        self.subnets.keys().cloned().map(Attribute::Addr)
    }

    /// Whether this is an attribute of a subnet that the parameters no longer name: it is to be deleted.
    pub(crate) fn is_stray(&self, attribute: &Attribute) -> bool {
        let (Attribute::Net(subnet) | Attribute::Addr(subnet) | Attribute::Heard(subnet)) =
            attribute
        else {
            return false;
        };
        let named = |subnet: &Label| {
            let mut nets = self.settings.nets(subnet);
            let mut ports = self.settings.ports.iter().flatten();
            nets.next().is_some() || ports.any(|(_, of)| of == subnet)
        };
        !named(subnet) && !self.subnets.contains_key(subnet)
    }

    /// The attributes of the other nodes that are to be queried now, because no target replies on a subnet: do targets
    /// reply to the others?
    pub(crate) fn queries_due(&mut self, now: Instant) -> Vec<Attribute> {
        let mut asked = Vec::new();
        for (name, subnet) in &mut self.subnets {
            if !subnet.witness.query_due(now) {
                continue;
            }
            let mut here = self.ports.values().filter(|p| p.subnet == *name);
            if here.any(|p| p.target_probes.has_targets()) {
                self.ask_at = self.ask_at.min(now);
                asked.push(Attribute::Heard(name.clone()));
            } else {
                // There is nobody who could reply: that is no port's fault.
                subnet.witness.on_others(false);
            }
        }
        asked
    }

    /// Notes the other nodes' values of an attribute.
    pub(crate) fn on_attribute(&mut self, attribute: &Attribute, values: &Values, now: Instant) {
        if let Attribute::Addr(name) = attribute {
            if let Some(subnet) = self.subnets.get_mut(name) {
                let addresses = |text: &String| text.split(',').flat_map(str::parse).collect();
                let peers = values.iter();
                subnet.peers = peers
                    .map(|(n, text)| (n.clone(), addresses(text)))
                    .collect();
            }
            self.set_targets();
        } else if let Attribute::Heard(name) = attribute {
            let Some(subnet) = self.subnets.get_mut(name) else {
                return self.tick(now);
            };
            let before = subnet.witness.fault();
            subnet.witness.on_others(values.values().any(|v| v == "1"));
            let fault = subnet.witness.fault();
            if before != fault && fault == Fault::Targets {
                log::warn(format_args!(
                    "no target of {name} answers at any node: only carriers count"
                ));
            }
        }
        self.tick(now);
    }
}

fn is_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The address from which `target` is probed: the one in whose network it is, else a link-local one.
fn source(addresses: &[IpNetwork], target: IpAddr) -> Option<IpAddr> {
    let same = |a: &&IpNetwork| Family::of(&a.ip()) == Family::of(&target);
    let own = addresses.iter().filter(same);
    let (mut inside, mut local) = (None, None);
    for address in own {
        match address.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => local = Some(address.ip()),
            ip if address.contains(target) => inside = Some(ip),
            _ => {}
        }
    }
    inside.or(local)
}
