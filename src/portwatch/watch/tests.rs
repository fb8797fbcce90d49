//! Tests of the conclusions, on links and replies made up here.

mod picture;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::portwatch::state::{NodeState, RoleState, VipState};
use crate::sys::netlink::Scope;
use crate::types::Mac;

const TARGET: Mac = Mac([2, 0, 0, 0, 9, 9]);
const TICK: Duration = Duration::from_millis(10);

fn settings() -> Settings {
    Settings {
        ports: Some(
            [("eth1", "office"), ("eth2", "office"), ("eth3", "lab")]
                .map(|(port, subnet)| (port.to_owned(), subnet.to_owned()))
                .into(),
        ),
        subnets: [
            ("office", "10.1.0.0/24", "10.1.0.254"),
            ("lab", "10.2.0.0/24", "10.2.0.254"),
        ]
        .map(|(name, net, gateway)| crate::portwatch::settings::Subnet {
            name: name.to_owned(),
            net: net.parse().unwrap(),
            gateway: gateway.parse().ok(),
        })
        .into(),
        targets: Vec::new(),
        interval: Duration::from_millis(200),
        fail_after: 3,
        recover_after: Duration::from_secs(30),
        balance: 20,
        resource: "portwatch".to_owned(),
        node: Some("n1".to_owned()),
    }
}

fn link(index: u32, carrier: bool) -> Link {
    Link {
        index,
        name: format!("eth{}", index % 10),
        mac: Some(Mac([2, 0, 0, 0, 0, (index % 10) as u8])),
        mtu: 1500,
        up: true,
        carrier,
        loopback: false,
        arp: true,
        kind: None,
        master: None,
    }
}

fn attribute(name: &str) -> Attribute {
    Attribute::parse(name).unwrap()
}

/// A node whose time goes on by itself, with a network that replies through some of its ports.
struct Node {
    watch: Watch,
    now: Instant,
    links: Vec<Link>,
    /// Indices of the ports through which targets reply.
    answering: Vec<u32>,
    /// Targets that do not.
    dead: Vec<IpAddr>,
}

impl Node {
    /// All ports work and have been heard.
    fn new() -> Self {
        let now = Instant::now();
        let mut node = Self {
            watch: Watch::new(&settings(), now),
            now,
            links: (1..=3).map(|n| link(n, true)).collect(),
            answering: vec![1, 2, 3],
            dead: Vec::new(),
        };
        node.look();
        node.pass(1000);
        assert_eq!(node.trouble(), None);
        node
    }

    fn look(&mut self) {
        let address = Address {
            link: 1,
            address: "10.1.0.1/24".parse().unwrap(),
            scope: Scope::Universe,
            protocol: 0,
            unusable: false,
        };
        self.watch.look(self.links.clone(), &[address], self.now);
    }

    fn pass(&mut self, milliseconds: u64) {
        let end = self.now + Duration::from_millis(milliseconds);
        while self.now < end {
            self.now += TICK;
            for q in self.watch.probes_due(self.now) {
                let reply = Reply {
                    link: q.link,
                    ip: q.target,
                    from: TARGET,
                    to: q.mac,
                };
                if self.answering.contains(&q.link) && !self.dead.contains(&q.target) {
                    self.watch.on_reply(&reply, self.now);
                }
            }
            self.watch.tick(self.now);
            self.watch.judge(self.now);
        }
    }

    /// With two VIPs on eth2 and one on eth3.
    fn state(&self) -> NodeState {
        let vips = [
            ("10.1.0.50", "eth2"),
            ("10.1.0.51", "eth2"),
            ("10.2.0.50", "eth3"),
        ];
        let vip = |address: &str, port: &str| VipState {
            address: address.parse().unwrap(),
            vserver: "alpha".into(),
            role: RoleState::Home,
            serving: true,
            degraded: false,
            port: Some(port.to_owned()),
            load_bits_per_second: BitRate::NONE,
            claimed_by: None,
        };
        let vips = vips.map(|(address, port)| (format!("ip-{address}"), vip(address, port)));
        let state = NodeState {
            ports: self.watch.port_states(&BTreeMap::new(), self.now),
            subnets: self.watch.subnet_states(self.now),
            vips: vips.into(),
            ..NodeState::default()
        };
        state.with_trouble()
    }

    fn trouble(&self) -> Option<String> {
        self.state().trouble
    }

    fn attribute(&self, name: &str) -> Option<String> {
        let attributes: BTreeMap<Attribute, Option<String>> =
            self.watch.attributes().into_iter().collect();
        attributes[&attribute(name)].clone()
    }

    fn tell(&mut self, others: &str) {
        let values: Values = [("n2".to_owned(), others.to_owned())].into();
        self.watch
            .on_attribute(&attribute("berth-heard-office"), &values, self.now);
        self.watch.judge(self.now);
    }
}

#[test]
fn a_lost_carrier_is_told_at_once_with_where_the_addresses_are() {
    let mut node = Node::new();
    node.links[0].carrier = false;
    node.look();
    node.watch.judge(node.now);
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
        assert_eq!(
            node.watch.queries_due(node.now),
            [attribute("berth-heard-office")]
        );
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
    assert_eq!(
        node.watch.queries_due(node.now),
        [attribute("berth-heard-office")]
    );
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
    node.look();
    node.watch.judge(node.now);
    assert_eq!(node.attribute("berth-ports").unwrap(), "1");
    assert_eq!(node.attribute("berth-net-office").unwrap(), "0");
    // Its coming back says nothing as long as nothing is heard through it.
    node.links[1].carrier = true;
    node.look();
    node.pass(10);
    assert_eq!(node.attribute("berth-net-office").unwrap(), "0");
}

#[test]
fn one_dead_target_or_lost_packet_is_no_reason_for_suspicion() {
    let mut node = Node::new();
    let peers: Values = [("n2".to_owned(), "10.1.0.2".to_owned())].into();
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
fn a_port_that_comes_back_under_another_number_is_used_after_a_while() {
    let mut node = Node::new();
    node.links.remove(1);
    node.look();
    node.watch.judge(node.now);
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

#[test]
fn a_process_that_stood_still_condemns_nobody() {
    let mut node = Node::new();
    node.now += Duration::from_secs(10);
    node.watch.tick(node.now);
    node.watch.judge(node.now);
    assert_eq!(node.trouble(), None);
}

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
    let names: Vec<&String> = node.watch.view().report.keys().collect();
    assert_eq!(names, ["eth1"]);
}

/// Several nodes whose ports to the office are behind the same switches, and what each has told the
/// others of it.
struct Cluster {
    nodes: Vec<Node>,
    /// Milliseconds since it began.
    time: u64,
    /// What each node has told, and when the others know it.
    told: Vec<Vec<(u64, String)>>,
    /// What each has asked: when the reply comes, and what it is.
    replies: Vec<Option<(u64, Values)>>,
    news: u64,
}

const TO_OFFICE: [u32; 2] = [1, 2];
/// How long the cluster takes to reply a question, in milliseconds.
const ANSWER: u64 = 20;

impl Cluster {
    /// Nodes that ask so many milliseconds one after the other; news of one takes so many to the others.
    fn new(phases: &[u64], news: u64) -> Self {
        let nodes = phases.iter().map(|phase| {
            let mut node = Node::new();
            node.pass(*phase);
            node
        });
        Self {
            nodes: nodes.collect(),
            time: 0,
            told: vec![vec![(0, "1".to_owned())]; phases.len()],
            replies: vec![None; phases.len()],
            news,
        }
    }

    fn set_switch(&mut self, node: usize, works: bool) {
        self.nodes[node].answering = vec![3];
        if works {
            self.nodes[node].answering.extend(TO_OFFICE);
        }
    }

    /// Lets time pass; says when each node told the cluster that it can't reach the office.
    fn pass(&mut self, milliseconds: u64) -> Vec<Option<u64>> {
        let end = self.time + milliseconds;
        let mut lost = vec![None; self.nodes.len()];
        while self.time < end {
            self.time += 10;
            for (index, lost) in lost.iter_mut().enumerate() {
                self.step(index);
                if self.nodes[index].attribute("berth-net-office").unwrap() == "0" {
                    lost.get_or_insert(self.time);
                }
            }
        }
        lost
    }

    fn step(&mut self, index: usize) {
        let time = self.time;
        let known = |told: &Vec<(u64, String)>| {
            let word = told.iter().rev().find(|(at, _)| *at <= time);
            word.map(|(_, value)| value.clone())
        };
        let others = self.told.iter().enumerate().filter(|(i, _)| *i != index);
        let others = others.filter_map(|(i, told)| Some((format!("n{i}"), known(told)?)));
        let others: Values = others.collect();
        let node = &mut self.nodes[index];
        node.pass(10);
        let reply = &mut self.replies[index];
        if let Some((_, values)) = reply.take_if(|(at, _)| *at <= time) {
            node.watch
                .on_attribute(&attribute("berth-heard-office"), &values, node.now);
            node.watch.judge(node.now);
        }
        if !node.watch.queries_due(node.now).is_empty() {
            *reply = Some((time + ANSWER, others));
        }
        let value = node.attribute("berth-heard-office").unwrap();
        if self.told[index].last().is_some_and(|last| last.1 != value) {
            self.told[index].push((time + self.news, value));
        }
    }
}

fn some_cluster() -> impl Strategy<Value = (Vec<u64>, u64)> {
    let phase = prop_oneof![Just(0), Just(190), (0..20u64).prop_map(|p| p * 10)];
    // The steps in which time passes here delay them a little more.
    (proptest::collection::vec(phase, 2..=3), 20..=60u64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 40 } else { 400 }))]

    #[test]
    fn a_switch_that_dies_for_all_nodes_condemns_none(
        (phases, news) in some_cluster(),
        lost in 0..20u64,
        length in 0..150u64,
    ) {
        let mut cluster = Cluster::new(&phases, news);
        cluster.pass(lost * 10);
        let nodes = 0..phases.len();
        nodes.clone().for_each(|node| cluster.set_switch(node, false));
        prop_assert!(cluster.pass(length * 10).iter().all(Option::is_none));
        nodes.clone().for_each(|node| cluster.set_switch(node, true));
        prop_assert!(cluster.pass(2_000).iter().all(Option::is_none));
        prop_assert!(cluster.nodes.iter().all(|node| node.trouble().is_none()));
    }

    #[test]
    fn a_dead_switch_of_one_node_is_told_in_time(
        (phases, news) in some_cluster(),
        lost in 0..20u64,
    ) {
        let mut cluster = Cluster::new(&phases, news);
        cluster.pass(lost * 10);
        cluster.set_switch(0, false);
        let begin = cluster.time;
        let told = cluster.pass(2_000);
        let time = told[0].unwrap() - begin;
        prop_assert!((400..=660).contains(&time), "{}", time);
        prop_assert!(told[1..].iter().all(Option::is_none));
    }
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
    node.look();
    node.watch.judge(node.now);
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
fn that_no_target_of_a_subnet_answers_anywhere_is_told() {
    let mut node = Node::new();
    node.answering = vec![3];
    node.pass(620);
    assert_eq!(
        node.watch.queries_due(node.now),
        [attribute("berth-heard-office")]
    );
    node.tell("0");
    node.pass(31_000);
    assert_eq!(
        node.trouble().unwrap(),
        "no target of office answers at any node"
    );
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
    assert_eq!(node.watch.node_view().cells, ["alpha".to_owned()].into());
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
