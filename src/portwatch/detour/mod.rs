//! What [`plan::detour`] decides on is done here: neighbours are probed, the cluster is queried, VIPs are changed.
//!
//! [`plan::detour`]: crate::plan::detour

mod cells;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::cells::Cells;
use self::turn::Turn;
use super::mover::Mover;
use super::protocol;
use super::publisher::Publisher;
use crate::address::location::CellLocation;
use crate::address::lock::lock;
use crate::address::service::Service;
use crate::log;
use crate::ocf::Error;
use crate::plan::detour::{
    self, Asker, Change, Effect, Event, Level, NodeView, Outcome, Overview, Reconcile, Saved,
};
use crate::plan::vip::record::Record;
use crate::plan::vip::record::TransitPath;
use crate::runtime::channel::Channel;
use crate::sys::announce::NeighbourProber;
use crate::sys::lock::Lock;
use crate::sys::state;

/// A node has a few hundred virtual servers at the most.
const LIMIT: u64 = 1 << 20;
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(5);
/// How long a daemon that ends may wait for the lock.
const LAST_TURN: Duration = Duration::from_secs(1);

/// Those of the daemon's parts that work for detours too.
pub(crate) struct Hands<'d> {
    /// It queries the cluster, and tells it.
    pub(crate) publisher: &'d mut Publisher,
    /// It probes neighbours.
    pub(crate) prober: &'d NeighbourProber,
    /// It knows what VIPs move, and announces them.
    pub(crate) mover: &'d mut Mover,
}

/// The detours of this node, and what they work with.
#[derive(Debug)]
pub(crate) struct Detours {
    core: detour::Detours,
    runtime: PathBuf,
    cells: Cells,
    /// The agents that wait for a path.
    askers: BTreeMap<Asker, Channel>,
    last_asker: Asker,
}

/// What is done for the VIP whose record has this name.
fn service<'n>(runtime: &Path, name: &'n str) -> Service<'n> {
    Service::new(name, Instant::now() + CHANGE).in_directory(runtime)
}

fn file(runtime: &Path) -> PathBuf {
    runtime.join("detours.json")
}

impl Detours {
    /// Goes on where the daemon before this one ended.
    pub(crate) fn new(runtime: &Path, view: NodeView, now: Instant) -> Self {
        let read = || -> Option<Saved> {
            serde_json::from_slice(&state::read(&file(runtime), LIMIT).ok()?).ok()
        };
        Self {
            core: detour::Detours::new(read().unwrap_or_default(), view, now),
            runtime: runtime.to_owned(),
            cells: Cells::default(),
            askers: BTreeMap::new(),
            last_asker: 0,
        }
    }

    /// What is known of them.
    pub(crate) fn overview(&self, now: Instant) -> Overview {
        self.core.overview(now)
    }

    /// Keeps an agent that waits for a path until that is known.
    pub(crate) fn keep(&mut self, agent: Channel) -> Asker {
        self.last_asker += 1;
        self.askers.insert(self.last_asker, agent);
        self.last_asker
    }

    /// When it is to be told that time has passed.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.core.next()
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cells.fds()
    }

    /// What has happened since the last call.
    pub(crate) fn advance(&mut self) -> Vec<Event> {
        let over = self.cells.advance();
        over.into_iter().filter_map(|v| self.found(v)).collect()
    }

    fn found(&self, vserver: String) -> Option<Event> {
        let found = self.cells.network(&vserver)?;
        let found = found.map(drop).map_err(str::to_owned);
        Some(Event::CellFound(vserver, found))
    }

    /// Has the core take note of what has happened, and does what follows.
    pub(crate) fn on(&mut self, event: Event, hands: &mut Hands<'_>, now: Instant) {
        let mut events = VecDeque::from([event]);
        let runtime = self.runtime.clone();
        while let Some(event) = events.pop_front() {
            let mut effects = Vec::new();
            self.core.on(event, now, &mut effects);
            let mut turn = Turn::new(&runtime);
            for effect in effects {
                events.extend(self.perform(effect, hands, &mut turn, now));
            }
        }
    }

    /// Does it; returns what has come of it, where that is known at once.
    fn perform(
        &mut self,
        effect: Effect,
        hands: &mut Hands<'_>,
        turn: &mut Turn<'_>,
        now: Instant,
    ) -> Option<Event> {
        match effect {
            Effect::Probe(probe) => {
                // A port that can't send will have replies missing.
                hands.prober.send(&probe).unwrap_or_else(log::debug);
            }
            Effect::Query(attribute) => hands.publisher.query(attribute),
            Effect::Publish(attribute, value) => hands.publisher.publish(attribute, value),
            Effect::Save(saved) => self.save(&saved).unwrap_or_else(log::warn),
            Effect::Reconcile(reconcile) => {
                let Reconcile { instance, change } = *reconcile;
                let outcome = self.reconcile(&instance, change, turn);
                return Some(Event::Reconciled { instance, outcome });
            }
            Effect::FindCell(vserver) => {
                self.cells.find(&vserver);
                return self.found(vserver);
            }
            Effect::ReleaseCell(vserver) => self.cells.forget(&vserver),
            Effect::Locate(resource) => hands.publisher.locate(resource),
            Effect::Measure => match hands.mover.traffic() {
                Ok(bytes) => return Some(Event::Traffic(bytes)),
                Err(e) => log::warn(format_args!("measure loads: {e}")),
            },
            Effect::CleanUp { resource, node } => hands.publisher.clean_up(&resource, &node),
            Effect::Announce(vip) => hands.mover.announce_anew([vip], now),
            Effect::Answer(asker, path) => self.answer(asker, path),
            Effect::EndRouting(records) => self.end_routing(&records),
            Effect::Log(Level::Info, text) => log::info(text),
            Effect::Log(Level::Warning, text) => log::warn(text),
            Effect::Log(Level::Error, text) => log::error(text),
        }
        None
    }

    fn save(&self, saved: &Saved) -> io::Result<()> {
        state::replace(&file(&self.runtime), &serde_json::to_vec(saved)?)
    }

    fn answer(&mut self, asker: Asker, path: Result<TransitPath, String>) {
        let Some(agent) = self.askers.remove(&asker) else {
            return;
        };
        if let Err(e) = agent.send(&protocol::Reply::Path(path), None) {
            log::debug(format_args!("answer an agent: {e}"));
        }
    }

    /// Makes the change, if nobody else changes anything at this moment.
    fn reconcile(&self, instance: &str, change: Change, turn: &mut Turn<'_>) -> Outcome {
        let Some(lock) = turn.lock() else {
            return Outcome::Busy;
        };
        match self.change(&service(&self.runtime, instance), lock, change) {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Stale,
            Err(e) => Outcome::Failed(e.to_string()),
        }
    }

    /// Makes the change; says whether that was still to be done.
    fn change(&self, service: &Service<'_>, lock: &Lock, change: Change) -> Result<bool, Error> {
        let network = |vserver: &str| {
            let network = self.cells.network(vserver).and_then(Result::ok);
            network.ok_or_else(|| Error::failed(format!("{vserver}'s cell is not at hand")))
        };
        match change {
            Change::Route { before, path } => {
                let place = CellLocation::There(path);
                service.reconcile_if_unchanged(lock, Some(&before), &before.spec, &place)
            }
            Change::Follow { before, spec, hop } => {
                let place = CellLocation::Detour(network(&spec.vserver)?, hop);
                service.reconcile_if_unchanged(lock, before.as_ref(), &spec, &place)
            }
            Change::GiveUp { before, why } => service.give_up(lock, &before, &why),
            Change::Clear { before, in_cell } => {
                let network = in_cell.then(|| network(&before.spec.vserver));
                service.clear_if(lock, &before, network.transpose()?)
            }
            Change::Forget { before } => {
                service.forget_if(lock, &before);
                Ok(true)
            }
        }
    }

    /// Ends routing, whatever still comes: nobody would end it later. Nothing else is left to do for the daemon, so
    /// that it can wait for the lock.
    fn end_routing(&self, records: &BTreeMap<String, Record>) {
        let lock = match lock(&self.runtime, Instant::now() + LAST_TURN) {
            Ok(lock) => lock,
            Err(e) => return log::warn(format_args!("end the routing: {e}")),
        };
        for (name, record) in records {
            if let Err(e) = service(&self.runtime, name).clear_if(&lock, record, None) {
                let vip = record.spec.vip;
                log::warn(format_args!("end the routing of {vip}: {e}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn an_attribute_of_a_later_version_costs_nothing_else_of_what_is_saved() {
        let text = r#"{"attributes":["berth-router-n1","berth-later-n1"],"unreached":{},"left":["alpha-ip1"]}"#;
        let saved: Saved = serde_json::from_str(text).unwrap();
        let known: Vec<String> = saved.attributes.iter().map(|a| a.name()).collect();
        assert_eq!(known, ["berth-router-n1"]);
        assert!(saved.left.contains("alpha-ip1"));
    }

    #[test]
    fn what_daemons_of_all_versions_leave_can_be_read() {
        formats::check("detours.jsonl", &["told"], |_: &Saved| "told");
    }
}
