use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{Health, Limits};
use super::*;

const GIGABIT: BitRate = BitRate::megabits(1000);
const TEN_GIGABIT: BitRate = BitRate::megabits(10_000);
/// Bytes a second.
const MOST: u64 = 1_000_000_000;

fn port(name: &str, standing: Standing) -> Port {
    Port {
        name: name.into(),
        subnet: "office".into(),
        standing,
        speed: Some(GIGABIT),
        load: BitRate::NONE,
    }
}

fn vip(n: usize, port: &str, ports: &[&str]) -> Vip {
    Vip {
        ip: IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]),
        port: Some(port.into()),
        ports: ports.iter().map(|&port| port.into()).collect(),
        elsewhere: vec![],
        load: BitRate::bytes(1_000),
    }
}

fn carry_out(moves: &[Move], vips: &mut [Vip], ports: &mut [Port]) {
    for change in moves {
        let vip = vips.iter_mut().find(|v| v.ip == change.vip).unwrap();
        assert_eq!(vip.port, change.from);
        for port in ports.iter_mut() {
            if Some(&port.name) == change.from.as_ref() {
                port.load = port.load.without(vip.load);
            }
            if port.name == change.to {
                port.load += vip.load;
            }
        }
        vip.port = Some(change.to.clone());
    }
}

/// Where a VIP with these possibilities goes.
fn goes(vip: &Vip, ports: &[Port]) -> Option<IfName> {
    place(std::slice::from_ref(vip), ports)
        .pop()
        .map(|change| change.to)
}

#[test]
fn a_vip_stays_on_any_port_that_works() {
    let mut ports = [port("a", Standing::Good), port("b", Standing::Good)];
    let vip = vip(1, "b", &["a", "b"]);
    for standing in [
        Standing::Good,
        Standing::Degraded,
        Standing::Suspect,
        Standing::Held,
    ] {
        ports[1].standing = standing;
        assert_eq!(goes(&vip, &ports), None, "{standing:?}");
    }
    ports[1].standing = Standing::Failed;
    assert_eq!(goes(&vip, &ports).as_deref(), Some("a"));
}

#[test]
fn a_vip_leaves_a_port_that_is_gone_or_not_allowed_any_more() {
    let ports = [port("a", Standing::Good), port("b", Standing::Good)];
    assert_eq!(goes(&vip(1, "x", &["a"]), &ports).as_deref(), Some("a"));
    assert_eq!(goes(&vip(1, "b", &["a"]), &ports).as_deref(), Some("a"));
    let unserved = Vip {
        port: None,
        ..vip(1, "x", &["a"])
    };
    assert_eq!(goes(&unserved, &ports).as_deref(), Some("a"));
}

#[test]
fn the_best_standing_is_taken_whatever_its_load() {
    let mut ports = [
        port("a", Standing::Held),
        port("b", Standing::Suspect),
        port("c", Standing::Degraded),
        port("d", Standing::Good),
    ];
    let vip = vip(1, "x", &["a", "b", "c", "d"]);
    for last in (0..ports.len()).rev() {
        ports[last].load = BitRate::bytes(MOST);
        assert_eq!(goes(&vip, &ports), Some(ports[last].name.clone()));
        ports[last].standing = Standing::Failed;
    }
    assert_eq!(goes(&vip, &ports), None, "nothing is better");
}

#[test]
fn its_own_subnet_comes_first_even_if_held() {
    let mut ports = [port("home", Standing::Held), port("away", Standing::Good)];
    let mut vip = vip(1, "x", &["home"]);
    vip.elsewhere = vec!["away".into()];
    assert_eq!(goes(&vip, &ports).as_deref(), Some("home"));
    ports[0].standing = Standing::Failed;
    assert_eq!(goes(&vip, &ports).as_deref(), Some("away"));
}

#[test]
fn a_vip_comes_home_when_a_port_there_works_for_good() {
    let mut ports = [port("home", Standing::Failed), port("away", Standing::Good)];
    let mut vip = vip(1, "away", &["home"]);
    vip.elsewhere = vec!["away".into()];
    for (standing, comes) in [
        (Standing::Failed, false),
        (Standing::Held, false),
        (Standing::Suspect, true),
        (Standing::Degraded, true),
        (Standing::Good, true),
    ] {
        ports[0].standing = standing;
        assert_eq!(goes(&vip, &ports).is_some(), comes, "{standing:?}");
    }
}

#[test]
fn utilisation_is_measured_by_the_speed_and_unknown_means_fast() {
    let mut ports = [port("a", Standing::Good), port("b", Standing::Good)];
    let vip = vip(1, "x", &["a", "b"]);
    (ports[0].load, ports[1].load) = (BitRate::bytes(30_000_000), BitRate::bytes(100_000_000));
    assert_eq!(goes(&vip, &ports).as_deref(), Some("a"));
    ports[1].speed = Some(TEN_GIGABIT);
    assert_eq!(goes(&vip, &ports).as_deref(), Some("b"));
    ports[1].speed = None;
    assert_eq!(goes(&vip, &ports).as_deref(), Some("a"));
    ports[0].speed = None;
    assert_eq!(goes(&vip, &ports).as_deref(), Some("a"));
    // Its own load counts: 1 % more there would be 10 % here.
    (ports[0].speed, ports[1].speed) = (Some(BitRate::megabits(100)), Some(GIGABIT));
    (ports[0].load, ports[1].load) = (BitRate::NONE, BitRate::bytes(5_000));
    assert_eq!(goes(&vip, &ports).as_deref(), Some("b"));
}

#[test]
fn equal_ports_are_told_apart_by_their_vips_and_then_by_name() {
    let ports = ["b", "a"].map(|name| port(name, Standing::Good));
    let idle = |n, port| Vip {
        load: BitRate::NONE,
        ..vip(n, port, &["a", "b"])
    };
    assert_eq!(goes(&idle(1, "x"), &ports).as_deref(), Some("a"));
    let moves = place(&[idle(1, "a"), idle(2, "x")], &ports);
    assert_eq!(moves.len(), 1);
    assert_eq!(moves[0].to, "b");
}

#[test]
fn the_busiest_goes_first_and_the_others_around_it() {
    let ports = [
        port("a", Standing::Failed),
        port("b", Standing::Good),
        port("c", Standing::Good),
    ];
    let loads = [10, 500, 10, 400, 90];
    let vips: Vec<Vip> = (0..loads.len())
        .map(|n| Vip {
            load: BitRate::bytes(loads[n]),
            ..vip(n, "a", &["a", "b", "c"])
        })
        .collect();
    let moves = place(&vips, &ports);
    let order: Vec<(IpAddr, &str)> = moves.iter().map(|m| (m.vip, m.to.as_str())).collect();
    let expected = [(1, "b"), (3, "c"), (4, "c"), (0, "c"), (2, "b")];
    assert_eq!(order, expected.map(|(n, to)| (vips[n].ip, to)));
}

#[test]
fn two_hundred_vips_spread_evenly_over_the_good_ports() {
    let names = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7"];
    for load in [0, 1_000] {
        let mut ports = names.map(|name| port(name, Standing::Good));
        ports[0].standing = Standing::Failed;
        let mut vips: Vec<Vip> = (0..200).map(|n| vip(n, "p0", &names)).collect();
        vips.iter_mut().for_each(|v| v.load = BitRate::bytes(load));
        let moves = place(&vips, &ports);
        assert_eq!(moves.len(), 200);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        moves
            .iter()
            .for_each(|m| *counts.entry(&m.to).or_default() += 1);
        assert_eq!(counts.len(), 7);
        assert!(counts.values().all(|n| (28..=29).contains(n)), "{counts:?}");
    }
}

#[test]
fn a_flapping_port_moves_each_vip_once() {
    let limits = Limits {
        interval: Duration::from_secs(1),
        fail_after: 3,
        recover_after: Duration::from_secs(10),
    };
    let begin = Instant::now();
    let mut health = [(); 2].map(|()| Health::new(limits, true, begin));
    let mut ports = ["a", "b"].map(|name| port(name, Standing::Good));
    let mut vips: Vec<Vip> = (0..20)
        .map(|n| vip(n, ["a", "b"][n % 2], &["a", "b"]))
        .collect();
    let mut moved: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for ms in (0..60_000).step_by(10) {
        let now = begin + Duration::from_millis(ms);
        health[0].link(ms / 300 % 2 == 0, now);
        for (port, health) in ports.iter_mut().zip(&mut health) {
            health.tick(now);
            port.standing = health.standing(now);
        }
        let moves = place(&vips, &ports);
        carry_out(&moves, &mut vips, &mut ports);
        moves
            .iter()
            .for_each(|m| *moved.entry(m.vip).or_default() += 1);
    }
    assert_eq!(moved.len(), 10, "those of port a");
    assert!(moved.values().all(|n| *n == 1));
}

const NAMES: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "gone"];

fn some_ports() -> impl Strategy<Value = Vec<Port>> {
    let one = (
        prop::sample::select(vec![
            Standing::Good,
            Standing::Degraded,
            Standing::Suspect,
            Standing::Held,
            Standing::Failed,
        ]),
        prop::sample::select(vec![None, Some(GIGABIT), Some(TEN_GIGABIT)]),
        prop_oneof![4 => 0..MOST, 1 => Just(u64::MAX / 16)],
    );
    proptest::collection::vec(one, 1..6).prop_map(|some| {
        let ports = some.into_iter().zip(NAMES);
        let ports = ports.map(|((standing, speed, load), name)| Port {
            speed,
            load: BitRate::bytes(load),
            ..port(name, standing)
        });
        ports.collect()
    })
}

fn some_vips() -> impl Strategy<Value = Vec<Vip>> {
    let names = || prop::sample::subsequence(&NAMES[..], 0..4);
    let one = (
        prop::option::of(prop::sample::select(&NAMES[..])),
        names(),
        names(),
        0..MOST,
    );
    proptest::collection::vec(one, 0..30).prop_map(|some| {
        let vips = some.into_iter().enumerate();
        let vips = vips.map(|(n, (port, ports, elsewhere, load))| Vip {
            port: port.map(IfName::from),
            elsewhere: elsewhere.into_iter().map(IfName::from).collect(),
            load: BitRate::bytes(load),
            ..vip(n, "a", &ports)
        });
        vips.collect()
    })
}

proptest! {
    #[test]
    fn moves_are_allowed_useful_and_final(mut vips in some_vips(), mut ports in some_ports()) {
        let moves = place(&vips, &ports);
        let load = |m: &Move| vips.iter().find(|v| v.ip == m.vip).unwrap().load;
        prop_assert!(moves.is_sorted_by_key(|m| Reverse(load(m))));
        for change in &moves {
            let vip = vips.iter().find(|v| v.ip == change.vip).unwrap();
            prop_assert!(vip.ports.contains(&change.to) || vip.elsewhere.contains(&change.to));
            let to = ports.iter().find(|p| p.name == change.to).unwrap();
            prop_assert!(to.standing < Standing::Failed);
            prop_assert_ne!(change.from.as_ref(), Some(&change.to));
        }
        carry_out(&moves, &mut vips, &mut ports);
        prop_assert_eq!(place(&vips, &ports), []);
        for vip in &vips {
            let works = |name: &IfName| ports.iter().any(|p| p.name == *name && p.standing < Standing::Failed);
            let mut allowed = vip.ports.iter().chain(&vip.elsewhere);
            prop_assert!(!allowed.any(works) || vip.port.as_ref().is_some_and(works));
        }
    }
}

#[test]
fn a_move_is_told_by_the_ports_that_it_leads_from_and_to() {
    let mut change = Move {
        vip: [10, 1, 0, 50].into(),
        from: Some("a0".into()),
        to: "a1".into(),
    };
    assert_eq!(change.to_string(), "10.1.0.50: from a0 to a1");
    change.from = None;
    assert_eq!(change.to_string(), "10.1.0.50: from no port to a1");
}
