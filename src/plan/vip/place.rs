//! Where on a node a VIP can be: its subnet and its ports.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::plan::port::Standing;

use super::{
    Element, GatewayFault, Link, Object, Observed, TO_TABLE, Watched, anywhere, gateway_fits,
    vserver_of,
};
use crate::types::{Family, IfName, Mac};

/// What a VIP is to have on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// Where packets to the VIP go.
    pub(crate) behind: Behind,
    /// The subnet; `None`: that of a port's address which contains the VIP.
    pub(crate) subnet: Option<IpNetwork>,
    /// The gateway out of the subnet; without one, the node's own routes lead there.
    pub(crate) gateway: Option<IpAddr>,
    /// The ports that the VIP may be served through; `None`: those on the subnet, by an address in it or by portwatch's
    /// report.
    pub(crate) ports: Option<Vec<IfName>>,
    /// Whether a routing daemon announces the VIP's route: then ports of other subnets can serve it, too.
    pub(crate) routed: bool,
    /// The port that the VIP is to be served through, if that is decided already.
    pub(crate) prefer: Option<IfName>,
    /// The node that routes for the VIP: no port answers here then, and all that the VIP sends goes to that node.
    pub(crate) detour: Option<Detour>,
}

/// Where packets to a VIP go on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behind {
    /// To the cell, by the host end of its veth.
    Cell(IfName),
    /// To another node, which has the cell.
    Node(NextHop),
}

impl Behind {
    /// The interface.
    pub(crate) fn link(&self) -> &IfName {
        match self {
            Self::Cell(link) => link,
            Self::Node(hop) => &hop.link,
        }
    }
}

/// Another node on a subnet of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextHop {
    /// This node's port by which it is reached.
    pub(crate) link: IfName,
    /// Its address on that subnet.
    pub(crate) address: IpAddr,
    /// Its Ethernet addresses on that subnet.
    pub(crate) macs: Vec<Mac>,
}

/// How the node that routes for a VIP is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detour {
    /// This node's ports by which it is reached.
    pub(crate) ports: Vec<IfName>,
    /// The subnet that these ports are on.
    pub(crate) subnet: IpNetwork,
    /// The other node's address on that subnet.
    pub(crate) router: IpAddr,
}

/// Why a VIP can't be on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It can't be on any node.
    Config(String),
    /// The reason lies in this node.
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
    /// Checks that the parts agree with each other, on whatever node.
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
            // The subnet depends on the node: any of the family may be meant.
            None => check_gateway(self, anywhere(Family::of(&self.vip))),
        }
    }
}

/// The other ports of a port's subnet, by portwatch's report.
pub(crate) fn beside<'a>(port: &'a IfName, seen: &'a Observed) -> impl Iterator<Item = &'a IfName> {
    let nets = seen.watched.get(port).map(|w| &w.nets);
    let same = move |(name, w): &(&IfName, &Watched)| *name != port && Some(&w.nets) == nets;
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
        Behind::Cell(link) => Some(link),
        Behind::Node(_) => None,
    };
    match holder(vip, seen).filter(|link| Some(*link) != own) {
        Some(link) => Err(Problem::Host(format!(
            "parameter ip: {vip} is already in use by vserver {} on this node",
            vserver_of(link).unwrap_or(link.as_str())
        ))),
        None => Ok(()),
    }
}

/// The host end of the veth of the cell that has a VIP on this node. A cell without its interface is dead, and what is
/// left of it does not count; nor does a route to another node's cell.
pub(crate) fn holder(vip: IpAddr, seen: &Observed) -> Option<&IfName> {
    let links = seen.objects.iter().filter_map(|object| match object {
        Object::Element(Element::VipTarget(ip, link))
        | Object::Element(Element::CellSource(link, ip))
            if *ip == vip =>
        {
            Some(link)
        }
        Object::Route(r) if r.table == TO_TABLE && r.to.ip() == vip => r.out.link(),
        _ => None,
    });
    let is_cell = |link: &&IfName| seen.link(link).is_some_and(|l| !l.eligible);
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

/// Whether no host of `subnet` may have the address: the first and last of an IPv4 subnet, and the first of an IPv6
/// one, which is the routers' anycast address. A /31 (RFC 3021) and a /127 reserve none.
pub(crate) fn is_reserved(address: IpAddr, subnet: IpNetwork) -> bool {
    match subnet {
        IpNetwork::V4(net) => {
            net.prefix() < 31 && (address == net.network() || address == net.broadcast())
        }
        IpNetwork::V6(net) => net.prefix() < 127 && address == net.network(),
    }
}

/// Checks that VIP and gateway can be in the subnet.
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
        // The first address of an IPv6 subnet is that of all its routers (RFC 4291, 2.6.1), and leads out. In
        // berth.toml it is taken for a mistake.
        Ok(()) | Err(GatewayFault::Reserved(IpNetwork::V6(_))) => Ok(()),
        Err(fault) => Err(Problem::Config(format!(
            "parameter gateway: {gateway} {fault}"
        ))),
    }
}

/// Whether a port is on other subnets than the VIP's, by portwatch's parameters. These name one subnet of a family for
/// each port; a port with an address in the VIP's subnet is on that, too.
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

/// Whether a port can't serve the VIP because IPv6 is switched off on it.
pub(crate) fn is_mute(vip: IpAddr, link: &Link, seen: &Observed) -> bool {
    vip.is_ipv6() && seen.without_ipv6.contains(&link.name)
}

/// The first of the VIP's named ports that can't serve it, as a problem.
fn mute(request: &Request, seen: &Observed) -> Option<Problem> {
    let mut links = request.ports.iter().flatten().filter_map(|p| seen.link(p));
    let link = links.find(|link| is_mute(request.vip, link, seen))?;
    Some(Problem::Host(format!(
        "parameter ports: IPv6 is switched off on {0} (net.ipv6.conf.{0}.disable_ipv6)",
        link.name
    )))
}

/// The first of the VIP's named ports that is on another subnet, as a problem.
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

/// Why clients may not reach the VIP by `candidates`: all of its ports were named, and by portwatch's report they are
/// on other subnets.
pub(crate) fn doubt(request: &Request, candidates: &[&Link], seen: &Observed) -> Option<String> {
    let named = request.ports.is_some() && !candidates.is_empty();
    let all = named && candidates.iter().all(|l| is_astray(request, l, seen));
    Some(astray(request, seen).filter(|_| all)?.to_string())
}

/// Checks that all of the VIP's named ports that the node has are on its subnet, as far as portwatch knows. A start
/// uses those that are, or else all of them.
///
/// # Errors
/// The first port that is not.
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
        // With an announced route the VIP may be served through ports of other subnets, which are no candidates.
        if !found.is_empty() || request.routed {
            return Ok(found);
        }
        // The administrator may know better than portwatch's parameters.
        return match mute(request, seen).filter(|_| strays.is_empty()) {
            Some(problem) => Err(problem),
            None => Ok(strays),
        };
    }
    // A port that portwatch reports on the subnet counts, with or without an address. Without portwatch a VIP
    // stays where portwatch has put it.
    let watched = |link: &Link| {
        let nets = seen.watched.get(&link.name).map(|w| &w.nets);
        nets.is_some_and(|nets| nets.iter().any(|(net, _)| net.contains(vip)))
    };
    let answers = |link: &Link| seen.proxies().any(|p| p == (&link.name, vip));
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

/// Whether none of the ports on the VIP's own subnet works here, as far as is known.
pub(crate) fn is_lost(request: &Request, seen: &Observed) -> bool {
    let own = subnet(request, seen).and_then(|subnet| candidates(request, subnet, seen));
    let links = own.unwrap_or_default();
    // As for the cluster, a port counts again only when it has worked for a while.
    let counts = |link: &Link| {
        let watched = seen.watched.get(&link.name);
        seen.is_usable(link) && watched.is_none_or(|w| w.standing < Standing::Held)
    };
    !links.into_iter().any(counts)
}
