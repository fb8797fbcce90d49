//! What clients can do to a virtual server, and to each other by way of it: connections, records, identities.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use berth::cell::client;
use berth::cell::probe::{self, Protocol};
use berth::sys::namespace;
use berth::types::VserverName;
use lab::nfs4::Peer;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use crate::common::AgentCall;
use crate::node::{LIMIT, Node, await_good, eventually, in_network, inside, monitor, sh};

pub const NFS: u16 = 2049;
pub const SMB: u16 = 445;

/// The virtual server's addresses.
pub const VIPS: [&str; 2] = ["192.0.2.50", "2001:db8:50::50"];

/// A virtual server whose one link leads to this node, which is all of its clients: each address of 10.9.0.0/16 and
/// fd09::/32 is one.
pub struct Scene {
    pub node: Node,
    vserver: VserverName,
    device: String,
    pub fs: AgentCall,
    pub servers: AgentCall,
}

impl Scene {
    pub fn new(
        tag: &str,
        services: &str,
        of_fs: &[(&str, &str)],
        of_servers: &[(&str, &str)],
    ) -> Self {
        Self::with(tag, services, of_fs, of_servers, || ())
    }

    /// Likewise, on a node that is made ready so.
    pub fn with(
        tag: &str,
        services: &str,
        of_fs: &[(&str, &str)],
        of_servers: &[(&str, &str)],
        prepare: impl FnOnce(),
    ) -> Self {
        let node = Node::new(tag);
        prepare();
        let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
        let with = |call: AgentCall, parameters: &[(&str, &str)]| {
            let set = |call: AgentCall, (name, value): &(&str, &str)| call.parameter(name, value);
            parameters.iter().fold(call, set)
        };
        let fs = with(node.fs(&vserver, &device, "/data"), of_fs);
        let servers = with(node.servers(&vserver, services), of_servers);
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        let [vip4, vip6] = VIPS;
        let good = in_network(
            &vserver,
            &format!(
                "ip address add {vip4}/32 dev eth0; ip -6 address add {vip6}/128 dev eth0 nodad"
            ),
        );
        assert!(good.0, "{}", good.1);
        sh(&format!(
            "ip route add {vip4} dev b-{vserver}; ip -6 route add {vip6} dev b-{vserver}; \
             ip route add local 10.9.0.0/16 dev lo; ip -6 route add local fd09::/32 dev lo; \
             echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind"
        ));
        Self {
            node,
            vserver,
            device,
            fs,
            servers,
        }
    }

    /// Both monitors find nothing wrong, and Pacemaker was told of nothing.
    #[track_caller]
    pub fn assert_well(&self) {
        self.fs.run("monitor").expect(0);
        self.servers.run("monitor").expect(0);
        let deep = self.servers.clone().variable("OCF_CHECK_LEVEL", "10");
        deep.run("monitor").expect(0);
        assert_eq!(self.node.reports(), Vec::<String>::new());
    }

    /// How many processes of this name the cell has.
    fn count(&self, name: &str) -> usize {
        let line = format!("cat /proc/[0-9]*/comm 2>/dev/null | grep -cx {name}");
        inside(&self.vserver, &line)
            .1
            .trim()
            .parse()
            .expect("a number")
    }

    pub fn end(self) {
        self.servers.run("stop").expect(0);
        self.fs.run("stop").expect(0);
        self.node.assert_gone(&self.vserver, &[&self.device]);
    }
}

/// A connection from one of the clients' addresses to the virtual server's of the same family.
pub fn call(from: &str, from_port: u16, port: u16) -> std::io::Result<TcpStream> {
    let from: IpAddr = from.parse().expect("an address");
    let (family, vip) = match from {
        IpAddr::V4(_) => (AddressFamily::Inet, VIPS[0]),
        IpAddr::V6(_) => (AddressFamily::Inet6, VIPS[1]),
    };
    let to = SocketAddr::new(vip.parse().expect("an address"), port);
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let limit = nix::sys::time::TimeVal::new(LIMIT.as_secs().try_into().unwrap_or(30), 0);
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(from, from_port)),
    )?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

/// Whether the connection is still there a moment after it was made: a server that is full closes it.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    let read = stream.peek(&mut [0]);
    read.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

#[track_caller]
pub fn assert_refused(outcome: std::io::Result<TcpStream>) {
    let error = outcome.expect_err("it was let in");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

/// Asks for an SMB dialect and has an answer.
pub fn negotiates(stream: &TcpStream) -> bool {
    let deadline = Instant::now() + LIMIT;
    probe::ask(Protocol::Smb, stream, deadline).is_ok()
}

/// The address of each client, by its number.
pub type Clients = fn(u32) -> String;

/// Opens as many connections as it can up to this many, and gives those that stay.
pub fn hold(count: u32, port: u16, from: impl Fn(u32) -> String) -> Vec<TcpStream> {
    let made = (0..count).filter_map(|n| call(&from(n), 0, port).ok());
    let made: Vec<TcpStream> = made.collect();
    made.into_iter().filter(is_open).collect()
}

#[test]
#[ignore = "needs root"]
fn idle_connections_of_one_client_keep_nobody_else_out() {
    let exported = [
        ("smb_share", "data"),
        ("nfs_clients", "*"),
        ("nfs_ports", "any"),
    ];
    let scene = Scene::new("idle", "nfs smb", &exported, &[]);
    // Of IPv6 a client has a network of 64 bits.
    let clients: [(Clients, &str); 2] = [
        (|_| "10.9.0.1".to_owned(), "10.9.0.2"),
        (|n| format!("fd09::{n:x}"), "fd09:0:0:1::1"),
    ];
    for (bad, good) in clients {
        for port in [SMB, NFS] {
            let held = hold(1000, port, bad);
            let count = held.len();
            assert!((50..=100).contains(&count), "{count} connections are open");
            let smbd = scene.count("smbd");
            assert!(smbd <= 110, "{smbd} processes");
            scene.assert_well();
            assert!(negotiates(&call(good, 0, SMB).expect("another client")));
            let mut other = Peer::over(call(good, 0, NFS).expect("another client"), 0);
            assert!(other.access("/data").expect("an answer").is_ok());
        }
    }
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn a_virtual_server_that_many_clients_have_filled_is_not_taken_for_a_dead_one() {
    let exported = [
        ("smb_share", "data"),
        ("nfs_clients", "*"),
        ("nfs_ports", "any"),
    ];
    let few = [
        ("max_connections", "150"),
        ("max_connections_per_client", "10"),
    ];
    let scene = Scene::new("full", "nfs smb", &exported, &few);
    let families: [Clients; 2] = [
        |n| format!("10.9.1.{}", n % 250),
        |n| format!("fd09:0:0:{:x}::1", n % 250),
    ];
    for from in families {
        for port in [SMB, NFS] {
            let held = hold(1000, port, from);
            let count = held.len();
            assert!((100..=150).contains(&count), "{count} connections are open");
            let smbd = scene.count("smbd");
            assert!(smbd <= 160, "{smbd} processes");
            scene.assert_well();
            assert_refused(call("10.9.2.1", 0, port));
            drop(held);
            eventually("there is room again", || {
                let other = call("10.9.2.1", 0, port);
                other.is_ok_and(|stream| match port {
                    SMB => negotiates(&stream),
                    _ => Peer::over(stream, 0).access("/data").is_ok(),
                })
            });
        }
    }
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn nobody_but_clients_of_an_export_gets_a_word_in() {
    let listed = [("nfs_clients", "10.9.3.0/24 fd09:0:0:3::/64")];
    let scene = Scene::new("list", "nfs smb", &listed, &[]);
    for stranger in ["10.9.4.1", "fd09:0:0:4::1"] {
        assert_refused(call(stranger, 700, NFS));
    }
    for client in ["10.9.3.1", "fd09:0:0:3::1"] {
        let mut peer = Peer::over(call(client, 700, NFS).expect("a client"), 0);
        assert_eq!(peer.register("one").expect("an answer"), Ok(()));
        assert_refused(call(client, 35336, NFS));
        // Nothing is shared.
        assert_refused(call(client, 700, SMB));
    }
    // What berth does not serve is not its to close.
    assert_refused(call("10.9.4.1", 0, 8080));
    let cell = client::find(&scene.vserver)
        .expect("an answer")
        .expect("a cell");
    let process = namespace::open_process(cell.init_pid).expect("its PID 1");
    let listen = || TcpListener::bind("0.0.0.0:8080");
    let _listener = namespace::inside(process, listen).expect("a listener in its network");
    assert!(call("10.9.4.1", 0, 8080).is_ok());

    // Who comes on the list is let in, and who leaves it is not any more, before the agent says that it is done.
    let other = scene.fs.clone();
    let other = other
        .parameter("nfs_clients", "10.9.4.1")
        .parameter("smb_share", "data");
    other.run("reload-agent").expect(0);
    assert!(call("10.9.4.1", 700, NFS).is_ok());
    assert!(call("fd09:0:0:4::1", 700, SMB).is_ok());
    for stranger in ["10.9.3.1", "10.9.4.2", "fd09:0:0:4::1"] {
        assert_refused(call(stranger, 700, NFS));
    }
    scene.assert_well();
    let none = scene.node.fs(&scene.vserver, &scene.device, "/data");
    none.run("reload-agent").expect(0);
    for (client, port) in [("10.9.4.1", NFS), ("fd09:0:0:4::1", SMB)] {
        assert_refused(call(client, 700, port));
    }
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn who_has_no_root_s_rights_on_a_client_is_not_believed() {
    // PERM, NOENT, ACCESS.
    const DENIED: [u32; 3] = [1, 2, 13];
    let scene = Scene::new("port", "nfs", &[("nfs_clients", "*")], &[("home", "/data")]);
    let disk = scene.node.disk("xfs");
    let other = scene.node.fs(&scene.vserver, &disk, "/other");
    let other = other
        .parameter("nfs_clients", "*")
        .parameter("nfs_ports", "any");
    for client in ["10.9.0.1", "fd09::1"] {
        assert_refused(call(client, 35336, NFS));
    }
    // Now that an export is for all ports, the server has to tell them apart.
    other.run("start").expect(0);
    let secret = "umask 077; for at in /data /other; do echo x >$at/secret; chown 1001 $at/secret; chmod 711 $at; done";
    assert!(inside(&scene.vserver, secret).0);
    for client in ["10.9.0.1", "fd09::1"] {
        let peer = |port| Peer::over(call(client, port, NFS).expect("a client"), 1001);
        let mut forged = peer(35336);
        let refused = forged
            .access("/data/secret")
            .expect("an answer")
            .unwrap_err();
        assert!(DENIED.contains(&refused), "status {refused}");
        assert!(
            forged
                .access("/other/secret")
                .expect("an answer")
                .is_ok_and(|a| a & 1 == 1)
        );
        for (path, port) in [("/data/secret", 700), ("/other/secret", 701)] {
            let rights = peer(port).access(path).expect("an answer");
            assert!(rights.is_ok_and(|rights| rights & 1 == 1), "{path}");
        }
    }
    scene.assert_well();
    other.run("monitor").expect(0);
    other.run("stop").expect(0);
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn a_client_that_invents_clients_leaves_few_records() {
    let few = [("max_connections", "50")];
    let scene = Scene::new("many", "nfs", &[("nfs_clients", "10.9.0.0/16")], &few);
    let mut peer = Peer::over(call("10.9.0.1", 700, NFS).expect("a client"), 0);
    let outcomes: Vec<bool> = (0..500)
        .map(|n| {
            peer.register(&format!("client {n}"))
                .expect("an answer")
                .is_ok()
        })
        .collect();
    let taken = outcomes.iter().filter(|taken| **taken).count();
    assert!((50..=52).contains(&taken), "{taken} were taken");
    let line = "find /var/lib/berth/nfs -mindepth 1 -type d | wc -l";
    let records: usize = inside(&scene.vserver, line)
        .1
        .trim()
        .parse()
        .expect("a number");
    assert!(records <= 60, "{records} records");
    scene.assert_well();
    scene.end();
}

/// As many connections from within the cell as can be had, up to this many.
fn hold_within(vserver: &VserverName, count: u32, port: u16) -> Vec<TcpStream> {
    let cell = client::find(vserver).expect("an answer").expect("a cell");
    let process = namespace::open_process(cell.init_pid).expect("its PID 1");
    let made = namespace::inside(process, || {
        let made = (0..count).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok());
        Ok(made.collect::<Vec<_>>())
    });
    made.expect("its network")
        .into_iter()
        .filter(is_open)
        .collect()
}

#[test]
#[ignore = "needs root"]
fn where_the_kernel_refuses_to_let_clients_in_the_start_fails_softly_and_a_change_is_said_of() {
    const WORDS: &str = "Error: on purpose";
    let scene = Scene::new("shut", "nfs smb", &[("nfs_clients", "10.9.3.1")], &[]);
    let refused = |outcome: crate::common::Outcome| {
        assert!(outcome.stderr.contains(WORDS), "{}", outcome.stderr);
        outcome
    };
    scene.node.have_fail("/usr/sbin/nft", WORDS);
    let other = scene.fs.clone().parameter("nfs_clients", "10.9.4.1");
    refused(other.run("reload-agent")).expect(0);
    refused(monitor(&scene.fs).run("monitor")).expect(190);
    refused(monitor(&scene.servers).run("monitor")).expect(190);
    // Who was let in before can't do any harm: the server has its own list.
    assert_refused(call("10.9.4.1", 700, NFS));
    sh("umount /usr/sbin/nft");
    await_good("it is tried again", &scene.fs);
    assert!(call("10.9.4.1", 700, NFS).is_ok());
    assert_refused(call("10.9.3.1", 700, NFS));

    scene.servers.run("stop").expect(0);
    scene.node.have_fail("/usr/sbin/nft", WORDS);
    // With the rules of before it would be open to those: nothing has to be changed for the same ones.
    scene.servers.run("start").expect(0);
    scene.servers.run("stop").expect(0);
    let more = scene.servers.clone().parameter("max_connections", "7");
    refused(more.run("start")).expect(1);
    assert_eq!(scene.count("ganesha.nfsd"), 0);
    sh("umount /usr/sbin/nft");
    more.run("start").expect(0);
    scene.end();
}

#[test]
#[ignore = "needs root"]
fn a_server_that_takes_no_more_connections_is_not_failed_over() {
    // However somebody has got past what counts the clients' connections.
    let exported = [("smb_share", "data"), ("nfs_clients", "*")];
    let few = [("max_connections", "1")];
    let scene = Scene::new("brim", "nfs smb", &exported, &few);
    let deep = monitor(&scene.servers).variable("OCF_CHECK_LEVEL", "10");
    for (port, name) in [(SMB, "SMB"), (NFS, "NFS")] {
        let held = hold_within(&scene.vserver, 300, port);
        assert!(held.len() >= 90, "{} connections are open", held.len());
        eventually("the monitor knows why", || {
            let outcome = deep.run("monitor");
            assert!(
                [Some(0), Some(190)].contains(&outcome.code),
                "{}",
                outcome.stderr
            );
            let reason = format!("{name} has all the connections that it takes");
            outcome.code == Some(190) && outcome.stderr.contains(&reason)
        });
        drop(held);
        eventually("it is in order again", || {
            deep.run("monitor").code == Some(0)
        });
    }
    scene.assert_well();
    scene.end();
}
