//! The side of the node that routes: whether its way works, what it tells the node with the cell, and the
//! end of it.

mod rivals;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::search::{NoWay, Search};
use super::turn::Turn;
use super::{Surroundings, service};
use crate::address::lock::lock;
use crate::address::place::Place;
use crate::address::record::{Path as Way, Record, Role};
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::plan::detour::{Claim, text};
use crate::plan::mover::LOCK_PAUSE;
use crate::portwatch::watch::Crossing;
use crate::sys::announce::{Answer, Question};
use crate::types::Mac;

/// How long nothing may have come for a VIP whose routing ends, until it has ended; and how long that may
/// take at the most.
const IDLE: Duration = Duration::from_secs(1);
const ENDING: Duration = Duration::from_secs(10);
/// How often it is looked whether anything has.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// How often a way is looked for where there was none.
const AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether another node routes for the same VIP, and how often while one does.
const RIVALS: Duration = Duration::from_secs(5);
const RIVALS_LIVELY: Duration = Duration::from_secs(1);

/// How long a daemon that ends may wait for the lock.
const LAST_TURN: Duration = Duration::from_secs(1);

/// A VIP whose routing ends.
#[derive(Debug)]
struct End {
    since: Instant,
    /// What had come for it when last something had, and when that was.
    bytes: u64,
    at: Instant,
}

/// Virtual servers that this node can't reach: which node they are on, and for which VIP it was tried.
pub(crate) type Unreached = BTreeMap<String, (String, IpAddr)>;

/// All of them.
#[derive(Debug)]
pub(crate) struct Router {
    runtime: PathBuf,
    /// When each way has last proved to work: by this node's port, to this address, which one of these
    /// Ethernet addresses must answer for.
    ways: BTreeMap<(u32, IpAddr, Vec<Mac>), Instant>,
    ask: Instant,
    ending: BTreeMap<String, End>,
    look: Option<Instant>,
    /// Searches for ways, by the resources that want them.
    searches: BTreeMap<String, Search>,
    search: Instant,
    unreached: Unreached,
    /// When it is to be looked for rivals.
    rivals: Instant,
    /// Resources that another node routes for too, and whether the cluster was asked which of the two
    /// should.
    disputed: BTreeMap<String, bool>,
    /// VIPs that clients may take to be at another node, which has no right to them.
    announce: BTreeSet<IpAddr>,
    /// When what searches have led to is tried again, which could not be made for want of the lock.
    again: Option<Instant>,
}

/// What the search for a virtual server is called whose address is elsewhere by now: no resource.
fn alone(vserver: &str) -> String {
    format!("@{vserver}")
}

fn routed(records: &BTreeMap<String, Record>) -> impl Iterator<Item = (&String, &Record, &Way)> {
    records
        .iter()
        .filter_map(|(name, record)| match &record.role {
            Role::Router(way) => Some((name, record, way)),
            _ => None,
        })
}

impl Router {
    pub fn new(runtime: &Path, unreached: Unreached, now: Instant) -> Self {
        Self {
            runtime: runtime.to_owned(),
            ways: BTreeMap::new(),
            ask: now,
            ending: BTreeMap::new(),
            look: None,
            searches: BTreeMap::new(),
            search: now,
            unreached,
            rivals: now,
            disputed: BTreeMap::new(),
            announce: BTreeSet::new(),
            again: None,
        }
    }

    /// Takes note of what this node does for which VIPs.
    pub fn review(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        // What has come to this node need not be reached.
        self.unreached
            .retain(|vserver, _| !around.cells.contains(vserver));
        let ends =
            |name: &String| matches!(records.get(name).map(|r| &r.role), Some(Role::Ending(_)));
        self.ending.retain(|name, _| ends(name));
        for name in records.keys().filter(|name| ends(name)) {
            self.ending.entry(name.clone()).or_insert(End {
                since: now,
                bytes: 0,
                at: now,
            });
        }
        self.look = match self.ending.is_empty() {
            true => None,
            false => self.look.or(Some(now + IDLE_PAUSE)),
        };
        let unreached = &self.unreached;
        self.searches.retain(|name, search| {
            records.contains_key(name) || unreached.contains_key(&search.vserver)
        });
        self.disputed.retain(|name, _| records.contains_key(name));
    }

    /// What the other nodes are told, by attributes.
    pub fn tells(&self, records: &BTreeMap<String, Record>) -> BTreeMap<Attribute, String> {
        let mut claims: BTreeMap<&str, Vec<Claim>> = BTreeMap::new();
        for record in records.values() {
            let (way, ending) = match &record.role {
                Role::Router(way) => (way, false),
                Role::Ending(way) => (way, true),
                _ => continue,
            };
            claims.entry(&way.node).or_default().push(Claim {
                vserver: record.wish.vserver.clone(),
                vip: record.wish.vip,
                subnet: way.subnet.clone(),
                router: way.own,
                ending,
            });
        }
        let all = claims.into_iter();
        all.map(|(node, claims)| (Attribute::Router(node.to_owned()), text(&claims)))
            .collect()
    }

    /// The virtual servers that this node can't reach.
    pub fn unreached(&self) -> &Unreached {
        &self.unreached
    }

    /// The questions that are due: to the nodes that are routed to, and by searches.
    pub fn questions(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) -> Vec<Question> {
        let mut questions = Vec::new();
        if self.ask <= now {
            self.ask = now + around.interval;
            let mut asked = BTreeSet::new();
            for (_, _, way) in routed(records) {
                let Some(port) = around.port(&way.port) else {
                    continue;
                };
                let key = (port.index, way.address, way.macs.clone());
                let first = way.macs.first().copied();
                if asked.insert(key.clone()) {
                    self.ways.entry(key).or_insert(now);
                    questions.push(Question {
                        link: port.index,
                        mac: port.mac,
                        target: way.address,
                        source: Some(way.own),
                        to: first,
                    });
                }
            }
            self.ways.retain(|key, _| asked.contains(key));
        }
        for search in self.searches.values_mut() {
            questions.extend(search.questions(around, now));
        }
        questions
    }

    /// Takes note of an answer.
    pub fn hear(&mut self, answer: &Answer, around: &Surroundings, now: Instant) {
        for ((link, ip, macs), at) in &mut self.ways {
            if (*link, *ip) == (answer.link, answer.ip) && macs.contains(&answer.from) {
                *at = now;
            }
        }
        for search in self.searches.values_mut() {
            search.hear(answer, around, now);
        }
    }

    /// The attributes that the cluster is to be asked for now.
    pub fn asks(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) -> Vec<Attribute> {
        let mut asks: Vec<Attribute> = self
            .searches
            .values_mut()
            .flat_map(|search| search.asks(around, now))
            .collect();
        if self.rivals <= now {
            self.rivals = now
                + match self.disputed.values().all(|asked| *asked) {
                    true => RIVALS,
                    false => RIVALS_LIVELY,
                };
            let nodes: BTreeSet<&str> = routed(records).map(|(_, _, way)| &*way.node).collect();
            asks.extend(
                nodes
                    .into_iter()
                    .map(|node| Attribute::Router(node.to_owned())),
            );
        }
        asks
    }

    /// Takes note of which nodes have a virtual server.
    pub fn told_cell(&mut self, vserver: &str, values: &Values, now: Instant) {
        for search in self.searches.values_mut().filter(|s| s.vserver == vserver) {
            search.told(values, now);
        }
    }

    /// When it is to be called again although nothing happens.
    pub fn next(&self, records: &BTreeMap<String, Record>) -> Option<Instant> {
        let routes = routed(records).next().is_some();
        let waits = !self.unreached.is_empty()
            || records
                .values()
                .any(|r| matches!(r.role, Role::Stranded(_)));
        // One that has ended waits for the lock.
        let searches = self.searches.values().map(Search::next);
        let searches = searches.map(|at| self.again.map_or(at, |again| at.max(again)));
        let fixed = [
            routes.then_some(self.ask),
            routes.then_some(self.rivals),
            waits.then_some(self.search),
            self.look,
        ];
        fixed.into_iter().flatten().chain(searches).min()
    }

    /// Goes on with what takes time: ways that have stopped to work, searches, routing that ends.
    pub fn advance(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        traffic: impl FnOnce() -> io::Result<BTreeMap<IpAddr, u64>>,
        now: Instant,
    ) {
        self.begin_searches(records, around, now);
        if self.again.is_none_or(|at| at <= now) {
            self.end_searches(records, around, now);
        }
        if self.look.is_some_and(|at| at <= now) {
            self.look = Some(now + IDLE_PAUSE);
            match traffic() {
                Ok(bytes) => self.end(records, &bytes, now),
                Err(e) => log::warn(format_args!("measure loads: {e}")),
            }
        }
    }

    /// Makes what searches have led to.
    fn end_searches(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        let over =
            |(name, search): (&String, &Search)| Some((name.clone(), search.outcome(around, now)?));
        let ended: Vec<_> = self.searches.iter().filter_map(over).collect();
        let runtime = self.runtime.clone();
        let mut turn = Turn::new(&runtime);
        for (name, outcome) in ended {
            if let Some(record) = records.get(&name) {
                if !self.take(&name, record, &outcome, &mut turn) {
                    continue;
                }
            }
            self.search = now + AGAIN;
            if let Some(search) = self.searches.remove(&name) {
                self.note(&search.vserver, search.vip, &outcome);
            }
        }
        self.again = turn.was_missed().then(|| now + LOCK_PAUSE);
    }

    /// A way is looked for where there is none or the one there is works no more, and where this node has
    /// told the cluster that there is none, as that is to be taken back.
    fn begin_searches(
        &mut self,
        records: &BTreeMap<String, Record>,
        around: &Surroundings,
        now: Instant,
    ) {
        for (name, record, way) in routed(records) {
            let port = around.port(&way.port);
            let key = |port: &Crossing| (port.index, way.address, way.macs.clone());
            let proved = port.and_then(|port| self.ways.get(&key(port)));
            let works = match (port, proved) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(_), Some(at)) => now.saturating_duration_since(*at) < around.patience,
            };
            if record.serving && !works && !self.searches.contains_key(name) && self.search <= now {
                log::warn(format_args!(
                    "{}: {} does not answer on {} any more",
                    record.wish.vip, way.node, way.subnet
                ));
                let search = Search::new(&record.wish.vserver, record.wish.vip, now);
                self.searches.insert(name.clone(), search);
            }
        }
        if self.search > now {
            return;
        }
        self.search = now + AGAIN;
        for (name, record) in records {
            if matches!(record.role, Role::Stranded(_)) && !self.searches.contains_key(name) {
                let search = Search::patient(&record.wish.vserver, record.wish.vip, now);
                self.searches.insert(name.clone(), search);
            }
        }
        for (vserver, (_, vip)) in &self.unreached {
            if !self.searches.values().any(|s| s.vserver == *vserver) {
                let search = Search::patient(vserver, *vip, now);
                self.searches.insert(alone(vserver), search);
            }
        }
    }

    /// Makes what a search for a resource has led to; not without the lock. Says whether it is done with.
    fn take(
        &self,
        name: &str,
        record: &Record,
        outcome: &Result<Way, NoWay>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let known = match outcome {
            Ok(way) => record.serving && record.role == Role::Router(way.clone()),
            Err(no_way) => {
                matches!(&record.role, Role::Stranded(why) if why == no_way.reason())
            }
        };
        if known {
            return true;
        }
        let Some(lock) = turn.lock() else {
            return false;
        };
        let vip = record.wish.vip;
        let service = service(&self.runtime, name);
        let result = match outcome {
            Ok(way) => {
                log::info(format_args!(
                    "{vip}: routed to {} over {}",
                    way.node, way.subnet
                ));
                let place = Place::There(way.clone());
                service.settle(lock, Some(record), &record.wish, &place)
            }
            Err(no_way) => {
                log::warn(format_args!("{vip}: {}", no_way.reason()));
                service.give_up(lock, record, no_way.reason())
            }
        };
        if let Err(e) = result {
            log::warn(format_args!("route for {vip}: {e}"));
        }
        true
    }

    /// Takes note for the cluster of whether a virtual server can be reached.
    pub fn note(&mut self, vserver: &str, vip: IpAddr, outcome: &Result<Way, NoWay>) {
        match outcome {
            Err(NoWay::Unreached(node, _)) => {
                self.unreached
                    .insert(vserver.to_owned(), (node.clone(), vip));
            }
            // What holds for one address need not hold for another.
            Ok(_) | Err(NoWay::Nowhere(_)) => {
                let other = |(_, tried): &(String, IpAddr)| *tried != vip;
                if !self.unreached.get(vserver).is_some_and(other) {
                    self.unreached.remove(vserver);
                }
            }
        }
    }

    /// Ends all routing that is about to end, whatever still comes: nobody would end it later.
    pub fn end_now(&mut self, records: &BTreeMap<String, Record>) {
        let mut ending = records
            .iter()
            .filter(|(_, record)| matches!(record.role, Role::Ending(_)))
            .peekable();
        if ending.peek().is_none() {
            return;
        }
        // Nothing else is left to do for the daemon.
        let lock = match lock(&self.runtime, Instant::now() + LAST_TURN) {
            Ok(lock) => lock,
            Err(e) => return log::warn(format_args!("end the routing: {e}")),
        };
        for (name, record) in ending {
            if let Err(e) = service(&self.runtime, name).clear_if(&lock, record, None) {
                log::warn(format_args!("end the routing of {}: {e}", record.wish.vip));
            }
        }
    }

    /// Ends the routing of VIPs that nothing comes for any more.
    fn end(
        &mut self,
        records: &BTreeMap<String, Record>,
        traffic: &BTreeMap<IpAddr, u64>,
        now: Instant,
    ) {
        let mut over = Vec::new();
        for (name, end) in &mut self.ending {
            let Some(record) = records.get(name) else {
                continue;
            };
            let bytes = traffic.get(&record.wish.vip).copied().unwrap_or(0);
            if bytes != std::mem::replace(&mut end.bytes, bytes) {
                end.at = now;
            }
            let idle = now.saturating_duration_since(end.at) >= IDLE;
            if idle || now.saturating_duration_since(end.since) >= ENDING {
                over.push((name.clone(), record));
            }
        }
        let mut turn = Turn::new(&self.runtime);
        for (name, record) in over {
            let vip = record.wish.vip;
            let Some(lock) = turn.lock() else {
                // It is looked again in a moment.
                break;
            };
            match service(&self.runtime, &name).clear_if(lock, record, None) {
                Ok(true) => log::info(format_args!("{vip}: no longer routed")),
                Ok(false) => {}
                Err(e) => log::warn(format_args!("end the routing of {vip}: {e}")),
            }
        }
    }
}
