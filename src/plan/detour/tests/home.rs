//! The node with the cell.

use super::super::home::hop;
use super::super::home::{
    EAGER, EAGER_PAUSE, IDLE_PAUSE, LINGER, LIVELY, LIVELY_PAUSE, LOST_PAUSE,
};
use super::*;
use crate::plan::vip::LOCK_PAUSE;
use crate::plan::vip::record::{RouterHop, detour_name};

fn judged(text: &str, view: &NodeView) -> Result<RouterHop, String> {
    hop(&"n2".into(), &parse(text)[0], view)
}

/// n1, on a subnet with IPv6 too.
fn both_families() -> NodeView {
    let mut view = view("n1", &["alpha"]);
    let subnet = &mut view.subnets[0];
    subnet.nets.push("fd00:2::/64".parse().unwrap());
    subnet.own.push("fd00:2::1".parse().unwrap());
    view
}

#[test]
fn a_router_is_believed_only_on_a_subnet_of_this_node() {
    let view = both_families();
    let good = judged("alpha/10.1.0.50/lab/10.2.0.2", &view).unwrap();
    assert_eq!(
        (good.ports, good.net),
        (vec!["eth3".into()], "10.2.0.0/24".parse().unwrap())
    );
    assert_eq!(
        judged("alpha/fd00:1::50/lab/fe80::2", &view).unwrap().net,
        "fd00:2::/64".parse().unwrap()
    );
    for (claim, why) in [
        (
            "alpha/10.1.0.50/store/10.2.0.2",
            "which this node does not know",
        ),
        (
            "alpha/10.1.0.50/lab/10.3.0.2",
            "which is no address of that",
        ),
        (
            "alpha/10.1.0.50/lab/10.2.0.1",
            "which is no address of that",
        ),
    ] {
        let error = judged(claim, &view).unwrap_err();
        assert!(error.ends_with(why), "{error}");
    }
    let mut dead = view;
    dead.subnets[0].ports.clear();
    let error = judged("alpha/10.1.0.50/lab/10.2.0.2", &dead).unwrap_err();
    assert!(error.ends_with("works on"));
}

fn routers() -> Attribute {
    Attribute::Router("n1".into())
}

/// n1 with the cell, which routes nothing and is routed for by nobody.
fn quiet() -> Node {
    let mut node = Node::new("n1", &["alpha"]);
    node.tick();
    node.take();
    node
}

/// Whether the routers are queried at `at` after now, and not before.
fn is_queried(node: &mut Node, at: Duration) -> bool {
    node.take();
    node.pass(at - Duration::from_millis(1), true);
    let before = node.queries().contains(&routers());
    node.pass(Duration::from_millis(1), true);
    !before && node.queries().contains(&routers())
}

#[test]
fn routers_are_asked_for_when_a_subnet_is_lost_and_then_ever_less_often() {
    let mut node = Node::new("n1", &["alpha"]);
    node.tick();
    assert!(
        node.queries().contains(&routers()),
        "a new cell may be routed to already"
    );
    node.now += LIVELY;
    node.attribute(routers(), &[]);
    assert!(is_queried(&mut node, IDLE_PAUSE));
    node.attribute(routers(), &[]);
    node.view.lost_subnet = true;
    node.look();
    node.tick();
    assert!(node.queries().contains(&routers()));
    node.tick();
    assert!(node.queries().is_empty(), "it is queried already");
    let lost = node.now;
    node.attribute(routers(), &[]);
    assert!(is_queried(&mut node, EAGER_PAUSE));
    node.now = lost + EAGER;
    node.attribute(routers(), &[]);
    assert!(is_queried(&mut node, LIVELY_PAUSE));
    node.now = lost + LIVELY;
    node.attribute(routers(), &[]);
    assert!(is_queried(&mut node, LOST_PAUSE));
    node.view.cells.clear();
    node.look();
    node.attribute(routers(), &[]);
    assert_eq!(
        node.core.next(),
        None,
        "nobody routes for a node without a cell"
    );
}

#[test]
fn a_query_that_is_not_answered_is_sent_again() {
    let mut node = quiet();
    assert!(is_queried(&mut node, Duration::from_secs(2)));
}

/// n1 has begun to follow n2's claim.
fn following() -> Node {
    let mut node = quiet();
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    assert_eq!(node.take(), [Effect::FindCell("alpha".into())]);
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    assert_eq!(node.take(), [], "it is looked for once");
    node.on(Event::CellFound("alpha".into(), Ok(())));
    let changes = node.changes();
    let [(instance, Change::Follow { before, spec, hop })] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!((&**instance, before), ("@10.1.0.50", &None));
    assert_eq!((&*spec.vserver, spec.vip), ("alpha", vip()));
    assert_eq!((&*hop.node, hop.router), ("n2", address("n2")));
    node
}

/// n1's VIP is routed for by n2.
fn followed() -> Node {
    let mut node = following();
    let hop = judged(&claim("n2"), &node.view).unwrap();
    node.reconciled("@10.1.0.50", Outcome::Done);
    node.put("@10.1.0.50", record(Role::Detour(Some(hop))));
    node
}

#[test]
fn a_claim_is_followed_once_and_told_when_it_is() {
    let mut node = following();
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    assert_eq!(node.changes(), [], "it is being done");
    node.reconciled("@10.1.0.50", Outcome::Done);
    let effects = node.take();
    let told = Effect::info("10.1.0.50: n2 routes for it now");
    assert_eq!(effects, [told, Effect::ReleaseCell("alpha".into())]);
    let mut node = followed();
    node.take();
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    assert_eq!(node.changes(), []);
}

#[test]
fn a_cell_that_is_still_to_be_told_of_is_not_released_with_another_one() {
    let mut node = Node::new("n1", &["alpha", "beta"]);
    node.tick();
    node.take();
    let both = format!("{} beta/10.1.0.51/lab/{}", claim("n2"), address("n2"));
    node.attribute(routers(), &[("n2", &both)]);
    assert_eq!(
        node.take(),
        ["alpha", "beta"].map(|cell| Effect::FindCell(cell.into()))
    );
    // Both were found at the same time, and are told of one after the other.
    node.on(Event::CellFound("alpha".into(), Ok(())));
    node.take();
    node.reconciled("@10.1.0.50", Outcome::Done);
    let released = |effect: &Effect| match effect {
        Effect::ReleaseCell(vserver) => Some(vserver.clone()),
        _ => None,
    };
    let first: Vec<VserverName> = node.take().iter().filter_map(released).collect();
    assert_eq!(first, ["alpha"]);
    node.on(Event::CellFound("beta".into(), Ok(())));
    let changes = node.changes();
    assert!(
        matches!(&changes[..], [(name, Change::Follow { .. })] if name == "@10.1.0.51"),
        "{changes:?}"
    );
}

#[test]
fn what_could_not_be_done_for_want_of_the_lock_is_decided_on_anew() {
    let mut node = following();
    node.reconciled("@10.1.0.50", Outcome::Busy);
    assert_eq!(node.take(), [], "the cell stays at hand");
    node.tick();
    assert_eq!(node.changes(), [], "not at once");
    node.pass(LOCK_PAUSE, true);
    assert!(matches!(&node.changes()[..], [(_, Change::Follow { .. })]));
    // The router has changed its mind meanwhile.
    node.reconciled("@10.1.0.50", Outcome::Busy);
    node.attribute(routers(), &[]);
    node.pass(LOCK_PAUSE, true);
    assert_eq!(node.changes(), []);
}

#[test]
fn what_fails_is_told_once_and_tried_again_in_a_while() {
    let mut node = following();
    node.reconciled("@10.1.0.50", Outcome::Failed("no room".into()));
    assert_eq!(node.log(), ["10.1.0.50: no room"]);
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    assert_eq!(node.take(), []);
    node.now += Duration::from_secs(2);
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    node.on(Event::CellFound("alpha".into(), Err("no room".into())));
    assert_eq!(node.log(), [""; 0], "that was told");
    node.now += Duration::from_secs(2);
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    node.on(Event::CellFound("alpha".into(), Err("it has ended".into())));
    assert_eq!(node.log(), ["10.1.0.50: it has ended"]);
}

#[test]
fn a_claim_for_what_is_served_here_or_is_not_here_is_not_followed() {
    for (cells, own) in [(&["alpha"][..], Some(Role::Home)), (&["beta"], None)] {
        let mut node = Node::new("n1", cells);
        if let Some(role) = own {
            node.put(RESOURCE, record(role));
        }
        node.take();
        node.attribute(routers(), &[("n2", &claim("n2"))]);
        assert_eq!(node.take(), []);
    }
}

#[test]
fn the_router_that_came_last_is_followed_and_one_that_ends_is_not() {
    let mut node = followed();
    node.take();
    node.now += Duration::from_secs(1);
    let both = [("n2", &*claim("n2")), ("n3", &*claim("n3"))];
    node.attribute(routers(), &both);
    node.on(Event::CellFound("alpha".into(), Ok(())));
    let changes = node.changes();
    assert!(
        matches!(&changes[..], [(_, Change::Follow { hop, .. })] if hop.node == "n3"),
        "{changes:?}"
    );
    let mut node = followed();
    node.take();
    let ending = format!("{}/ending", claim("n2"));
    node.attribute(routers(), &[("n2", &ending), ("n3", &claim("n3"))]);
    node.on(Event::CellFound("alpha".into(), Ok(())));
    let changes = node.changes();
    assert!(matches!(&changes[..], [(_, Change::Follow { hop, .. })] if hop.node == "n3"));
}

#[test]
fn without_a_router_a_detour_ends_only_after_a_while() {
    let mut node = followed();
    node.take();
    node.attribute(routers(), &[]);
    node.now += LINGER - Duration::from_millis(1);
    node.attribute(routers(), &[]);
    assert_eq!(node.take(), [], "another one may take over");
    node.now += Duration::from_millis(1);
    node.attribute(routers(), &[]);
    assert_eq!(node.take(), [Effect::FindCell("alpha".into())]);
    node.on(Event::CellFound("alpha".into(), Ok(())));
    let changes = node.changes();
    assert!(matches!(
        &changes[..],
        [(_, Change::Clear { in_cell: true, .. })]
    ));
    node.reconciled("@10.1.0.50", Outcome::Done);
    assert_eq!(node.log(), ["10.1.0.50: no node routes for it any more"]);
}

#[test]
fn a_router_that_is_back_in_time_has_all_its_time_again() {
    let mut node = followed();
    node.attribute(routers(), &[]);
    node.now += LINGER / 2;
    node.attribute(routers(), &[("n2", &claim("n2"))]);
    node.take();
    node.now += LINGER / 2;
    node.attribute(routers(), &[]);
    node.now += LINGER / 2;
    node.attribute(routers(), &[]);
    assert_eq!(node.take(), []);
}

#[test]
fn with_its_cell_a_detour_ends_at_once() {
    let mut node = followed();
    node.take();
    node.view.cells.clear();
    node.look();
    let changes = node.changes();
    assert!(matches!(
        &changes[..],
        [(_, Change::Clear { in_cell: false, .. })]
    ));
}

#[test]
fn what_has_come_home_is_its_resource_s() {
    let mut node = followed();
    node.attribute(routers(), &[]);
    node.take();
    let starting = Record {
        serving: false,
        ..record(Role::Home)
    };
    node.put(RESOURCE, starting);
    assert_eq!(node.changes(), [], "it is just handing over");
    node.put(RESOURCE, record(Role::Home));
    let changes = node.changes();
    assert!(
        matches!(&changes[..], [(name, Change::Forget { .. })] if *name == detour_name(vip())),
        "{changes:?}"
    );
}
