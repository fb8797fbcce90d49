//! The daemon: it follows every change to the ports, proves that they forward, moves VIPs, and publishes what the
//! cluster has to know.
//!
//! One thread and one poll loop, which waits for nobody but the kernel: children ask the cluster and keepers, and the
//! lock of the addresses' agents is tried repeatedly rather than waited for. After a start everything is read from the
//! kernel again, so a daemon that was killed leaves nothing undone that the next one would not do.

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

/// How often the cluster's attributes are read, for the other nodes' addresses, and to see whether this node's are
/// still there; and how often at first, when all nodes may have just been started.
const QUERY_ADDRESSES: Duration = Duration::from_secs(60);
const QUERY_ADDRESSES_EARLY: Duration = Duration::from_secs(3);
const EARLY: Duration = Duration::from_secs(30);
/// How long the daemon goes on publishing when it ends, if the cluster does not know all yet.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long after a change in the kernel the daemon looks for what others have removed of its VIPs, and how long at
/// least from one time to the next.
const MEND_AFTER: Duration = Duration::from_millis(200);
const MEND_PAUSE: Duration = Duration::from_secs(1);
/// The same when the nftables tables are gone, which is what a firewall's reload does to them: they are made again
/// at once.
const TABLE_PAUSE: Duration = Duration::from_millis(100);

/// The whole life of the process; returns its exit code.
///
/// Its standard output is a pipe from the agent that has started it: `ok` is written when the cluster knows the state
/// of the ports, or else the reason why it does not.
pub(crate) fn main() -> i32 {
    let env = Env::from_process();
    log::init("portwatch", |name| env.variable(name));
    match begin(&env, Path::new(RUNTIME)) {
        Ok((mut daemon, lock)) => {
            let served = daemon.serve();
            // The next daemon may begin while this one's sockets are closed, which takes the kernel some 50 ms.
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
    if let (Some(name), None) = (env.on_node(), &settings.node) {
        log::warn(format_args!(
            "the name of this node {name:?} can't be used: it takes no part in detours"
        ));
    }
    let begun = Instant::now();
    // SAFETY: this process has just been executed, and nothing before this line opens anything for good.
    unsafe { daemon::detach(c"berth-portwatch")? };
    daemon::protect();
    daemon::private_directory(runtime)?;
    // What may fail comes first: a daemon that works is ended only when this one can take its place.
    let sockets = Sockets::open(runtime)?;
    let (lock, follows) = take_over(runtime)?;
    let mut daemon = Daemon::begin(settings, runtime, sockets)?;
    // A part of the action's time: the agent needs the rest to report a failure.
    daemon.answer_by = Some(begun + env.timeout() / if follows { 4 } else { 2 });
    daemon.follows = follows;
    // The previous daemon's monitor may have reported trouble to the cluster: which one is not known, hence empty.
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
    /// Whether something has changed that detours may depend on.
    review: bool,
    clients: Vec<Channel>,
    begun: Instant,
    /// Until when the agent that has started the daemon waits for its answer; `None` once it is given.
    answer_by: Option<Instant>,
    /// Whether this daemon has taken over from another one: then it goes on even if the cluster does not answer.
    follows: bool,
    measure_at: Instant,
    query_addresses_at: Instant,
    mend_at: Option<Instant>,
    mended: Instant,
    /// Whether any VIP had traffic when it was last measured.
    loaded: bool,
    /// Whether enough is known of the ports to publish their state.
    known: bool,
    /// The trouble that the cluster shows because a monitor has reported it; empty if it is a previous daemon's.
    told: Option<String>,
    /// When the cluster is to be made to forget that trouble.
    clean_up_at: Option<Instant>,
    ending: Option<Ending>,
    /// Failures to read the kernel's events and what they are about.
    endurance: Endurance,
    /// Failures to read neighbours' replies.
    deafness: Endurance,
    peers: Peers,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// No other daemon follows it on this node.
    ForGood,
    /// The next daemon waits already to take over.
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
                // A port that can't send counts as silent in time: no replies come.
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
            // The socket stays: it tells agents that the next daemon is about to listen there.
            return Ok(());
        }
        self.publish_final()?;
        self.leave_no_complaint();
        daemon::forget_socket(&protocol::socket(&self.runtime))
    }

    /// Goes on with detours: passes on the node's state if it has changed, what has come in since, and the time.
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

    /// Passes an event to detours, and carries out what they decide.
    fn feed_detours(&mut self, event: Event, now: Instant) {
        let mut hands = Hands {
            publisher: &mut self.publisher,
            prober: &self.prober,
            mover: &mut self.mover,
        };
        self.detours.on(event, &mut hands, now);
    }

    /// Reads the state of all interfaces. The kernel reports changes of one link at most once a second, so an event of
    /// any link is a reason to read all. Returns whether anything of a port or a cell has changed.
    fn look(&mut self, now: Instant) -> io::Result<bool> {
        let (links, addresses) = (self.socket.links()?, self.socket.addresses(None)?);
        let changed = self.watch.look(links, &addresses, now);
        self.review |= changed;
        Ok(changed)
    }

    /// Draws the conclusions from the ports' state: moves VIPs at once, then publishes.
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

    /// Logs the mover's failure, and has it look for all that is missing after [`MEND_PAUSE`].
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

    /// Evens out the loads of the ports, one VIP at a time. Without traffic, now and when it was last measured, there
    /// is nothing to even out.
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
        let node = self.settings.node.clone();
        let node = node.as_deref().unwrap_or_default();
        let mut answers = self.publisher.answers();
        if let Some(mut all) = self.publisher.surveyed() {
            let stray = all.keys().filter(|name| self.watch.is_stray(name));
            stray.for_each(|name| self.publisher.publish(name.clone(), None));
            for name in self.watch.peer_attributes() {
                let values = all.remove(&name).unwrap_or_default();
                answers.entry(name).or_insert(values);
            }
        }
        if answers.is_empty() {
            return;
        }
        for (name, mut values) in answers {
            if name == Attribute::Macs {
                self.peers.on_attribute(&values, node);
                continue;
            }
            if !matches!(name, Attribute::Cell(_)) {
                values.remove(node);
            }
            self.watch.on_attribute(&name, &values, now);
            self.feed_detours(Event::Attribute(name, values), now);
        }
        // The other nodes' addresses may be new ones.
        self.review = true;
        self.serve_detours(now);
        self.judge(now);
        self.publisher.advance(now);
    }

    /// Answers the agent that has started the daemon once the cluster knows the state of the ports, or at the deadline.
    ///
    /// # Errors
    /// If the cluster does not know it by then, and there was no daemon before this one.
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
            // SIGCHLD has only to wake the loop, which reaps children elsewhere. SIGHUP is ignored.
            let ends = [libc::SIGTERM, libc::SIGINT].map(i32::unsigned_abs);
            if ends.contains(&signal.ssi_signo) {
                self.ending = Some(Ending::ForGood);
            }
        }
    }
}
