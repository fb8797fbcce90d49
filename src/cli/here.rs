//! What can be seen from this node of what the file names: devices that are one, addresses that are taken,
//! firewalls that are in the way.

mod ruleset;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;

use crate::cell::cgroup;
use crate::cell::init::root;
use crate::config::problem::Problem;
use crate::config::{Config, subnet_of};
use crate::plan::vip::CELL_LINK_PREFIX;
use crate::sys::device::DeviceSpec;
use crate::sys::nft::{self, Barrier, Passage};
use crate::types::Family;

/// How long it may take to find out whether a cell can be made here, which takes some milliseconds.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// What is wrong with the file on this node. What this node does not have is another one's.
pub(crate) fn problems(config: &Config, deadline: Instant) -> Vec<Problem> {
    let mut problems = one_device(config, deadline);
    if is_node(config) {
        problems.extend(own_addresses(config, &addresses()));
    }
    problems
}

/// What will not do what one may expect of it on this node, each as one line.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    if !is_node(config) {
        return Vec::new();
    }
    let mut warnings = own_targets(config, &addresses());
    warnings.extend(limits(config));
    // Only root may look.
    if nix::unistd::geteuid().is_root() && !config.vservers.is_empty() {
        let cells = root::check_host(Instant::now() + LOOK_LIMIT);
        warnings.extend(
            cells
                .err()
                .map(|e| format!("no cell can be made here: {e}")),
        );
    }
    // Only root may ask, and a kernel without nftables has none; the agents say so in their time.
    warnings.extend(barriers(config).into_iter().flatten().map(|barrier| {
        format!(
            "{barrier} drops what virtual servers receive and send: have it accept what comes from or goes to interfaces called {CELL_LINK_PREFIX}… (iifname \"{CELL_LINK_PREFIX}*\", oifname \"{CELL_LINK_PREFIX}*\")"
        )
    }));
    warnings.extend(ruleset::warning(Path::new("/")));
    warnings.extend(ruleset::saved(Path::new("/")));
    warnings
}

/// Limits that this node can't keep a cell within.
fn limits(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    let asked = config.vservers.iter().filter(|v| !v.limits().are_default());
    for vserver in asked.clone() {
        let beyond = vserver.limits().beyond_node().unwrap_or_default();
        let name = &vserver.name.value;
        lines.extend(beyond.iter().map(|line| format!("vserver.{name}: {line}")));
    }
    let why = asked.clone().next().and_then(|_| cgroup::shortfall());
    lines.extend(why.map(|why| {
        let names: Vec<&str> = asked.map(|v| v.name.value.as_str()).collect();
        format!(
            "the limits of {} will not be in force here: {why}",
            names.join(", ")
        )
    }));
    lines
}

/// Other programs' chains that drop what is forwarded between this node's ports and the cells.
fn barriers(config: &Config) -> io::Result<Vec<Barrier>> {
    let nodes = config.nodes.iter().filter(|node| is_host(&node.name.value));
    let ports: Vec<(&str, &str)> = nodes
        .flat_map(|node| &node.ports)
        .map(|(port, on)| (port.value.as_str(), on.value.as_str()))
        .collect();
    let vservers = config.vservers.iter();
    let cells = vservers.map(|v| format!("{CELL_LINK_PREFIX}{}", v.name.value));
    let cells: Vec<String> = cells.collect();
    let number = |name: &str| nix::net::if_::if_nametoindex(name).unwrap_or(0);
    let mut passages = Vec::new();
    for (vserver, cell) in config.vservers.iter().zip(&cells) {
        for vip in &vserver.vips {
            let Some((subnet, _)) = subnet_of(config, vip) else {
                continue;
            };
            let on = ports.iter().filter(|(_, on)| *on == subnet.name.value);
            passages.extend(on.map(|(port, _)| Passage {
                family: match vip.ip.value {
                    IpAddr::V4(_) => Family::V4,
                    IpAddr::V6(_) => Family::V6,
                },
                port: (port, number(port)),
                inward: (cell, number(cell)),
            }));
        }
    }
    nft::Socket::new()?.barriers(&passages)
}

/// Whether this machine is one of the file's nodes, as far as its host name tells. A file may be checked
/// anywhere, on the router too.
fn is_node(config: &Config) -> bool {
    let mut nodes = config.nodes.iter();
    nodes.any(|node| is_host(&node.name.value))
}

fn is_host(node: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let host = nix::unistd::gethostname().unwrap_or_default();
    short(node) == short(&host.to_string_lossy())
}

/// Targets that are this node itself, which answers to itself whatever its ports do.
fn own_targets(config: &Config, own: &BTreeMap<IpAddr, String>) -> Vec<String> {
    let targets = config.subnets.iter().flat_map(|subnet| &subnet.targets);
    let own = targets.filter(|target| own.contains_key(&target.value));
    own.map(|target| {
        format!(
            "the target {} (line {}) is this node's own address: name a host that is no node of the cluster",
            target.value, target.line
        )
    })
    .collect()
}

/// Two names of one device.
fn one_device(config: &Config, deadline: Instant) -> Vec<Problem> {
    let mut seen: BTreeMap<u64, (&str, &str, usize)> = BTreeMap::new();
    let mut problems = Vec::new();
    for vserver in &config.vservers {
        let owner = vserver.name.value.as_str();
        for device in vserver.filesystems.iter().map(|f| &f.device) {
            let Some(number) = number(&device.value, deadline) else {
                continue;
            };
            if let Some((first, name, line)) = seen.get(&number) {
                problems.push(Problem {
                    line: device.line,
                    key: format!("vserver.{owner}.filesystem.device"),
                    text: format!(
                        "device {} is {name} of {first} (line {line}): both are {}:{} on this node",
                        device.value,
                        libc::major(number),
                        libc::minor(number)
                    ),
                });
            } else {
                seen.insert(number, (owner, &device.value, device.line));
            }
        }
    }
    problems
}

/// The number of a device, if this node has it.
fn number(device: &str, deadline: Instant) -> Option<u64> {
    match device.parse().ok()? {
        // Its node says it: the device itself, which may be slow or dead, is not asked.
        DeviceSpec::Path(path) => {
            let found = fs::metadata(path).ok()?;
            found.file_type().is_block_device().then(|| found.rdev())
        }
        named => named.resolve(deadline).ok().map(|device| device.number),
    }
}

/// This node's addresses, each with its interface; none if they can't be read. One of a link is not
/// among them: others may have it on theirs.
fn addresses() -> BTreeMap<IpAddr, String> {
    let all = getifaddrs().into_iter().flatten();
    let found = all.filter_map(|entry| {
        let address = entry.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        Some((v4.or(v6)?, entry.interface_name))
    });
    let local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    found.filter(|(ip, _)| !local(ip)).collect()
}

/// Addresses of this node where others' are to be.
fn own_addresses(config: &Config, own: &BTreeMap<IpAddr, String>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut check = |line: usize, key: String, ip: &IpAddr, what: &str| {
        if let Some(interface) = own.get(ip) {
            let text = format!("{what}{ip} is this node's own address, on {interface}");
            problems.push(Problem { line, key, text });
        }
    };
    for subnet in &config.subnets {
        let key = format!("subnets.{}", subnet.name.value);
        for gateway in subnet.nets.iter().filter_map(|net| net.gateway) {
            check(subnet.name.line, key.clone(), &gateway, "the gateway ");
        }
    }
    for vserver in &config.vservers {
        let key = format!("vserver.{}.vips", vserver.name.value);
        for vip in &vserver.vips {
            check(vip.ip.line, key.clone(), &vip.ip.value, "");
            if let Some(gateway) = &vip.gateway {
                check(gateway.line, key.clone(), &gateway.value, "the gateway ");
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_own_address_is_no_gateway_and_no_virtual_one_and_no_good_target() {
        let toml = "[subnets]\na = { cidr = \"10.1.0.0/24\", gateway = \"10.1.0.1\", targets = [\"10.1.0.2\"] }\n\
            [vserver.v]\nservices = [\"nfs\"]\nvips = [\"10.1.0.50\", { ip = \"10.1.0.51\", gateway = \"10.1.0.3\" }]\n\
            [[vserver.v.filesystem]]\ndevice = \"/dev/a\"\npath = \"/a\"\n";
        let config = crate::config::parse("f", toml).unwrap();
        for (ip, line, text) in [
            ("10.1.0.1", 2, "the gateway 10.1.0.1"),
            ("10.1.0.3", 5, "the gateway 10.1.0.3"),
            ("10.1.0.50", 5, "10.1.0.50"),
        ] {
            let own = BTreeMap::from([(ip.parse().unwrap(), "eth1".to_owned())]);
            let found = own_addresses(&config, &own);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].line, line);
            assert_eq!(
                found[0].text,
                format!("{text} is this node's own address, on eth1")
            );
        }
        let own = BTreeMap::from([("10.1.0.2".parse().unwrap(), "eth1".to_owned())]);
        assert!(own_addresses(&config, &own).is_empty());
        let expected = "the target 10.1.0.2 (line 2) is this node's own address: name a host that is no node of the cluster";
        assert_eq!(own_targets(&config, &own), [expected]);
        assert!(addresses().contains_key(&IpAddr::from([127, 0, 0, 1])));
        assert!(own_addresses(&config, &addresses()).is_empty());
    }

    #[test]
    fn limits_beyond_this_node_are_told_for_each_who_has_them() {
        let file = |more: &str| {
            let toml = format!(
                "[subnets]\na = {{ cidr = \"10.1.0.0/24\" }}\n[vserver.v]\nservices = [\"nfs\"]\nvips = [\"10.1.0.50\"]\n{more}\n\
                 [[vserver.v.filesystem]]\ndevice = \"/dev/a\"\npath = \"/a\"\n"
            );
            limits(&crate::config::parse("f", &toml).unwrap())
        };
        assert!(file("").is_empty());
        assert!(file("memory_max = \"80%\"").is_empty());
        let lines = file("memory_max = \"900T\"");
        let begin = "vserver.v: memory_max = 900T is more than this node has, which is ";
        assert!(lines[0].starts_with(begin), "{lines:?}");
        let why = cgroup::shortfall()
            .map(|why| format!("the limits of v will not be in force here: {why}"));
        assert_eq!(lines.get(1), why.as_ref());
    }
}
