//! Tests of the conclusions, on links and replies made up here.

mod cluster;
mod doubt;
mod interface;
mod picture;
mod port;

use std::time::Duration;

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
                .map(|(port, subnet)| (port.into(), subnet.into()))
                .into(),
        ),
        subnets: [
            ("office", "10.1.0.0/24", "10.1.0.254"),
            ("lab", "10.2.0.0/24", "10.2.0.254"),
        ]
        .map(|(name, net, gateway)| crate::portwatch::settings::Subnet {
            name: name.into(),
            net: net.parse().unwrap(),
            gateway: gateway.parse().ok(),
        })
        .into(),
        targets: Vec::new(),
        interval: Duration::from_millis(200),
        fail_after: 3,
        recover_after: Duration::from_secs(30),
        balance: 20,
        resource: "portwatch".into(),
        node: Some("n1".into()),
    }
}

fn link(index: u32, carrier: bool) -> Link {
    Link {
        index,
        name: format!("eth{}", index % 10).as_str().into(),
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

    fn look_and_judge(&mut self) {
        self.look();
        self.watch.judge(self.now);
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
            port: Some(port.into()),
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

    /// Asserts that the other nodes are to be asked now for what they hear of the office.
    fn assert_asks_about_office(&mut self) {
        let asked = self.watch.queries_due(self.now);
        assert_eq!(asked, [attribute("berth-heard-office")]);
    }

    fn tell(&mut self, others: &str) {
        let values: Values = [("n2".into(), others.to_owned())].into();
        self.watch
            .on_attribute(&attribute("berth-heard-office"), &values, self.now);
        self.watch.judge(self.now);
    }
}
