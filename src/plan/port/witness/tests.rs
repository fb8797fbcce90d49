use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    interval: Duration::from_millis(200),
    fail_after: 3,
    recover_after: Duration::from_secs(30),
};

fn after(start: Instant, milliseconds: u64) -> Instant {
    start + Duration::from_millis(milliseconds)
}

/// One that has heard a target at `start`, and nothing since.
fn deaf(start: Instant) -> Witness {
    let mut witness = Witness::new(LIMITS, start);
    witness.on_reply(start);
    assert!(!witness.tick(after(start, 249)));
    assert!(witness.tick(after(start, 250)), "all targets are tried");
    assert!(!witness.tick(after(start, 299)));
    assert_eq!(witness.fault(), Fault::Nobody);
    assert!(!witness.tick(after(start, 300)));
    assert_eq!(witness.fault(), Fault::Unknown);
    witness
}

#[test]
fn silence_is_not_judged_before_the_others_can_have_noticed_theirs() {
    let start = Instant::now();
    let mut witness = deaf(start);
    assert!(witness.expects());
    assert!(!witness.query_due(after(start, 599)));
    // What was asked before the silence began is of no worth.
    witness.on_others(true);
    assert_eq!(witness.fault(), Fault::Unknown);
    assert_eq!(witness.next(), after(start, 600));
    assert!(witness.query_due(after(start, 600)));
    assert!(!witness.query_due(after(start, 601)), "asked once");
}

#[test]
fn it_is_the_ports_fault_if_another_node_hears_and_the_targets_if_none_does() {
    let start = Instant::now();
    for (others, fault) in [(true, Fault::Ports), (false, Fault::Targets)] {
        let mut witness = deaf(start);
        assert!(witness.query_due(after(start, 600)));
        witness.on_others(others);
        assert_eq!(witness.fault(), fault);
        assert_eq!(witness.expects(), others);
        // An answer clears everybody at once, and a late word from others changes nothing.
        witness.on_reply(after(start, 2000));
        witness.on_others(others);
        assert_eq!(witness.fault(), Fault::Nobody);
    }
}

#[test]
fn a_verdict_is_looked_at_again_soon_and_then_ever_more_rarely() {
    let start = Instant::now();
    let mut witness = deaf(start);
    let mut pauses = Vec::new();
    for others in [true, false].into_iter().cycle().take(10) {
        let at = witness.next();
        assert!(witness.query_due(at));
        witness.on_others(others);
        assert_eq!(witness.expects(), others, "the last word counts");
        pauses.push(witness.next() - at);
    }
    assert_eq!(pauses[..3], [300, 600, 1200].map(Duration::from_millis));
    assert_eq!(pauses[7..], [ASK_AGAIN; 3]);
}

#[test]
fn at_first_silence_means_nothing_unless_others_hear() {
    let start = Instant::now();
    let mut witness = Witness::new(LIMITS, start);
    assert!(!witness.expects());
    assert!(!witness.tick(after(start, 10_000)));
    assert!(!witness.expects() && witness.query_due(after(start, 10_000)));
    witness.on_others(true);
    assert_eq!(witness.fault(), Fault::Ports);
}

#[test]
fn silence_while_nobody_was_asked_does_not_count() {
    let start = Instant::now();
    let mut witness = Witness::new(LIMITS, start);
    witness.on_reply(start);
    let later = after(start, 5000);
    witness.resumed(later);
    assert!(witness.tick(later), "who was heard may be gone since");
    assert!(!witness.tick(after(later, 49)));
    assert_eq!(witness.fault(), Fault::Nobody);
    assert!(!witness.tick(after(later, 50)));
    assert_eq!(witness.fault(), Fault::Unknown);
    assert_eq!(witness.next(), after(later, 600));
    // Nor does the answer to what was asked before it stood still.
    assert!(witness.query_due(after(later, 600)));
    let latest = after(later, 5000);
    witness.resumed(latest);
    witness.on_others(true);
    assert_eq!(witness.fault(), Fault::Unknown);
    assert!(!witness.query_due(after(latest, 599)) && witness.query_due(after(latest, 600)));
}

#[test]
fn a_question_sent_late_is_given_its_time() {
    let start = Instant::now();
    let mut witness = Witness::new(LIMITS, start);
    witness.on_reply(start);
    let late = after(start, 390);
    assert!(witness.tick(late));
    assert!(!witness.tick(after(late, 49)));
    assert_eq!(witness.fault(), Fault::Nobody);
    assert!(!witness.tick(after(late, 50)));
    assert_eq!(witness.fault(), Fault::Unknown);
    assert_eq!(witness.next(), after(late, 350));
}

#[test]
fn the_verdict_is_not_there_long_before_or_after_each_port_has_failed() {
    // Milliseconds: interval; then suspicion and question, after the last answer.
    for (interval, fail_after, suspected, asked) in [
        (20, 3, 30, 150),
        (200, 2, 300, 600),
        (200, 3, 300, 600),
        (200, 5, 650, 950),
        (1000, 3, 1650, 2750),
        (10_000, 100, 987_400, 997_500),
    ] {
        let limits = Limits {
            interval: Duration::from_millis(interval),
            fail_after,
            ..LIMITS
        };
        let start = Instant::now();
        let mut witness = Witness::new(limits, start);
        witness.on_reply(start);
        let next = witness.next();
        assert!(witness.tick(next));
        assert_eq!(witness.next() - start, Duration::from_millis(suspected));
        let next = witness.next();
        assert!(!witness.tick(next));
        assert_eq!(witness.next() - start, Duration::from_millis(asked));
        assert!(witness.next() - start >= limits.silent_after());
    }
}

/// One of several nodes on a subnet.
#[derive(Debug, Clone)]
struct Node {
    /// When it asks, within the interval.
    phase: u64,
    /// Its process comes to its turn so often.
    gap: u64,
    /// What it tells is known after this long.
    news: u64,
}

/// What becomes of one.
struct Running {
    node: Node,
    witness: Witness,
    /// What it has told, and when it did.
    told: Vec<(u64, bool)>,
    /// When its last answer came.
    heard: u64,
}

impl Running {
    fn hear(&mut self, now: u64, start: Instant) {
        self.heard = now;
        self.witness.on_reply(after(start, now));
    }

    /// What the others know of it.
    fn known(&self, now: u64) -> bool {
        let known = |(at, _): &&(u64, bool)| at + self.node.news <= now;
        self.told
            .iter()
            .rev()
            .find(known)
            .is_some_and(|told| told.1)
    }
}

const STEP: u64 = 5;

/// Lets time pass for `nodes`. `answers` says whether a target answers a node at a time in
/// milliseconds. Returns what was known of a fault by each node when anything changed: the time, the
/// node, how long it had heard nothing, the fault.
fn run(
    limits: Limits,
    nodes: &[Node],
    end: u64,
    answers: impl Fn(usize, u64) -> bool,
) -> Vec<(u64, usize, u64, Fault)> {
    let start = Instant::now();
    let interval = u64::try_from(limits.interval.as_millis()).unwrap();
    let begin = |node: &Node| Running {
        node: node.clone(),
        witness: Witness::new(limits, start),
        told: vec![(0, false)],
        heard: 0,
    };
    let mut running: Vec<Running> = nodes.iter().map(begin).collect();
    let mut faults = Vec::new();
    for now in (0..end).step_by(usize::try_from(STEP).unwrap()) {
        for index in 0..running.len() {
            let mut others = running.iter().enumerate().filter(|(i, _)| *i != index);
            let others_hear = others.any(|(_, other)| other.known(now));
            let one = &mut running[index];
            let before = one.witness.fault();
            let asks = now >= one.node.phase && (now - one.node.phase) % interval < STEP;
            if asks && answers(index, now) {
                one.hear(now, start);
            }
            if now % one.node.gap < STEP {
                let at = after(start, now);
                if one.witness.tick(at) && answers(index, now) {
                    one.hear(now, start);
                }
                if one.witness.query_due(at) {
                    if answers(index, now) {
                        one.hear(now, start);
                    }
                    one.witness.on_others(others_hear);
                }
            }
            let fault = one.witness.fault();
            if fault != before {
                faults.push((now, index, now - one.heard, fault));
                one.told.push((now, fault == Fault::Nobody));
            }
        }
    }
    faults
}

prop_compose! {
    /// Being kept waiting and the way of the news together take no longer than [`NEWS`].
    fn some_node(interval: u64)(
        phase in prop_oneof![Just(0), Just(interval - 1), 0..interval],
        gap in prop_oneof![Just(1), Just(6), 1..=6u64],
        news in prop_oneof![Just(20), Just(60), 20..=60u64],
    ) -> Node {
        Node { phase, gap: gap * STEP, news }
    }
}

prop_compose! {
    fn some_nodes()(interval in (4..=200u64).prop_map(|i| i * STEP))(
        nodes in proptest::collection::vec(some_node(interval), 2..=4),
        fail_after in 2..=6u32,
        interval in Just(interval),
    ) -> (Limits, Vec<Node>) {
        (Limits { interval: Duration::from_millis(interval), fail_after, ..LIMITS }, nodes)
    }
}

/// When a fault begins: just after a question of the first node, or at any time.
fn some_time() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), 0.0..1.0f64]
}

fn lost_at(limits: Limits, nodes: &[Node], part: f64) -> u64 {
    let some_later = limits.interval * 20 + limits.interval.mul_f64(part);
    nodes[0].phase + STEP + u64::try_from(some_later.as_millis()).unwrap()
}

fn whole(limits: Limits) -> u64 {
    let witness = Witness::new(limits, Instant::now());
    let whole = witness.suspect_after() + witness.patience();
    u64::try_from(whole.as_millis()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    #[test]
    fn targets_that_all_nodes_lose_at_once_condemn_nobody(
        (limits, nodes) in some_nodes(),
        part in some_time(),
        length in 0.0..3.0f64,
    ) {
        let (whole, lost) = (whole(limits), lost_at(limits, &nodes, part));
        let length = Duration::from_millis(whole).mul_f64(length);
        let back = lost + u64::try_from(length.as_millis()).unwrap();
        let faults = run(limits, &nodes, back + 3 * whole, |_, now| now < lost || now >= back);
        let condemned = faults.iter().find(|f| f.3 == Fault::Ports && f.0 >= lost);
        prop_assert_eq!(condemned, None, "lost {}, back {}: {:?}", lost, back, faults);
    }

    #[test]
    fn a_node_that_alone_hears_nothing_is_condemned_in_time_and_no_other_is(
        (limits, nodes) in some_nodes(),
        part in some_time(),
    ) {
        let (whole, lost) = (whole(limits), lost_at(limits, &nodes, part));
        let end = lost + 4 * whole;
        let faults = run(limits, &nodes, end, |node, now| node > 0 || now < lost);
        let since: Vec<_> = faults.iter().filter(|f| f.0 >= lost).collect();
        prop_assert!(since.iter().all(|f| f.1 == 0), "{:?}", faults);
        let verdict = since.last().unwrap();
        prop_assert_eq!(verdict.3, Fault::Ports);
        // The turn is waited for three times.
        let late = verdict.2.checked_sub(whole).unwrap();
        prop_assert!(late <= 3 * (nodes[0].gap + STEP), "{:?}", faults);
    }
}
