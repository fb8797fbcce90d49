//! Settings that are no error but will not have the effect that one may expect.

use super::file::{Config, Portwatch, Service, Subnet, Vserver};
use super::problem::listing;
use super::{detour, ids, portwatch};
use crate::cell::service::Limits;

/// Each as one line.
pub fn warnings(config: &Config) -> Vec<String> {
    let subnets = config.subnets.iter();
    let mut warnings: Vec<String> = subnets.filter_map(|s| mixed_ports(config, s)).collect();
    let watched = config.portwatch != Portwatch::default()
        || config.subnets.iter().any(|s| !s.targets.is_empty());
    if watched && !portwatch::has_ports(config) {
        let text = "no node has ports, so nothing is watched: give each node its ports";
        warnings.push(text.to_owned());
    }
    warnings.extend(unwatched_ports(config));
    warnings.extend(detour::warnings(config));
    warnings.extend(copied_names(config));
    warnings.extend(config.vservers.iter().filter_map(few_processes));
    warnings
}

fn mixed_ports(config: &Config, subnet: &Subnet) -> Option<String> {
    let name = subnet.name.value.as_str();
    let mut ports = config.nodes.iter().flat_map(|n| &n.ports);
    let named = ports.any(|(_, on)| on.value == name);
    (named && portwatch::ports_on(config, name).is_empty()).then(|| {
        format!(
            "ports of subnet {name} are on another subnet on some node, so its addresses use the ports that have an address in it; name the interfaces alike on all nodes to choose"
        )
    })
}

/// Ports that were named for addresses and are no node's.
fn unwatched_ports(config: &Config) -> Option<String> {
    let known: Vec<&str> = config
        .nodes
        .iter()
        .flat_map(|node| node.ports.iter().map(|(port, _)| port.value.as_str()))
        .collect();
    let vips = config.vservers.iter().flat_map(|v| &v.vips);
    let named = vips.flat_map(|vip| vip.ports.iter().map(move |port| (vip, port)));
    let unknown: Vec<String> = named
        .filter(|(_, port)| !known.contains(&port.value.as_str()))
        .map(|(vip, port)| format!("{} of {}", port.value, vip.ip.value))
        .collect();
    (!known.is_empty() && !unknown.is_empty()).then(|| {
        format!(
            "no node has {} among its ports, so nobody watches whether it works",
            listing(&unknown)
        )
    })
}

/// A limit of processes that is reached before that of connections.
fn few_processes(vserver: &Vserver) -> Option<String> {
    let serves = vserver.services.contains(&Service::Smb);
    let default = Limits::default().connections;
    let connections = vserver.max_connections.unwrap_or(default);
    let line = vserver.limits().too_few_processes(connections);
    line.filter(|_| serves)
        .map(|line| format!("vserver.{}: {line}", vserver.name.value))
}

/// Devices by a name that a copy of the file system has too.
fn copied_names(config: &Config) -> Option<String> {
    let is_copied = |device: &str| {
        [
            "UUID=",
            "LABEL=",
            "/dev/disk/by-uuid/",
            "/dev/disk/by-label/",
        ]
        .iter()
        .any(|begin| device.starts_with(begin))
    };
    let mut found = Vec::new();
    for vserver in &config.vservers {
        let own = vserver
            .filesystems
            .iter()
            .filter(|f| is_copied(&f.device.value));
        found.extend(own.map(|f| ids::filesystem(&vserver.name.value, &f.name.value)));
    }
    (!found.is_empty()).then(|| {
        format!(
            "the device of {} is named by what is written on it, which a clone or a snapshot has too, and then it is ambiguous: name it by a path of its own, such as /dev/disk/by-id/… or /dev/vg0/…",
            listing(&found)
        )
    })
}
