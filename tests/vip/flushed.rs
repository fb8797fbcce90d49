//! Attacks on a node whose nftables tables somebody has flushed, as `systemctl reload nftables` does, while nobody
//! mends them.

use std::net::UdpSocket;
use std::time::Duration;

use berth::ocf::State;
use berth::plan::vip::record::VipSpec;
use berth::sys::netlink::{Action, Incoming, Rule, Socket};
use berth::types::Family;

use crate::namespace::Namespace;
use crate::network::{
    Addresses, Cell, FAMILIES, Network, PATIENCE, SILENCE, call, differences, is_shut, is_silent,
    pings, serve,
};

/// Gives the clients the node as their router to each other. Of its two ports on one subnet only the one that
/// forwards shall answer them.
fn route_through_the_node(net: &Network, on: &Addresses) {
    let option = on.option;
    net.node.ip("link set a1 down");
    for (client, to, by) in [
        (&net.client_a, on.subnets[1], on.node[0]),
        (&net.client_c, on.subnets[0], on.node[1]),
    ] {
        client.ip(&format!("{option} route add {to} via {by}"));
    }
}

/// Whether what `sender` sends from its address `from` arrives at `at`.
fn arrives(sender: (&Namespace, &str), receiver: (&Namespace, &str)) -> bool {
    arrives_within(PATIENCE, sender, receiver)
}

/// Whether nothing of it arrives.
fn is_lost(sender: (&Namespace, &str), receiver: (&Namespace, &str)) -> bool {
    !arrives_within(SILENCE, sender, receiver)
}

fn arrives_within(
    limit: Duration,
    (sender, from): (&Namespace, &str),
    (receiver, at): (&Namespace, &str),
) -> bool {
    let bind = |ip: &str| {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        UdpSocket::bind((ip, 0)).unwrap()
    };
    let listener = receiver.inside(|| bind(at));
    let to = listener.local_addr().unwrap();
    let socket = sender.inside(|| bind(from));
    // A way that is shut in the kernel refuses some at once.
    for _ in 0..3 {
        let _ = socket.send_to(b"x", to);
    }
    listener.set_read_timeout(Some(limit)).unwrap();
    listener.recv_from(&mut [0; 8]).is_ok()
}

/// Serves both VIPs of the family, each on the subnet of one client.
fn start(net: &Network, cell: &Cell, on: &Addresses) {
    for vip in on.vips {
        assert_eq!(net.start(cell, &cell.spec(vip)).unwrap(), State::Running);
    }
}

fn stop(net: &Network, cell: &Cell, on: &Addresses) {
    for vip in on.vips {
        net.stop(cell, &cell.spec(vip));
    }
}

#[test]
#[ignore = "needs root"]
fn clients_are_not_routed_to_each_other_and_vips_are_served() {
    for on in &FAMILIES {
        let net = Network::new();
        let alpha = net.cell("alpha");
        route_through_the_node(&net, on);
        let before = net.dump();
        start(&net, &alpha, on);
        net.node.sh("nft flush ruleset");
        for (from, to) in [(0, 1), (1, 0)] {
            let clients = [&net.client_a, &net.client_c];
            serve(clients[to], on.clients[to], 80, "a client", 1);
            assert!(is_shut(clients[from], on.clients[to], 80));
            assert!(is_silent(clients[from], on.clients[to]));
            // From its own subnet and, for there is no gateway, by the node's own tables.
            for vip in on.vips {
                serve(&alpha.namespace, vip, 2049, "alpha", 1);
                let answer = call(clients[from], vip, 2049);
                assert_eq!(answer.as_deref(), Some("alpha"), "{vip}");
            }
        }
        // It is these rules that hold, and not that nothing could have passed.
        let rules = net.node.sh(&format!("ip {} rule", on.option));
        let shut = rules.lines().filter(|rule| rule.contains("blackhole"));
        assert_eq!(shut.count(), 3, "{rules}");
        while net
            .node
            .run(&format!("ip {} rule del pref 400", on.option))
            .status
            .success()
        {}
        assert!(pings(&net.client_a, on.clients[1]));
        stop(&net, &alpha, on);
        // What the cell's keeper has made was taken away above.
        let (new, gone) = differences(&net.dump(), &before);
        assert_eq!(new, Vec::<String>::new());
        assert!(gone.iter().all(|rule| rule.contains("iif b-alpha")));
    }
}

#[test]
#[ignore = "needs root"]
fn a_cell_sends_from_its_own_addresses_only() {
    for on in &FAMILIES {
        let net = Network::new();
        let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
        route_through_the_node(&net, on);
        start(&net, &alpha, on);
        let own = format!("addr add {}/{} dev eth0", on.foreign, on.length);
        for cell in [&alpha, &beta] {
            cell.namespace.ip(&format!("{own} nodad"));
        }
        net.node.sh("nft flush ruleset");
        for (client, at) in [
            (&net.client_a, on.clients[0]),
            (&net.client_c, on.clients[1]),
        ] {
            assert!(arrives((&alpha.namespace, on.vips[0]), (client, at)));
            for cell in [&alpha, &beta] {
                assert!(is_lost((&cell.namespace, on.foreign), (client, at)));
            }
            // Nor does the other cell, or a client to another one, pass for the VIP.
            let theirs = format!("addr add {}/{} dev eth0 nodad", on.vips[0], on.length);
            beta.namespace.ip(&theirs);
            assert!(is_lost((&beta.namespace, on.vips[0]), (client, at)));
            let theirs = format!("addr del {}/{} dev eth0", on.vips[0], on.length);
            beta.namespace.ip(&theirs);
        }
        let theirs = format!("addr add {}/{} dev eth0 nodad", on.vips[0], on.length);
        net.client_a.ip(&theirs);
        let there = (&net.client_c, on.clients[1]);
        assert!(is_lost((&net.client_a, on.vips[0]), there));
    }
}

#[test]
#[ignore = "needs root"]
fn a_cell_without_a_vip_reaches_nobody_through_a_node_that_forwards() {
    for on in &FAMILIES {
        let net = Network::new();
        // As one with containers does, before the cell is made.
        net.node
            .sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        let alpha = net.cell("alpha");
        route_through_the_node(&net, on);
        let own = format!("addr add {}/{} dev eth0", on.foreign, on.length);
        alpha.namespace.ip(&format!("{own} nodad"));
        let there = (&net.client_a, on.clients[0]);
        let from = (&alpha.namespace, on.foreign);
        assert!(is_lost(from, there), "before its first VIP");
        start(&net, &alpha, on);
        assert!(is_lost(from, there));
        stop(&net, &alpha, on);
        assert!(is_lost(from, there), "after its last VIP");
        // The administrator's router stays one.
        assert!(pings(&net.client_a, on.clients[1]));
        start(&net, &alpha, on);
        assert!(pings(&net.client_a, on.clients[1]));
        net.node.sh("nft flush ruleset");
        assert!(pings(&net.client_a, on.clients[1]));
        assert!(is_lost(from, there));
    }
}

#[test]
#[ignore = "needs root"]
fn a_node_that_has_to_forward_ipv6_on_all_interfaces_does_so_for_vips_only() {
    let on = &FAMILIES[1];
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    route_through_the_node(&net, on);
    start(&net, &alpha, on);
    // As with a kernel that has no other switch: what this one would be told by itself is another setting.
    net.node
        .sh("ip -6 rule del pref 400; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding; nft flush ruleset");
    while net.node.run("ip -6 rule del pref 400").status.success() {}
    let own = format!("addr add {}/{} dev eth0", on.foreign, on.length);
    beta.namespace.ip(&format!("{own} nodad"));
    let there = (&net.client_c, on.clients[1]);
    let from = (&beta.namespace, on.foreign);
    assert!(arrives(from, there) && pings(&net.client_a, on.clients[1]));
    let mut socket = Socket::in_netns(&net.node).unwrap();
    let rule = Rule {
        family: Family::V6,
        preference: 400,
        from: None,
        incoming: Incoming::Forwarded,
        action: Action::Blackhole,
        protocol: 190,
    };
    let _ = socket.add_rule(&rule).unwrap();
    assert!(is_lost(from, there) && is_silent(&net.client_a, on.clients[1]));
    // The node itself is a host as before, and VIPs are served, near and far.
    for (client, at) in [&net.client_a, &net.client_c].iter().zip(on.clients) {
        assert!(pings(&net.node, at));
        for vip in on.vips {
            assert!(pings(client, vip), "{vip} from {at}");
            assert!(pings(&net.node, vip));
        }
        assert!(pings(client, on.node[0]));
    }
}

#[test]
#[ignore = "needs root"]
fn a_node_whose_own_addresses_are_looked_up_last_is_still_reached_through_its_ports() {
    for on in &FAMILIES {
        let net = Network::new();
        let alpha = net.cell("alpha");
        // The other port of its subnet would answer for it, unshut.
        net.node.ip("link set a1 down");
        // As VRFs want it.
        let option = on.option;
        net.node
            .ip(&format!("{option} rule add pref 32765 lookup local"));
        net.node.ip(&format!("{option} rule del pref 0"));
        let before = net.dump();
        start(&net, &alpha, on);
        for (client, at) in [(&net.client_a, on.node[0]), (&net.client_c, on.node[1])] {
            // Whatever it has learned of its neighbours.
            net.node.ip("neigh flush all");
            assert!(pings(client, at), "{at}");
            serve(&net.node, at, 22, "node", 1);
            assert_eq!(call(client, at, 22).as_deref(), Some("node"));
        }
        for (client, vip) in [(&net.client_a, on.vips[0]), (&net.client_c, on.vips[1])] {
            assert!(pings(client, vip), "{vip}");
        }
        // It is these rules that lead there.
        for _ in on.node {
            net.node.ip(&format!("{option} rule del pref 399"));
        }
        assert!(is_silent(&net.client_a, on.node[0]) && is_silent(&net.client_c, on.node[1]));
        stop(&net, &alpha, on);
        assert_eq!(differences(&net.dump(), &before), (vec![], vec![]));
    }
}

#[test]
#[ignore = "needs root"]
fn a_firewall_that_asks_for_the_way_back_to_clients_finds_it() {
    let (gateways, far) = (
        ["10.1.0.10", "2001:db8:1::10"],
        ["10.99.0.7", "2001:db8:99::7"],
    );
    for (n, on) in FAMILIES.iter().enumerate() {
        let net = Network::new();
        let alpha = net.cell("alpha");
        let (option, vip) = (on.option, on.vips[0]);
        net.node.ip("link set a1 down");
        // Behind the VIP's gateway is a client to whom the node itself has another way.
        net.node
            .ip(&format!("{option} route add default via {}", on.clients[1]));
        net.client_a
            .ip(&format!("addr add {}/{} dev lo nodad", far[n], on.length));
        net.client_a
            .ip(&format!("{option} route add {vip} dev eth0 src {}", far[n]));
        let spec = VipSpec {
            gateway: Some(gateways[n].parse().unwrap()),
            ..alpha.spec(vip)
        };
        assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
        assert!(pings(&net.client_a, vip), "{vip}, without");
        net.node.sh(
            "nft add table inet strict; nft add chain inet strict pre '{ type filter hook prerouting priority -10; }'; nft add rule inet strict pre iifname a0 icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }' accept; nft add rule inet strict pre iifname a0 fib saddr . iif oif missing counter drop",
        );
        assert!(pings(&net.client_a, vip), "{vip}, with it");
        serve(&alpha.namespace, vip, 2049, "alpha", 1);
        let answer = call(&net.client_a, vip, 2049);
        assert_eq!(answer.as_deref(), Some("alpha"));
        net.node.sh("nft delete table inet strict");
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
    }
}
