//! The Ethernet addresses of the cluster's nodes, including those that are down. They tell whether a claim to a VIP
//! comes from a stranger, from a node that is up, or from a switch or proxy that still speaks for a fenced node.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cluster::tool;
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::sys::state;
use crate::types::{Mac, NodeName};

/// How often the other nodes' addresses are queried, and how soon after the first time: all nodes may have just been
/// started.
const QUERY: Duration = Duration::from_secs(60);
const QUERY_AGAIN: Duration = Duration::from_secs(5);
/// Some dozens of nodes with some dozens of ports.
const LIMIT: u64 = 1 << 20;
const NODES: usize = 256;
const PORTS: usize = 256;

/// The Ethernet addresses of each node's ports, by the node's name.
type Known = BTreeMap<NodeName, Vec<Mac>>;

fn file(runtime: &Path) -> PathBuf {
    runtime.join("peers.json")
}

/// The other nodes' addresses on record; empty if they can't be read.
fn read(runtime: &Path) -> Known {
    let read = || -> Option<Known> {
        serde_json::from_slice(&state::read(&file(runtime), LIMIT).ok()?).ok()
    };
    read().unwrap_or_default()
}

/// The node that has, or had, a port with this address.
pub(crate) fn node_of(runtime: &Path, mac: Mac) -> Option<NodeName> {
    let mut known = read(runtime).into_iter();
    known
        .find(|(_, macs)| macs.contains(&mac))
        .map(|(node, _)| node)
}

/// Whether `node` is up and has a port with this address: the cluster still has the node's attribute, which it deletes
/// when a node goes down, and the attribute names the address. `None` if the cluster does not answer. Blocks.
pub(crate) fn is_member(node: &str, mac: Mac, deadline: Instant) -> Option<bool> {
    let values = tool::read_attribute(&Attribute::Macs.name(), deadline);
    let values = values.map_err(log::warn).ok()?;
    let ports = values.get(node).map(String::as_str).unwrap_or_default();
    Some(addresses(ports).any(|port| port == mac))
}

/// The daemon's part: publishes this node's addresses, and keeps those of the other nodes on record.
#[derive(Debug)]
pub(crate) struct Peers {
    runtime: PathBuf,
    known: Known,
    told: BTreeSet<Mac>,
    query_at: Instant,
    queried: bool,
}

impl Peers {
    /// Begins with the addresses on record.
    pub(crate) fn new(runtime: &Path, now: Instant) -> Self {
        Self {
            runtime: runtime.to_owned(),
            known: read(runtime),
            told: BTreeSet::new(),
            query_at: now,
            queried: false,
        }
    }

    /// The value with this node's addresses to publish, if they have changed.
    pub(crate) fn value_due(&mut self, own: &BTreeSet<Mac>) -> Option<String> {
        if *own == self.told {
            return None;
        }
        self.told.clone_from(own);
        let macs: Vec<String> = own.iter().take(PORTS).map(Mac::to_string).collect();
        Some(macs.join(","))
    }

    /// Whether it is time to query the other nodes' addresses.
    pub(crate) fn query_due(&mut self, now: Instant) -> bool {
        let due = self.query_at <= now;
        if due {
            self.query_at = now + if self.queried { QUERY } else { QUERY_AGAIN };
            self.queried = true;
        }
        due
    }

    /// Notes the addresses of the nodes but `own`. Those of nodes without a value are kept: the cluster forgets a node
    /// that is down, and it is just such a node whose addresses matter.
    pub(crate) fn on_attribute(&mut self, values: &Values, own: &str) {
        let before = self.known.clone();
        for (node, text) in values.iter().filter(|(node, _)| *node != own) {
            if self.known.len() < NODES || self.known.contains_key(node) {
                let macs = addresses(text).take(PORTS).collect();
                self.known.insert(node.clone(), macs);
            }
        }
        if self.known != before {
            let written = serde_json::to_vec(&self.known).map_err(io::Error::from);
            written
                .and_then(|text| state::replace(&file(&self.runtime), &text))
                .unwrap_or_else(log::warn);
        }
    }
}

/// The MAC addresses in a value of [`Attribute::Macs`]; a part of it that is no MAC address is passed over.
fn addresses(text: &str) -> impl Iterator<Item = Mac> + '_ {
    text.split(',').filter_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn a_node_that_is_gone_is_remembered_and_one_that_has_changed_is_known_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 0xfe])];
        let node = |mac| node_of(dir.path(), mac);
        assert_eq!(node(one), None);
        let says = |pairs: &[(&str, &str)]| {
            let mut peers = Peers::new(dir.path(), Instant::now());
            let values = pairs.iter().map(|(n, text)| ((*n).into(), (*text).into()));
            peers.on_attribute(&values.collect(), "n1");
        };
        says(&[
            ("n1", "02:00:00:00:00:fe"),
            ("n2", "02:00:00:00:00:01"),
            ("n3", "nonsense,02:00:00:00:00:fe,02:zz:00:00:00:01,02:00"),
        ]);
        assert_eq!(node(one).as_deref(), Some("n2"));
        assert_eq!(node(two).as_deref(), Some("n3"));
        says(&[("n3", "02:00:00:00:00:03")]);
        assert_eq!(node(one).as_deref(), Some("n2"));
        assert_eq!(node(two), None);
    }

    #[test]
    fn what_daemons_of_all_versions_leave_can_be_read() {
        formats::check("peers.jsonl", &["peers"], |_: &Known| "peers");
    }
}
