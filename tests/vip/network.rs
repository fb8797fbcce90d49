//! A node with two ports on one subnet and one on another, clients, and cells, all of namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::address::location::CellLocation;
use berth::address::service::Service;
use berth::cell::network::bar;
use berth::ocf::{Error, State};
use berth::plan::vip::record::VipSpec;
use berth::plan::vip::{cell_link, cell_mac};
use berth::sys::netlink::{LinkChange, Socket, Veth};
use berth::types::{IfName, Mac, VserverName};
use lab::{holds, wait_for};
use tempfile::TempDir;

use crate::namespace::Namespace;

/// How long what must happen may take, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long nothing must happen. Nothing that is sent on these wires is in flight for longer.
pub const SILENCE: Duration = Duration::from_secs(1);

/// Subnet A has ports a0 (with addresses) and a1 (without), and one client; subnet C has port c0 and
/// one client.
pub struct Network {
    pub node: Namespace,
    pub switch: Namespace,
    pub client_a: Namespace,
    pub client_c: Namespace,
    pub runtime: TempDir,
}

/// A cell's namespace, made as the keeper makes it.
pub struct Cell {
    pub vserver: VserverName,
    pub namespace: Namespace,
}

/// One family's addresses in a [`Network`].
pub struct Addresses {
    /// How `ip` is told the family.
    pub option: &'static str,
    /// The length of a host's prefix.
    pub length: u8,
    pub vips: [&'static str; 2],
    pub clients: [&'static str; 2],
    /// The node's, on the clients' subnets.
    pub node: [&'static str; 2],
    pub subnets: [&'static str; 2],
    /// Nobody's.
    pub foreign: &'static str,
}

pub const FAMILIES: [Addresses; 2] = [
    Addresses {
        option: "-4",
        length: 32,
        vips: ["10.1.0.50", "10.2.0.50"],
        clients: ["10.1.0.10", "10.2.0.10"],
        node: ["10.1.0.1", "10.2.0.1"],
        subnets: ["10.1.0.0/24", "10.2.0.0/24"],
        foreign: "10.66.0.7",
    },
    Addresses {
        option: "-6",
        length: 128,
        vips: ["2001:db8:1::50", "2001:db8:2::50"],
        clients: ["2001:db8:1::10", "2001:db8:2::10"],
        node: ["2001:db8:1::1", "2001:db8:2::1"],
        subnets: ["2001:db8:1::/64", "2001:db8:2::/64"],
        foreign: "fd00:bad::7",
    },
];

impl Network {
    pub fn new() -> Self {
        let net = Self {
            node: Namespace::new(),
            switch: Namespace::new(),
            client_a: Namespace::new(),
            client_c: Namespace::new(),
            runtime: tempfile::tempdir().unwrap(),
        };
        net.switch
            .ip("link add br0 type bridge forward_delay 0 mcast_snooping 0");
        net.switch.ip("link set br0 up");
        cable(&net.switch, "p0", &net.node, "a0");
        cable(&net.switch, "p1", &net.node, "a1");
        cable(&net.switch, "p2", &net.client_a, "eth0");
        cable(&net.client_c, "eth0", &net.node, "c0");
        for port in ["p0", "p1", "p2"] {
            net.switch.ip(&format!("link set {port} master br0"));
        }
        address(&net.node, "a0", "10.1.0.1/24", "2001:db8:1::1/64");
        address(&net.node, "c0", "10.2.0.1/24", "2001:db8:2::1/64");
        address(&net.client_a, "eth0", "10.1.0.10/24", "2001:db8:1::10/64");
        address(&net.client_c, "eth0", "10.2.0.10/24", "2001:db8:2::10/64");
        net.wait_for_link_local_addresses();
        net
    }

    /// Waits until IPv6 works on every link. Whoever forwards to a neighbour asks for it from its link-local
    /// address, which a link gets only some time after it is up, and may use a second later.
    fn wait_for_link_local_addresses(&self) {
        let (node, a, c) = (&self.node, &self.client_a, &self.client_c);
        let links = [
            (node, "a0"),
            (node, "a1"),
            (node, "c0"),
            (a, "eth0"),
            (c, "eth0"),
        ];
        for (namespace, link) in links {
            let usable = format!("ip -6 addr show dev {link} scope link -tentative");
            wait_for(
                format_args!("a link-local address on {link}"),
                PATIENCE,
                || {
                    let seen = namespace.sh(&usable);
                    holds(seen.contains("fe80"), seen)
                },
            )
            .unwrap();
        }
    }

    pub fn cell(&self, vserver: &str) -> Cell {
        let vserver: VserverName = vserver.parse().unwrap();
        let namespace = Namespace::new();
        let name = cell_link(&vserver);
        let mut host = Socket::in_netns(&self.node).unwrap();
        let veth = Veth {
            name: &name,
            peer: "eth0",
            peer_namespace: Some(namespace.as_fd()),
            mac: cell_mac(&vserver),
            mtu: None,
        };
        let _ = host.create_veth(&veth).unwrap();
        bar(&mut host, &vserver).unwrap();
        let change = LinkChange {
            up: Some(true),
            arp: Some(false),
            generated_address: Some(false),
            ..LinkChange::default()
        };
        host.change_link(&name, &change).unwrap();
        let mut inner = Socket::in_netns(&namespace).unwrap();
        inner.change_link("eth0", &change).unwrap();
        namespace.ip("route add default via 169.254.1.1 dev eth0 onlink rto_min 20ms");
        namespace.ip("-6 route add default via fe80::1 dev eth0");
        Cell { vserver, namespace }
    }

    /// Runs `work` with the service of the resource for `vip`, on the node.
    pub fn service<T: Send>(
        &self,
        vip: &str,
        work: impl FnOnce(Service<'_>) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let runtime: &Path = self.runtime.path();
        self.node
            .inside(|| work(Service::new(&format!("vip {vip}"), deadline).in_directory(runtime)))
    }

    pub fn start(&self, cell: &Cell, spec: &VipSpec) -> Result<State, Error> {
        self.service(&spec.vip.to_string(), |s| {
            s.start(spec, &CellLocation::Here(cell.namespace.as_fd()))
        })
        .map(|started| started.state)
    }

    pub fn monitor(&self, cell: &Cell, spec: &VipSpec) -> State {
        let cell = Some(cell.namespace.as_fd());
        self.service(&spec.vip.to_string(), |s| s.monitor(spec, cell, &|_| ()))
            .unwrap()
    }

    pub fn stop(&self, cell: &Cell, spec: &VipSpec) -> State {
        let namespace = Some(cell.namespace.as_fd());
        self.service(&spec.vip.to_string(), |s| {
            s.stop(&cell.vserver, spec.vip, namespace)
        })
        .unwrap()
    }

    /// Everything that a VIP may change on the node, as other programs print it.
    pub fn dump(&self) -> String {
        let node = &self.node;
        // Multicast routes of links are the kernel's alone; it makes them when IPv6 gets round to it.
        let mut all = String::new();
        for line in [
            "ip rule; ip -6 rule",
            "ip -4 route show table all; ip -6 route show table all | grep -v -e expires -e '^multicast ff00::/8'",
            "ip neigh show proxy; ip -6 neigh show proxy",
            "ip -o addr | sed 's/valid_lft.*//'",
            "nft list ruleset",
            "cd /proc/sys/net; grep -r . ipv4/conf ipv6/conf ipv4/neigh ipv6/neigh ipv4/ip_forward 2>/dev/null | grep -v -e stable_secret -e use_tempaddr | sort",
        ] {
            all += &format!("# {line}\n{}", node.sh(line));
        }
        all
    }
}

pub fn port(name: &str) -> IfName {
    name.parse().unwrap()
}

impl Cell {
    pub fn spec(&self, vip: &str) -> VipSpec {
        VipSpec {
            vserver: self.vserver.clone(),
            vip: vip.parse().unwrap(),
            subnet: None,
            gateway: None,
            ports: None,
            routed: false,
            reroute: true,
        }
    }

    /// The same on both ports of subnet A, the one without an address first.
    pub fn wide_spec(&self, vip: &str) -> VipSpec {
        let v4 = !vip.contains(':');
        VipSpec {
            subnet: Some(
                if v4 { "10.1.0.0/24" } else { "2001:db8:1::/64" }
                    .parse()
                    .unwrap(),
            ),
            ports: Some(vec![port("a1"), port("a0"), port("nonesuch")]),
            ..self.spec(vip)
        }
    }
}

fn cable(one: &Namespace, one_name: &str, other: &Namespace, other_name: &str) {
    let mut socket = Socket::in_netns(one).unwrap();
    // `create_veth` gives both ends one address, which a cable's may not have.
    let veth = Veth {
        name: one_name,
        peer: other_name,
        peer_namespace: Some(other.as_fd()),
        mac: Mac([2, 0xca, 0, 0, one_name.len() as u8, one_name.as_bytes()[1]]),
        mtu: None,
    };
    let _ = socket.create_veth(&veth).unwrap();
    let sum = other_name.bytes().fold(0, u8::wrapping_add);
    let end = format!("{sum:02x}:{:02x}", one_name.as_bytes()[1]);
    other.ip(&format!("link set {other_name} address 02:cb:00:00:{end}"));
    one.ip(&format!("link set {one_name} up"));
    other.ip(&format!("link set {other_name} up"));
}

fn address(namespace: &Namespace, link: &str, v4: &str, v6: &str) {
    namespace.ip(&format!("addr add {v4} dev {link}"));
    namespace.ip(&format!("addr add {v6} dev {link} nodad"));
}

/// The lines that only one of two texts has: the first's, the second's.
pub fn differences(seen: &str, wanted: &str) -> (Vec<String>, Vec<String>) {
    let only = |a: &str, b: &str| {
        let b: Vec<&str> = b.lines().collect();
        let only = a.lines().filter(|l| !b.contains(l));
        only.map(str::to_owned).collect()
    };
    (only(seen, wanted), only(wanted, seen))
}

/// A server in `server` that says its name once to each of `calls` callers.
pub fn serve(server: &Namespace, at: &str, port: u16, name: &str, calls: usize) {
    let at = SocketAddr::new(at.parse().unwrap(), port);
    let listener = server.inside(|| TcpListener::bind(at).unwrap());
    let name = name.to_owned();
    std::thread::spawn(move || {
        for _ in 0..calls {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let _ = stream.write_all(name.as_bytes());
        }
    });
}

/// What a server says to a client that can reach it.
pub fn call(client: &Namespace, at: &str, port: u16) -> Option<String> {
    call_within(PATIENCE, client, at, port)
}

/// Whether a client can't reach a server.
pub fn is_shut(client: &Namespace, at: &str, port: u16) -> bool {
    call_within(SILENCE, client, at, port).is_none()
}

fn call_within(limit: Duration, client: &Namespace, at: &str, port: u16) -> Option<String> {
    let at = SocketAddr::new(at.parse::<IpAddr>().unwrap(), port);
    client.inside(|| {
        let mut stream = TcpStream::connect_timeout(&at, limit).ok()?;
        let mut text = String::new();
        stream.set_read_timeout(Some(limit)).ok()?;
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

/// Whether `at` answers a ping.
pub fn pings(client: &Namespace, at: &str) -> bool {
    ping_within(PATIENCE, client, at)
}

/// Whether `at` answers none of a few pings.
pub fn is_silent(client: &Namespace, at: &str) -> bool {
    !ping_within(SILENCE, client, at)
}

fn ping_within(limit: Duration, client: &Namespace, at: &str) -> bool {
    let limit = limit.as_secs();
    client
        .run(&format!(
            "ping -n -c 1 -i 0.2 -w {limit} {at} | grep -q 'bytes from'"
        ))
        .status
        .success()
}
