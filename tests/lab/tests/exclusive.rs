//! What is one virtual server's is nobody else's: neither the other one's on the same node, nor the
//! node's, nor a way through the node.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use common::{inside, loop_number, run};
use lab::nfs4::Client;
use lab::{Lab, scene, stage};

/// How long a connection may take that must come about, on a machine with other things to do.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// How long one must not come about.
const SILENCE: Duration = Duration::from_secs(1);

lab::scenes! {
    Stage:
    the_cell_shows_nothing_of_another_one,
    the_node_does_not_show_what_is_in_the_cells,
    the_same_path_and_share_are_two,
    the_cell_reaches_no_port_of_the_node,
    the_node_is_no_router,
}

/// Two virtual servers on one node.
struct Stage {
    lab: Lab,
    node: String,
}

impl stage::Stage for Stage {
    fn build() -> Self {
        let lab = stage::up("exclusive", 3).unwrap();
        let servers = [&*common::alpha(), &common::beta_with_share()];
        let node = scene::serve(&lab, &servers).unwrap();
        for server in ["alpha", "beta"] {
            assert_eq!(scene::node_of(&lab, &node, server).unwrap(), node);
        }
        Self { lab, node }
    }

    fn clear(self) {
        self.lab.down().unwrap();
    }
}

fn the_cell_shows_nothing_of_another_one(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let shows = |script: &str| inside(lab, node, "alpha", script).1;
    let addresses = shows("ip -oneline address");
    for (address, own) in [
        ("10.1.0.50", true),
        ("10.2.0.50", true),
        ("fd00:1::50", true),
        ("10.1.0.60", false),
        ("10.2.0.60", false),
        ("fd00:2::60", false),
        ("10.1.0.1", false),
    ] {
        let seen = addresses.contains(&format!(" {address}/"));
        assert_eq!(seen, own, "{address}: {addresses}");
    }
    let mounts = shows("cat /proc/self/mountinfo");
    for (disk, own) in [("d1", true), ("d2", true), ("d3", false)] {
        let device = format!(" /dev/loop{} ", loop_number(lab, node, disk));
        assert_eq!(mounts.contains(&device), own, "{device}: {mounts}");
    }
    let processes = shows("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done");
    let count = |text: &str| processes.lines().filter(|l| l.contains(text)).count();
    assert_eq!(count("ganesha.nfsd "), 1, "{processes}");
    assert_eq!(count("beta") + count("pacemaker"), 0, "{processes}");
    let on_node = run(lab, node, "ps -e -o args=");
    assert_eq!(on_node.matches("ganesha.nfsd ").count(), 2, "{on_node}");
    assert_eq!(shows("find / -xdev -type b; find /dev -type b"), "");
    no_device_can_be_made(lab, node);
}

/// The servers may make none, and one made by who comes from outside is good for nothing where they
/// could find it.
fn no_device_can_be_made(lab: &Lab, node: &str) {
    let script = "for p in /proc/[0-9]*; do grep -qE '^Name:.*(ganesha|smbd)' $p/status \
                  && grep -E '^(CapPrm|CapBnd|NoNewPrivs):' $p/status; done";
    let rights = inside(lab, node, "alpha", script).1;
    let values = |key: &str| -> Vec<u64> {
        let of = |line: &str| line.strip_prefix(key).map(|v| v.trim().to_owned());
        let found = rights.lines().filter_map(of);
        found
            .map(|v| u64::from_str_radix(&v, 16).unwrap())
            .collect()
    };
    // Numbers as in capabilities(7).
    let forbidden = [("NET_ADMIN", 12), ("SYS_RAWIO", 17), ("SYS_PTRACE", 19)];
    let forbidden = forbidden.iter().chain(&[("SYS_ADMIN", 21), ("MKNOD", 27)]);
    let sets = [values("CapPrm:"), values("CapBnd:")].concat();
    assert!(
        sets.len() >= 4 && sets.iter().all(|set| *set != 0),
        "{rights}"
    );
    for (name, bit) in forbidden {
        assert!(
            sets.iter().all(|set| (set >> bit) & 1 == 0),
            "{name}: {rights}"
        );
    }
    assert!(values("NoNewPrivs:").iter().all(|v| *v == 1), "{rights}");

    let number = loop_number(lab, node, "d3");
    let make = |directory: &str| {
        let file = format!("{directory}/berth-test");
        format!(
            "mknod {file} b 7 {number} && head -c 1 {file} >/dev/null; \
             r=$?; rm -f {file}; exit $r"
        )
    };
    run(lab, node, &make("/dev"));
    for directory in ["/tmp", "/run", "/var", "/home", "/data"] {
        let (good, _) = inside(lab, node, "alpha", &make(directory));
        assert!(!good, "a device made in {directory} can be read");
    }
}

fn the_node_does_not_show_what_is_in_the_cells(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let table = run(lab, node, "cat /proc/self/mountinfo");
    assert!(table.contains(" / / "), "{table}");
    for disk in ["d1", "d2", "d3"] {
        let device = format!("/dev/loop{} ", loop_number(lab, node, disk));
        assert!(!table.contains(&device), "{device}: {table}");
    }
    let addresses = run(lab, node, "ip -oneline address");
    assert!(addresses.contains(" 10.1.0.1/"), "{addresses}");
    for vip in ["10.1.0.50", "10.1.0.60", "fd00:1::50"] {
        assert!(!addresses.contains(&format!(" {vip}/")), "{addresses}");
    }
}

/// Both export /data and share "data".
fn the_same_path_and_share_are_two(stage: &Stage) {
    let lab = &stage.lab;
    let put = |vip: &str, name: &str| {
        let line = format!("echo x | smbclient -N //{vip}/data -c 'put /dev/stdin {name}'");
        run(lab, "c1", &line);
    };
    put("10.1.0.50", "of-alpha");
    put("10.1.0.60", "of-beta");
    let list = |vip: &str| {
        let server: IpAddr = vip.parse().unwrap();
        let ask = || Client::new(server, "list").list("/data");
        lab.on_network_of("c1", ask)
            .unwrap()
            .map_err(|e| e.to_string())
    };
    for (vip, own, other) in [
        ("10.1.0.50", "of-alpha", "of-beta"),
        ("10.1.0.60", "of-beta", "of-alpha"),
    ] {
        let has = |names: &[String], name: &str| names.iter().any(|n| n == name);
        let names = list(vip).unwrap();
        assert!(has(&names, own) && !has(&names, other), "{vip}: {names:?}");
        let line = format!("smbclient -N //{vip}/data -c ls");
        let listing = run(lab, "c1", &line);
        assert!(
            listing.contains(own) && !listing.contains(other),
            "{vip}: {listing}"
        );
    }
}

fn the_cell_reaches_no_port_of_the_node(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let listener = lab.on_network_of(node, || TcpListener::bind("[::]:7001"));
    let _listener = listener.unwrap().unwrap();
    let outside = lab.on_network_of("c1", || TcpListener::bind("[::]:7001"));
    let _outside = outside.unwrap().unwrap();
    let own = ["10.0.0.1", "10.1.0.1", "10.2.0.1", "fd00:1::1", "fd00:2::1"];
    for address in own {
        assert!(connects(lab, node, address, 7001), "{address} on the node");
    }
    let reached = |addresses: &str, port: u16, seconds: u8| {
        let script = format!(
            "for a in {addresses}; do \
             timeout {seconds} bash -c \"exec 3<>/dev/tcp/$a/{port}\" 2>/dev/null && echo $a & done; wait"
        );
        inside(lab, node, "alpha", &script).1
    };
    // The cell's gateways too, which are the node.
    let of_node = own.join(" ") + " 169.254.1.1 fe80::1%eth0 127.77.0.1";
    assert_eq!(reached(&of_node, 7001, 1), "");
    // A client and the other virtual server's address are within the same means' reach.
    assert_eq!(reached("10.1.0.101", 7001, 20), "10.1.0.101\n");
    assert_eq!(reached("fd00:1::101", 7001, 20), "fd00:1::101\n");
    assert_eq!(reached("10.1.0.60", 445, 20), "10.1.0.60\n");
}

/// c1 sends what is for the other subnet by way of the node.
fn the_node_is_no_router(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let listener = lab.on_network_of("c2", || TcpListener::bind("[::]:7002"));
    let _listener = listener.unwrap().unwrap();
    let others = ["10.2.0.101", "fd00:2::101"];
    let reach = |address: &str| connects_within(SILENCE, lab, "c1", address, 7002);
    for address in others {
        assert!(reach(address), "{address} by way of the lab's router");
    }
    let by_node = |verb: &str| {
        for route in [
            "10.2.0.101 via 10.1.0.1",
            "10.2.0.50 via 10.1.0.1",
            "fd00:2::101 via fd00:1::1",
            "fd00:2::60 via fd00:1::1",
        ] {
            run(lab, "c1", &format!("ip route {verb} {route}"));
        }
    };
    by_node("add");
    for address in others {
        assert!(!reach(address), "{address} by way of {node}");
    }
    // To the addresses of the virtual servers the node is the way.
    for vip in ["10.2.0.50", "fd00:2::60"] {
        assert!(connects(lab, "c1", vip, 2049), "{vip} by way of {node}");
    }
    // Nor without its filter, which somebody takes away as fast as it is made again.
    let take = "until [ -e /run/enough ]; do nft delete table inet berth 2>/dev/null; done; rm /run/enough";
    thread::scope(|scope| {
        scope.spawn(|| run(lab, node, take));
        for address in others {
            assert!(!reach(address), "{address} by way of {node}, unfiltered");
        }
        for vip in ["10.2.0.50", "fd00:2::60"] {
            assert!(connects(lab, "c1", vip, 2049), "{vip}, unfiltered");
        }
        run(lab, node, "touch /run/enough");
    });
    by_node("delete");
}

/// Whether a connection from a machine comes about.
fn connects(lab: &Lab, machine: &str, address: &str, port: u16) -> bool {
    connects_within(CONNECT_LIMIT, lab, machine, address, port)
}

fn connects_within(limit: Duration, lab: &Lab, machine: &str, address: &str, port: u16) -> bool {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    // As a client's kernel does it: exports are for no other ports.
    let connect = || lab::nfs4::connect(address, limit);
    lab.on_network_of(machine, connect).unwrap().is_ok()
}
