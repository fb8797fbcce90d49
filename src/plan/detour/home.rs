//! The side of the node with the cell: what it makes for those of its VIPs that another node routes.

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
use crate::types::{Milliseconds, NodeName, VserverName};

/// How long after something has happened that a router may follow the routers' claims are queried every
/// [`EAGER_PAUSE`], if a subnet is lost or there is a detour.
pub(crate) const EAGER: Duration = Duration::from_secs(3);
pub(crate) const EAGER_PAUSE: Duration = Duration::from_millis(30);
/// How long after it they are queried every [`LIVELY_PAUSE`].
pub(crate) const LIVELY: Duration = Duration::from_secs(15);
pub(crate) const LIVELY_PAUSE: Duration = Duration::from_millis(250);
/// How often they are queried later: while there is a detour, while a subnet is lost, and else.
const CALM_PAUSE: Duration = Duration::from_secs(1);
pub(crate) const LOST_PAUSE: Duration = Duration::from_secs(5);
pub(crate) const IDLE_PAUSE: Duration = Duration::from_secs(30);
/// After how long without an answer a query is made again.
const QUERY: Duration = Duration::from_secs(2);
/// How long a detour outlives the last claim for its VIP: another router takes over within seconds, but where a node
/// has to be fenced first, that takes longer.
pub(crate) const LINGER: Duration = Duration::from_secs(60);
/// After how long a claim that could not be followed is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A change whose outcome is awaited.
#[derive(Debug)]
enum Step {
    /// Replies of this VIP are sent to this node, which claims to route it.
    Follow(IpAddr, NodeName),
    /// The detour of this VIP ends.
    End(IpAddr),
    /// The detour's record is deleted.
    Forget,
}

/// This node's part in the detours of the VIPs of its own cells.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// What the other nodes claim to route for this one, by node, and when each claim was first seen.
    claims: BTreeMap<NodeName, Vec<(Claim, Instant)>>,
    /// When the routers are to be queried.
    query_at: Option<Instant>,
    /// When something happened last that a router may follow.
    woken: Option<Instant>,
    /// Whether a subnet was lost at the last [`Self::review`].
    lost: bool,
    /// Since when a VIP on a detour has no router.
    alone: BTreeMap<IpAddr, Instant>,
    /// The virtual servers with a cell here, and the VIPs served here that may be routed, at the last [`Self::review`].
    cells: BTreeSet<VserverName>,
    served: BTreeSet<IpAddr>,
    /// The VIPs whose claims can't be followed; why, which is logged once; and when that was last found.
    refused: BTreeMap<IpAddr, (String, Instant)>,
    /// The cells that are being looked for (`None`), and the results of earlier searches.
    found: BTreeMap<VserverName, Option<Result<(), String>>>,
    /// The changes whose outcome is awaited, by their records' names.
    pending: BTreeMap<String, Step>,
    /// When what could not be done for want of the lock is tried again.
    retry_at: Option<Instant>,
}

/// What decisions are made from: the records on this node, by their names; what it reaches; the time.
type Now<'n> = (&'n BTreeMap<String, Record>, &'n NodeView, Instant);

impl Home {
    /// Queries the routers soon if something has happened that another node's routing may follow, and brings the
    /// detours in line with the claims.
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

    /// What the other nodes claim to route for this one, for an overview.
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

    /// When [`Self::on_tick`] or [`Self::is_query_due`] is due by time alone.
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
        vserver: VserverName,
        found: Result<(), String>,
        (records, view, now): Now<'_>,
        effects: &mut Vec<Effect>,
    ) {
        self.found.insert(vserver, Some(found));
        self.reconcile((records, view, now), effects);
    }

    /// Notes what the other nodes claim to route, decides when to query that again, and follows the claims.
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
            // A node may begin to route with no sign of it on this one, such as after it was fenced, or because
            // somebody moved the VIP by hand: claims are queried as long as there is a cell.
            _ if self.cells.is_empty() => None,
            _ if self.lost => Some(now + LOST_PAUSE),
            _ => Some(now + IDLE_PAUSE),
        };
        self.reconcile((records, view, now), effects);
    }

    /// Begins what it takes that each claimed VIP's replies go to its router, and ends detours that no node claims.
    fn reconcile(&mut self, (records, view, now): Now<'_>, effects: &mut Vec<Effect>) {
        self.retry_at = None;
        let present: BTreeMap<IpAddr, NodeName> = detours(records)
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
                // The VIP has come home: its resource owns what the kernel has. A record that does not serve yet is
                // that of a resource that is still starting, or is handing the VIP over.
                if own.serving {
                    let before = record.clone();
                    self.begin(Step::Forget, vip, Change::Forget { before }, effects);
                }
            } else if !alive || now.saturating_duration_since(since) >= LINGER {
                self.end(record, alive, effects);
            }
        }
        let has_detour = |vip: &IpAddr| detours(records).any(|r| r.spec.vip == *vip);
        self.alone.retain(|vip, _| has_detour(vip));
        self.refused.retain(|vip, _| chosen.contains_key(vip));
        self.release(effects);
    }

    /// Releases the cells that were found once no change needs them: the next time a virtual server may have another
    /// cell.
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

    /// Whether the virtual server's cell was found, or why it can't be entered; `None` while it is being looked for.
    fn cell(
        &mut self,
        vserver: &VserverName,
        effects: &mut Vec<Effect>,
    ) -> Option<Result<(), String>> {
        match self.found.get(vserver) {
            Some(found) => found.clone(),
            None => {
                self.found.insert(vserver.clone(), None);
                effects.push(Effect::FindCell(vserver.clone()));
                None
            }
        }
    }

    fn follow(
        &mut self,
        (node, claim): (&NodeName, &Claim),
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
                let step = Step::Follow(claim.vip, node.clone());
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

    /// Notes the outcome of a change. Returns whether the change was one of this side's.
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

/// The record of this node's own resource for the VIP, if it serves it, or its agent is at work on it.
fn own(records: &BTreeMap<String, Record>, vip: IpAddr) -> Option<&Record> {
    let mut all = records.values();
    all.find(|r| r.spec.vip == vip && r.role == Role::Home)
}

/// The specification of a VIP of which this node knows nothing but another node's claim.
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

/// The next hop by which replies reach the router that claims a VIP.
///
/// # Errors
/// Why the claim can't be followed: its subnet is not known here, its address can't be there, or no port works there.
pub(crate) fn hop(node: &NodeName, claim: &Claim, view: &NodeView) -> Result<RouterHop, String> {
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
    // The router accepts packets only from the port that answers for the address by which it knows this node.
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
        node: node.clone(),
        net: net.copied().unwrap_or_else(|| (*router).into()),
        ports: ports.iter().map(|p| p.name.clone()).collect(),
        router: *router,
    })
}
