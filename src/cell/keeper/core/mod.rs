//! What a keeper decides. The core owns no descriptor, no child, no clock and no log: it takes events and returns
//! effects.
//!
//! A turn of the keeper's loop goes like this:
//! ```text
//! on(event)…   notes what has happened
//! reconcile()  brings the present state nearer to the wanted one
//! answer()     answers the agents whose answer is there
//! ```
//! The effects of each call are carried out, in their order, before the next call, so an agent is never told of
//! something that is yet to be done. What follows from an effect at once, such as that a child can't be started, is an
//! event like any other, and calls for another [`Core::reconcile`].

mod answers;
mod cell;
mod effect;
mod event;
mod gate;
mod mount;
mod orders;
mod reconcile;
mod requests;
mod servers;
mod state;
mod terms;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cell::protocol::{Cause, Reply};
use crate::cluster::complaint::Member;
use crate::types::{ResourceId, VserverName};
use cell::Cell;
pub(crate) use effect::{Effect, Effects, Level, RepairSpec};
pub(crate) use event::Event;
use gate::Gate;
use mount::Mounters;
use orders::Orders;
use requests::Until;
use servers::Servers;
pub(crate) use terms::{Admission, ClientId, Found, MountTask, Mounted, MounterId};
use volume::{Phase, Volume};

/// How long a keeper without a member waits for the first one.
const FIRST_MEMBER_LIMIT: Duration = Duration::from_secs(10);

/// How long the servers may take to end when the node is shut down, and after them the file systems.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// After this long it is tried again to start a sentinel: what was lacking may be there.
const SENTINEL_PAUSE: Duration = Duration::from_secs(5);

/// The state of the cell's control groups.
#[derive(Debug, Default)]
struct Groups {
    /// Whether a cell can be started.
    made: bool,
    /// Whether the wanted limits are in force, as far as they can be.
    settled: bool,
    /// Why the limits are not in force, or not all of them.
    missing: Option<String>,
}

/// What a keeper knows, and what agents have asked it for.
#[derive(Debug)]
pub(crate) struct Core {
    vserver: VserverName,
    /// Agents that wait for an answer: for what, and until when.
    waiting: BTreeMap<ClientId, (Until, Instant)>,
    volumes: BTreeMap<ResourceId, Volume>,
    mounters: Mounters,
    servers: Option<Servers>,
    /// Where the servers' home was attached when it was last found.
    last_home: Option<PathBuf>,
    cell: Option<Cell>,
    orders: Orders,
    groups: Groups,
    /// The rules for connections to the cell.
    gate: Gate,
    /// When the cell that is being built must be ready.
    build_until: Option<Instant>,
    /// Members that were reported to Pacemaker as degraded.
    degraded: BTreeSet<ResourceId>,
    /// No sentinel could be started: when that is tried again.
    sentinel_at: Option<Instant>,
    /// When it ends if nobody has become a member.
    idle_until: Option<Instant>,
    /// It is on its way out: nothing new is begun.
    ending: bool,
}

impl Core {
    /// The core of the keeper of `vserver`, before any agent has asked for anything.
    pub(crate) fn new(vserver: VserverName, now: Instant) -> Self {
        Self {
            vserver,
            waiting: BTreeMap::new(),
            volumes: BTreeMap::new(),
            mounters: Mounters::default(),
            servers: None,
            last_home: None,
            cell: None,
            orders: Orders::default(),
            groups: Groups::default(),
            gate: Gate::default(),
            build_until: None,
            degraded: BTreeSet::new(),
            sentinel_at: None,
            idle_until: Some(now + FIRST_MEMBER_LIMIT),
            ending: false,
        }
    }

    /// Takes an event that has happened at `now`, and adds what is to be done at once.
    pub(crate) fn on(&mut self, event: Event, now: Instant, out: &mut Effects) {
        match event {
            Event::Request(client, request) => {
                let until = self.on_request(client, *request, now, out);
                self.waiting.insert(client, until);
            }
            Event::ClientGone(client) => {
                self.waiting.remove(&client);
            }
            Event::Shutdown => self.shut_down(now, out),
            Event::Groups {
                made,
                settled,
                missing,
            } => {
                self.groups = Groups {
                    made,
                    settled,
                    missing,
                }
            }
            Event::NoMounter { mounter, why } => self.have_no_mounter(mounter, &why, out),
            Event::MountEnded { mounter, outcome } => self.mounted(mounter, outcome, now, out),
            Event::MounterDead(mounter) => self.mounters.forget(mounter),
            Event::NoRepair {
                resource,
                cause,
                why,
            } => {
                if let Some(held) = self.volumes.get_mut(&resource) {
                    let why = format!("its repair can't be started on this node: {why}");
                    held.have_no_repair(cause, why);
                }
            }
            Event::RepairGoesOn { resource, progress } => {
                if let Some(held) = self.volumes.get_mut(&resource) {
                    held.repair_goes_on(progress);
                }
            }
            Event::RepairEnded {
                resource,
                stage,
                outcome,
            } => {
                if let Some(held) = self.volumes.get_mut(&resource) {
                    held.repair_ended(stage, outcome, now, (&mut self.mounters, out));
                }
            }
            Event::CellSpawned(init) => {
                if let Some(cell) = &mut self.cell {
                    cell.init = Some(init);
                }
            }
            Event::NoCell(why) => {
                (self.cell, self.build_until) = (None, None);
                self.break_cell(&format!("start the cell's PID 1: {why}"), out);
            }
            Event::CellConnected => {
                if let Some(cell) = &mut self.cell {
                    cell.connected = true;
                }
            }
            Event::NotConnected(why) => {
                self.break_cell(&format!("connect the cell's network: {why}"), out);
            }
            Event::Cell(event) => self.take(event, out),
            Event::CellGarbled(why) => {
                out.error(format_args!("the cell's PID 1 is not understood: {why}"));
                self.kill_cell(out);
            }
            Event::CellDead => self.lose_cell("its PID 1 has died", out),
            Event::NotOrdered { number, why } => self.not_ordered(number, &why, out),
            Event::Admitted(admission) => self.gate.finish(admission, now, out),
            Event::Own(own) => self.gate.see(own),
            Event::SentinelDead => {
                out.warn("the sentinel has died; starting another one");
                self.spawn_sentinel(out);
            }
            Event::NoSentinel(why) => {
                out.error(format_args!("start the sentinel: {why}"));
                self.sentinel_at = Some(now + SENTINEL_PAUSE);
            }
        }
    }

    /// When [`Core::reconcile`] and [`Core::answer`] are due by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let clients = self.waiting.values().map(|(_, until)| *until);
        // A killed cell needs no time limits: everything in it ends with PID 1.
        let killed = self.cell.as_ref().is_some_and(|cell| cell.killed);
        // A file system that is not in the cell yet is given up as soon as its child is gone.
        let in_cell = self.volumes.values().filter(|h| h.is_in_cell() && !killed);
        let servers = self.servers.as_ref().filter(|_| !killed);
        clients
            .chain(in_cell.filter_map(|held| held.leaving))
            .chain(servers.and_then(|servers| Some(servers.leaving?.1)))
            .chain(self.volumes.values().filter_map(Volume::due))
            .chain(self.idle_until)
            .chain(self.build_until)
            .chain(self.sentinel_at)
            .min()
    }

    /// Whether the keeper is ending: nothing new is begun.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Whether there is nothing left to do but to let reports to Pacemaker finish.
    pub(crate) fn is_over(&self) -> bool {
        let is_told = self.mounters.is_empty() || self.waiting.is_empty();
        self.ending && self.cell.is_none() && is_told
    }

    /// A number for an order that is given to PID 1 without an [`Effect::Order`].
    pub(crate) fn order_number(&mut self) -> u64 {
        self.orders.number()
    }

    /// The members that are to be reported if the keeper dies: all but those that are being stopped.
    pub(crate) fn watched(&self) -> Vec<Member> {
        let volumes = self.volumes.values().filter(|h| h.leaving.is_none());
        let servers = self.servers.iter().filter(|s| s.leaving.is_none());
        let members = volumes.map(|h| &h.member).chain(servers.map(|s| &s.member));
        members.cloned().collect()
    }

    fn tell_sentinel(&self, out: &mut Effects) {
        out.push(Effect::Watch(self.watched()));
    }

    fn spawn_sentinel(&mut self, out: &mut Effects) {
        self.sentinel_at = None;
        out.push(Effect::SpawnSentinel);
        self.tell_sentinel(out);
    }

    /// Ends the cell in order, and reports nothing: the node is going down.
    fn shut_down(&mut self, now: Instant, out: &mut Effects) {
        for held in self.volumes.values_mut() {
            held.leaving.get_or_insert(now + SHUTDOWN_LIMIT * 2);
        }
        if let Some(servers) = &mut self.servers {
            let leaving = (SHUTDOWN_LIMIT / 2, now + SHUTDOWN_LIMIT);
            servers.leaving.get_or_insert(leaving);
        }
        self.tell_sentinel(out);
    }

    fn mounted(
        &mut self,
        mounter: MounterId,
        outcome: Result<Mounted, String>,
        now: Instant,
        out: &mut Effects,
    ) {
        let waits = |held: &&mut Volume| held.phase == Phase::Mounting(mounter);
        if let Some(held) = self.volumes.values_mut().find(waits) {
            if held.leaving.is_none() {
                held.mounted(mounter, outcome, now, (&mut self.mounters, out));
                return;
            }
            // The child had its result before it was killed: nothing new is begun.
            held.phase = Phase::Failed(Cause::Failed, "stopped".to_owned());
        }
        // Nobody waits for this mount any more.
        if matches!(outcome, Ok(Mounted::Done(_))) {
            out.push(Effect::DropMount(mounter));
        }
    }

    fn have_no_mounter(&mut self, mounter: MounterId, why: &str, out: &mut Effects) {
        self.mounters.forget(mounter);
        let waits = |held: &&mut Volume| held.phase == Phase::Mounting(mounter);
        let Some(held) = self.volumes.values_mut().find(waits) else {
            return;
        };
        let why = format!("start a child: {why}");
        if !held.is_unanswered() {
            held.phase = Phase::Failed(Cause::Failed, why);
            return;
        }
        // Nothing was begun, so the resource has not become a member.
        let resource = held.member.resource.clone();
        self.volumes.remove(&resource);
        for (until, _) in self.waiting.values_mut() {
            if matches!(until, Until::Attached(of) if *of == resource) {
                *until = Until::Now(Reply::refused(Cause::Failed, why.clone()));
            }
        }
        self.tell_sentinel(out);
    }
}
