//! A whole subnet is silent: whether this node's ports, its targets or nobody is at fault.

use super::*;

#[test]
fn when_a_whole_subnet_is_silent_the_others_are_asked_before_anything_is_told() {
    for (others, net, ports) in [("1", "0", "1"), ("0", "1", "3")] {
        let mut node = Node::new();
        node.answering = vec![3];
        node.pass(290);
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "1");
        // That nothing is heard here is told early, so that the others know in time.
        node.pass(20);
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "0");
        node.pass(270);
        assert_eq!(
            node.trouble().unwrap(),
            "eth1 silent, eth2 silent, 2 VIPs on eth2"
        );
        assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
        assert_eq!(node.attribute("berth-ports").unwrap(), "3");
        assert!(node.watch.queries_due(node.now).is_empty());
        node.pass(40);
        node.assert_asks_about_office();
        node.tell(others);
        assert_eq!(node.attribute("berth-net-office").unwrap(), net);
        assert_eq!(node.attribute("berth-ports").unwrap(), ports);
        // Whoever was at fault: it is over when they reply again.
        node.answering = vec![1, 2, 3];
        node.pass(31_000);
        assert_eq!(node.trouble(), None);
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "1");
        assert_eq!(node.attribute("berth-ports").unwrap(), "3");
    }
}

#[test]
fn what_is_heard_again_before_it_was_known_whose_fault_it_was_is_nobodys() {
    let mut node = Node::new();
    node.answering = vec![3];
    node.pass(620);
    node.assert_asks_about_office();
    // All targets are asked once more together with the others.
    node.answering = vec![1, 2, 3];
    node.pass(10);
    node.tell("1");
    assert_eq!(node.trouble(), None);
    assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
    assert_eq!(node.attribute("berth-ports").unwrap(), "3");
    node.pass(10_000);
    assert_eq!(node.trouble(), None);
}

#[test]
fn of_ports_that_were_silent_together_the_one_that_stays_silent_has_failed() {
    let mut node = Node::new();
    node.answering = vec![3];
    node.pass(580);
    node.answering = vec![1, 3];
    node.pass(300);
    assert_eq!(node.trouble(), None);
    node.pass(400);
    assert_eq!(node.trouble().unwrap(), "eth2 silent, 2 VIPs on eth2");
    assert_eq!(node.attribute("berth-ports").unwrap(), "2");
}

#[test]
fn a_port_that_had_failed_before_the_others_is_heard_again_as_ever() {
    let mut node = Node::new();
    node.answering = vec![1, 3];
    node.pass(5_000);
    node.answering = vec![3];
    node.pass(580);
    assert_eq!(node.attribute("berth-ports").unwrap(), "2", "as before");
    node.answering = vec![2, 3];
    node.pass(100);
    assert_eq!(node.trouble().unwrap(), "eth2 recovering, 2 VIPs on eth2");
    node.pass(600);
    let trouble = node.trouble().unwrap();
    assert_eq!(trouble, "eth1 silent, eth2 recovering, 2 VIPs on eth2");
}

#[test]
fn a_carrier_that_is_lost_while_the_rest_is_in_doubt_is_told() {
    let mut node = Node::new();
    node.links[0].carrier = false;
    node.look();
    node.answering = vec![3];
    node.pass(580);
    assert_eq!(
        node.attribute("berth-ports").unwrap(),
        "2",
        "eth1 is down for sure"
    );
    assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
    node.links[1].carrier = false;
    node.look_and_judge();
    assert_eq!(node.attribute("berth-ports").unwrap(), "1");
    assert_eq!(node.attribute("berth-net-office").unwrap(), "0");
    // Its coming back says nothing as long as nothing is heard through it.
    node.links[1].carrier = true;
    node.look();
    node.pass(10);
    assert_eq!(node.attribute("berth-net-office").unwrap(), "0");
}

#[test]
fn without_targets_the_carrier_alone_counts_and_nobody_is_asked() {
    let mut node = Node::new();
    let mut settings = settings();
    settings.subnets.iter_mut().for_each(|s| s.gateway = None);
    node.watch.configure(&settings, node.now);
    node.look();
    node.pass(310);
    for _ in 0..100 {
        node.pass(10);
        assert!(node.watch.queries_due(node.now).is_empty());
        assert!(node.watch.next().unwrap() > node.now, "it would not wait");
    }
    assert_eq!(node.trouble(), None);
    assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
    node.links[0].carrier = false;
    node.links[1].carrier = false;
    node.look();
    node.pass(10);
    assert_eq!(node.attribute("berth-net-office").unwrap(), "0");
}

#[test]
fn that_no_target_of_a_subnet_answers_anywhere_is_told() {
    let mut node = Node::new();
    node.answering = vec![3];
    node.pass(620);
    node.assert_asks_about_office();
    node.tell("0");
    node.pass(31_000);
    assert_eq!(
        node.trouble().unwrap(),
        "no target of office answers at any node"
    );
}
