//! Detours: VIPs that one node answers for and another one serves.
//!
//! The nodes agree by attributes: who has which virtual server's cell, who routes which VIPs to whom.
//! Each side makes its own part in the kernel when it has read the other's.
//!
//! ```text
//!  the router                                      the node with the cell
//!  ──────────                                      ──────────────────────
//!  queries berth-cell-<vserver>  ◄──────────────── publishes it
//!  probes that node, routes
//!  publishes berth-router-<node> ────────────────► queries it, sends the VIP's packets to the router
//! ```
//!
//! All decisions are here; there is no socket, no clock and no log. [`Detours::on`] takes what has happened and says
//! what is to be done, [`Detours::next`] when time alone changes something.

mod claim;
mod home;
pub(crate) mod overview;
mod router;
mod search;
mod step;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::home::Home;
use self::router::Router;
use self::search::Search;
use super::attribute::{Attribute, Values};
use super::vip::record::{Record, Role, is_resource};
use crate::types::VserverName;

pub(crate) use crate::plan::detour::overview::Overview;
pub(crate) use step::{Asker, Change, Effect, Event, Level, Outcome, Reconcile, Saved};
pub(crate) use view::{NodeView, ReachableSubnet, TransitPort};

/// How long after a resource has left this node its report of being degraded is cleaned up. By then the resource has
/// surely arrived elsewhere: a cleanup makes the cluster probe it anew.
const SETTLED: Duration = Duration::from_secs(3);
/// How many agents may wait for a path at once; any further one is refused.
const WAITING: usize = 64;

/// An agent that waits for a path.
#[derive(Debug)]
struct Waiting {
    asker: Asker,
    search: Search,
}

/// This node's part in all detours, of both sides.
#[derive(Debug)]
pub(crate) struct Detours {
    saved: Saved,
    /// The attributes as this daemon last published them; `None`: deleted.
    published: BTreeMap<Attribute, Option<String>>,
    records: BTreeMap<String, Record>,
    view: NodeView,
    home: Home,
    router: Router,
    waiting: Vec<Waiting>,
    /// Resources that have left this node and that the cluster still shows as degraded here; when each was seen to be
    /// gone.
    left: BTreeMap<String, Instant>,
    /// Whether an [`Event::Node`] has come: before that no attribute is published or deleted.
    reviewed: bool,
}

impl Detours {
    /// Continues from what the previous daemon has saved.
    pub(crate) fn new(saved: Saved, view: NodeView, now: Instant) -> Self {
        Self {
            home: Home::default(),
            router: Router::new(saved.unreached.clone(), now),
            left: saved.left.iter().map(|name| (name.clone(), now)).collect(),
            saved,
            published: BTreeMap::new(),
            records: BTreeMap::new(),
            view,
            waiting: Vec::new(),
            reviewed: false,
        }
    }

    /// Takes an event that has happened at `now`, and appends to `effects` what is to be done, in this order.
    pub(crate) fn on(&mut self, event: Event, now: Instant, effects: &mut Vec<Effect>) {
        match event {
            Event::Node { records, view } => self.on_node(records, view, now, effects),
            Event::Reply(reply) => {
                self.router.on_reply(&reply, &self.view, now);
                for waiting in &mut self.waiting {
                    waiting.search.on_reply(&reply, &self.view, now);
                }
            }
            Event::Attribute(attribute, values) => {
                self.on_attribute(&attribute, &values, now, effects);
            }
            Event::CellFound(vserver, found) => {
                let node = (&self.records, &self.view, now);
                self.home.on_cell_found(vserver, found, node, effects);
            }
            Event::Reconciled { instance, outcome } => {
                let of_home = self.home.on_reconciled(&instance, &outcome, now, effects);
                if !of_home {
                    let router = &mut self.router;
                    router.on_reconciled(&instance, &outcome, &self.records, now, effects);
                }
            }
            Event::Traffic(bytes) => {
                let router = &mut self.router;
                router.on_traffic(&bytes, &self.records, now, effects);
            }
            Event::Located { resource, nodes } => {
                let node = (&self.records, &self.view);
                self.router.on_located(&resource, &nodes, node, effects);
            }
            Event::PathWanted {
                asker,
                vserver,
                vip,
            } => self.on_path_wanted(asker, &vserver, vip, now, effects),
            Event::Tick => self.on_tick(now, effects),
            Event::Shutdown { records } => self.on_shutdown(records, effects),
        }
    }

    /// When [`Event::Tick`] is due although nothing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|w| w.search.next());
        let left = self.left.values().min().map(|since| *since + SETTLED);
        let own = [self.home.next(), self.router.next(&self.records), left];
        own.into_iter().flatten().chain(waiting).min()
    }

    fn on_node(
        &mut self,
        records: BTreeMap<String, Record>,
        view: NodeView,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let old = std::mem::replace(&mut self.records, records);
        self.view = view;
        let left = old.into_iter();
        let left = left.filter(|(name, record)| record.degraded && is_resource(name));
        self.left.extend(left.map(|(name, _)| (name, now)));
        // A resource that is back and degraded again is not cleaned up now, but when it leaves again.
        let degraded = |name: &String| self.records.get(name).is_some_and(|r| r.degraded);
        self.left.retain(|name, _| !degraded(name));
        self.router.review(&self.records, &self.view, now);
        self.home.review((&self.records, &self.view, now), effects);
        self.reviewed = true;
        self.publish(effects);
    }

    fn on_attribute(
        &mut self,
        attribute: &Attribute,
        values: &Values,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match attribute {
            Attribute::Cell(vserver) => {
                self.router.on_cell(vserver, values, &self.records, now);
                let waiting = self.waiting.iter_mut();
                waiting
                    .filter(|waiting| waiting.search.vserver == *vserver)
                    .for_each(|waiting| waiting.search.on_cell(values, now));
            }
            Attribute::Router(node) if self.view.node.as_ref() == Some(node) => {
                let here = (&self.records, &self.view, now);
                self.home.on_claims(values, here, effects);
            }
            Attribute::Router(node) => {
                let router = &mut self.router;
                router.on_claims(node, values, &self.records, effects);
            }
            _ => {}
        }
    }

    fn on_path_wanted(
        &mut self,
        asker: Asker,
        vserver: &VserverName,
        vip: IpAddr,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if self.waiting.len() >= WAITING {
            let why = format!("no way to {vserver}: too many ways are looked for");
            return effects.push(Effect::Answer(asker, Err(why)));
        }
        let search = Search::new(vserver, vip, now);
        self.waiting.push(Waiting { asker, search });
    }

    fn on_tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.router.on_tick(&self.records, &self.view, now, effects);
        self.home.on_tick((&self.records, &self.view, now), effects);
        self.clean_up(now, effects);
        let (view, router) = (&self.view, &mut self.router);
        self.waiting.retain(|Waiting { asker, search }| {
            let Some(outcome) = search.outcome(view, now) else {
                return true;
            };
            router.note(&search.vserver, search.vip, &outcome);
            let path = outcome.map_err(|none| none.reason().to_owned());
            effects.push(Effect::Answer(*asker, path));
            false
        });
        self.probe(now, effects);
        self.query(now, effects);
        self.publish(effects);
    }

    /// The daemon ends, and no other one follows: routing that was about to end ends now.
    fn on_shutdown(&mut self, records: BTreeMap<String, Record>, effects: &mut Vec<Effect>) {
        let (ending, others) = records
            .into_iter()
            .partition(|(_, record)| matches!(record.role, Role::Ending(_)));
        let ending: BTreeMap<String, Record> = ending;
        if !ending.is_empty() {
            effects.push(Effect::EndRouting(ending));
        }
        self.records = others;
        self.publish(effects);
    }

    fn clean_up(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.left.retain(|resource, since| {
            let due = now.saturating_duration_since(*since) >= SETTLED;
            if let (true, Some(node)) = (due, &self.view.node) {
                effects.push(Effect::CleanUp {
                    resource: resource.clone(),
                    node: node.clone(),
                });
            }
            !due
        });
    }

    fn probe(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut probes = self.router.probes_due(&self.records, &self.view, now);
        for waiting in &mut self.waiting {
            probes.extend(waiting.search.probes_due(&self.view, now));
        }
        effects.extend(probes.into_iter().map(Effect::Probe));
    }

    fn query(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut queries = self.router.queries_due(&self.records, &self.view, now);
        if self.home.is_query_due(now) {
            queries.extend(self.view.node.clone().map(Attribute::Router));
        }
        for waiting in &mut self.waiting {
            queries.extend(waiting.search.queries_due(&self.view, now));
        }
        effects.extend(queries.into_iter().map(Effect::Query));
    }

    /// Publishes the attributes that have changed, and deletes those that no longer hold.
    fn publish(&mut self, effects: &mut Vec<Effect>) {
        if self.view.node.is_none() || !self.reviewed {
            return;
        }
        let mut values = self.router.claims(&self.records);
        for vserver in &self.view.cells {
            values.insert(Attribute::Cell(vserver.clone()), "1".to_owned());
        }
        for vserver in self.router.unreached().keys() {
            values.insert(Attribute::NoPath(vserver.clone()), "1".to_owned());
        }
        let saved = Saved {
            attributes: values.keys().cloned().collect(),
            unreached: self.router.unreached().clone(),
            left: self.left.keys().cloned().collect(),
        };
        let mut wanted: BTreeMap<Attribute, Option<String>> = self
            .saved
            .attributes
            .difference(&saved.attributes)
            .map(|gone| (gone.clone(), None))
            .collect();
        wanted.extend(values.into_iter().map(|(name, text)| (name, Some(text))));
        if saved != self.saved {
            // Saved before it is published: an attribute that is not on record would stay if the daemon were killed.
            effects.push(Effect::Save(Saved {
                attributes: &self.saved.attributes | &saved.attributes,
                ..saved.clone()
            }));
            self.saved = saved;
        }
        for (attribute, value) in wanted {
            if self.published.get(&attribute) != Some(&value) {
                effects.push(Effect::Publish(attribute.clone(), value.clone()));
                self.published.insert(attribute, value);
            }
        }
    }
}
