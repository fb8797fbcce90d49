//! The side of the node that routes: whether its paths work, what it claims, and how its routing ends.

pub(crate) mod ending;
mod rivals;
mod searches;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::ending::Ending;
#[cfg(test)]
pub(crate) use self::ending::IDLE as ENDING_IDLE;
use self::rivals::Dispute;
use self::searches::{Need, concluded};
use super::claim::{Claim, text};
use super::search::{NoPath, Search};
use super::step::{Change, Effect, Outcome, Reconcile, Unreached};
use super::view::NodeView;
use crate::plan::attribute::{Attribute, Values};
use crate::plan::neighbour::{Probe, Reply};
use crate::plan::vip::LOCK_PAUSE;
use crate::plan::vip::record::{Record, Role, TransitPath};
use crate::types::{Mac, NodeName, VserverName};

/// How long after a search without a path the next one begins.
pub(crate) const AGAIN: Duration = Duration::from_secs(2);
/// How often this node queries which node has each virtual server that it routes to, and which nodes claim the same
/// VIPs.
pub(crate) const RIVALS: Duration = Duration::from_secs(5);
/// How often it queries the claims while another node has claimed one of its VIPs.
const RIVALS_LIVELY: Duration = Duration::from_secs(1);
/// The least time between two queries for cells, however many virtual servers are routed to.
const CELL_PAUSE: Duration = Duration::from_millis(250);

/// A change whose outcome is awaited.
#[derive(Debug)]
enum Step {
    /// The result of a search is put into effect.
    Conclude(Result<TransitPath, NoPath>),
    /// The routing for this VIP ends.
    End(IpAddr),
    /// This VIP is left to these nodes.
    Withdraw(IpAddr, String),
}

/// A path as it is probed: the index of this node's port, the other node's address, and the Ethernet addresses of which
/// one must reply.
type Proof = (u32, IpAddr, Vec<Mac>);

/// This node's part in the detours of VIPs that it routes to other nodes.
#[derive(Debug)]
pub(crate) struct Router {
    /// When each path last proved to work, or was first probed.
    proofs: BTreeMap<Proof, Instant>,
    probe_at: Instant,
    endings: BTreeMap<String, Ending>,
    /// When the traffic of VIPs whose routing ends is to be measured.
    measure_at: Option<Instant>,
    searches: BTreeMap<Need, Search>,
    search_at: Instant,
    unreached: Unreached,
    /// When the other nodes' claims are to be queried.
    query_at: Instant,
    /// When the next virtual server's cell is to be queried, and which virtual server's turn was last.
    cell_at: Instant,
    cell: Option<VserverName>,
    /// This node's resources whose VIP another node routes too.
    disputes: BTreeMap<String, Dispute>,
    /// Resources that route to a node which no longer has the cell while another one has, and the former node.
    moved: BTreeMap<String, NodeName>,
    /// The changes whose outcome is awaited, by their resources.
    pending: BTreeMap<String, Step>,
    /// When results of searches that could not be put into effect for want of the lock are tried again.
    retry_at: Option<Instant>,
}

fn routed(
    records: &BTreeMap<String, Record>,
) -> impl Iterator<Item = (&String, &Record, &TransitPath)> {
    records
        .iter()
        .filter_map(|(name, record)| match &record.role {
            Role::Router(path) => Some((name, record, path)),
            _ => None,
        })
}

impl Router {
    pub(crate) fn new(unreached: Unreached, now: Instant) -> Self {
        Self {
            proofs: BTreeMap::new(),
            probe_at: now,
            endings: BTreeMap::new(),
            measure_at: None,
            searches: BTreeMap::new(),
            search_at: now,
            unreached,
            query_at: now,
            cell_at: now,
            cell: None,
            disputes: BTreeMap::new(),
            moved: BTreeMap::new(),
            pending: BTreeMap::new(),
            retry_at: None,
        }
    }

    /// Brings searches, disputes and endings in line with the records and cells on this node.
    pub(crate) fn review(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
    ) {
        // A virtual server whose cell is on this node need not be reached.
        self.unreached
            .retain(|vserver, _| !view.cells.contains(vserver));
        self.review_endings(records, now);
        let searches = std::mem::take(&mut self.searches);
        for (need, search) in searches {
            let need = match need {
                Need::Resource(name) if records.get(&name).is_some_and(|r| search.is_for(r)) => {
                    Need::Resource(name)
                }
                // Its resource has left, or no longer looks for this path.
                Need::Resource(_) | Need::Vserver(_) => Need::Vserver(search.vserver.clone()),
            };
            let wanted =
                matches!(need, Need::Resource(_)) || self.unreached.contains_key(&search.vserver);
            if wanted {
                self.searches.entry(need).or_insert(search);
            }
        }
        let on = |name: &String| match records.get(name).map(|r| &r.role) {
            Some(Role::Router(path)) => Some(&path.node),
            _ => None,
        };
        self.disputes.retain(|name, _| on(name).is_some());
        self.moved.retain(|name, node| on(name) == Some(&*node));
    }

    /// This node's claims: for each node with a cell that is routed to, the attribute and its value.
    pub(crate) fn claims(&self, records: &BTreeMap<String, Record>) -> BTreeMap<Attribute, String> {
        let mut claims: BTreeMap<&NodeName, Vec<Claim>> = BTreeMap::new();
        for record in records.values() {
            let (path, ending) = match &record.role {
                Role::Router(path) => (path, false),
                Role::Ending(path) => (path, true),
                _ => continue,
            };
            claims.entry(&path.node).or_default().push(Claim {
                vserver: record.spec.vserver.clone(),
                vip: record.spec.vip,
                subnet: path.subnet.clone(),
                router: path.own,
                ending,
            });
        }
        let all = claims.into_iter();
        all.map(|(node, claims)| (Attribute::Router(node.clone()), text(&claims)))
            .collect()
    }

    /// The virtual servers that this node can't reach.
    pub(crate) fn unreached(&self) -> &Unreached {
        &self.unreached
    }

    /// The probes that are due: of the nodes that are routed to, and those of searches.
    pub(crate) fn probes_due(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
    ) -> Vec<Probe> {
        let mut probes = Vec::new();
        if self.probe_at <= now {
            self.probe_at = now + view.interval;
            let mut probed = BTreeSet::new();
            for (_, _, path) in routed(records) {
                let Some(port) = view.port(&path.port) else {
                    continue;
                };
                let proof = (port.index, path.address, path.macs.clone());
                if probed.insert(proof.clone()) {
                    self.proofs.entry(proof).or_insert(now);
                    probes.push(Probe {
                        link: port.index,
                        mac: port.mac,
                        target: path.address,
                        source: Some(path.own),
                        to: path.macs.first().copied(),
                    });
                }
            }
            self.proofs.retain(|proof, _| probed.contains(proof));
        }
        for search in self.searches.values_mut() {
            probes.extend(search.probes_due(view, now));
        }
        probes
    }

    /// Notes that a neighbour has replied: the paths that the reply proves work.
    pub(crate) fn on_reply(&mut self, reply: &Reply, view: &NodeView, now: Instant) {
        for ((link, ip, macs), at) in &mut self.proofs {
            if (*link, *ip) == (reply.link, reply.ip) && macs.contains(&reply.from) {
                *at = now;
            }
        }
        for search in self.searches.values_mut() {
            search.on_reply(reply, view, now);
        }
    }

    /// The attributes that the cluster is to be queried for now.
    pub(crate) fn queries_due(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
    ) -> BTreeSet<Attribute> {
        let mut queries: BTreeSet<Attribute> = self
            .searches
            .values_mut()
            .flat_map(|search| search.queries_due(view, now))
            .collect();
        if self.query_at <= now {
            self.query_at = now
                + match self.disputes.values().any(|d| *d == Dispute::Suspected) {
                    true => RIVALS_LIVELY,
                    false => RIVALS,
                };
            let nodes = routed(records).map(|(_, _, path)| path.node.clone());
            queries.extend(nodes.map(Attribute::Router));
        }
        if self.cell_at <= now {
            queries.extend(self.next_cell(records, now).map(Attribute::Cell));
        }
        queries
    }

    /// The virtual server whose cell is to be queried next. One is queried at a time: an urgent query would have to
    /// wait behind many.
    fn next_cell(
        &mut self,
        records: &BTreeMap<String, Record>,
        now: Instant,
    ) -> Option<VserverName> {
        let vservers: BTreeSet<&VserverName> =
            routed(records).map(|(_, r, _)| &r.spec.vserver).collect();
        let count = u32::try_from(vservers.len()).unwrap_or(u32::MAX);
        self.cell_at = now + (RIVALS / count.max(1)).max(CELL_PAUSE);
        let mut all = vservers.iter();
        let next = all.find(|vserver| self.cell.as_ref() < Some(**vserver));
        self.cell = next.or(vservers.first()).map(|&vserver| vserver.clone());
        self.cell.clone()
    }

    /// Notes which nodes say that they have a virtual server's cell. A node that is routed to has lost the cell if
    /// another node has it. If no node has it, the cluster may merely have forgotten the attribute.
    pub(crate) fn on_cell(
        &mut self,
        vserver: &VserverName,
        values: &Values,
        records: &BTreeMap<String, Record>,
        now: Instant,
    ) {
        let all = self.searches.values_mut();
        all.filter(|search| search.vserver == *vserver)
            .for_each(|search| search.on_cell(values, now));
        for (name, record, path) in routed(records) {
            if record.spec.vserver != *vserver {
                continue;
            }
            if values.is_empty() || values.contains_key(&path.node) {
                self.moved.remove(name);
            } else {
                self.moved.insert(name.clone(), path.node.clone());
            }
        }
    }

    /// When anything is due by time alone.
    pub(crate) fn next(&self, records: &BTreeMap<String, Record>) -> Option<Instant> {
        let routes = routed(records).next().is_some();
        let waits = !self.unreached.is_empty()
            || !self.moved.is_empty()
            || records
                .values()
                .any(|r| matches!(r.role, Role::Stranded(_)));
        // A search whose result is being put into effect needs no time; results that wait for the lock wait until
        // `retry_at`.
        let searches = self.searches.iter();
        let searches = searches.filter(|(need, _)| !self.is_pending(need));
        let searches = searches.map(|(_, search)| search.next());
        let searches = searches.map(|at| self.retry_at.map_or(at, |retry| at.max(retry)));
        let fixed = [
            routes.then_some(self.probe_at),
            routes.then_some(self.query_at),
            routes.then_some(self.cell_at),
            waits.then_some(self.search_at),
            self.measure_at,
        ];
        fixed.into_iter().flatten().chain(searches).min()
    }

    /// Begins searches for paths that have stopped working, ends searches that are over, and has the traffic measured
    /// of VIPs whose routing ends.
    pub(crate) fn on_tick(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.begin_searches(records, view, now, effects);
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = None;
            self.end_searches(records, view, now, effects);
        }
        if self.measure_at.is_some_and(|at| at <= now) {
            self.measure_at = Some(now + ending::PAUSE);
            effects.push(Effect::Measure);
        }
    }

    fn is_pending(&self, need: &Need) -> bool {
        matches!(need, Need::Resource(name) if self.pending.contains_key(name))
    }

    fn begin(&mut self, instance: String, step: Step, change: Change, effects: &mut Vec<Effect>) {
        if !self.pending.contains_key(&instance) {
            self.pending.insert(instance.clone(), step);
            let reconcile = Box::new(Reconcile { instance, change });
            effects.push(Effect::Reconcile(reconcile));
        }
    }

    /// Notes the outcome of a change. Returns whether the change was one of this side's.
    pub(crate) fn on_reconciled(
        &mut self,
        instance: &str,
        outcome: &Outcome,
        records: &BTreeMap<String, Record>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(step) = self.pending.remove(instance) else {
            return false;
        };
        match step {
            Step::Conclude(_) if *outcome == Outcome::Busy => {
                self.retry_at = Some(now + LOCK_PAUSE);
            }
            Step::Conclude(found) => {
                let vip = records.get(instance).map(|record| record.spec.vip);
                if let Some(vip) = vip {
                    effects.extend(concluded(vip, &found, outcome));
                }
                self.conclude(&Need::Resource(instance.to_owned()), &found, now);
            }
            Step::End(vip) => effects.extend(ending::ended(vip, outcome)),
            Step::Withdraw(vip, nodes) => {
                self.on_withdrawn(instance, (vip, &nodes), outcome, effects);
            }
        }
        true
    }
}
