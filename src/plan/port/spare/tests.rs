use proptest::prelude::*;

use super::*;

/// From measurement to measurement, in seconds.
const MEASURE: u64 = 5;

fn percent(used: u64) -> Share {
    Share::of(used, 100)
}

/// A node and the time it lives in.
struct Life {
    spare: Spare,
    now: Instant,
}

impl Life {
    fn begin(used: u64) -> Self {
        let now = Instant::now();
        Self {
            spare: Spare::new(percent(used), now),
            now,
        }
    }

    /// A measurement after so many seconds: the value, and whether it has changed.
    fn after(&mut self, seconds: u64, used: Share) -> (u32, bool) {
        self.now += Duration::from_secs(seconds);
        let before = self.spare.value();
        let changed = self.spare.observe(used, self.now);
        assert_eq!(changed, self.spare.value() != before);
        (self.spare.value(), changed)
    }

    /// The new values within so many seconds of this use, each with its time.
    fn pass(&mut self, seconds: u64, used: u64) -> Vec<(u64, u32)> {
        let times = (1..=seconds / MEASURE).map(|n| n * MEASURE);
        times
            .filter_map(|time| {
                let (value, changed) = self.after(MEASURE, percent(used));
                changed.then_some((time, value))
            })
            .collect()
    }
}

#[test]
fn the_first_value_is_that_of_the_use_at_the_start() {
    for (used, value) in [
        (0, 40),
        (20, 40),
        (21, 30),
        (40, 30),
        (50, 20),
        (61, 10),
        (81, 0),
        (100, 0),
    ] {
        assert_eq!(Life::begin(used).spare.value(), value, "{used} %");
    }
}

#[test]
fn what_lasts_is_told_once_and_in_one_step() {
    let mut life = Life::begin(3);
    assert_eq!(life.pass(600, 100), [(35, 0)]);
    assert_eq!(life.pass(600, 3), [(125, 40)]);
    assert_eq!(life.pass(600, 55), [(40, 20)]);
}

#[test]
fn a_short_peak_is_not_told() {
    let mut life = Life::begin(10);
    assert_eq!(life.pass(15, 100), []);
    assert_eq!(life.pass(600, 10), []);
}

#[test]
fn a_load_that_comes_every_minute_is_there() {
    let mut life = Life::begin(100);
    for _ in 0..20 {
        assert_eq!(life.pass(60, 100), []);
        assert_eq!(life.pass(60, 0), []);
    }
}

#[test]
fn a_step_is_left_only_beyond_the_middle_of_the_next() {
    let mut life = Life::begin(10);
    assert_eq!(
        life.pass(600, 29),
        [],
        "beyond the border, not beyond the middle"
    );
    assert_eq!(life.pass(600, 31).len(), 1);
    assert_eq!(life.spare.value(), 30);
    assert_eq!(life.pass(600, 11), []);
    assert_eq!(life.pass(600, 9).len(), 1);
    assert_eq!(life.spare.value(), 40);
}

#[test]
fn a_share_is_bounded() {
    assert_eq!(Share::of(0, 0), Share::NONE);
    assert_eq!(Share::of(5, 0), Share::NONE);
    assert_eq!(Share::of(u64::MAX, 1), percent(100));
    assert_eq!(Share::of(u64::MAX / 2, u64::MAX), Share(499_999));
}

#[test]
fn traffic_is_held_against_what_the_usable_ports_can_carry() {
    let port = |name: &str, speed, standing| Port {
        name: name.into(),
        subnet: "office".into(),
        standing,
        speed,
        load: BitRate::NONE,
    };
    let good = |name, speed| port(name, speed, Standing::Good);
    let gigabit = |count: u32| Some(BitRate::megabits(count * 1000));
    let load = BitRate::bytes(125_000_000);
    let ports = [good("eth1", gigabit(1)), good("eth2", gigabit(3))];
    assert_eq!(Share::of_ports(load, &ports), percent(25));
    let failed = port("eth3", gigabit(9), Standing::Failed);
    let ports = [good("eth1", gigabit(1)), failed];
    assert_eq!(Share::of_ports(load, &ports), percent(100));
    // One of unknown speed counts as the fastest.
    let ports = [good("eth1", gigabit(1)), good("eth2", None)];
    assert_eq!(Share::of_ports(load, &ports), percent(50));
    assert_eq!(Share::of_ports(load, &[]), Share::NONE);
}

fn some_uses(range: impl Strategy<Value = u64> + Clone) -> impl Strategy<Value = Vec<(u64, u64)>> {
    let seconds = prop_oneof![4 => Just(MEASURE), 1 => 0..100u64];
    proptest::collection::vec((seconds, range), 1..200)
}

proptest! {
    #[test]
    fn values_are_steps_and_change_once_in_a_hold(
        first in 0..=100u64,
        uses in some_uses(0..=100u64),
    ) {
        let mut life = Life::begin(first);
        let mut changed_at = life.now;
        for (seconds, used) in uses {
            let before = life.spare.value();
            let (value, changed) = life.after(seconds, percent(used));
            prop_assert!([0, 10, 20, 30, 40].contains(&value));
            if changed {
                let hold = if value > before { MORE_AFTER } else { LESS_AFTER };
                prop_assert!(life.now - changed_at >= hold);
                changed_at = life.now;
            }
        }
    }

    #[test]
    fn the_more_is_used_the_less_is_told(first in 0..=100u64, uses in some_uses(0..=100u64)) {
        let mut sorted: Vec<u64> = uses.iter().map(|u| u.1).chain([first]).collect();
        for falling in [false, true] {
            sorted.sort_unstable();
            if falling {
                sorted.reverse();
            }
            let mut life = Life::begin(sorted[0]);
            for (used, (seconds, _)) in sorted[1..].iter().zip(&uses) {
                let before = life.spare.value();
                let (value, _) = life.after(*seconds, percent(*used));
                let ordered = if falling { value >= before } else { value <= before };
                prop_assert!(ordered, "{} after {}", value, before);
            }
        }
    }

    #[test]
    fn a_use_that_varies_by_less_than_a_step_never_has_a_value_come_back(
        lowest in 0..=81u64,
        uses in some_uses(0..=19u64),
        first in 0..=19u64,
    ) {
        let mut life = Life::begin(lowest + first);
        let mut values = vec![life.spare.value()];
        for (seconds, used) in uses {
            values.push(life.after(seconds, percent(lowest + used)).0);
        }
        let falls = values.is_sorted_by(|a, b| a >= b);
        prop_assert!(values.is_sorted() || falls, "{:?}", values);
    }

    #[test]
    fn in_the_end_the_value_is_that_of_what_is_used(
        first in 0..=100u64,
        uses in some_uses(0..=100u64),
        last in 0..=100u64,
    ) {
        let mut life = Life::begin(first);
        for (seconds, used) in uses {
            life.after(seconds, percent(used));
        }
        life.pass(600, last);
        let fresh = Life::begin(last).spare.value();
        prop_assert!(life.spare.value().abs_diff(fresh) <= 10);
    }
}
