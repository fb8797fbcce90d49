//! Sudden ends of what makes a detour.

use std::thread;

use lab::protocol::Cable;

use super::common::detour::{LIMIT, failed, lose, routers};
use super::common::run;
use super::{Stage, VIP};

/// While the subnet is lost, on all nodes; and during the detour.
pub(crate) fn daemons_are_killed_in_the_middle(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let nodes = lab.plan().node_names();
    for (delay, again) in [("0", false), ("0.2", true)] {
        let stream = stage.stream();
        kill_meanwhile(
            stage,
            &format!("sleep {delay}; pkill -9 -x berth-portwatch; true"),
        );
        routers(lab, node, &[VIP]);
        stream.wait_for_progress(LIMIT).unwrap();
        for node in nodes.iter().filter(|_| again) {
            run(lab, node, "pkill -9 -x berth-portwatch; true");
        }
        stream.wait_for_progress(LIMIT).unwrap();
        stage.home(&[stream]);
        run(lab, node, "crm_resource --cleanup");
        stage.before.wait_for(lab);
    }
}

/// Those that start addresses while the subnet is lost. (A node on which one can't be stopped is
/// fenced.)
pub(crate) fn agents_are_killed_in_the_middle(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let kill = "for i in $(seq 150); do \
                pkill -9 -f '^/usr/lib/ocf/resource.d/berth/vip start'; sleep 0.01; done; true";
    let stream = stage.stream();
    kill_meanwhile(stage, kill);
    eprintln!("failed: {:?}", failed(lab, node));
    run(lab, node, "crm_resource --cleanup");
    stream.wait_for_progress(LIMIT).unwrap();
    stage.home(&[stream]);
    run(lab, node, "crm_resource --cleanup");
}

/// Runs a script on all nodes while the subnet is lost.
fn kill_meanwhile(stage: &Stage, script: &str) {
    let lab = &stage.lab;
    thread::scope(|scope| {
        for node in lab.plan().node_names() {
            scope.spawn(move || run(lab, &node, script));
        }
        lose(lab, &stage.node, Cable::Pulled);
    });
}
