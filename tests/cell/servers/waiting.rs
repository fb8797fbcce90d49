//! Servers that wait for the repair of their home, and what the cluster is told when that is over.

use berth::types::VserverName;

use crate::common::AgentCall;
use crate::disk::mark_damaged;
use crate::node::{Node, eventually, monitor};

/// A virtual server whose servers were started while their home waits for its repair.
struct Waiting {
    vserver: VserverName,
    device: String,
    fs: AgentCall,
    servers: AgentCall,
}

impl Waiting {
    /// The repair takes this many seconds longer than it needs.
    fn new(node: &Node, services: &str, command: &str, seconds: f64) -> Self {
        let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
        mark_damaged(&device);
        node.slow_down("/usr/sbin/e2fsck", seconds);
        let fs = node.fs(&vserver, &device, "/data");
        let servers = node
            .servers(&vserver, services)
            .parameter("command", command);
        fs.run("start").expect(0);
        servers.run("start").expect(0);
        Self {
            vserver,
            device,
            fs,
            servers,
        }
    }

    /// Both are degraded when they are stopped.
    fn leave(&self) {
        for resource in [&self.fs, &self.servers] {
            monitor(resource).run("monitor").expect(190);
        }
        self.stop();
    }

    fn stop(&self) {
        self.servers.run("stop").expect(0);
        self.fs.run("stop").expect(0);
    }
}

/// What the cluster was told of a degraded resource does not outlast its stay on the node.
#[test]
#[ignore = "needs root"]
fn what_was_degraded_when_it_left_is_cleaned_up_and_nothing_waits_for_that() {
    let node = Node::new("left");
    let waiting = Waiting::new(&node, "none", "/bin/sleep 600", 60.0);
    let vserver = &waiting.vserver;
    waiting.leave();
    eventually("the keeper has ended", || {
        let left = node.processes(vserver);
        left.iter().all(|(_, name)| name == "berth-clean-up")
    });
    eventually("the cluster was told that it is over", || {
        node.reports().len() >= 2
    });
    let mut reports = node.reports();
    reports.sort();
    let wanted =
        [vserver.to_string(), format!("{vserver}-data")].map(|r| format!("--cleanup -r {r} -N n1"));
    assert_eq!(reports, wanted);
    eventually("nothing is left", || node.processes(vserver).is_empty());
    node.assert_gone(vserver, &[&waiting.device]);
}

/// To clean up would have the cluster forget a start that has failed meanwhile, and try it again.
#[test]
#[ignore = "needs root"]
fn what_was_degraded_when_it_left_and_could_not_start_again_is_not_cleaned_up() {
    let node = Node::new("again");
    let fail_count = format!("fail-count-{}#start_0", node.vserver('a'));
    node.set_attribute(&fail_count, "INFINITY");
    let waiting = Waiting::new(&node, "none", "/bin/sleep 600", 60.0);
    let vserver = &waiting.vserver;
    waiting.leave();
    eventually("nothing is left", || node.processes(vserver).is_empty());
    let of_file_system = format!("--cleanup -r {vserver}-data -N n1");
    assert_eq!(node.reports(), [of_file_system]);
    node.assert_gone(vserver, &[&waiting.device]);
}

#[test]
#[ignore = "needs root"]
fn servers_whose_home_is_being_repaired_start_after_it_and_never_count_as_failed() {
    let node = Node::new("after");
    let waiting = Waiting::new(&node, "smb", "/bin/sleep 600", 0.3);
    let (vserver, servers) = (&waiting.vserver, &waiting.servers);
    let monitor = monitor(servers);
    let outcome = monitor.run("monitor").expect(190);
    assert!(outcome.stderr.contains("waiting for home"), "{outcome}");
    eventually("the servers run", || match monitor.run("monitor") {
        outcome if outcome.code == Some(0) => true,
        outcome => {
            outcome.expect(190);
            false
        }
    });
    // The cluster shows what was degraded until it is told otherwise.
    eventually("the cluster was told that it is over", || {
        !node.reports().is_empty()
    });
    assert_eq!(node.reports(), [format!("--cleanup -r {vserver} -N n1")]);
    waiting.stop();
    node.assert_gone(vserver, &[&waiting.device]);
}

#[test]
#[ignore = "needs root"]
fn servers_that_do_not_start_after_their_home_was_repaired_are_reported() {
    let node = Node::new("late");
    let waiting = Waiting::new(&node, "none", "/bin/false", 0.3);
    let (vserver, servers) = (&waiting.vserver, &waiting.servers);
    node.await_report(vserver);
    let outcome = servers.run("monitor").expect(1);
    assert!(outcome.stderr.contains("command 1 ended"), "{outcome}");
    waiting.stop();
    node.assert_gone(vserver, &[&waiting.device]);
}
