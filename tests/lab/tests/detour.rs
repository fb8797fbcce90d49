//! The detour: a subnet that is lost at a virtual server's node costs its clients a moment, and the server
//! nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::process::Child;

use common::detour::{
    LIMIT, OFFICE, PORTWATCH, States, gather, lose, mend, routers, wait_for_degraded,
};
use common::{assert_unharmed, inside, processes, run};
use lab::flow::{Echo, Stream};
use lab::protocol::Cable;
use lab::stage::{self, Spent};
use lab::worker::{Worker, at_work, counts, wait_for_work};
use lab::{Lab, holds, ports, scene, wait_for, wire};

/// alpha's addresses on the subnet that is lost, and their resources.
const VIPS: [&str; 2] = ["10.1.0.50", "fd00:1::50"];
const RESOURCES: [&str; 2] = ["alpha-ip2", "alpha-ip1"];
/// The one on the other subnet.
const OTHER: &str = "10.2.0.50";
/// Acknowledgements of each writer before anything is asked of the next step.
const ENOUGH: u64 = 5;
/// A smaller MTU.
const NARROW: u32 = 1400;

lab::scenes! {
    Stage:
    clients_carry_on_when_cables_are_pulled,
    clients_carry_on_when_switches_are_dead,
    the_other_subnet_is_lost,
    a_narrower_subnet_between_the_nodes,
    nothing_else_passes_the_router,
    the_next_node_takes_over_from_a_router_without_power,
}

/// alpha, with an echo at each of its addresses, and all of its VIPs of the office at one port.
struct Stage {
    lab: Lab,
    node: String,
    before: States,
    servers: Vec<(String, u32)>,
    echoes: Echoes,
}

impl stage::Stage for Stage {
    fn build() -> Self {
        let lab = stage::up("detour", 3).unwrap();
        let alpha = common::alpha();
        let node = scene::serve(&lab, &[PORTWATCH, &alpha]).unwrap();
        gather(&lab, &node, &VIPS);
        Self {
            before: States::all(&lab),
            servers: processes(&lab, &node, "alpha"),
            echoes: Echoes::start(&lab, &node),
            lab,
            node,
        }
    }

    fn check(&self) {
        self.before.wait_for(&self.lab);
        self.assert_untouched();
    }

    fn clear(self) {
        drop(self.echoes);
        self.lab.down().unwrap();
    }
}

impl Stage {
    #[track_caller]
    fn assert_untouched(&self) {
        let now = processes(&self.lab, &self.node, "alpha");
        assert_eq!(now, self.servers, "alpha was touched");
    }

    fn streams(&self) -> Vec<Stream> {
        self.echoes.streams(&self.lab)
    }
}

/// One at each of alpha's addresses.
struct Echoes {
    vips: [Echo; 2],
    other: Echo,
}

impl Echoes {
    fn start(lab: &Lab, node: &str) -> Self {
        let start = |vip, client| Echo::start(lab, (node, "alpha"), vip, client).unwrap();
        Self {
            vips: VIPS.map(|vip| start(vip, "c1")),
            other: start(OTHER, "c2"),
        }
    }

    /// Connections that are never idle, of clients on each subnet to the address there.
    fn streams(&self, lab: &Lab) -> Vec<Stream> {
        let of = |echo: &Echo, client| Stream::start(lab, client, echo.address()).unwrap();
        let [v4, v6] = &self.vips;
        vec![of(v4, "c1"), of(v6, "c1"), of(&self.other, "c2")]
    }
}

fn move_on(streams: &[Stream]) {
    for stream in streams {
        stream.wait_for_progress(LIMIT).unwrap();
    }
}

/// A connection that was reset would say so here.
fn whole(streams: &[Stream]) {
    for (i, stream) in streams.iter().enumerate() {
        let traffic = stream.take();
        eprintln!("connection {i}: {traffic:?}");
        assert_eq!(traffic.broken, None, "connection {i}");
    }
}

fn clients_carry_on_when_cables_are_pulled(stage: &Stage) {
    clients_carry_on(stage, Cable::Pulled);
}

fn clients_carry_on_when_switches_are_dead(stage: &Stage) {
    clients_carry_on(stage, Cable::Dead);
}

fn clients_carry_on(stage: &Stage, state: Cable) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let workers = [
        Worker::nfs("c1", VIPS[0], "/data").unwrap(),
        Worker::nfs("c1", VIPS[1], "/home").unwrap(),
        Worker::smb("c1", VIPS[0], "data").unwrap(),
        Worker::nfs("c2", OTHER, "/data").unwrap(),
    ];
    let streams = stage.streams();
    let copy = Copy::begin(lab);
    let ((), reports) = at_work(lab, &workers, || {
        let work = || {
            move_on(&streams);
            wait_for_work(&workers, &counts(&workers), ENOUGH, || {})
        };
        work()?;
        lose(lab, node, state);
        let routers = routers(lab, node, &VIPS);
        work()?;
        let says = |vip: &str| format!("routing {vip} for {node} over lab");
        let [v4, v6] = VIPS.map(says);
        wait_for_degraded(
            lab,
            node,
            &[
                (RESOURCES[0], &routers[0], &v4),
                (RESOURCES[1], &routers[1], &v6),
            ],
        );
        ports::wait_at(lab, node, (OTHER, "eth3"), LIMIT)?;
        work()?;
        whole(&streams);
        mend(lab, node, &VIPS);
        work()?;
        whole(&streams);
        Ok(())
    })
    .unwrap();
    copy.end(lab, node);
    assert_unharmed(lab, &workers, &reports);
    wait_for_degraded(lab, node, &[]);
}

/// One file copied over SMB, for as long as it is let.
struct Copy(Child);

impl Copy {
    fn begin(lab: &Lab) -> Self {
        let script = format!(
            "rm -f /run/enough; \
             while [ ! -e /run/enough ]; do head -c 100000 /dev/urandom; sleep 0.05; done \
             | tee /run/copy | smbclient //{}/data -N -c 'put /dev/stdin copy'",
            VIPS[0]
        );
        let mut command = lab.command("c1", &["sh", "-c", &script]).unwrap();
        Self(command.spawn().unwrap())
    }

    /// What has arrived is what was sent.
    fn end(mut self, lab: &Lab, node: &str) {
        run(lab, "c1", "touch /run/enough");
        assert!(self.0.wait().unwrap().success());
        let sent = run(lab, "c1", "cksum < /run/copy");
        let (read, arrived) = inside(lab, node, "alpha", "cksum < /data/copy");
        assert!(read && arrived == sent, "{arrived} of {sent}");
    }
}

fn the_other_subnet_is_lost(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let streams = stage.streams();
    lab.set_cable(node, "eth3", Cable::Pulled).unwrap();
    let routers = routers(lab, node, &[OTHER]);
    move_on(&streams);
    let says = format!("routing {OTHER} for {node} over office");
    wait_for_degraded(lab, node, &[("alpha-ip3", &routers[0], &says)]);
    for vip in VIPS {
        ports::wait_at(lab, node, (vip, OFFICE[1]), LIMIT).unwrap();
    }
    lab.set_cable(node, "eth3", Cable::Good).unwrap();
    ports::wait_at(lab, node, (OTHER, "eth3"), LIMIT).unwrap();
    move_on(&streams);
    whole(&streams);
}

/// Packets of the size that the clients' own subnet allows don't fit the one between the nodes.
fn a_narrower_subnet_between_the_nodes(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    // On all of it, as its own clients would have it.
    let set = |mtu| {
        for node in lab.plan().node_names() {
            run(lab, &node, &format!("ip link set eth3 mtu {mtu}"));
        }
        run(lab, "router", &format!("ip link set eth1 mtu {mtu}"));
        run(lab, "c2", &format!("ip link set eth0 mtu {mtu}"));
    };
    // What the cell has learned of the ways to its clients.
    let learned = || {
        let script = "ip route get 10.1.0.101; ip -6 route get fd00:1::101";
        inside(lab, node, "alpha", script).1
    };
    set(NARROW);
    let streams = stage.streams();
    move_on(&streams);
    lose(lab, node, Cable::Pulled);
    routers(lab, node, &VIPS);
    move_on(&streams);
    // A connection that begins now too.
    let later = stage.streams();
    move_on(&later);
    let during = learned();
    mend(lab, node, &VIPS);
    move_on(&streams);
    move_on(&later);
    whole(&streams);
    whole(&later);
    let after = learned();
    assert!(!after.contains("mtu"), "{after}, before {during}");
    set(1500);
}

/// Clients of the lost subnet reach the VIP through the router, and nobody else; others don't get anything
/// through it in the name of the VIP.
fn nothing_else_passes_the_router(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    lose(lab, node, Cable::Pulled);
    for (vip, router) in VIPS.iter().zip(routers(lab, node, &VIPS)) {
        nobody_else_is_reached(lab, (vip, &router), node);
        nobody_sends_in_its_name(lab, (vip, &router), node);
    }
    mend(lab, node, &VIPS);
}

/// The number in a node's addresses.
fn number(node: &str) -> &str {
    node.trim_start_matches('n')
}

fn nobody_else_is_reached(lab: &Lab, (vip, router): (&str, &str), node: &str) {
    let nodes = lab.plan().node_names();
    let mut others = nodes.iter().filter(|n| *n != router && *n != node);
    let third = number(others.next().unwrap());
    let (node, router) = (number(node), number(router));
    let (office, targets) = match vip.contains(':') {
        false => (
            "10.1.0.",
            // The others' addresses on either subnet and on the cluster's own network, hosts and
            // virtual servers of the other subnet.
            vec![
                format!("10.2.0.{node}"),
                format!("10.2.0.{third}"),
                format!("10.0.0.{third}"),
                "10.2.0.101".to_owned(),
                OTHER.to_owned(),
            ],
        ),
        true => (
            "fd00:1::",
            vec![
                format!("fd00:2::{node}"),
                format!("fd00:2::{third}"),
                "fd00:2::101".to_owned(),
            ],
        ),
    };
    let reached = |target: &str, via: &str| {
        let script = format!(
            "ip route add {target} via {via}; ping -n -c 2 -i 0.1 -W 1 {target} > /dev/null; \
             answered=$?; ip route del {target}; exit $answered"
        );
        let output = lab.exec("c1", &["sh", "-c", &script]).unwrap();
        output.status.success()
    };
    run(lab, "c1", &format!("ping -n -c 1 -w 20 {vip}"));
    let client = targets.iter().find(|t| t.ends_with("101")).unwrap();
    assert!(reached(client, &format!("{office}254")), "{client}");
    for target in &targets {
        assert!(!reached(target, &format!("{office}{router}")), "{target}");
    }
}

/// The same datagram is let through if it is the node with the cell that sends it.
fn nobody_sends_in_its_name(lab: &Lab, (vip, router): (&str, &str), node: &str) {
    let mac = |machine: &str, port: &str| {
        let script = format!("ip -brief link show {port} | awk '{{ print $3 }}'");
        wire::mac(&run(lab, machine, &script)).unwrap()
    };
    let (client, any) = match vip.contains(':') {
        false => ("10.1.0.101", "0.0.0.0"),
        true => ("fd00:1::101", "::"),
    };
    let end = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
    let ends = (end(vip, 7007), end(client, 7008));
    let bind = || UdpSocket::bind(end(any, ends.1.port()));
    let socket = lab.on_network_of("c1", bind).unwrap().unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    for (from, text) in [("c2", "forged"), (node, "genuine")] {
        let from = mac(from, if from == "c2" { "eth0" } else { "eth3" });
        let macs = (from, mac(router, "eth3"));
        for _ in 0..3 {
            wire::send_datagram(lab, ("c2", "eth0"), macs, ends, text.as_bytes()).unwrap();
        }
    }
    let mut buffer = [0; 16];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"genuine"[..], ends.0));
}

fn the_next_node_takes_over_from_a_router_without_power(stage: &Stage) -> Spent {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let streams = stage.streams();
    lose(lab, node, Cable::Pulled);
    let dead = routers(lab, node, &VIPS).remove(0);
    move_on(&streams);
    lab.crash(&dead).unwrap();
    let next = wait_for("the third node to route", LIMIT, || {
        let next = routers(lab, node, &VIPS);
        holds(!next.contains(&dead), next.join(" ")).map(|()| next)
    })
    .unwrap();
    move_on(&streams);
    whole(&streams);
    eprintln!("{dead} without power, {} routes", next.join(" and "));
    mend(lab, node, &VIPS);
    move_on(&streams);
    whole(&streams);
    stage.assert_untouched();
    Spent
}
