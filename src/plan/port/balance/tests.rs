use proptest::prelude::*;

use super::*;

const HOLD: Duration = Duration::from_secs(60);
const GIGABIT: BitRate = BitRate::megabits(1000);
/// Bytes a second that are one percent of a gigabit.
const ONE: u64 = 1_000_000_000 / 8 / 100;

/// A node whose loads stay as they are, and a balancer that looks at it every ten seconds.
#[derive(Debug)]
struct Node {
    balancer: Balancer,
    vips: Vec<Vip>,
    ports: Vec<Port>,
    now: Instant,
}

impl Node {
    /// VIPs by the port they are on, with their loads in percent; ports `aN` and `bN` are on subnets
    /// `a` and `b`.
    fn new(ports: &[&str], vips: &[(&str, u64)]) -> Self {
        let mut node = Self {
            balancer: Balancer::new(20, HOLD),
            vips: vec![],
            ports: ports.iter().map(|name| port(name)).collect(),
            now: Instant::now(),
        };
        for (port, load) in vips {
            let n = node.vips.len();
            let subnet = &port[..1];
            let allowed = ports.iter().filter(|p| p.starts_with(subnet));
            node.vips.push(Vip {
                ip: IpAddr::from([10, 1, 0, n as u8]),
                port: Some((*port).into()),
                ports: allowed.map(|p| (*p).into()).collect(),
                elsewhere: vec![],
                load: BitRate::bytes(load * ONE),
            });
        }
        node.measure();
        node
    }

    fn measure(&mut self) {
        for port in &mut self.ports {
            let own = self
                .vips
                .iter()
                .filter(|v| v.port.as_ref() == Some(&port.name));
            port.load = own.map(|v| v.load).sum();
        }
    }

    fn set_load(&mut self, vip: usize, percent: u64) {
        self.vips[vip].load = BitRate::bytes(percent * ONE);
        self.measure();
    }

    /// Moves that are made within a time.
    fn run(&mut self, time: Duration) -> Vec<Move> {
        let until = self.now + time;
        let mut moves = vec![];
        while self.now < until {
            if let Some(change) = self.balancer.observe(&self.vips, &self.ports, self.now) {
                let vip = self.vips.iter_mut().find(|v| v.ip == change.vip).unwrap();
                assert_eq!(vip.port, change.from);
                vip.port = Some(change.to.clone());
                self.measure();
                moves.push(change);
            }
            self.now += Duration::from_secs(10);
        }
        moves
    }

    /// The same, each as the number of the VIP and its new port.
    fn moves(&mut self, time: Duration) -> Vec<(usize, IfName)> {
        let moves = self.run(time);
        let number = |ip| self.vips.iter().position(|v| v.ip == ip).unwrap();
        moves.into_iter().map(|m| (number(m.vip), m.to)).collect()
    }

    /// How full the ports of a subnet are, the fullest first.
    fn profile(&self, subnet: &str) -> Vec<u128> {
        let subnets = by_subnet(&self.ports);
        let gauges = subnets
            .get(&Label::from(subnet))
            .map_or(&[][..], Vec::as_slice);
        gauges.iter().rev().map(Gauge::full).collect()
    }
}

fn port(name: &str) -> Port {
    Port {
        name: name.into(),
        subnet: name[..1].into(),
        standing: Standing::Good,
        speed: Some(GIGABIT),
        load: BitRate::NONE,
    }
}

fn to(vip: usize, port: &str) -> (usize, IfName) {
    (vip, port.into())
}

#[test]
fn what_differs_by_no_more_than_the_threshold_stays() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 10), ("a1", 10)]);
    assert_eq!(node.moves(HOLD * 50), []);
}

#[test]
fn a_threshold_of_zero_moves_nothing() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 50), ("a1", 50)]);
    node.balancer = Balancer::new(0, HOLD);
    assert_eq!(node.moves(HOLD * 50), []);
}

#[test]
fn a_vip_moves_when_the_hold_is_over_and_no_sooner() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 30), ("a1", 30)]);
    assert_eq!(node.moves(HOLD), []);
    assert_eq!(node.moves(HOLD), [to(0, "a2")]);
    assert_eq!(node.moves(HOLD * 50), []);
}

#[test]
fn a_calm_moment_begins_the_hold_anew() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 30), ("a1", 30)]);
    node.run(HOLD * 5 / 6);
    node.set_load(0, 0);
    node.set_load(1, 10);
    node.run(Duration::from_secs(10));
    node.set_load(0, 30);
    node.set_load(1, 30);
    assert_eq!(node.moves(HOLD), []);
    assert_eq!(node.moves(HOLD).len(), 1);
}

#[test]
fn the_lightest_that_is_enough_goes() {
    let vips = [("a1", 40), ("a1", 4), ("a1", 15), ("a1", 12), ("a1", 0)];
    let mut node = Node::new(&["a1", "a2", "a3"], &[&vips[..], &[("a3", 30)]].concat());
    // 71 : 0 : 30, of which 40 makes 31 : 40 and each other one leaves more than 20 between.
    assert_eq!(node.moves(HOLD + HOLD / 2), [to(0, "a2")]);
    let mut node = Node::new(
        &["a1", "a2"],
        &[("a1", 4), ("a1", 15), ("a1", 12), ("a1", 9)],
    );
    assert_eq!(node.moves(HOLD * 50), [to(2, "a2")]);
}

#[test]
fn what_no_single_vip_evens_out_takes_several_the_best_first() {
    let vips = [("a1", 8), ("a1", 10), ("a1", 9), ("a1", 8), ("a1", 25)];
    let mut node = Node::new(&["a1", "a2"], &vips);
    node.vips[4].ports = vec!["a1".into()];
    assert_eq!(
        node.moves(HOLD * 50),
        [to(1, "a2"), to(2, "a2"), to(0, "a2")]
    );
    assert_eq!(node.profile("a"), [33 * PERCENT, 27 * PERCENT]);
}

#[test]
fn one_vip_that_is_all_the_load_stays_and_its_neighbours_make_room() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 80)]);
    assert_eq!(node.moves(HOLD * 50), []);
    let mut node = Node::new(&["a1", "a2"], &[("a1", 80), ("a1", 5)]);
    assert_eq!(node.moves(HOLD * 50), [to(1, "a2")]);
}

#[test]
fn the_next_fullest_gives_when_the_fullest_cannot() {
    let vips = [("a1", 90), ("a2", 30), ("a2", 30)];
    let mut node = Node::new(&["a1", "a2", "a3"], &vips);
    assert_eq!(node.moves(HOLD * 50), [to(1, "a3")]);
}

#[test]
fn a_mere_change_of_roles_is_no_improvement() {
    // 44 : 20 would become 23 : 41.
    let mut node = Node::new(&["a1", "a2"], &[("a1", 21), ("a1", 23), ("a2", 20)]);
    for vip in [1, 2] {
        node.vips[vip].ports.truncate(0);
    }
    assert_eq!(node.moves(HOLD * 50), []);
    node.set_load(0, 19);
    node.set_load(1, 26);
    assert_eq!(node.moves(HOLD * 50), [to(0, "a2")]);
}

#[test]
fn a_slow_port_takes_only_what_it_can_carry() {
    let mut node = Node::new(&["a1", "a2", "a3"], &[("a1", 30), ("a1", 30), ("a3", 5)]);
    node.ports[1].speed = Some(BitRate::megabits(100));
    assert_eq!(node.moves(HOLD * 2), [to(0, "a3")]);
}

#[test]
fn each_subnet_is_balanced_by_itself_and_one_vip_moves_at_a_time() {
    let vips = [("a1", 30), ("a1", 30), ("b1", 30), ("b1", 30)];
    let mut node = Node::new(&["a1", "a2", "b1", "b2", "c1"], &vips);
    node.run(HOLD);
    assert_eq!(node.moves(Duration::from_secs(10)), [to(0, "a2")]);
    assert_eq!(node.moves(Duration::from_secs(10)), [to(2, "b2")]);
    assert_eq!(node.moves(HOLD * 50), []);
}

#[test]
fn only_good_ports_give_and_take() {
    for standing in [
        Standing::Degraded,
        Standing::Suspect,
        Standing::Held,
        Standing::Failed,
    ] {
        for n in 0..2 {
            let mut node = Node::new(&["a1", "a2"], &[("a1", 30), ("a1", 30)]);
            node.ports[n].standing = standing;
            assert_eq!(node.moves(HOLD * 50), [], "{standing:?}");
        }
    }
}

#[test]
fn a_vip_uses_only_ports_that_it_may_use() {
    let mut node = Node::new(&["a1", "a2", "a3"], &[("a1", 30), ("a1", 30)]);
    node.vips[0].ports = vec!["a1".into(), "a3".into()];
    node.vips[1].ports = vec!["a1".into()];
    assert_eq!(node.moves(HOLD * 50), [to(0, "a3")]);
    // Of another subnet, and now here.
    let mut node = Node::new(&["a1", "a2"], &[("a1", 30), ("a1", 30)]);
    for vip in &mut node.vips {
        vip.elsewhere = std::mem::take(&mut vip.ports);
    }
    assert_eq!(node.moves(HOLD * 50), [to(0, "a2")]);
}

#[test]
fn a_vip_without_load_stays() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 0), ("a1", 0)]);
    node.ports[0].load = BitRate::bytes(90 * ONE);
    let moved = node.balancer.observe(&node.vips, &node.ports, node.now);
    let later = node
        .balancer
        .observe(&node.vips, &node.ports, node.now + HOLD);
    assert_eq!((moved, later), (None, None));
}

#[test]
fn a_vip_that_was_moved_rests_for_ten_holds_and_may_then_return() {
    let mut node = Node::new(&["a1", "a2"], &[("a1", 30), ("a1", 30)]);
    node.run(HOLD);
    assert_eq!(node.moves(Duration::from_secs(10)), [to(0, "a2")]);
    // The other one goes idle, and a busy one comes that may not leave.
    node.set_load(1, 0);
    node.vips.push(Vip {
        ip: IpAddr::from([10, 1, 0, 9]),
        ports: vec!["a2".into()],
        load: BitRate::bytes(40 * ONE),
        ..node.vips[0].clone()
    });
    node.measure();
    assert_eq!(node.moves(HOLD * 10 - Duration::from_secs(10)), []);
    assert_eq!(node.moves(HOLD), [to(0, "a1")]);
}

fn some_node() -> impl Strategy<Value = Node> {
    const NAMES: [&str; 6] = ["a1", "a2", "a3", "a4", "b1", "b2"];
    let speeds = proptest::collection::vec(
        prop::sample::select(vec![
            None,
            Some(BitRate::megabits(100)),
            Some(GIGABIT),
            Some(BitRate::megabits(10_000)),
        ]),
        NAMES.len(),
    );
    let vip = (
        0..NAMES.len(),
        prop::sample::subsequence(&NAMES[..], 0..=NAMES.len()),
        prop_oneof![1 => Just(0), 6 => 1..10 * ONE, 3 => 1..60 * ONE],
    );
    let vips = proptest::collection::vec(vip, 0..25);
    (speeds, vips, 1..40u32).prop_map(|(speeds, vips, threshold)| {
        let on: Vec<(&str, u64)> = vips.iter().map(|(n, ..)| (NAMES[*n], 0)).collect();
        let mut node = Node::new(&NAMES, &on);
        node.balancer = Balancer::new(threshold, HOLD);
        for (port, speed) in node.ports.iter_mut().zip(speeds) {
            port.speed = speed;
        }
        for (vip, (_, ports, load)) in node.vips.iter_mut().zip(vips) {
            vip.ports = ports.into_iter().map(IfName::from).collect();
            vip.load = BitRate::bytes(load);
        }
        node.measure();
        node
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 300 } else { 3000 }))]

    #[test]
    fn constant_loads_come_to_rest_and_no_vip_returns(mut node in some_node()) {
        let mut seen: BTreeSet<(IpAddr, IfName)> = BTreeSet::new();
        let mut quiet = Duration::ZERO;
        // Longer than a rest: by then every VIP may be moved again.
        while quiet < HOLD * (REST + 2) {
            let before = node.profile("a");
            let others = node.profile("b");
            let moves = node.run(Duration::from_secs(10));
            quiet += Duration::from_secs(10);
            for change in moves {
                quiet = Duration::ZERO;
                let subnet = &change.to[..1];
                let was = if subnet == "a" { &before } else { &others };
                prop_assert!(node.profile(subnet) < *was, "each move makes it more even");
                let vip = node.vips.iter().find(|v| v.ip == change.vip).unwrap();
                prop_assert!(vip.load > BitRate::NONE && vip.ports.contains(&change.to));
                seen.extend(change.from.map(|from| (change.vip, from)));
                prop_assert!(!seen.contains(&(change.vip, change.to)), "it has been there");
            }
        }
    }

    #[test]
    fn whatever_the_loads_do_a_vip_is_moved_once_in_ten_holds(
        mut node in some_node(),
        loads in proptest::collection::vec((0..25usize, 0..60u64), 100),
    ) {
        let mut moved: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        for (vip, load) in loads {
            if vip < node.vips.len() {
                node.set_load(vip, load);
            }
            let now = node.now;
            for change in node.run(Duration::from_secs(10)) {
                let last = moved.insert(change.vip, now);
                prop_assert!(last.is_none_or(|at| now - at >= HOLD * REST));
            }
        }
    }
}
