//! What is left of a move, done under the lock of the addresses' agents: only for VIPs that an agent has started and
//! not begun to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::{Duty, Placement, Recorded};
use crate::plan::vip::{Behind, Desired, Object, Observed, Problem, Request, Step, start_all};
use crate::types::{Family, IfName};

/// The work that waits for the lock.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// The ports that VIPs have moved to.
    pub(crate) targets: BTreeMap<IpAddr, IfName>,
    /// Whether whatever is missing of any VIP is made again, not only what the moves need.
    pub(crate) everything: bool,
    /// Since when this work waits.
    pub(crate) since: Instant,
    /// When the lock is tried again.
    pub(crate) at: Instant,
    /// Whether it was logged that the lock has been held for long.
    pub(crate) told: bool,
}

/// The VIPs to be examined, as they were found under the lock.
#[derive(Debug)]
pub(crate) struct Work {
    /// What each VIP needs, at the port that it has moved to or is at.
    requests: Vec<Request>,
    /// The ports that VIPs have moved to, as far as they are still usable.
    targets: BTreeMap<IpAddr, IfName>,
    /// Proxy entries that belong to no VIP on record.
    strays: Vec<Object>,
}

/// What [`Work::changes`] has decided.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The VIPs that can't be given what they need, and why.
    pub(crate) problems: Vec<(IpAddr, Problem)>,
    /// The changes to make in the kernel, in this order.
    pub(crate) steps: Vec<Step>,
    /// The VIPs to announce once the steps are done: those whose proxy entry somebody had removed. Moved VIPs were
    /// announced before.
    pub(crate) announce: Vec<Placement>,
    /// The VIPs to announce repeatedly after that: these and the moved ones.
    pub(crate) announce_again: Vec<Placement>,
}

impl Deferred {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            targets: BTreeMap::new(),
            everything: false,
            since: now,
            at: now,
            told: false,
        }
    }

    /// The VIPs to examine, by the records and the kernel's state as they are while the lock is held.
    pub(crate) fn work(&self, records: &[Recorded], seen: &Observed) -> Work {
        let targets = still_good(&self.targets, seen);
        let concerned = records.iter().filter(|record| self.concerns(record));
        let mut concerned: Vec<&Recorded> = concerned.collect();
        if self.everything {
            concerned.extend(detoured(records));
        }
        let requests = concerned
            .into_iter()
            .filter(|record| record.is_alive(seen))
            .map(|record| Request {
                prefer: targets.get(&record.request.vip).cloned(),
                ..record.request.clone()
            });
        let strays = self.everything.then(|| strays(records, seen));
        Work {
            requests: requests.collect(),
            targets,
            strays: strays.unwrap_or_default(),
        }
    }

    fn concerns(&self, record: &Recorded) -> bool {
        record.is_served() && (self.everything || self.targets.contains_key(&record.request.vip))
    }
}

impl Work {
    /// The VIPs, each with the interfaces whose kernel settings [`Self::changes`] has to know.
    pub(crate) fn links(&self, seen: &Observed) -> Vec<(IpAddr, Vec<IfName>)> {
        let links = |request: &Request| (request.vip, request.links(seen));
        self.requests.iter().map(links).collect()
    }

    /// What is to be changed, given the kernel's state with the settings of [`Self::links`].
    pub(crate) fn changes(self, mut seen: Observed) -> Changes {
        let behind_cells = self
            .requests
            .iter()
            .filter(|request| matches!(request.behind, Behind::Cell(_)));
        for Request { vip, .. } in behind_cells {
            // What is inside the cell counts as present: its agent has made it, and nobody else can remove it there.
            seen.objects.insert(Object::Address(*vip));
            seen.objects.insert(Object::CellRoute(Family::of(vip)));
        }
        let mut changes = Changes::default();
        for stray in self.strays {
            seen.objects.remove(&stray);
            changes.steps.push(Step::Remove(stray));
        }
        let mut desired = Vec::new();
        for request in &self.requests {
            match Desired::new(request, &seen) {
                Ok(one) => desired.push(one),
                Err(problem) => changes.problems.push((request.vip, problem)),
            }
        }
        changes.steps.extend(start_all(&desired, &seen));
        let mended = changes.steps.iter().filter_map(|step| match step {
            Step::Add(Object::Proxy(port, vip)) => Some(Placement::new(*vip, port)),
            _ => None,
        });
        changes.announce = mended
            .filter(|placement| !self.targets.contains_key(&placement.vip))
            .collect();
        let moved = self.targets.into_iter();
        let moved = moved.map(|(vip, port)| Placement { vip, port });
        changes.announce_again = changes.announce.iter().cloned().chain(moved).collect();
        changes
    }
}

/// The VIPs that another node is known to route for. A VIP that comes home has a second record, and its agent already
/// makes what it needs.
fn detoured(records: &[Recorded]) -> impl Iterator<Item = &Recorded> {
    let is_detour = |record: &Recorded| matches!(record.duty, Duty::Detour { .. });
    let at_home: BTreeSet<IpAddr> = records
        .iter()
        .filter(|record| !is_detour(record))
        .map(|record| record.request.vip)
        .collect();
    records.iter().filter(move |record| {
        record.serving
            && record.duty == Duty::Detour { known: true }
            && !at_home.contains(&record.request.vip)
    })
}

/// The proxy entries of VIPs that are not on record and of which the kernel has nothing else. A start makes the proxy
/// entry last and a stop leaves none, so such an entry is from a daemon that was killed in the middle of a move, before
/// it read the record again; the VIP may be served on another node by now. Where the kernel has more of a VIP, its
/// record may merely have been unreadable: that entry stays.
fn strays(records: &[Recorded], seen: &Observed) -> Vec<Object> {
    let on_record: BTreeSet<IpAddr> = records.iter().map(|record| record.request.vip).collect();
    let is_proxy = |object: &&Object| matches!(object, Object::Proxy(..));
    let others = seen.objects.iter().filter(|object| !is_proxy(object));
    let in_use: BTreeSet<IpAddr> = others.filter_map(Object::vip).collect();
    let is_stray = |vip: IpAddr| !on_record.contains(&vip) && !in_use.contains(&vip);
    let proxies = seen.objects.iter().filter(is_proxy);
    let found = proxies.filter(|proxy| proxy.vip().is_some_and(is_stray));
    found.cloned().collect()
}

/// Of the ports that VIPs have moved to, those that are still usable: one may have failed while the lock was waited
/// for, and a target outranks every other choice of a port.
pub(crate) fn still_good(
    targets: &BTreeMap<IpAddr, IfName>,
    seen: &Observed,
) -> BTreeMap<IpAddr, IfName> {
    let is_good = |port: &str| seen.link(port).is_some_and(|link| seen.is_usable(link));
    let kept = targets.iter().filter(|(_, port)| is_good(port));
    kept.map(|(vip, port)| (*vip, port.clone())).collect()
}
