//! Whoever else answers for a VIP on the network: who keeps it from starting, and who does not.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use berth::ocf::State;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
    socket, sockopt,
};

use super::{NONE, VIPS, assert_served};
use crate::network::{Network, differences};

/// An address as a network of its own.
fn host_prefix(vip: &str) -> String {
    let length = if vip.contains(':') { 128 } else { 32 };
    format!("{vip}/{length}")
}

/// Has the client of subnet A answer for `vip`.
fn claim(net: &Network, vip: &str) {
    let address = host_prefix(vip);
    net.client_a
        .ip(&format!("addr add {address} dev eth0 nodad"));
}

fn withdraw(net: &Network, vip: &str) {
    let address = host_prefix(vip);
    net.client_a.ip(&format!("addr del {address} dev eth0"));
}

/// The Ethernet address of the client of subnet A.
fn claimant(net: &Network) -> String {
    let link = net.client_a.json("link show eth0");
    link[0]["address"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "needs root"]
fn a_duplicate_on_the_wire_is_found_and_nothing_is_changed() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let before = net.dump();
    let mac = claimant(&net);
    for vip in VIPS {
        claim(&net, vip);
        for spec in [alpha.spec(vip), alpha.wide_spec(vip)] {
            let error = net.start(&alpha, &spec).unwrap_err().to_string();
            assert!(error.contains(vip) && error.contains(&mac), "{error}");
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
    let mac = claimant(&net);
    for vip in VIPS {
        claim(&net, vip);
        let spec = alpha.spec(vip);
        let error = net.start(&alpha, &spec).unwrap_err().to_string();
        assert!(error.contains("the next start takes it"), "{error}");
        // Pacemaker stops it and, when it has forgotten the failure, starts it again.
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        let claimed = State::Degraded(format!(
            "{vip} is also claimed by {mac} on the network of a0"
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
        withdraw(&net, vip);
        assert_eq!(defend().unwrap(), State::Running);
        let over = net.service(vip, |s| s.note(&State::Running)).unwrap();
        assert!(over, "what the cluster shows is of the past");
        assert_served(&net, &alpha, vip);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        // Started while nobody answers, it can't be kept down by whoever comes back.
        assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        claim(&net, vip);
        assert_eq!(net.start(&alpha, &spec).unwrap(), claimed);
        // What the network can't be asked for now is no reason to fail.
        let cell = alpha.namespace.as_fd();
        let own = format!("{} dev lo", host_prefix(vip));
        net.node.ip(&format!("addr add {own} nodad"));
        let state = net.service(vip, |s| Ok(s.defend(cell, State::Running)));
        net.node.ip(&format!("addr del {own}"));
        assert_eq!(state.unwrap(), State::Running);
        assert_eq!(net.stop(&alpha, &spec), State::Stopped);
        withdraw(&net, vip);
    }
}

#[test]
#[ignore = "needs root"]
fn what_still_answers_for_a_node_of_the_cluster_refuses_no_start() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let mac = claimant(&net);
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let peers = serde_json::json!({ "n2": [bytes] }).to_string();
    std::fs::write(net.runtime.path().join("peers.json"), peers).unwrap();
    for vip in VIPS {
        claim(&net, vip);
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
