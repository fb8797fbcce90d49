//! The side of the node with the cell: what its VIPs need that another node routes for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cells::Cells;
use super::turn::Turn;
use super::{Surroundings, service};
use crate::address::place::Place;
use crate::address::record::{Leg, Record, Role, Wish, detour_name};
use crate::log;
use crate::plan::attribute::Values;
use crate::plan::detour::{Claim, choose, parse};
use crate::plan::mover::LOCK_PAUSE;
use crate::portwatch::watch::Crossing;

/// How long after something has happened the routers are asked for without a pause worth mentioning,
/// how long often, and how often then; later while there is a detour, while there might well be one, and
/// while all is well.
const EAGER: Duration = Duration::from_secs(3);
const EAGER_PAUSE: Duration = Duration::from_millis(30);
const LIVELY: Duration = Duration::from_secs(15);
const LIVELY_PAUSE: Duration = Duration::from_millis(250);
const CALM_PAUSE: Duration = Duration::from_secs(1);
const LOST_PAUSE: Duration = Duration::from_secs(5);
const IDLE_PAUSE: Duration = Duration::from_secs(30);
/// How long a question may be on its way.
const QUESTION: Duration = Duration::from_secs(2);
/// How long what a VIP needs stays without a router: another one takes over within seconds, but a node
/// that has to be fenced takes longer.
const LINGER: Duration = Duration::from_secs(60);
/// How often what did not work is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// All of them.
#[derive(Debug)]
pub(crate) struct Home {
    runtime: PathBuf,
    /// What the other nodes say that they route, and since when.
    claims: BTreeMap<String, Vec<(Claim, Instant)>>,
    /// When the routers are to be asked for.
    ask: Option<Instant>,
    /// When something happened last that a router may follow.
    woken: Option<Instant>,
    /// Whether that was the loss of a subnet.
    lost: bool,
    /// Since when a VIP has no router.
    alone: BTreeMap<IpAddr, Instant>,
    /// What there was when it was last looked at.
    cells: BTreeSet<String>,
    served: BTreeSet<IpAddr>,
    /// Claims that can't be followed, why, told in the log once, and when that was last found.
    refused: BTreeMap<IpAddr, (String, Instant)>,
    /// The virtual servers' cells.
    networks: Cells,
    /// When what could not be done for want of the lock is tried again.
    again: Option<Instant>,
}

impl Home {
    pub fn new(runtime: &Path) -> Self {
        Self {
            runtime: runtime.to_owned(),
            claims: BTreeMap::new(),
            ask: None,
            woken: None,
            lost: false,
            alone: BTreeMap::new(),
            cells: BTreeSet::new(),
            served: BTreeSet::new(),
            refused: BTreeMap::new(),
            networks: Cells::default(),
            again: None,
        }
    }

    /// The routers are to be asked for soon: a VIP may be about to be routed.
    fn wake(&mut self, now: Instant) {
        self.woken = Some(now);
        self.ask = Some(now);
    }

    /// Looks whether anything has happened that another node's routing may follow, and does what has
    /// become possible or needless.
    pub fn review(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        let served: BTreeSet<IpAddr> = records
            .values()
            .filter(|r| r.role == Role::Home && r.serving && r.wish.reroute)
            .map(|r| r.wish.vip)
            .collect();
        let news = around.cells.difference(&self.cells).next().is_some()
            || self.served.difference(&served).next().is_some()
            || (around.lost && !self.lost);
        if news && !around.cells.is_empty() {
            self.wake(now);
        }
        self.cells.clone_from(&around.cells);
        self.served = served;
        self.lost = around.lost;
        self.settle(records, around, now);
        if self.ask.is_none() && !around.cells.is_empty() {
            self.ask = Some(now);
        }
    }

    /// Whether the routers are to be asked for now.
    pub fn asks(&mut self, now: Instant) -> bool {
        let due = self.ask.is_some_and(|at| at <= now);
        if due {
            self.ask = Some(now + QUESTION);
        }
        due
    }

    /// When it is to be called again although nothing happens.
    pub fn next(&self) -> Option<Instant> {
        self.ask.into_iter().chain(self.again).min()
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.networks.fds()
    }

    /// Goes on with what had to wait for a keeper, or for the lock.
    pub fn advance(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        let found = self.networks.advance();
        if found || self.again.is_some_and(|at| at <= now) {
            self.settle(records, around, now);
        }
    }

    /// Takes note of what the other nodes route, and when to ask again.
    pub fn told(&mut self, values: &Values, records: &BTreeMap<String, Record>, now: Instant) {
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
        let eager = self.lost || detours(records).next().is_some();
        self.ask = match since {
            Some(since) if since < EAGER && eager => Some(now + EAGER_PAUSE),
            Some(since) if since < LIVELY => Some(now + LIVELY_PAUSE),
            _ if detours(records).next().is_some() => Some(now + CALM_PAUSE),
            // A node may begin to route that nothing here tells of: after it was fenced, or by hand.
            _ if self.cells.is_empty() => None,
            _ if self.lost => Some(now + LOST_PAUSE),
            _ => Some(now + IDLE_PAUSE),
        };
    }

    /// Makes what the VIPs need that are routed for, and takes away what none needs any more.
    pub fn settle(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        let present: BTreeMap<IpAddr, String> = detours(records)
            .filter_map(|r| match &r.role {
                Role::Detour(Some(leg)) => Some((r.wish.vip, leg.node.clone())),
                _ => None,
            })
            .collect();
        let chosen = choose(&self.claims, &present);
        let runtime = self.runtime.clone();
        let mut turn = Turn::new(&runtime);
        for (vip, (node, claim)) in &chosen {
            self.alone.remove(vip);
            if around.cells.contains(&claim.vserver) && own(records, *vip).is_none() {
                let refused = self.refused.get(vip);
                if refused.is_none_or(|(_, at)| now.saturating_duration_since(*at) >= AGAIN) {
                    self.follow((node, claim), records, around, &mut turn);
                }
            }
        }
        for record in detours(records) {
            let vip = record.wish.vip;
            let alive = around.cells.contains(&record.wish.vserver);
            if alive && chosen.contains_key(&vip) {
                continue;
            }
            let since = *self.alone.entry(vip).or_insert(now);
            if let Some(own) = own(records, vip) {
                // It has come home, and what there is is the resource's; unless that is just handing over.
                if own.serving {
                    if let Some(lock) = turn.lock() {
                        service(&runtime, &detour_name(vip)).forget_if(lock, record);
                    }
                }
            } else if !alive || now.saturating_duration_since(since) >= LINGER {
                self.end(record, alive, &mut turn);
            }
        }
        let here = |vip: &IpAddr| detours(records).any(|r| r.wish.vip == *vip);
        self.alone.retain(|vip, _| here(vip));
        self.refused.retain(|vip, _| chosen.contains_key(vip));
        self.again = turn.was_missed().then(|| now + LOCK_PAUSE);
        if self.again.is_none() {
            self.networks.forget();
        }
    }

    fn follow(
        &mut self,
        (node, claim): (&str, &Claim),
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        turn: &mut Turn<'_>,
    ) {
        let name = detour_name(claim.vip);
        let before = records.get(&name);
        let leg = match leg(node, claim, around) {
            Ok(leg) => leg,
            Err(why) => return self.refuse(claim.vip, why),
        };
        let role = Role::Detour(Some(leg.clone()));
        if before.is_some_and(|r| r.role == role && r.serving) {
            return;
        }
        let wish = before.map_or_else(|| wish(claim), |record| record.wish.clone());
        let settled = match self.networks.network(&claim.vserver) {
            None => return,
            Some(Err(why)) => Err(why.to_owned()),
            Some(Ok(network)) => {
                let Some(lock) = turn.lock() else { return };
                let place = Place::Detour(network, leg);
                service(&self.runtime, &name)
                    .settle(lock, before, &wish, &place)
                    .map_err(|e| e.to_string())
            }
        };
        match settled {
            Ok(true) => {
                self.refused.remove(&claim.vip);
                log::info(format_args!("{}: {node} routes for it now", claim.vip));
            }
            Ok(false) => {}
            Err(why) => self.refuse(claim.vip, why),
        }
    }

    fn refuse(&mut self, vip: IpAddr, why: String) {
        if self
            .refused
            .get(&vip)
            .is_none_or(|(known, _)| *known != why)
        {
            log::warn(format_args!("{vip}: {why}"));
        }
        self.refused.insert(vip, (why, Instant::now()));
    }

    fn end(&mut self, record: &Record, alive: bool, turn: &mut Turn<'_>) {
        let Wish { vserver, vip, .. } = &record.wish;
        let name = detour_name(*vip);
        let network = match alive.then(|| self.networks.network(vserver)) {
            Some(None) => return,
            Some(Some(found)) => found.ok(),
            None => None,
        };
        let Some(lock) = turn.lock() else { return };
        match service(&self.runtime, &name).clear_if(lock, record, network) {
            Ok(true) => log::info(format_args!("{vip}: no node routes for it any more")),
            Ok(false) => {}
            Err(e) => self.refuse(*vip, e.to_string()),
        }
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
    all.find(|r| r.wish.vip == vip && r.role == Role::Home)
}

/// What a VIP needs of which this node knows no more than that another one routes for it.
fn wish(claim: &Claim) -> Wish {
    Wish {
        vserver: claim.vserver.clone(),
        vip: claim.vip,
        subnet: None,
        gateway: None,
        ports: None,
        routed: false,
        reroute: true,
    }
}

/// The way to the router, if this node can believe it.
fn leg(node: &str, claim: &Claim, around: &Surroundings) -> Result<Leg, String> {
    let Claim { subnet, router, .. } = claim;
    let said = || format!("{node} routes for it and wants replies at {router} on {subnet}");
    let shared = around.shared.iter().find(|s| s.name == *subnet);
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
    let known = |p: &&Crossing| {
        p.own
            .iter()
            .any(|own| shared.own.contains(own) && own.is_ipv4() == router.is_ipv4())
    };
    let mut ports: Vec<&Crossing> = shared.ports.iter().filter(known).collect();
    if ports.is_empty() {
        ports.extend(&shared.ports);
    }
    Ok(Leg {
        node: node.to_owned(),
        net: net.copied().unwrap_or_else(|| (*router).into()),
        ports: ports.iter().map(|p| p.port.clone()).collect(),
        router: *router,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portwatch::watch::{Crossing, Shared};
    use crate::types::Mac;

    fn around() -> Surroundings {
        Surroundings {
            node: Some("n1".into()),
            cells: ["alpha".to_owned()].into(),
            shared: vec![Shared {
                name: "lab".into(),
                nets: vec![
                    "10.2.0.0/24".parse().unwrap(),
                    "fd00:2::/64".parse().unwrap(),
                ],
                ports: vec![Crossing {
                    port: "eth3".into(),
                    index: 5,
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                    own: vec!["10.2.0.1".parse().unwrap()],
                }],
                own: vec!["10.2.0.1".parse().unwrap(), "fd00:2::1".parse().unwrap()],
                peers: BTreeMap::new(),
            }],
            lost: true,
            interval: Duration::from_millis(200),
            patience: Duration::from_millis(600),
        }
    }

    fn judged(text: &str) -> Result<Leg, String> {
        leg("n2", &parse(text)[0], &around())
    }

    #[test]
    fn a_router_is_believed_only_on_a_subnet_of_this_node() {
        let good = judged("alpha/10.1.0.50/lab/10.2.0.2").unwrap();
        assert_eq!(
            (good.ports, good.net),
            (vec!["eth3".to_owned()], "10.2.0.0/24".parse().unwrap())
        );
        assert_eq!(
            judged("alpha/fd00:1::50/lab/fe80::2").unwrap().net,
            "fd00:2::/64".parse().unwrap()
        );
        for (claim, why) in [
            (
                "alpha/10.1.0.50/store/10.2.0.2",
                "which this node does not know",
            ),
            (
                "alpha/10.1.0.50/lab/10.3.0.2",
                "which is no address of that",
            ),
            (
                "alpha/10.1.0.50/lab/10.2.0.1",
                "which is no address of that",
            ),
        ] {
            let error = judged(claim).unwrap_err();
            assert!(error.ends_with(why), "{error}");
        }
        let mut dead = around();
        dead.shared[0].ports.clear();
        let claim = parse("alpha/10.1.0.50/lab/10.2.0.2").remove(0);
        assert!(leg("n2", &claim, &dead).unwrap_err().ends_with("works on"));
    }

    #[test]
    fn routers_are_asked_for_when_a_subnet_is_lost_and_then_ever_less_often() {
        let dir = tempfile::tempdir().unwrap();
        let (mut home, start) = (Home::new(dir.path()), Instant::now());
        let mut good = around();
        good.lost = false;
        let none = BTreeMap::new();
        home.review(&none, &good, start);
        assert!(home.asks(start), "a new cell may be routed to already");
        home.told(&Values::new(), &none, start + LIVELY);
        assert_eq!(home.next(), Some(start + LIVELY + IDLE_PAUSE));
        let lost = start + Duration::from_secs(60);
        home.review(&none, &around(), lost);
        assert!(home.asks(lost) && !home.asks(lost));
        home.told(&Values::new(), &none, lost);
        assert_eq!(home.next(), Some(lost + EAGER_PAUSE));
        home.told(&Values::new(), &none, lost + EAGER);
        assert_eq!(home.next(), Some(lost + EAGER + LIVELY_PAUSE));
        home.told(&Values::new(), &none, lost + LIVELY);
        assert_eq!(home.next(), Some(lost + LIVELY + LOST_PAUSE));
        let mut empty = around();
        empty.cells.clear();
        home.review(&none, &empty, lost + LIVELY);
        home.told(&Values::new(), &none, lost + LIVELY);
        assert_eq!(home.next(), None, "nobody routes for a node without a cell");
    }
}
