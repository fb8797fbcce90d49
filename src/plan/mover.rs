//! What portwatch's mover decides: it owns no socket, clock, lock or log.
//!
//! A round has these parts. The caller carries out what one part has decided before it goes on to the next:
//!
//! ```text
//! Mover::survey        proxy entries of dead cells are removed; VIPs that this node has begun to route are announced
//! the caller's choice  which of the VIPs in the survey move
//! Cutover::new         what clients wait for: the new port is announced and answers, the old port no longer answers
//! Cutover::taken_back  the records are read again: new proxy entries of VIPs stopped meanwhile are removed
//! Mover::moved         what else the moves need is noted
//! Mover::take_deferred under the lock of the addresses' agents: everything else that VIPs need
//! ```
//!
//! A stop first puts on record that the VIP is not served, then looks in the kernel for what is to be removed. A move
//! first makes the new proxy entry, then reads the record. Whichever comes second sees what the first has done, so no
//! proxy entry is left behind.

mod deferred;
mod loads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::port::{Move, Port, Vip};
use super::vip::{Behind, LOCK_PAUSE, Object, Observed, Request, Step, Watched, present_port};
use crate::types::{BitRate, Family, IfName};

pub(crate) use self::deferred::{Changes, Deferred};
use self::loads::Loads;

/// How long an address's agent may hold the lock before that is logged: a start makes the nftables tables while it
/// holds the lock.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// What is logged when the lock was held for longer than [`LOCK_LIMIT`].
const LOCKED_OUT: &str =
    "an address's agent keeps vip.lock: VIPs are at their ports, but what was lost is not mended";

/// What this node does for a VIP that it has on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// This node has the cell and serves the VIP.
    Serve,
    /// This node answers for the VIP and routes to the node with the cell.
    Route,
    /// This node has the cell, and another node answers for the VIP and routes to this one.
    Detour {
        /// Whether it is known which node routes, and how it is reached.
        known: bool,
    },
    /// No port of this node is needed for the VIP.
    Nothing,
}

/// A VIP on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// What the VIP needs on this node.
    pub(crate) request: Request,
    /// Whether the VIP has been started, and no stop of it has begun.
    pub(crate) serving: bool,
    /// What this node does for the VIP.
    pub(crate) duty: Duty,
}

impl Recorded {
    /// Whether the VIP is served through a port of this node.
    pub(crate) const fn is_served(&self) -> bool {
        self.serving && matches!(self.duty, Duty::Serve | Duty::Route)
    }

    /// Whether packets to the VIP have somewhere to go: another node, or a cell whose veth still exists.
    fn is_alive(&self, seen: &Observed) -> bool {
        match &self.request.behind {
            Behind::Cell(link) => seen.link(link).is_some(),
            Behind::Node(_) => true,
        }
    }
}

/// How much a round has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Only what moves of VIPs need.
    Moves,
    /// Whatever is missing of any VIP is made again.
    Everything,
}

/// A VIP at a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placement {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The port that answers for it.
    pub(crate) port: IfName,
}

impl Placement {
    fn new(vip: IpAddr, port: &IfName) -> Self {
        Self {
            vip,
            port: port.to_owned(),
        }
    }

    /// The proxy neighbour entry that makes the port answer for the VIP.
    fn proxy(&self) -> Object {
        Object::Proxy(self.port.clone(), self.vip)
    }
}

/// What [`Mover::survey`] has found on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Removals of the proxy entries of dead cells' VIPs: until such a VIP is stopped, no port answers for it.
    pub(crate) dead_proxies: Vec<Step>,
    /// VIPs that this node has begun to route, to be announced repeatedly from now on: what is served here is announced
    /// by its cell's keeper, but the cell of these is on another node.
    pub(crate) announce: Vec<Placement>,
    /// The VIPs that a port may be chosen for, with the ports that may serve them.
    pub(crate) vips: Vec<Vip>,
    /// The ports to choose from, with their loads.
    pub(crate) ports: Vec<Port>,
}

/// What the mover remembers from one round to the next.
#[derive(Debug, Default)]
pub(crate) struct Mover {
    loads: Loads,
    placed: BTreeMap<IpAddr, Option<IfName>>,
    deferred: Option<Deferred>,
}

impl Mover {
    /// The port that each VIP is served through, as of the last survey and the moves since.
    pub(crate) const fn placed(&self) -> &BTreeMap<IpAddr, Option<IfName>> {
        &self.placed
    }

    /// The traffic of a VIP, as last measured.
    pub(crate) fn load(&self, vip: IpAddr) -> BitRate {
        self.loads.of(vip)
    }

    /// The traffic of all VIPs at each port, as last measured.
    pub(crate) fn port_loads(&self) -> BTreeMap<&IfName, BitRate> {
        let mut loads: BTreeMap<&IfName, BitRate> = BTreeMap::new();
        for (vip, port) in &self.placed {
            if let Some(port) = port {
                *loads.entry(port).or_default() += self.loads.of(*vip);
            }
        }
        loads
    }

    /// Notes the VIPs' byte counters, which count from when each VIP was started.
    pub(crate) fn measured(&mut self, traffic: BTreeMap<IpAddr, u64>, now: Instant) {
        self.loads.take(traffic, now);
    }

    /// When the lock of the addresses' agents is to be tried; `None` if nothing waits for it.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.deferred.as_ref().map(|deferred| deferred.at)
    }

    /// Decides from the state of the node: the records of its VIPs; what the kernel has of VIPs and cells, and what is
    /// reported of the ports (both in `seen`); and the ports that may be chosen.
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
        // A VIP on a detour loads the port that its replies leave by.
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

    /// Notes moves that were made, and that the rest of what they need is still to be done.
    pub(crate) fn moved(&mut self, moves: &[Move], extent: Extent, now: Instant) {
        let targets = moves.iter().map(|m| (m.vip, m.to.clone()));
        self.placed
            .extend(targets.clone().map(|(vip, port)| (vip, Some(port))));
        if extent == Extent::Everything || !moves.is_empty() {
            let deferred = self.deferred.get_or_insert_with(|| Deferred::new(now));
            deferred.everything |= extent == Extent::Everything;
            deferred.targets.extend(targets);
        }
    }

    /// Whether there is work left to do under the lock, and it is time to try the lock.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|at| at <= now)
    }

    /// Notes that somebody else holds the lock, to be tried again after [`LOCK_PAUSE`]. Once the lock has been held for
    /// [`LOCK_LIMIT`], returns the text to log, one time.
    pub(crate) fn locked_out(&mut self, now: Instant) -> Option<&'static str> {
        let deferred = self.deferred.as_mut()?;
        deferred.at = now + LOCK_PAUSE;
        let tells = !deferred.told && now.saturating_duration_since(deferred.since) >= LOCK_LIMIT;
        deferred.told |= tells;
        tells.then_some(LOCKED_OUT)
    }

    /// Hands over the work that is left, if there is any, to a caller that holds the lock or gives the work up.
    pub(crate) const fn take_deferred(&mut self) -> Option<Deferred> {
        self.deferred.take()
    }

    /// The ports with their loads.
    fn loaded(&self, ports: &[Port]) -> Vec<Port> {
        let loads = self.port_loads();
        let with_load = |port: &Port| Port {
            load: loads.get(&port.name).copied().unwrap_or_default(),
            ..port.clone()
        };
        ports.iter().map(with_load).collect()
    }

    /// A VIP as the choice of ports takes it; `None` if it is at a port that is not watched, or none may serve it.
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

    /// The VIPs that this node routes and that the survey before this one did not find at a port.
    fn newly_routed(&self, alive: &[&Recorded], vips: &[Vip]) -> Vec<Placement> {
        let routed: BTreeSet<IpAddr> = alive
            .iter()
            .filter(|record| record.duty == Duty::Route)
            .map(|record| record.request.vip)
            .collect();
        vips.iter()
            .filter(|vip| routed.contains(&vip.ip) && !self.placed.contains_key(&vip.ip))
            .filter_map(|vip| Some(Placement::new(vip.ip, vip.port.as_ref()?)))
            .collect()
    }
}

/// How a port may serve a VIP.
enum Reach {
    /// The VIP is in the port's subnet: the port answers for the VIP.
    OwnSubnet,
    /// The VIP is in another subnet: a routing daemon announces the route to the VIP at the port.
    OtherSubnet,
}

/// How the port called `name` may serve a VIP, if it may.
fn reach(request: &Request, name: &IfName, watched: &Watched) -> Option<Reach> {
    let is_inside = watched
        .nets
        .iter()
        .any(|(net, _)| net.contains(request.vip));
    // A port without a subnet counts as the VIP's own if the administrator has named it for the VIP.
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

/// The part of a move that clients wait for: they are told of the new port, and it answers from then on. Replies can
/// wait for the rest of the move: the routes of the old port are dead, or they still work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cutover {
    /// The VIPs at their new ports, to be announced before the steps are carried out.
    pub(crate) announce: Vec<Placement>,
    /// The changes of proxy entries.
    pub(crate) steps: Vec<Step>,
}

impl Cutover {
    /// For those of `moves` that lead to ports of the VIPs' own subnets. A port of another subnet needs no proxy entry,
    /// so a move there is left to [`Deferred`].
    pub(crate) fn new(moves: &[Move], vips: &[Vip], seen: &Observed) -> Self {
        let mut cutover = Self::default();
        let is_hurried = |change: &&Move| {
            let mut vips = vips.iter();
            vips.any(|vip| vip.ip == change.vip && vip.ports.contains(&change.to))
        };
        for Move { vip, from, to } in moves.iter().filter(is_hurried) {
            let new = Placement::new(*vip, to);
            cutover.steps.push(Step::Add(new.proxy()));
            let old = from.as_ref().map(|from| Placement::new(*vip, from).proxy());
            let old = old.filter(|proxy| seen.objects.contains(proxy));
            cutover.steps.extend(old.map(Step::Remove));
            cutover.announce.push(new);
        }
        cutover
    }

    /// The new proxy entries to remove again, by the records as they are after the steps were carried out: an agent may
    /// have begun to stop a VIP, and have looked for what to remove before the new proxy entry was there.
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
