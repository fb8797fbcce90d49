//! What Pacemaker is told to do, and forgets, during a detour.

use std::time::Instant;

use lab::{Error, holds, status, wait_for};

use super::common::detour::{LIMIT, States, routers, wait_for_degraded};
use super::common::{difference, run};
use super::{RESOURCE, Stage, VIP};

/// It has the cluster probe what is degraded.
pub(crate) fn a_refresh_during_a_detour_leaves_no_complaint_behind(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let (router, _) = stage.detour();
    // What has begun would end after the refresh.
    status::settle(lab, node).unwrap();
    let script = format!("crm_resource --refresh --resource {RESOURCE} --node {router}");
    run(lab, node, &script);
    // A probe that has begun is on record with 193.
    let probe = format!(
        "cibadmin --query --xpath \"//node_state[@uname='{router}']//lrm_resource[@id='{RESOURCE}']\
         /lrm_rsc_op[@operation='monitor'][@interval='0'][@rc-code!='193']\" \
         | grep -o ' rc-code=\"[0-9]*\"' | sort -u"
    );
    let code = wait_for("the probe", LIMIT, || {
        let found = run(lab, node, &probe);
        holds(!found.is_empty(), Error::new("none")).map(|()| found)
    })
    .unwrap();
    assert_eq!(code.trim(), "rc-code=\"0\"");
    stage.home(&[]);
    wait_for_degraded(lab, node, &[]);
}

/// Pacemaker's daemon for attributes knows of none when it is started again; and who may administer the
/// cluster may delete one.
pub(crate) fn what_the_cluster_forgets_during_a_detour_is_told_again(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let stream = stage.stream();
    let (router, _) = stage.detour();
    stream.wait_for_progress(LIMIT).unwrap();
    status::settle(lab, node).unwrap();
    let during = States::all(lab);
    wait_for_good_ports(stage, 1);
    let (told, stops) = (attributes(stage), count_stops(stage));
    let kill = |victim: &str| {
        let script = "old=$(pgrep -x pacemaker-attrd); kill -9 $old; \
                      while [ \"$(pgrep -x pacemaker-attrd)\" = $old ]; do sleep 0.01; done";
        let begun = Instant::now();
        run(lab, victim, script);
        wait_until_told(stage, &told);
        let took = begun.elapsed().as_secs_f64();
        eprintln!("{victim}: told again after {took:.2} s");
        status::settle(lab, node).unwrap();
        stream.wait_for_progress(LIMIT).unwrap();
    };
    kill(node);
    for (victim, name) in [(node, "berth-net-office"), (&router, "berth-ports")] {
        stage.delete(victim, name);
        wait_until_told(stage, &told);
        stream.wait_for_progress(LIMIT).unwrap();
    }
    // One that is still known, only not on record.
    let forget = format!(
        "cibadmin --delete --xpath \"//node_state[@uname='{node}']//nvpair[@name='berth-addr-lab']\""
    );
    run(lab, node, &forget);
    wait_until_told(stage, &told);
    during.wait_for(lab);
    assert_eq!(count_stops(stage), stops);
    // For a moment nothing is known of this one, so that another one may be the better router.
    kill(&router);
    routers(lab, node, &[VIP]);
    stream.wait_for_progress(LIMIT).unwrap();
    stage.home(&[stream]);
}

/// The resources, and portwatch, live on meanwhile.
pub(crate) fn an_update_of_pacemaker_in_maintenance_moves_nothing(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let stream = stage.stream();
    wait_for_good_ports(stage, 3);
    // What was degraded is cleaned up, and the cluster has looked at it anew.
    wait_for_degraded(lab, node, &[]);
    status::settle(lab, node).unwrap();
    let (told, stops) = (attributes(stage), count_stops(stage));
    let other = stage.third(node);
    let maintenance = |on: bool| {
        run(
            lab,
            &other,
            &format!("crm_attribute -n maintenance-mode -v {on}"),
        );
        // Pacemaker may lose an action that it cancels for this, and waits for that up to its time and
        // cluster-delay, 60 s.
        let idle = (0..3).any(|_| status::settle(lab, &other).is_ok());
        assert!(idle, "the cluster is never idle");
    };
    maintenance(true);
    let restart = "pkill -x pacemakerd; while pgrep -x pacemakerd; do sleep 0.1; done > /dev/null; \
                   setsid pacemakerd > /dev/null 2>&1 &";
    run(lab, node, restart);
    lab.wait_for_cluster(&lab.plan().node_names()).unwrap();
    wait_until_told(stage, &told);
    maintenance(false);
    stream.wait_for_progress(LIMIT).unwrap();
    stage.before.wait_for(lab);
    wait_until_told(stage, &told);
    assert_eq!(count_stops(stage), stops);
    assert_eq!(stream.take().broken, None);
}

/// What the nodes have told the cluster, but for their load, and who routes.
fn attributes(stage: &Stage) -> String {
    let script = "cibadmin --query --xpath '//transient_attributes' \
         | grep -o 'id=\"status-[0-9]-berth-.*' | grep -v berth-spare | sort; \
         attrd_updater -n berth-cell-alpha -Q -A 2>&1 | sort; true";
    run(&stage.lab, &stage.node, script)
}

/// What is dampened is on record a moment later, and what another scene has broken elsewhere is good again
/// after a while. `number` are this node's.
#[track_caller]
fn wait_for_good_ports(stage: &Stage, number: u8) {
    for node in stage.lab.plan().node_names() {
        let number = if node == stage.node { number } else { 3 };
        let script = format!(
            "cibadmin --query --xpath \"//node_state[@uname='{node}']//nvpair[@name='berth-ports']\""
        );
        wait_for("the good ports to be on record", LIMIT, || {
            let seen = run(&stage.lab, &stage.node, &script);
            let is = seen.contains(&format!("value=\"{number}\""));
            holds(is, Error::new(seen))
        })
        .unwrap();
    }
}

#[track_caller]
fn wait_until_told(stage: &Stage, told: &str) {
    // Once a minute it is looked what is on record.
    wait_for("the attributes to be as they were", LIMIT * 2, || {
        let now = attributes(stage);
        holds(now == told, difference(told, &now))
    })
    .unwrap();
}

/// How often resources of alpha have been stopped, on all nodes.
fn count_stops(stage: &Stage) -> Vec<String> {
    let count = "grep -c 'stop operation for alpha' /var/log/pacemaker/pacemaker.log; true";
    let nodes = stage.lab.plan().node_names();
    nodes.iter().map(|n| run(&stage.lab, n, count)).collect()
}
