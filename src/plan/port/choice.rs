//! The choice of the port that each VIP is served through.
//!
//! A VIP stays where it is as long as it is served there: every move costs its clients a stall. It
//! moves when its port has failed, is gone or not allowed any more, or to come home from a port of
//! another subnet once its own has one that works.
//!
//! Where to: a port of its own subnet, if any is usable at all; there the best standing, so one that
//! is held is used while nothing better is left; then the least utilised, counting the VIP and those
//! moved before it, then that with the fewest VIPs, then the first by name.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::Standing;
use crate::types::{BitRate, IfName, Label};

#[cfg(test)]
mod tests;

/// The speed that ports are taken to have if none of them has a known one.
const USUAL_SPEED: BitRate = BitRate::megabits(1000);

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Its interface.
    pub(crate) name: IfName,
    /// The subnet it is on.
    pub(crate) subnet: Label,
    /// How far the port can be relied on.
    pub(crate) standing: Standing,
    /// The port's speed, if it is known.
    pub(crate) speed: Option<BitRate>,
    /// The traffic of all VIPs at the port.
    pub(crate) load: BitRate,
}

impl Port {
    /// The port's speed, or `assumed` if it is not known; never zero.
    pub(crate) fn speed_or(&self, assumed: BitRate) -> BitRate {
        self.known_speed().unwrap_or(assumed)
    }

    fn known_speed(&self) -> Option<BitRate> {
        self.speed.filter(|speed| *speed > BitRate::NONE)
    }
}

/// A VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vip {
    /// The address.
    pub ip: IpAddr,
    /// The port it is served through now.
    pub(crate) port: Option<IfName>,
    /// The ports of its own subnet that it may use.
    pub(crate) ports: Vec<IfName>,
    /// The ports of other subnets that it may use, because a routing daemon announces the way to it.
    pub(crate) elsewhere: Vec<IfName>,
    /// The VIP's traffic.
    pub(crate) load: BitRate,
}

/// A change of the port that a VIP is served through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    /// The VIP.
    pub(crate) vip: IpAddr,
    /// The port that it leaves, if it was at one.
    pub(crate) from: Option<IfName>,
    /// The port that it moves to.
    pub(crate) to: IfName,
}

/// As the log has it.
impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, from, to } = self;
        let from = from.as_deref().unwrap_or("no port");
        write!(f, "{vip}: from {from} to {to}")
    }
}

/// The moves that VIPs need, the VIP with the most traffic first, so that most clients wait least.
///
/// A VIP for which there is no usable port stays where it is.
pub(crate) fn place(vips: &[Vip], ports: &[Port]) -> Vec<Move> {
    let mut board = Board::new(vips, ports);
    let mut waiting: Vec<&Vip> = vips.iter().filter(|vip| !board.stays(vip)).collect();
    waiting.sort_by_key(|vip| Reverse(vip.load));
    let moves = waiting.into_iter().filter_map(|vip| {
        let to = board.target(vip)?;
        board.put(vip, to);
        Some(Move {
            vip: vip.ip,
            from: vip.port.clone(),
            to: ports[to].name.clone(),
        })
    });
    moves.collect()
}

/// The speed that a port without a known one is taken to have: that of the fastest port. To underrate a fast port would
/// crowd the others.
pub(crate) fn assumed_speed(ports: &[Port]) -> BitRate {
    let fastest = ports.iter().filter_map(Port::known_speed).max();
    fastest.unwrap_or(USUAL_SPEED)
}

/// A port as a target for VIPs.
struct Candidate<'a> {
    port: &'a Port,
    speed: BitRate,
    load: BitRate,
    vips: usize,
}

impl Candidate<'_> {
    /// Which of two ports is the better one for a VIP with this load.
    fn compare(&self, other: &Self, load: BitRate) -> Ordering {
        // Fractions are compared by what each has over the common denominator: exact, and no division.
        let over =
            |a: &Self, b: &Self| u128::from((a.load + load).bits()) * u128::from(b.speed.bits());
        let standing = self.port.standing.cmp(&other.port.standing);
        standing
            .then_with(|| over(self, other).cmp(&over(other, self)))
            .then_with(|| self.vips.cmp(&other.vips))
            .then_with(|| self.port.name.cmp(&other.port.name))
    }
}

/// All ports, as the moves decided so far leave them.
struct Board<'a> {
    candidates: Vec<Candidate<'a>>,
    index: HashMap<&'a str, usize>,
}

impl<'a> Board<'a> {
    fn new(vips: &[Vip], ports: &'a [Port]) -> Self {
        let assumed = assumed_speed(ports);
        let candidates = ports.iter().map(|port| Candidate {
            port,
            speed: port.speed_or(assumed),
            load: port.load,
            vips: 0,
        });
        let names = ports.iter().enumerate().map(|(n, p)| (p.name.as_str(), n));
        let mut board = Self {
            candidates: candidates.collect(),
            index: names.collect(),
        };
        for vip in vips {
            if let Some(port) = board.present(vip) {
                board.candidates[port].vips += 1;
            }
        }
        board
    }

    fn present(&self, vip: &Vip) -> Option<usize> {
        let name = vip.port.as_deref()?;
        self.index.get(name).copied()
    }

    fn standing(&self, name: &str) -> Standing {
        let known = self.index.get(name);
        known.map_or(Standing::Failed, |n| self.candidates[*n].port.standing)
    }

    fn stays(&self, vip: &Vip) -> bool {
        let Some(present) = &vip.port else {
            return false;
        };
        // A held port is not yet worth a move home: the VIP might have to move back.
        let home = || vip.ports.iter().any(|p| self.standing(p) < Standing::Held);
        self.standing(present) < Standing::Failed
            && (vip.ports.contains(present) || (vip.elsewhere.contains(present) && !home()))
    }

    fn target(&self, vip: &Vip) -> Option<usize> {
        self.best(&vip.ports, vip.load)
            .or_else(|| self.best(&vip.elsewhere, vip.load))
    }

    fn best(&self, names: &[IfName], load: BitRate) -> Option<usize> {
        let known = names
            .iter()
            .filter_map(|name| self.index.get(name.as_str()));
        known
            .copied()
            .filter(|n| self.candidates[*n].port.standing < Standing::Failed)
            .min_by(|a, b| self.candidates[*a].compare(&self.candidates[*b], load))
    }

    fn put(&mut self, vip: &Vip, to: usize) {
        if let Some(from) = self.present(vip) {
            let from = &mut self.candidates[from];
            from.load = from.load.without(vip.load);
            from.vips = from.vips.saturating_sub(1);
        }
        let to = &mut self.candidates[to];
        to.load += vip.load;
        to.vips += 1;
    }
}
