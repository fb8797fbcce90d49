//! The keeper: the one host-side process of a cell. It is told what is wanted, and brings it about as
//! soon as it is possible.
//!
//! One thread and one poll loop, which never waits for anything else: what may block is done by
//! children.

mod cell;
mod cgroup;
mod claim;
mod examine;
mod gate;
mod mounting;
mod names;
mod reconcile;
pub mod repair;
mod report;
mod requests;
pub mod sentinel;
mod servers;
mod start;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use self::sentinel::Sentinel;
use super::init::order::Event;
use super::network;
use super::protocol::{Cause, Reply, Request};
use super::refused::Refused;
use crate::log;
use crate::runtime::channel::{Channel, Received};
use crate::runtime::job::{self, Job};
use crate::runtime::listener::Listener;
use crate::sys::announce::repeat::Announcing;
use cell::Cell;
use cgroup::Cgroup;
use gate::Gate;
use names::Names;
use requests::Until;
use servers::Servers;
pub use start::main;
use volume::{Held, Phase};

/// How long a keeper without a member waits for the first one.
const FIRST_MEMBER_LIMIT: Duration = Duration::from_secs(10);

/// How long the servers may take to end when the node is shut down, and then the file systems.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// An agent's connection.
struct Client {
    channel: Channel,
    /// What it waits for, and until when.
    until: Option<(Until, Instant)>,
}

struct Keeper {
    vserver: String,
    listener: Option<Listener>,
    signals: SignalFd,
    guard: Sentinel,
    clients: Vec<Client>,
    volumes: BTreeMap<String, Held>,
    servers: Option<Servers>,
    /// Where the home of the servers was the last time it was found.
    last_home: Option<PathBuf>,
    cell: Option<Cell>,
    cgroup: Cgroup,
    /// What the cell's network lets in.
    gate: Gate,
    /// What the cell was shown of the node's name services.
    names: Names,
    /// When the cell that is being built must be ready.
    build_until: Option<Instant>,
    /// VIPs to be announced again.
    announcing: Announcing,
    /// Failure reports on their way to Pacemaker.
    reports: Vec<Job<()>>,
    /// Members of which Pacemaker was told that they are degraded.
    degraded: BTreeSet<String>,
    /// Children that have nothing more to say.
    leftover: Vec<Pid>,
    /// Those that mounted, and for which resource, until they are dead: one that was killed is known to have ended
    /// before it has let its device go.
    mounters: Vec<(String, Pid)>,
    /// When it ends if nobody has become a member.
    idle_until: Option<Instant>,
    /// It is on its way out: nothing new is begun.
    ending: bool,
}

impl Keeper {
    /// Serves until the last member has left and the cell has ended.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.hear_signals();
            self.hear_cell();
            self.hear_names();
            self.finish_jobs();
            self.accept();
            self.hear_clients();
            self.arrange_cgroup();
            self.reconcile();
            self.answer_clients();
            self.announce();
            self.tidy();
            let is_told =
                self.mounters.is_empty() || self.clients.iter().all(|c| c.until.is_none());
            if self.ending && self.cell.is_none() && self.reports.is_empty() && is_told {
                return Ok(());
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![readable(&self.signals)];
        if !self.ending {
            // Readable when the guard has died.
            fds.push(readable(&self.guard.channel));
        }
        let listener = self.listener.as_ref();
        let listener = listener.and_then(|listener| listener.fd(self.clients.len()));
        fds.extend(listener.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.clients.iter().map(|c| readable(&c.channel)));
        fds.extend(self.reports.iter().map(readable));
        for held in self.volumes.values() {
            match &held.phase {
                // Where it goes on from that takes the groups.
                Phase::Mounting(job) if self.cgroup.is_made() => fds.push(readable(job)),
                Phase::Repairing(repair) => {
                    let repair = repair.fds().into_iter();
                    fds.extend(repair.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
                }
                _ => {}
            }
        }
        let cgroup = self.cgroup.fd();
        fds.extend(cgroup.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let events = self.cgroup.events(Instant::now());
        fds.extend(events.map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        fds.extend(self.gate.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        if let Some(cell) = &self.cell {
            fds.push(PollFd::new(cell.channel(), PollFlags::POLLIN));
            fds.push(PollFd::new(cell.process(), PollFlags::POLLIN));
            let names = self.names.fd();
            fds.extend(names.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Until the next thing that happens by time alone.
    fn timeout(&self) -> PollTimeout {
        let clients = self
            .clients
            .iter()
            .filter_map(|c| Some(c.until.as_ref()?.1));
        // One that is not in the cell yet is let go of as soon as its child is gone.
        let killed = self.cell.as_ref().is_some_and(|cell| cell.killed);
        let in_cell = self.volumes.values().filter(|h| h.is_in_cell() && !killed);
        let volumes = in_cell.filter_map(|h| h.leaving);
        // Children that were killed are looked after now and then.
        let leftover = !(self.leftover.is_empty() && self.mounters.is_empty());
        let leftover = leftover.then(|| Instant::now() + Duration::from_millis(50));
        let due = self.volumes.values().filter_map(Held::due);
        let servers = self.servers.as_ref().filter(|_| !killed);
        let servers = servers.and_then(|s| Some(s.leaving?.1));
        let next = clients
            .chain(volumes)
            .chain(servers)
            .chain(due)
            .chain(self.announcing.next())
            .chain(self.listener.as_ref().and_then(Listener::next))
            .chain(self.cgroup.due(Instant::now()))
            .chain(self.idle_until)
            .chain(self.build_until);
        let Some(next) = next.chain(leftover).min() else {
            return PollTimeout::NONE;
        };
        let left = next.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    }

    /// A signal to end means the node is going down: the cell ends in good order, nothing is
    /// reported.
    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let ends = [libc::SIGTERM, libc::SIGINT].map(|s| s as u32);
            // A child's end is only a reason to look around; a terminal's is none for anything.
            if !ends.contains(&signal.ssi_signo) {
                continue;
            }
            log::info(format_args!("ending on signal {}", signal.ssi_signo));
            let now = Instant::now();
            for held in self.volumes.values_mut() {
                held.leaving.get_or_insert(now + SHUTDOWN_LIMIT * 2);
            }
            if let Some(servers) = &mut self.servers {
                let leaving = (SHUTDOWN_LIMIT / 2, now + SHUTDOWN_LIMIT);
                servers.leaving.get_or_insert(leaving);
            }
            self.tell_guard();
        }
    }

    fn hear_cell(&mut self) {
        while let Some(cell) = &mut self.cell {
            match cell.hear() {
                Ok(Some(event)) => self.take(event),
                Ok(None) if cell.is_alive() => return,
                Ok(None) => return self.lose_cell("its PID 1 has died"),
                Err(e) => {
                    log::error(format_args!("the cell's PID 1 is not understood: {e}"));
                    cell.kill();
                    return;
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Separate => {
                let connected = self.cell.as_mut().map(|cell| cell.connect(&self.vserver));
                if let Some(Err(e)) = connected {
                    self.break_cell(&format!("connect the cell's network: {e}"));
                }
            }
            Event::Ready => {
                self.build_until = None;
                if let Some(cell) = &mut self.cell {
                    cell.ready = true;
                }
                self.names = Names::default();
                self.show_names();
            }
            Event::Broken(why) => self.break_cell(&format!("build the cell: {why}")),
            Event::Done { number, result } => self.done(number, result),
            Event::Refused { server, what } => log::warn(format_args!("{server}: {what}")),
            Event::Warned(what) => log::warn(what),
            Event::Said { server, line } => log::info(format_args!("{server}: {line}")),
            Event::Died { server, how } => self.lose_server(&server, &how),
        }
    }

    /// The cell can't be used: it is ended, and all that was to live in it has failed.
    fn break_cell(&mut self, why: &str) {
        log::error(why);
        for held in self.volumes.values_mut() {
            self.leftover.extend(held.cut_off());
            held.phase = Phase::Failed(Cause::Failed, why.to_owned());
        }
        if let Some(servers) = &mut self.servers {
            servers.lose(why);
        }
        if let Some(cell) = &mut self.cell {
            cell.kill();
        }
    }

    /// A server has ended by itself: Pacemaker is told at once, and restarts them all.
    fn lose_server(&mut self, server: &str, how: &str) {
        let Some(servers) = self.servers.as_mut().filter(|s| s.leaving.is_none()) else {
            return;
        };
        let known = servers.fault().is_some();
        servers.fail(Cause::Failed, format!("server {server} has ended: {how}"));
        if !known {
            let member = servers.member.clone();
            self.report(vec![member], "one of its servers has ended");
        }
    }

    fn done(&mut self, number: u64, result: Result<Vec<Refused>, String>) {
        if let Some(servers) = &mut self.servers {
            if servers.done(number, &result) {
                if servers.has_failed_late() && servers.leaving.is_none() {
                    let member = servers.member.clone();
                    self.report(vec![member], "its servers could not be started");
                }
                return;
            }
        }
        if self.names.done(number, &result.as_ref().map(|_| ())) {
            return;
        }
        let mut kill = None;
        for held in self.volumes.values_mut() {
            match (&held.phase, &result) {
                (Phase::Attaching(n), Ok(_)) if *n == number => held.phase = Phase::Attached,
                (Phase::Attaching(n), Err(e)) if *n == number => {
                    held.phase = Phase::Failed(Cause::Failed, e.clone());
                }
                (Phase::Detaching(n), Ok(_)) if *n == number => {
                    held.phase = Phase::Failed(Cause::Failed, "detached".to_owned());
                }
                // It can only be had free by ending everything: better than to fail the stop, for
                // which the whole node would be fenced.
                (Phase::Detaching(n), Err(e)) if *n == number => kill = Some(e.clone()),
                _ => {}
            }
        }
        if let (Some(why), Some(cell)) = (kill, &mut self.cell) {
            log::error(format_args!("{why}; ending the cell"));
            cell.kill();
        }
    }

    /// PID 1 is dead, and with it everything in the cell.
    fn lose_cell(&mut self, why: &str) {
        let mut cell = self.cell.take();
        if let Some(cell) = &mut cell {
            // Whoever has joined it from outside does not end with its PID 1.
            cell.kill();
            self.cgroup.sum_up();
            self.leftover.push(cell.pid);
        }
        self.leftover.extend(self.gate.lose());
        self.build_until = None;
        if let Err(e) = network::disconnect(&self.vserver) {
            log::warn(e);
        }
        // Its filter ends after its interface.
        drop(cell);
        let mut lost = Vec::new();
        for held in self.volumes.values_mut().filter(|h| h.is_in_cell()) {
            held.phase = Phase::Failed(Cause::Failed, format!("the cell has ended: {why}"));
            if held.leaving.is_none() {
                lost.push(held.member.clone());
            }
        }
        if let Some(servers) = &mut self.servers {
            if servers.leaving.is_none() && servers.fault().is_none() {
                lost.push(servers.member.clone());
            }
            servers.lose(why);
        }
        if !self.ending && !lost.is_empty() {
            log::critical(format_args!(
                "the cell of {} has ended: {why}",
                self.vserver
            ));
        }
        self.report(lost, "its cell has ended");
    }

    fn announce(&mut self) {
        if let Err(e) = self.announcing.send(Instant::now()) {
            log::warn(e);
        }
    }

    fn finish_jobs(&mut self) {
        self.leftover.extend(self.gate.finish());
        if !self.cgroup.is_made() {
            return;
        }
        for held in self.volumes.values_mut() {
            self.leftover.extend(held.go_on());
            let Phase::Mounting(job) = &held.phase else {
                continue;
            };
            let Some(outcome) = job.outcome() else {
                continue;
            };
            let mounter = (held.member.resource.clone(), job.pid());
            self.mounters.push(mounter);
            held.mounted(outcome);
        }
        self.mounters.retain(|(_, pid)| !job::reap(*pid));
    }

    fn accept(&mut self) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        let connected = listener.accept(self.clients.len(), Instant::now());
        self.clients
            .extend(connected.into_iter().map(|channel| Client {
                channel,
                until: None,
            }));
    }

    fn hear_clients(&mut self) {
        let mut at = 0;
        while at < self.clients.len() {
            let (request, fd) = match self.clients[at].channel.receive::<Request>() {
                Ok(Received::Nothing) => {
                    at += 1;
                    continue;
                }
                Ok(Received::Message(request, fd)) => (request, fd),
                Ok(Received::Closed) => {
                    // What an agent began goes on without it.
                    self.clients.swap_remove(at);
                    continue;
                }
                Err(e) => {
                    log::warn(format_args!("refused a request: {e}"));
                    let why = format!("the keeper is of another version than the agent: {e}");
                    let Client { channel, .. } = self.clients.swap_remove(at);
                    if let Err(e) = channel.send(&Reply::refused(Cause::Version, why), None) {
                        log::debug(format_args!("answer an agent: {e}"));
                    }
                    continue;
                }
            };
            let until = self.heed(request, fd);
            self.clients[at].until = Some(until);
            at += 1;
        }
    }

    fn tell_guard(&self) {
        let volumes = self.volumes.values().filter(|h| h.leaving.is_none());
        let servers = self.servers.iter().filter(|s| s.leaving.is_none());
        let members = volumes.map(|h| &h.member).chain(servers.map(|s| &s.member));
        self.guard.watch(members.cloned().collect());
    }

    /// Reaps what has ended, and replaces a guard that has.
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
        if !self.ending && job::reap(self.guard.pid) {
            log::warn("the guard has died; starting another one");
            match Sentinel::spawn() {
                Ok(guard) => self.guard = guard,
                Err(e) => log::error(format_args!("start the guard: {e}")),
            }
            self.tell_guard();
        }
    }
}

fn readable(fd: &impl AsFd) -> PollFd<'_> {
    PollFd::new(fd.as_fd(), PollFlags::POLLIN)
}
