//! When a single port has failed, and when it may be used again.

use super::*;

#[test]
fn a_lost_carrier_is_told_at_once_with_where_the_addresses_are() {
    let mut node = Node::new();
    node.links[0].carrier = false;
    node.look_and_judge();
    assert_eq!(node.trouble().unwrap(), "eth1 down, 2 VIPs on eth2");
    assert_eq!(node.attribute("berth-ports").unwrap(), "2");
    assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
    assert_eq!(node.attribute("berth-addr-office").unwrap(), "10.1.0.1");
    node.links[0].carrier = true;
    node.look();
    node.pass(29_000);
    assert_eq!(node.trouble().unwrap(), "eth1 recovering, 2 VIPs on eth2");
    node.pass(2_000);
    assert_eq!(node.trouble(), None);
}

#[test]
fn a_port_that_is_silent_while_another_hears_has_failed() {
    let mut node = Node::new();
    node.answering = vec![1, 3];
    node.pass(600);
    assert_eq!(node.trouble().unwrap(), "eth2 silent, 2 VIPs on eth2");
    assert_eq!(node.attribute("berth-ports").unwrap(), "2");
}

#[test]
fn an_answer_that_is_not_for_the_port_it_came_in_by_proves_nothing() {
    let mut node = Node::new();
    node.answering = vec![1, 3];
    for _ in 0..60 {
        node.pass(10);
        // The gateway of office, as somebody on the network of eth2 pretends, for eth1 and for lab.
        for (link, to) in [(2, 1), (2, 3), (3, 2)] {
            let forged = Reply {
                link,
                ip: "10.1.0.254".parse().unwrap(),
                from: TARGET,
                to: Mac([2, 0, 0, 0, 0, to]),
            };
            node.watch.on_reply(&forged, node.now);
        }
    }
    assert_eq!(node.trouble().unwrap(), "eth2 silent, 2 VIPs on eth2");
}

#[test]
fn one_dead_target_or_lost_packet_is_no_reason_for_suspicion() {
    let mut node = Node::new();
    let peers: Values = [("n2".into(), "10.1.0.2".to_owned())].into();
    node.watch
        .on_attribute(&attribute("berth-addr-office"), &peers, node.now);
    node.pass(1000);
    node.dead = vec!["10.1.0.254".parse().unwrap()];
    for _ in 0..60 {
        node.pass(10);
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "1");
    }
    assert_eq!(node.trouble(), None);
}

#[test]
fn a_process_that_stood_still_condemns_nobody() {
    let mut node = Node::new();
    node.now += Duration::from_secs(10);
    node.watch.tick(node.now);
    node.watch.judge(node.now);
    assert_eq!(node.trouble(), None);
}

#[test]
fn a_port_that_comes_back_under_another_number_is_used_after_a_while() {
    let mut node = Node::new();
    node.links.remove(1);
    node.look_and_judge();
    assert_eq!(node.trouble().unwrap(), "eth2 missing, 2 VIPs on eth2");
    node.links.push(link(12, true));
    node.answering.push(12);
    node.look();
    node.pass(1_000);
    assert_eq!(node.trouble().unwrap(), "eth2 recovering, 2 VIPs on eth2");
    node.pass(31_000);
    assert_eq!(node.trouble(), None);
    // Even if nobody saw it go.
    node.links[2] = link(22, true);
    node.answering.push(22);
    node.look();
    node.pass(1_000);
    assert_eq!(node.trouble().unwrap(), "eth2 recovering, 2 VIPs on eth2");
}
