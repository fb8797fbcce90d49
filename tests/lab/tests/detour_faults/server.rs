//! What becomes of the virtual server itself.

use std::collections::BTreeSet;

use lab::protocol::Cable;
use lab::stage::Spent;
use lab::{holds, ports, scene, wait_for};

use super::common::detour::{LIMIT, OFFICE, failed, lose, routers, wait_for_degraded};
use super::common::run;
use super::{OTHER, RESOURCE, Stage, VIP, config, server};

pub(crate) fn without_a_way_the_address_stays_with_its_server(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let nodes = lab.plan().node_names();
    let others: Vec<&String> = nodes.iter().filter(|n| *n != node).collect();
    for other in &others {
        lab.set_cable(other, "eth3", Cable::Dead).unwrap();
    }
    for other in &others {
        ports::wait_usable(lab, other, &["eth3"], false, LIMIT).unwrap();
    }
    lose(lab, node, Cable::Pulled);
    let nopath = |node: &str| {
        let script = format!("attrd_updater -Q -n berth-nopath-alpha -N {node}; true");
        run(lab, &stage.node, &script).contains("value=\"1\"")
    };
    for other in &others {
        wait_for("no way to be known", LIMIT, || holds(nopath(other), "none")).unwrap();
    }
    scene::wait_on(lab, node, RESOURCE, node).unwrap();
    assert_eq!(failed(lab, node), BTreeSet::new());
    for other in &others {
        lab.set_cable(other, "eth3", Cable::Good).unwrap();
    }
    for other in &others {
        wait_for("a way to be known", LIMIT, || holds(!nopath(other), "none")).unwrap();
    }
    routers(lab, node, &[VIP]);
    stage.home(&[]);
    wait_for_degraded(lab, node, &[]);
}

/// At last none is left for clients to come by.
pub(crate) fn ports_lost_one_after_another_move_the_server(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let stream = stage.stream();
    for port in ["eth1", "eth2"] {
        lab.set_cable(node, port, Cable::Pulled).unwrap();
        stream.wait_for_progress(LIMIT).unwrap();
    }
    drop(stream);
    lab.set_cable(node, "eth3", Cable::Pulled).unwrap();
    let target = wait_for("alpha on another node", LIMIT, || {
        let seen = scene::node_of(lab, node, "alpha")?;
        holds(seen != node, lab::Error::new("still there")).map(|()| seen)
    })
    .unwrap();
    for (vip, resource) in [(VIP, RESOURCE), (OTHER, "alpha-ip2")] {
        scene::wait_on(lab, node, resource, &target).unwrap();
        wait_for("its addresses beside it", LIMIT, || {
            ports::port_of(lab, &target, vip)
        })
        .unwrap();
    }
    run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
    assert_eq!(failed(lab, node), BTreeSet::new());
    for port in ["eth1", "eth2", "eth3"] {
        lab.set_cable(node, port, Cable::Good).unwrap();
    }
    ports::wait_usable(lab, node, &["eth1", "eth2", "eth3"], true, LIMIT).unwrap();
    stage.move_back();
    wait_for_degraded(lab, node, &[]);
}

/// To a node that has its subnet, be it the router or not: the detour is over.
pub(crate) fn the_server_is_moved(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    for to_router in [true, false] {
        let (router, third) = stage.detour();
        let target = if to_router { router } else { third };
        stage.move_to(&target);
        wait_for("the address beside its server", LIMIT, || {
            ports::port_of(lab, &target, VIP)
        })
        .unwrap();
        run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
        for port in OFFICE {
            lab.set_cable(node, port, Cable::Good).unwrap();
        }
        ports::wait_usable(lab, node, &OFFICE, true, LIMIT).unwrap();
        stage.move_back();
        wait_for_degraded(lab, node, &[]);
        stage.before.wait_for(lab);
    }
}

pub(crate) fn the_server_goes_with_an_address_that_is_to_migrate(stage: &Stage) {
    let (lab, node) = (&stage.lab, stage.node.as_str());
    let migrate = server().replace(
        "\"10.1.0.50\"",
        "{ ip = \"10.1.0.50\", on_subnet_loss = \"migrate\" }",
    );
    scene::apply(lab, &config(lab, &migrate)).unwrap();
    lose(lab, node, Cable::Pulled);
    let target = wait_for("alpha on another node", LIMIT, || {
        let seen = scene::node_of(lab, node, "alpha")?;
        holds(seen != node, lab::Error::new("still there")).map(|()| seen)
    })
    .unwrap();
    for vip in [VIP, OTHER] {
        wait_for("its addresses beside it", LIMIT, || {
            ports::port_of(lab, &target, vip)
        })
        .unwrap();
    }
    run(lab, "c1", &format!("ping -n -c 1 -w 60 {VIP}"));
    for port in OFFICE {
        lab.set_cable(node, port, Cable::Good).unwrap();
    }
    ports::wait_usable(lab, node, &OFFICE, true, LIMIT).unwrap();
    scene::apply(lab, &config(lab, &server())).unwrap();
    stage.move_back();
}

pub(crate) fn nothing_is_left_of_one_that_is_stopped(stage: &Stage) -> Spent {
    let script = "crm_resource --meta -r alpha -p target-role -v Stopped; crm_resource --wait";
    run(&stage.lab, &stage.node, script);
    stage.pristine.wait_for(&stage.lab);
    Spent
}
