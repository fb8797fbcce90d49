//! The node's kernel settings, and their values before berth changed them.

use std::collections::BTreeSet;
use std::io;

use crate::plan::vip::{Action, Element, Incoming, Object, Observed, Rule, WAY_TABLES};
use crate::sys::sysctl::{self, FORWARD_ALL_IPV6, Record};
use crate::types::{Family, IfName};

/// Fills in former values that are not on record, for want of room or because the record is lost, from the kernel's
/// state: a port in the set `shut`, or with a rule that shuts it, forwarded nothing before. Without the tables that
/// can't be seen, and forwarding on all of berth's ports counts as berth's doing: a node must not become a router
/// because it was forgotten that it was none.
pub(crate) fn recall(record: &mut Record, seen: &Observed, unread: bool) -> io::Result<()> {
    let is_cell = |name: &str| seen.link(name).is_none_or(|link| !link.eligible);
    let shut = |object: &Object| match object {
        Object::Element(Element::ClosedPort(family, port)) => Some((*family, port.clone())),
        Object::Rule(Rule {
            family,
            incoming: Incoming::By(port),
            action: Action::Blackhole,
            ..
        }) if !is_cell(port) => Some((*family, port.clone())),
        _ => None,
    };
    let used = |object: &Object| match object {
        Object::Proxy(port, vip) => Some((Family::of(vip), port.clone())),
        Object::Route(route) if WAY_TABLES.contains(&route.table) => {
            Some((route.family(), route.out.link()?.clone()))
        }
        _ => None,
    };
    let tables = seen.damaged || seen.objects.contains(&Object::Tables);
    let lost = unread || record.iter().next().is_none();
    let ports: BTreeSet<(Family, IfName)> = match lost && !tables {
        true => {
            let used = seen.objects.iter().filter_map(used);
            used.chain(seen.objects.iter().filter_map(shut)).collect()
        }
        false => seen.objects.iter().filter_map(shut).collect(),
    };
    for (family, port) in ports {
        let key = match family {
            Family::V4 => format!("ipv4/conf/{port}/forwarding"),
            Family::V6 => match format!("ipv6/conf/{port}/force_forwarding") {
                key if sysctl::read(&key)?.is_some() => key,
                _ => FORWARD_ALL_IPV6.to_owned(),
            },
        };
        if let Some(now) = sysctl::read(&key)?.filter(|now| *now != 0) {
            record.suppose(&key, (0, now));
        }
    }
    Ok(())
}

/// Whether the tables must drop all forwarded IPv6 packets but those of VIPs: on kernels that can only forward IPv6 on
/// all interfaces or on none, if the node forwarded on none before.
pub(crate) fn stops_ipv6(record: &Record) -> io::Result<bool> {
    if sysctl::read("ipv6/conf/lo/force_forwarding")?.is_some() {
        return Ok(false);
    }
    let recorded = record.iter().find(|(key, _)| *key == FORWARD_ALL_IPV6);
    let before = match recorded {
        Some((_, before)) => Some(before),
        None => sysctl::read(FORWARD_ALL_IPV6)?,
    };
    Ok(before == Some(0))
}

/// Of these interfaces, those on which IPv6 is switched off.
pub(crate) fn without_ipv6<'a>(
    links: impl Iterator<Item = &'a IfName>,
) -> io::Result<BTreeSet<IfName>> {
    let mut off = BTreeSet::new();
    for link in links {
        if sysctl::read(&format!("ipv6/conf/{link}/disable_ipv6"))?.is_some_and(|v| v != 0) {
            off.insert(link.clone());
        }
    }
    Ok(off)
}

pub(crate) fn read_settings(
    seen: &mut Observed,
    keys: impl Iterator<Item = String>,
) -> io::Result<()> {
    let new: BTreeSet<String> = keys.filter(|k| !seen.settings.contains_key(k)).collect();
    for key in new {
        if let Some(value) = sysctl::read(&key)? {
            seen.settings.insert(key, value);
        }
    }
    Ok(())
}
