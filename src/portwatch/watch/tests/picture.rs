//! What is told of ports and subnets to whoever asks.

use super::*;
use crate::portwatch::state::{Condition, Failure, Hearing};
use crate::types::Milliseconds;

#[test]
fn the_state_of_a_port_is_told_as_it_changes() {
    let mut node = Node::new();
    let condition = |node: &Node, port: &str| node.state().ports[port].condition.clone();
    let failed = |why| Condition::Failed { why };
    assert_eq!(condition(&node, "eth1"), Condition::Good);
    node.links[0].carrier = false;
    node.look_and_judge();
    assert_eq!(condition(&node, "eth1"), failed(Failure::Carrier));
    assert!(!node.state().ports["eth1"].good && node.state().ports["eth2"].good);
    node.links[0].carrier = true;
    node.look_and_judge();
    assert_eq!(condition(&node, "eth1"), failed(Failure::Silent));
    // It is asked at once or an interval later, and has 30 s to go then.
    node.pass(10_200);
    let Condition::Held { left_ms } = condition(&node, "eth1") else {
        panic!("{:?}", condition(&node, "eth1"));
    };
    assert!((19_800..=20_100).contains(&left_ms.0), "{left_ms:?}");
    node.pass(20_200);
    assert_eq!(condition(&node, "eth1"), Condition::Good);
    node.links.remove(0);
    node.look_and_judge();
    assert_eq!(condition(&node, "eth1"), Condition::Missing);
    let master = Link {
        name: "bond0".into(),
        kind: Some("bond".into()),
        ..link(9, true)
    };
    node.links.push(master);
    node.links[0].master = Some(9);
    node.look_and_judge();
    let interface = "bond0".into();
    assert_eq!(condition(&node, "eth2"), Condition::PartOf { interface });
}

#[test]
fn a_port_that_flaps_is_told_as_flapping_when_it_works() {
    let mut node = Node::new();
    for _ in 0..crate::plan::port::health::FLAPS {
        for carrier in [false, true] {
            node.links[0].carrier = carrier;
            node.look();
            node.pass(300);
        }
        node.pass(31_000);
    }
    assert_eq!(node.state().ports["eth1"].condition, Condition::Flapping);
    assert_eq!(node.trouble().unwrap(), "eth1 flapping, 2 VIPs on eth2");
}

#[test]
fn a_target_is_told_with_the_time_since_its_last_answer() {
    let mut node = Node::new();
    let targets = |node: &Node| node.state().ports["eth3"].targets.clone();
    let [target] = &targets(&node)[..] else {
        panic!("{:?}", targets(&node));
    };
    assert_eq!(target.address, IpAddr::from([10, 2, 0, 254]));
    assert!(target.answered_ms_ago.unwrap().0 <= 200, "{target:?}");
    node.answering = vec![1, 2];
    node.pass(10_000);
    let ago = targets(&node)[0].answered_ms_ago.unwrap().0;
    assert!((10_000..=10_200).contains(&ago), "{ago}");
    let mut settings = settings();
    settings.targets = vec![[10, 2, 0, 9].into()];
    node.watch.configure(&settings, node.now);
    node.look();
    let new = targets(&node)
        .into_iter()
        .find(|target| target.address == settings.targets[0]);
    assert_eq!(new.unwrap().answered_ms_ago, None);
}

#[test]
fn a_subnet_is_lost_from_the_failure_of_its_last_port_until_one_is_good() {
    let mut node = Node::new();
    let lost = |node: &Node| node.state().subnets["office"].lost_ms_ago;
    assert_eq!(lost(&node), None);
    let set = |node: &mut Node, port: usize, carrier| {
        node.links[port].carrier = carrier;
        node.look_and_judge();
    };
    set(&mut node, 0, false);
    node.pass(1000);
    assert_eq!(lost(&node), None);
    set(&mut node, 1, false);
    assert_eq!(lost(&node), Some(Milliseconds(0)));
    node.pass(5000);
    assert_eq!(lost(&node), Some(Milliseconds(5000)));
    assert_eq!(node.state().subnets["lab"].lost_ms_ago, None);
    set(&mut node, 1, true);
    node.pass(29_000);
    assert_eq!(lost(&node), Some(Milliseconds(34_000)), "it is held down");
    node.pass(2000);
    assert_eq!(lost(&node), None);
}

#[test]
fn it_is_told_whether_targets_answer() {
    let mut node = Node::new();
    let hearing = |node: &Node| node.state().subnets["office"].hearing;
    assert_eq!(hearing(&node), Hearing::Answers);
    node.answering = vec![3];
    node.pass(620);
    assert_eq!(hearing(&node), Hearing::InDoubt);
    node.assert_asks_about_office();
    node.tell("1");
    assert_eq!(hearing(&node), Hearing::OnlyElsewhere);
    node.tell("0");
    assert_eq!(hearing(&node), Hearing::Nowhere);
    assert_eq!(node.state().subnets["lab"].hearing, Hearing::Answers);
}
