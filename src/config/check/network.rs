//! Subnets, ports and addresses, and what they say of one another.

use super::Declared;
use super::key;
use crate::config::file::{At, Config, Net, Subnet, Vip, Vserver};
use crate::config::problem::listing;
use crate::config::reader::Reader;
use crate::plan::vip::{gateway_fits, is_reserved, vserver_of};

/// No two subnets may overlap.
pub(crate) fn subnets(reader: &Reader, subnets: &[Subnet]) {
    for (i, one) in subnets.iter().enumerate() {
        for other in &subnets[..i] {
            for (a, b) in one
                .nets
                .iter()
                .flat_map(|a| other.nets.iter().map(move |b| (a, b)))
            {
                if a.cidr.contains(b.cidr.ip()) || b.cidr.contains(a.cidr.ip()) {
                    let text = format!(
                        "{} overlaps {} of {} (line {})",
                        a.cidr, b.cidr, other.name.value, other.name.line
                    );
                    reader.problem(one.name.line, format!("subnets.{}", one.name.value), text);
                }
            }
        }
    }
}

/// The nodes' ports: on which subnets they are, and what they are called.
pub(crate) fn ports(reader: &Reader, config: &Config) {
    for node in &config.nodes {
        let key = format!("nodes.{}.ports", node.name.value);
        for (port, subnet) in &node.ports {
            let key = format!("{key}.{}", port.value);
            Declared::subnets(config).has(reader, &key, subnet);
            cell_name(reader, config, &key, port);
        }
    }
}

/// One address.
pub(crate) fn vip(reader: &Reader, config: &Config, vserver: &Vserver, vip: &Vip) {
    let key = key(vserver, ".vips");
    let ip = vip.ip.value;
    let problem = |text| reader.problem(vip.ip.line, &*key, text);
    if let Some(named) = &vip.subnet {
        if !Declared::subnets(config).has(reader, &key, named) {
            return;
        }
    }
    let Some((subnet, net)) = subnet_of(config, vip) else {
        let unreadable = |subnet: &Subnet| {
            let cidr = |key| reader.is_doubtful(&format!("subnets.{}.{key}", subnet.name.value));
            subnet.nets.is_empty() || cidr("cidr") || cidr("cidr6")
        };
        if config.subnets.iter().any(unreadable) || reader.is_unreadable("subnets") {
            // It may be in the one that could not be read, which was reported.
            return;
        }
        let ranges = |s: &Subnet| {
            let cidrs: Vec<String> = s.nets.iter().map(|n| n.cidr.to_string()).collect();
            format!("{} ({})", s.name.value, cidrs.join(", "))
        };
        let named = vip.subnet.as_ref().map(|s| s.value.as_str());
        let candidates = config
            .subnets
            .iter()
            .filter(|s| named.is_none_or(|n| n == s.name.value));
        let candidates: Vec<String> = candidates.map(ranges).collect();
        problem(match named {
            Some(_) => format!("{ip} is not in {}", listing(&candidates)),
            None => format!("{ip} is in no subnet (declared: {})", listing(&candidates)),
        });
        return;
    };
    let cidr = net.cidr;
    if is_reserved(ip, cidr) {
        problem(format!(
            "{ip} is the first or last address of {cidr}, which no host may use"
        ));
    }
    if let Some(target) = subnet.targets.iter().find(|t| t.value == ip) {
        problem(format!(
            "{ip} is a target of {} (line {}), which must be a host that does not depend on this cluster",
            subnet.name.value, target.line
        ));
    }
    if net.gateway == Some(ip) {
        problem(format!(
            "{ip} is the gateway of {}, choose another address",
            subnet.name.value
        ));
    }
    if let Some(gateway) = &vip.gateway {
        let fault = gateway_fits(gateway.value, cidr, Some(ip)).err();
        let fault = fault.map(|fault| fault.to_string());
        let fault = fault.or_else(|| {
            let vservers = config.vservers.iter();
            let mut all = vservers.flat_map(|v| v.vips.iter().map(move |vip| (v, vip)));
            let (owner, _) = all.find(|(_, vip)| vip.ip.value == gateway.value)?;
            Some(format!("is an address of {}", owner.name.value))
        });
        if let Some(fault) = fault {
            let text = format!("the gateway {} of {ip} {fault}", gateway.value);
            reader.problem(gateway.line, &*key, text);
        }
    }
    named_ports(reader, config, (vserver, &key), (vip, subnet));
}

/// The ports that were named for an address must be on its subnet, wherever it may come to.
fn named_ports(
    reader: &Reader,
    config: &Config,
    (vserver, key): (&Vserver, &str),
    (vip, subnet): (&Vip, &Subnet),
) {
    // Elsewhere it is only as a detour, which takes ports that are on the subnet.
    let stay = vserver.stay_on.as_ref().map(|node| &node.value);
    let nodes = config.nodes.iter();
    let possible = nodes.filter(|node| stay.is_none_or(|stay| *stay == node.name.value));
    for port in &vip.ports {
        cell_name(reader, config, key, port);
        let elsewhere = possible.clone().find_map(|node| {
            let (_, on) = node.ports.iter().find(|(p, _)| p.value == port.value)?;
            (on.value != subnet.name.value).then_some((node, on))
        });
        if let Some((node, on)) = elsewhere {
            let text = format!(
                "port {} is on {} at {} (line {}), not on {}, where {} is",
                port.value, on.value, node.name.value, on.line, subnet.name.value, vip.ip.value
            );
            reader.problem(port.line, key, text);
        }
    }
}

/// A port can't have the name of a cell's interface.
fn cell_name(reader: &Reader, config: &Config, key: &str, port: &At<String>) {
    let cell = |v: &&Vserver| vserver_of(&port.value) == Some(v.name.value.as_str());
    if let Some(vserver) = config.vservers.iter().find(cell) {
        let text = format!(
            "the name {:?} is that of the interface to {}'s cell",
            port.value, vserver.name.value
        );
        reader.problem(port.line, key, text);
    }
}

/// The subnet and the address range that a VIP is in.
pub(crate) fn subnet_of<'c>(config: &'c Config, vip: &Vip) -> Option<(&'c Subnet, &'c Net)> {
    let named = |s: &&Subnet| vip.subnet.as_ref().is_none_or(|n| n.value == s.name.value);
    config.subnets.iter().filter(named).find_map(|subnet| {
        let net = subnet.nets.iter().find(|n| n.cidr.contains(vip.ip.value))?;
        Some((subnet, net))
    })
}
