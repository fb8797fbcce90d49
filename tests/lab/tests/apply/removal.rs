//! What is removed, or not.

use lab::Output;
use lab::stage::Spent;

use super::{Cluster, EXAMPLE, FILE, configuration, failed, position, without_beta};

pub(crate) fn nothing_is_removed_that_the_cluster_would_not_stop(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let beta = beta(cluster);
    let property = "crm_attribute --name maintenance-mode";
    let managed = "crm_resource --meta --resource beta-home";
    let node = "crm_attribute --node $(crm_resource --locate --resource beta 2>/dev/null | sed 's/.*: //; s/ .*//') --name maintenance";
    for (set, unset, why) in [
        (
            format!("{property} --update true"),
            format!("{property} --delete"),
            "the cluster is in maintenance mode: ",
        ),
        (
            format!("{managed} --set-parameter is-managed --parameter-value false"),
            format!("{managed} --delete-parameter is-managed"),
            "beta-home is not managed by the cluster (is-managed or maintenance is set): ",
        ),
        (
            format!("{node} --update true"),
            format!("{node} --delete"),
            ", where beta-home runs, is in maintenance: ",
        ),
    ] {
        cluster.good(&set);
        let before = resources(cluster);
        let (code, said) = failed(cluster, without_beta(), "");
        assert_eq!(code, Some(4), "{said}");
        let rest = format!("{why}{beta} can't be stopped and removed now; nothing was changed\n");
        assert!(said.ends_with(&rest), "{said}");
        assert_eq!(resources(cluster), before);
        cluster.good(&unset);
    }
    cluster.apply(EXAMPLE);
    assert_eq!(cluster.recorded(), [""; 0]);
}

pub(crate) fn an_interrupted_removal_leaves_everything_as_it_was(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let before = resources(cluster);
    for signal in ["TERM", "INT"] {
        let output = killed_while_stopping(cluster, signal);
        assert_eq!(output.status.code(), Some(1), "{}", output.stdout);
        let said = format!(
            ": interrupted by SIG{signal}; nothing was removed, and what was stopped may start again"
        );
        assert!(output.stdout.contains(&said), "{}", output.stdout);
        assert_eq!(resources(cluster), before);
        let said = cluster.apply(EXAMPLE);
        assert!(said.starts_with("no change\n"), "{said}");
        assert!(said.contains("all 11 resources started"), "{said}");
    }
}

/// ^C goes to the whole group in front of a terminal: also to the tool that makes the change.
pub(crate) fn a_second_interrupt_does_not_reach_what_sets_things_back(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let before = resources(cluster);
    // Of the patches after the first interrupt, the first one meets the second interrupt, and the next one a
    // cluster that fails in an unknown way.
    let interrupting =
        "cd /usr/sbin && mv cibadmin cibadmin.real && cat >cibadmin <<'E' && chmod 755 cibadmin
#!/bin/sh
case \"$*\" in *--patch*)
    if [ -e /run/interrupted ] && [ ! -e /run/again ]; then
        : >/run/again
        kill -s INT -- -$(cat /run/group)
        kill -s INT -- -$(cat /run/group)
    elif [ -e /run/again ] && [ ! -e /run/failed ]; then
        : >/run/failed
        exit 1
    fi
esac
exec /usr/sbin/cibadmin.real \"$@\"
E";
    cluster.good(interrupting);
    let output = interrupted_while_stopping(
        cluster,
        ": >/run/interrupted; echo $apply >/run/group; kill -s INT -- -$apply",
    );
    cluster.good("mv /usr/sbin/cibadmin.real /usr/sbin/cibadmin; test -e /run/again");
    let said = &output.stdout;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("interrupted by SIGINT; setting back what was set to stop\n"),
        "{said}"
    );
    assert!(
        said.contains("; nothing was removed, and what was stopped may start again"),
        "{said}"
    );
    assert_eq!(resources(cluster), before);
    cluster.apply(EXAMPLE);
}

pub(crate) fn a_killed_removal_is_put_right_by_the_next_apply(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    killed_while_stopping(cluster, "KILL");
    assert!(resources(cluster).contains("berth-stopping"));
    let said = cluster.apply(EXAMPLE);
    let change = "~ resource beta (ocf:berth:vserver): target-role set back, which an interrupted removal had left\n";
    assert!(said.contains(change), "{said}");
    assert!(said.contains("all 11 resources started"), "{said}");
    assert!(!resources(cluster).contains("berth-stopping"));
}

pub(crate) fn a_removed_server_is_stopped_in_order(cluster: &Cluster) {
    cluster.begin(EXAMPLE);
    let said = cluster.apply(without_beta());
    assert!(
        said.contains("- resource beta (ocf:berth:vserver)\n"),
        "{said}"
    );
    let recorded = cluster.recorded();
    let stop = |id: &str| position(&recorded, &format!("stop {id}"));
    assert!(stop("beta-ip1") < stop("beta") && stop("beta-ip2") < stop("beta"));
    assert!(stop("beta") < stop("beta-home") && stop("beta") < stop("beta-data"));
    assert_eq!(recorded.len(), 5, "{recorded:?}");
    assert!(!configuration(cluster).contains("beta"));
}

pub(crate) fn an_opt_in_cluster_stops_nothing_that_the_file_does_not_allow_unasked(
    cluster: &Cluster,
) -> Spent {
    cluster.begin(without_beta());
    let allow = |rsc: &str, node: &str| {
        cluster.good(&format!(
            "cibadmin --create --scope constraints --xml-text '<rsc_location id=\"others-{rsc}-{node}\" rsc=\"{rsc}\" node=\"{node}\" score=\"0\"/>'"
        ));
    };
    for node in cluster.lab.plan().node_names() {
        allow("power", &node);
    }
    cluster.good("crm_attribute --name symmetric-cluster --update false");
    let all = without_beta();
    cluster.apply(all);
    let (before, rest) = all.split_once("[nodes.n2]\n").unwrap();
    let without_n2 = [before, rest.split_once('\n').unwrap().1].concat();
    let there = configuration(cluster);
    let (code, said) = failed(cluster, &without_n2, "");
    assert_eq!(code, Some(4), "{said}");
    let why =
        "berth: node n2 runs portwatch and is not in the file, nor allowed by another constraint: ";
    assert!(said.starts_with(why), "{said}");
    assert_eq!(configuration(cluster), there);
    allow("portwatch-clone", "n2");
    cluster.apply(&without_n2);
    let runs = cluster.good("crm_resource --locate --resource portwatch-clone");
    assert!(runs.contains(": n2"), "{runs}");
    cluster.assert_others_untouched();
    assert!(!configuration(cluster).contains("beta"));
    Spent
}

/// What beta consists of, in the order in which that came into the cluster.
fn beta(cluster: &Cluster) -> String {
    let all = resources(cluster);
    let mut names = ["beta", "beta-data", "beta-home", "beta-ip1", "beta-ip2"];
    names.sort_by_key(|name| all.find(&format!("<primitive id=\"{name}\"")).unwrap());
    let [rest @ .., last] = names;
    format!("{} and {last}", rest.join(", "))
}

/// An apply that removes beta, whose addresses take their time to stop; ended by a signal meanwhile.
fn killed_while_stopping(cluster: &Cluster, signal: &str) -> Output {
    interrupted_while_stopping(cluster, &format!("kill -{signal} $apply"))
}

/// Such an apply, the leader of a process group, and what a script does to it.
fn interrupted_while_stopping(cluster: &Cluster, interrupt: &str) -> Output {
    *cluster.in_force.lock().unwrap() = None;
    cluster.lab.write("n1", FILE, without_beta()).unwrap();
    for node in cluster.lab.plan().node_names() {
        let file = "/run/answer-beta-ip1-stop";
        let script = format!("mkfifo {file}");
        cluster.lab.exec(&node, &["sh", "-c", &script]).unwrap();
    }
    let script = format!(
        ": >/run/said
        setsid env --default-signal berth apply --file {FILE} >>/run/said 2>&1 & apply=$!
        until grep -q '^stopping ' /run/said; do sleep 0.1; done
        {interrupt}; wait $apply; code=$?; cat /run/said; exit $code"
    );
    let output = cluster.run(&script);
    for node in cluster.lab.plan().node_names() {
        // Whoever waits for an answer gets one, and the next one need not ask.
        let file = "/run/answer-beta-ip1-stop";
        let script =
            format!("(echo 0 >{file}) & writer=$!; sleep 1; rm {file}; kill $writer; true");
        cluster.lab.exec(&node, &["sh", "-c", &script]).unwrap();
    }
    output
}

fn resources(cluster: &Cluster) -> String {
    cluster.good("cibadmin --query --scope resources")
}
