//! What a VIP needs on a node: every object and setting, in the order in which they are made.

mod outward;
mod shutting;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::egress::{Egress, egresses};
use super::place::{
    Behind, NextHop, Problem, Request, beside, candidates, check_free, check_ports, check_subnet,
    doubt, subnet,
};
use super::{
    CELL_METRIC, Element, Object, Observed, Route, RouteTarget, Rule, TO_RULE, TO_TABLE,
    UNREACHABLE_METRIC,
};
use crate::hash::fnv64;
use crate::types::{Family, IfName};

/// An object or a setting that a VIP needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Object(Object),
    Setting(String, i64),
}

/// Everything that a VIP needs on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// Its subnet.
    pub(crate) subnet: IpNetwork,
    /// The port it is served through; `None` if none is up.
    pub(crate) port: Option<IfName>,
    /// Whether that is a port of another subnet, which does not answer for the VIP.
    pub(crate) elsewhere: bool,
    /// All ports of its subnet that the VIP might be served through.
    pub(crate) candidates: Vec<IfName>,
    /// Why clients may not reach the VIP at these ports.
    pub(crate) doubt: Option<String>,
    /// What the VIP needs, in the order in which it is made, and whether each item is essential: without it the VIP is
    /// not served.
    pub(crate) items: Vec<(Item, bool)>,
}

impl Desired {
    /// Chooses the VIP's subnet and port, and lists what it needs.
    ///
    /// # Errors
    /// If the VIP can't be on this node: it fits no subnet, or another user has it there.
    pub(crate) fn new(request: &Request, seen: &Observed) -> Result<Self, Problem> {
        check_free(request, seen)?;
        let (subnet, candidates) = match &request.detour {
            // With a detour this node need not have a port on the VIP's subnet at all.
            Some(_) => (IpNetwork::from(request.vip), Vec::new()),
            None => {
                check_ports(request, seen)?;
                let subnet = subnet(request, seen)?;
                check_subnet(request, subnet)?;
                (subnet, candidates(request, subnet, seen)?)
            }
        };
        let doubt = doubt(request, &candidates, seen);
        let candidates: Vec<IfName> = candidates.iter().map(|p| p.name.clone()).collect();
        let mut egresses = egresses(request, subnet, seen)?;
        egresses.retain(|egress| egress.link.up);
        let mut others = Vec::new();
        if let [first, ..] = egresses[..] {
            // Only ports of one subnet can be backup routes of each other: another subnet's port takes a decision.
            (egresses, others) = egresses
                .into_iter()
                .partition(|egress| egress.subnet == first.subnet);
        }
        let mut builder = Builder {
            seen,
            request,
            candidates: &candidates,
            family: Family::of(&request.vip),
            egresses,
            others,
            items: Vec::new(),
        };
        builder.fill();
        let chosen = builder.egresses.first();
        let (port, elsewhere) = (
            chosen.map(|egress| egress.link.name.clone()),
            chosen.is_some_and(|egress| !egress.own),
        );
        Ok(Self {
            vip: request.vip,
            subnet,
            port,
            elsewhere,
            doubt,
            items: builder.items,
            candidates,
        })
    }

    /// The objects that the VIP needs, essential or not.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.items.iter().filter_map(|(item, _)| match item {
            Item::Object(object) => Some(object),
            Item::Setting(..) => None,
        })
    }
}

/// The settings of an interface that may have to be changed, by their names under /proc/sys/net.
pub(crate) fn setting_keys(family: Family, link: &str) -> Vec<String> {
    let names: &[&str] = match family {
        Family::V4 => &[
            "arp_ignore",
            "forwarding",
            "ignore_routes_with_linkdown",
            "rp_filter",
        ],
        Family::V6 => &[
            "accept_ra",
            "force_forwarding",
            "forwarding",
            "ignore_routes_with_linkdown",
            "proxy_ndp",
        ],
    };
    let family = family.directory();
    let mut keys = vec![format!("{family}/neigh/{link}/proxy_delay")];
    keys.extend(
        names
            .iter()
            .map(|name| format!("{family}/conf/{link}/{name}")),
    );
    keys
}

/// A number below `below` for something described, such as an interface with its gateway: the same at each call and on
/// each node. That two of a node's few dozens get the same number has a chance of one in a million.
fn number(description: &str, below: u32) -> u32 {
    // Less than `below`, so it fits.
    (fnv64(description) % u64::from(below)) as u32
}

/// The description from which the numbers of routes and tables are made. It must never change, or an upgrade would give
/// other numbers to what running kernels have.
fn described(out: &RouteTarget) -> String {
    match out {
        RouteTarget::Link(port) => format!("Link({port:?})"),
        RouteTarget::Gateway(port, gateway) => format!("Gateway({port:?}, {gateway})"),
        RouteTarget::Unreachable => "Unreachable".to_owned(),
    }
}

/// Lists what a VIP needs.
struct Builder<'a> {
    seen: &'a Observed,
    request: &'a Request,
    candidates: &'a [IfName],
    family: Family,
    /// The ways out by ports that are up, the chosen one first.
    egresses: Vec<Egress<'a>>,
    /// The ports of other subnets. Packets may come in by any of them that the VIP's route is announced at, until
    /// routers have learned that the VIP is served through another one.
    others: Vec<Egress<'a>>,
    items: Vec<(Item, bool)>,
}

impl Builder<'_> {
    fn require(&mut self, object: Object) {
        self.items.push((Item::Object(object), true));
    }

    fn add(&mut self, object: Object, essential: bool) {
        self.items.push((Item::Object(object), essential));
    }

    fn fill(&mut self) {
        let behind = self.request.behind.clone();
        let egresses = self.egresses.iter().chain(&self.others).enumerate();
        let mut ports: Vec<(IfName, bool)> = egresses
            .map(|(n, egress)| (egress.link.name.clone(), n == 0))
            .collect();
        let crossings: Vec<IfName> = match &behind {
            Behind::Cell(_) => Vec::new(),
            // Packets of the node with the cell may come in by any port of the subnet.
            Behind::Node(hop) => [&hop.link]
                .into_iter()
                .chain(beside(&hop.link, self.seen))
                .cloned()
                .collect(),
        };
        for (n, crossing) in crossings.iter().enumerate() {
            if !ports.iter().any(|(port, _)| port == crossing) {
                ports.push((crossing.clone(), n == 0));
            }
        }
        self.require(Object::Tables);
        for (port, chosen) in &ports {
            self.add(Object::Element(Element::Port(port.clone())), *chosen);
            if !self.is_open(port) {
                self.add(
                    Object::Element(Element::ClosedPort(self.family, port.clone())),
                    *chosen,
                );
            }
        }
        if let Behind::Cell(veth) = &behind {
            self.require(Object::Element(Element::Cell(veth.clone())));
        }
        self.hosts();
        self.shut(ports.iter().map(|(port, _)| port));
        for (port, chosen) in &ports {
            self.port(port, *chosen);
        }
        match &behind {
            Behind::Cell(veth) => self.cell(veth),
            Behind::Node(hop) => self.node(hop, &crossings),
        }
        if !self.egresses.is_empty() {
            self.outward();
        }
    }

    /// Adds what leads packets to the cell.
    fn cell(&mut self, veth: &IfName) {
        let vip = self.request.vip;
        self.opening(veth, true);
        self.require(Object::Address(vip));
        self.require(Object::CellRoute(self.family));
        self.require(Object::Element(Element::Vip(vip)));
        self.require(Object::Element(Element::CellSource(veth.clone(), vip)));
        self.require(Object::Element(Element::VipTarget(vip, veth.clone())));
        self.inward(RouteTarget::Link(veth.clone()));
    }

    /// Adds what leads packets to the node with the cell. `crossings` are the ports by which that one's may come in.
    fn node(&mut self, hop: &NextHop, crossings: &[IfName]) {
        let vip = self.request.vip;
        // What keeps packets from going in circles is made first.
        for port in self.not_its_own() {
            self.require(Object::Element(Element::NotFrom(port, vip)));
        }
        self.require(Object::Element(Element::Vip(vip)));
        for (n, crossing) in crossings.iter().enumerate() {
            for mac in &hop.macs {
                let source = Element::RemoteSource(crossing.clone(), vip, *mac);
                self.add(Object::Element(source), n == 0);
            }
        }
        self.require(Object::Element(Element::VipTarget(vip, hop.link.clone())));
        self.inward(RouteTarget::Gateway(hop.link.clone(), hop.address));
    }

    /// The ports at which no client of the VIP can be but behind another router: those of other subnets, by which other
    /// nodes may be reached.
    fn not_its_own(&self) -> Vec<IfName> {
        let own = |name: &IfName| self.candidates.contains(name);
        let watched = self.seen.watched.keys();
        watched.filter(|name| !own(name)).cloned().collect()
    }

    /// Requires the node's own addresses as elements: they tell the node's own traffic from that of VIPs.
    fn hosts(&mut self) {
        let addresses = self.seen.links.iter().flat_map(|l| &l.addresses);
        let hosts: Vec<IpAddr> = addresses
            .map(IpNetwork::ip)
            .filter(|ip| Family::of(ip) == self.family && !ip.is_loopback())
            .collect();
        for ip in hosts {
            self.add(Object::Element(Element::Host(ip)), false);
        }
    }

    /// Adds a setting, if this kernel has it.
    fn set(&mut self, key: String, value: i64, essential: bool) {
        if self.seen.settings.contains_key(&key) {
            self.items.push((Item::Setting(key, value), essential));
        }
    }

    fn port(&mut self, port: &IfName, chosen: bool) {
        let family = self.family.directory();
        let conf = |name: &str| format!("{family}/conf/{port}/{name}");
        let now = |key: &str| self.seen.settings.get(key).copied();
        match self.family {
            Family::V4 => {
                // Otherwise the port would answer for the other ports' addresses.
                let arp_ignore = now(&conf("arp_ignore")).map_or(1, |v| v.max(1));
                self.set(conf("rp_filter"), 2, chosen);
                self.set(conf("arp_ignore"), arp_ignore, chosen);
                let bare = self
                    .seen
                    .link(port)
                    .is_some_and(|l| !l.addresses.iter().any(IpNetwork::is_ipv4));
                if bare {
                    self.add(Object::Placeholder(port.clone()), chosen);
                }
            }
            Family::V6 => {
                // Set before the port forwards: otherwise the kernel drops its routes from router advertisements at
                // once.
                if matches!(now(&conf("accept_ra")), Some(1 | 2)) {
                    self.set(conf("accept_ra"), 2, false);
                }
                self.set(conf("proxy_ndp"), 1, chosen);
            }
        }
        self.set(conf("ignore_routes_with_linkdown"), 1, false);
        // The kernel delays a proxied reply by a random part of this time, in hundredths of a second.
        self.set(format!("{family}/neigh/{port}/proxy_delay"), 0, chosen);
        self.opening(port, chosen);
    }

    /// Adds forwarding on one interface. Kernels before 6.17 forward IPv6 on all interfaces or on none.
    fn opening(&mut self, link: &str, essential: bool) {
        let family = self.family.directory();
        self.set(format!("{family}/conf/{link}/forwarding"), 1, essential);
        let own_switch = format!("ipv6/conf/{link}/force_forwarding");
        if self.family == Family::V6 {
            match self.seen.settings.contains_key(&own_switch) {
                true => self.set(own_switch, 1, essential),
                false => self.set("ipv6/conf/all/forwarding".into(), 1, essential),
            }
        }
    }

    /// Adds the route to the cell.
    fn inward(&mut self, out: RouteTarget) {
        let to = IpNetwork::from(self.request.vip);
        for (out, metric) in [
            (out, CELL_METRIC),
            (RouteTarget::Unreachable, UNREACHABLE_METRIC),
        ] {
            self.require(Object::Route(Route {
                table: TO_TABLE,
                to,
                metric,
                announced: self.request.routed && out != RouteTarget::Unreachable,
                out,
            }));
        }
        let rule = Rule::lookup(self.family, TO_RULE, TO_TABLE);
        self.require(Object::Rule(rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_running_kernels_stay_what_they_are() {
        let gateway = RouteTarget::Gateway("eth1".into(), "10.1.0.254".parse().unwrap());
        let texts = [
            RouteTarget::Link("eth1".into()),
            gateway,
            RouteTarget::Unreachable,
        ]
        .map(|o| described(&o));
        assert_eq!(
            texts,
            [
                "Link(\"eth1\")",
                "Gateway(\"eth1\", 10.1.0.254)",
                "Unreachable"
            ]
        );
        assert_eq!(
            number("eth1 10.1.0.0/24 Some(10.1.0.254)", 1 << 28),
            56_852_950
        );
    }
}
