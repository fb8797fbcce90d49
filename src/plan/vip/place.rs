//! What is asked for, and where on a node it can be: its subnet and its ports.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::plan::port::Standing;

use super::{
    Element, FIRST_METRIC, GatewayFault, Link, Object, Observed, TO_TABLE, Watched, anywhere,
    gateway_fits, vserver_of,
};
use crate::types::{Family, Mac};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// Where its packets go.
    pub(crate) behind: Behind,
    /// The subnet; that of a port's address around the VIP if `None`.
    pub(crate) subnet: Option<IpNetwork>,
    /// The gateway out of the subnet; without one, the node's own routes lead there.
    pub(crate) gateway: Option<IpAddr>,
    /// The ports it may be served through; those on the subnet if `None`: with an address in it, or
    /// as portwatch has it.
    pub(crate) ports: Option<Vec<String>>,
    /// Whether a routing daemon announces its route: then ports of other subnets can serve it too.
    pub(crate) routed: bool,
    /// The port that it shall be served through, by a decision that was made already.
    pub(crate) prefer: Option<String>,
    /// The node that routes for it: nothing answers for it here then, and all that it sends goes there.
    pub(crate) detour: Option<Detour>,
}

/// Where packets to a VIP go on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behind {
    /// To the cell: the node's end of its interface.
    Cell(String),
    /// To another node, which has the cell.
    Node(NextHop),
}

impl Behind {
    /// The interface.
    pub(crate) fn link(&self) -> &str {
        match self {
            Self::Cell(link) => link,
            Self::Node(hop) => &hop.link,
        }
    }
}

/// Another node on a subnet of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// The port that it is reached by.
    pub(crate) link: String,
    /// Its address there.
    pub(crate) address: IpAddr,
    /// Its Ethernet addresses there.
    pub(crate) macs: Vec<Mac>,
}

/// The way to the node that routes for a VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detour {
    /// The ports that it is reached by.
    pub(crate) ports: Vec<String>,
    /// The subnet they are on.
    pub(crate) subnet: IpNetwork,
    /// Its address there.
    pub(crate) router: IpAddr,
}

/// A way out of the node for a VIP's packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Egress<'a> {
    /// The port.
    pub(crate) link: &'a Link,
    /// The subnet that it leads to.
    pub(crate) subnet: IpNetwork,
    /// The gateway out of that.
    pub(crate) gateway: Option<IpAddr>,
    /// Whether that is the VIP's own subnet, where the port answers for it.
    pub(crate) own: bool,
    /// Whether everything goes to the gateway, even what is for the subnet itself: it is a node that
    /// routes for the VIP, and what comes one way goes back the same.
    pub(crate) detour: bool,
}

/// Why a VIP can't be on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Nor on any other.
    Config(String),
    /// For a reason that lies in this node.
    Host(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::Host(text) => f.write_str(text),
        }
    }
}

impl Request {
    /// Whether the parts agree with each other, whatever the node.
    ///
    /// # Errors
    /// The first contradiction.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        match self.subnet {
            Some(subnet) if !subnet.contains(self.vip) => Err(Problem::Config(format!(
                "parameter ip: {} is not in subnet {subnet}",
                self.vip
            ))),
            Some(subnet) => check_subnet(self, subnet),
            // Which it will be is for the node to say: any of the family may be meant.
            None => check_gateway(self, anywhere(Family::of(&self.vip))),
        }
    }

    /// The interfaces whose settings count: the one that the VIP is behind, and the ports.
    pub(crate) fn links(&self, seen: &Observed) -> Vec<String> {
        let egresses = match &self.detour {
            Some(_) => egresses(self, IpNetwork::from(self.vip), seen),
            None => subnet(self, seen).and_then(|subnet| egresses(self, subnet, seen)),
        };
        let ports = egresses.unwrap_or_default().into_iter();
        let mut links: Vec<String> = ports.map(|egress| egress.link.name.clone()).collect();
        links.push(self.behind.link().to_owned());
        if let Behind::Node(hop) = &self.behind {
            links.extend(beside(&hop.link, seen).cloned());
        }
        links
    }
}

/// The other ports of a port's subnet, as portwatch has it.
pub(crate) fn beside<'a>(port: &'a str, seen: &'a Observed) -> impl Iterator<Item = &'a String> {
    let nets = seen.watched.get(port).map(|w| &w.nets);
    let same = move |(name, w): &(&String, &Watched)| *name != port && Some(&w.nets) == nets;
    seen.watched.iter().filter(same).map(|(name, _)| name)
}

pub(crate) fn check_free(request: &Request, seen: &Observed) -> Result<(), Problem> {
    let vip = request.vip;
    if seen.no_ipv6 && Family::of(&vip) == Family::V6 {
        return Err(Problem::Host(format!(
            "parameter ip: {vip} is an IPv6 address, and this node's kernel has no IPv6: it was booted with ipv6.disable=1"
        )));
    }
    let host = seen
        .links
        .iter()
        .find(|l| l.addresses.iter().any(|a| a.ip() == vip));
    if let Some(link) = host {
        return Err(Problem::Host(format!(
            "parameter ip: {vip} is an address of this node's own interface {}",
            link.name
        )));
    }
    let own = match &request.behind {
        Behind::Cell(link) => Some(link.as_str()),
        Behind::Node(_) => None,
    };
    match holder(vip, seen).filter(|link| Some(*link) != own) {
        Some(link) => Err(Problem::Host(format!(
            "parameter ip: {vip} is already in use by vserver {} on this node",
            vserver_of(link).unwrap_or(link)
        ))),
        None => Ok(()),
    }
}

/// The interface of the cell that has a VIP on this node. A cell without its interface is dead, and
/// what is left of it in nobody's way; so is what leads to another node's cell.
pub(crate) fn holder(vip: IpAddr, seen: &Observed) -> Option<&str> {
    let links = seen.objects.iter().filter_map(|object| match object {
        Object::Element(Element::VipTarget(ip, link))
        | Object::Element(Element::CellSource(link, ip))
            if *ip == vip =>
        {
            Some(link.as_str())
        }
        Object::Route(r) if r.table == TO_TABLE && r.to.ip() == vip => r.out.link(),
        _ => None,
    });
    let is_cell = |link: &&str| seen.link(link).is_some_and(|l| !l.eligible);
    links.into_iter().find(is_cell)
}

pub(crate) fn check_ports(request: &Request, seen: &Observed) -> Result<(), Problem> {
    match &request.ports {
        Some(names) if !names.iter().any(|name| seen.link(name).is_some()) => Err(Problem::Host(
            format!("parameter ports: this node has none of {}", names.join(" ")),
        )),
        Some(names) => {
            let own = names.iter().filter_map(|name| seen.link(name));
            match own.into_iter().find(|link| !link.eligible) {
                Some(link) => Err(Problem::Host(format!(
                    "parameter ports: {} leads to no client: it is {}",
                    link.name,
                    match vserver_of(&link.name) {
                        Some(vserver) => format!("the interface of vserver {vserver}'s cell"),
                        None => "a loopback interface".to_owned(),
                    }
                ))),
                None => Ok(()),
            }
        }
        None => Ok(()),
    }
}

pub(crate) fn subnet(request: &Request, seen: &Observed) -> Result<IpNetwork, Problem> {
    let vip = request.vip;
    if let Some(subnet) = request.subnet {
        return request.check().map(|()| subnet);
    }
    let all: Vec<IpNetwork> = seen
        .links
        .iter()
        .filter(|l| l.eligible)
        .filter(|l| request.ports.as_ref().is_none_or(|p| p.contains(&l.name)))
        .flat_map(|l| &l.addresses)
        .filter(|a| Family::of(&a.ip()) == Family::of(&vip) && !is_single(a))
        .map(network_of)
        .collect();
    let around = all.iter().filter(|n| n.contains(vip));
    around.max_by_key(|n| n.prefix()).copied().ok_or_else(|| {
        let mut known: Vec<String> = all.iter().map(ToString::to_string).collect();
        known.sort();
        known.dedup();
        let known = match known.is_empty() {
            true => "it has none of that family".to_owned(),
            false => known.join(", "),
        };
        Problem::Host(format!(
            "parameter ip: {vip} is in no subnet of this node ({known})"
        ))
    })
}

fn is_single(address: &IpNetwork) -> bool {
    let whole = match address {
        IpNetwork::V4(_) => 32,
        IpNetwork::V6(_) => 128,
    };
    address.prefix() == whole
}

fn network_of(address: &IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(*address)
}

/// Whether no host of `subnet` may have the address: an IPv4 subnet's first and last, and the first of
/// IPv6, which is the routers' anycast address. A /31 (RFC 3021) and a /127 have none to spare.
pub(crate) fn is_reserved(address: IpAddr, subnet: IpNetwork) -> bool {
    match subnet {
        IpNetwork::V4(net) => {
            net.prefix() < 31 && (address == net.network() || address == net.broadcast())
        }
        IpNetwork::V6(net) => net.prefix() < 127 && address == net.network(),
    }
}

/// Whether VIP and gateway can be in the subnet.
pub(crate) fn check_subnet(request: &Request, subnet: IpNetwork) -> Result<(), Problem> {
    if is_reserved(request.vip, subnet) {
        return Err(Problem::Config(format!(
            "parameter ip: {} is the first or last address of {subnet}, which no host may use",
            request.vip
        )));
    }
    check_gateway(request, subnet)
}

fn check_gateway(request: &Request, subnet: IpNetwork) -> Result<(), Problem> {
    let Some(gateway) = request.gateway else {
        return Ok(());
    };
    match gateway_fits(gateway, subnet, Some(request.vip)) {
        // The first of IPv6 is all routers' (RFC 4291, 2.6.1): where a file is written it is taken for a mistake, but
        // it leads out.
        Ok(()) | Err(GatewayFault::Reserved(IpNetwork::V6(_))) => Ok(()),
        Err(fault) => Err(Problem::Config(format!(
            "parameter gateway: {gateway} {fault}"
        ))),
    }
}

/// Whether a port is on other subnets than the VIP's, by portwatch's parameters. These name one subnet of a family
/// for each port; one that has an address beside the VIP is there, too.
fn is_astray(request: &Request, link: &Link, seen: &Observed) -> bool {
    let vip = request.vip;
    let beside = |address: &IpNetwork| {
        let named = request.subnet.is_some_and(|s| s.contains(address.ip()));
        named || (address.contains(vip) && !is_single(address))
    };
    if link.addresses.iter().any(beside) {
        return false;
    }
    let nets = seen.watched.get(&link.name).into_iter();
    let mut nets = nets
        .flat_map(|w| &w.nets)
        .filter(|(net, _)| Family::of(&net.ip()) == Family::of(&vip))
        .peekable();
    nets.peek().is_some() && !nets.any(|(net, _)| net.contains(vip))
}

/// Whether a port can't carry the VIP, as IPv6 is switched off on it.
fn is_mute(vip: IpAddr, link: &Link, seen: &Observed) -> bool {
    vip.is_ipv6() && seen.without_ipv6.contains(&link.name)
}

/// The first of the VIP's ports that can't carry it, as a problem.
fn mute(request: &Request, seen: &Observed) -> Option<Problem> {
    let mut links = request.ports.iter().flatten().filter_map(|p| seen.link(p));
    let link = links.find(|link| is_mute(request.vip, link, seen))?;
    Some(Problem::Host(format!(
        "parameter ports: IPv6 is switched off on {0} (net.ipv6.conf.{0}.disable_ipv6)",
        link.name
    )))
}

/// The first of the VIP's ports that is on another subnet, as a problem.
fn astray(request: &Request, seen: &Observed) -> Option<Problem> {
    let mut links = request.ports.iter().flatten().filter_map(|p| seen.link(p));
    let link = links.find(|link| is_astray(request, link, seen))?;
    let nets = seen.watched.get(&link.name).into_iter();
    let nets: Vec<String> = nets
        .flat_map(|w| &w.nets)
        .map(|(net, _)| net.to_string())
        .collect();
    Some(Problem::Host(format!(
        "parameter ports: {} is on {}, where clients of {} are not",
        link.name,
        nets.join(", "),
        request.vip
    )))
}

/// Why clients may not reach the VIP by `candidates`: all of its ports were named, and are on other subnets as
/// portwatch has it.
pub(crate) fn doubt(request: &Request, candidates: &[&Link], seen: &Observed) -> Option<String> {
    let named = request.ports.is_some() && !candidates.is_empty();
    let all = named && candidates.iter().all(|l| is_astray(request, l, seen));
    Some(astray(request, seen).filter(|_| all)?.to_string())
}

/// Whether all of the VIP's ports that the node has are on its subnet, as far as portwatch knows; a start
/// does with those that are, or else with all.
///
/// # Errors
/// The first that is not.
pub(crate) fn check_places(request: &Request, seen: &Observed) -> Result<(), Problem> {
    match astray(request, seen).filter(|_| !request.routed) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

pub(crate) fn candidates<'a>(
    request: &Request,
    subnet: IpNetwork,
    seen: &'a Observed,
) -> Result<Vec<&'a Link>, Problem> {
    let vip = request.vip;
    if let Some(names) = &request.ports {
        let links = names.iter().filter_map(|name| seen.link(name));
        let able = links.filter(|link| !is_mute(vip, link, seen));
        let (strays, found): (Vec<&Link>, Vec<&Link>) =
            able.partition(|link| is_astray(request, link, seen));
        // By a route that is announced it is reached through other subnets' ports, as such.
        if !found.is_empty() || request.routed {
            return Ok(found);
        }
        // The administrator may know better than portwatch's parameters.
        return match mute(request, seen).filter(|_| strays.is_empty()) {
            Some(problem) => Err(problem),
            None => Ok(strays),
        };
    }
    // What portwatch knows to be on the subnet is, with or without an address. And without portwatch
    // a VIP stays where that has put it.
    let watched = |link: &Link| {
        let nets = seen.watched.get(&link.name).map(|w| &w.nets);
        nets.is_some_and(|nets| nets.iter().any(|(net, _)| net.contains(vip)))
    };
    let answers = |link: &Link| seen.proxies().any(|p| p == (link.name.as_str(), vip));
    let inside = |link: &&Link| {
        link.eligible
            && !is_mute(vip, link, seen)
            && (link.addresses.iter().any(|a| subnet.contains(a.ip()))
                || watched(link)
                || answers(link))
    };
    let found: Vec<&Link> = seen.links.iter().filter(inside).collect();
    match found.is_empty() {
        true => Err(Problem::Host(format!(
            "no interface of this node has an address in {subnet}: set ports"
        ))),
        false => Ok(found),
    }
}

/// The VIP's ways out, in the order in which they take over: the port that was decided on, then those
/// that work; of these the present one, where portwatch has put it or nothing is better, before those
/// of the VIP's own subnet, and these by standing and load.
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
    let vips = |name: &str| taken.get(name).copied().unwrap_or(0);
    if request.detour.is_some() {
        // The router knows this node by one port, the first.
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

/// Whether none of the VIP's own ports works here, as far as is known.
pub(crate) fn is_lost(request: &Request, seen: &Observed) -> bool {
    let own = subnet(request, seen).and_then(|subnet| candidates(request, subnet, seen));
    let links = own.unwrap_or_default();
    // The cluster counts on a port again only when it has worked for a while.
    let counts = |link: &Link| {
        let watched = seen.watched.get(&link.name);
        seen.is_usable(link) && watched.is_none_or(|w| w.standing < Standing::Held)
    };
    !links.into_iter().any(counts)
}

/// How many other VIPs each port serves, or is about to: those that are being started at the same
/// time have only a rule yet.
fn taken(vip: IpAddr, seen: &Observed) -> BTreeMap<&str, usize> {
    let mut ports: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let first = seen.routes().filter(|r| r.metric == FIRST_METRIC);
    let ways: BTreeMap<(Family, u32), &str> = first
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

/// The ports by which the node that routes is reached.
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

/// Ports of other subnets, by which packets get out if the way to the VIP is announced there. Known
/// where portwatch runs.
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

/// The port that the VIP is served through now: where its proxy entry is, or else its way out.
pub(crate) fn present_port(vip: IpAddr, seen: &Observed) -> Option<String> {
    if let Some((port, _)) = seen.proxies().find(|(_, ip)| *ip == vip) {
        return Some(port.to_owned());
    }
    let rule = seen.way_rule(vip)?;
    let mut routes = seen.routes().filter(|r| Some(r.table) == rule.table());
    let way = routes.find(|r| r.metric == FIRST_METRIC)?;
    way.out.link().map(str::to_owned)
}
