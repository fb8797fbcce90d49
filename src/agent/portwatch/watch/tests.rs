//! Tests of the conclusions, on links and answers made up here.

use std::time::Duration;

use super::*;
use crate::agent::portwatch::publisher::Value;
use crate::sys::netlink::{Mac, Scope};

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
        .map(|(name, net, gateway)| super::super::settings::Subnet {
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
    }
}

/// A node whose time goes on by itself, with a network that answers through some of its ports.
struct Node {
    watch: Watch,
    now: Instant,
    links: Vec<Link>,
    /// Indices of the ports through which targets answer.
    answering: Vec<u32>,
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
            for q in self.watch.questions(self.now) {
                let answer = Answer {
                    link: q.link,
                    ip: q.target,
                    from: TARGET,
                    to: q.mac,
                };
                if self.answering.contains(&q.link) {
                    self.watch.hear(&answer, self.now);
                }
            }
            self.watch.tick(self.now);
            self.watch.judge(self.now);
        }
    }

    fn trouble(&self) -> Option<String> {
        let placed = [
            ("10.1.0.50", "eth2"),
            ("10.1.0.51", "eth2"),
            ("10.2.0.50", "eth3"),
        ];
        let placed = placed.map(|(vip, port)| (vip.parse().unwrap(), Some(port.to_owned())));
        self.watch.trouble(&placed.into())
    }

    fn attribute(&self, name: &str) -> Option<String> {
        let attributes: BTreeMap<String, Value> = self.watch.attributes().into_iter().collect();
        attributes[name].text.clone()
    }

    fn tell(&mut self, others: &str) {
        let values: Values = [("n2".to_owned(), others.to_owned())].into();
        self.watch.told("berth-heard-office", &values, self.now);
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
        node.pass(700);
        assert_eq!(node.attribute("berth-net-office").unwrap(), "1");
        assert_eq!(node.attribute("berth-ports").unwrap(), "3");
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "0");
        node.pass(400);
        assert_eq!(node.watch.asks(node.now), ["berth-heard-office"]);
        node.tell(others);
        assert_eq!(node.attribute("berth-net-office").unwrap(), net);
        assert_eq!(node.attribute("berth-ports").unwrap(), ports);
        // Whoever was at fault: it is over when they answer again.
        node.answering = vec![1, 2, 3];
        node.pass(31_000);
        assert_eq!(node.trouble(), None);
        assert_eq!(node.attribute("berth-heard-office").unwrap(), "1");
        assert_eq!(node.attribute("berth-ports").unwrap(), "3");
    }
}

#[test]
fn an_answer_that_is_not_for_the_port_it_came_in_by_proves_nothing() {
    let mut node = Node::new();
    node.answering = vec![1, 3];
    for _ in 0..60 {
        node.pass(10);
        // The gateway of office, as somebody on the network of eth2 pretends, for eth1 and for lab.
        for (link, to) in [(2, 1), (2, 3), (3, 2)] {
            let forged = Answer {
                link,
                ip: "10.1.0.254".parse().unwrap(),
                from: TARGET,
                to: Mac([2, 0, 0, 0, 0, to]),
            };
            node.watch.hear(&forged, node.now);
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
    };
    node.look();
    node.pass(100);
    let names: Vec<&String> = node.watch.view().report.keys().collect();
    assert_eq!(names, ["eth1"]);
}
