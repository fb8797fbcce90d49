//! Whether another node could route for an address, as far as the ports in the file tell.

use std::collections::BTreeMap;

use super::check::subnet_of;
use super::file::{Config, Node, OnSubnetLoss, Subnet, Vip, Vserver};
use super::problem::listing;

/// A line for the addresses of a subnet that are to be rerouted but can't be when the same nodes lose it.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut stuck: BTreeMap<(&str, bool, Vec<&str>), Vec<String>> = BTreeMap::new();
    for vserver in &config.vservers {
        let vips = vserver.vips.iter();
        for vip in vips.filter(|vip| vip.on_subnet_loss == OnSubnetLoss::Reroute) {
            let Some((subnet, _)) = subnet_of(config, vip) else {
                continue;
            };
            let nodes: Vec<&str> = possible(config, vserver)
                .filter(|node| !has_router(config, node, vip, subnet))
                .map(|node| node.name.value.as_str())
                .collect();
            if !nodes.is_empty() {
                let ip = vip.ip.value;
                let key = (subnet.name.value.as_str(), ip.is_ipv4(), nodes);
                stuck.entry(key).or_default().push(ip.to_string());
            }
        }
    }
    let lines = stuck.iter().map(|((subnet, ipv4, nodes), ips)| {
        let family = if *ipv4 { "IPv4 " } else { "" };
        format!(
            "{} can't be rerouted when {subnet} is lost at {}: this needs another node on {subnet} that has a second {family}subnet in common with that one; give the nodes such ports, or set on_subnet_loss = \"migrate\"",
            listing(ips),
            nodes.join(" or "),
        )
    });
    lines.collect()
}

/// The nodes that a virtual server can be on. Without ports on any there are no detours at all, and of a
/// node without ports nothing is known.
fn possible<'c>(config: &'c Config, vserver: &'c Vserver) -> impl Iterator<Item = &'c Node> {
    let stay = vserver.stay_on.as_ref().map(|node| &node.value);
    let nodes = config.nodes.iter().filter(|node| !node.ports.is_empty());
    nodes.filter(move |node| stay.is_none_or(|stay| *stay == node.name.value))
}

/// Whether another node than `home` is on the address's subnet and on a second one with `home`.
fn has_router(config: &Config, home: &Node, vip: &Vip, subnet: &Subnet) -> bool {
    let serves = |node: &Node| {
        let mut ports = node.ports.iter();
        let may =
            |port: &String| vip.ports.is_empty() || vip.ports.iter().any(|p| p.value == *port);
        ports.any(|(port, on)| on.value == subnet.name.value && may(&port.value))
    };
    let second = |other: &Subnet| {
        // In IPv6 every port has an address to be reached by; an IPv4 one has to be given.
        let family = vip.ip.value.is_ipv6() || other.nets.iter().any(|net| net.cidr.is_ipv4());
        other.name.value != subnet.name.value && family
    };
    let second: Vec<&Subnet> = config.subnets.iter().filter(|s| second(s)).collect();
    let on = |node: &Node, subnet: &Subnet| {
        node.ports
            .iter()
            .any(|(_, on)| on.value == subnet.name.value)
    };
    let mut others = config.nodes.iter();
    others.any(|node| {
        node.name.value != home.name.value
            && serves(node)
            && second
                .iter()
                .any(|subnet| on(node, subnet) && on(home, subnet))
    })
}
