//! A move and a stop of one VIP at the same time, in every order that their parts can come in.
//!
//! An address's agent works under the lock, and a move does not wait for that. What each of the two does is a
//! sequence of parts, of which each is a single act in the kernel or on the record.

use super::*;
use crate::plan::vip::{Desired, start, stop};

/// A part of what one of the two does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    // Of a stop, as the address's agent does it.
    Lock,
    PutOnRecord,
    Look,
    TakeAway,
    Forget,
    Unlock,
    // Of a start.
    Begin,
    Make,
    Serve,
    // Of a move, as the mover does it.
    Read,
    Observe,
    Hurry,
    ReadAgain,
    TakeBack,
    /// All that is done under the lock: a stop waits for it, or it for a stop.
    Deferred,
    /// The same by the next daemon, which knows of no move.
    Mend,
}

const STOP: &[Part] = &[
    Part::Lock,
    Part::PutOnRecord,
    Part::Look,
    Part::TakeAway,
    Part::Look,
    Part::TakeAway,
    Part::Forget,
    Part::Unlock,
];
/// A stop, and a start after it.
const RESTART: &[Part] = &[
    Part::Lock,
    Part::PutOnRecord,
    Part::Look,
    Part::TakeAway,
    Part::Forget,
    Part::Unlock,
    Part::Lock,
    Part::Begin,
    Part::Unlock,
    Part::Lock,
    Part::Make,
    Part::Unlock,
    Part::Serve,
];
const MOVE: &[Part] = &[
    Part::Read,
    Part::Observe,
    Part::Hurry,
    Part::ReadAgain,
    Part::TakeBack,
    Part::Deferred,
];

/// What both can see.
#[derive(Debug, Clone, PartialEq, Eq)]
struct World {
    seen: Observed,
    records: Vec<Recorded>,
    is_locked: bool,
}

impl World {
    /// The VIP is served at p0.
    fn new() -> Self {
        Self {
            seen: node(&[("p0", vip(1))]),
            records: vec![served(vip(1))],
            is_locked: false,
        }
    }

    fn answering(&self) -> Vec<&Object> {
        let is_proxy = |object: &&Object| matches!(object, Object::Proxy(..));
        self.seen.objects.iter().filter(is_proxy).collect()
    }

    fn finish(&mut self, moves: &[Move], extent: Extent) {
        let (mut mover, now) = (Mover::default(), Instant::now());
        mover.moved(moves, extent, now);
        let work = mover
            .take_deferred()
            .unwrap()
            .work(&self.records, &self.seen);
        let changes = work.changes(self.seen.clone());
        carry_out(&changes.steps, &mut self.seen);
    }
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Actor {
    parts: &'static [Part],
    /// What is done before the next part, the last one first.
    steps: Vec<Step>,
    /// What a stop has found to take away.
    found: Vec<Step>,
    records: Vec<Recorded>,
    cutover: Cutover,
    /// After how many acts it is killed.
    acts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Made,
    Waits,
    Over,
}

impl Actor {
    fn new(parts: &'static [Part]) -> Self {
        Self {
            parts,
            steps: Vec::new(),
            found: Vec::new(),
            records: Vec::new(),
            cutover: Cutover::default(),
            acts: usize::MAX,
        }
    }

    fn moves() -> [Move; 1] {
        [change(vip(1), "p0", "p1")]
    }

    fn advance(&mut self, world: &mut World) -> Progress {
        if self.acts == 0 {
            *self = Self::new(&[Part::Mend]);
        }
        if let Some(step) = self.steps.pop() {
            apply(&mut world.seen, &step);
            self.acts -= 1;
            return Progress::Made;
        }
        let [part, later @ ..] = self.parts else {
            return Progress::Over;
        };
        if world.is_locked && matches!(part, Part::Lock | Part::Deferred | Part::Mend) {
            return Progress::Waits;
        }
        self.act(*part, world);
        self.parts = later;
        self.acts -= 1;
        Progress::Made
    }

    fn act(&mut self, part: Part, world: &mut World) {
        match part {
            Part::Lock => world.is_locked = true,
            Part::PutOnRecord => world.records[0].serving = false,
            Part::Look => self.found = stop(vip(1), &world.seen),
            Part::TakeAway => {
                self.steps = std::mem::take(&mut self.found).into_iter().rev().collect()
            }
            Part::Forget => world.records.clear(),
            Part::Unlock => world.is_locked = false,
            Part::Begin => {
                let mut record = served(vip(1));
                record.serving = false;
                world.records = vec![record];
            }
            Part::Make => {
                let desired = Desired::new(&world.records[0].request, &world.seen).unwrap();
                self.steps = start(&desired, &world.seen);
                let is_proxy = |step: &Step| matches!(step, Step::Add(Object::Proxy(..)));
                let others: Vec<Step> = self
                    .steps
                    .iter()
                    .filter(|step| !is_proxy(step))
                    .cloned()
                    .collect();
                carry_out(&others, &mut world.seen);
                self.steps.retain(is_proxy);
            }
            Part::Serve => world.records[0].serving = true,
            Part::Read | Part::ReadAgain => self.records.clone_from(&world.records),
            Part::Observe => {
                let found = survey(&self.records, &world.seen);
                self.cutover = Cutover::new(&Self::moves(), &found.vips, &world.seen);
            }
            Part::Hurry => self.steps = self.cutover.steps.iter().cloned().rev().collect(),
            Part::TakeBack => self.steps = self.cutover.taken_back(&self.records),
            Part::Deferred => world.finish(&Self::moves(), Extent::Moves),
            Part::Mend => world.finish(&[], Extent::Everything),
        }
    }
}

/// What both can see, and how far each of the two is.
type State = (World, Actor, Actor);

/// All orders in which two actors' acts can come.
struct Orders {
    /// Whether what an order has led to is wrong.
    is_wrong: fn(&World) -> bool,
    /// How many orders there are from each state on, and how many of them lead to what is wrong: most states are
    /// come to in many orders.
    known: Vec<(State, (u64, u64))>,
}

impl Orders {
    fn new(is_wrong: fn(&World) -> bool) -> Self {
        Self {
            is_wrong,
            known: Vec::new(),
        }
    }

    /// How many there are, and how many of them lead to what is wrong.
    fn count(&mut self, world: &World, one: &Actor, other: &Actor) -> (u64, u64) {
        let state = (world.clone(), one.clone(), other.clone());
        if let Some((_, counts)) = self.known.iter().find(|(known, _)| *known == state) {
            return *counts;
        }
        let (mut by_one, mut next_one) = (world.clone(), one.clone());
        let (mut by_other, mut next_other) = (world.clone(), other.clone());
        let progress = [
            next_one.advance(&mut by_one),
            next_other.advance(&mut by_other),
        ];
        let mut counts = (0, 0);
        if progress == [Progress::Over; 2] {
            counts = (1, u64::from((self.is_wrong)(world)));
        }
        let [one_moves, other_moves] = progress.map(|p| p == Progress::Made);
        let nexts = [
            one_moves.then(|| self.count(&by_one, &next_one, other)),
            other_moves.then(|| self.count(&by_other, one, &next_other)),
        ];
        for (orders, left) in nexts.into_iter().flatten() {
            counts = (counts.0 + orders, counts.1 + left);
        }
        assert!(counts.0 > 0, "each waits for the other: {one:?}, {other:?}");
        self.known.push((state, counts));
        counts
    }
}

/// How many orders there are in which these can come, and how many of them leave an address at a port.
fn orders(one: &Actor, other: &Actor) -> (u64, u64) {
    let mut orders = Orders::new(|world| !world.answering().is_empty());
    orders.count(&World::new(), one, other)
}

#[test]
fn in_no_order_does_a_stop_leave_an_address_at_a_port() {
    let (all, left) = orders(&Actor::new(STOP), &Actor::new(MOVE));
    assert_eq!(left, 0, "of {all} orders");
    assert!(all > 10_000, "{all}");
}

#[test]
fn a_move_alone_ends_at_the_new_port_and_a_stop_alone_at_none() {
    let mut world = World::new();
    let mut run = |parts| {
        let mut actor = Actor::new(parts);
        while actor.advance(&mut world) == Progress::Made {}
        world.clone()
    };
    assert_eq!(run(MOVE).answering(), [&proxy("p1", vip(1))]);
    assert!(run(STOP).answering().is_empty());
    // A stop leaves the lock for the next one.
    assert!(run(MOVE).answering().is_empty());
}

/// A move that was begun before a stop, and is not over when the VIP is started again.
#[test]
fn in_no_order_is_a_vip_that_was_started_again_at_two_ports() {
    let mut orders = Orders::new(|world| world.answering().len() > 1);
    let (all, wrong) = orders.count(&World::new(), &Actor::new(RESTART), &Actor::new(MOVE));
    assert_eq!(wrong, 0, "of {all} orders");

    // The mover may take back what the start has made: the next monitor has it mended.
    let mut orders = Orders::new(|world| {
        let mut world = world.clone();
        world.finish(&[], Extent::Everything);
        world.answering().len() != 1
    });
    let (all, wrong) = orders.count(&World::new(), &Actor::new(RESTART), &Actor::new(MOVE));
    assert_eq!(wrong, 0, "of {all} orders");
}

/// That each of the two does what the other one relies on is what this rests on: the other way around, the same
/// search finds what is left.
#[test]
fn who_looks_before_he_has_done_his_own_part_leaves_an_address_behind() {
    const LOOKS_FIRST: &[Part] = &[
        Part::Lock,
        Part::Look,
        Part::PutOnRecord,
        Part::TakeAway,
        Part::Forget,
        Part::Unlock,
    ];
    const READS_FIRST: &[Part] = &[
        Part::Read,
        Part::Observe,
        Part::ReadAgain,
        Part::Hurry,
        Part::TakeBack,
        Part::Deferred,
    ];
    let (_, left) = orders(&Actor::new(LOOKS_FIRST), &Actor::new(MOVE));
    assert!(left > 0);
    let (_, left) = orders(&Actor::new(STOP), &Actor::new(READS_FIRST));
    assert!(left > 0);
}

/// A daemon that was killed reads no record again: what it has left is found by the next one.
#[test]
fn a_daemon_that_is_killed_in_a_move_leaves_no_address_for_longer_than_the_next_one_takes() {
    for acts in 0..8 {
        let killed = Actor {
            acts,
            ..Actor::new(MOVE)
        };
        let (all, left) = orders(&Actor::new(STOP), &killed);
        assert_eq!(left, 0, "of {all} orders, killed after {acts} acts");

        let (mut world, mut alone) = (World::new(), killed);
        while alone.advance(&mut world) == Progress::Made {}
        assert_eq!(world.answering().len(), 1, "killed after {acts} acts");
    }
}
