//! VIPs in namespaces of their own: a node, its clients, cells; checked with other programs' eyes.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use berth::ocf::State;
use berth::plan::vip::record::VipSpec;
use lab::{holds, wait_for};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
    socket, sockopt,
};

use crate::namespace::{Namespace, SmallRoom, with_own_mounts};
use crate::network::{Network, PATIENCE, call, differences, is_shut, is_silent, pings, serve};

const VIPS: [&str; 2] = ["10.1.0.50", "2001:db8:1::50"];

/// No difference.
const NONE: (Vec<String>, Vec<String>) = (vec![], vec![]);

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
fn stopping_leaves_the_node_as_it_was() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let wishes: Vec<_> = VIPS.iter().map(|vip| alpha.wide_spec(vip)).collect();
    for _ in 0..2 {
        for spec in &wishes {
            for _ in 0..2 {
                assert_eq!(net.start(&alpha, spec).unwrap(), State::Running);
            }
        }
        for spec in &wishes {
            assert_eq!(net.stop(&alpha, spec), State::Stopped);
        }
        assert_eq!(differences(&net.dump(), &before), NONE);
    }
    let left: Vec<_> = std::fs::read_dir(net.runtime.path()).unwrap().collect();
    assert_eq!(
        left.len(),
        3,
        "the lock, the spare file and the empty directory: {left:?}"
    );
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
    for (vip, foreign, there, via, back, length) in [
        (
            "10.1.0.50",
            "10.1.0.99",
            "10.2.0.10",
            "10.1.0.1",
            "10.2.0.1",
            32,
        ),
        (
            "2001:db8:1::50",
            "2001:db8:1::99",
            "2001:db8:2::10",
            "2001:db8:1::1",
            "2001:db8:2::1",
            128,
        ),
    ] {
        net.start(&alpha, &alpha.spec(vip)).unwrap();
        net.client_a
            .ip(&format!("route add {there}/{length} via {via}"));
        let (family, subnet) = if length == 32 {
            ("-4", "10.1.0.0/24")
        } else {
            ("-6", "2001:db8:1::/64")
        };
        net.client_c
            .ip(&format!("{family} route add {subnet} via {back}"));
        assert!(is_silent(&net.client_a, there), "{there} through the node");
        // Its own VIP reaches the other subnet's client by the node's routes, if that is a port.
        alpha
            .namespace
            .ip(&format!("addr add {foreign}/{length} dev eth0 nodad"));
        let me = if length == 32 {
            "10.1.0.10"
        } else {
            "2001:db8:1::10"
        };
        assert!(pings(&alpha.namespace, me));
        let spoof = alpha
            .namespace
            .run(&format!("ping -n -c 2 -i 0.05 -w 1 -I {foreign} {me}"));
        assert!(!spoof.status.success(), "from {foreign}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_duplicate_on_the_wire_is_found_and_nothing_is_changed() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let mac = net.client_a.json("link show eth0")[0]["address"].clone();
    for vip in VIPS {
        let length = if vip.contains(':') { 128 } else { 32 };
        net.client_a
            .ip(&format!("addr add {vip}/{length} dev eth0 nodad"));
        for spec in [alpha.spec(vip), alpha.wide_spec(vip)] {
            let error = net.start(&alpha, &spec).unwrap_err().to_string();
            assert!(
                error.contains(vip) && error.contains(mac.as_str().unwrap()),
                "{error}"
            );
            std::fs::remove_file(net.runtime.path().join("vip.claims")).unwrap();
        }
        assert_eq!(differences(&net.dump(), &before), NONE);
    }
}

#[test]
#[ignore = "needs root"]
fn a_stranger_on_the_wire_does_not_keep_an_address_down_for_ever() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let mac = net.client_a.json("link show eth0")[0]["address"].clone();
    for vip in VIPS {
        let length = if vip.contains(':') { 128 } else { 32 };
        let theirs = format!("{vip}/{length} dev eth0");
        net.client_a.ip(&format!("addr add {theirs} nodad"));
        let spec = alpha.spec(vip);
        let error = net.start(&alpha, &spec).unwrap_err().to_string();
        assert!(error.contains("the next start takes it"), "{error}");
        // Pacemaker stops it and, when it has forgotten the failure, starts it again.
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        let claimed = State::Degraded(format!(
            "{vip} is also claimed by {} on the network of a0",
            mac.as_str().unwrap()
        ));
        assert_eq!(net.start(&alpha, &spec).unwrap(), claimed);
        assert_eq!(net.start(&alpha, &spec).unwrap(), claimed);
        let defend = || {
            let cell = alpha.namespace.as_fd();
            net.service(vip, |s| {
                let state = s.monitor(&spec, Some(cell), &|_| ())?;
                Ok(s.defend(cell, state))
            })
        };
        assert_eq!(defend().unwrap(), claimed);
        net.service(vip, |s| s.note(&claimed)).unwrap();
        net.client_a.ip(&format!("addr del {theirs}"));
        assert_eq!(defend().unwrap(), State::Running);
        let over = net.service(vip, |s| s.note(&State::Running)).unwrap();
        assert!(over, "what the cluster shows is of the past");
        serve(&alpha.namespace, vip, 2049, "alpha", 1);
        assert_eq!(call(&net.client_a, vip, 2049).as_deref(), Some("alpha"));
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        // Started while nobody answers, it can't be kept down by whoever comes back.
        assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        net.client_a.ip(&format!("addr add {theirs} nodad"));
        assert_eq!(net.start(&alpha, &spec).unwrap(), claimed);
        // What the network can't be asked for now is no reason to fail.
        let cell = alpha.namespace.as_fd();
        net.node
            .ip(&format!("addr add {vip}/{length} dev lo nodad"));
        let state = net.service(vip, |s| Ok(s.defend(cell, State::Running)));
        net.node.ip(&format!("addr del {vip}/{length} dev lo"));
        assert_eq!(state.unwrap(), State::Running);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        net.client_a.ip(&format!("addr del {theirs}"));
    }
}

#[test]
#[ignore = "needs root"]
fn what_still_answers_for_a_node_of_the_cluster_refuses_no_start() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let mac = net.client_a.json("link show eth0")[0]["address"].clone();
    let mac = mac.as_str().unwrap();
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let peers = serde_json::json!({ "n2": [bytes] }).to_string();
    std::fs::write(net.runtime.path().join("peers.json"), peers).unwrap();
    for vip in VIPS {
        let length = if vip.contains(':') { 128 } else { 32 };
        net.client_a
            .ip(&format!("addr add {vip}/{length} dev eth0 nodad"));
        let claimed = format!("{vip} is also claimed by {mac} on the network of a0");
        let state = net.start(&alpha, &alpha.spec(vip)).unwrap();
        assert_eq!(state, State::Degraded(claimed));
    }
}

#[test]
#[ignore = "needs root"]
fn an_advertisement_from_behind_a_router_is_no_claim() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let vip = "2001:db8:1::50";
    // From next door the same is one.
    for (hops, starts) in [(63, true), (255, false)] {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let client = &net.client_a;
        let flood = move || {
            let node: SocketAddrV6 = "[2001:db8:1::1]:0".parse().unwrap();
            let (socket, message) = (advertiser(hops), advertisement(vip));
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                let to = SockaddrIn6::from(node);
                sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty()).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(move || client.inside(flood));
            let started = net.start(&alpha, &alpha.spec(vip));
            assert_eq!(started.is_ok(), starts, "{started:?}");
            assert_eq!(net.stop(&alpha, &alpha.spec(vip)), State::Stopped);
            drop(stop);
        });
    }
}

/// A socket whose messages have this hop limit; the kernel fills in their checksums.
fn advertiser(hops: i32) -> OwnedFd {
    let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
    let protocol = SockProtocol::IcmpV6;
    let socket = socket(AddressFamily::Inet6, kind, flags, protocol).unwrap();
    setsockopt(&socket, sockopt::Ipv6Ttl, &hops).unwrap();
    socket
}

/// That somebody has this address.
fn advertisement(ip: &str) -> Vec<u8> {
    let ip: Ipv6Addr = ip.parse().unwrap();
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(ip.octets());
    message.extend([2, 1, 2, 0, 0, 0, 0, 9]);
    message
}

#[test]
#[ignore = "needs root"]
fn another_nodes_vip_is_found_although_only_proxied() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    // The client plays the other node.
    net.client_a.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding; echo 0 > /proc/sys/net/ipv4/neigh/eth0/proxy_delay");
    net.client_a.sh("ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip route add 10.1.0.50 dev v0");
    net.client_a.ip("neigh add proxy 10.1.0.50 dev eth0");
    let error = net.start(&alpha, &alpha.spec("10.1.0.50")).unwrap_err();
    assert!(error.to_string().contains("already in use"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn what_others_take_away_is_named_and_a_restart_mends_it() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let spec = alpha.wide_spec("10.1.0.50");
    for (sabotage, words) in [
        (
            "ip neigh del proxy 10.1.0.50 dev a1",
            "proxy entry 10.1.0.50 on a1 is missing",
        ),
        (
            "ip route del 10.1.0.50 table 190 metric 10",
            "route 10.1.0.50/32 dev b-alpha table 190 is missing",
        ),
        ("ip rule del pref 200", "rule 200 from 10.1.0.50"),
        (
            "nft delete element inet berth own4 '{ \"b-alpha\" . 10.1.0.50 }'",
            "nft element own b-alpha . 10.1.0.50 is missing",
        ),
        (
            "nft flush chain inet berth forward",
            "nftables table berth lacks rules",
        ),
        (
            "nft insert rule inet berth forward4 drop",
            "nftables table berth lacks rules",
        ),
        ("nft flush ruleset", "nftables table berth is missing"),
        (
            "echo 0 > /proc/sys/net/ipv4/conf/a1/forwarding",
            "setting ipv4/conf/a1/forwarding is 0, not 1",
        ),
    ] {
        assert_eq!(
            net.start(&alpha, &spec).unwrap(),
            State::Running,
            "{sabotage}"
        );
        // Whatever it may keep in mind for the next one.
        assert_eq!(net.monitor(&alpha, &spec), State::Running);
        net.node.sh(sabotage);
        match net.monitor(&alpha, &spec) {
            State::Failed(why) => assert!(why.contains(words), "{why}"),
            other => panic!("{sabotage}: {other:?}"),
        }
    }
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    alpha.namespace.ip("addr del 10.1.0.50/32 dev eth0");
    let reason = "address 10.1.0.50 in the cell is missing (and 1 more)".to_owned();
    assert_eq!(net.monitor(&alpha, &spec), State::Failed(reason));
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    net.node
        .sh("nft flush ruleset; ip rule del pref 100; echo 0 > /proc/sys/net/ipv4/ip_forward");
    net.stop(&alpha, &spec);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn a_port_without_carrier_is_left_for_one_that_has_it() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let spec = alpha.wide_spec("10.1.0.50");
    net.start(&alpha, &spec).unwrap();
    net.switch.ip("link set p1 down");
    wait_for_lost_carrier(&net, "a1");
    let better = State::Failed("port a1 has no carrier, but a0 has".into());
    assert_eq!(net.monitor(&alpha, &spec), better);
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    serve(&alpha.namespace, "10.1.0.50", 2049, "alpha", 1);
    assert_eq!(
        call(&net.client_a, "10.1.0.50", 2049).as_deref(),
        Some("alpha")
    );
    net.switch.ip("link set p0 down");
    wait_for_lost_carrier(&net, "a0");
    let waiting = State::Degraded("no port of 10.1.0.0/24 has carrier: a1, a0".into());
    assert_eq!(net.monitor(&alpha, &spec), waiting);
    assert_eq!(net.stop(&alpha, &spec), State::Stopped);
    // With no path at all it starts, and serves as soon as there is one, whoever asks for it then.
    assert_eq!(net.start(&alpha, &spec).unwrap(), waiting);
    net.client_a.ip("neigh flush dev eth0");
    net.switch.ip("link set p1 up");
    wait_for("the VIP to be reached", PATIENCE, || {
        holds(pings(&net.client_a, "10.1.0.50"), "no answer")
    })
    .unwrap();
}

fn wait_for_lost_carrier(net: &Network, port: &str) {
    wait_for(format_args!("{port} to lose its carrier"), PATIENCE, || {
        let seen = net.node.sh(&format!("ip link show {port}"));
        holds(seen.contains("NO-CARRIER"), seen)
    })
    .unwrap();
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
    for vip in VIPS {
        let spec = alpha.spec(vip);
        net.start(&alpha, &spec).unwrap();
        assert_eq!(mtu(), 9000);
        let (near, far) = match vip.contains(':') {
            true => ("2001:db8:1::10", "2001:db8:2::10"),
            false => ("10.1.0.10", "10.2.0.10"),
        };
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
fn an_interface_of_the_administrators_is_a_port_whatever_its_name() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    net.node.ip("link set a0 down");
    net.node.ip("link set a0 name b-lan");
    net.node.ip("link set b-lan up");
    net.node.sh("ip addr add 2001:db8:1::1/64 dev b-lan nodad");
    for vip in VIPS {
        assert_eq!(net.start(&alpha, &alpha.spec(vip)).unwrap(), State::Running);
        serve(&alpha.namespace, vip, 2049, "alpha", 1);
        assert_eq!(call(&net.client_a, vip, 2049).as_deref(), Some("alpha"));
    }
    for (port, why) in [
        ("b-alpha", "the interface of vserver alpha's cell"),
        ("lo", "a loopback interface"),
    ] {
        let spec = VipSpec {
            ports: Some(vec![port.into()]),
            ..alpha.spec("10.1.0.51")
        };
        let error = net.start(&alpha, &spec).unwrap_err().to_string();
        let says = format!("parameter ports: {port} leads to no client: it is {why}");
        assert_eq!(error, says);
    }
}

#[test]
#[ignore = "needs root"]
fn without_ipv6_in_the_kernel_ipv4_works_and_ipv6_says_why_not() {
    with_own_mounts(|| {
        let net = Network::new();
        let alpha = net.cell("alpha");
        // As far as files can tell.
        net.node
            .inside(|| SmallRoom::over(std::path::Path::new("/proc/sys/net/ipv6")));
        let (old, new) = (alpha.spec("10.1.0.50"), alpha.spec("2001:db8:1::50"));
        assert_eq!(net.start(&alpha, &old).unwrap(), State::Running);
        assert_eq!(net.monitor(&alpha, &old), State::Running);
        let error = net.start(&alpha, &new).unwrap_err().to_string();
        assert!(error.contains("this node's kernel has no IPv6"), "{error}");
        for spec in [&old, &new] {
            assert_eq!(net.stop(&alpha, spec), State::Stopped);
            assert_eq!(net.monitor(&alpha, spec), State::Stopped);
        }
    });
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

/// As firewalld makes it, with the port in a zone.
const FIREWALLD: &str = "table inet firewalld {
    chain forward_zones {
        ALLOW
        iifname \"a0\" goto public
    }
    chain public {
        jump public_allow
        reject with icmpx admin-prohibited
    }
    chain public_allow {
        oifname \"a0\" accept
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state vmap { invalid : drop }
        jump forward_zones
        reject with icmpx admin-prohibited
    }
}";
/// As Docker and ufw make it.
const DROPPING: &str = "table ip filter {
    chain USER {
        return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump USER
        oifname \"docker0\" ct state related,established accept
        ct state related,established accept
        iifname \"docker0\" oifname != \"docker0\" accept
        ip protocol icmp accept
        ALLOW
    }
}";

#[test]
#[ignore = "needs root"]
fn a_firewall_that_drops_what_is_forwarded_is_named_and_one_that_lets_it_through_is_not() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    for vip in VIPS {
        net.start(&alpha, &alpha.spec(vip)).unwrap();
        serve(&alpha.namespace, vip, 2049, "alpha", 100);
    }
    let dropping6 = DROPPING
        .replace("table ip ", "table ip6 ")
        .replace("ip protocol icmp", "meta l4proto ipv6-icmp");
    for (vip, ruleset, chain) in [
        (
            VIPS[0],
            FIREWALLD,
            "filter_FORWARD of nftables table inet firewalld",
        ),
        (
            VIPS[1],
            FIREWALLD,
            "filter_FORWARD of nftables table inet firewalld",
        ),
        (VIPS[0], DROPPING, "FORWARD of nftables table ip filter"),
        (VIPS[1], &dropping6, "FORWARD of nftables table ip6 filter"),
    ] {
        let spec = alpha.spec(vip);
        for (allow, open) in [
            ("", false),
            // One direction is not enough.
            ("oifname \"b-*\" accept", false),
            ("tcp dport 25 drop", false),
            ("oifname \"b-*\" accept; iifname \"b-*\" accept", true),
            ("ct state untracked accept", true),
            ("ct state { untracked, new } accept", true),
            (
                "tcp dport { 445, 2049 } accept; tcp sport { 445, 2049 } accept",
                true,
            ),
            (
                "iifname . oifname { \"a0\" . \"b-alpha\", \"b-alpha\" . \"a0\" } accept",
                true,
            ),
        ] {
            assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
            assert_eq!(net.monitor(&alpha, &spec), State::Running);
            let rules = ruleset.replace("ALLOW", allow);
            std::fs::write(net.runtime.path().join("rules"), &rules).unwrap();
            let file = net.runtime.path().join("rules").display().to_string();
            net.node.sh(&format!("nft -f {file}"));
            if open {
                assert!(call(&net.client_a, vip, 2049).is_some(), "{vip} {rules}");
            } else {
                assert!(is_shut(&net.client_a, vip, 2049), "{vip} {rules}");
            }
            let state = net.monitor(&alpha, &spec);
            let validated = net.service(vip, |s| s.validate(&spec));
            if open {
                assert_eq!(state, State::Running, "{rules}");
                validated.unwrap();
            } else {
                let why = format!("chain {chain} drops packets of {vip} between a0 and b-alpha");
                assert_eq!(state, State::Degraded(why.clone()), "{rules}");
                assert_eq!(validated.unwrap_err().to_string(), why);
                assert_eq!(net.start(&alpha, &spec).unwrap(), State::Degraded(why));
            }
            net.stop(&alpha, &spec);
            net.node.sh("nft flush ruleset");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_others_keep_in_large_sets_is_not_read_to_the_end() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let spec = alpha.spec("10.1.0.50");
    let block: Vec<String> = (0..20_000)
        .map(|n| format!("10.9.{}.{}", n / 250, n % 250))
        .collect();
    let names: Vec<String> = (0..5000).map(|n| format!("\"d{n}\"")).collect();
    let rules = format!(
        "table inet large {{
            set block {{ type ipv4_addr; elements = {{ {} }}; }}
            set names {{ type ifname; elements = {{ {}, \"a0\" }}; }}
            map leads {{ type ipv4_addr : verdict; elements = {{ 10.9.0.1 : drop }}; }}
            chain forward {{
                type filter hook forward priority 10; policy accept;
                ip saddr @block drop
                ip saddr vmap @leads
                iifname @names drop
            }}
        }}",
        block.join(", "),
        names.join(", ")
    );
    let file = net.runtime.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    net.node.sh(&format!("nft -f {}", file.display()));
    // It is dropped, but that is not looked for.
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    assert_eq!(net.monitor(&alpha, &spec), State::Running);
    net.service("10.1.0.50", |s| s.validate(&spec)).unwrap();
    net.node
        .sh("nft 'flush set inet large names; add element inet large names { \"a0\" }'");
    let state = net.monitor(&alpha, &spec);
    assert_eq!(
        state,
        State::Running,
        "what the map leads to may let it pass"
    );
    net.node.sh(
        "nft flush chain inet large forward; nft add rule inet large forward iifname @names drop",
    );
    let why = "chain forward of nftables table inet large drops packets of 10.1.0.50 between a0 and b-alpha";
    assert_eq!(net.monitor(&alpha, &spec), State::Degraded(why.into()));
}

#[test]
#[ignore = "needs root"]
fn a_port_on_which_ipv6_is_switched_off_is_left_out_for_ipv6() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    net.node
        .sh("echo 1 > /proc/sys/net/ipv6/conf/a1/disable_ipv6");
    let [v4, v6] = VIPS.map(|vip| alpha.wide_spec(vip));
    for spec in [&v4, &v6] {
        assert_eq!(net.start(&alpha, spec).unwrap(), State::Running);
        serve(&alpha.namespace, &spec.vip.to_string(), 2049, "alpha", 1);
        let at = spec.vip.to_string();
        assert_eq!(call(&net.client_a, &at, 2049).as_deref(), Some("alpha"));
    }
    let on_a1 = VipSpec {
        ports: Some(vec!["a1".into()]),
        ..alpha.wide_spec("2001:db8:1::51")
    };
    assert_eq!(
        net.start(&alpha, &on_a1).unwrap_err().to_string(),
        "parameter ports: IPv6 is switched off on a1 (net.ipv6.conf.a1.disable_ipv6)"
    );
    assert_eq!(net.stop(&alpha, &on_a1), State::Stopped);
}

#[test]
#[ignore = "needs root"]
fn a_vip_of_another_vserver_is_neither_taken_nor_stopped() {
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    let (first, second) = (alpha.spec("10.1.0.50"), beta.spec("10.1.0.50"));
    net.start(&alpha, &first).unwrap();
    let error = net.start(&beta, &second).unwrap_err().to_string();
    assert_eq!(
        error,
        "parameter ip: 10.1.0.50 is already in use by vserver alpha on this node"
    );
    // A resource of its own, of which nothing is on record.
    let (resource, cell) = ("10.1.0.50 of beta", Some(beta.namespace.as_fd()));
    let monitored = net.service(resource, |s| s.monitor(&second, cell, &|_| ()));
    assert_eq!(monitored.unwrap(), State::Stopped);
    let stopped = net.service(resource, |s| s.stop("beta", second.vip, cell));
    assert_eq!(stopped.unwrap(), State::Stopped);
    assert_eq!(net.monitor(&alpha, &first), State::Running);
    let error = net.start(&beta, &beta.spec("10.1.0.1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter ip: 10.1.0.1 is an address of this node's own interface a0"
    );
    let error = net.start(&beta, &beta.spec("10.9.0.1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "parameter ip: 10.9.0.1 is in no subnet of this node (10.1.0.0/24, 10.2.0.0/24)"
    );
}

#[test]
#[ignore = "needs root"]
fn stop_cleans_up_after_a_cell_that_is_gone() {
    let net = Network::new();
    let before = net.dump();
    let spec = {
        let alpha = net.cell("alpha");
        let spec = alpha.wide_spec("2001:db8:1::50");
        net.start(&alpha, &spec).unwrap();
        net.node.ip("link del b-alpha");
        spec
    };
    let state = net
        .service("x", |s| s.monitor(&spec, None, &|_| ()))
        .unwrap();
    let reason = "vserver alpha's cell does not run on this node".to_owned();
    assert_eq!(state, State::Failed(reason));
    let state = net
        .service("x", |s| s.stop("alpha", spec.vip, None))
        .unwrap();
    assert_eq!(state, State::Stopped);
    let state = net
        .service("x", |s| s.monitor(&spec, None, &|_| ()))
        .unwrap();
    assert_eq!(state, State::Stopped);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn vips_that_start_and_stop_at_the_same_moment_do_not_disturb_each_other() {
    let net = Network::new();
    let (alpha, beta) = (net.cell("alpha"), net.cell("beta"));
    let before = net.dump();
    let cells = [&alpha, &beta];
    let all: Vec<_> = (50..58)
        .map(|n| {
            let cell = cells[n % 2];
            let vip = [format!("10.1.0.{n}"), format!("2001:db8:1::{n}")][n / 2 % 2].clone();
            (cell, cell.wide_spec(&vip))
        })
        .collect();
    std::thread::scope(|scope| {
        for (cell, spec) in &all {
            scope.spawn(|| assert_eq!(net.start(cell, spec).unwrap(), State::Running));
        }
    });
    for (cell, spec) in &all {
        assert_eq!(net.monitor(cell, spec), State::Running);
        assert!(pings(&net.client_a, &spec.vip.to_string()));
    }
    std::thread::scope(|scope| {
        for (cell, spec) in &all[1..] {
            scope.spawn(|| assert_eq!(net.stop(cell, spec), State::Stopped));
        }
    });
    let (cell, spec) = &all[0];
    assert_eq!(net.monitor(cell, spec), State::Running);
    assert!(pings(&net.client_a, &spec.vip.to_string()));
    net.stop(cell, spec);
    assert_eq!(differences(&net.dump(), &before), NONE);
}

#[test]
#[ignore = "needs root"]
fn a_full_runtime_directory_fails_neither_start_nor_stop() {
    with_own_mounts(|| {
        let net = Network::new();
        let alpha = net.cell("alpha");
        let before = net.dump();
        let room = SmallRoom::over(net.runtime.path());
        for vip in VIPS {
            let spec = alpha.wide_spec(vip);
            // Full when it stops: the record takes its spare room.
            net.start(&alpha, &spec).unwrap();
            room.fill();
            assert_eq!(net.monitor(&alpha, &spec), State::Running);
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
            assert_eq!(differences(&net.dump(), &before), NONE);
            room.free();
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_address_started_without_room_for_its_record_is_served_and_says_so() {
    with_own_mounts(|| {
        for vip in VIPS {
            let net = Network::new();
            let alpha = net.cell("alpha");
            let spec = alpha.wide_spec(vip);
            let room = SmallRoom::over(net.runtime.path());
            room.fill();
            let put_on_record =
                |state| net.service(vip, |s| s.put_on_record(&spec, state)).unwrap();
            let degraded = |state: State| match state {
                State::Degraded(why) => {
                    let says =
                        format!("{vip} is served, but stays on its port if that fails: write ");
                    assert!(why.starts_with(&says), "{why}");
                    assert!(why.contains("No space left on device"), "{why}");
                }
                other => panic!("{other:?}"),
            };
            degraded(net.start(&alpha, &spec).unwrap());
            degraded(put_on_record(net.monitor(&alpha, &spec)));
            serve(&alpha.namespace, vip, 2049, "alpha", 1);
            assert_eq!(call(&net.client_a, vip, 2049).as_deref(), Some("alpha"));
            // That the port forwarded nothing before is told by the filter.
            let forwards = |port: &str| {
                let key = match vip.contains(':') {
                    true => format!("/proc/sys/net/ipv6/conf/{port}/force_forwarding"),
                    false => format!("/proc/sys/net/ipv4/conf/{port}/forwarding"),
                };
                net.node.sh(&format!("cat {key}")).trim() == "1"
            };
            assert!(forwards("a1"));
            degraded(net.start(&alpha, &spec).unwrap());
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
            assert!(!forwards("a0") && !forwards("a1"));
            // With room again it goes on record by itself.
            degraded(net.start(&alpha, &spec).unwrap());
            room.free();
            let state = put_on_record(net.monitor(&alpha, &spec));
            assert_eq!(state, State::Running);
            let cleaned = net.service(vip, |s| s.note(&State::Running)).unwrap();
            assert!(cleaned, "what the cluster shows is of the past");
            assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        }
    });
}

#[test]
#[ignore = "needs root"]
fn settings_of_which_nothing_is_known_any_more_count_as_berths() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let settings = net.runtime.path().join("vip.settings");
    let no_ways = "nft flush ruleset; \
        for option in -4 -6; do ip $option route flush table all proto 190; \
        ip $option neigh show proxy | while read ip dev port rest; do ip neigh del proxy $ip dev $port; done; done";
    for (vip, switch, set) in [
        (VIPS[0], "ipv4/conf/a1/forwarding", "shut4"),
        (VIPS[1], "ipv6/conf/a1/force_forwarding", "shut6"),
    ] {
        let (spec, switch) = (alpha.wide_spec(vip), format!("cat /proc/sys/net/{switch}"));
        for flush in ["true", "nft flush ruleset", no_ways] {
            for lose in ["{", ""] {
                net.start(&alpha, &spec).unwrap();
                match lose {
                    "" => std::fs::remove_file(&settings).unwrap(),
                    text => std::fs::write(&settings, text).unwrap(),
                }
                net.node.sh(flush);
                // The node's own traffic passes no port that berth opened.
                net.start(&alpha, &spec).unwrap();
                let shut = net.node.sh(&format!("nft list set inet berth {set}"));
                assert!(shut.contains("\"a1\""), "{lose} {flush}: {shut}");
                assert_eq!(net.node.sh(&switch).trim(), "1");
                assert_eq!(net.stop(&alpha, &spec), State::Stopped);
                assert_eq!(net.node.sh(&switch).trim(), "0", "{lose} {flush}");
            }
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_monitor_costs_little() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let wishes: Vec<_> = VIPS.iter().map(|vip| alpha.wide_spec(vip)).collect();
    for spec in &wishes {
        net.start(&alpha, spec).unwrap();
    }
    let rounds = 100;
    let spent = net
        .service("x", |service| {
            let begun = processor_time();
            for _ in 0..rounds {
                let cell = Some(alpha.namespace.as_fd());
                assert_eq!(service.monitor(&wishes[0], cell, &|_| ())?, State::Running);
            }
            Ok(processor_time() - begun)
        })
        .unwrap();
    let each = spent / rounds;
    println!("a monitor without its process: {each:?} of processor time");
    // The aim is 2 ms for the whole process of a release build.
    assert!(each < Duration::from_millis(4), "{each:?}");
}

/// What this thread has spent, in user mode and in the kernel.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).unwrap().into()
}
