//! The node that routes.

use super::super::router::{AGAIN, RIVALS};
use super::*;
use crate::plan::neighbour::Reply;
use crate::plan::vip::LOCK_PAUSE;
use crate::types::Mac;

/// n2 routes to n1, which has stopped to reply; it looks for a path.
fn searching() -> Node {
    let mut node = Node::routing("n2");
    node.pass(Duration::from_secs(3), true);
    node.take();
    node.pass(Duration::from_secs(1), false);
    let said = "10.1.0.50: n1 does not answer on lab any more";
    assert!(node.effects.contains(&Effect::warning(said)));
    assert!(node.queries().contains(&cell()));
    node
}

/// The same, and n1 says that it has the cell, and replies again: the path is found.
fn found() -> Node {
    let mut node = searching();
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(10), true);
    node
}

#[test]
fn while_a_node_replies_nothing_is_done() {
    let mut node = Node::routing("n2");
    node.pass(Duration::from_secs(60), true);
    assert_eq!(node.log(), [""; 0]);
    let mut node = Node::routing("n2");
    node.pass(Duration::from_secs(60), true);
    assert_eq!(node.changes(), []);
}

#[test]
fn a_router_tells_the_node_with_the_cell_what_it_routes() {
    let mut node = Node::routing("n2");
    let routes = Attribute::Router("n1".into());
    assert_eq!(node.published()[&routes], Some(claim("n2")));
    node.put(RESOURCE, record(Role::Ending(path("n2", "n1"))));
    let ending = format!("{}/ending", claim("n2"));
    assert_eq!(node.published()[&routes], Some(ending));
    node.remove(RESOURCE);
    assert_eq!(node.published()[&routes], None, "it is taken back");
    node.look();
    assert!(node.published().is_empty(), "once");
}

#[test]
fn a_path_that_works_again_stays_as_it_is() {
    let mut node = found();
    assert_eq!(node.changes(), []);
    node.pass(AGAIN, true);
    assert_eq!(node.log(), [""; 0]);
}

#[test]
fn another_path_is_taken() {
    let mut node = searching();
    // n1 has another Ethernet address by now.
    node.attribute(cell(), &[("n1", "1")]);
    let reply = Reply {
        link: PORT,
        ip: address("n1"),
        from: Mac([2, 0, 0, 0, 0, 9]),
        to: mac("n2"),
    };
    node.on(Event::Reply(reply));
    node.pass(Duration::from_millis(4), false);
    assert_eq!(node.changes(), [], "another port may reply too");
    node.on(Event::Reply(Reply {
        from: Mac([2, 0, 0, 0, 0, 8]),
        ..reply
    }));
    node.pass(Duration::from_millis(1), false);
    let changes = node.changes();
    let [(instance, Change::Route { before, path })] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!((&**instance, before), (RESOURCE, &node.records[RESOURCE]));
    assert_eq!(
        path.macs,
        [Mac([2, 0, 0, 0, 0, 8]), Mac([2, 0, 0, 0, 0, 9])]
    );
    node.reconciled(RESOURCE, Outcome::Done);
    assert_eq!(node.log(), ["10.1.0.50: routed to n1 over lab"]);
}

#[test]
fn a_reply_that_is_not_the_node_s_or_not_for_the_port_does_not_count() {
    let mut node = searching();
    node.attribute(cell(), &[("n1", "1")]);
    let right = Reply {
        link: PORT,
        ip: address("n1"),
        from: Mac([2, 0, 0, 0, 0, 9]),
        to: mac("n2"),
    };
    for wrong in [
        Reply { link: 1, ..right },
        Reply {
            ip: address("n3"),
            ..right
        },
        Reply {
            to: mac("n3"),
            ..right
        },
    ] {
        node.on(Event::Reply(wrong));
    }
    node.pass(Duration::from_millis(100), false);
    assert_eq!(node.changes(), []);
}

#[test]
fn without_a_path_the_address_is_given_up_and_the_cluster_is_told() {
    let mut node = searching();
    node.attribute(cell(), &[("n1", "1")]);
    node.take();
    node.pass(Duration::from_millis(400), false);
    let changes = node.changes();
    let why = "no way to alpha on n1: no answer from 10.2.0.1 on lab";
    assert!(
        matches!(&changes[..], [(_, Change::GiveUp { why: said, .. })] if said == why),
        "{changes:?}"
    );
    node.reconciled(RESOURCE, Outcome::Done);
    node.put(RESOURCE, record(Role::Stranded(why.to_owned())));
    let nopath = Attribute::NoPath("alpha".into());
    let effects = node.effects.clone();
    assert!(effects.contains(&Effect::warning(format!("10.1.0.50: {why}"))));
    assert_eq!(node.published()[&nopath], Some("1".into()));
    // It is looked for again, and taken back.
    node.pass(AGAIN, false);
    assert!(node.queries().contains(&cell()));
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(50), true);
    assert!(matches!(&node.changes()[..], [(_, Change::Route { .. })]));
    node.reconciled(RESOURCE, Outcome::Done);
    node.put(RESOURCE, record(Role::Router(path("n2", "n1"))));
    assert_eq!(node.published()[&nopath], None);
}

#[test]
fn a_search_ends_when_no_node_has_the_cell_or_several_do() {
    for (claimants, why) in [
        (&[][..], "no way to alpha: no node says that it has it"),
        (
            &[("n1", "1"), ("n3", "1")],
            "no way to alpha: n1, n3 all say that they have it",
        ),
        (&[("n2", "1")], "no way to alpha: its cell is on this node"),
    ] {
        let mut node = searching();
        node.attribute(cell(), claimants);
        node.pass(Duration::from_millis(3200), false);
        let changes = node.changes();
        assert!(
            matches!(&changes[..], [(_, Change::GiveUp { why: said, .. })] if said == why),
            "{changes:?}"
        );
        node.reconciled(RESOURCE, Outcome::Done);
        node.tick();
        let nopath = Attribute::NoPath("alpha".into());
        assert!(!node.published().contains_key(&nopath), "{why}");
    }
}

#[test]
fn a_node_whose_addresses_are_not_known_is_waited_for_a_second() {
    let mut node = searching();
    node.view.subnets[0].peers.clear();
    node.look();
    node.take();
    node.attribute(cell(), &[("n1", "1")]);
    node.tick();
    assert!(node.queries().contains(&Attribute::Addr("lab".into())));
    node.pass(Duration::from_millis(950), false);
    assert_eq!(node.changes(), []);
    node.pass(Duration::from_millis(100), false);
    let changes = node.changes();
    assert!(
        matches!(&changes[..], [(_, Change::GiveUp { why, .. })] if why.ends_with("than that of 10.1.0.50"))
    );
}

#[test]
fn a_resource_that_is_stopped_while_a_path_is_searched_is_not_routed_again() {
    let stopped = || Record {
        serving: false,
        ..record(Role::Ending(path("n2", "n1")))
    };
    for gone in [false, true] {
        let mut node = searching();
        node.attribute(cell(), &[("n1", "1")]);
        match gone {
            true => node.remove(RESOURCE),
            false => node.put(RESOURCE, stopped()),
        }
        let from = Reply {
            link: PORT,
            ip: address("n1"),
            from: Mac([2, 0, 0, 0, 0, 9]),
            to: mac("n2"),
        };
        node.on(Event::Reply(from));
        node.take();
        node.pass(Duration::from_secs(5), true);
        assert_eq!(node.changes(), [], "stopped: {gone}");
        assert!(!node.queries().contains(&cell()), "the search has ended");
    }
}

#[test]
fn a_resource_that_is_being_started_anew_is_its_agent_s() {
    let mut node = searching();
    node.attribute(cell(), &[("n1", "1")]);
    node.remove(RESOURCE);
    let starting = Record {
        serving: false,
        ..record(Role::Router(path("n2", "n1")))
    };
    node.put(RESOURCE, starting);
    node.take();
    node.pass(Duration::from_secs(5), false);
    assert_eq!(node.changes(), []);
}

#[test]
fn the_search_of_a_resource_that_leaves_goes_on_for_what_the_cluster_was_told() {
    let saved = Saved {
        attributes: [Attribute::NoPath("alpha".into())].into(),
        unreached: [("alpha".into(), ("n1".into(), vip()))].into(),
        left: BTreeSet::new(),
    };
    let mut node = Node::new("n2", &[]);
    node.core = Detours::new(saved, node.view.clone(), node.now);
    node.put(RESOURCE, record(Role::Stranded("no way".into())));
    node.tick();
    node.remove(RESOURCE);
    node.attribute(cell(), &[("n1", "1")]);
    node.take();
    node.pass(Duration::from_millis(50), true);
    let nopath = Attribute::NoPath("alpha".into());
    assert_eq!(node.published()[&nopath], None, "it can be reached");
}

#[test]
fn a_router_looks_again_which_node_has_the_cell_and_ends_when_it_has_moved() {
    let mut node = Node::routing("n2");
    node.take();
    node.pass(RIVALS, true);
    let queries = node.queries();
    assert!(queries.contains(&cell()), "{queries:?}");
    assert!(queries.contains(&Attribute::Router("n1".into())));
    // n1 replies all the time.
    node.attribute(cell(), &[("n3", "1")]);
    node.pass(AGAIN, true);
    let said = "10.1.0.50: n1 does not have alpha any more";
    assert_eq!(node.log(), [said]);
    node.attribute(cell(), &[("n3", "1")]);
    node.pass(Duration::from_millis(50), true);
    let changes = node.changes();
    assert!(
        matches!(&changes[..], [(_, Change::Route { path, .. })] if path.node == "n3"),
        "{changes:?}"
    );
    node.reconciled(RESOURCE, Outcome::Done);
    node.put(RESOURCE, record(Role::Router(path("n2", "n3"))));
    node.take();
    node.pass(RIVALS * 2, true);
    assert_eq!(node.changes(), [], "that was all");
}

#[test]
fn a_router_of_a_cell_that_has_come_to_it_ends() {
    let mut node = Node::routing("n2");
    node.pass(RIVALS, true);
    node.attribute(cell(), &[("n2", "1")]);
    node.pass(AGAIN, true);
    node.attribute(cell(), &[("n2", "1")]);
    node.take();
    node.tick();
    let changes = node.changes();
    assert!(matches!(&changes[..], [(_, Change::GiveUp { .. })]));
}

#[test]
fn a_cell_that_the_cluster_forgets_or_that_another_node_claims_too_has_not_moved() {
    for claimants in [&[][..], &[("n1", "1"), ("n3", "1")]] {
        let mut node = Node::routing("n2");
        node.pass(RIVALS, true);
        node.take();
        node.attribute(cell(), claimants);
        node.pass(Duration::from_secs(4), true);
        assert_eq!(node.log(), [""; 0]);
        assert_eq!(node.changes(), []);
    }
}

#[test]
fn what_a_search_has_led_to_waits_for_the_lock() {
    let mut node = searching();
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(400), false);
    assert_eq!(node.changes().len(), 1);
    node.tick();
    assert_eq!(node.changes(), [], "it is being done");
    node.reconciled(RESOURCE, Outcome::Busy);
    node.tick();
    assert_eq!(node.changes(), [], "not at once");
    node.pass(LOCK_PAUSE, false);
    assert!(matches!(&node.changes()[..], [(_, Change::GiveUp { .. })]));
    // It is decided on anew: the resource is stopped meanwhile.
    node.reconciled(RESOURCE, Outcome::Busy);
    node.remove(RESOURCE);
    node.pass(LOCK_PAUSE, false);
    assert_eq!(node.changes(), []);
}

#[test]
fn cells_are_looked_at_in_turn_however_many_are_routed_to() {
    let mut node = Node::new("n2", &[]);
    for n in 0..40 {
        let mut routed = record(Role::Router(path("n2", "n1")));
        routed.spec.vserver = format!("v{n}").as_str().into();
        node.records.insert(format!("v{n}-ip1"), routed);
    }
    node.look();
    node.take();
    let mut queried = BTreeSet::new();
    for _ in 0..10 {
        node.pass(Duration::from_secs(1), true);
        let cells = node.queries().into_iter();
        let cells: Vec<Attribute> = cells
            .filter(|attribute| matches!(attribute, Attribute::Cell(_)))
            .collect();
        assert!((3..=5).contains(&cells.len()), "{cells:?}");
        queried.extend(cells);
    }
    assert_eq!(queried.len(), 40);
}
