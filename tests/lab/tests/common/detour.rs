//! A subnet that is lost at a virtual server's node and comes back, and what the nodes have of it before,
//! meanwhile and afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab::bench::timeline;
use lab::protocol::Cable;
use lab::{Error, Lab, holds, ports, status, wait_for};

use super::{STATE, difference, run};

/// The ports of the subnet office: the last one of the list is the last one that VIPs are on.
pub const OFFICE: [&str; 2] = ["eth2", "eth1"];
/// Generous: these machines are slow, and figures are for the bench.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Ports are used again soon, and stay as they are whatever the load.
pub const PORTWATCH: &str = "[portwatch]\nrecover_after = 1\nbalance = 0\n";

/// What each node has of VIPs.
#[derive(Debug, Clone)]
pub struct States(BTreeMap<String, String>);

impl States {
    /// Of these nodes.
    pub fn of(lab: &Lab, nodes: &[String]) -> Self {
        let all = nodes.iter();
        Self(all.map(|node| (node.clone(), state(lab, node))).collect())
    }

    /// Of all nodes.
    pub fn all(lab: &Lab) -> Self {
        Self::of(lab, &lab.plan().node_names())
    }

    /// Waits until it is the same again.
    #[track_caller]
    pub fn wait_for(&self, lab: &Lab) {
        for (node, before) in &self.0 {
            wait_for(format!("{node} to be as it was"), LIMIT, || {
                let now = state(lab, node);
                holds(now == *before, difference(before, &now))
            })
            .unwrap();
        }
    }
}

/// The records are part of it: what is on record is not forgotten.
fn state(lab: &Lab, node: &str) -> String {
    run(
        lab,
        node,
        &format!("{STATE}; ls /run/berth/vip.d 2>/dev/null; true"),
    )
}

/// Has all VIPs of the office at its last port, so that there is only one way home.
pub fn gather(lab: &Lab, node: &str, vips: &[&str]) {
    lab.set_cable(node, OFFICE[0], Cable::Pulled).unwrap();
    at_last_port(lab, node, vips);
    mended(lab, node, OFFICE[0]);
}

/// The office is lost at this node.
pub fn lose(lab: &Lab, node: &str, state: Cable) {
    for port in OFFICE {
        lab.set_cable(node, port, state).unwrap();
    }
}

/// It is back, and the VIPs too.
pub fn mend(lab: &Lab, node: &str, vips: &[&str]) {
    lab.set_cable(node, OFFICE[1], Cable::Good).unwrap();
    at_last_port(lab, node, vips);
    mended(lab, node, OFFICE[0]);
}

fn at_last_port(lab: &Lab, node: &str, vips: &[&str]) {
    for vip in vips {
        ports::wait_at(lab, node, (vip, OFFICE[1]), LIMIT).unwrap();
    }
}

fn mended(lab: &Lab, node: &str, port: &str) {
    lab.set_cable(node, port, Cable::Good).unwrap();
    ports::wait_usable(lab, node, &OFFICE, true, LIMIT).unwrap();
}

/// Waits until another node than `node` answers for each VIP; returns which.
#[track_caller]
pub fn routers(lab: &Lab, node: &str, vips: &[&str]) -> Vec<String> {
    let nodes = timeline::powered(lab).unwrap();
    let router = |vip: &&str| {
        wait_for(format!("a router for {vip}"), LIMIT, || {
            let mut others = nodes.iter().filter(|n| *n != node);
            let router = others.find(|other| ports::port_of(lab, other, vip).is_ok());
            router.cloned().ok_or("none")
        })
        .unwrap()
    };
    vips.iter().map(router).collect()
}

/// What the cluster lists: the resource, the node, and why.
pub type Complaints = BTreeSet<(String, String, String)>;

/// What it lists as degraded.
pub fn degraded(lab: &Lab, asked: &str) -> Complaints {
    listed(lab, asked, true)
}

/// What it lists as failed.
pub fn failed(lab: &Lab, asked: &str) -> Complaints {
    listed(lab, asked, false)
}

fn listed(lab: &Lab, asked: &str, degraded: bool) -> Complaints {
    let all = status::complaints(lab, asked).unwrap().into_iter();
    all.filter(|c| c.degraded == degraded)
        .map(|c| (c.resource, c.node, c.reason))
        .collect()
}

/// Waits until the cluster lists nothing else of alpha's addresses than this, as degraded.
#[track_caller]
pub fn wait_for_degraded(lab: &Lab, asked: &str, wanted: &[(&str, &str, &str)]) {
    let wanted: BTreeSet<_> = wanted
        .iter()
        .map(|(resource, node, why)| {
            let texts = [resource, node, why].map(|text| (*text).to_owned());
            texts.into()
        })
        .collect();
    wait_for(format!("{wanted:?}"), LIMIT, || {
        let (mut seen, failed) = (degraded(lab, asked), failed(lab, asked));
        seen.retain(|(resource, ..)| resource != "portwatch");
        let only = seen == wanted && failed.is_empty();
        holds(only, Error::new(format!("{seen:?}, failed: {failed:?}")))
    })
    .unwrap();
}
