//! What portwatch's mover decides: it owns no socket, clock, lock or log.
//!
//! A round has these parts. After each of them the caller does what it decides, before it goes on to the next:
//!
//! ```text
//! Mover::survey       proxy entries of dead cells go; a VIP that is newly routed for is announced again
//! the caller's choice which VIPs move, of those that the survey names
//! Haste::new          what clients wait for: the new port is announced and answers, the old one does no more
//! Haste::taken_back   by the records as they are now: what was stopped meanwhile goes again
//! Mover::moved        the rest is noted
//! Mover::take_rest    under the lock of the addresses' agents: everything else that VIPs need
//! ```
//!
//! A stop puts on record that the VIP is not served, and looks after that what there is to take away. A move makes
//! the new proxy entry, and reads the record after that. Whichever comes second sees what the first has done, so no
//! proxy entry is left behind.

mod loads;
mod rest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::port::{Move, Port, Vip};
use super::vip::{Behind, LOCK_PAUSE, Object, Observed, Request, Step, Watched, present_port};
use crate::types::{BitRate, Family};

use self::loads::Loads;
pub(crate) use self::rest::{Changes, Rest};

/// How long an address's agent may keep the lock before that is worth a word: a start makes the nftables tables
/// under it.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// What there is to tell when the lock is not to be had.
const LOCKED_OUT: &str =
    "an address's agent keeps vip.lock: VIPs are at their ports, but what was lost is not mended";

/// What this node does for a VIP that it has on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// It has the cell and serves the VIP.
    Serve,
    /// It routes to the node with the cell.
    Route,
    /// It has the cell, and another node routes.
    Detour {
        /// Whether it is known which node, and the way there.
        known: bool,
    },
    /// Nothing that a port is needed for.
    Nothing,
}

/// A VIP on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// What it needs.
    pub(crate) request: Request,
    /// Whether it has been started, and nobody has begun to stop it.
    pub(crate) serving: bool,
    /// What this node does for it.
    pub(crate) duty: Duty,
}

impl Recorded {
    /// Whether the VIP is served through a port of this node.
    pub(crate) const fn is_served(&self) -> bool {
        self.serving && matches!(self.duty, Duty::Serve | Duty::Route)
    }

    /// Whether there is something behind the VIP: another node, or a cell that lives.
    fn is_alive(&self, seen: &Observed) -> bool {
        match &self.request.behind {
            Behind::Cell(link) => seen.link(link).is_some(),
            Behind::Node(_) => true,
        }
    }
}

/// How much is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Only what a move takes.
    Moves,
    /// All that should be there, for every VIP.
    Everything,
}

/// A VIP at a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placement {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The port that answers for it.
    pub(crate) port: String,
}

impl Placement {
    fn new(vip: IpAddr, port: &str) -> Self {
        Self {
            vip,
            port: port.to_owned(),
        }
    }

    /// What has the port answer for the VIP.
    fn proxy(&self) -> Object {
        Object::Proxy(self.port.clone(), self.vip)
    }
}

/// What a look at the node has led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Proxy entries to remove: a dead cell draws no more packets, and until its VIPs are stopped nothing answers
    /// for them.
    pub(crate) dead_proxies: Vec<Step>,
    /// What is to be announced again and again from now on: for VIPs that this node has begun to route there is no
    /// keeper that would do it.
    pub(crate) announce: Vec<Placement>,
    /// The VIPs that a port may be chosen for.
    pub(crate) vips: Vec<Vip>,
    /// The ports to choose from, with their loads.
    pub(crate) ports: Vec<Port>,
}

/// What is remembered from one round to the next.
#[derive(Debug, Default)]
pub(crate) struct Mover {
    loads: Loads,
    placed: BTreeMap<IpAddr, Option<String>>,
    rest: Option<Rest>,
}

impl Mover {
    /// The port that each VIP is served through, as it was last seen.
    pub(crate) const fn placed(&self) -> &BTreeMap<IpAddr, Option<String>> {
        &self.placed
    }

    /// What a VIP moves, as it was last measured.
    pub(crate) fn load(&self, vip: IpAddr) -> BitRate {
        self.loads.of(vip)
    }

    /// The bytes a second that VIPs move through each port, as they were last measured.
    pub(crate) fn port_loads(&self) -> BTreeMap<&str, BitRate> {
        let mut loads: BTreeMap<&str, BitRate> = BTreeMap::new();
        for (vip, port) in &self.placed {
            if let Some(port) = port {
                *loads.entry(port.as_str()).or_default() += self.loads.of(*vip);
            }
        }
        loads
    }

    /// Takes note of the bytes that VIPs have moved since they were started.
    pub(crate) fn measured(&mut self, traffic: BTreeMap<IpAddr, u64>, now: Instant) {
        self.loads.take(traffic, now);
    }

    /// When the lock is to be tried.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.rest.as_ref().map(|rest| rest.at)
    }

    /// Looks at the node: what is on record of its VIPs, what of them and of their cells the kernel has, what is
    /// reported of the ports (in `seen`), and the ports that may be chosen.
    pub(crate) fn survey(
        &mut self,
        records: &[Recorded],
        seen: &Observed,
        ports: &[Port],
    ) -> Survey {
        let served = records.iter().filter(|record| record.is_served());
        let (alive, dead): (Vec<&Recorded>, Vec<&Recorded>) =
            served.partition(|record| record.is_alive(seen));
        let vips: Vec<Vip> = alive
            .iter()
            .filter_map(|record| self.vip(&record.request, seen))
            .collect();
        let announce = self.newly_routed(&alive, &vips);
        self.placed = vips.iter().map(|v| (v.ip, v.port.clone())).collect();
        // What leaves by another node is no less a load.
        let detoured = records
            .iter()
            .filter(|record| matches!(record.duty, Duty::Detour { .. }))
            .map(|record| record.request.vip);
        self.placed
            .extend(detoured.map(|vip| (vip, present_port(vip, seen))));
        Survey {
            dead_proxies: proxies_to_remove(&dead, seen),
            announce,
            vips,
            ports: self.loaded(ports),
        }
    }

    /// Takes note of moves that were made, and of what is still to be done.
    pub(crate) fn moved(&mut self, moves: &[Move], extent: Extent, now: Instant) {
        let targets = moves.iter().map(|m| (m.vip, m.to.clone()));
        self.placed
            .extend(targets.clone().map(|(vip, port)| (vip, Some(port))));
        if extent == Extent::Everything || !moves.is_empty() {
            let rest = self.rest.get_or_insert_with(|| Rest::new(now));
            rest.everything |= extent == Extent::Everything;
            rest.targets.extend(targets);
        }
    }

    /// Whether there is a rest, and it is time to try the lock.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// Somebody has the lock: it is to be tried again. Says what is to be told of it, if anything: once, when it
    /// has taken long.
    pub(crate) fn locked_out(&mut self, now: Instant) -> Option<&'static str> {
        let rest = self.rest.as_mut()?;
        rest.at = now + LOCK_PAUSE;
        let tells = !rest.told && now.saturating_duration_since(rest.since) >= LOCK_LIMIT;
        rest.told |= tells;
        tells.then_some(LOCKED_OUT)
    }

    /// The rest: it is the caller's then, who has the lock, or gives it up.
    pub(crate) const fn take_rest(&mut self) -> Option<Rest> {
        self.rest.take()
    }

    /// The ports with their loads.
    fn loaded(&self, ports: &[Port]) -> Vec<Port> {
        let loads = self.port_loads();
        let with_load = |port: &Port| Port {
            load: loads.get(port.name.as_str()).copied().unwrap_or_default(),
            ..port.clone()
        };
        ports.iter().map(with_load).collect()
    }

    /// A VIP as the choice has it; `None` if its ports are not watched.
    fn vip(&self, request: &Request, seen: &Observed) -> Option<Vip> {
        let port = present_port(request.vip, seen);
        if port.as_ref().is_some_and(|p| !seen.watched.contains_key(p)) {
            return None;
        }
        let (mut own_subnet, mut other_subnets) = (Vec::new(), Vec::new());
        for (name, watched) in &seen.watched {
            match reach(request, name, watched) {
                Some(Reach::OwnSubnet) => own_subnet.push(name.clone()),
                Some(Reach::OtherSubnet) => other_subnets.push(name.clone()),
                None => {}
            }
        }
        let has_ports = !own_subnet.is_empty() || !other_subnets.is_empty();
        has_ports.then(|| Vip {
            ip: request.vip,
            load: self.loads.of(request.vip),
            port,
            ports: own_subnet,
            elsewhere: other_subnets,
        })
    }

    /// Where VIPs are that this node routes, and that were not placed when it was looked before.
    fn newly_routed(&self, alive: &[&Recorded], vips: &[Vip]) -> Vec<Placement> {
        let routed: BTreeSet<IpAddr> = alive
            .iter()
            .filter(|record| record.duty == Duty::Route)
            .map(|record| record.request.vip)
            .collect();
        vips.iter()
            .filter(|vip| routed.contains(&vip.ip) && !self.placed.contains_key(&vip.ip))
            .filter_map(|vip| Some(Placement::new(vip.ip, vip.port.as_deref()?)))
            .collect()
    }
}

/// How a port may serve a VIP.
enum Reach {
    /// It answers for it.
    OwnSubnet,
    /// The way to it is announced there.
    OtherSubnet,
}

/// How the port called `name` may serve a VIP, if it may.
fn reach(request: &Request, name: &String, watched: &Watched) -> Option<Reach> {
    let is_inside = watched
        .nets
        .iter()
        .any(|(net, _)| net.contains(request.vip));
    // Of a port without a subnet the administrator may know where it leads.
    let is_named = request.ports.is_some() && watched.nets.is_empty();
    if is_inside || is_named {
        let is_allowed = request
            .ports
            .as_ref()
            .is_none_or(|names| names.contains(name));
        return is_allowed.then_some(Reach::OwnSubnet);
    }
    let family = Family::of(&request.vip);
    let mut nets = watched.nets.iter();
    let is_of_family = nets.any(|(net, _)| Family::of(&net.ip()) == family);
    (request.routed && is_of_family).then_some(Reach::OtherSubnet)
}

/// The removal of all proxy entries of VIPs whose cells are dead.
fn proxies_to_remove(dead: &[&Recorded], seen: &Observed) -> Vec<Step> {
    let dead: BTreeSet<IpAddr> = dead.iter().map(|record| record.request.vip).collect();
    let proxies = seen.objects.iter().filter(|object| match object {
        Object::Proxy(_, vip) => dead.contains(vip),
        _ => false,
    });
    proxies.cloned().map(Step::Remove).collect()
}

/// What clients wait for: they are told of the new port, which answers from then on. Replies leave by it already,
/// for the routes of the old one are dead or still good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Haste {
    /// What is to be announced, before the steps are done.
    pub(crate) announce: Vec<Placement>,
    /// The steps.
    pub(crate) steps: Vec<Step>,
}

impl Haste {
    /// For those of `moves` that lead to ports of the VIPs' own subnets. At another subnet's port nothing answers
    /// for a VIP: that is left to the rest.
    pub(crate) fn new(moves: &[Move], vips: &[Vip], seen: &Observed) -> Self {
        let mut haste = Self::default();
        let is_hurried = |change: &&Move| {
            let mut vips = vips.iter();
            vips.any(|vip| vip.ip == change.vip && vip.ports.contains(&change.to))
        };
        for Move { vip, from, to } in moves.iter().filter(is_hurried) {
            let new = Placement::new(*vip, to);
            haste.steps.push(Step::Add(new.proxy()));
            let old = from.as_ref().map(|from| Placement::new(*vip, from).proxy());
            let old = old.filter(|proxy| seen.objects.contains(proxy));
            haste.steps.extend(old.map(Step::Remove));
            haste.announce.push(new);
        }
        haste
    }

    /// What is to be taken back of it, by what is on record after the steps were done: an address's agent may have
    /// begun to stop a VIP, and looked what there is to take away before its new proxy entry was there.
    pub(crate) fn taken_back(&self, records: &[Recorded]) -> Vec<Step> {
        let served: BTreeSet<IpAddr> = records
            .iter()
            .filter(|record| record.is_served())
            .map(|record| record.request.vip)
            .collect();
        let stopped = self
            .announce
            .iter()
            .filter(|new| !served.contains(&new.vip));
        stopped.map(|new| Step::Remove(new.proxy())).collect()
    }
}
