//! What concerns several keys: names that must exist, things that must be there once, sums.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::file::{At, Config, Filesystem, Net, OnSubnetLoss, Service, Subnet, Vip, Vserver};
use super::ids;
use super::problem::{hint, listing};
use super::reader::Reader;
use crate::plan::directory;
use crate::plan::vip::is_reserved;

/// Completes what follows from other keys, and notes in `reader` what contradicts.
pub fn config(reader: &Reader, config: &mut Config) {
    subnets(reader, &config.subnets);
    ports(reader, config);
    for vserver in &mut config.vservers {
        services(reader, vserver);
    }
    for vserver in &config.vservers {
        vserver_alone(reader, vserver);
        references(reader, config, vserver);
        for vip in &vserver.vips {
            self::vip(reader, config, vserver, vip);
        }
    }
    duplicates(reader, config);
}

fn subnets(reader: &Reader, subnets: &[Subnet]) {
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

fn ports(reader: &Reader, config: &Config) {
    for node in &config.nodes {
        for (port, subnet) in &node.ports {
            let key = format!("nodes.{}.ports.{}", node.name.value, port.value);
            Declared::subnets(config).has(reader, &key, subnet);
        }
    }
}

/// What is declared under one of the file's tables.
struct Declared<'c> {
    /// What each is.
    kind: &'static str,
    /// The table.
    table: &'static str,
    names: Vec<&'c str>,
}

impl<'c> Declared<'c> {
    fn new<T>(
        (kind, table): (&'static str, &'static str),
        list: &'c [T],
        name: impl Fn(&'c T) -> &'c At<String>,
    ) -> Self {
        let names = list.iter().map(|item| name(item).value.as_str()).collect();
        Self { kind, table, names }
    }

    fn subnets(config: &'c Config) -> Self {
        Self::new(("subnet", "subnets"), &config.subnets, |s| &s.name)
    }

    fn nodes(config: &'c Config) -> Self {
        Self::new(("node", "nodes"), &config.nodes, |n| &n.name)
    }

    fn units(config: &'c Config) -> Self {
        Self::new(("storage unit", "storage"), &config.units, |u| &u.name)
    }

    /// Whether `name` is one of them; notes it if it is not.
    fn has(&self, reader: &Reader, key: &str, name: &At<String>) -> bool {
        let found = self.names.contains(&name.value.as_str());
        // What could not be read was reported.
        let own = format!("{}.{}", self.table, name.value);
        if !found && !reader.is_doubtful(&own) && !reader.is_unreadable(self.table) {
            let hint = hint(&name.value, self.names.iter().copied());
            let known = listing(&self.names);
            let text = format!(
                "unknown {} {:?}{hint} (declared: {known})",
                self.kind, name.value
            );
            reader.problem(name.line, key, text);
        }
        found
    }
}

fn key(vserver: &Vserver, rest: &str) -> String {
    format!("vserver.{}{rest}", vserver.name.value)
}

/// Fills in the services that the exports ask for, or compares them with those that were named.
fn services(reader: &Reader, vserver: &mut Vserver) {
    let exports = |service| {
        vserver.filesystems.iter().find(|f| match service {
            Service::Nfs => f.nfs.is_some(),
            Service::Smb => f.smb.is_some(),
        })
    };
    let mut wanted = Vec::new();
    for (service, name) in [(Service::Nfs, "nfs"), (Service::Smb, "smb")] {
        let Some(filesystem) = exports(service) else {
            continue;
        };
        wanted.push(service);
        let named = !vserver.services.is_empty() && !reader.is_doubtful(&key(vserver, ".services"));
        if named && !vserver.services.contains(&service) {
            let text = format!(
                "{} has {name}, so services must name {name:?}",
                filesystem.path.value
            );
            reader.problem(filesystem.path.line, key(vserver, ".services"), text);
        }
    }
    if vserver.services.is_empty() {
        vserver.services = wanted;
    }
    vserver.services.sort();
    vserver.services.dedup();
    let doubtful = [".services", ".command", ".filesystem"]
        .iter()
        .any(|rest| reader.is_doubtful(&key(vserver, rest)));
    if vserver.services.is_empty() && vserver.command.is_none() && !doubtful {
        let text = "serves nothing: give a file system nfs or smb, or name services or a command";
        reader.problem(vserver.name.line, key(vserver, ""), text);
    }
}

fn vserver_alone(reader: &Reader, vserver: &Vserver) {
    let line = vserver.name.line;
    let name = &vserver.name.value;
    if [ids::PORTWATCH, ids::REBALANCE, ids::OWNERSHIP.tag].contains(&name.as_str()) {
        let text = format!(
            "the name {name:?} is one that berth itself uses in the cluster, choose another"
        );
        reader.problem(line, key(vserver, ""), text);
    }
    // The defaults are the agent's.
    let lease = vserver.nfs_lease.unwrap_or(15);
    let grace = vserver.nfs_grace.unwrap_or(20);
    let doubtful = [".nfs_lease", ".nfs_grace"]
        .iter()
        .any(|rest| reader.is_doubtful(&key(vserver, rest)));
    if grace <= lease && !doubtful {
        let text = format!(
            "the grace period, {grace} s, is not longer than the lease, {lease} s: set nfs_grace to more"
        );
        reader.problem(line, key(vserver, ""), text);
    }
    for (i, one) in vserver.filesystems.iter().enumerate() {
        for other in &vserver.filesystems[..i] {
            if directory::nested(&one.path.value, &other.path.value) {
                let text = format!(
                    "directory {:?} and {:?} (line {}) can't hold two file systems: neither may be or contain the other",
                    one.path.value, other.path.value, other.path.line
                );
                reader.problem(one.path.line, key(vserver, ".filesystem.path"), text);
            }
        }
    }
    let rewards = reward_sum(vserver);
    if rewards >= SCORE_LIMIT {
        let text = format!(
            "its placement scores add up to {rewards}, they must stay below {SCORE_LIMIT}: have fewer file systems on other units or fewer \"migrate\" addresses"
        );
        reader.problem(line, key(vserver, ""), text);
    }
}

/// From this sum on Pacemaker saturates, and preferences are lost.
const SCORE_LIMIT: usize = 1_000_000;

/// The most that the rules and stickinesses of a virtual server can add up to on one node.
fn reward_sum(vserver: &Vserver) -> usize {
    let unit = |f: &Filesystem| f.unit.as_ref().map(|u| u.value.clone());
    let home = vserver.home().and_then(unit);
    let elsewhere = |f: &&Filesystem| unit(f).is_some() && unit(f) != home;
    let data = vserver.filesystems.iter().filter(elsewhere).count();
    let migrate = |v: &&Vip| v.on_subnet_loss == OnSubnetLoss::Migrate;
    let migrate = vserver.vips.iter().filter(migrate).count();
    // Ports, home's storage, a placement pulse; stickiness of the server and of each file system.
    400_000 * 2 + 200 + 100 + vserver.filesystems.len() + 1000 * (data + migrate)
}

fn references(reader: &Reader, config: &Config, vserver: &Vserver) {
    if let Some(node) = &vserver.stay_on {
        Declared::nodes(config).has(reader, &key(vserver, ".stay_on"), node);
    }
    for unit in vserver.filesystems.iter().filter_map(|f| f.unit.as_ref()) {
        Declared::units(config).has(reader, &key(vserver, ".filesystem.unit"), unit);
    }
}

fn vip(reader: &Reader, config: &Config, vserver: &Vserver, vip: &Vip) {
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
    if let Some(gateway) = vip.gateway.as_ref().filter(|g| !cidr.contains(g.value)) {
        let text = format!("gateway {} is not in {cidr}, where {ip} is", gateway.value);
        reader.problem(gateway.line, &*key, text);
    }
}

/// The subnet and the address range that a VIP is in.
pub fn subnet_of<'c>(config: &'c Config, vip: &Vip) -> Option<(&'c Subnet, &'c Net)> {
    let named = |s: &&Subnet| vip.subnet.as_ref().is_none_or(|n| n.value == s.name.value);
    config.subnets.iter().filter(named).find_map(|subnet| {
        let net = subnet.nets.iter().find(|n| n.cidr.contains(vip.ip.value))?;
        Some((subnet, net))
    })
}

/// Notes the second and later of things that may be there once.
struct Once<'r, 't, K> {
    reader: &'r Reader<'t>,
    seen: BTreeMap<K, (String, usize)>,
}

impl<'r, 't, K: Ord> Once<'r, 't, K> {
    fn new(reader: &'r Reader<'t>) -> Self {
        Self {
            reader,
            seen: BTreeMap::new(),
        }
    }

    fn add(&mut self, thing: K, what: &str, owner: &str, key: String, line: usize) {
        if let Some((first, at)) = self.seen.get(&thing) {
            let text = format!("{what} is used twice, first by {first} in line {at}");
            self.reader.problem(line, key, text);
        } else {
            self.seen.insert(thing, (owner.to_owned(), line));
        }
    }
}

fn duplicates(reader: &Reader, config: &Config) {
    let mut addresses: Once<IpAddr> = Once::new(reader);
    let mut devices: Once<&str> = Once::new(reader);
    let mut resources: Once<String> = Once::new(reader);
    for vserver in &config.vservers {
        let owner = &vserver.name.value;
        let id = owner.clone();
        let what = format!("the resource id {id:?}");
        resources.add(id, &what, owner, key(vserver, ""), vserver.name.line);
        for vip in &vserver.vips {
            let ip = vip.ip.value;
            addresses.add(
                ip,
                &format!("address {ip}"),
                owner,
                key(vserver, ".vips"),
                vip.ip.line,
            );
        }
        for (n, vip) in vserver.vips.iter().enumerate() {
            let id = ids::vip(owner, n + 1);
            let what = format!("the resource id {id:?}");
            resources.add(id, &what, owner, key(vserver, ".vips"), vip.ip.line);
        }
        let mut shares: Once<String> = Once::new(reader);
        for filesystem in &vserver.filesystems {
            let device = &filesystem.device;
            let what = format!("device {}", device.value);
            devices.add(
                &device.value,
                &what,
                owner,
                key(vserver, ".filesystem.device"),
                device.line,
            );
            let id = ids::filesystem(owner, &filesystem.name.value);
            let what = format!("the resource id {id:?}");
            let line = filesystem.name.line;
            // Two of one path, from which the name is made by default, were reported.
            if !reader.is_wrong(&key(vserver, ".filesystem.path"), line) {
                resources.add(id, &what, owner, key(vserver, ".filesystem.name"), line);
            }
            if let Some(smb) = &filesystem.smb {
                // Windows and Samba compare share names without regard to case.
                let what = format!("share {:?}", smb.share.value);
                let key = key(vserver, ".filesystem.smb.share");
                shares.add(
                    smb.share.value.to_lowercase(),
                    &what,
                    owner,
                    key,
                    smb.share.line,
                );
            }
        }
    }
}
