//! The keeper: the one host-side process of a cell. Agents tell it what they want, and it brings that about as soon as
//! possible.
//!
//! One thread and one poll loop, which never waits for anything else: children do what may block. [`core`] decides
//! what is to be done; this module has what that takes: descriptors, children, and the clock.

mod cell;
mod cgroup;
mod claim;
mod core;
mod effects;
mod examine;
mod gate;
mod mounting;
mod names;
pub mod repair;
mod report;
pub(crate) mod rules;
pub(crate) mod sentinel;
mod start;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::protocol::{Cause, Reply, Request};
use crate::cell::init::protocol;
use crate::cell::keeper::core::{Admission, ClientId, Core, Effects, Event, Mounted, MounterId};
use crate::cell::keeper::repair::Repair;
use crate::cell::keeper::sentinel::Sentinel;
use crate::log;
use crate::runtime::channel::{Channel, Received};
use crate::runtime::job::{self, Job};
use crate::runtime::listener::Listener;
use crate::runtime::poller::Poller;
use crate::sys::announce::repeat::Announcing;
use crate::types::{ResourceId, VserverName};
use cell::Cell;
use cgroup::Cgroup;
use names::Names;
pub(crate) use start::main;

/// How often the keeper tries to reap children that were killed.
const LEFTOVER_PAUSE: Duration = Duration::from_millis(50);

/// An agent's connection.
struct Client {
    channel: Channel,
    /// The descriptor that came with the agent's request, until the request is carried out.
    brought: Option<OwnedFd>,
}

struct Keeper {
    vserver: VserverName,
    core: Core,
    listener: Option<Listener>,
    signals: SignalFd,
    /// The sentinel; `None` if one has died and no other one could be started yet.
    sentinel: Option<Sentinel>,
    clients: BTreeMap<ClientId, Client>,
    /// The number of the last client.
    last_client: u64,
    /// Children that mount, until their result is known.
    mounting: BTreeMap<MounterId, Job<Mounted>>,
    /// Mounts that these children have made and that are not attached anywhere yet.
    mounts: BTreeMap<MounterId, OwnedFd>,
    /// Children whose result is known, until they are dead.
    mounters: Vec<(MounterId, Pid)>,
    /// Repairs, by their resources.
    repairs: BTreeMap<ResourceId, Repair>,
    cell: Option<Cell>,
    cgroup: Cgroup,
    /// The child that changes the rules for connections to the cell.
    admission: Option<Job<Admission>>,
    /// The node's name services that the cell was shown.
    names: Names,
    /// VIPs to be announced again.
    announcing: Announcing,
    /// Failure reports on their way to Pacemaker.
    reports: Vec<Job<()>>,
    /// Children that are only to be reaped.
    leftover: Vec<Pid>,
}

impl Keeper {
    /// Serves until the last member has left and the cell has ended.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.handle_signals();
            self.handle_cell();
            self.handle_names();
            self.finish_jobs();
            self.accept();
            self.handle_clients();
            self.arrange_cgroup();
            while self.act(Core::reconcile) {}
            self.act(Core::answer);
            self.announce();
            self.tidy();
            if self.core.is_over() && self.reports.is_empty() {
                return Ok(());
            }
        }
    }

    /// Has the core decide something, and carries out the effects. Returns whether an event has followed at once.
    fn act(&mut self, decide: impl FnOnce(&mut Core, Instant, &mut Effects)) -> bool {
        let mut effects = Effects::default();
        decide(&mut self.core, Instant::now(), &mut effects);
        self.carry_out(effects)
    }

    /// Passes an event to the core, and carries out the effects.
    fn tell(&mut self, event: Event) {
        self.act(|core, now, effects| core.on(event, now, effects));
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let mut poller = Poller::default();
        poller.read((), [self.signals.as_fd()]);
        if !self.core.is_ending() {
            // Readable when the sentinel has died.
            poller.read((), self.sentinel.iter().map(|s| s.channel.as_fd()));
        }
        if let Some(listener) = &self.listener {
            poller.read((), listener.fd(self.clients.len(), now));
            poller.until(listener.next(now));
        }
        poller.read((), self.clients.values().map(|c| c.channel.as_fd()));
        poller.read((), self.reports.iter().map(AsFd::as_fd));
        // What follows a mount needs the control groups.
        if self.cgroup.is_made() {
            poller.read((), self.mounting.values().map(AsFd::as_fd));
        }
        poller.read((), self.repairs.values().flat_map(Repair::fds));
        poller.until(self.repairs.values().filter_map(Repair::deadline));
        poller.read((), self.cgroup.fd());
        poller.exceptional((), self.cgroup.events(now));
        poller.until(self.cgroup.due(now));
        poller.read((), self.admission.iter().map(AsFd::as_fd));
        if let Some(cell) = &self.cell {
            poller.read((), [cell.channel(), cell.process()]);
            poller.read((), self.names.fd());
        }
        poller.until(self.core.due());
        poller.until(self.announcing.next());
        if !(self.leftover.is_empty() && self.mounters.is_empty()) {
            // Children that were killed are reaped by and by.
            poller.until([now + LEFTOVER_PAUSE]);
        }
        poller.wait().map(drop)
    }

    /// Reads signals. One to end means that the node is going down.
    fn handle_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let ends = [libc::SIGTERM, libc::SIGINT].map(|s| s as u32);
            // SIGCHLD has only to wake the loop, which reaps children elsewhere. SIGHUP is ignored.
            if !ends.contains(&signal.ssi_signo) {
                continue;
            }
            log::info(format_args!("ending on signal {}", signal.ssi_signo));
            self.tell(Event::Shutdown);
        }
    }

    fn handle_cell(&mut self) {
        while let Some(cell) = &self.cell {
            match cell.next_report() {
                Ok(Some(protocol::Event::Done { number, result })) => {
                    if !self.names.done(number, &result) {
                        self.tell(Event::Cell(protocol::Event::Done { number, result }));
                    }
                }
                Ok(Some(event)) => self.tell(Event::Cell(event)),
                Ok(None) if cell.is_alive() => return,
                Ok(None) => return self.tell(Event::CellDead),
                Err(e) => return self.tell(Event::CellGarbled(e.to_string())),
            }
        }
    }

    fn announce(&mut self) {
        if let Err(e) = self.announcing.send(Instant::now()) {
            log::warn(e);
        }
    }

    /// Takes the results of children that have ended.
    fn finish_jobs(&mut self) {
        if let Some((pid, admission)) = self.admission.as_ref().and_then(gate::admission) {
            self.admission = None;
            self.leftover.push(pid);
            self.tell(Event::Admitted(admission));
        }
        if !self.cgroup.is_made() {
            return;
        }
        self.advance_repairs();
        self.finish_mounting();
    }

    fn finish_mounting(&mut self) {
        let ended = |(mounter, job): (&MounterId, &Job<Mounted>)| {
            Some((*mounter, job.pid(), mounting::outcome(job)?))
        };
        let ended: Vec<_> = self.mounting.iter().filter_map(ended).collect();
        for (mounter, pid, (outcome, mount)) in ended {
            self.mounting.remove(&mounter);
            self.mounters.push((mounter, pid));
            self.mounts.extend(mount.map(|mount| (mounter, mount)));
            self.tell(Event::MountEnded { mounter, outcome });
        }
        let mounters = std::mem::take(&mut self.mounters).into_iter();
        let (dead, alive) = mounters.partition(|(_, pid)| job::reap(*pid));
        self.mounters = alive;
        let dead: Vec<(MounterId, Pid)> = dead;
        for (mounter, _) in dead {
            self.tell(Event::MounterDead(mounter));
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let connected = listener.accept(self.clients.len(), Instant::now());
        for channel in connected {
            self.last_client += 1;
            let client = Client {
                channel,
                brought: None,
            };
            self.clients.insert(ClientId(self.last_client), client);
        }
    }

    fn handle_clients(&mut self) {
        let ids: Vec<ClientId> = self.clients.keys().copied().collect();
        for id in ids {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            match client.channel.receive::<Request>() {
                Ok(Received::Nothing) => {}
                Ok(Received::Message(request, fd)) => {
                    client.brought = fd;
                    self.tell(Event::Request(id, Box::new(request)));
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.brought = None;
                    }
                }
                Ok(Received::Closed) => {
                    self.clients.remove(&id);
                    self.tell(Event::ClientGone(id));
                }
                Err(e) => {
                    log::warn(format_args!("refused a request: {e}"));
                    let why = format!("the keeper is of another version than the agent: {e}");
                    let reply = Reply::refused(Cause::Version, why);
                    if let Err(e) = client.channel.send(&reply, None) {
                        log::debug(format_args!("answer an agent: {e}"));
                    }
                    self.clients.remove(&id);
                    self.tell(Event::ClientGone(id));
                }
            }
        }
    }

    /// Reaps children that have ended.
    fn tidy(&mut self) {
        let leftover = &mut self.leftover;
        self.reports.retain(|job| match job.outcome() {
            None => true,
            Some(_) => {
                leftover.push(job.pid());
                false
            }
        });
        self.leftover.retain(|pid| !job::reap(*pid));
        let is_watching = !self.core.is_ending();
        if is_watching && self.sentinel.take_if(|s| job::reap(s.pid)).is_some() {
            self.tell(Event::SentinelDead);
        }
    }
}
