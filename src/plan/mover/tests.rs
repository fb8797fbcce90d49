//! Tests of each rule, on a node with the ports p0 to p2 on the VIPs' subnet, q0 on another one, and alpha's cell.

use proptest::prelude::*;

use super::*;
use crate::plan::port::{Standing, place};
use crate::plan::vip::change::apply;
use crate::plan::vip::{Link, NextHop};
use crate::types::BitRate;

mod races;
mod under_lock;

const PORTS: [&str; 4] = ["p0", "p1", "p2", "q0"];

fn vip(n: u8) -> IpAddr {
    [10, 1, 0, n].into()
}

fn link(name: &str) -> Link {
    let address = match name {
        "q0" => "10.2.0.250/24",
        _ => "10.1.0.250/24",
    };
    let eligible = !name.starts_with("b-");
    Link {
        name: name.into(),
        up: true,
        carrier: true,
        eligible,
        addresses: eligible
            .then(|| address.parse().unwrap())
            .into_iter()
            .collect(),
    }
}

fn watched(nets: &[&str]) -> Watched {
    Watched {
        standing: Standing::Good,
        load: 0,
        nets: nets
            .iter()
            .map(|net| (net.parse().unwrap(), None))
            .collect(),
    }
}

/// The node, with these VIPs at these ports.
fn node(proxies: &[(&str, IpAddr)]) -> Observed {
    let net = |name: &str| match name {
        "q0" => "10.2.0.0/24",
        _ => "10.1.0.0/24",
    };
    let report = PORTS.map(|name| (name.into(), watched(&[net(name)])));
    Observed {
        links: PORTS
            .iter()
            .chain(&["b-alpha"])
            .map(|name| link(name))
            .collect(),
        watched: report.into(),
        objects: proxies
            .iter()
            .map(|(port, vip)| proxy(port, *vip))
            .collect(),
        ..Observed::default()
    }
}

fn proxy(port: &str, vip: IpAddr) -> Object {
    Object::Proxy(port.into(), vip)
}

/// A VIP that alpha's cell serves.
fn served(vip: IpAddr) -> Recorded {
    Recorded {
        request: Request {
            vip,
            behind: Behind::Cell("b-alpha".into()),
            subnet: None,
            gateway: None,
            ports: None,
            routed: false,
            prefer: None,
            detour: None,
        },
        serving: true,
        duty: Duty::Serve,
    }
}

/// A VIP that is routed to another node.
fn routed(vip: IpAddr) -> Recorded {
    let mut record = served(vip);
    record.duty = Duty::Route;
    record.request.behind = Behind::Node(NextHop {
        link: "q0".into(),
        address: [10, 2, 0, 2].into(),
        macs: vec![crate::types::Mac([2, 0, 0, 0, 0, 1])],
    });
    record
}

fn port(name: &str, standing: Standing) -> Port {
    Port {
        name: name.into(),
        subnet: "office".into(),
        standing,
        speed: Some(BitRate::megabits(1_000)),
        load: BitRate::NONE,
    }
}

fn ports() -> Vec<Port> {
    PORTS.map(|name| port(name, Standing::Good)).into()
}

fn change(vip: IpAddr, from: &str, to: &str) -> Move {
    Move {
        vip,
        from: Some(from.into()),
        to: to.into(),
    }
}

fn survey(records: &[Recorded], seen: &Observed) -> Survey {
    Mover::default().survey(records, seen, &ports())
}

fn port_loads(mover: &Mover) -> Vec<(&str, BitRate)> {
    let loads = mover.port_loads().into_iter();
    loads.map(|(port, load)| (port.as_str(), load)).collect()
}

fn placement(vip: IpAddr, port: &str) -> Placement {
    Placement::new(vip, &port.into())
}

#[test]
fn the_vips_of_a_dead_cell_go_silent_and_are_moved_nowhere() {
    let mut seen = node(&[
        ("p0", vip(1)),
        ("p1", vip(2)),
        ("p2", vip(3)),
        ("p2", vip(4)),
    ]);
    seen.links.retain(|link| link.name != "b-alpha");
    let mut stopping = served(vip(3));
    stopping.serving = false;
    let records = [served(vip(1)), routed(vip(2)), stopping];
    let found = survey(&records, &seen);
    // The third is its agent's affair, and the fourth is nobody's.
    assert_eq!(found.dead_proxies, [Step::Remove(proxy("p0", vip(1)))]);
    let left: Vec<IpAddr> = found.vips.iter().map(|vip| vip.ip).collect();
    assert_eq!(left, [vip(2)]);
}

#[test]
fn a_vip_may_use_the_watched_ports_of_its_subnet_or_of_those_that_were_named() {
    let seen = node(&[("p1", vip(1))]);
    let found = survey(&[served(vip(1))], &seen).vips;
    assert_eq!(found[0].port.as_deref(), Some("p1"));
    assert_eq!(found[0].ports, ["p0", "p1", "p2"]);
    assert!(found[0].elsewhere.is_empty());

    let mut record = served(vip(1));
    record.request.ports = Some(vec!["p1".into(), "p2".into(), "q0".into()]);
    assert_eq!(survey(&[record], &seen).vips[0].ports, ["p1", "p2"]);
}

#[test]
fn of_a_port_without_a_subnet_who_names_it_knows_where_it_leads() {
    let mut seen = node(&[]);
    seen.watched.insert("p2".into(), watched(&[]));
    let mut record = served(vip(1));
    assert_eq!(survey(&[record.clone()], &seen).vips[0].ports, ["p0", "p1"]);
    record.request.ports = Some(vec!["p2".into()]);
    assert_eq!(survey(&[record], &seen).vips[0].ports, ["p2"]);
}

#[test]
fn a_vip_whose_route_is_announced_may_use_other_subnets_ports_of_its_family() {
    let mut seen = node(&[]);
    seen.watched
        .insert("p2".into(), watched(&["2001:db8::/64"]));
    seen.watched.insert("p1".into(), watched(&[]));
    let mut record = served(vip(1));
    record.request.routed = true;
    let found = survey(&[record.clone()], &seen).vips;
    assert_eq!(
        (&found[0].ports, &found[0].elsewhere),
        (&vec!["p0".into()], &vec!["q0".into()])
    );

    record.request.vip = "2001:db8::50".parse().unwrap();
    let found = survey(&[record], &seen).vips;
    assert_eq!(
        (&found[0].ports, &found[0].elsewhere),
        (&vec!["p2".into()], &vec![])
    );
}

#[test]
fn a_vip_at_a_port_that_nobody_watches_stays_there() {
    let mut seen = node(&[("p1", vip(1))]);
    seen.watched.remove("p1");
    assert_eq!(survey(&[served(vip(1))], &seen).vips, []);
    // Nor is one moved that no watched port would do for.
    let mut record = served(vip(2));
    record.request.ports = Some(vec!["x0".into()]);
    assert_eq!(survey(&[record], &seen).vips, []);
}

#[test]
fn ports_carry_what_their_vips_move_those_too_that_leave_by_another_node() {
    let seen = node(&[
        ("p0", vip(1)),
        ("p0", vip(2)),
        ("p1", vip(3)),
        ("p1", vip(4)),
    ]);
    let mut detoured = served(vip(2));
    detoured.duty = Duty::Detour { known: false };
    let mut stopping = served(vip(4));
    stopping.serving = false;
    let records = [
        served(vip(1)),
        detoured,
        served(vip(3)),
        stopping,
        served(vip(5)),
    ];
    let (mut mover, start) = (Mover::default(), Instant::now());
    mover.measured((1..6).map(|n| (vip(n), 0)).collect(), start);
    let traffic = (1..6).map(|n| (vip(n), u64::from(n) * 1_000));
    mover.measured(traffic.collect(), start + Duration::from_secs(1));
    let found = mover.survey(&records, &seen, &ports());
    let loads: Vec<BitRate> = found.ports.iter().map(|port| port.load).collect();
    assert_eq!(loads, [3_000, 3_000, 0, 0].map(BitRate::bytes));
    let loads: Vec<BitRate> = found.vips.iter().map(|vip| vip.load).collect();
    assert_eq!(loads, [1_000, 3_000, 5_000].map(BitRate::bytes));
    // The last one is at no port yet.
    assert_eq!(mover.placed()[&vip(5)], None);
    assert_eq!(
        port_loads(&mover),
        [("p0", BitRate::bytes(3_000)), ("p1", BitRate::bytes(3_000))]
    );
    mover.moved(&[change(vip(1), "p0", "p2")], Extent::Moves, start);
    assert_eq!(
        port_loads(&mover),
        [
            ("p0", BitRate::bytes(2_000)),
            ("p1", BitRate::bytes(3_000)),
            ("p2", BitRate::bytes(1_000))
        ]
    );
}

#[test]
fn a_vip_that_is_newly_routed_is_announced_again_from_then_on_once() {
    let seen = node(&[("p0", vip(1)), ("p1", vip(2))]);
    // The third has no port yet.
    let records = [routed(vip(1)), served(vip(2)), routed(vip(3))];
    let mut mover = Mover::default();
    let found = mover.survey(&records, &seen, &ports());
    assert_eq!(found.announce, [placement(vip(1), "p0")]);
    assert_eq!(mover.survey(&records, &seen, &ports()).announce, []);
    // It was stopped meanwhile, and came again.
    mover.survey(&records[1..], &seen, &ports());
    assert_eq!(
        mover.survey(&records, &seen, &ports()).announce,
        found.announce
    );
}

#[test]
fn the_new_port_is_announced_and_answers_before_the_old_one_is_silent() {
    let seen = node(&[("p0", vip(1)), ("p0", vip(2))]);
    let records = [served(vip(1)), served(vip(2)), served(vip(3))];
    let vips = survey(&records, &seen).vips;
    let moves = [
        change(vip(1), "p0", "p1"),
        // Its proxy entry was taken away meanwhile: there is nothing to remove.
        change(vip(2), "p2", "p1"),
        Move {
            vip: vip(3),
            from: None,
            to: "p2".into(),
        },
    ];
    let cutover = Cutover::new(&moves, &vips, &seen);
    let announced = [
        placement(vip(1), "p1"),
        placement(vip(2), "p1"),
        placement(vip(3), "p2"),
    ];
    assert_eq!(cutover.announce, announced);
    let steps = [
        Step::Add(proxy("p1", vip(1))),
        Step::Remove(proxy("p0", vip(1))),
        Step::Add(proxy("p1", vip(2))),
        Step::Add(proxy("p2", vip(3))),
    ];
    assert_eq!(cutover.steps, steps);
}

#[test]
fn nothing_answers_at_another_subnets_port() {
    let seen = node(&[("p0", vip(1))]);
    let mut record = served(vip(1));
    record.request.routed = true;
    let vips = survey(&[record], &seen).vips;
    assert_eq!(vips[0].elsewhere, ["q0"]);
    let moves = [change(vip(1), "p0", "q0"), change(vip(9), "p0", "p1")];
    assert_eq!(Cutover::new(&moves, &vips, &seen), Cutover::default());
}

#[test]
fn a_move_is_taken_back_if_the_vip_is_not_served_any_more() {
    let seen = node(&[]);
    let records: Vec<Recorded> = (1..5).map(|n| served(vip(n))).collect();
    let vips = survey(&records, &seen).vips;
    let moves: Vec<Move> = (1..5).map(|n| change(vip(n), "p0", "p1")).collect();
    let cutover = Cutover::new(&moves, &vips, &seen);
    assert_eq!(cutover.taken_back(&records), []);
    let mut now = vec![served(vip(1)), served(vip(2)), served(vip(3))];
    now[1].serving = false;
    now[2].duty = Duty::Detour { known: true };
    let taken_back = [2, 3, 4].map(|n| Step::Remove(proxy("p1", vip(n))));
    assert_eq!(cutover.taken_back(&now), taken_back);
}

fn carry_out(steps: &[Step], seen: &mut Observed) {
    for step in steps {
        apply(seen, step);
    }
}

/// A VIP as it may be found: on record in this way, at these ports.
fn any_vip() -> impl Strategy<Value = (u8, bool, bool, Vec<usize>)> {
    (
        0..4u8,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0..4usize, 0..3),
    )
}

fn record_of(n: u8, duty: u8, serving: bool, announced: bool) -> Recorded {
    let mut record = match duty {
        1 => routed(vip(n)),
        _ => served(vip(n)),
    };
    match duty {
        2 => record.duty = Duty::Detour { known: serving },
        3 => record.duty = Duty::Nothing,
        _ => {}
    }
    record.serving = serving;
    record.request.routed = announced && duty == 0;
    record
}

proptest! {
    /// Whatever is found and whichever ports fail: only served VIPs of living cells are moved, each ends at one
    /// port of its subnet, and when all are stopped meanwhile, nothing of the moves is left.
    #[test]
    fn moves_touch_the_vips_that_are_served_and_leave_each_at_one_port(
        found in prop::collection::vec(any_vip(), 1..8),
        failed in prop::collection::vec(any::<bool>(), 4),
        has_cell in any::<bool>(),
    ) {
        let (mut records, mut proxies) = (Vec::new(), Vec::new());
        for (n, (duty, serving, announced, at)) in (1..).zip(found) {
            records.push(record_of(n, duty, serving, announced));
            proxies.extend(at.first().map(|port| (PORTS[*port], vip(n))));
        }
        let mut seen = node(&proxies);
        if !has_cell {
            seen.links.retain(|link| link.name != "b-alpha");
        }
        let standing = |failed| if failed { Standing::Failed } else { Standing::Good };
        let ports: Vec<Port> = PORTS.iter().zip(failed).map(|(name, failed)| port(name, standing(failed))).collect();
        let found = Mover::default().survey(&records, &seen, &ports);
        let is_movable = |ip: IpAddr| {
            let mut movable = records.iter().filter(|r| r.is_served() && (has_cell || r.duty == Duty::Route));
            movable.any(|r| r.request.vip == ip)
        };
        for vip in &found.vips {
            prop_assert!(is_movable(vip.ip));
            prop_assert!(vip.ports.iter().all(|port| !vip.elsewhere.contains(port)));
        }
        let before = seen.clone();
        carry_out(&found.dead_proxies, &mut seen);
        let dead = |object: &Object| matches!(object, Object::Proxy(_, ip) if !is_movable(*ip));
        prop_assert!(before.objects.difference(&seen.objects).all(dead));

        let moves = place(&found.vips, &found.ports);
        let cutover = Cutover::new(&moves, &found.vips, &seen);
        let before = seen.clone();
        carry_out(&cutover.steps, &mut seen);
        for object in before.objects.symmetric_difference(&seen.objects) {
            let Object::Proxy(_, ip) = object else { panic!("{object}") };
            prop_assert!(is_movable(*ip));
        }
        for new in &cutover.announce {
            let at = seen.objects.iter().filter(|o| o.vip() == Some(new.vip));
            prop_assert_eq!(at.collect::<Vec<_>>(), [&new.proxy()]);
        }
        prop_assert!(cutover.taken_back(&records).is_empty());
        carry_out(&cutover.taken_back(&[]), &mut seen);
        let moved = |ip: IpAddr| cutover.announce.iter().any(|new| new.vip == ip);
        prop_assert!(seen.objects.iter().all(|o| o.vip().is_none_or(|ip| !moved(ip))));
    }
}
