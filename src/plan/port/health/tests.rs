use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    interval: Duration::from_secs(1),
    fail_after: 3,
    recover_after: Duration::from_secs(10),
};

const NO_CARRIER: State = State::Failed(Cause::Carrier);
const NO_ANSWER: State = State::Failed(Cause::Silent);

#[derive(Debug, Clone, Copy)]
enum Event {
    Down,
    Up,
    Answer,
    /// Answers can be expected.
    Listen,
    /// No answers can be expected.
    Ignore,
    /// Milliseconds without an answer.
    Silence(u64),
    /// Milliseconds with an answer every half second.
    Talk(u64),
    Resumed,
    /// All were silent for so many milliseconds up to now, and it was not known why.
    Absolved(u64),
}
use Event::{Absolved, Answer, Down, Ignore, Listen, Resumed, Silence, Talk, Up};

/// A port and the time it lives in.
#[derive(Debug, Clone)]
struct Life {
    port: Health,
    now: Instant,
}

impl Life {
    fn begin(limits: Limits, carrier: bool) -> Self {
        let now = Instant::now();
        Self {
            port: Health::new(limits, carrier, now),
            now,
        }
    }

    fn after(events: &[Event]) -> Self {
        let mut life = Self::begin(LIMITS, true);
        events.iter().for_each(|event| life.happen(*event));
        life
    }

    fn happen(&mut self, event: Event) {
        let (port, now) = (&mut self.port, self.now);
        match event {
            Down => port.link(false, now),
            Up => port.link(true, now),
            Answer => port.on_reply(now),
            Listen => port.listen(true, now),
            Ignore => port.listen(false, now),
            Silence(ms) => self.wait(ms),
            Talk(ms) => {
                for _ in 0..ms / 500 {
                    self.wait(500);
                    self.port.on_reply(self.now);
                }
            }
            Resumed => port.resumed(now),
            Absolved(ms) => port.absolve(now - Duration::from_millis(ms), now),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.port.tick(self.now);
    }

    fn standing(&self) -> Standing {
        self.port.standing(self.now)
    }
}

const GOOD: &[Event] = &[Listen, Answer];
const SUSPECT: &[Event] = &[Listen, Silence(1500)];
const SILENT: &[Event] = &[Listen, Silence(2750)];
const LONG_SILENT: &[Event] = &[Listen, Silence(2750), Silence(3000)];
const DOWN: &[Event] = &[Listen, Down];
const MUTE: &[Event] = &[Listen, Down, Up];
const HEARD_AGAIN: &[Event] = &[Listen, Silence(2750), Answer];
const REPLUGGED: &[Event] = &[Listen, Down, Up, Answer];
const DEAF_GOOD: &[Event] = &[];
const DEAF_DOWN: &[Event] = &[Down];
const DEAF_HELD: &[Event] = &[Down, Up];

#[test]
fn every_event_leads_where_the_diagram_says() {
    let table: &[(&[Event], Event, State)] = &[
        (GOOD, Down, NO_CARRIER),
        (GOOD, Up, State::Good),
        (GOOD, Answer, State::Good),
        (GOOD, Listen, State::Good),
        (GOOD, Ignore, State::Good),
        (GOOD, Silence(1499), State::Good),
        (GOOD, Silence(1500), State::Suspect),
        (GOOD, Silence(2749), State::Suspect),
        (GOOD, Silence(2750), NO_ANSWER),
        (GOOD, Talk(60_000), State::Good),
        (GOOD, Resumed, State::Good),
        (GOOD, Absolved(3000), State::Good),
        (SUSPECT, Down, NO_CARRIER),
        (SUSPECT, Up, State::Suspect),
        (SUSPECT, Answer, State::Good),
        (SUSPECT, Listen, State::Suspect),
        (SUSPECT, Ignore, State::Good),
        (SUSPECT, Silence(1249), State::Suspect),
        (SUSPECT, Silence(1250), NO_ANSWER),
        (SUSPECT, Resumed, State::Suspect),
        (SUSPECT, Absolved(3000), State::Suspect),
        (SILENT, Down, NO_CARRIER),
        (SILENT, Up, NO_ANSWER),
        (SILENT, Answer, State::Held),
        (SILENT, Listen, NO_ANSWER),
        (SILENT, Ignore, State::Good),
        (SILENT, Silence(3_600_000), NO_ANSWER),
        (SILENT, Resumed, NO_ANSWER),
        (SILENT, Absolved(3000), State::Good),
        (LONG_SILENT, Absolved(3000), NO_ANSWER),
        (DOWN, Down, NO_CARRIER),
        (DOWN, Up, NO_ANSWER),
        (DOWN, Answer, NO_CARRIER),
        (DOWN, Listen, NO_CARRIER),
        (DOWN, Ignore, NO_CARRIER),
        (DOWN, Silence(3_600_000), NO_CARRIER),
        (DOWN, Absolved(3000), NO_CARRIER),
        (MUTE, Down, NO_CARRIER),
        (MUTE, Up, NO_ANSWER),
        (MUTE, Answer, State::Held),
        (MUTE, Ignore, State::Held),
        (MUTE, Silence(3_600_000), NO_ANSWER),
        (MUTE, Absolved(3000), NO_ANSWER),
        (HEARD_AGAIN, Down, NO_CARRIER),
        (HEARD_AGAIN, Up, State::Held),
        (HEARD_AGAIN, Answer, State::Held),
        (HEARD_AGAIN, Ignore, State::Good),
        (HEARD_AGAIN, Silence(2749), State::Held),
        (HEARD_AGAIN, Silence(2750), NO_ANSWER),
        (HEARD_AGAIN, Talk(9_500), State::Held),
        (HEARD_AGAIN, Talk(10_000), State::Good),
        (HEARD_AGAIN, Resumed, State::Held),
        (REPLUGGED, Down, NO_CARRIER),
        (REPLUGGED, Ignore, State::Held),
        (REPLUGGED, Silence(2750), NO_ANSWER),
        (REPLUGGED, Talk(9_500), State::Held),
        (REPLUGGED, Talk(10_000), State::Good),
        (DEAF_GOOD, Down, NO_CARRIER),
        (DEAF_GOOD, Answer, State::Good),
        (DEAF_GOOD, Silence(3_600_000), State::Good),
        (DEAF_DOWN, Up, State::Held),
        (DEAF_DOWN, Answer, NO_CARRIER),
        (DEAF_DOWN, Listen, NO_CARRIER),
        (DEAF_HELD, Down, NO_CARRIER),
        (DEAF_HELD, Listen, State::Held),
        (DEAF_HELD, Silence(9_999), State::Held),
        (DEAF_HELD, Silence(10_000), State::Good),
    ];
    for (path, event, state) in table {
        let mut life = Life::after(path);
        life.happen(*event);
        assert_eq!(life.port.state(), *state, "{path:?}, then {event:?}");
    }
}

#[test]
fn a_port_is_what_its_carrier_is_at_the_start() {
    let good = Life::begin(LIMITS, true);
    assert_eq!(good.port.state(), State::Good);
    assert_eq!(good.port.next(), None, "nothing is expected yet");
    let mut failed = Life::begin(LIMITS, false);
    assert_eq!(failed.port.state(), NO_CARRIER);
    failed.happen(Up);
    assert_eq!(failed.port.state(), State::Held);
}

#[test]
fn a_switch_that_dies_right_after_an_answer_is_noticed_in_time() {
    // At worst the switch dies just before it would answer the next probe, at best just after.
    for dies in [0, 999] {
        let mut life = Life::after(GOOD);
        life.wait(dies);
        let death = life.now;
        while life.port.standing(life.now) != Standing::Failed {
            life.now = life.port.next().unwrap();
            life.port.tick(life.now);
        }
        assert!(life.now < death + LIMITS.interval * LIMITS.fail_after);
    }
}

#[test]
fn one_answer_lost_makes_no_port_fail() {
    for fail_after in [0, 1, 2] {
        let mut life = Life::begin(
            Limits {
                fail_after,
                ..LIMITS
            },
            true,
        );
        life.happen(Listen);
        life.wait(1_740);
        assert_eq!(life.port.state(), State::Suspect);
        life.happen(Answer);
        assert_eq!(life.port.state(), State::Good);
    }
}

#[test]
fn a_loss_while_held_begins_the_hold_down_anew() {
    let mut life = Life::after(REPLUGGED);
    for event in [Talk(9_500), Down, Up, Answer, Talk(9_500)] {
        life.happen(event);
    }
    assert_eq!(life.port.state(), State::Held);
    life.happen(Talk(500));
    assert_eq!(life.port.state(), State::Good);
}

#[test]
fn a_hold_down_that_ends_in_silence_leaves_a_suspect() {
    let mut life = Life::after(REPLUGGED);
    life.happen(Talk(8_000));
    life.wait(2_000);
    assert_eq!(life.port.state(), State::Suspect);
}

#[test]
fn expecting_answers_again_begins_a_fresh_silence() {
    let mut life = Life::after(&[Listen, Silence(1_400), Ignore, Silence(60_000), Listen]);
    life.wait(1_499);
    assert_eq!(life.port.state(), State::Good);
    life.wait(1);
    assert_eq!(life.port.state(), State::Suspect);
}

#[test]
fn an_answer_read_late_is_in_time() {
    let mut life = Life::after(GOOD);
    life.now += Duration::from_secs(60);
    life.happen(Answer);
    life.wait(0);
    assert_eq!(life.port.state(), State::Good);
}

#[test]
fn a_process_that_stood_still_blames_no_port() {
    for path in [GOOD, SUSPECT, HEARD_AGAIN] {
        let mut life = Life::after(path);
        let before = life.port.state();
        life.now += Duration::from_secs(5);
        life.happen(Resumed);
        life.wait(1_499);
        assert_eq!(life.port.state(), before);
        life.wait(1_251);
        assert_eq!(life.port.state(), NO_ANSWER, "but silence counts again");
    }
}

#[test]
fn a_port_that_failed_five_times_in_ten_minutes_is_degraded_until_they_are_forgiven() {
    let mut life = Life::begin(LIMITS, true);
    let first = life.now;
    for n in 0..5 {
        assert_eq!(life.standing(), Standing::Good, "after {n} failures");
        for event in [Down, Silence(1_000), Up, Silence(60_000)] {
            life.happen(event);
        }
    }
    assert_eq!(life.port.state(), State::Good);
    assert_eq!(life.standing(), Standing::Degraded);
    assert_eq!(life.port.next(), Some(first + FLAP_WINDOW));
    life.now = first + FLAP_WINDOW - Duration::from_millis(1);
    life.wait(0);
    assert_eq!(life.standing(), Standing::Degraded);
    life.wait(1);
    assert_eq!(life.standing(), Standing::Good);
    assert_eq!(life.port.next(), None);
}

#[test]
fn a_port_that_goes_on_failing_stays_degraded() {
    let mut life = Life::begin(LIMITS, true);
    for n in 0..60 {
        for event in [Down, Silence(1_000), Up, Silence(60_000)] {
            life.happen(event);
        }
        assert_eq!(life.standing() == Standing::Degraded, n >= 4);
    }
    life.happen(Listen);
    life.wait(1_500);
    assert_eq!(life.standing(), Standing::Suspect);
}

#[test]
fn the_faults_of_the_targets_are_not_held_against_a_port() {
    let mut life = Life::begin(LIMITS, true);
    for _ in 0..20 {
        for event in [Listen, Silence(2_750), Ignore] {
            life.happen(event);
        }
        for event in [Listen, Silence(2_750), Absolved(2_750)] {
            life.happen(event);
        }
    }
    assert_eq!(life.standing(), Standing::Good);
    // It must be heard from then on.
    life.happen(Silence(2_749));
    assert_eq!(life.port.state(), State::Suspect);
    life.happen(Silence(1));
    assert_eq!(life.port.state(), NO_ANSWER);
}

#[test]
fn the_better_a_standing_the_smaller() {
    let order = [
        Standing::Good,
        Standing::Degraded,
        Standing::Suspect,
        Standing::Held,
        Standing::Failed,
    ];
    assert!(order.is_sorted());
}

#[test]
fn times_without_end_are_no_trouble() {
    let forever = Limits {
        interval: Duration::MAX,
        fail_after: u32::MAX,
        recover_after: Duration::MAX,
    };
    let mut life = Life::begin(forever, true);
    for event in [Listen, Down, Up, Answer, Silence(60_000)] {
        life.happen(event);
    }
    assert_eq!(life.port.next(), None);
    assert_eq!(life.port.state(), State::Held);
}

fn some_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Down),
        3 => Just(Up),
        4 => Just(Answer),
        2 => Just(Listen),
        1 => Just(Ignore),
        1 => Just(Resumed),
        1 => (0..200u64).prop_map(Absolved),
    ]
}

proptest! {
    #[test]
    fn waking_only_when_told_to_sees_all_that_a_waking_every_millisecond_sees(
        events in proptest::collection::vec((some_event(), 0..150u64), 1..40),
        interval in 4..40u64,
        fail_after in 1..5u32,
        recover_after in 0..120u64,
    ) {
        let limits = Limits {
            interval: Duration::from_millis(interval),
            fail_after,
            recover_after: Duration::from_millis(recover_after),
        };
        let mut restless = Life::begin(limits, true);
        let mut sleeper = restless.clone();
        let mut lazy = restless.clone();
        for (event, pause) in events {
            for _ in 0..pause {
                restless.wait(1);
                sleeper.now = restless.now;
                if sleeper.port.next().is_some_and(|at| at <= sleeper.now) {
                    sleeper.port.tick(sleeper.now);
                }
                prop_assert_eq!(restless.port.state(), sleeper.port.state());
                prop_assert_eq!(restless.standing(), sleeper.standing());
                prop_assert!(restless.port.next().is_none_or(|at| at > restless.now));
            }
            lazy.wait(pause);
            prop_assert_eq!(restless.port.state(), lazy.port.state());
            for life in [&mut restless, &mut sleeper, &mut lazy] {
                life.happen(event);
                life.port.tick(life.now);
            }
        }
    }
}
