//! Two routers, and the end of one.

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
    let nodes = nodes.iter().map(|&node| node.into()).collect();
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
