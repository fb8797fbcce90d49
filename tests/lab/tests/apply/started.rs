//! What apply says of what it has waited for.

use super::{Cluster, EXAMPLE, FILE, failed, with_another_device, without_an_address};

/// How a start is refused.
const BOGUS: &str = "6 options: bogus is not known";

pub(crate) fn what_is_degraded_runs_and_is_said_to_be_degraded(cluster: &Cluster) {
    // What is new is monitored at once.
    cluster.begin(&without_an_address());
    answer(cluster, "beta-ip1-monitor", "190 no path to the subnet");
    let said = cluster.apply(EXAMPLE);
    assert!(said.contains("all 11 resources started"), "{said}");
    let note = said.lines().find(|line| line.contains("degraded"));
    let note = note.unwrap_or_else(|| panic!("{said}"));
    assert!(
        note.starts_with("beta-ip1 on n") && note.ends_with(" is degraded: no path to the subnet"),
        "{said}"
    );
    answer_well(cluster, "beta-ip1-monitor");
    cluster.good("crm_resource --cleanup --resource beta-ip1");
    let said = cluster.apply(EXAMPLE);
    assert!(!said.contains("degraded"), "{said}");
}

pub(crate) fn what_does_not_start_is_no_success(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    answer(cluster, "beta-data-start", BOGUS);
    let other = with_another_device();
    let (code, said) = failed(cluster, &other, "--wait");
    assert_eq!(code, Some(1), "{said}");
    let waited = "berth: wait for everything to start: after ";
    assert!(said.starts_with(waited), "{said}");
    let reason = "not started: beta-data (stopped; start failed on n";
    assert!(
        said.contains(reason) && said.contains(": options: bogus is not known)"),
        "{said}"
    );
    // Such an answer counts for all nodes, until the cluster has forgotten it: then it was tried once more.
    let recorded = cluster.recorded();
    let starts = recorded.iter().filter(|l| *l == "start beta-data");
    assert!(starts.count() > 1, "{recorded:?}");
    // It is not about what is new: it does not run now either.
    let (code, said) = failed(cluster, &other, "--wait 3");
    assert_eq!(code, Some(1), "{said}");
    let late = "after 3 s not started: beta-data (stopped; start failed on n";
    assert!(said.contains(late), "{said}");
    answer_well(cluster, "beta-data-start");
    cluster.good("crm_resource --cleanup --resource beta-data");
}

pub(crate) fn what_was_refused_once_is_waited_for(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    answer(cluster, "beta-data-start", BOGUS);
    failed(cluster, &with_another_device(), "--wait 3");
    let script = format!(
        ": >/run/said
        berth apply --file {FILE} --wait >/run/said 2>&1 & apply=$!
        until grep -q '^waiting for .*the next attempt with beta-data (' /run/said; do sleep 0.1; done
        : >/run/seen; until [ -e /run/mended ]; do sleep 0.1; done
        crm_resource --cleanup --resource beta-data
        wait $apply; code=$?; cat /run/said; exit $code"
    );
    std::thread::scope(|scope| {
        let applied = scope.spawn(|| cluster.good(&script));
        cluster.good("until [ -e /run/seen ]; do sleep 0.1; done");
        answer_well(cluster, "beta-data-start");
        cluster.good(": >/run/mended");
        let said = applied.join().unwrap();
        assert!(said.contains("all 11 resources started"), "{said}");
    });
    cluster.apply(EXAMPLE);
}

pub(crate) fn what_is_not_in_force_is_no_success(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let other = with_another_device();
    cluster.good("crm_attribute --name maintenance-mode --update true");
    // Also of a change that was made before.
    for toml in [&other, &other] {
        let (code, said) = failed(cluster, toml, "--wait");
        assert_eq!(code, Some(1), "{said}");
        let why = "changes are not in force yet: the cluster is in maintenance mode\n";
        assert!(said.ends_with(why), "{said}");
    }
    assert_eq!(cluster.recorded(), [""; 0]);
    cluster.good("crm_attribute --name maintenance-mode --delete");
    cluster.apply(&other);
    let managed = "crm_resource --meta --resource beta-data";
    cluster.good(&format!(
        "{managed} --set-parameter is-managed --parameter-value false"
    ));
    let (code, said) = failed(cluster, EXAMPLE, "--wait");
    assert_eq!(code, Some(1), "{said}");
    let why = "changes are not in force yet: not managed by the cluster: beta-data on n";
    assert!(said.contains(why), "{said}");
    // What is somebody's wish, and nothing new, is told.
    let said = cluster.apply(EXAMPLE);
    assert!(said.contains("all 11 resources started"), "{said}");
    let note = said.lines().find(|line| line.starts_with("beta-data on n"));
    assert!(note.is_some_and(|n| n.contains("not managed")), "{said}");
    cluster.good(&format!("{managed} --delete-parameter is-managed"));
    cluster.apply(EXAMPLE);
}

pub(crate) fn what_is_kept_stopped_is_said_to_be_so(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let role = "crm_resource --meta --resource beta --set-parameter target-role";
    cluster.good(&format!("{role} --parameter-value Stopped"));
    let said = cluster.apply(EXAMPLE);
    let kept =
        "; set to stay stopped (target-role): beta-home, beta-data, beta, beta-ip1, beta-ip2";
    assert!(
        said.contains("6 of 11 resources started") && said.contains(kept),
        "{said}"
    );
    cluster.good("crm_resource --meta --resource beta --delete-parameter target-role");
    cluster.apply(EXAMPLE);
}

/// How this action of a resource ends on any node from now on: with an exit code and a reason.
fn answer(cluster: &Cluster, action: &str, with: &str) {
    for node in cluster.lab.plan().node_names() {
        cluster
            .lab
            .write(&node, &format!("/run/answer-{action}"), with)
            .unwrap();
    }
}

fn answer_well(cluster: &Cluster, action: &str) {
    for node in cluster.lab.plan().node_names() {
        let file = format!("/run/answer-{action}");
        cluster.lab.exec(&node, &["rm", &file]).unwrap();
    }
}
