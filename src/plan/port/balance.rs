//! Evens out the load of the good ports of a subnet, one VIP at a time.
//!
//! When the fullest and the emptiest good port of a subnet have differed by more than the threshold
//! for the whole of the hold, one VIP moves, and the hold begins anew. The fullest port gives, or the
//! next fullest if nothing can leave it, and the emptiest that the VIP may use takes. Of the VIPs the
//! lightest goes that alone brings giver and taker within the threshold, else the one that brings
//! them closest.
//!
//! Why it comes to rest: after a move giver and taker are both less full than the giver was. So, with
//! loads that don't change, the utilisations in descending order become smaller with each move, as
//! words do in a dictionary, and no distribution returns. Nor does a VIP return to a port that it left
//! in the same course. A course ends when the subnet is in balance, or when a port is clearly fuller
//! than the fullest was at the last move, which shows that the loads have changed. From one course to
//! the next, a VIP that was moved stays for ten holds, and giver and taker change roles only for a
//! clear improvement.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::choice::assumed_speed;
use super::{Move, Port, Standing, Vip};
use crate::types::{BitRate, IfName, Label};

#[cfg(test)]
mod tests;

/// For how many holds a VIP that was moved stays where it is.
const REST: u32 = 10;
/// An improvement counts as clear from the threshold divided by this on.
const CLEAR: u128 = 4;
/// Utilisation is counted in parts per million of a port's speed.
const MILLION: u32 = 1_000_000;
/// One percent in these parts.
const PERCENT: u128 = MILLION as u128 / 100;

/// Watches the load of the ports and moves VIPs when it stays uneven.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    threshold: u128,
    hold: Duration,
    /// The course of each subnet that is out of balance, by its name.
    courses: BTreeMap<Label, Course>,
    /// The VIPs that have to stay, and when each was moved.
    moved: BTreeMap<IpAddr, Instant>,
}

/// The moves by which a subnet comes into balance.
#[derive(Debug, Clone, Default)]
struct Course {
    /// Since when the subnet has been uneven, counted anew from each move.
    since: Option<Instant>,
    /// How full the fullest port was at the last move.
    fullest: u128,
    /// The ports that VIPs have left in this course, to which they don't return.
    left: BTreeSet<(IpAddr, IfName)>,
}

/// A good port and its utilisation.
#[derive(Debug, Clone, Copy)]
struct Gauge<'a> {
    name: &'a IfName,
    speed: BitRate,
    load: BitRate,
}

impl Gauge<'_> {
    fn full(&self) -> u128 {
        self.full_with(self.load)
    }

    fn full_with(&self, load: BitRate) -> u128 {
        load.share_of(self.speed, MILLION).unwrap_or(0)
    }
}

/// A move that would help, and how much: the smaller, the better.
struct Candidate<'a> {
    vip: &'a Vip,
    to: &'a IfName,
    /// The difference that is left, as far as it matters, and then the VIP's load.
    rank: (u128, BitRate),
}

impl Balancer {
    /// A balancer that lets ports of a subnet differ by `threshold_percent` of their speeds, and by more for as long as
    /// `hold`. With a threshold of 0 it never moves anything.
    pub(crate) fn new(threshold_percent: u32, hold: Duration) -> Self {
        Self {
            threshold: u128::from(threshold_percent) * PERCENT,
            hold,
            courses: BTreeMap::new(),
            moved: BTreeMap::new(),
        }
    }

    /// Notes the loads. Returns the move that is due now, if any, which the caller makes.
    pub(crate) fn observe(&mut self, vips: &[Vip], ports: &[Port], now: Instant) -> Option<Move> {
        if self.threshold == 0 {
            return None;
        }
        let rest = self.hold.saturating_mul(REST);
        self.moved
            .retain(|_, at| now.saturating_duration_since(*at) < rest);
        let subnets = by_subnet(ports);
        self.courses.retain(|name, _| subnets.contains_key(&name));
        let mut best = None;
        for (name, gauges) in subnets {
            // One move is enough, but each subnet is observed: the hold of each goes on.
            let due = self.is_due(name, &gauges, now);
            if due && best.is_none() {
                best = self.best(name, &gauges, vips);
                if let Some(change) = &best {
                    self.begin_anew(name, &gauges, change, now);
                }
            }
        }
        best
    }

    /// Whether a subnet has been uneven for the whole of the hold.
    fn is_due(&mut self, subnet: &Label, gauges: &[Gauge], now: Instant) -> bool {
        let (Some(emptiest), Some(fullest)) = (gauges.first(), gauges.last()) else {
            return false;
        };
        let course = self.courses.entry(subnet.clone()).or_default();
        if fullest.full() - emptiest.full() <= self.threshold {
            *course = Course::default();
            return false;
        }
        if fullest.full() > course.fullest + self.threshold / CLEAR {
            course.left.clear();
        }
        let since = *course.since.get_or_insert(now);
        now.saturating_duration_since(since) >= self.hold
    }

    fn begin_anew(&mut self, subnet: &Label, gauges: &[Gauge], change: &Move, now: Instant) {
        self.moved.insert(change.vip, now);
        let course = self.courses.entry(subnet.clone()).or_default();
        course.since = Some(now);
        course.fullest = gauges.last().map_or(0, Gauge::full);
        let left = change.from.clone().map(|from| (change.vip, from));
        course.left.extend(left);
    }

    /// The best move off the fullest port that has one.
    fn best(&self, subnet: &Label, gauges: &[Gauge], vips: &[Vip]) -> Option<Move> {
        let course = self.courses.get(subnet)?;
        gauges.iter().rev().find_map(|giver| {
            let own = vips.iter().filter(|v| v.port.as_ref() == Some(giver.name));
            let awake = own.filter(|v| v.load > BitRate::NONE && !self.moved.contains_key(&v.ip));
            let candidates = awake.filter_map(|vip| {
                let left = |port: &Gauge| course.left.contains(&(vip.ip, port.name.clone()));
                let mut takers = gauges.iter().filter(|g| may_use(vip, g.name) && !left(g));
                takers.find_map(|taker| self.candidate(vip, giver, taker))
            });
            let best = candidates.min_by_key(|c| (c.rank, c.vip.ip))?;
            Some(Move {
                vip: best.vip.ip,
                from: best.vip.port.clone(),
                to: best.to.clone(),
            })
        })
    }

    fn candidate<'a>(
        &self,
        vip: &'a Vip,
        giver: &Gauge,
        taker: &Gauge<'a>,
    ) -> Option<Candidate<'a>> {
        let before = giver.full();
        let gives = giver.full_with(giver.load.without(vip.load));
        let takes = taker.full_with(taker.load + vip.load);
        let uneven = before.saturating_sub(taker.full()) > self.threshold;
        let lighter = gives < before;
        // Either way the taker ends up less full than the giver was. Loads are never quite the same
        // twice: a mere change of roles would be followed by another.
        let clear = takes <= gives || takes + self.threshold / CLEAR <= before;
        let difference = gives.abs_diff(takes).max(self.threshold);
        (uneven && lighter && clear).then_some(Candidate {
            vip,
            to: taker.name,
            rank: (difference, vip.load),
        })
    }
}

/// The good ports of each subnet, the emptiest first.
fn by_subnet(ports: &[Port]) -> BTreeMap<&Label, Vec<Gauge<'_>>> {
    let assumed = assumed_speed(ports);
    let mut subnets: BTreeMap<&Label, Vec<Gauge>> = BTreeMap::new();
    for port in ports.iter().filter(|p| p.standing == Standing::Good) {
        subnets.entry(&port.subnet).or_default().push(Gauge {
            name: &port.name,
            speed: port.speed_or(assumed),
            load: port.load,
        });
    }
    for gauges in subnets.values_mut() {
        gauges.sort_by_key(|g| (g.full(), g.name));
    }
    subnets
}

fn may_use(vip: &Vip, port: &IfName) -> bool {
    vip.ports.iter().chain(&vip.elsewhere).any(|p| p == port)
}
