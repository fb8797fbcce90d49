//! The searches for paths: when they begin, and what they lead to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::{AGAIN, Router, Step, routed};
use crate::plan::detour::overview::{OngoingSearch, Seeker};
use crate::plan::detour::search::{NoPath, Search};
use crate::plan::detour::step::{Change, Effect, Outcome};
use crate::plan::detour::view::{NodeView, TransitPort};
use crate::plan::vip::record::{Record, Role, TransitPath};
use crate::types::{NodeName, VserverName};

/// What a path is looked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// For this resource, which routes or should.
    Resource(String),
    /// For no resource: this node has published that it can't reach this virtual server, and deletes that attribute
    /// once there is a path.
    Vserver(VserverName),
}

/// Whether a resource is to have a path. While its agent starts it, and after a stop, the router leaves it alone.
fn needs_path(record: &Record) -> bool {
    record.serving && matches!(record.role, Role::Router(_) | Role::Stranded(_))
}

/// The change that puts the result of a search into effect; `None` if the record has it already.
fn change(record: &Record, outcome: &Result<TransitPath, NoPath>) -> Option<Change> {
    let before = record.clone();
    match outcome {
        Ok(path) if record.role == Role::Router(path.clone()) => None,
        Ok(path) => Some(Change::Route {
            before,
            path: path.clone(),
        }),
        Err(none) if record.role == Role::Stranded(none.reason().to_owned()) => None,
        Err(none) => Some(Change::GiveUp {
            before,
            why: none.reason().to_owned(),
        }),
    }
}

impl Router {
    /// Begins searches: for resources without a path or whose path no longer works, and for virtual servers that this
    /// node has published as unreachable.
    pub(crate) fn begin_searches(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if self.search_at > now {
            return;
        }
        for (name, record, path) in routed(records) {
            let need = Need::Resource(name.clone());
            if !record.serving || self.searches.contains_key(&need) {
                continue;
            }
            let (vip, vserver) = (record.spec.vip, &record.spec.vserver);
            let why = if self.moved.contains_key(name) {
                format!("{vip}: {} does not have {vserver} any more", path.node)
            } else if !self.works(path, view, now) {
                let (node, subnet) = (&path.node, &path.subnet);
                format!("{vip}: {node} does not answer on {subnet} any more")
            } else {
                continue;
            };
            effects.push(Effect::warning(why));
            self.searches.insert(need, Search::new(vserver, vip, now));
        }
        self.search_at = now + AGAIN;
        for (name, record) in records {
            let need = Need::Resource(name.clone());
            let stranded = record.serving && matches!(record.role, Role::Stranded(_));
            if stranded && !self.searches.contains_key(&need) {
                let search = Search::patient(&record.spec.vserver, record.spec.vip, now);
                self.searches.insert(need, search);
            }
        }
        for (vserver, (_, vip)) in &self.unreached {
            if !self.searches.values().any(|s| s.vserver == *vserver) {
                let search = Search::patient(vserver, *vip, now);
                self.searches.insert(Need::Vserver(vserver.clone()), search);
            }
        }
    }

    /// Whether a path counts as working: it has proved so within the node's patience, or was not probed yet.
    fn works(&self, path: &TransitPath, view: &NodeView, now: Instant) -> bool {
        let proof = |port: &TransitPort| (port.index, path.address, path.macs.clone());
        view.port(&path.port).is_some_and(|port| {
            let proved = self.proofs.get(&proof(port));
            proved.is_none_or(|at| now.saturating_duration_since(*at) < view.patience)
        })
    }

    /// Puts the results of searches that are over into effect.
    pub(crate) fn end_searches(
        &mut self,
        records: &BTreeMap<String, Record>,
        view: &NodeView,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let searches = self.searches.iter();
        let over = searches.filter(|(need, _)| !self.is_pending(need));
        let over: Vec<_> = over
            .filter_map(|(need, search)| Some((need.clone(), search.outcome(view, now)?)))
            .collect();
        for (need, outcome) in over {
            let change = match &need {
                Need::Resource(name) => records
                    .get(name)
                    .and_then(|record| Some((name.clone(), change(record, &outcome)?))),
                Need::Vserver(_) => None,
            };
            match change {
                Some((instance, change)) => {
                    self.begin(instance, Step::Conclude(outcome), change, effects);
                }
                None => self.conclude(&need, &outcome, now),
            }
        }
    }

    /// The searches that are going on, for an overview.
    pub(crate) fn ongoing_searches(&self, now: Instant) -> impl Iterator<Item = OngoingSearch> {
        self.searches.iter().map(move |(need, search)| {
            let seeker = match need {
                Need::Resource(name) => Seeker::Resource { name: name.clone() },
                Need::Vserver(_) => Seeker::Nobody,
            };
            search.overview(seeker, now)
        })
    }

    /// Removes a search whose result is in effect, and notes that result.
    pub(crate) fn conclude(
        &mut self,
        need: &Need,
        outcome: &Result<TransitPath, NoPath>,
        now: Instant,
    ) {
        self.search_at = now + AGAIN;
        if let Need::Resource(name) = need {
            self.moved.remove(name);
        }
        if let Some(search) = self.searches.remove(need) {
            self.note(&search.vserver, search.vip, outcome);
        }
    }

    /// Notes whether a virtual server can be reached: that is published as an attribute.
    pub(crate) fn note(
        &mut self,
        vserver: &VserverName,
        vip: IpAddr,
        outcome: &Result<TransitPath, NoPath>,
    ) {
        match outcome {
            Err(NoPath::Unreached(node, _)) => {
                self.unreached.insert(vserver.clone(), (node.clone(), vip));
            }
            // That one VIP's path works says nothing of the VIP for which there was none.
            Ok(_) | Err(NoPath::Nowhere(_)) => {
                let other = |(_, tried): &(NodeName, IpAddr)| *tried != vip;
                if !self.unreached.get(vserver).is_some_and(other) {
                    self.unreached.remove(vserver);
                }
            }
        }
    }
}

impl Search {
    /// Whether the resource with this record needs what this search looks for.
    pub(crate) fn is_for(&self, record: &Record) -> bool {
        let same = (&record.spec.vserver, record.spec.vip) == (&self.vserver, self.vip);
        same && needs_path(record)
    }
}

/// The log line about the result of a search.
pub(crate) fn concluded(
    vip: IpAddr,
    found: &Result<TransitPath, NoPath>,
    outcome: &Outcome,
) -> Option<Effect> {
    match (outcome, found) {
        (Outcome::Done, Ok(path)) => {
            let (node, subnet) = (&path.node, &path.subnet);
            Some(Effect::info(format!(
                "{vip}: routed to {node} over {subnet}"
            )))
        }
        (Outcome::Done, Err(none)) => Some(Effect::warning(format!("{vip}: {}", none.reason()))),
        (Outcome::Failed(why), _) => Some(Effect::warning(format!("route for {vip}: {why}"))),
        (Outcome::Stale | Outcome::Busy, _) => None,
    }
}
