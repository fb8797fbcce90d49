//! What the cluster was told of a degraded resource does not outlast its stay on the node.

use crate::node::{Node, eventually, sh};

#[test]
#[ignore = "needs root"]
fn what_was_degraded_when_it_left_is_cleaned_up_and_nothing_waits_for_that() {
    let node = Node::new("left");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh(&format!("debugfs -w -R 'set_super_value state 2' {device}"));
    node.slow_down("/usr/sbin/e2fsck", 60.0);
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", "/bin/sleep 600");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    for resource in [&fs, &servers] {
        let monitor = resource.clone().parameter("CRM_meta_interval", "10000");
        monitor.run("monitor").expect(190);
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    eventually("the keeper has ended", || {
        let left = node.processes(&vserver);
        left.iter().all(|(_, name)| name == "berth-clean-up")
    });
    eventually("the cluster was told that it is over", || {
        node.reports().len() >= 2
    });
    let mut reports = node.reports();
    reports.sort();
    let wanted = [&vserver, &format!("{vserver}-data")].map(|r| format!("--cleanup -r {r} -N n1"));
    assert_eq!(reports, wanted);
    eventually("nothing is left", || node.processes(&vserver).is_empty());
    node.assert_gone(&vserver, &[&device]);
}
