//! What nodes say of themselves and of detours is wrong, or old.

use lab::portwatch::{self, NodeState};
use lab::protocol::Cable;
use lab::{holds, wait_for};

use super::common::detour::{LIMIT, States, degraded, lose, routers, wait_for_degraded};
use super::{RESOURCE, Stage, VIP};

/// During a detour: what was agreed on holds.
pub(crate) fn wrong_attributes_change_nothing(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let stream = stage.stream();
    let (router, third) = stage.detour();
    stream.wait_for_progress(LIMIT).unwrap();
    let nodes = lab.plan().node_names();
    let during = States::of(lab, &nodes);
    let number = third.trim_start_matches('n');
    let own = node.trim_start_matches('n');
    let attribute = format!("berth-router-{node}");
    let garbage = "/x".repeat(2000);
    for (i, claim) in [
        "alpha/10.1.0.50/lab/10.9.9.9",
        "alpha/10.1.0.50/nowhere/10.2.0.3",
        "../x/10.1.0.50/lab/10.2.0.3",
        "beta/10.1.0.50/lab/10.2.0.3",
        "alpha/10.1.0.50/lab/fd00:2::3",
        &format!("alpha/10.1.0.50/lab/10.2.0.{own}"),
        // Of an address that this node serves itself.
        &format!("alpha/10.2.0.50/lab/10.2.0.{number}"),
        &garbage,
    ]
    .iter()
    .enumerate()
    {
        // That this can't be followed is known when all has been read.
        let known = format!("10.1.0.{}", 70 + i);
        stage.set(
            &third,
            &attribute,
            &format!("{claim} alpha/{known}/nowhere/10.2.0.3"),
        );
        let (what, known) = (format!("{known} to be refused"), known.parse().unwrap());
        let refused = |state: &NodeState| state.refusal_of(&third, known).is_some();
        portwatch::wait_until(lab, node, &what, LIMIT, refused).unwrap();
        stream.wait_for_progress(LIMIT).unwrap();
        during.wait_for(lab);
    }
    // One that could be true, and is later than the router's, is believed for as long as it is there.
    let claim = format!("alpha/{VIP}/lab/10.2.0.{number}");
    stage.set(&third, &attribute, &claim);
    let (what, vip) = (format!("{third} to be followed"), VIP.parse().unwrap());
    let followed = |state: &NodeState| state.router_of(vip) == Some(&third);
    portwatch::wait_until(lab, node, &what, LIMIT, followed).unwrap();
    stage.delete(&third, &attribute);
    stream.wait_for_progress(LIMIT).unwrap();
    during.wait_for(lab);
    stage.set(&third, "berth-cell-alpha", "1");
    stream.wait_for_progress(LIMIT).unwrap();
    let says = format!("routing {VIP} for {node} over lab");
    wait_for_degraded(lab, node, &[(RESOURCE, &router, &says)]);
    during.wait_for(lab);
    stage.delete(&third, "berth-cell-alpha");
    stage.home(&[stream]);
}

/// Before a detour.
pub(crate) fn stale_attributes_are_got_over(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let stream = stage.stream();
    let nodes = lab.plan().node_names();
    let others: Vec<&String> = nodes.iter().filter(|n| *n != node).collect();
    // Two nodes say that they have the virtual server.
    stage.set(others[0], "berth-cell-alpha", "1");
    lose(lab, node, Cable::Pulled);
    wait_for("an address without a way", LIMIT, || {
        let all = degraded(lab, node);
        let known = |why: &str| why.contains("all say that they have it");
        holds(all.iter().any(|(.., why)| known(why)), format!("{all:?}"))
    })
    .unwrap();
    stage.delete(others[0], "berth-cell-alpha");
    routers(lab, node, &[VIP]);
    stream.wait_for_progress(LIMIT).unwrap();
    stage.home(&[]);
    stage.before.wait_for(lab);
    // One says that it routes, which does not.
    for other in &others {
        let number = other.trim_start_matches('n');
        let claim = format!("alpha/10.1.0.50/lab/10.2.0.{number}");
        let attribute = format!("berth-router-{node}");
        stage.set(other, &attribute, &claim);
        let (router, _) = stage.detour();
        stream.wait_for_progress(LIMIT).unwrap();
        let left_over = router != **other;
        if left_over {
            stage.delete(other, &attribute);
        }
        stage.home(&[]);
        stage.before.wait_for(lab);
        if left_over {
            break;
        }
    }
    assert_eq!(stream.take().broken, None);
}
