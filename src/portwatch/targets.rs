//! The targets that are probed through a port, and the replies that count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::plan::neighbour::Reply;
use crate::types::Mac;

/// How many targets are probed at once while the usual one does not reply.
const AT_ONCE: usize = 8;
/// A reply this late still answers the probe.
const PATIENCE: Duration = Duration::from_secs(1);

/// The probes through one port.
#[derive(Debug, Default)]
pub(crate) struct TargetProbes {
    targets: Vec<IpAddr>,
    /// The target that replied last, and its Ethernet address. While it replies it is probed alone and by unicast, so
    /// that nobody else on the network is bothered.
    usual: Option<(IpAddr, Mac)>,
    asked: BTreeMap<IpAddr, Instant>,
    /// When each target last replied.
    answered: BTreeMap<IpAddr, Instant>,
    heard: Option<Instant>,
    turn: usize,
}

impl TargetProbes {
    /// Sets the targets to probe from now on.
    pub(crate) fn set_targets(&mut self, targets: Vec<IpAddr>) {
        self.asked.retain(|ip, _| targets.contains(ip));
        self.answered.retain(|ip, _| targets.contains(ip));
        self.usual = self.usual.filter(|(ip, _)| targets.contains(ip));
        self.targets = targets;
    }

    /// Whether there is any target to probe.
    pub(crate) fn has_targets(&self) -> bool {
        !self.targets.is_empty()
    }

    /// The targets, each with the time of its last reply, if it has ever replied.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (IpAddr, Option<Instant>)> {
        let answered = |ip: &IpAddr| self.answered.get(ip).copied();
        self.targets.iter().map(move |ip| (*ip, answered(ip)))
    }

    /// Whether any target has ever replied.
    pub(crate) fn has_heard(&self) -> bool {
        self.heard.is_some()
    }

    /// The targets to probe at `now`, each with the Ethernet address to send the probe to; `None`: broadcast.
    pub(crate) fn due(&mut self, now: Instant, interval: Duration) -> Vec<(IpAddr, Option<Mac>)> {
        let lively = |at: Instant| now.saturating_duration_since(at) < interval * 5 / 4;
        let due: Vec<(IpAddr, Option<Mac>)> = match self.usual {
            Some((ip, mac)) if self.heard.is_some_and(lively) => vec![(ip, Some(mac))],
            _ => {
                let count = self.targets.len();
                let begin = self.turn % count.max(1);
                self.turn = begin + AT_ONCE.min(count);
                let turn = self.targets.iter().cycle().skip(begin);
                turn.take(AT_ONCE.min(count))
                    .map(|ip| (*ip, None))
                    .collect()
            }
        };
        self.asked.extend(due.iter().map(|(ip, _)| (*ip, now)));
        due
    }

    /// Whether `reply`, which came in through the port with the Ethernet address `mac`, proves that the port forwards:
    /// it comes from a target that was probed through this port of late, and is addressed to the port. Any other reply
    /// may be forged, or meant for another port on the same network.
    pub(crate) fn takes(&mut self, reply: &Reply, mac: Mac, now: Instant) -> bool {
        let asked = self.asked.get(&reply.ip);
        let of_late = asked.is_some_and(|at| now.saturating_duration_since(*at) <= PATIENCE);
        let takes = of_late && reply.to == mac && reply.from != mac;
        if takes {
            self.usual = Some((reply.ip, reply.from));
            self.answered.insert(reply.ip, now);
            self.heard = Some(now);
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const TARGET: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const INTERVAL: Duration = Duration::from_millis(200);

    fn ip(last: u8) -> IpAddr {
        [10, 1, 0, last].into()
    }

    fn answer(last: u8, to: Mac) -> Reply {
        Reply {
            link: 3,
            ip: ip(last),
            from: TARGET,
            to,
        }
    }

    fn target_probes(targets: impl IntoIterator<Item = u8>) -> TargetProbes {
        let mut target_probes = TargetProbes::default();
        target_probes.set_targets(targets.into_iter().map(ip).collect());
        target_probes
    }

    #[test]
    fn while_one_answers_it_alone_is_asked_and_otherwise_all_in_turn() {
        let start = Instant::now();
        let mut target_probes = target_probes(1..=10);
        assert_eq!(target_probes.due(start, INTERVAL).len(), AT_ONCE);
        assert!(target_probes.takes(&answer(3, PORT), PORT, start));
        let next = start + INTERVAL;
        assert_eq!(target_probes.due(next, INTERVAL), [(ip(3), Some(TARGET))]);
        let late = next + INTERVAL;
        let all: Vec<IpAddr> = target_probes
            .due(late, INTERVAL)
            .into_iter()
            .map(|q| q.0)
            .collect();
        assert_eq!(all[..3], [ip(9), ip(10), ip(1)]);
    }

    #[test]
    fn an_answer_to_another_port_or_unasked_does_not_count() {
        let start = Instant::now();
        let mut target_probes = target_probes([1]);
        assert!(
            !target_probes.takes(&answer(1, PORT), PORT, start),
            "not asked yet"
        );
        target_probes.due(start, INTERVAL);
        assert!(!target_probes.takes(&answer(1, TARGET), PORT, start));
        assert!(!target_probes.takes(&answer(2, PORT), PORT, start));
        let late = start + PATIENCE + INTERVAL;
        assert!(!target_probes.takes(&answer(1, PORT), PORT, late));
        assert!(target_probes.takes(&answer(1, PORT), PORT, start + INTERVAL));
    }

    #[test]
    fn one_that_is_no_target_any_more_is_not_asked() {
        let start = Instant::now();
        let mut target_probes = target_probes([1, 2]);
        target_probes.due(start, INTERVAL);
        assert!(target_probes.takes(&answer(1, PORT), PORT, start));
        let targets: Vec<_> = target_probes.targets().collect();
        assert_eq!(targets, [(ip(1), Some(start)), (ip(2), None)]);
        target_probes.set_targets(vec![ip(2)]);
        assert_eq!(target_probes.due(start, INTERVAL), [(ip(2), None)]);
        assert!(!target_probes.takes(&answer(1, PORT), PORT, start));
        target_probes.set_targets(Vec::new());
        assert!(target_probes.due(start, INTERVAL).is_empty() && !target_probes.has_targets());
    }
}
