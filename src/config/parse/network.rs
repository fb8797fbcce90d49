//! Subnets, nodes and how their ports are watched.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{check_name, number};
use crate::config::file::{At, Net, Node, Portwatch, Subnet};
use crate::config::problem::listing;
use crate::config::reader::Table;
use crate::plan::vip::{gateway_fits, is_reserved};
use crate::spec::{Time, portwatch as spec};
use crate::types::name;

/// A network.
pub(crate) fn subnet(name: At<String>, table: &Table) -> Subnet {
    let mut nets = Vec::new();
    for (cidr, gateway, v6) in [("cidr", "gateway", false), ("cidr6", "gateway6", true)] {
        if let Some(net) = net(table, cidr, gateway, v6) {
            nets.push(net);
        }
    }
    if table.value("cidr").is_none() && table.value("cidr6").is_none() {
        table.note(table.line(), "cidr is missing".to_owned());
    }
    let targets = targets(table, &nets);
    Subnet {
        name,
        nets,
        targets,
    }
}

fn targets(table: &Table, nets: &[Net]) -> Vec<At<IpAddr>> {
    let key = "targets";
    let mut targets = Vec::new();
    for text in table.strings(key) {
        let Some(ip) = address(table, key, &text) else {
            continue;
        };
        let problem = |why: String| table.problem(key, text.line, format!("{ip} {why}"));
        match nets.iter().find(|net| net.cidr.contains(ip)) {
            Some(net) if is_reserved(ip, net.cidr) => problem(format!(
                "is the first or last address of {}, which no host may use",
                net.cidr
            )),
            Some(_) => targets.push(text.with(ip)),
            // A network that could not be read was reported.
            None if nets.is_empty() => {}
            None => {
                let cidrs: Vec<String> = nets.iter().map(|net| net.cidr.to_string()).collect();
                problem(format!("is not in {}", listing(&cidrs)));
            }
        }
    }
    targets
}

fn net(table: &Table, cidr_key: &str, gateway_key: &str, v6: bool) -> Option<Net> {
    let example = if v6 { "fd00:1::/64" } else { "10.1.0.0/24" };
    let gateway = table.string(gateway_key);
    let Some(text) = table.string(cidr_key) else {
        if let Some(gateway) = gateway.filter(|_| table.value(cidr_key).is_none()) {
            let text = format!("{} needs {cidr_key}, such as {example:?}", gateway.value);
            table.problem(gateway_key, gateway.line, text);
        }
        return None;
    };
    let wrong = |why: String| table.problem(cidr_key, text.line, format!("{:?} {why}", text.value));
    // A bare address parses too, as a network of one: hardly ever what was meant.
    let parsed = text.value.parse::<IpNetwork>();
    let Some(cidr) = parsed.ok().filter(|_| text.value.contains('/')) else {
        wrong(format!("is no network, such as {example:?}"));
        return None;
    };
    if cidr.is_ipv6() != v6 {
        let right = if v6 { "cidr" } else { "cidr6" };
        wrong(format!("belongs under {right}"));
        return None;
    }
    if cidr.ip() != cidr.network() {
        let right = format!("{}/{}", cidr.network(), cidr.prefix());
        wrong(format!("has host bits set, the network is {right:?}"));
        return None;
    }
    if unusable(cidr.ip()) {
        wrong("is no network that clients can be in".to_owned());
        return None;
    }
    let gateway = gateway.and_then(|text| {
        let gateway = address(table, gateway_key, &text)?;
        if let Err(fault) = gateway_fits(gateway, cidr, None) {
            table.problem(gateway_key, text.line, format!("{gateway} {fault}"));
        }
        Some(gateway)
    });
    Some(Net { cidr, gateway })
}

/// Loopback, multicast, unspecified, and link-local: a cell's own gateway is 169.254.1.1 and fe80::1.
fn unusable(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || link_local
}

/// An address, as the value of `key`.
pub(crate) fn address(table: &Table, key: &str, text: &At<String>) -> Option<IpAddr> {
    let parsed = text.value.parse();
    if parsed.is_err() {
        let what = format!("{:?} is no address, such as \"10.1.0.50\"", text.value);
        table.problem(key, text.line, what);
    }
    parsed.ok()
}

/// A node and its ports.
pub(crate) fn node(name: At<String>, table: &Table) -> Node {
    let mut ports = Vec::new();
    if let Some(list) = table.table("ports", None) {
        for (port, value) in list.entries() {
            check_name(&list, &port, name::port);
            ports.extend(list.text(&port.value, value).map(|subnet| (port, subnet)));
        }
    }
    Node { name, ports }
}

/// How ports are watched.
pub(crate) fn portwatch(table: &Table) -> Portwatch {
    Portwatch {
        interval: interval(table),
        fail_after: number(table, &spec::FAIL_AFTER),
        recover_after: table.number(
            spec::RECOVER_AFTER.name,
            spec::RECOVER_AFTER_SECONDS.range(),
        ),
        balance: number(table, &spec::BALANCE),
    }
}

fn interval(table: &Table) -> Option<u32> {
    let parameter = &spec::INTERVAL;
    let text = table.string(parameter.name)?;
    let time = parameter.content.parse(&text.value);
    if time.is_none() {
        let Time {
            least,
            most,
            default,
        } = parameter.content;
        let what = format!(
            "{:?} is no time from {least:?} to {most:?}, such as {default:?}",
            text.value
        );
        table.problem(parameter.name, text.line, what);
    }
    u32::try_from(time?.as_millis()).ok()
}
