//! Parameters that were changed while the resource ran, and nobody stopped it: as in maintenance.

use nix::sys::signal::Signal;

use crate::node::{Node, sh, signal};

#[test]
#[ignore = "needs root"]
fn the_keeper_that_has_a_resource_is_asked_whatever_its_parameter_says_now() {
    let node = Node::new("move");
    let (vserver, other, device) = (node.vserver('a'), node.vserver('b'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    let changed = fs.clone().parameter("vserver", &other);
    for recorded in [true, false] {
        fs.run("start").expect(0);
        if !recorded {
            sh(&format!("rm /run/berth/device.d/{vserver}-data"));
        }
        changed.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        changed.run("monitor").expect(7);
    }
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/usr/bin/sleep 1000");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let changed = servers.clone().parameter("name", &other);
    // A probe that says that it does not run has it started on another node.
    let outcome = changed.run("monitor").expect(1);
    assert!(outcome.stderr.contains(&vserver), "{outcome}");
    changed.run("stop").expect(0);
    servers.run("monitor").expect(7);
    changed.run("monitor").expect(7);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_keeper_that_hangs_is_left_alone_where_another_one_has_the_resource() {
    let node = Node::new("named");
    let (vserver, other) = (node.vserver('a'), node.vserver('b'));
    let (one, two) = (node.disk("ext4"), node.disk("ext4"));
    let (fs, theirs) = (
        node.fs(&vserver, &one, "/data"),
        node.fs(&other, &two, "/data"),
    );
    fs.run("start").expect(0);
    theirs.run("start").expect(0);
    sh(&format!("rm /run/berth/device.d/{vserver}-data"));
    let hung = node.process(&other, "berth-keeper");
    signal(hung, Signal::SIGSTOP);
    fs.clone()
        .parameter("vserver", &other)
        .run("stop")
        .expect(0);
    signal(hung, Signal::SIGCONT);
    theirs.run("monitor").expect(0);
    theirs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one]);
    node.assert_gone(&other, &[&two]);
}

#[test]
#[ignore = "needs root"]
fn an_address_is_stopped_as_it_was_started_whatever_its_parameters_say_now() {
    let node = Node::new("addr");
    let (vserver, other, device) = (node.vserver('a'), node.vserver('b'), node.disk("ext4"));
    sh("ip link add a0 type veth peer name a1 && ip addr add 10.1.0.1/24 dev a0");
    sh("ip link set a0 up && ip link set a1 up");
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let vip = node.vip(&vserver, "10.1.0.50");
    for (name, value) in [("vserver", other.as_str()), ("ip", "10.1.0.51")] {
        vip.run("start").expect(0);
        let changed = vip.clone().parameter(name, value);
        let outcome = changed.run("monitor").expect(1);
        assert!(outcome.stderr.contains("10.1.0.50"), "{outcome}");
        changed.run("stop").expect(0);
        let left = sh("ip neigh show proxy; ip route show table all; ip rule");
        assert!(!left.contains("10.1.0.50"), "{name}: {left}");
        changed.run("monitor").expect(7);
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
