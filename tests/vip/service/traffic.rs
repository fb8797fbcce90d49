//! What reaches a VIP, what leaves its cell, and what passes neither way.

use std::time::{Duration, Instant};

use berth::ocf::State;
use berth::plan::vip::record::VipSpec;

use super::VIPS;
use crate::namespace::Namespace;
use crate::network::{FAMILIES, Network, call, is_shut, is_silent, pings, serve};

#[test]
#[ignore = "needs root"]
fn a_client_reaches_a_vip_on_either_kind_of_port() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    for vip in VIPS {
        for (spec, port) in [(alpha.spec(vip), "a0"), (alpha.wide_spec(vip), "a1")] {
            assert_eq!(net.monitor(&alpha, &spec), State::Stopped);
            assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
            assert_eq!(net.monitor(&alpha, &spec), State::Running);
            let tries = 9;
            serve(&alpha.namespace, vip, 2049, "alpha", tries);
            // The kernel keeps back what it answers for others, up to 800 ms, unless it is told otherwise.
            let mut at_once = 0;
            for _ in 0..tries {
                net.client_a.ip("neigh flush all");
                let begun = Instant::now();
                assert_eq!(call(&net.client_a, vip, 2049).as_deref(), Some("alpha"));
                at_once += usize::from(begun.elapsed() < Duration::from_millis(100));
            }
            assert!(2 * at_once > tries, "{at_once} of {tries} at once");
            let proxies = net.node.sh("ip neigh show proxy; ip -6 neigh show proxy");
            let words: Vec<&str> = proxies.split_whitespace().collect();
            assert_eq!(words[..4], [vip, "dev", port, "proxy"], "{proxies}");
            let mac = net.node.json(&format!("link show {port}"))[0]["address"].clone();
            let known = net.client_a.json(&format!("neigh show {vip}"));
            assert_eq!(known[0]["lladdr"], mac);
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn cells_reach_each_other_by_vip_and_not_the_host() {
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    for (a, b, host) in [
        ("10.1.0.50", "10.1.0.60", "10.1.0.1"),
        ("2001:db8:1::50", "2001:db8:1::60", "2001:db8:1::1"),
    ] {
        net.start(&alpha, &alpha.spec(a)).unwrap();
        net.start(&beta, &beta.spec(b)).unwrap();
        // Both serve the same port, and so does the host.
        serve(&alpha.namespace, a, 445, "alpha", 2);
        serve(&beta.namespace, b, 445, "beta", 2);
        serve(&net.node, host, 445, "host", 1);
        for from in [&net.client_a, &net.node] {
            assert_eq!(call(from, a, 445).as_deref(), Some("alpha"));
            assert_eq!(call(from, b, 445).as_deref(), Some("beta"));
        }
        serve(&beta.namespace, b, 446, "beta", 1);
        assert_eq!(call(&alpha.namespace, b, 446).as_deref(), Some("beta"));
        assert!(is_shut(&alpha.namespace, host, 445));
        assert!(is_silent(&alpha.namespace, host));
        assert!(pings(&net.node, a) && pings(&net.client_a, b));
    }
}

#[test]
#[ignore = "needs root"]
fn a_node_is_no_router_and_a_cell_sends_from_its_own_addresses_only() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    for on in FAMILIES {
        let (option, length, vip) = (on.option, on.length, on.vips[0]);
        let ([me, there], [via, back]) = (on.clients, on.node);
        net.start(&alpha, &alpha.spec(vip)).unwrap();
        net.client_a
            .ip(&format!("route add {there}/{length} via {via}"));
        let subnet = on.subnets[0];
        net.client_c
            .ip(&format!("{option} route add {subnet} via {back}"));
        assert!(is_silent(&net.client_a, there), "{there} through the node");
        // Its own VIP reaches the other subnet's client by the node's routes, if that is a port.
        let foreign = vip.replace("50", "99");
        alpha
            .namespace
            .ip(&format!("addr add {foreign}/{length} dev eth0 nodad"));
        assert!(pings(&alpha.namespace, me));
        let spoof = alpha
            .namespace
            .run(&format!("ping -n -c 2 -i 0.05 -w 1 -I {foreign} {me}"));
        assert!(!spoof.status.success(), "from {foreign}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_cell_sends_packets_as_large_as_its_ports_and_learns_of_smaller_ways() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    for link in ["p0", "p1", "p2", "br0"] {
        net.switch.ip(&format!("link set {link} mtu 9000"));
    }
    net.client_a.ip("link set eth0 mtu 9000");
    net.node.ip("link set a0 mtu 9000");
    let mtu = || {
        let inside = alpha.namespace.json("link show eth0")[0]["mtu"].clone();
        let outside = net.node.json("link show b-alpha")[0]["mtu"].clone();
        assert_eq!(inside, outside);
        inside.as_u64().unwrap()
    };
    assert_eq!(mtu(), 1500);
    for on in FAMILIES {
        let (vip, [near, far]) = (on.vips[0], on.clients);
        let spec = alpha.spec(vip);
        net.start(&alpha, &spec).unwrap();
        assert_eq!(mtu(), 9000);
        let ping = |from: &Namespace, size: u32, to: &str| {
            let line = format!("ping -n -M do -s {size} -c 3 -i 0.05 -w 2 {to}");
            let out = from.run(&line);
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        assert!(ping(&net.client_a, 8000, vip).contains("bytes from"));
        assert!(ping(&alpha.namespace, 8000, near).contains("bytes from"));
        // The other subnet's port carries less, and the node says so.
        let said = ping(&alpha.namespace, 8000, far);
        assert!(!said.contains("bytes from"), "{said}");
        let learned = alpha.namespace.sh(&format!("ip route get {far}"));
        assert!(learned.contains("mtu 1500"), "{learned} {said}");
        // What changes while it runs is followed.
        net.node.ip("link set a0 mtu 4000");
        assert_eq!(net.monitor(&alpha, &spec), State::Running);
        assert_eq!(mtu(), 4000);
        net.node.ip("link set a0 mtu 9000");
        assert_eq!(net.monitor(&alpha, &spec), State::Running);
        assert_eq!(mtu(), 9000);
        net.stop(&alpha, &spec);
    }
}

#[test]
#[ignore = "needs root"]
fn a_link_local_gateway_leads_out_of_the_subnet_on_either_kind_of_port() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let (gateway, far) = ("fe80::1", "2001:db8:9::1");
    // The client plays the router, and has what is behind it.
    net.client_a
        .ip(&format!("addr add {gateway}/64 dev eth0 nodad"));
    net.client_a.ip(&format!("addr add {far}/128 dev lo nodad"));
    for spec in [alpha.spec(VIPS[1]), alpha.wide_spec(VIPS[1])] {
        assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
        assert!(is_silent(&alpha.namespace, far), "without a gateway");
        let spec = VipSpec {
            gateway: gateway.parse().ok(),
            ..spec
        };
        spec.check().unwrap();
        assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
        assert!(pings(&alpha.namespace, far), "by {gateway}");
        assert_eq!(net.monitor(&alpha, &spec), State::Running);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
    }
}
