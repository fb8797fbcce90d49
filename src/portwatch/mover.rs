//! Moves VIPs from port to port, and mends what others take away of them.
//!
//! What clients wait for is done at once: the new port answers for the VIP and is announced. An agent that begins
//! to stop the VIP in that moment puts that on record before it looks what there is to take away, and the record
//! is read again after the move: one of the two sees the other. All the rest is done under the lock of the
//! addresses' agents, only to VIPs that these have started and not begun to stop; while one of them has the lock,
//! it is tried again and again, and nothing waits.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::records::Records;
use crate::address::kernel::Kernel;
use crate::address::lock::{self, LOCK_PAUSE};
use crate::address::record::{Record, Role};
use crate::address::report::Report;
use crate::cell::network;
use crate::log;
use crate::plan::port::{Move, Port, Vip};
use crate::plan::vip::{Desired, Object, Observed, Request, Step, present_port, start_all};
use crate::sys::announce::repeat::Announcing;
use crate::sys::announce::{Announcement, Wire};
use crate::sys::memory;
use crate::types::Family;

/// How long an address's agent may keep the lock before that is worth a word: a start makes the nftables tables
/// under it.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// How long the changes of one move may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// What is known of the ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// For the choice between them; without their loads.
    pub ports: Vec<Port>,
    /// For the agents of addresses.
    pub report: Report,
}

/// How much is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Only what a move takes.
    Moves,
    /// All that should be there, for every VIP.
    Everything,
}

/// Mover of VIPs.
pub(crate) struct Mover {
    runtime: PathBuf,
    records: Records,
    kernel: Kernel,
    wire: Rc<Wire>,
    announcing: Announcing,
    loads: Loads,
    placed: BTreeMap<IpAddr, Option<String>>,
    /// What is still to be done under the lock.
    rest: Option<Rest>,
}

/// What is still to be done under the lock.
#[derive(Debug)]
struct Rest {
    /// The ports that VIPs have moved to.
    targets: BTreeMap<IpAddr, String>,
    /// Whether everything of all VIPs is to be looked for.
    everything: bool,
    since: Instant,
    /// When the lock is tried again.
    at: Instant,
    /// Whether it was told that this takes long.
    told: bool,
}

impl Mover {
    /// Opens its sockets.
    ///
    /// # Errors
    /// Without the rights to them.
    pub fn open(runtime: &Path) -> io::Result<Self> {
        Ok(Self {
            runtime: runtime.to_owned(),
            records: Records::open(runtime)?,
            kernel: Kernel::open(None, runtime)?,
            wire: Rc::new(Wire::open()?),
            announcing: Announcing::default(),
            loads: Loads::default(),
            placed: BTreeMap::new(),
            rest: None,
        })
    }

    /// What can be read when a VIP was started or stopped: then it is time to act.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.records.fd()
    }

    /// What is on record of this node's VIPs.
    pub fn records(&mut self) -> &BTreeMap<String, Record> {
        self.records.all()
    }

    /// The bytes that VIPs have moved since they were started.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn traffic(&mut self) -> io::Result<BTreeMap<IpAddr, u64>> {
        self.kernel.traffic()
    }

    /// The port that each VIP is served through, as it was last seen.
    pub fn placed(&self) -> &BTreeMap<IpAddr, Option<String>> {
        &self.placed
    }

    /// The bytes a second that VIPs move through each port, as they were last measured.
    pub fn port_loads(&self) -> BTreeMap<&str, u64> {
        let mut loads = BTreeMap::new();
        for (vip, port) in &self.placed {
            if let Some(port) = port {
                *loads.entry(port.as_str()).or_default() += self.loads.of(*vip);
            }
        }
        loads
    }

    /// When it is to be called again although nothing happens: for further announcements, and for the rest.
    pub fn next(&self) -> Option<Instant> {
        let times = [
            self.announcing.next(),
            self.rest.as_ref().map(|rest| rest.at),
        ];
        times.into_iter().flatten().min()
    }

    /// Begins to announce VIPs again where they are.
    pub fn announce_anew(&mut self, vips: impl IntoIterator<Item = IpAddr>, now: Instant) {
        for vip in vips {
            if let Some(Some(port)) = self.placed.get(&vip) {
                self.announcing.begin(vip, port, now, &self.wire);
            }
        }
    }

    /// Announces again what is due.
    pub fn announce_again(&mut self, now: Instant) {
        if self.announcing.next().is_some_and(|at| at <= now) {
            if let Err(e) = self.announcing.send(now) {
                log::warn(e);
            }
        }
    }

    /// Measures what VIPs move.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn measure(&mut self, now: Instant) -> io::Result<()> {
        self.loads.take(self.kernel.traffic()?, now);
        Ok(())
    }

    /// Makes the moves that `choose` finds, and mends the rest if `extent` says so, as soon as nobody has the lock.
    /// Tells the moves.
    ///
    /// # Errors
    /// If the kernel can't be asked. What it refuses of the changes is logged: the others are made all the same.
    pub fn act(
        &mut self,
        view: &View,
        extent: Extent,
        choose: impl FnOnce(&[Vip], &[Port]) -> Vec<Move>,
    ) -> io::Result<Vec<Move>> {
        let records = self.records.serving();
        let mut seen = self.kernel.observe_ways(&Family::BOTH)?;
        seen.watched.clone_from(&view.report);
        let alive = |r: &Record| r.role != Role::Home || has_cell(r, &seen);
        let (records, dead): (Vec<Record>, Vec<Record>) = records.into_iter().partition(alive);
        self.silence(&dead, &seen);
        let vips: Vec<Vip> = records
            .iter()
            .filter_map(|record| self.vip(record, &seen))
            .collect();
        self.announce_routed(&records, &vips);
        self.placed = vips.iter().map(|v| (v.ip, v.port.clone())).collect();
        // What leaves by another node is no less a load.
        let elsewhere = self.records.all().values();
        let elsewhere = elsewhere.filter(|r| matches!(r.role, Role::Detour(_)));
        let elsewhere = elsewhere.map(|r| (r.wish.vip, present_port(r.wish.vip, &seen)));
        self.placed.extend(elsewhere);
        let mut ports = view.ports.clone();
        let loads = self.port_loads();
        for port in &mut ports {
            port.load = loads.get(port.name.as_str()).copied().unwrap_or(0);
        }
        let moves = choose(&vips, &ports);
        let own = |m: &&Move| {
            vips.iter()
                .any(|v| v.ip == m.vip && v.ports.contains(&m.to))
        };
        self.hurry(moves.iter().filter(own), &seen);
        let now_at = moves.iter().map(|m| (m.vip, Some(m.to.clone())));
        self.placed.extend(now_at);
        if extent == Extent::Everything || !moves.is_empty() {
            let now = Instant::now();
            let rest = self.rest.get_or_insert_with(|| Rest {
                targets: BTreeMap::new(),
                everything: false,
                since: now,
                at: now,
                told: false,
            });
            rest.everything |= extent == Extent::Everything;
            let targets = moves.iter().map(|m| (m.vip, m.to.clone()));
            rest.targets.extend(targets);
        }
        self.finish(view, Instant::now())?;
        Ok(moves)
    }

    /// Does the rest, if there is one and nobody has the lock.
    ///
    /// # Errors
    /// If the lock can't be asked for, or the kernel. The rest is given up then.
    pub fn finish(&mut self, view: &View, now: Instant) -> io::Result<()> {
        if self.rest.as_ref().is_none_or(|rest| rest.at > now) {
            return Ok(());
        }
        let lock = lock::try_lock(&self.runtime);
        let Some(mut rest) = self.rest.take() else {
            return Ok(());
        };
        let Some(_lock) = lock? else {
            if !rest.told && now.saturating_duration_since(rest.since) >= LOCK_LIMIT {
                log::warn(
                    "an address's agent keeps vip.lock: VIPs are at their ports, but what was lost is not mended",
                );
                rest.told = true;
            }
            rest.at = now + LOCK_PAUSE;
            self.rest = Some(rest);
            return Ok(());
        };
        let wanted = |r: &Record| rest.everything || rest.targets.contains_key(&r.wish.vip);
        let mut records = self.records.serving();
        records.retain(wanted);
        if rest.everything {
            let all = self.records.all();
            // One that comes home is its agent's already.
            let own = |vip: IpAddr| {
                let mut all = all.values();
                all.any(|r| r.wish.vip == vip && !matches!(r.role, Role::Detour(_)))
            };
            let away = all.values().filter(|r| {
                r.serving && matches!(r.role, Role::Detour(Some(_))) && !own(r.wish.vip)
            });
            records.extend(away.cloned());
        }
        self.complete(records, &rest.targets, view)
    }

    /// For VIPs that this node has begun to route there is no keeper that would announce them again.
    fn announce_routed(&mut self, records: &[Record], vips: &[Vip]) {
        let now = Instant::now();
        let routed = |vip: IpAddr| {
            let mut records = records.iter().filter(|r| r.wish.vip == vip);
            records.any(|r| matches!(r.role, Role::Router(_)))
        };
        for vip in vips.iter().filter(|vip| !self.placed.contains_key(&vip.ip)) {
            if let Some(port) = vip.port.as_ref().filter(|_| routed(vip.ip)) {
                self.announcing.begin(vip.ip, port, now, &self.wire);
            }
        }
    }

    /// A dead cell draws no more packets: until its VIPs are stopped, nothing answers for them.
    fn silence(&mut self, dead: &[Record], seen: &Observed) {
        let of_dead = |vip: &IpAddr| dead.iter().any(|r| r.wish.vip == *vip);
        let proxies = seen.objects.iter().filter(|object| match object {
            Object::Proxy(_, vip) => of_dead(vip),
            _ => false,
        });
        let steps: Vec<Step> = proxies.cloned().map(Step::Remove).collect();
        self.apply(&steps);
    }

    /// A VIP as the choice has it; `None` if its ports are not watched.
    fn vip(&self, record: &Record, seen: &Observed) -> Option<Vip> {
        let (wish, report) = (&record.wish, &seen.watched);
        let family = Family::of(&wish.vip);
        let port = present_port(wish.vip, seen);
        if port.as_ref().is_some_and(|p| !report.contains_key(p)) {
            return None;
        }
        let (mut ports, mut elsewhere) = (Vec::new(), Vec::new());
        for (name, watched) in report {
            let allowed = wish.ports.as_ref().is_none_or(|names| names.contains(name));
            let inside = watched.nets.iter().any(|(net, _)| net.contains(wish.vip));
            let named = wish.ports.is_some() && watched.nets.is_empty();
            let of_family = |net: ipnetwork::IpNetwork| Family::of(&net.ip()) == family;
            if inside || named {
                ports.extend(allowed.then(|| name.clone()));
            } else if wish.routed && watched.nets.iter().any(|(net, _)| of_family(*net)) {
                elsewhere.push(name.clone());
            }
        }
        (!ports.is_empty() || !elsewhere.is_empty()).then(|| Vip {
            ip: wish.vip,
            load: self.loads.of(wish.vip),
            port,
            ports,
            elsewhere,
        })
    }

    /// What clients wait for comes first: they are told of the new port, which answers from then on.
    /// Replies leave by it already, for the routes of the old one are dead or still good.
    fn hurry<'m>(&mut self, moves: impl Iterator<Item = &'m Move>, seen: &Observed) {
        let mut steps = Vec::new();
        let mut announcements: Vec<Announcement> = Vec::new();
        let mut moved = Vec::new();
        for Move { vip, from, to } in moves {
            moved.push(Object::Proxy(to.clone(), *vip));
            announcements.extend(self.kernel.announcement(to, *vip));
            steps.push(Step::Add(Object::Proxy(to.clone(), *vip)));
            let old = from.clone().map(|from| Object::Proxy(from, *vip));
            steps.extend(old.filter(|o| seen.objects.contains(o)).map(Step::Remove));
        }
        if let Err(e) = self.wire.announce(&announcements) {
            log::warn(e);
        }
        self.apply(&steps);
        // Its agent may have begun to stop one since the records were read.
        let served: BTreeSet<IpAddr> = self.records.serving().iter().map(|r| r.wish.vip).collect();
        let stopped = moved.into_iter().filter(|object| match object {
            Object::Proxy(_, vip) => !served.contains(vip),
            _ => false,
        });
        let steps: Vec<Step> = stopped.map(Step::Remove).collect();
        self.apply(&steps);
    }

    fn apply(&mut self, steps: &[Step]) {
        let deadline = Instant::now() + CHANGE_LIMIT;
        let logged = |e| {
            log::warn(e);
            Ok(())
        };
        if let Err(e) = self.kernel.apply(steps, deadline, logged) {
            log::warn(e);
        }
    }

    /// Makes all that the VIPs on `records` need, at the ports they have moved to or are at.
    fn complete(
        &mut self,
        mut records: Vec<Record>,
        targets: &BTreeMap<IpAddr, String>,
        view: &View,
    ) -> io::Result<()> {
        let mut seen = self.kernel.observe(None, &Family::BOTH)?;
        seen.watched.clone_from(&view.report);
        let targets = &still_good(targets, &seen);
        records.retain(|r| matches!(r.role, Role::Router(_)) || has_cell(r, &seen));
        let mut requests: Vec<Request> = Vec::new();
        for record in &records {
            let mut request = record.request();
            request.prefer = targets.get(&request.vip).cloned();
            let links = request.links(&seen);
            self.kernel
                .observe_settings(request.vip, &links, &mut seen)?;
            if !matches!(record.role, Role::Router(_)) {
                // What is inside the cell is its agent's affair, and nothing takes it away.
                seen.objects.insert(Object::Address(request.vip));
                let family = Family::of(&request.vip);
                seen.objects.insert(Object::CellRoute(family));
            }
            requests.push(request);
        }
        let mut desired = Vec::new();
        for request in &requests {
            match Desired::new(request, &seen) {
                Ok(one) => desired.push(one),
                Err(problem) => log::warn(format_args!("{}: {problem}", request.vip)),
            }
        }
        let steps = start_all(&desired, &seen);
        self.apply(&steps);
        self.announce(&steps, targets);
        drop((records, requests, desired, steps, seen));
        memory::trim();
        Ok(())
    }

    /// Announces what was mended, and begins to announce again what has moved.
    fn announce(&mut self, steps: &[Step], targets: &BTreeMap<IpAddr, String>) {
        let now = Instant::now();
        let mended = steps.iter().filter_map(|step| match step {
            Step::Add(Object::Proxy(port, vip)) if !targets.contains_key(vip) => {
                Some((*vip, port.as_str()))
            }
            _ => None,
        });
        let mended: Vec<(IpAddr, &str)> = mended.collect();
        let announcements: Vec<Announcement> = mended
            .iter()
            .filter_map(|(vip, port)| self.kernel.announcement(port, *vip).ok())
            .collect();
        if let Err(e) = self.wire.announce(&announcements) {
            log::warn(e);
        }
        let moved = targets.iter().map(|(vip, port)| (*vip, port.as_str()));
        for (vip, port) in mended.into_iter().chain(moved) {
            self.announcing.begin(vip, port, now, &self.wire);
        }
    }
}

/// Of the ports that VIPs have moved to, those that are still worth to be at: the lock may have been waited for,
/// and what was decided on comes before all else.
fn still_good(targets: &BTreeMap<IpAddr, String>, seen: &Observed) -> BTreeMap<IpAddr, String> {
    let good = |port: &str| seen.link(port).is_some_and(|link| seen.is_usable(link));
    let kept = targets.iter().filter(|(_, port)| good(port));
    kept.map(|(vip, port)| (*vip, port.clone())).collect()
}

/// Whether the cell of a VIP's vserver is on this node.
fn has_cell(record: &Record, seen: &Observed) -> bool {
    let veth = network::outside(&record.wish.vserver);
    seen.link(&veth).is_some()
}

/// What each VIP moves, from counters that are read now and then.
#[derive(Debug, Default)]
struct Loads {
    counted: BTreeMap<IpAddr, u64>,
    at: Option<Instant>,
    rates: BTreeMap<IpAddr, u64>,
}

impl Loads {
    fn take(&mut self, counted: BTreeMap<IpAddr, u64>, now: Instant) {
        let since = self.at.map(|at| now.saturating_duration_since(at));
        let milliseconds = since.map_or(0, |d| d.as_millis());
        if milliseconds > 0 {
            let rate = |(vip, bytes): (&IpAddr, &u64)| {
                // A counter that has begun anew counts from nothing.
                let before = self.counted.get(vip).filter(|b| *b <= bytes);
                let grown = u128::from(bytes - before.unwrap_or(&0));
                let rate = grown * 1000 / milliseconds;
                (*vip, u64::try_from(rate).unwrap_or(u64::MAX))
            };
            self.rates = counted.iter().map(rate).collect();
        }
        self.counted = counted;
        self.at = Some(now);
    }

    /// Bytes a second.
    fn of(&self, vip: IpAddr) -> u64 {
        self.rates.get(&vip).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::port::Standing;
    use crate::plan::vip::{Link, Watched};

    #[test]
    fn a_port_that_has_failed_since_it_was_decided_on_is_no_target_any_more() {
        let link = |name: &str, carrier| Link {
            name: name.to_owned(),
            up: true,
            carrier,
            eligible: true,
            addresses: Vec::new(),
        };
        let watched = |standing| Watched {
            standing,
            load: 0,
            nets: Vec::new(),
        };
        let seen = Observed {
            links: [("p0", true), ("p1", true), ("p2", false), ("p3", true)]
                .map(|(name, carrier)| link(name, carrier))
                .into(),
            watched: [
                ("p0".to_owned(), watched(Standing::Good)),
                ("p1".to_owned(), watched(Standing::Failed)),
                ("p2".to_owned(), watched(Standing::Good)),
                ("p3".to_owned(), watched(Standing::Held)),
            ]
            .into(),
            ..Observed::default()
        };
        // The last one is not there at all.
        let targets: BTreeMap<IpAddr, String> = (0..5u8)
            .map(|n| ([10, 1, 0, n].into(), format!("p{n}")))
            .collect();
        let left = still_good(&targets, &seen);
        assert_eq!(left.into_values().collect::<Vec<_>>(), ["p0", "p3"]);
    }

    #[test]
    fn a_load_is_what_a_counter_has_grown_by() {
        let (vip, start) = (IpAddr::from([10, 1, 0, 50]), Instant::now());
        let mut loads = Loads::default();
        loads.take([(vip, 1_000_000)].into(), start);
        assert_eq!(loads.of(vip), 0);
        let later = start + Duration::from_secs(5);
        loads.take([(vip, 6_000_000)].into(), later);
        assert_eq!(loads.of(vip), 1_000_000);
        // The VIP was stopped and started: its counter is a new one.
        loads.take([(vip, 500)].into(), later + Duration::from_secs(5));
        assert_eq!(loads.of(vip), 100);
        loads.take(BTreeMap::new(), later + Duration::from_secs(10));
        assert_eq!(loads.of(vip), 0);
    }
}
