//! The side of the node with the cell: what its VIPs need that another node routes for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::claim::{Claim, choose, parse};
use super::overview::ForeignClaim;
use super::step::{Change, Effect, Outcome, Reconcile};
use super::view::{NodeView, TransitPort};
use crate::plan::attribute::Values;
use crate::plan::vip::LOCK_PAUSE;
use crate::plan::vip::record::{Record, Role, RouterHop, VipSpec, detour_name};
use crate::types::Milliseconds;

/// How long after something has happened the routers are queried without a pause worth mentioning,
/// how long often, and how often then; later while there is a detour, while there might well be one, and
/// while all is well.
pub(crate) const EAGER: Duration = Duration::from_secs(3);
pub(crate) const EAGER_PAUSE: Duration = Duration::from_millis(30);
pub(crate) const LIVELY: Duration = Duration::from_secs(15);
pub(crate) const LIVELY_PAUSE: Duration = Duration::from_millis(250);
const CALM_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const LOST_PAUSE: Duration = Duration::from_secs(5);
pub(crate) const IDLE_PAUSE: Duration = Duration::from_secs(30);
/// How long a query may be on its way.
const QUERY: Duration = Duration::from_secs(2);
/// How long what a VIP needs stays without a router: another one takes over within seconds, but a node
/// that has to be fenced takes longer.
pub(crate) const LINGER: Duration = Duration::from_secs(60);
/// How often what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A change that was begun.
#[derive(Debug)]
enum Step {
    /// This node's claim is followed.
    Follow(IpAddr, String),
    /// The detour of this VIP ends.
    End(IpAddr),
    /// Its record is forgotten.
    Forget,
}

/// This node's part in what others route for it.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// What the other nodes say that they route, and since when.
    claims: BTreeMap<String, Vec<(Claim, Instant)>>,
    /// When the routers are to be queried.
    query_at: Option<Instant>,
    /// When something happened last that a router may follow.
    woken: Option<Instant>,
    /// Whether a subnet was lost when it was last looked at.
    lost: bool,
    /// Since when a VIP has no router.
    alone: BTreeMap<IpAddr, Instant>,
    /// What there was when it was last looked at.
    cells: BTreeSet<String>,
    served: BTreeSet<IpAddr>,
    /// Claims that can't be followed, why, told in the log once, and when that was last found.
    refused: BTreeMap<IpAddr, (String, Instant)>,
    /// The cells that are looked for (`None`), and those that were.
    found: BTreeMap<String, Option<Result<(), String>>>,
    /// The changes that were begun, by their records' names.
    pending: BTreeMap<String, Step>,
    /// When what could not be done for want of the lock is tried again.
    retry_at: Option<Instant>,
}

/// What decisions are made of.
type Now<'n> = (&'n BTreeMap<String, Record>, &'n NodeView, Instant);

impl Home {
    /// Looks whether anything has happened that another node's routing may follow, and does what has
    /// become possible or needless.
    pub(crate) fn review(&mut self, (records, view, now): Now<'_>, effects: &mut Vec<Effect>) {
        let served: BTreeSet<IpAddr> = records
            .values()
            .filter(|r| r.role == Role::Home && r.serving && r.spec.reroute)
            .map(|r| r.spec.vip)
            .collect();
        let news = view.cells.difference(&self.cells).next().is_some()
            || self.served.difference(&served).next().is_some()
            || (view.lost_subnet && !self.lost);
        if news && !view.cells.is_empty() {
            // A VIP may be about to be routed.
            self.woken = Some(now);
            self.query_at = Some(now);
        }
        self.cells.clone_from(&view.cells);
        self.served = served;
        self.lost = view.lost_subnet;
        self.reconcile((records, view, now), effects);
        if self.query_at.is_none() && !view.cells.is_empty() {
            self.query_at = Some(now);
        }
    }

    /// Whether the routers are to be queried now.
    pub(crate) fn is_query_due(&mut self, now: Instant) -> bool {
        let due = self.query_at.is_some_and(|at| at <= now);
        if due {
            self.query_at = Some(now + QUERY);
        }
        due
    }

    /// What the other nodes say that they route for this one, for an overview.
    pub(crate) fn foreign_claims(&self, now: Instant) -> Vec<ForeignClaim> {
        let all = self.claims.iter();
        all.flat_map(|(node, claims)| claims.iter().map(move |claim| (node, claim)))
            .map(|(node, (claim, since))| ForeignClaim {
                node: node.clone(),
                vserver: claim.vserver.clone(),
                vip: claim.vip,
                subnet: claim.subnet.clone(),
                router: claim.router,
                ending: claim.ending,
                age_ms: Milliseconds::between(*since, now),
                refused: self.refused.get(&claim.vip).map(|(why, _)| why.clone()),
            })
            .collect()
    }

    /// When time alone changes something.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.query_at.into_iter().chain(self.retry_at).min()
    }

    /// Tries again what had to wait for the lock.
    pub(crate) fn on_tick(&mut self, (records, view, now): Now<'_>, effects: &mut Vec<Effect>) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.reconcile((records, view, now), effects);
        }
    }

    /// Goes on with what needed a virtual server's cell.
    pub(crate) fn on_cell_found(
        &mut self,
        vserver: String,
        found: Result<(), String>,
        (records, view, now): Now<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.found.insert(vserver, Some(found));
        self.reconcile((records, view, now), effects);
    }

    /// Takes note of what the other nodes route, and when to query that again.
    pub(crate) fn on_claims(
        &mut self,
        values: &Values,
        (records, view, now): Now<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let before = std::mem::take(&mut self.claims);
        for (node, text) in values {
            let known = before.get(node);
            let dated = parse(text).into_iter().map(|claim| {
                let mut known = known.into_iter().flatten();
                let since = known.find(|(c, _)| *c == claim).map_or(now, |(_, at)| *at);
                (claim, since)
            });
            self.claims.insert(node.clone(), dated.collect());
        }
        let since = self.woken.map(|at| now.saturating_duration_since(at));
        let has_detours = detours(records).next().is_some();
        let eager = self.lost || has_detours;
        self.query_at = match since {
            Some(since) if since < EAGER && eager => Some(now + EAGER_PAUSE),
            Some(since) if since < LIVELY => Some(now + LIVELY_PAUSE),
            _ if has_detours => Some(now + CALM_PAUSE),
            // A node may begin to route that nothing here tells of: after it was fenced, or by hand.
            _ if self.cells.is_empty() => None,
            _ if self.lost => Some(now + LOST_PAUSE),
            _ => Some(now + IDLE_PAUSE),
        };
        self.reconcile((records, view, now), effects);
    }

    /// Makes what the VIPs need that are routed for, and takes away what none needs any more.
    fn reconcile(&mut self, (records, view, now): Now<'_>, effects: &mut Vec<Effect>) {
        self.retry_at = None;
        let present: BTreeMap<IpAddr, String> = detours(records)
            .filter_map(|r| match &r.role {
                Role::Detour(Some(hop)) => Some((r.spec.vip, hop.node.clone())),
                _ => None,
            })
            .collect();
        let chosen = choose(&self.claims, &present);
        for (vip, (node, claim)) in &chosen {
            self.alone.remove(vip);
            if view.cells.contains(&claim.vserver) && own(records, *vip).is_none() {
                let refused = self.refused.get(vip);
                if refused.is_none_or(|(_, at)| now.saturating_duration_since(*at) >= AGAIN) {
                    self.follow((node, claim), (records, view, now), effects);
                }
            }
        }
        for record in detours(records) {
            let vip = record.spec.vip;
            let alive = view.cells.contains(&record.spec.vserver);
            if alive && chosen.contains_key(&vip) {
                continue;
            }
            let since = *self.alone.entry(vip).or_insert(now);
            if let Some(own) = own(records, vip) {
                // It has come home, and what there is is the resource's; unless that is just handing over.
                if own.serving {
                    let before = record.clone();
                    self.begin(Step::Forget, vip, Change::Forget { before }, effects);
                }
            } else if !alive || now.saturating_duration_since(since) >= LINGER {
                self.end(record, alive, effects);
            }
        }
        let here = |vip: &IpAddr| detours(records).any(|r| r.spec.vip == *vip);
        self.alone.retain(|vip, _| here(vip));
        self.refused.retain(|vip, _| chosen.contains_key(vip));
        self.release(effects);
    }

    /// Cells that were found were of use once: a cell may be another one the next time.
    fn release(&mut self, effects: &mut Vec<Effect>) {
        if !self.pending.is_empty() || self.retry_at.is_some() {
            return;
        }
        self.found.retain(|vserver, found| {
            if found.is_some() {
                effects.push(Effect::ReleaseCell(vserver.clone()));
            }
            found.is_none()
        });
    }

    fn begin(&mut self, step: Step, vip: IpAddr, change: Change, effects: &mut Vec<Effect>) {
        let instance = detour_name(vip);
        if !self.pending.contains_key(&instance) {
            self.pending.insert(instance.clone(), step);
            let reconcile = Box::new(Reconcile { instance, change });
            effects.push(Effect::Reconcile(reconcile));
        }
    }

    /// Whether the virtual server's cell was found, or why it can't be had; `None` if it is still looked for.
    fn cell(&mut self, vserver: &str, effects: &mut Vec<Effect>) -> Option<Result<(), String>> {
        match self.found.get(vserver) {
            Some(found) => found.clone(),
            None => {
                self.found.insert(vserver.to_owned(), None);
                effects.push(Effect::FindCell(vserver.to_owned()));
                None
            }
        }
    }

    fn follow(
        &mut self,
        (node, claim): (&str, &Claim),
        (records, view, now): Now<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let before = records.get(&detour_name(claim.vip));
        let hop = match hop(node, claim, view) {
            Ok(hop) => hop,
            Err(why) => return self.refuse(claim.vip, why, now, effects),
        };
        let role = Role::Detour(Some(hop.clone()));
        if before.is_some_and(|r| r.role == role && r.serving) {
            return;
        }
        match self.cell(&claim.vserver, effects) {
            None => {}
            Some(Err(why)) => self.refuse(claim.vip, why, now, effects),
            Some(Ok(())) => {
                let step = Step::Follow(claim.vip, node.to_owned());
                let change = Change::Follow {
                    before: before.cloned(),
                    spec: before.map_or_else(|| spec(claim), |record| record.spec.clone()),
                    hop,
                };
                self.begin(step, claim.vip, change, effects);
            }
        }
    }

    fn refuse(&mut self, vip: IpAddr, why: String, now: Instant, effects: &mut Vec<Effect>) {
        let known = self.refused.get(&vip);
        if known.is_none_or(|(known, _)| *known != why) {
            effects.push(Effect::warning(format!("{vip}: {why}")));
        }
        self.refused.insert(vip, (why, now));
    }

    fn end(&mut self, record: &Record, alive: bool, effects: &mut Vec<Effect>) {
        let VipSpec { vserver, vip, .. } = &record.spec;
        let in_cell = match alive.then(|| self.cell(vserver, effects)) {
            Some(None) => return,
            Some(Some(found)) => found.is_ok(),
            None => false,
        };
        let before = record.clone();
        let change = Change::Clear { before, in_cell };
        self.begin(Step::End(*vip), *vip, change, effects);
    }

    /// Takes note of what has come of a change; says whether it was one of this side's.
    pub(crate) fn on_reconciled(
        &mut self,
        instance: &str,
        outcome: &Outcome,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(step) = self.pending.remove(instance) else {
            return false;
        };
        match (step, outcome) {
            (_, Outcome::Busy) => self.retry_at = Some(now + LOCK_PAUSE),
            (Step::Follow(vip, node), Outcome::Done) => {
                self.refused.remove(&vip);
                effects.push(Effect::info(format!("{vip}: {node} routes for it now")));
            }
            (Step::End(vip), Outcome::Done) => {
                let text = format!("{vip}: no node routes for it any more");
                effects.push(Effect::info(text));
            }
            (Step::Follow(vip, _) | Step::End(vip), Outcome::Failed(why)) => {
                self.refuse(vip, why.clone(), now, effects);
            }
            (_, Outcome::Stale) | (Step::Forget, _) => {}
        }
        self.release(effects);
        true
    }
}

/// The records of VIPs that another node routes for.
fn detours(records: &BTreeMap<String, Record>) -> impl Iterator<Item = &Record> {
    let all = records.values();
    all.filter(|r| matches!(r.role, Role::Detour(_)))
}

/// The record of a resource of this node that is at work on the VIP, or serves it.
fn own(records: &BTreeMap<String, Record>, vip: IpAddr) -> Option<&Record> {
    let mut all = records.values();
    all.find(|r| r.spec.vip == vip && r.role == Role::Home)
}

/// What a VIP needs of which this node knows no more than that another one routes for it.
fn spec(claim: &Claim) -> VipSpec {
    VipSpec {
        vserver: claim.vserver.clone(),
        vip: claim.vip,
        subnet: None,
        gateway: None,
        ports: None,
        routed: false,
        reroute: true,
    }
}

/// The next hop to the router, if this node can believe it.
///
/// # Errors
/// Why not.
pub(crate) fn hop(node: &str, claim: &Claim, view: &NodeView) -> Result<RouterHop, String> {
    let Claim { subnet, router, .. } = claim;
    let said = || format!("{node} routes for it and wants replies at {router} on {subnet}");
    let shared = view.subnets.iter().find(|s| s.name == *subnet);
    let shared = shared.ok_or_else(|| format!("{}, which this node does not know", said()))?;
    if !shared.fits(*router) {
        return Err(format!("{}, which is no address of that", said()));
    }
    if shared.ports.is_empty() {
        return Err(format!("{}, which no port of this node works on", said()));
    }
    let around_router = shared.nets.iter().find(|net| net.contains(*router));
    let net = around_router.or_else(|| {
        let mut nets = shared.nets.iter();
        nets.find(|net| net.is_ipv4() == router.is_ipv4())
    });
    // The router takes packets of the port only that answers for the address it knows.
    let known = |p: &&TransitPort| {
        p.own
            .iter()
            .any(|own| shared.own.contains(own) && own.is_ipv4() == router.is_ipv4())
    };
    let mut ports: Vec<&TransitPort> = shared.ports.iter().filter(known).collect();
    if ports.is_empty() {
        ports.extend(&shared.ports);
    }
    Ok(RouterHop {
        node: node.to_owned(),
        net: net.copied().unwrap_or_else(|| (*router).into()),
        ports: ports.iter().map(|p| p.name.clone()).collect(),
        router: *router,
    })
}
