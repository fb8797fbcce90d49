//! The parameters of `ocf:berth:vip`.

use std::net::IpAddr;

use super::{Parameter, Words};

/// The virtual server.
pub(crate) const VSERVER: Parameter = Parameter::text(
    "vserver",
    "Virtual server",
    "Name of the virtual server that the address belongs to.",
)
.required();

/// The address.
pub(crate) const IP: Parameter = Parameter::text(
    "ip",
    "Virtual IP address",
    "The address, IPv4 or IPv6, without a prefix length.",
)
.required()
.unique_group("address");

/// Whether [`IP`] may be this.
///
/// # Errors
/// What is wrong, as the rest of a sentence about the address.
pub(crate) fn ip(address: IpAddr) -> Result<(), String> {
    let odd = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.is_unicast_link_local(),
    };
    match odd || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        true => Err("is not the address of one host".into()),
        false => Ok(()),
    }
}

/// The subnet that it is in.
pub(crate) const SUBNET: Parameter = Parameter::text(
    "subnet",
    "Subnet",
    "The subnet that clients sit on and the address is in, such as 10.1.0.0/24, with or without a name in front: office=10.1.0.0/24. Default: that of a port's own address.",
)
.reloadable();

/// The router out of the subnet.
pub(crate) const GATEWAY: Parameter = Parameter::text(
    "gateway",
    "Gateway",
    "The router that leads out of the subnet: answers to clients elsewhere go to it. An address in the subnet, or a link-local one such as fe80::1. Without one they follow the node's own routes, as far as those leave by the address's ports.",
)
.reloadable();

/// The interfaces that may carry it.
pub(crate) const PORTS: Parameter = Parameter::text(
    "ports",
    "Ports",
    "The network interfaces that the address may be served through, separated by spaces; those that a node does not have are skipped there. Default: the interfaces with an address in the subnet, and those that portwatch knows to be on it.",
)
.reloadable();

/// [`ON_SUBNET_LOSS`]: another node routes to the virtual server.
pub(crate) const REROUTE: &str = "reroute";
/// [`ON_SUBNET_LOSS`]: the virtual server moves.
pub(crate) const MIGRATE: &str = "migrate";

/// What happens when the subnet is lost.
pub(crate) const ON_SUBNET_LOSS: Parameter<Words> = Parameter::select(
    "on_subnet_loss",
    &[REROUTE, MIGRATE],
    "When the subnet is lost",
    "Whether the address then goes to another node, which routes to the virtual server over another subnet that both nodes are on (reroute), or takes the virtual server with it (migrate). Placement follows it by the constraints that berth plan writes.",
)
.with_default(REROUTE)
.reloadable();

/// [`ANNOUNCE`]: on its own subnet only.
pub(crate) const ARP: &str = "arp";
/// [`ANNOUNCE`]: also by a routing daemon.
pub(crate) const ROUTE: &str = "route";

/// How the way to it is made known.
pub(crate) const ANNOUNCE: Parameter<Words> = Parameter::select(
    "announce",
    &[ARP, ROUTE],
    "How the way to the address is made known",
    "By ARP and neighbour discovery on the address's own subnet only (arp), or also by a routing daemon such as BIRD or FRR, for which the address's route is kept in table 190 with the protocol number 191 (route): then a port of another subnet can serve it when its own subnet has none left. The example bird.conf in berth's documentation directory shows what BIRD and the routers need.",
)
.with_default(ARP)
.reloadable();
