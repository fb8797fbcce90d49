//! Deferred work: when the lock is tried, and what is done under it.

use super::*;
use crate::plan::mover::deferred::Work;
use crate::plan::vip::Element;

#[test]
fn a_port_that_has_failed_since_it_was_decided_on_is_no_target_any_more() {
    let link = |name: &str, carrier| Link {
        name: name.into(),
        up: true,
        carrier,
        eligible: true,
        addresses: Vec::new(),
    };
    let watched = |standing| Watched {
        standing,
        load: 0,
        nets: Vec::new(),
    };
    let seen = Observed {
        links: [("p0", true), ("p1", true), ("p2", false), ("p3", true)]
            .map(|(name, carrier)| link(name, carrier))
            .into(),
        watched: [
            ("p0".into(), watched(Standing::Good)),
            ("p1".into(), watched(Standing::Failed)),
            ("p2".into(), watched(Standing::Good)),
            ("p3".into(), watched(Standing::Held)),
        ]
        .into(),
        ..Observed::default()
    };
    // The last one is not there at all.
    let targets: BTreeMap<IpAddr, IfName> = (0..5u8)
        .map(|n| ([10, 1, 0, n].into(), format!("p{n}").as_str().into()))
        .collect();
    let left = deferred::still_good(&targets, &seen);
    assert_eq!(left.into_values().collect::<Vec<_>>(), ["p0", "p3"]);
}

#[test]
fn there_is_a_rest_after_a_move_or_when_everything_is_looked_for() {
    let (mut mover, now) = (Mover::default(), Instant::now());
    mover.moved(&[], Extent::Moves, now);
    assert!(!mover.is_due(now) && mover.next().is_none() && mover.take_deferred().is_none());
    mover.moved(&[], Extent::Everything, now);
    assert!(
        mover.is_due(now)
            && mover
                .take_deferred()
                .is_some_and(|deferred| deferred.everything)
    );
    assert!(!mover.is_due(now));
    mover.moved(&[change(vip(1), "p0", "p1")], Extent::Moves, now);
    assert!(
        mover.is_due(now)
            && mover
                .take_deferred()
                .is_some_and(|deferred| !deferred.everything)
    );
}

#[test]
fn what_is_added_to_a_rest_does_not_put_it_off() {
    let (mut mover, now) = (Mover::default(), Instant::now());
    mover.moved(
        &[change(vip(1), "p0", "p1"), change(vip(2), "p0", "p1")],
        Extent::Moves,
        now,
    );
    assert_eq!(mover.locked_out(now), None);
    let again = mover.next().unwrap();
    assert!(again > now && !mover.is_due(now) && mover.is_due(again));
    mover.moved(&[change(vip(1), "p1", "p2")], Extent::Everything, now);
    mover.moved(&[], Extent::Moves, now);
    assert_eq!(mover.next(), Some(again));
    let deferred = mover.take_deferred().unwrap();
    assert!(deferred.everything);
    let targets = [(vip(1), "p2".into()), (vip(2), "p1".into())];
    assert_eq!(deferred.targets, targets.into());
}

#[test]
fn it_is_told_once_when_the_lock_is_not_to_be_had() {
    let (mut mover, start) = (Mover::default(), Instant::now());
    mover.moved(&[], Extent::Everything, start);
    let mut told = Vec::new();
    let mut now = start;
    while now < start + LOCK_LIMIT * 2 {
        told.extend(mover.locked_out(now).map(|_| now));
        now = mover.next().unwrap();
    }
    assert_eq!(told, [start + LOCK_LIMIT]);
    assert_eq!(Mover::default().locked_out(start), None);
}

/// What is done under the lock after these moves.
fn work(moves: &[Move], extent: Extent, records: &[Recorded], seen: &Observed) -> Work {
    let (mut mover, now) = (Mover::default(), Instant::now());
    mover.moved(moves, extent, now);
    mover.take_deferred().unwrap().work(records, seen)
}

fn concerned(work: &Work, seen: &Observed) -> Vec<IpAddr> {
    work.links(seen).into_iter().map(|(vip, _)| vip).collect()
}

#[test]
fn a_move_concerns_what_has_moved_and_is_still_served() {
    let seen = node(&[]);
    let mut stopping = served(vip(3));
    stopping.serving = false;
    let records = [served(vip(1)), routed(vip(2)), stopping, served(vip(4))];
    let moves = [1, 2, 3, 5].map(|n| change(vip(n), "p0", "p1"));
    let found = work(&moves, Extent::Moves, &records, &seen);
    assert_eq!(concerned(&found, &seen), [vip(1), vip(2)]);
    // A cell that has died meanwhile needs nothing any more.
    let mut dead = seen;
    dead.links.retain(|link| link.name != "b-alpha");
    let found = work(&moves, Extent::Moves, &records, &dead);
    assert_eq!(concerned(&found, &dead), [vip(2)]);
}

#[test]
fn everything_is_what_is_served_and_what_another_node_is_known_to_route_for() {
    let seen = node(&[]);
    let detour = |n: u8, known: bool, serving: bool| Recorded {
        duty: Duty::Detour { known },
        serving,
        ..served(vip(n))
    };
    let mut coming_home = served(vip(5));
    coming_home.serving = false;
    let mut ending = routed(vip(7));
    ending.duty = Duty::Nothing;
    let records = [
        served(vip(1)),
        detour(2, true, true),
        detour(3, false, true),
        detour(4, true, false),
        // Its agent has begun to start it here.
        detour(5, true, true),
        coming_home,
        routed(vip(6)),
        ending,
    ];
    let found = work(&[], Extent::Everything, &records, &seen);
    assert_eq!(concerned(&found, &seen), [vip(1), vip(6), vip(2)]);
    // After a move alone, detours are left as they are.
    let moves = (1..8).map(|n| change(vip(n), "p0", "p1"));
    let found = work(&moves.collect::<Vec<_>>(), Extent::Moves, &records, &seen);
    assert_eq!(concerned(&found, &seen), [vip(1), vip(6)]);
}

fn adds(changes: &Changes, object: &Object) -> bool {
    changes.steps.contains(&Step::Add(object.clone()))
}

#[test]
fn a_vip_gets_what_it_needs_at_the_port_that_it_has_moved_to() {
    // The hurried part is done already.
    let seen = node(&[("p2", vip(1))]);
    let records = [served(vip(1)), served(vip(2))];
    let moves = [change(vip(1), "p0", "p2")];
    let changes = work(&moves, Extent::Moves, &records, &seen).changes(seen.clone());
    let to_cell = |vip: IpAddr| {
        changes.steps.iter().any(|step| match step {
            Step::Add(Object::Route(route)) => route.to == vip.into(),
            _ => false,
        })
    };
    assert!(to_cell(vip(1)) && !to_cell(vip(2)));
    assert!(
        !changes
            .steps
            .iter()
            .any(|step| matches!(step, Step::Remove(Object::Proxy(..))))
    );
    // What is in the cell is there.
    assert!(
        !adds(&changes, &Object::Address(vip(1)))
            && !adds(&changes, &Object::CellRoute(Family::V4))
    );
    // It was announced when it moved.
    assert_eq!(changes.announce, []);
    assert_eq!(changes.announce_again, [placement(vip(1), "p2")]);
}

#[test]
fn what_was_taken_away_is_made_again_and_announced() {
    let seen = node(&[]);
    let records = [served(vip(1)), served(vip(2))];
    let moves = [change(vip(1), "p0", "p2")];
    let changes = work(&moves, Extent::Everything, &records, &seen).changes(seen.clone());
    assert!(adds(&changes, &proxy("p2", vip(1))));
    let mended: Vec<IpAddr> = changes.announce.iter().map(|at| at.vip).collect();
    assert_eq!(mended, [vip(2)]);
    let again: Vec<IpAddr> = changes.announce_again.iter().map(|at| at.vip).collect();
    assert_eq!(again, [vip(2), vip(1)]);
    for Placement { vip, port } in &changes.announce {
        assert!(adds(&changes, &proxy(port, *vip)));
    }
}

#[test]
fn a_vip_that_nothing_can_be_done_for_holds_up_no_other() {
    let seen = node(&[]);
    let mut astray = served([192, 0, 2, 1].into());
    astray.request.ports = Some(vec!["x0".into()]);
    let records = [astray, served(vip(1))];
    let changes = work(&[], Extent::Everything, &records, &seen).changes(seen.clone());
    let troubled: Vec<IpAddr> = changes.problems.iter().map(|(vip, _)| *vip).collect();
    assert_eq!(troubled, [IpAddr::from([192, 0, 2, 1])]);
    assert_eq!(changes.announce.len(), 1);
}

#[test]
fn an_address_that_nothing_else_is_left_of_answers_no_more() {
    let mut stopping = served(vip(2));
    stopping.serving = false;
    let records = [served(vip(1)), stopping];
    let to_cell = Object::Element(Element::VipTarget(vip(4), "b-alpha".into()));
    let mut seen = node(&[1, 2, 3, 4].map(|n| ("p0", vip(n))));
    seen.objects.insert(to_cell);
    let removed = |extent, moves: &[Move]| {
        let changes = work(moves, extent, &records, &seen).changes(seen.clone());
        let proxies = changes.steps.into_iter().filter_map(|step| match step {
            Step::Remove(Object::Proxy(_, vip)) => Some(vip),
            _ => None,
        });
        proxies.collect::<Vec<IpAddr>>()
    };
    // What is on record is its agent's affair, and of the last one the record may not have been readable.
    assert_eq!(removed(Extent::Everything, &[]), [vip(3)]);
    let of_a_move = removed(Extent::Moves, &[change(vip(1), "p1", "p0")]);
    assert!(of_a_move.is_empty(), "{of_a_move:?}");
}
