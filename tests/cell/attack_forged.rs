//! What who forges addresses can do to those that have them, what comes in by the admin's own configuration, and what
//! holds where the kernel can't count connections.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth::cell::probe::{self, Protocol};
use lab::nfs4::Peer;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::attack_clients::{
    Clients, NFS, SMB, Scene, VIPS, assert_refused, call, hold, negotiates,
};
use crate::node::{eventually, sh};

const SYN: u8 = 2;
const ACK: u8 = 16;

/// The internet checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b)))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded + (folded >> 16)) as u16)
}

/// A whole packet of TCP without data.
fn packet(from: IpAddr, to: IpAddr, ports: (u16, u16), sequence: u32, flags: u8) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(ports.0.to_be_bytes());
    tcp.extend(ports.1.to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    // A guess of what is to be acknowledged.
    let guess = if flags & ACK == 0 { 0 } else { 0x1234_5678_u32 };
    tcp.extend(guess.to_be_bytes());
    tcp.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let addresses = [octets(from), octets(to)].concat();
    let sum = checksum(&[&addresses[..], &[0, 6, 0, 20], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let header: &[u8] = match from {
        // The kernel fills in the identification and the checksum.
        IpAddr::V4(_) => &[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0],
        IpAddr::V6(_) => &[0x60, 0, 0, 0, 0, 20, 6, 64],
    };
    [header, &addresses, &tcp].concat()
}

/// Somebody who sends first packets of connections in the names of others, and guesses what would end the handshakes.
struct Forger {
    ends: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Forger {
    /// So many a second to each protocol; maybe with guesses.
    fn start(a_second: u32, guesses: bool, from: impl Fn(u32) -> String + Send + 'static) -> Self {
        let (ends, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let (its_ends, its_sent) = (ends.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let raw = |family| {
                let raw = SockProtocol::Raw;
                socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, raw).expect("a raw socket")
            };
            let sockets = [raw(AddressFamily::Inet), raw(AddressFamily::Inet6)];
            for n in 0.. {
                if its_ends.load(Ordering::Relaxed) {
                    return;
                }
                let from: IpAddr = from(n).parse().expect("an address");
                let vip = VIPS[usize::from(from.is_ipv6())];
                let to: IpAddr = vip.parse().expect("an address");
                // The server resets what is guessed wrong, and knows that connection no more: silent ones last longer.
                let packets = [((n << 8), SYN), ((n << 8) + 1, ACK)];
                let count = if guesses { 2 } else { 1 };
                for port in [SMB, NFS] {
                    // From ports that no connection of a test has.
                    let ports = (600 + (n % 90) as u16, port);
                    for (sequence, flags) in packets.into_iter().take(count) {
                        let bytes = packet(from, to, ports, sequence, flags);
                        let at = SockaddrStorage::from(SocketAddr::new(to, 0));
                        let by = sockets[usize::from(from.is_ipv6())].as_raw_fd();
                        sendto(by, &bytes, &at, MsgFlags::empty()).expect("a packet sent");
                    }
                }
                its_sent.store(n, Ordering::Relaxed);
                let due = begun + Duration::from_secs(1) * n / a_second;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { ends, sent, thread }
    }

    fn has_sent(&self, count: u32) -> bool {
        self.sent.load(Ordering::Relaxed) >= count
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("the forger");
    }
}

/// Ten connections of it to each protocol, one after the other, are let in and answered.
#[track_caller]
fn assert_served(client: &str) {
    for n in 0..10 {
        let smb = call(client, 0, SMB);
        assert!(negotiates(&smb.expect("an SMB connection")), "{n}");
        let nfs = call(client, 0, NFS).expect("an NFS connection");
        let mut peer = Peer::over(nfs, 0);
        assert!(peer.access("/data").expect("an answer").is_ok(), "{n}");
    }
}

#[test]
#[ignore = "needs root"]
fn forged_first_packets_keep_out_nobody() {
    let exported = [
        ("smb_share", "data"),
        ("nfs_clients", "*"),
        ("nfs_ports", "any"),
    ];
    let scene = Scene::new("forged", "nfs smb", &exported, &[]);
    // Hosts that answer nothing.
    sh("ip route add blackhole 10.10.0.0/16; ip -6 route add blackhole fd10::/32");
    let forgers: [(bool, Clients); 4] = [
        (true, |_| "10.9.0.2".to_owned()),
        (true, |_| "fd09:0:0:1::1".to_owned()),
        (false, |n| format!("10.10.{}.{}", n / 250 % 250, n % 250)),
        (false, |n| format!("fd10:0:{:x}::1", n % 60_000)),
    ];
    for (guesses, from) in forgers {
        let forger = Forger::start(300, guesses, from);
        eventually("there are many", || forger.has_sent(2000));
        for victim in ["10.9.0.2", "fd09:0:0:1::1"] {
            assert_served(victim);
        }
        forger.end();
    }
    scene.assert_well();
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn a_client_that_comes_and_goes_is_slowed_down_and_one_that_answers_late_does_not_get_past_the_counts()
 {
    let scene = Scene::new("rate", "nfs smb", &[("smb_share", "data")], &[]);
    for client in ["10.9.0.7", "fd09:0:0:7::1"] {
        let begun = Instant::now();
        for n in 0..300 {
            let stream = call(client, 0, SMB).expect("a connection");
            assert!(negotiates(&stream), "{n}");
        }
        // 100 may come at once, and 50 in each second.
        let seconds = begun.elapsed().as_secs_f32();
        assert!(seconds >= 3.5, "it took {seconds} s");
    }
    // A host that keeps its answers back for longer than half-open connections are known.
    sh(
        "nft 'add table inet late; add chain inet late out { type filter hook output priority 0; }; \
        add rule inet late out ip saddr 10.9.0.8 tcp flags & (syn | ack) == ack drop'",
    );
    let stream = call("10.9.0.8", 0, SMB).expect("the server's first packet");
    std::thread::sleep(Duration::from_secs(4));
    sh("nft delete table inet late");
    let limit = Instant::now() + Duration::from_secs(5);
    assert!(probe::ask(Protocol::Smb, &stream, limit).is_err());
    assert!(negotiates(&call("10.9.0.8", 0, SMB).expect("a new one")));
    scene.assert_well();
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn what_only_the_admin_s_own_configuration_serves_is_reached() {
    let own = [("config_dir", "/opt/own")];
    let export = "EXPORT { Export_Id = 7; Path = /data; Pseudo = /own; Access_Type = RW; Protocols = 4; \
                  SecType = sys; FSAL { Name = VFS; } }\n";
    let scene = Scene::with("own", "nfs smb", &[], &own, || {
        sh("mount -t tmpfs none /opt && mkdir /opt/own");
        let write = |name: &str, text: &str| {
            std::fs::write(format!("/opt/own/{name}"), text).expect("a file of the admin's");
        };
        write("ganesha.conf", export);
        write("smb.conf", "[own]\npath = /data\n");
    });
    for client in ["10.9.0.1", "fd09::1"] {
        let mut peer = Peer::over(call(client, 35336, NFS).expect("NFS"), 0);
        assert!(peer.access("/own").expect("an answer").is_ok());
        assert!(negotiates(&call(client, 0, SMB).expect("SMB")));
        let held = hold(300, SMB, |_| client.to_owned()).len();
        assert!((50..=100).contains(&held), "{held} connections are open");
    }
    // What only sets parameters opens nothing; a monitor notices.
    std::fs::write("/opt/own/smb.conf", "[global]\nlog level = 1\n").expect("a file");
    scene.servers.run("monitor").expect(0);
    eventually("SMB is shut", || call("10.9.0.3", 0, SMB).is_err());
    assert!(call("10.9.0.3", 0, NFS).is_ok());
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn where_the_kernel_counts_no_connections_who_may_connect_is_still_looked_at() {
    const WORDS: &str = "Error: no such expression";
    let scene = Scene::with(
        "part",
        "nfs smb",
        &[("nfs_clients", "10.9.3.1")],
        &[],
        || {
            sh("mount -t tmpfs none /usr/src && cp /usr/sbin/nft /usr/src/nft");
            let text = format!(
                "#!/bin/sh\nscript=$(cat)\ncase $script in *'ct count'*|*'reject'*|*'limit rate'*) \
             echo '{WORDS}' >&2; exit 1;; esac\necho \"$script\" | /usr/src/nft \"$@\"\n"
            );
            std::fs::write("/usr/src/partial", text).expect("a script");
            sh("chmod 755 /usr/src/partial; mount --bind /usr/src/partial /usr/sbin/nft");
        },
    );
    let words = "connections are not limited";
    let logged = scene.node.logged();
    let said: Vec<&str> = logged.lines().filter(|l| l.contains(words)).collect();
    assert_eq!(said.len(), 1, "{logged}");
    assert!(said[0].contains(WORDS), "{}", said[0]);
    assert!(call("10.9.3.1", 700, NFS).is_ok());
    assert!(call("10.9.4.1", 700, NFS).is_err());
    // A change goes on with the same means.
    let other = scene.fs.clone().parameter("nfs_clients", "10.9.5.1");
    other.run("reload-agent").expect(0);
    assert!(call("10.9.5.1", 700, NFS).is_ok());
    scene.assert_well();
    // Servers that are started when it can be limit it again.
    scene.servers.run("stop").expect(0);
    sh("umount /usr/sbin/nft");
    scene.servers.run("start").expect(0);
    assert_refused(call("10.9.4.1", 700, NFS));
    assert!(call("10.9.5.1", 700, NFS).is_ok());
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn a_busy_node_s_nft_is_waited_for() {
    let scene = Scene::with("busy", "nfs", &[("nfs_clients", "10.9.3.1")], &[], || {
        sh("mount -t tmpfs none /usr/src && cp /usr/sbin/nft /usr/src/nft");
        let text = "#!/bin/sh\n[ -e /usr/src/once ] || { touch /usr/src/once; exec sleep 60; }\n\
                    exec /usr/src/nft \"$@\"\n";
        std::fs::write("/usr/src/slow", text).expect("a script");
        sh("chmod 755 /usr/src/slow; mount --bind /usr/src/slow /usr/sbin/nft");
    });
    assert!(std::path::Path::new("/usr/src/once").exists());
    assert!(call("10.9.3.1", 700, NFS).is_ok());
    assert_refused(call("10.9.4.1", 700, NFS));
    scene.assert_well();
    scene.end();
}
