//! The node that routes.

use super::super::router::{AGAIN, ENDING_IDLE, ENDING_LIMIT, RIVALS};
use super::*;

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
        from: [2, 0, 0, 0, 0, 9],
        to: mac("n2"),
    };
    node.on(Event::Reply(reply));
    node.pass(Duration::from_millis(4), false);
    assert_eq!(node.changes(), [], "another port may reply too");
    node.on(Event::Reply(Reply {
        from: [2, 0, 0, 0, 0, 8],
        ..reply
    }));
    node.pass(Duration::from_millis(1), false);
    let changes = node.changes();
    let [(instance, Change::Route { before, path })] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!((&**instance, before), (RESOURCE, &node.records[RESOURCE]));
    assert_eq!(path.macs, [[2, 0, 0, 0, 0, 8], [2, 0, 0, 0, 0, 9]]);
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
        from: [2, 0, 0, 0, 0, 9],
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
            from: [2, 0, 0, 0, 0, 9],
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
        unreached: [("alpha".to_owned(), ("n1".to_owned(), vip()))].into(),
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

/// n2 routes, n3 says so too: the cluster is asked where the resource is.
fn disputed() -> Node {
    let mut node = Node::routing("n2");
    let routes = Attribute::Router("n1".into());
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    assert_eq!(node.log(), [""; 0], "it may be a change of routers");
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    let effects = node.take();
    let said = "10.1.0.50: another node routes for it to n1 too";
    assert_eq!(
        effects,
        [Effect::warning(said), Effect::Locate(RESOURCE.into())]
    );
    node.attribute(routes, &[("n3", &claim("n3"))]);
    assert_eq!(node.take(), [], "it is asked once");
    node
}

fn located(node: &mut Node, nodes: &[&str]) {
    let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
    let resource = RESOURCE.to_owned();
    node.on(Event::Located { resource, nodes });
}

#[test]
fn of_two_routers_the_one_withdraws_that_the_cluster_does_not_mean() {
    let mut node = disputed();
    located(&mut node, &["n2"]);
    assert_eq!(node.take(), [Effect::Announce(vip())]);
    let mut node = disputed();
    located(&mut node, &["n3"]);
    assert!(matches!(&node.changes()[..], [(_, Change::Clear { .. })]));
    node.reconciled(RESOURCE, Outcome::Done);
    let said = "10.1.0.50: withdrawn, as the cluster has it on n3";
    assert_eq!(node.log(), [said]);
}

#[test]
fn a_router_that_could_not_withdraw_asks_the_cluster_again() {
    let again = |node: &mut Node| {
        node.take();
        let routes = Attribute::Router("n1".into());
        node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
        node.attribute(routes, &[("n3", &claim("n3"))]);
        let effects = node.take();
        assert!(effects.contains(&Effect::Locate(RESOURCE.into())));
    };
    let mut node = disputed();
    located(&mut node, &[]);
    again(&mut node);
    located(&mut node, &["n3"]);
    node.reconciled(RESOURCE, Outcome::Busy);
    again(&mut node);
    located(&mut node, &["n3"]);
    node.take();
    node.reconciled(RESOURCE, Outcome::Failed("no".into()));
    assert_eq!(node.log(), ["withdraw 10.1.0.50: no"]);
    again(&mut node);
}

#[test]
fn a_dispute_that_is_over_is_announced() {
    let mut node = disputed();
    let ending = format!("{}/ending", claim("n3"));
    node.attribute(Attribute::Router("n1".into()), &[("n3", &ending)]);
    assert_eq!(node.take(), [Effect::Announce(vip())]);
}

/// n2's routing ends; by `bytes` it is known what has come by a time.
fn ending(bytes: impl Fn(Duration) -> u64) -> Duration {
    let mut node = Node::routing("n2");
    node.put(RESOURCE, record(Role::Ending(path("n2", "n1"))));
    node.take();
    let begun = node.now;
    loop {
        node.pass(Duration::from_millis(10), true);
        let since = node.now - begun;
        if node.take().contains(&Effect::Measure) {
            node.on(Event::Traffic([(vip(), bytes(since))].into()));
        }
        match &node.changes()[..] {
            [] => assert!(since < ENDING_LIMIT * 2),
            [(_, Change::Clear { in_cell: false, .. })] => {
                node.reconciled(RESOURCE, Outcome::Done);
                assert_eq!(node.log(), ["10.1.0.50: no longer routed"]);
                return since;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn routing_ends_when_nothing_comes_any_more_and_in_time_whatever_comes() {
    let slack = Duration::from_millis(300);
    let idle = ending(|_| 0);
    assert!(
        idle >= ENDING_IDLE && idle < ENDING_IDLE + slack,
        "{idle:?}"
    );
    let until = Duration::from_secs(3);
    let busy = ending(|since| since.min(until).as_millis() as u64);
    assert!(busy >= until + ENDING_IDLE - slack && busy < until + ENDING_IDLE + slack * 2);
    let always = ending(|since| since.as_millis() as u64);
    assert!(always >= ENDING_LIMIT && always < ENDING_LIMIT + slack);
}

#[test]
fn a_daemon_that_ends_ends_what_would_wait_for_it_and_goes_on_claiming_the_rest() {
    let mut node = Node::routing("n2");
    let other: IpAddr = [10, 1, 0, 51].into();
    let mut over = record(Role::Ending(path("n2", "n1")));
    over.spec.vip = other;
    node.put("alpha-ip2", over.clone());
    node.take();
    let records = node.records.clone();
    node.on(Event::Shutdown { records });
    let effects = node.take();
    let ends = Effect::EndRouting([("alpha-ip2".to_owned(), over)].into());
    assert_eq!(effects[0], ends);
    let routes = Attribute::Router("n1".into());
    assert!(effects.contains(&Effect::Publish(routes, Some(claim("n2")))));
}

#[test]
fn what_is_published_is_on_record_first_and_taken_back_by_the_next_daemon() {
    let mut node = Node::new("n2", &["beta"]);
    let effects = node.take();
    let saved = effects.iter().find_map(|effect| match effect {
        Effect::Save(saved) => Some(saved.clone()),
        _ => None,
    });
    let saved = saved.unwrap();
    let first = effects
        .iter()
        .position(|e| matches!(e, Effect::Publish(..)));
    let kept = effects.iter().position(|e| matches!(e, Effect::Save(_)));
    assert!(kept < first);
    node.view.cells.clear();
    node.core = Detours::new(saved, node.view.clone(), node.now);
    node.tick();
    assert!(node.published().is_empty(), "nothing is known yet");
    node.look();
    let beta = Attribute::Cell("beta".into());
    assert_eq!(node.published()[&beta], None);
}

#[test]
fn an_agent_is_told_the_path_or_why_there_is_none() {
    let ask = |node: &mut Node, asker| {
        node.on(Event::PathWanted {
            asker,
            vserver: "alpha".into(),
            vip: vip(),
        });
    };
    let answers = |node: &mut Node| -> Vec<(Asker, Result<TransitPath, String>)> {
        let all = node.take().into_iter().filter_map(|effect| match effect {
            Effect::Answer(asker, path) => Some((asker, path)),
            _ => None,
        });
        all.collect()
    };
    let mut node = Node::new("n2", &[]);
    ask(&mut node, 7);
    node.tick();
    assert!(node.queries().contains(&cell()));
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(20), true);
    assert_eq!(answers(&mut node), [(7, Ok(path("n2", "n1")))]);
    (0..WAITING as u64).for_each(|asker| ask(&mut node, asker));
    assert_eq!(node.take(), []);
    ask(&mut node, 99);
    let why = "no way to alpha: too many ways are looked for".to_owned();
    assert_eq!(answers(&mut node), [(99, Err(why))]);
    node.pass(Duration::from_millis(3200), true);
    assert_eq!(answers(&mut node).len(), WAITING);
}

#[test]
fn a_degradation_is_cleaned_up_after_a_resource_that_has_left() {
    let mut node = Node::new("n2", &[]);
    let degraded = Record {
        degraded: true,
        ..record(Role::Router(path("n2", "n1")))
    };
    node.put(RESOURCE, degraded);
    node.remove(RESOURCE);
    node.take();
    node.pass(SETTLED - Duration::from_millis(1), true);
    let cleaned = Effect::CleanUp {
        resource: RESOURCE.into(),
        node: "n2".into(),
    };
    assert!(!node.take().contains(&cleaned));
    node.pass(Duration::from_millis(1), true);
    assert!(node.take().contains(&cleaned));
}
