//! Killed at any moment, the next stop cleans up and the next start works.

use std::time::{Duration, Instant};

use berth::cell::network;
use berth::types::VserverName;
use nix::sys::signal::Signal;

use crate::node::{Node, eventually, sh, signal};

/// The policy rules, of both families, that name the interface of the cell.
fn rules_of(vserver: &VserverName) -> Vec<String> {
    let link = format!(" iif {} ", network::outside(vserver));
    let rules = sh("ip rule; ip -6 rule");
    let own = rules.lines().filter(|rule| rule.contains(&link));
    own.map(str::to_owned).collect()
}

/// Delays before an agent is killed, spread over more than an action takes.
fn delays() -> impl Iterator<Item = Duration> {
    (0..12)
        .map(|n| Duration::from_micros(500 * (1 << n) / 2))
        .chain((1..24).map(|n| Duration::from_micros(1300 * n)))
}

#[test]
#[ignore = "needs root"]
fn an_agent_killed_in_its_start_or_stop_leaves_what_the_next_stop_clears() {
    let node = Node::new("kill");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    for delay in delays() {
        for action in ["start", "stop"] {
            if action == "stop" {
                fs.run("start").expect(0);
            }
            fs.start(action).kill_after(delay);
            fs.run("stop").expect(0);
            node.assert_gone(&vserver, &[&device]);
            fs.run("start").expect(0);
            fs.run("monitor").expect(0);
            fs.run("stop").expect(0);
            node.assert_gone(&vserver, &[&device]);
        }
    }
}

#[test]
#[ignore = "needs root"]
fn a_servers_agent_killed_in_its_start_or_stop_leaves_what_the_next_stop_clears() {
    let node = Node::new("vkill");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*");
    let servers = node.servers(&vserver, "nfs smb");
    fs.run("start").expect(0);
    for delay in [0, 2, 5, 10, 20, 35, 50, 70, 90, 120].map(Duration::from_millis) {
        for action in ["start", "stop"] {
            if action == "stop" {
                servers.run("start").expect(0);
            }
            servers.start(action).kill_after(delay);
            servers.run("stop").expect(0);
            servers.run("monitor").expect(7);
            servers.run("start").expect(0);
            servers.run("monitor").expect(0);
            servers.run("stop").expect(0);
        }
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_keeper_killed_while_it_starts_a_cell_is_replaced() {
    let node = Node::new("early");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    for delay in delays() {
        let start = fs.start("start");
        let begun = Instant::now();
        while begun.elapsed() < delay {
            std::hint::spin_loop();
        }
        for (pid, name) in node.processes(&vserver) {
            if name == "berth-keeper" {
                signal(pid, Signal::SIGKILL);
            }
        }
        // It may have been in time, or have to say what happened: but never hang.
        start.wait();
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        fs.run("start").expect(0);
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_killed_keeper_is_reported_by_its_sentinel_and_takes_the_cell_along() {
    let node = Node::new("keep");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    node.await_report(&format!("{vserver}-data"));
    fs.run("monitor").expect(7);
    // The kernel keeps them without the interface.
    assert_eq!(rules_of(&vserver).len(), 2);
    fs.run("stop").expect(0);
    assert_eq!(rules_of(&vserver), Vec::<String>::new());
    node.assert_gone(&vserver, &[&device]);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_killed_init_is_reported_by_the_keeper_for_every_member() {
    let node = Node::new("init");
    let vserver = node.vserver('a');
    let (one, other) = (node.disk("ext4"), node.disk("xfs"));
    let (home, data) = (
        node.fs(&vserver, &one, "/home2"),
        node.fs(&vserver, &other, "/data"),
    );
    home.run("start").expect(0);
    data.run("start").expect(0);
    signal(node.process(&vserver, "berth-init"), Signal::SIGKILL);
    node.await_report(&format!("{vserver}-home2"));
    node.await_report(&format!("{vserver}-data"));
    home.run("monitor").expect(1);
    // One after the other, as Pacemaker may do it: the first start builds a new cell.
    home.run("stop").expect(0);
    home.run("start").expect(0);
    home.run("monitor").expect(0);
    data.run("monitor").expect(1);
    data.run("stop").expect(0);
    data.run("start").expect(0);
    home.run("stop").expect(0);
    data.run("stop").expect(0);
    node.assert_gone(&vserver, &[&one, &other]);
}

#[test]
#[ignore = "needs root"]
fn a_killed_sentinel_is_replaced_and_the_cell_goes_on() {
    let node = Node::new("sentry");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let sentinel = node.process(&vserver, "berth-sentinel");
    signal(sentinel, Signal::SIGKILL);
    eventually("another sentinel", || {
        let all = node.processes(&vserver);
        all.iter()
            .any(|(pid, name)| name == "berth-sentinel" && *pid != sentinel)
    });
    fs.run("monitor").expect(0);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGKILL);
    node.await_report(&format!("{vserver}-data"));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_keeper_that_does_not_answer_is_no_obstacle_to_a_stop() {
    let node = Node::new("hang");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("CRM_meta_timeout", "16000");
    fs.run("start").expect(0);
    signal(node.process(&vserver, "berth-keeper"), Signal::SIGSTOP);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    fs.run("start").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
