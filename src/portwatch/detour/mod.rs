//! Detours: VIPs that one node answers for and another one serves.
//!
//! The nodes agree by attributes: who has which virtual server's cell, who routes which VIPs to whom.
//! Each side makes its own part in the kernel when it has read the other's.

mod cells;
mod home;
mod router;
mod search;
mod turn;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::home::Home;
use self::router::{Router, Unreached};
use self::search::Search;
use super::protocol::Reply;
use super::publisher::Publisher;
use super::watch::{Crossing, Shared};
use crate::address::record::{Record, Role};
use crate::address::service::Service;
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::runtime::channel::Channel;
use crate::sys::announce::{Answer, Question};
use crate::sys::state;

/// A node has a few hundred virtual servers at the most.
const LIMIT: u64 = 1 << 20;
/// How long after a resource has left it has surely arrived elsewhere: to clean up after it has the
/// cluster look at it anew.
const SETTLED: Duration = Duration::from_secs(3);
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(5);
/// How many agents may wait for a way.
const WAITING: usize = 64;

/// What there is on this node, as far as detours depend on it.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// This node's name.
    pub node: Option<String>,
    /// The virtual servers that have a cell on this node.
    pub cells: BTreeSet<String>,
    /// The subnets by which other nodes can be reached.
    pub shared: Vec<Shared>,
    /// Whether no port of some subnet works.
    pub lost: bool,
    /// How often other nodes are asked.
    pub interval: Duration,
    /// How long one may be silent.
    pub patience: Duration,
}

impl Surroundings {
    fn port(&self, name: &str) -> Option<&Crossing> {
        let mut ports = self.shared.iter().flat_map(|subnet| &subnet.ports);
        ports.find(|crossing| crossing.port == name)
    }
}

/// What is done for the VIP whose record has this name.
fn service<'a>(runtime: &Path, name: &'a str) -> Service<'a> {
    Service::new(name, Instant::now() + CHANGE).in_directory(runtime)
}

/// What the next daemon has to know, in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The attributes that the cluster was told, which would stay.
    attributes: BTreeSet<Attribute>,
    unreached: Unreached,
    /// Resources that have left, of which the cluster is still to forget that they were degraded.
    #[serde(default)]
    left: BTreeSet<String>,
}

/// An agent that waits for a way.
#[derive(Debug)]
struct Waiting {
    agent: Channel,
    search: Search,
}

/// All of them, of both sides.
#[derive(Debug)]
pub(crate) struct Detours {
    file: PathBuf,
    told: Told,
    records: BTreeMap<String, Record>,
    around: Surroundings,
    home: Home,
    router: Router,
    waiting: Vec<Waiting>,
    /// Resources that have left this node, of which the cluster goes on to show that they were degraded
    /// here; since when.
    left: BTreeMap<String, Instant>,
    /// Whether it is known what there is on this node: until then nothing is taken back.
    reviewed: bool,
}

impl Detours {
    /// Goes on where the daemon before this one ended.
    pub fn new(runtime: &Path, around: Surroundings, now: Instant) -> Self {
        let file = runtime.join("detours.json");
        let read =
            || -> Option<Told> { serde_json::from_slice(&state::read(&file, LIMIT).ok()?).ok() };
        let told = read().unwrap_or_default();
        Self {
            home: Home::new(runtime),
            router: Router::new(runtime, told.unreached.clone(), now),
            file,
            left: told.left.iter().map(|name| (name.clone(), now)).collect(),
            told,
            records: BTreeMap::new(),
            around,
            waiting: Vec::new(),
            reviewed: false,
        }
    }

    /// The daemon ends: what would wait for it does not wait.
    pub fn end(&mut self, records: BTreeMap<String, Record>, publisher: &mut Publisher) {
        self.router.end_now(&records);
        self.records = records;
        self.records
            .retain(|_, record| !matches!(record.role, Role::Ending(_)));
        self.tell(publisher);
    }

    /// Takes note of what has changed on this node, and does what follows.
    pub fn review(
        &mut self,
        records: BTreeMap<String, Record>,
        around: Surroundings,
        publisher: &mut Publisher,
        now: Instant,
    ) {
        let old = std::mem::replace(&mut self.records, records);
        self.around = around;
        let resource = |name: &str| !name.starts_with('@');
        let left = old.into_iter();
        let left = left.filter(|(name, record)| record.degraded && resource(name));
        self.left.extend(left.map(|(name, _)| (name, now)));
        // What is degraded again is cleaned up after in its turn.
        let degraded = |name: &String| self.records.get(name).is_some_and(|r| r.degraded);
        self.left.retain(|name, _| !degraded(name));
        self.router.review(&self.records, &self.around, now);
        self.home.review(&self.records, &self.around, now);
        self.reviewed = true;
        self.tell(publisher);
    }

    /// An agent wants to know by which way a virtual server is reached. It is told when that is known.
    pub fn seek(&mut self, vserver: &str, vip: IpAddr, agent: Channel, now: Instant) {
        if self.waiting.len() >= WAITING {
            let why = format!("no way to {vserver}: too many ways are looked for");
            return answer(&agent, Err(why));
        }
        let search = Search::new(vserver, vip, now);
        self.waiting.push(Waiting { agent, search });
    }

    /// The questions to other nodes that are due.
    pub fn questions(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = self.router.questions(&self.records, &self.around, now);
        for waiting in &mut self.waiting {
            questions.extend(waiting.search.questions(&self.around, now));
        }
        questions
    }

    /// Takes note of an answer.
    pub fn hear(&mut self, answer: &Answer, now: Instant) {
        self.router.hear(answer, &self.around, now);
        for waiting in &mut self.waiting {
            waiting.search.hear(answer, &self.around, now);
        }
    }

    /// The attributes that the cluster is to be asked for now.
    pub fn asks(&mut self, now: Instant) -> Vec<Attribute> {
        let mut asks = self.router.asks(&self.records, &self.around, now);
        if self.home.asks(now) {
            asks.extend(self.around.node.clone().map(Attribute::Router));
        }
        for waiting in &mut self.waiting {
            asks.extend(waiting.search.asks(&self.around, now));
        }
        asks
    }

    /// Takes note of the nodes' values of an attribute. Returns the resources whose place the cluster is
    /// to be asked for.
    pub fn heard(&mut self, attribute: &Attribute, values: &Values, now: Instant) -> Vec<String> {
        if let Attribute::Cell(vserver) = attribute {
            self.router.told_cell(vserver, values, now);
            for waiting in &mut self.waiting {
                if waiting.search.vserver == *vserver {
                    waiting.search.told(values, now);
                }
            }
        } else if let Attribute::Router(node) = attribute {
            if self.around.node.as_ref() == Some(node) {
                self.home.told(values, &self.records, now);
                self.home.settle(&self.records, &self.around, now);
            } else {
                return self.router.told_claims(node, values, &self.records);
            }
        }
        Vec::new()
    }

    /// Takes note of where the cluster takes a resource to be.
    pub fn located(&mut self, resource: &str, nodes: &[String]) {
        self.router
            .located(resource, nodes, &self.records, &self.around);
    }

    /// The VIPs that are to be announced again.
    pub fn announcements(&mut self) -> BTreeSet<IpAddr> {
        self.router.announcements()
    }

    /// When it is to be called again although nothing happens.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|w| w.search.next());
        let left = self.left.values().min().map(|since| *since + SETTLED);
        let own = [self.home.next(), self.router.next(&self.records), left];
        own.into_iter().flatten().chain(waiting).min()
    }

    /// What to wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.home.fds()
    }

    /// Goes on with what takes time.
    pub fn advance(
        &mut self,
        publisher: &mut Publisher,
        traffic: impl FnOnce() -> io::Result<BTreeMap<IpAddr, u64>>,
        now: Instant,
    ) {
        self.router
            .advance(&self.records, &self.around, traffic, now);
        self.home.advance(&self.records, &self.around, now);
        self.left.retain(|resource, since| {
            let due = now.saturating_duration_since(*since) >= SETTLED;
            if let (true, Some(node)) = (due, &self.around.node) {
                publisher.clean_up(resource, node);
            }
            !due
        });
        let (around, router) = (&self.around, &mut self.router);
        self.waiting.retain(|Waiting { agent, search }| {
            let Some(outcome) = search.outcome(around, now) else {
                return true;
            };
            router.note(&search.vserver, search.vip, &outcome);
            answer(agent, outcome.map_err(|no_way| no_way.reason().to_owned()));
            false
        });
        self.tell(publisher);
    }

    /// Tells the cluster what has changed, and takes back what holds no more.
    fn tell(&mut self, publisher: &mut Publisher) {
        if self.around.node.is_none() || !self.reviewed {
            return;
        }
        let mut attributes = self.router.tells(&self.records);
        for vserver in &self.around.cells {
            attributes.insert(Attribute::Cell(vserver.clone()), "1".to_owned());
        }
        for vserver in self.router.unreached().keys() {
            attributes.insert(Attribute::NoPath(vserver.clone()), "1".to_owned());
        }
        let told = Told {
            attributes: attributes.keys().cloned().collect(),
            unreached: self.router.unreached().clone(),
            left: self.left.keys().cloned().collect(),
        };
        let gone = self.told.attributes.difference(&told.attributes);
        for name in gone {
            publisher.publish(name.clone(), None);
        }
        for (name, value) in attributes {
            publisher.publish(name, Some(value));
        }
        if told != self.told {
            // What was told without being on record would stay after a sudden end.
            let both = Told {
                attributes: &self.told.attributes | &told.attributes,
                ..told.clone()
            };
            let written = serde_json::to_vec(&both).map_err(io::Error::from);
            if let Err(e) = written.and_then(|text| state::replace(&self.file, &text)) {
                log::warn(e);
            }
            self.told = told;
        }
    }
}

fn answer(agent: &Channel, way: Result<crate::address::record::Path, String>) {
    if let Err(e) = agent.send(&Reply::Way(way), None) {
        log::debug(format_args!("answer an agent: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn what_daemons_of_all_versions_leave_can_be_read() {
        formats::check("detours.jsonl", &["told"], |_: &Told| "told");
    }
}
