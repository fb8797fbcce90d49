//! The parameters of portwatch: the ports of each node, and the subnets that they are on.

use super::file::{Config, Node, Subnet};
use super::model::{Features, Pair};
use crate::spec::portwatch::{
    BALANCE, FAIL_AFTER, INTERVAL, PORTS, RECOVER_AFTER, SUBNETS, TARGETS,
};

/// The features that can be used with `config`: without a port in it portwatch has nothing to watch, so
/// nobody writes the attributes that its rules are about.
pub(crate) fn usable(config: &Config, features: Features) -> Features {
    let portwatch = features.portwatch && has_ports(config);
    Features {
        portwatch,
        storage: features.storage && portwatch,
        detour: features.detour && portwatch,
        ..features
    }
}

/// Whether any node has a port.
pub(crate) fn has_ports(config: &Config) -> bool {
    config.nodes.iter().any(|node| !node.ports.is_empty())
}

/// Its parameters: on all nodes, and on each by itself where the nodes' ports differ.
pub(crate) fn params(config: &Config) -> (Vec<Pair>, Vec<(String, Vec<Pair>)>) {
    let mut params = vec![(SUBNETS.name, subnets(&config.subnets))];
    let targets = config.subnets.iter().flat_map(|subnet| &subnet.targets);
    let targets: Vec<String> = targets.map(|target| target.value.to_string()).collect();
    if !targets.is_empty() {
        params.push((TARGETS.name, targets.join(" ")));
    }
    let watch = config.portwatch;
    let settings = [
        (INTERVAL.name, watch.interval.map(|n| format!("{n}ms"))),
        (FAIL_AFTER.name, watch.fail_after.map(|n| n.to_string())),
        (
            RECOVER_AFTER.name,
            watch.recover_after.map(|n| format!("{n}s")),
        ),
        (BALANCE.name, watch.balance.map(|n| n.to_string())),
    ];
    let given = |(name, value): (&'static str, Option<String>)| Some((name, value?));
    params.extend(settings.into_iter().filter_map(given));
    let mut node_params = Vec::new();
    match common_ports(&config.nodes) {
        Some(ports) => params.push((PORTS.name, ports)),
        None => {
            let with_ports = config.nodes.iter().filter(|node| !node.ports.is_empty());
            node_params.extend(with_ports.map(|node| {
                let ports = vec![(PORTS.name, ports(node))];
                (node.name.value.clone(), ports)
            }));
        }
    }
    (params, node_params)
}

/// `office=10.1.0.0/24,10.1.0.254 lab=10.2.0.0/24`
fn subnets(subnets: &[Subnet]) -> String {
    let nets = subnets
        .iter()
        .flat_map(|subnet| subnet.nets.iter().map(move |net| (subnet, net)));
    let words: Vec<String> = nets
        .map(|(subnet, net)| {
            let gateway = net.gateway.map(|gateway| format!(",{gateway}"));
            let gateway = gateway.unwrap_or_default();
            format!("{}={}{gateway}", subnet.name.value, net.cidr)
        })
        .collect();
    words.join(" ")
}

/// `eth1=office eth2=lab`, in the order of the interfaces' names, which the order in the file does not
/// change.
fn ports(node: &Node) -> String {
    let mut words: Vec<String> = node
        .ports
        .iter()
        .map(|(port, subnet)| format!("{}={}", port.value, subnet.value))
        .collect();
    words.sort();
    words.join(" ")
}

/// The ports of every node, if they are the same.
fn common_ports(nodes: &[Node]) -> Option<String> {
    let mut all = nodes.iter().map(ports);
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

/// The interfaces that are on a subnet, on whichever node; empty if one of them is on another subnet
/// on some node, as the agent could not tell then which is meant.
pub(crate) fn ports_on<'c>(config: &'c Config, subnet: &str) -> Vec<&'c str> {
    let ports = || config.nodes.iter().flat_map(|node| &node.ports);
    let mut found: Vec<&str> = Vec::new();
    for (port, _) in ports().filter(|(_, on)| on.value == subnet) {
        if !found.contains(&port.value.as_str()) {
            found.push(&port.value);
        }
    }
    let elsewhere = |name: &&str| ports().any(|(p, on)| p.value == *name && on.value != subnet);
    if found.iter().any(elsewhere) {
        found.clear();
    }
    found
}
