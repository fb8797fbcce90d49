//! What is asked for, and where on a node it can be: its subnet and its ports.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{FIRST_METRIC, FROM_RULE, Family, Link, Object, Observed, TO_TABLE};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The VIP.
    pub vip: IpAddr,
    /// The node's end of the cell's interface.
    pub veth: String,
    /// The subnet; that of a port's address around the VIP if `None`.
    pub subnet: Option<IpNetwork>,
    /// The gateway out of the subnet; without one, the node's own routes lead there.
    pub gateway: Option<IpAddr>,
    /// The ports it may be served through; those with an address in the subnet if `None`.
    pub ports: Option<Vec<String>>,
}

/// Why a VIP can't be on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
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
    pub fn check(&self) -> Result<(), Problem> {
        match self.subnet {
            Some(subnet) if !subnet.contains(self.vip) => Err(Problem::Config(format!(
                "parameter ip: {} is not in subnet {subnet}",
                self.vip
            ))),
            Some(subnet) => check_subnet(self, subnet),
            None => Ok(()),
        }
    }

    /// The interfaces whose settings count: the node's end of the cell's, and the ports.
    pub fn links(&self, seen: &Observed) -> Vec<String> {
        let ports = subnet(self, seen).and_then(|subnet| candidates(self, subnet, seen));
        let ports = ports
            .unwrap_or_default()
            .into_iter()
            .map(|p| p.name.clone());
        ports.chain([self.veth.clone()]).collect()
    }
}

pub(super) fn check_free(request: &Request, seen: &Observed) -> Result<(), Problem> {
    let vip = request.vip;
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
    match holder(vip, seen).filter(|link| *link != request.veth) {
        Some(link) => Err(Problem::Host(format!(
            "parameter ip: {vip} is already in use by vserver {} on this node",
            link.strip_prefix("b-").unwrap_or(link)
        ))),
        None => Ok(()),
    }
}

/// The interface of the cell that has a VIP on this node. A cell without its interface is dead, and
/// what is left of it in nobody's way.
pub fn holder(vip: IpAddr, seen: &Observed) -> Option<&str> {
    let links = seen.objects.iter().filter_map(|object| match object {
        Object::To(ip, link) | Object::Own(link, ip) if *ip == vip => Some(link.as_str()),
        Object::Route(r) if r.table == TO_TABLE && r.to.ip() == vip => r.out.link(),
        _ => None,
    });
    links.into_iter().find(|link| seen.link(link).is_some())
}

pub(super) fn check_ports(request: &Request, seen: &Observed) -> Result<(), Problem> {
    match &request.ports {
        Some(names) if !names.iter().any(|name| seen.link(name).is_some()) => Err(Problem::Host(
            format!("parameter ports: this node has none of {}", names.join(" ")),
        )),
        _ => Ok(()),
    }
}

pub(super) fn subnet(request: &Request, seen: &Observed) -> Result<IpNetwork, Problem> {
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
pub fn is_reserved(address: IpAddr, subnet: IpNetwork) -> bool {
    match subnet {
        IpNetwork::V4(net) => {
            net.prefix() < 31 && (address == net.network() || address == net.broadcast())
        }
        IpNetwork::V6(net) => net.prefix() < 127 && address == net.network(),
    }
}

/// Whether VIP and gateway can be in the subnet.
pub(super) fn check_subnet(request: &Request, subnet: IpNetwork) -> Result<(), Problem> {
    if is_reserved(request.vip, subnet) {
        return Err(Problem::Config(format!(
            "parameter ip: {} is the first or last address of {subnet}, which no host may use",
            request.vip
        )));
    }
    let Some(gateway) = request.gateway else {
        return Ok(());
    };
    let local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let same_family = Family::of(&gateway) == Family::of(&request.vip);
    match same_family && (local || subnet.contains(gateway)) {
        true => Ok(()),
        false => Err(Problem::Config(format!(
            "parameter gateway: {gateway} is not in subnet {subnet}"
        ))),
    }
}

pub(super) fn candidates<'a>(
    request: &Request,
    subnet: IpNetwork,
    seen: &'a Observed,
) -> Result<Vec<&'a Link>, Problem> {
    if let Some(names) = &request.ports {
        return Ok(names.iter().filter_map(|name| seen.link(name)).collect());
    }
    let inside =
        |link: &&Link| link.eligible && link.addresses.iter().any(|a| subnet.contains(a.ip()));
    let found: Vec<&Link> = seen.links.iter().filter(inside).collect();
    match found.is_empty() {
        true => Err(Problem::Host(format!(
            "no interface of this node has an address in {subnet}: set ports"
        ))),
        false => Ok(found),
    }
}

/// The port to serve through first, then those that take over: the present one if it is good, then
/// those with carrier, those with fewer VIPs first.
pub(super) fn in_order<'a>(
    vip: IpAddr,
    subnet: IpNetwork,
    candidates: &[&'a Link],
    seen: &Observed,
) -> Vec<&'a Link> {
    let present = present_port(vip, subnet, seen);
    let load = |name: &str| {
        let others = seen.proxies().filter(|(_, other)| *other != vip);
        others.filter(|(port, _)| *port == name).count()
    };
    let mut ports = candidates.to_vec();
    ports.sort_by_key(|p| {
        let here = present.as_deref() == Some(&p.name);
        (!p.carrier, !p.up, !here, load(&p.name))
    });
    ports
}

/// The port that the VIP is served through now: where its proxy entry is, or else its way out.
pub(super) fn present_port(vip: IpAddr, subnet: IpNetwork, seen: &Observed) -> Option<String> {
    if let Some((port, _)) = seen.proxies().find(|(_, ip)| *ip == vip) {
        return Some(port.to_owned());
    }
    let rule = seen
        .rules()
        .find(|r| r.from == Some(vip) && r.preference == FROM_RULE)?;
    let way = seen
        .routes()
        .find(|r| r.table == rule.table && r.to == subnet && r.metric == FIRST_METRIC)?;
    way.out.link().map(str::to_owned)
}
