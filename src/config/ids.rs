//! Names of resources and constraints in the CIB.
//!
//! | what | id | stays the same when |
//! |---|---|---|
//! | virtual server | its name | always |
//! | file system | `<vserver>-<name>`; the name is the path with `-` for `/` unless given | entries change places, device or options change |
//! | address | `<vserver>-ip<n>` | a live cluster knows the address: it keeps its number, and a new one gets the lowest that is free. Without a cluster (`berth plan`) by position |
//! | constraint | `berth-<purpose>-<id>`, where `<id>` is the resource it is for | as that resource |
//!
//! The prefix marks a constraint as berth's own. Inner elements have the id of their parent and a part
//! after a dot, which no resource id has, so they never meet another's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::cluster::merge::Ownership;

/// How berth knows its own in the CIB. Both the tag and the prefix survive an edit with either shell, and
/// neither warns of them.
pub const OWNERSHIP: Ownership = Ownership {
    tag: "berth",
    provider: "berth",
    former_mark: "berth-managed",
    stop_mark: "berth-stopping",
    identity: &[
        ("portwatch", &[]),
        ("rebalance", &[]),
        ("fscheck", &["vserver", "directory"]),
        ("vserver", &["name"]),
        ("vip", &["ip"]),
    ],
    prefix: "berth-",
    meta: &[
        "berth-managed",
        "resource-stickiness",
        "failure-timeout",
        "priority",
        "critical",
        "berth-home",
    ],
    by_node: &["portwatch"],
};

/// Id of the resource that watches each node's ports; as a clone it is called `portwatch-clone`.
pub(crate) const PORTWATCH: &str = "portwatch";
/// Id of the resource that distributes virtual servers over the nodes.
pub(crate) const REBALANCE: &str = "rebalance";

/// Id of a file system of a virtual server.
pub(crate) fn filesystem(vserver: &str, name: &str) -> String {
    format!("{vserver}-{name}")
}

/// Id of the `n`th address of a virtual server, from 1.
pub fn vip(vserver: &str, n: usize) -> String {
    format!("{vserver}-ip{n}")
}

/// Id of the constraint that serves `purpose` for `resource`.
pub(crate) fn constraint(purpose: &str, resource: &str) -> String {
    format!("{}{purpose}-{resource}", OWNERSHIP.prefix)
}

/// Ids that addresses have in a live cluster, by virtual server and address.
pub type Known = BTreeMap<(String, IpAddr), String>;

/// Ids for the addresses of a virtual server: one that is known stays, the others take the lowest
/// numbers left.
pub(crate) fn vips(vserver: &str, addresses: &[IpAddr], known: &Known) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let kept: Vec<Option<&String>> = addresses
        .iter()
        .map(|ip| {
            known
                .get(&(vserver.to_owned(), *ip))
                .filter(|id| taken.insert(*id))
        })
        .collect();
    let mut numbers = 1..;
    kept.into_iter()
        .map(|id| {
            id.cloned().unwrap_or_else(|| {
                let mut free = numbers.by_ref().map(|n| vip(vserver, n));
                // The range is endless, so there is always one.
                free.find(|id| !taken.contains(id)).unwrap_or_default()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_numbered_by_position_at_first() {
        let ids = vips("alpha", &[ip("10.1.0.5"), ip("fd00::5")], &Known::new());
        assert_eq!(ids, ["alpha-ip1", "alpha-ip2"]);
    }

    #[test]
    fn a_known_address_keeps_its_number_wherever_it_stands() {
        let known: Known = [("10.1.0.5", "alpha-ip1"), ("10.1.0.7", "alpha-ip3")]
            .into_iter()
            .map(|(a, id)| (("alpha".to_owned(), ip(a)), id.to_owned()))
            .collect();
        let addresses = [
            ip("10.1.0.9"),
            ip("10.1.0.7"),
            ip("10.1.0.8"),
            ip("10.1.0.5"),
        ];
        let ids = vips("alpha", &addresses, &known);
        assert_eq!(ids, ["alpha-ip2", "alpha-ip3", "alpha-ip4", "alpha-ip1"]);
    }
}
