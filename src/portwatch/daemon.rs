//! The daemon: it hears of every change to the ports, proves that they forward, moves VIPs, and tells
//! the cluster.
//!
//! One thread and one poll loop, which waits for nobody but the kernel: the cluster and keepers are asked by
//! children, and the lock of the addresses' agents is tried again and again. Everything is found anew in the
//! kernel after a start: a daemon that was killed has left nothing that the next one would miss.

mod agents;
mod ending;
mod endurance;
mod sources;
mod spare;
mod take_over;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use self::agents::CLIENTS;
use self::endurance::Endurance;
use self::sources::Source;
use self::spare::Room;
use self::take_over::{Sockets, take_over};
use super::detour::{Detours, Hands};
use super::mover::{Extent, Mover};
use super::protocol;
use super::publisher::Publisher;
use super::settings::{MEASURE, Settings};
use super::watch::Watch;
use crate::address::peers::Peers;
use crate::address::report;
use crate::log;
use crate::ocf::{Env, Error};
use crate::plan::attribute::Attribute;
use crate::plan::detour::Event;
use crate::plan::port::{Balancer, Move, Port, Vip, place};
use crate::runtime::channel::Channel;
use crate::runtime::daemon;
use crate::runtime::listener::Listener;
use crate::runtime::paths::RUNTIME;
use crate::sys::announce::NeighbourProber;
use crate::sys::lock::Lock;
use crate::sys::netlink::{Events, Socket};
use crate::types::BitRate;

/// How often it is looked what the cluster has on record: the other nodes' addresses, and whether it still knows
/// what it was told; and how often at first, when all nodes may have just been started.
const QUERY_ADDRESSES: Duration = Duration::from_secs(60);
const QUERY_ADDRESSES_EARLY: Duration = Duration::from_secs(3);
const EARLY: Duration = Duration::from_secs(30);
/// How long the daemon tells the cluster, when it ends, what it has not told yet.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long after a change it is looked for what others have taken away, and how long at least from
/// one time to the next.
const MEND_AFTER: Duration = Duration::from_millis(200);
const MEND_PAUSE: Duration = Duration::from_secs(1);
/// The same when the nftables tables are gone, which is what a firewall's reload does to them: they are made again
/// at once.
const TABLE_PAUSE: Duration = Duration::from_millis(100);

/// The whole life of the process; its result is its exit code.
///
/// Its standard output is a pipe: `ok` is written when the cluster knows of the ports, or else the
/// reason why not.
pub(crate) fn main() -> i32 {
    let env = Env::from_process();
    log::init("portwatch", |name| env.variable(name));
    match begin(&env, Path::new(RUNTIME)) {
        Ok((mut daemon, lock)) => {
            let served = daemon.serve();
            // Closing what it has takes the kernel some 50 ms: the next one begins meanwhile.
            drop(lock);
            match served {
                Ok(()) => 0,
                Err(e) => {
                    log::critical(&e);
                    daemon::answer(&e.to_string());
                    1
                }
            }
        }
        Err(e) => {
            log::error(&e);
            daemon::answer(&e.to_string());
            1
        }
    }
}

fn begin(env: &Env, runtime: &Path) -> Result<(Daemon, Lock), Error> {
    let settings = Settings::read(env)?;
    let begun = Instant::now();
    // SAFETY: this process has just been executed, and nothing before this line opens anything for good.
    unsafe { daemon::detach(c"berth-portwatch")? };
    daemon::protect();
    daemon::private_directory(runtime)?;
    // What may fail comes before the one that works is ended.
    let sockets = Sockets::open(runtime)?;
    let (lock, follows) = take_over(runtime)?;
    let mut daemon = Daemon::begin(settings, runtime, sockets)?;
    // A part of the time that the action has: the agent has to hear of it.
    daemon.answer_by = Some(begun + env.timeout() / if follows { 4 } else { 2 });
    daemon.follows = follows;
    // The one before it may have told the cluster of some trouble.
    daemon.told = follows.then(String::new);
    Ok((daemon, lock))
}

struct Daemon {
    settings: Settings,
    runtime: PathBuf,
    listener: Listener,
    signals: SignalFd,
    events: Events,
    prober: NeighbourProber,
    socket: Socket,
    watch: Watch,
    mover: Mover,
    balancer: Balancer,
    room: Room,
    publisher: Publisher,
    detours: Detours,
    /// Something has changed that detours may depend on.
    review: bool,
    clients: Vec<Channel>,
    begun: Instant,
    /// Until when the cluster must know, for the agent that waits for it; `None` once it does.
    answer_by: Option<Instant>,
    /// Whether it has taken over from another one: then it is not for it to end because the cluster does not
    /// answer.
    follows: bool,
    measure_at: Instant,
    query_addresses_at: Instant,
    mend_at: Option<Instant>,
    mended: Instant,
    /// Whether VIPs moved anything when it was last measured.
    loaded: bool,
    /// Whether enough is known of the ports to tell the cluster.
    known: bool,
    /// Trouble that a monitor has told the cluster of.
    told: Option<String>,
    /// When what was told is to be cleaned up.
    clean_up_at: Option<Instant>,
    ending: Option<Ending>,
    /// Whether the kernel's events can be read, and followed.
    endurance: Endurance,
    /// The same of answers.
    deafness: Endurance,
    peers: Peers,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nobody goes on with its work.
    ForGood,
    /// The next daemon waits already.
    HandedOver,
}

fn balancer(settings: &Settings) -> Balancer {
    Balancer::new(settings.balance, settings.balance_hold())
}

impl Daemon {
    fn begin(settings: Settings, runtime: &Path, sockets: Sockets) -> io::Result<Self> {
        let Sockets {
            signals,
            events,
            prober,
            socket,
            mover,
        } = sockets;
        let begun = Instant::now();
        let watch = Watch::new(&settings, begun);
        let mut daemon = Self {
            detours: Detours::new(runtime, watch.node_view(), begun),
            review: true,
            runtime: runtime.to_owned(),
            listener: Listener::new(daemon::listen(&protocol::socket(runtime))?, CLIENTS),
            signals,
            events,
            prober,
            socket,
            watch,
            mover,
            balancer: balancer(&settings),
            room: Room::new(begun),
            publisher: Publisher::new(settings.node.clone()),
            clients: Vec::new(),
            begun,
            answer_by: None,
            follows: false,
            measure_at: begun,
            query_addresses_at: begun,
            mend_at: Some(begun),
            mended: begun,
            loaded: false,
            known: false,
            told: None,
            clean_up_at: None,
            ending: None,
            endurance: Endurance::default(),
            deafness: Endurance::default(),
            peers: Peers::new(runtime, begun),
            settings,
        };
        daemon.look(begun)?;
        Ok(daemon)
    }

    /// Serves until it is told to end.
    fn serve(&mut self) -> io::Result<()> {
        while self.ending.is_none() {
            let ready = self.wait()?;
            let now = Instant::now();
            self.handle_kernel(&ready, now)?;
            self.watch.tick(now);
            for question in self.watch.probes_due(now) {
                // A port that can't send will have answers missing.
                if let Err(e) = self.prober.send(&question) {
                    log::debug(e);
                }
            }
            self.judge(now);
            if ready.contains(&Source::Records) {
                self.act(Extent::Moves, place);
                self.review = true;
            }
            self.do_what_is_due(now);
            if ready.contains(&Source::Agents) {
                self.handle_agents();
            }
            self.serve_detours(now);
            self.handle_cluster(now);
            self.answer_start(now)?;
            if ready.contains(&Source::Signals) {
                self.handle_signals();
            }
        }
        if self.ending == Some(Ending::HandedOver) {
            // The socket stays: by it agents know that they have to wait for another moment.
            return Ok(());
        }
        self.publish_final()?;
        self.leave_no_complaint();
        daemon::forget_socket(&protocol::socket(&self.runtime))
    }

    /// What depends on other nodes' part in it.
    fn serve_detours(&mut self, now: Instant) {
        if self.known && std::mem::take(&mut self.review) {
            let view = self.watch.node_view();
            let records = self.mover.records().clone();
            self.feed_detours(Event::Node { records, view }, now);
        }
        for event in self.detours.advance() {
            self.feed_detours(event, now);
        }
        self.feed_detours(Event::Tick, now);
    }

    /// Has detours take note of what has happened, and does what follows.
    fn feed_detours(&mut self, event: Event, now: Instant) {
        let mut hands = Hands {
            publisher: &mut self.publisher,
            prober: &self.prober,
            mover: &mut self.mover,
        };
        self.detours.on(event, &mut hands, now);
    }

    /// Looks at all ports. The kernel tells of one link's events once a second at the most, so any
    /// event is a reason to look at all. Says whether anything has changed.
    fn look(&mut self, now: Instant) -> io::Result<bool> {
        let (links, addresses) = (self.socket.links()?, self.socket.addresses(None)?);
        let changed = self.watch.look(links, &addresses, now);
        self.review |= changed;
        Ok(changed)
    }

    /// What the ports' state means: for the VIPs at once, then for the cluster.
    fn judge(&mut self, now: Instant) {
        if !self.known && self.watch.is_known(now) {
            self.known = true;
            self.tell_room();
            self.watch.judge_anew();
        }
        if !self.watch.judge(now) {
            return;
        }
        self.review = true;
        self.report();
        self.act(Extent::Moves, place);
        if self.known {
            for (name, value) in self.watch.attributes() {
                self.publisher.publish(name, value);
            }
        }
    }

    fn report(&self) {
        if let Err(e) = report::write(&self.runtime, &self.watch.view().report) {
            log::warn(e);
        }
    }

    fn act(&mut self, extent: Extent, choose: impl FnOnce(&[Vip], &[Port]) -> Vec<Move>) {
        let acted = self.mover.act(self.watch.view(), extent, choose);
        let moved = acted.map(|moves| moves.iter().for_each(log::info));
        self.handle_mover(moved);
    }

    /// What could not be done is tried again with all that should be there.
    fn handle_mover(&mut self, result: io::Result<()>) {
        if let Err(e) = result {
            log::error(format_args!("move VIPs: {e}"));
            self.mend_at = Some(Instant::now() + MEND_PAUSE);
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        self.mover.announce_again(now);
        let finished = self.mover.finish(self.watch.view(), now);
        self.handle_mover(finished);
        if self.clean_up_at.is_some_and(|at| at <= now) {
            self.clean_up_at = None;
            if let Some(node) = &self.settings.node {
                self.publisher.clean_up(&self.settings.resource, node);
            }
        }
        if self.mend_at.is_some_and(|at| at <= now) {
            self.mend_at = None;
            self.mended = now;
            self.act(Extent::Everything, place);
        }
        if self.measure_at <= now {
            self.measure_at = now + MEASURE;
            match self.mover.measure(now) {
                Ok(()) => {
                    if self.watch.set_loads(&self.mover.port_loads()) {
                        self.report();
                    }
                    self.balance(now);
                }
                Err(e) => log::warn(format_args!("measure loads: {e}")),
            }
            self.measure_room(now);
        }
        if self.query_addresses_at <= now {
            let early = now.saturating_duration_since(self.begun) < EARLY;
            self.query_addresses_at = now
                + if early {
                    QUERY_ADDRESSES_EARLY
                } else {
                    QUERY_ADDRESSES
                };
            self.publisher.survey();
        }
    }

    /// Evens out the loads of the ports, one VIP at a time. Where there is none, and was none, nothing
    /// is uneven.
    fn balance(&mut self, now: Instant) {
        let loaded = self
            .mover
            .port_loads()
            .values()
            .any(|load| *load > BitRate::NONE);
        let was_loaded = std::mem::replace(&mut self.loaded, loaded);
        if self.settings.balance == 0 || !(loaded || was_loaded) {
            return;
        }
        let mut balancer = self.balancer.clone();
        let choose = |vips: &[_], ports: &[_]| {
            let moves = place(vips, ports);
            match moves.is_empty() {
                true => balancer.observe(vips, ports, now).into_iter().collect(),
                false => moves,
            }
        };
        self.act(Extent::Moves, choose);
        self.balancer = balancer;
    }

    fn handle_cluster(&mut self, now: Instant) {
        if let Some(macs) = self.peers.value_due(&self.watch.macs()) {
            self.publisher.publish(Attribute::Macs, Some(macs));
        }
        if self.peers.query_due(now) {
            self.publisher.query(Attribute::Macs);
        }
        for attribute in self.watch.queries_due(now) {
            self.publisher.query(attribute);
        }
        self.publisher.advance(now);
        for (resource, nodes) in self.publisher.located() {
            self.feed_detours(Event::Located { resource, nodes }, now);
        }
        let node = self.settings.node.clone().unwrap_or_default();
        let mut answers = self.publisher.answers();
        if let Some(mut all) = self.publisher.surveyed() {
            let found = all.keys().filter_map(|name| Attribute::parse(name));
            let stray = found.filter(|name| self.watch.is_stray(name));
            stray.for_each(|name| self.publisher.publish(name, None));
            for name in self.watch.peer_attributes() {
                let values = all.remove(&name.name()).unwrap_or_default();
                answers.entry(name).or_insert(values);
            }
        }
        if answers.is_empty() {
            return;
        }
        for (name, mut values) in answers {
            if name == Attribute::Macs {
                self.peers.on_attribute(&values, &node);
                continue;
            }
            if !matches!(name, Attribute::Cell(_)) {
                values.remove(&node);
            }
            self.watch.on_attribute(&name, &values, now);
            self.feed_detours(Event::Attribute(name, values), now);
        }
        // The others' addresses may be new ones.
        self.review = true;
        self.serve_detours(now);
        self.judge(now);
        self.publisher.advance(now);
    }

    /// Tells the agent that started it, as soon as the cluster knows what it has to.
    fn answer_start(&mut self, now: Instant) -> io::Result<()> {
        let Some(deadline) = self.answer_by else {
            return Ok(());
        };
        let over = deadline <= now;
        if (self.known && self.publisher.is_done()) || (over && self.follows) {
            self.answer_by = None;
            daemon::answer("ok");
        } else if over {
            let why = self.publisher.error().unwrap_or("it does not answer");
            return Err(io::Error::other(format!("tell the cluster: {why}")));
        }
        Ok(())
    }

    fn handle_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // A child's end is only a reason to look around; a terminal's is none for anything.
            let ends = [libc::SIGTERM, libc::SIGINT].map(i32::unsigned_abs);
            if ends.contains(&signal.ssi_signo) {
                self.ending = Some(Ending::ForGood);
            }
        }
    }
}
