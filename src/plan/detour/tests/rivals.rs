//! Two routers, a router beside the node that serves, and the end of one.

use super::super::home::RIVAL_PATIENCE;
use super::super::router::ENDING_IDLE;
use super::super::router::ending::LIMIT as ENDING_LIMIT;
use super::*;

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
fn a_dispute_that_lasts_is_taken_to_the_cluster_again() {
    let routes = Attribute::Router("n1".into());
    let mut node = disputed();
    located(&mut node, &["n2"]);
    node.take();
    // The cluster has it elsewhere by now, without this node having been told.
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    assert_eq!(node.take(), [Effect::Locate(RESOURCE.into())]);
    located(&mut node, &["n3"]);
    assert!(matches!(&node.changes()[..], [(_, Change::Clear { .. })]));
    // Nor is one that was stopped meanwhile taken for one that is meant.
    let mut node = disputed();
    located(&mut node, &["n2"]);
    node.put(RESOURCE, record(Role::Ending(path("n2", "n1"))));
    node.put(RESOURCE, record(Role::Router(path("n2", "n1"))));
    node.take();
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    assert_eq!(node.take(), [], "it may be a change of routers");
    node.attribute(routes, &[("n3", &claim("n3"))]);
    assert!(node.take().contains(&Effect::Locate(RESOURCE.into())));
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

/// n1 serves the VIP, whose way is offered to a routing daemon, and n2 says that it routes for it.
fn served_and_routed() -> Node {
    let mut node = Node::new("n1", &["alpha"]);
    let mut served = record(Role::Home);
    served.spec.routed = true;
    node.put(RESOURCE, served);
    node.attribute(Attribute::Router("n1".into()), &[("n2", &claim("n2"))]);
    node.tick();
    node
}

#[test]
fn a_router_beside_the_node_that_serves_is_told_by_a_claim_of_that_node_s() {
    let routes = Attribute::Router("n1".into());
    let mut node = served_and_routed();
    node.pass(RIVAL_PATIENCE - Duration::from_millis(1), true);
    node.attribute(routes.clone(), &[("n2", &claim("n2"))]);
    node.tick();
    let effects = node.take();
    let says = |effect: &&Effect| match effect {
        Effect::Publish(attribute, _) => *attribute == routes,
        Effect::Log(..) | Effect::Announce(_) | Effect::Reconcile(_) => true,
        _ => false,
    };
    assert_eq!(effects.iter().find(says), None, "it may be a change");

    node.now += Duration::from_millis(1);
    node.attribute(routes.clone(), &[("n2", &claim("n2"))]);
    let said = "10.1.0.50: n2 routes for it, although it is served here";
    assert_eq!(node.log(), [said]);
    node.tick();
    let own = Some(claim("n1"));
    assert_eq!(node.published(), [(routes.clone(), own)].into());
    node.attribute(routes.clone(), &[("n2", &claim("n2"))]);
    assert_eq!(node.take(), [], "it is said once");

    let mut router = Node::routing("n2");
    router.take();
    for _ in 0..2 {
        router.attribute(routes.clone(), &[("n1", &claim("n1"))]);
    }
    assert!(router.take().contains(&Effect::Locate(RESOURCE.into())));

    let ending = format!("{}/ending", claim("n2"));
    node.attribute(routes.clone(), &[("n2", &ending)]);
    assert_eq!(node.take(), [Effect::Announce(vip())]);
    node.tick();
    assert_eq!(node.published(), [(routes, None)].into());
}

#[test]
fn what_is_served_no_more_is_claimed_no_more() {
    let routes = Attribute::Router("n1".into());
    let mut node = served_and_routed();
    node.now += RIVAL_PATIENCE;
    node.attribute(routes.clone(), &[("n2", &claim("n2"))]);
    node.tick();
    assert!(node.published()[&routes].is_some());
    node.remove(RESOURCE);
    let effects = node.take();
    assert!(!effects.contains(&Effect::Announce(vip())));
    assert!(effects.contains(&Effect::Publish(routes, None)));
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
