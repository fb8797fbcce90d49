//! Attacks by a cell on the network of its node: it has root's power in its own network, and the node's filter for
//! addresses is not there, be it because the cell has none or because somebody has flushed it.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use berth::cell::client;
use berth::types::VserverName;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, sendto,
    socket,
};

use crate::node::{LIMIT, Node, eventually, in_network, sh, signal, try_sh};

/// What one family is attacked with.
struct Target {
    option: &'static str,
    length: u8,
    /// An address of the node.
    node: &'static str,
    /// The cell's, once it has one.
    vip: &'static str,
    /// Nobody's.
    forged: &'static str,
    /// Another cell's, of which the node knows nothing.
    private: &'static str,
}

const TARGETS: [Target; 2] = [
    Target {
        option: "-4",
        length: 32,
        node: "192.0.2.1",
        vip: "192.0.2.50",
        forged: "10.66.0.7",
        private: "192.0.2.77",
    },
    Target {
        option: "-6",
        length: 128,
        node: "2001:db8::1",
        vip: "2001:db8::50",
        forged: "fd00:bad::7",
        private: "2001:db8::77",
    },
];

/// How long is waited for what should not arrive; on these wires nothing is in flight for as long.
const PATIENCE: Duration = Duration::from_millis(400);

/// Runs `work` in the cell's network.
fn inside<T: Send>(vserver: &VserverName, work: impl FnOnce() -> T + Send) -> T {
    let cell = client::find(vserver).expect("an answer").expect("a cell");
    let network = File::open(format!("/proc/{}/ns/net", cell.init_pid)).expect("its network");
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&network, CloneFlags::CLONE_NEWNET).expect("to enter it");
            work()
        });
        inside
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A socket of the calling thread's network that sends from `from`, whosever address that is.
fn forging(from: IpAddr, kind: SockType, protocol: SockProtocol) -> OwnedFd {
    let fd = socket(family(from), kind, SockFlag::SOCK_CLOEXEC, protocol).expect("a socket");
    // Settings of the cell's own network.
    for family in ["ipv4", "ipv6"] {
        let setting = format!("/proc/sys/net/{family}/ip_nonlocal_bind");
        std::fs::write(setting, "1").expect("a setting of the calling thread's network");
    }
    let local = SockaddrStorage::from(SocketAddr::new(from, 0));
    bind(fd.as_raw_fd(), &local).expect("any address");
    fd
}

/// Whether what the cell sends from `from` arrives at the node's UDP port.
fn arrives(vserver: &VserverName, from: &str, at: &str) -> bool {
    let listener = UdpSocket::bind((ip(at), 0)).expect("a port");
    listener.set_read_timeout(Some(PATIENCE)).expect("a limit");
    send(vserver, from, listener.local_addr().expect("its address"));
    listener.recv_from(&mut [0; 8]).is_ok()
}

fn send(vserver: &VserverName, from: &str, to: SocketAddr) {
    inside(vserver, || {
        let fd = forging(ip(from), SockType::Datagram, SockProtocol::Udp);
        for _ in 0..3 {
            let to = SockaddrStorage::from(to);
            // The kernel may know that there is no way.
            let _ = sendto(fd.as_raw_fd(), b"x", &to, MsgFlags::empty());
        }
    });
}

/// Whether the cell gets through to the node's TCP port.
fn connects(vserver: &VserverName, at: &str) -> bool {
    let listener = TcpListener::bind((ip(at), 0)).expect("a port");
    let to = listener.local_addr().expect("its address");
    inside(vserver, || {
        TcpStream::connect_timeout(&to, PATIENCE).is_ok()
    })
}

/// The echo replies that the node has had.
fn replies(at: IpAddr) -> u64 {
    let (file, name) = match at {
        IpAddr::V4(_) => ("/proc/thread-self/net/snmp", "IcmpMsg:"),
        IpAddr::V6(_) => ("/proc/thread-self/net/snmp6", "Icmp6InEchoReplies"),
    };
    let text = std::fs::read_to_string(file).expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let first = lines.next().unwrap_or_default();
    let number = match at {
        IpAddr::V4(_) => {
            let names = first.split_whitespace();
            let mut both = names.zip(lines.next().unwrap_or_default().split_whitespace());
            both.find(|(name, _)| *name == "InType0").map(|(_, n)| n)
        }
        IpAddr::V6(_) => first.split_whitespace().nth(1),
    };
    number.map_or(0, |n| n.parse().expect("a number"))
}

/// Sends the node an answer to an echo request that it has not sent; says whether it was taken.
fn answers(vserver: &VserverName, from: &str, at: &str) -> bool {
    let (from, at) = (ip(from), ip(at));
    let before = replies(at);
    let (kind, protocol) = match at {
        IpAddr::V4(_) => (0, SockProtocol::Icmp),
        IpAddr::V6(_) => (129, SockProtocol::IcmpV6),
    };
    let mut message = vec![kind, 0, 0, 0, 0, 1, 0, 1];
    if at.is_ipv4() {
        // The ones' complement of the sum of all words (RFC 792); of IPv6 the kernel fills it in.
        message[2..4].copy_from_slice(&(!2u16).to_be_bytes());
    }
    inside(vserver, || {
        let fd = forging(from, SockType::Raw, protocol);
        let to = SockaddrStorage::from(SocketAddr::new(at, 0));
        let _ = sendto(fd.as_raw_fd(), &message, &to, MsgFlags::empty());
    });
    let until = Instant::now() + PATIENCE;
    while replies(at) == before {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// All that a cell may not do, with an address of its own or without.
fn assert_closed(vserver: &VserverName, when: &str) {
    for target in &TARGETS {
        let at = target.node;
        for from in [target.forged, target.vip, at] {
            assert!(!arrives(vserver, from, at), "{when}: UDP from {from}");
        }
        assert!(!connects(vserver, at), "{when}: TCP to {at}");
        let forged = answers(vserver, target.forged, at);
        assert!(!forged, "{when}: an answer from {}", target.forged);
        let (reached, _) = in_network(vserver, &format!("ping -n -c 1 -W 0.4 {at}"));
        assert!(!reached, "{when}: {at} is reached");
    }
}

/// Gives the node its addresses, and the cell what a VIP has of address and route.
fn addresses() {
    for target in &TARGETS {
        let (option, length) = (target.option, target.length);
        sh(&format!(
            "ip {option} addr add {}/{length} dev lo",
            target.node
        ));
    }
}

fn give_vips(vserver: &VserverName) {
    for target in &TARGETS {
        let (option, vip, length) = (target.option, target.vip, target.length);
        let (good, text) = in_network(
            vserver,
            &format!("ip {option} addr add {vip}/{length} dev eth0"),
        );
        assert!(good, "{text}");
        sh(&format!("ip {option} route add {vip} dev b-{vserver}"));
    }
}

#[test]
#[ignore = "needs root"]
fn a_cell_reaches_nothing_of_its_node_without_the_node_s_tables() {
    let node = Node::new("net");
    let (alpha, beta) = (node.vserver('a'), node.vserver('b'));
    addresses();
    let disks = [node.disk("ext4"), node.disk("ext4")];
    let calls = [
        node.fs(&alpha, &disks[0], "/data"),
        node.fs(&beta, &disks[1], "/data"),
    ];
    for call in &calls {
        call.run("start").expect(0);
    }
    assert_closed(&alpha, "before the first VIP");
    give_vips(&alpha);
    assert_closed(&alpha, "with a VIP, without the node's tables");
    for flush in ["nft flush ruleset", "nft flush ruleset inet"] {
        sh(flush);
        assert_closed(&alpha, flush);
    }
    for target in &TARGETS {
        // What the node asks it is answered.
        let to = inside(&alpha, || {
            let listener = TcpListener::bind((ip(target.vip), 0)).expect("a port");
            let to = listener.local_addr().expect("its address");
            std::thread::spawn(move || listener.accept());
            to
        });
        TcpStream::connect_timeout(&to, LIMIT).expect("the cell's port");
        sh(&format!("ping -n -c 1 -W 5 {}", target.vip));
        assert!(answers(&alpha, target.vip, target.node), "its own answer");
        // Another cell's private addresses lead nowhere.
        let private = format!(
            "ip {} addr add {}/{} dev eth0",
            target.option, target.private, target.length
        );
        assert!(in_network(&beta, &private).0);
        let listener = inside(&beta, || UdpSocket::bind((ip(target.private), 0)));
        let listener = listener.expect("a port");
        listener.set_read_timeout(Some(PATIENCE)).expect("a limit");
        let to = listener.local_addr().expect("its address");
        for from in [target.vip, target.forged] {
            send(&alpha, from, to);
        }
        assert!(listener.recv_from(&mut [0; 8]).is_err());
    }
    for call in &calls {
        call.run("stop").expect(0);
    }
    node.assert_gone(&alpha, &[&disks[0]]);
    // Nothing of them stays.
    eventually("the tables are gone", || sh("nft list tables").is_empty());
    let rules = sh("ip rule; ip -6 rule");
    assert!(!rules.contains("b-"), "{rules}");
}

#[test]
#[ignore = "needs root"]
fn nobody_but_its_keeper_changes_a_cell_s_filter() {
    let node = Node::new("own");
    let vserver = node.vserver('a');
    addresses();
    let disk = node.disk("ext4");
    let fs = node.fs(&vserver, &disk, "/data");
    fs.run("start").expect(0);
    let table = format!("inet berth-cell-{vserver}");
    let listed = sh(&format!("nft list table {table}"));
    assert!(listed.contains("flags owner"), "{listed}");
    for line in [
        format!("nft delete table {table}"),
        format!("nft flush table {table}"),
        format!("nft flush chain {table} input"),
        format!("nft insert rule {table} input accept"),
        format!("echo 'table {table} {{ chain input {{ accept; }}; }}' | nft -f -"),
    ] {
        let (done, text) = try_sh(&line);
        assert!(!done, "{line}: {text}");
        assert_eq!(sh(&format!("nft list table {table}")), listed, "{line}");
    }
    // It ends with the keeper, and the next one has its own.
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    eventually("its cell has ended", || node.processes(&vserver).is_empty());
    eventually("the table is gone", || {
        !try_sh(&format!("nft list table {table}")).0
    });
    fs.run("start").expect(0);
    sh(&format!("nft list table {table}"));
    assert_closed(&vserver, "in its second life");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&disk]);
}
