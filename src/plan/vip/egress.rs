//! The ways out of a node for a VIP's packets, in the order in which they take over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::place::{Behind, Detour, Problem, Request, beside, candidates, is_mute, subnet};
use super::{FIRST_METRIC, Link, Observed};
use crate::types::{Family, IfName};

/// A way out of the node for a VIP's packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress<'a> {
    /// The port.
    pub(crate) link: &'a Link,
    /// The subnet that it leads to.
    pub(crate) subnet: IpNetwork,
    /// The gateway out of that subnet.
    pub(crate) gateway: Option<IpAddr>,
    /// Whether that is the VIP's own subnet, where the port answers for it.
    pub(crate) own: bool,
    /// Whether all packets go to the gateway, even those for the subnet itself: the gateway is the node that routes for
    /// the VIP, and packets must go back the way they came.
    pub(crate) detour: bool,
}

impl Request {
    /// The interfaces whose settings matter: the one that the VIP is behind, and the ports.
    pub(crate) fn links(&self, seen: &Observed) -> Vec<IfName> {
        let egresses = match &self.detour {
            Some(_) => egresses(self, IpNetwork::from(self.vip), seen),
            None => subnet(self, seen).and_then(|subnet| egresses(self, subnet, seen)),
        };
        let ports = egresses.unwrap_or_default().into_iter();
        let mut links: Vec<IfName> = ports.map(|egress| egress.link.name.clone()).collect();
        links.push(self.behind.link().clone());
        if let Behind::Node(hop) = &self.behind {
            links.extend(beside(&hop.link, seen).cloned());
        }
        links
    }
}

/// The VIP's ways out, in the order in which they take over: the port that is decided on; then those that work. Of
/// these the present one comes first, if portwatch has put the VIP there or nothing is better; then those of the VIP's
/// own subnet, by standing and load.
pub(crate) fn egresses<'a>(
    request: &Request,
    own: IpNetwork,
    seen: &'a Observed,
) -> Result<Vec<Egress<'a>>, Problem> {
    let mut egresses: Vec<Egress<'a>> = match &request.detour {
        Some(detour) => to_router(detour, seen).collect(),
        None => {
            let egress = |link| Egress {
                link,
                subnet: own,
                gateway: request.gateway,
                own: true,
                detour: false,
            };
            let candidates = candidates(request, own, seen)?;
            candidates.into_iter().map(egress).collect()
        }
    };
    if request.routed && request.detour.is_none() {
        egresses.extend(elsewhere(request, own, seen));
    }
    egresses.retain(|egress| !is_mute(request.vip, egress.link, seen));
    let present = present_port(request.vip, seen);
    let taken = taken(request.vip, seen);
    let vips = |name: &IfName| taken.get(name).copied().unwrap_or(0);
    if request.detour.is_some() {
        // The router knows this node by one port, which comes first.
        egresses.sort_by_key(|egress| (!seen.is_usable(egress.link), !egress.link.up));
        return Ok(egresses);
    }
    egresses.sort_by_cached_key(|egress| {
        let name = &egress.link.name;
        let watched = seen.watched.get(name);
        (
            request.prefer.as_ref() != Some(name),
            !seen.is_usable(egress.link),
            !egress.link.up,
            present.as_ref() != Some(name),
            !egress.own,
            watched.map(|w| w.standing),
            watched.map(|w| w.load),
            vips(name),
        )
    });
    Ok(egresses)
}

/// How many other VIPs each port serves or is about to serve: a VIP that is being started at the same time may only
/// have a rule yet.
fn taken(vip: IpAddr, seen: &Observed) -> BTreeMap<&IfName, usize> {
    let mut ports: BTreeMap<IpAddr, &IfName> = BTreeMap::new();
    let first = seen.routes().filter(|r| r.metric == FIRST_METRIC);
    let ways: BTreeMap<(Family, u32), &IfName> = first
        .filter_map(|r| Some(((r.family(), r.table), r.out.link()?)))
        .collect();
    for rule in seen.rules().filter(|rule| rule.is_way()) {
        let way = rule.table().and_then(|t| ways.get(&(rule.family, t)));
        ports.extend(rule.from.zip(way.copied()));
    }
    ports.extend(seen.proxies().map(|(port, vip)| (vip, port)));
    ports.remove(&vip);
    let mut taken = BTreeMap::new();
    for port in ports.into_values() {
        *taken.entry(port).or_default() += 1;
    }
    taken
}

/// The ways out by the ports at which the node that routes is reached.
fn to_router<'a>(detour: &Detour, seen: &'a Observed) -> impl Iterator<Item = Egress<'a>> {
    let links = detour.ports.iter().filter_map(|name| seen.link(name));
    let (subnet, router) = (detour.subnet, detour.router);
    links.map(move |link| Egress {
        link,
        subnet,
        gateway: Some(router),
        own: false,
        detour: true,
    })
}

/// The ways out by ports of other subnets, for a VIP whose route is announced there. They are known only where
/// portwatch runs.
fn elsewhere<'a>(request: &Request, own: IpNetwork, seen: &'a Observed) -> Vec<Egress<'a>> {
    let family = Family::of(&request.vip);
    let of_family = |net: &&(IpNetwork, Option<IpAddr>)| Family::of(&net.0.ip()) == family;
    let mut egresses = Vec::new();
    for (name, watched) in &seen.watched {
        // With several networks on one port, any leads out.
        let net = watched.nets.iter().filter(of_family).find(|n| n.0 != own);
        let on_own = watched
            .nets
            .iter()
            .any(|n| n.0 == own || n.0.contains(request.vip));
        if let (Some(link), Some((subnet, gateway)), false) = (seen.link(name), net, on_own) {
            egresses.push(Egress {
                link,
                subnet: *subnet,
                gateway: *gateway,
                own: false,
                detour: false,
            });
        }
    }
    egresses
}

/// The port that the VIP is served through now: the one with its proxy entry, or else its way out.
pub(crate) fn present_port(vip: IpAddr, seen: &Observed) -> Option<IfName> {
    if let Some((port, _)) = seen.proxies().find(|(_, ip)| *ip == vip) {
        return Some(port.clone());
    }
    let rule = seen.way_rule(vip)?;
    let mut routes = seen.routes().filter(|r| Some(r.table) == rule.table());
    let way = routes.find(|r| r.metric == FIRST_METRIC)?;
    way.out.link().cloned()
}
