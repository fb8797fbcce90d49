//! Which interfaces are ports or cells', and which subnets' attributes this node tells.

use super::*;

#[test]
fn without_a_list_the_ports_are_those_with_an_address_in_a_subnet() {
    let now = Instant::now();
    let mut settings = settings();
    settings.ports = None;
    let mut node = Node {
        watch: Watch::new(&settings, now),
        now,
        links: (1..=3).map(|n| link(n, true)).collect(),
        answering: vec![1],
        dead: Vec::new(),
    };
    node.look();
    node.pass(100);
    let names: Vec<&IfName> = node.watch.view().report.keys().collect();
    assert_eq!(names, ["eth1"]);
}

#[test]
fn a_port_that_is_part_of_another_interface_has_failed_and_says_what_to_name() {
    let mut node = Node::new();
    let bond = Link {
        name: "bond0".into(),
        kind: Some("bond".into()),
        ..link(9, true)
    };
    node.links.push(bond);
    node.links[0].master = Some(9);
    node.look_and_judge();
    assert_eq!(
        node.trouble().unwrap(),
        "eth1 is part of bond0: name bond0, 2 VIPs on eth2"
    );
    assert_eq!(node.attribute("berth-ports").unwrap(), "2");
    assert!(
        node.watch
            .probes_due(node.now + TICK * 100)
            .iter()
            .all(|q| q.link != 1)
    );
    // What is part of a VRF is a port like any other.
    node.links[3].kind = Some("vrf".into());
    node.look();
    node.pass(31_000);
    assert_eq!(node.trouble(), None);
}

#[test]
fn an_interface_of_the_administrators_is_no_cells_whatever_its_name() {
    let mut node = Node::new();
    let named = |index: u32, name: &str, mac: Mac| Link {
        name: name.into(),
        mac: Some(mac),
        ..link(index, true)
    };
    let cell = named(7, "b-alpha", crate::plan::vip::cell_mac("alpha"));
    let bridge = named(8, "b-rs2", Mac([2, 0, 0, 0, 0, 8]));
    node.links.extend([cell, bridge]);
    node.look();
    assert_eq!(node.watch.node_view().cells, ["alpha".into()].into());
    assert!(node.watch.concerns(7) && !node.watch.concerns(8));
}

#[test]
fn attributes_of_a_subnet_that_is_not_named_any_more_are_stray() {
    let mut node = Node::new();
    let names: Vec<Attribute> = node
        .watch
        .attributes()
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    assert!(names.iter().all(|name| !node.watch.is_stray(name)));
    let mut settings = settings();
    settings.subnets.retain(|subnet| subnet.name == "office");
    settings.ports.as_mut().unwrap().remove("eth3");
    node.watch.configure(&settings, node.now);
    node.look();
    let stray: Vec<String> = names
        .iter()
        .filter(|name| node.watch.is_stray(name))
        .map(Attribute::name)
        .collect();
    assert_eq!(
        stray,
        ["berth-net-lab", "berth-addr-lab", "berth-heard-lab"]
    );
    assert!(!node.watch.is_stray(&Attribute::Ports) && !node.watch.is_stray(&Attribute::Spare));
}
