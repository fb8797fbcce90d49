//! Which of a node's interfaces a VIP is served through.

use std::path::Path;

use berth::ocf::State;
use berth::plan::vip::record::VipSpec;
use lab::{holds, wait_for};

use super::{VIPS, assert_served};
use crate::namespace::{SmallRoom, with_own_mounts};
use crate::network::{Network, PATIENCE, pings, port};

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
    assert_served(&net, &alpha, "10.1.0.50");
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
fn an_interface_of_the_administrators_is_a_port_whatever_its_name() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    net.node.ip("link set a0 down");
    net.node.ip("link set a0 name b-lan");
    net.node.ip("link set b-lan up");
    net.node.sh("ip addr add 2001:db8:1::1/64 dev b-lan nodad");
    for vip in VIPS {
        assert_eq!(net.start(&alpha, &alpha.spec(vip)).unwrap(), State::Running);
        assert_served(&net, &alpha, vip);
    }
    for (port, why) in [
        ("b-alpha", "the interface of vserver alpha's cell"),
        ("lo", "a loopback interface"),
    ] {
        let spec = VipSpec {
            ports: Some(vec![port.parse().unwrap()]),
            ..alpha.spec("10.1.0.51")
        };
        let error = net.start(&alpha, &spec).unwrap_err().to_string();
        let says = format!("parameter ports: {port} leads to no client: it is {why}");
        assert_eq!(error, says);
    }
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
        assert_served(&net, &alpha, &spec.vip.to_string());
    }
    let on_a1 = VipSpec {
        ports: Some(vec![port("a1")]),
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
fn without_ipv6_in_the_kernel_ipv4_works_and_ipv6_says_why_not() {
    with_own_mounts(|| {
        let net = Network::new();
        let alpha = net.cell("alpha");
        // As far as files can tell.
        net.node
            .inside(|| SmallRoom::over(Path::new("/proc/sys/net/ipv6")));
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
