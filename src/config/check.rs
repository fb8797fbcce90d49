//! Checks that concern several keys: names that must exist, things that must be there only once, sums.

use super::file::{At, Config, Service, Vserver};
use super::ids;
use super::problem::{hint, listing};
use super::reader::Reader;
use super::score;
use crate::plan::directory;
use crate::spec::vserver::{NFS, NFS_GRACE, NFS_LEASE, SMB};

mod device;
mod duplicate;
mod network;

pub(crate) use network::subnet_of;

/// Completes what follows from other keys, and notes in `reader` what contradicts.
pub(crate) fn config(reader: &Reader, config: &mut Config) {
    network::subnets(reader, &config.subnets);
    network::ports(reader, config);
    for vserver in &mut config.vservers {
        services(reader, vserver);
    }
    for vserver in &config.vservers {
        vserver_alone(reader, vserver);
        references(reader, config, vserver);
        for vip in &vserver.vips {
            network::vip(reader, config, vserver, vip);
        }
    }
    device::devices(reader, config);
    duplicate::duplicates(reader, config);
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
        // A value that could not be read was reported already.
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
    for (service, name) in [(Service::Nfs, NFS), (Service::Smb, SMB)] {
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
    let lease = vserver.nfs_lease.unwrap_or(NFS_LEASE.content.default);
    let grace = vserver.nfs_grace.unwrap_or(NFS_GRACE.content.default);
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
    let rewards = score::sum(vserver);
    if rewards >= score::LIMIT {
        let text = format!(
            "its placement scores add up to {rewards}, they must stay below {}: have fewer file systems on other units or fewer \"migrate\" addresses",
            score::LIMIT
        );
        reader.problem(line, key(vserver, ""), text);
    }
}

fn references(reader: &Reader, config: &Config, vserver: &Vserver) {
    if let Some(node) = &vserver.stay_on {
        Declared::nodes(config).has(reader, &key(vserver, ".stay_on"), node);
    }
    for unit in vserver.filesystems.iter().filter_map(|f| f.unit.as_ref()) {
        Declared::units(config).has(reader, &key(vserver, ".filesystem.unit"), unit);
    }
}
