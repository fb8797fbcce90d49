//! The traffic of each VIP, computed from byte counters that are read from time to time.

use crate::types::BitRate;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Loads {
    /// Each VIP's byte counter, as read at `at`.
    counted: BTreeMap<IpAddr, u64>,
    at: Option<Instant>,
    /// Each VIP's traffic between the last two readings.
    rates: BTreeMap<IpAddr, BitRate>,
}

impl Loads {
    pub(crate) fn take(&mut self, counted: BTreeMap<IpAddr, u64>, now: Instant) {
        let since = self.at.map(|at| now.saturating_duration_since(at));
        let milliseconds = since.map_or(0, |d| d.as_millis());
        if milliseconds > 0 {
            let rate = |(vip, bytes): (&IpAddr, &u64)| {
                // A counter that has become smaller was reset: it counts from zero.
                let before = self.counted.get(vip).filter(|b| *b <= bytes);
                let grown = u128::from(bytes - before.unwrap_or(&0));
                let rate = grown * 1000 / milliseconds;
                let rate = u64::try_from(rate).unwrap_or(u64::MAX);
                (*vip, BitRate::bytes(rate))
            };
            self.rates = counted.iter().map(rate).collect();
        }
        self.counted = counted;
        self.at = Some(now);
    }

    /// The traffic of a VIP between the last two readings; zero if it is not known.
    pub(crate) fn of(&self, vip: IpAddr) -> BitRate {
        self.rates.get(&vip).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_load_is_what_a_counter_has_grown_by() {
        let (vip, start) = (IpAddr::from([10, 1, 0, 50]), Instant::now());
        let mut loads = Loads::default();
        loads.take([(vip, 1_000_000)].into(), start);
        assert_eq!(loads.of(vip), BitRate::NONE);
        let later = start + Duration::from_secs(5);
        loads.take([(vip, 6_000_000)].into(), later);
        assert_eq!(loads.of(vip), BitRate::bytes(1_000_000));
        // The VIP was stopped and started: its counter is a new one.
        loads.take([(vip, 500)].into(), later + Duration::from_secs(5));
        assert_eq!(loads.of(vip), BitRate::bytes(100));
        loads.take(BTreeMap::new(), later + Duration::from_secs(10));
        assert_eq!(loads.of(vip), BitRate::NONE);
    }
}
