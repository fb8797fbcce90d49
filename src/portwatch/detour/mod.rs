//! Carries out what [`plan::detour`] decides: probes neighbours, queries the cluster, changes VIPs.
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
use crate::types::VserverName;

/// A node has a few hundred virtual servers at the most.
const LIMIT: u64 = 1 << 20;
/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(5);
/// How long the daemon may wait for the lock when it ends.
const LAST_TURN: Duration = Duration::from_secs(1);

/// The parts of the daemon that carry out what detours decide.
pub(crate) struct Hands<'d> {
    /// Queries the cluster and publishes attributes.
    pub(crate) publisher: &'d mut Publisher,
    /// Probes neighbours.
    pub(crate) prober: &'d NeighbourProber,
    /// Has the VIPs' records and counters, and announces VIPs.
    pub(crate) mover: &'d mut Mover,
}

/// The detours of this node: the core that decides, and what it takes to carry that out.
#[derive(Debug)]
pub(crate) struct Detours {
    core: detour::Detours,
    runtime: PathBuf,
    cells: Cells,
    /// The agents that wait for a path.
    askers: BTreeMap<Asker, Channel>,
    last_asker: Asker,
}

/// What changes the VIP whose record has this name.
fn service<'n>(runtime: &Path, name: &'n str) -> Service<'n> {
    Service::new(name, Instant::now() + CHANGE).in_directory(runtime)
}

fn file(runtime: &Path) -> PathBuf {
    runtime.join("detours.json")
}

impl Detours {
    /// Continues from what the previous daemon has saved.
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

    /// What the core knows of detours, for people and tests.
    pub(crate) fn overview(&self, now: Instant) -> Overview {
        self.core.overview(now)
    }

    /// Keeps an agent that waits for a path until that is known.
    pub(crate) fn keep(&mut self, agent: Channel) -> Asker {
        self.last_asker += 1;
        self.askers.insert(self.last_asker, agent);
        self.last_asker
    }

    /// When [`Event::Tick`] is due although nothing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.core.next()
    }

    /// The descriptors to poll for input: [`Self::advance`] is due then.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.cells.fds()
    }

    /// The events that children's results have led to since the last call.
    pub(crate) fn advance(&mut self) -> Vec<Event> {
        let over = self.cells.advance();
        over.into_iter().filter_map(|v| self.found(v)).collect()
    }

    fn found(&self, vserver: VserverName) -> Option<Event> {
        let found = self.cells.network(&vserver)?;
        let found = found.map(drop).map_err(str::to_owned);
        Some(Event::CellFound(vserver, found))
    }

    /// Passes an event to the core, carries out what it decides, and passes on what comes of that.
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

    /// Carries out an effect. Returns the event that follows from it, if it is known at once.
    fn perform(
        &mut self,
        effect: Effect,
        hands: &mut Hands<'_>,
        turn: &mut Turn<'_>,
        now: Instant,
    ) -> Option<Event> {
        match effect {
            Effect::Probe(probe) => {
                // A port that can't send counts as silent in time: no replies come.
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

    /// Makes the change if the lock is free.
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

    /// Makes the change. Returns whether the record was still as the change requires.
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

    /// Ends the routing of these records even if packets still arrive: nobody would end it later. The daemon has
    /// nothing else to do any more, so it can wait for the lock.
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
