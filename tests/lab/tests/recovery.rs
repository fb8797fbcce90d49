//! Parts of a virtual server killed in the running cluster, its planned moves, and its end.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use common::{loop_number, processes, run};
use lab::worker::{Worker, at_work, counts, wait_for_work};
use lab::{Error, Lab, Result, holds, scene, stage, status, wait_for};

const SOON: Duration = Duration::from_secs(30);

/// Acknowledgements that show a client to be at work.
const SOME: u64 = 10;
/// No monitor comes in time: what is noticed was reported.
const NO_MONITORS: &str = "cibadmin --query --scope resources \
    | sed 's/interval=\"10s\"/interval=\"3600s\"/; s/interval=\"60s\"/interval=\"3700s\"/' \
    | cibadmin --replace --scope resources --xml-pipe && \
    ! cibadmin --query --scope resources | grep 'interval=\"[1-9][0-9]\\?s\"'";
/// Everything on a node that berth has to do with.
const STATE: &str = "\
    ip -brief link | sed 's/@.*//; s/ .*//'; ip -brief address | sed 's/@[^ ]*//'; \
    ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; \
    ip neigh show proxy; ip -6 neigh show proxy; nft list ruleset; \
    sysctl -a 2>/dev/null | grep -E '^net[.]ipv[46][.](conf|neigh|ip_forward)'; \
    grep -E 'loop|berth ' /proc/self/mountinfo; \
    ps -e -o args= | grep -E '[b]erth-keeper|[g]anesha|[s]mbd|[b]erth exec'; true";

#[test]
#[ignore = "needs root"]
fn what_is_killed_comes_back_at_once_what_is_moved_is_whole_and_what_is_stopped_is_gone() {
    let lab = stage::up("recovery", 3).unwrap();
    let nodes = lab.plan().node_names();
    let states = |lab: &Lab| -> Vec<String> { nodes.iter().map(|n| run(lab, n, STATE)).collect() };
    let before = states(&lab);
    let node = scene::serve(&lab, &[&common::alpha(), &common::beta()]).unwrap();
    run(&lab, &node, NO_MONITORS);
    let workers = [
        Worker::nfs("c1", "10.1.0.50", "/data").unwrap(),
        Worker::nfs("c2", "10.2.0.50", "/home").unwrap(),
        Worker::smb("c1", "10.1.0.50", "data").unwrap(),
    ];
    let beta = processes(&lab, &node, "beta");
    let ((), reports) = at_work(&lab, &workers, || {
        wait_for_work(&workers, &[0; 3], SOME, || {})?;
        for part in ["ganesha.nfsd", "smbd", "berth-init", "berth-keeper"] {
            kill(&lab, &node, part, &workers)?;
        }
        assert_eq!(processes(&lab, &node, "beta"), beta, "beta was touched");
        for target in ["n2", &node] {
            move_to(&lab, target)?;
            wait_for_work(&workers, &counts(&workers), SOME, || {})?;
        }
        Ok(())
    })
    .unwrap();
    for (worker, report) in workers.iter().zip(&reports) {
        let target = worker.target();
        assert_eq!(report.error, None, "{target}");
        assert_eq!(worker.lost(&lab, report).unwrap(), 0, "{target}");
    }
    assert_eq!(processes(&lab, &node, "beta"), beta, "beta was touched");

    stop_all(&lab, &node);
    for ((node, before), after) in nodes.iter().zip(before).zip(states(&lab)) {
        assert!(
            before == after,
            "{node} before:\n{before}\nand after:\n{after}"
        );
        for disk in ["d1", "d2", "d3"] {
            let device = format!("/dev/loop{}", loop_number(&lab, node, disk));
            let mut options = OpenOptions::new();
            let claim = options.read(true).custom_flags(libc::O_EXCL).open(&device);
            assert!(claim.is_ok(), "{disk} of {node}: {claim:?}");
        }
    }
    lab.down().unwrap();
}

/// Kills a part of alpha; returns when there is another one and all clients write again.
fn kill(lab: &Lab, node: &str, part: &str, workers: &[Worker]) -> Result<()> {
    let find = || {
        let all = processes(lab, node, "alpha");
        let found = all.into_iter().find(|(name, _)| name == part);
        found.ok_or_else(|| Error::new(format!("no {part}")))
    };
    let (_, killed) = find()?;
    run(lab, node, &format!("kill -9 {killed}"));
    wait_for(format!("another {part}"), SOON, || {
        let (_, pid) = find()?;
        holds(pid != killed, Error::new("still the old one"))
    })?;
    for resource in ["alpha-home", "alpha-data", "alpha", "alpha-ip3"] {
        scene::wait_on(lab, node, resource, node)?;
    }
    wait_for_work(workers, &counts(workers), SOME, || {})
}

/// Moves alpha, as an administrator does, and waits until nothing of it is left elsewhere.
fn move_to(lab: &Lab, target: &str) -> Result<()> {
    let from = scene::node_of(lab, target, "alpha")?;
    let words = ["crm_resource", "--move", "-r", "alpha", "-N", target];
    lab.exec(target, &words)?.check("crm_resource --move")?;
    for resource in ["alpha", "alpha-ip1", "alpha-ip2", "alpha-ip3", "alpha-data"] {
        scene::wait_on(lab, target, resource, target)?;
    }
    let words = ["crm_resource", "--clear", "-r", "alpha"];
    lab.exec(target, &words)?.check("crm_resource --clear")?;
    assert_eq!(processes(lab, &from, "alpha"), []);
    let state = run(lab, &from, STATE);
    for left in ["b-alpha", "10.1.0.50", "10.2.0.50", "fd00:1::50"] {
        assert!(!state.contains(left), "{left} is left on {from}: {state}");
    }
    Ok(())
}

fn stop_all(lab: &Lab, node: &str) {
    run(
        lab,
        node,
        "crm_attribute --name stop-all-resources --update true",
    );
    wait_for("all resources to be stopped", SOON, || {
        let left = status::instances(lab, node)?;
        holds(left.is_empty(), Error::new(format!("{left:?}")))
    })
    .unwrap();
}
