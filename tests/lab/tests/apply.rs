//! `berth apply` on a real cluster. The agents are stand-ins that only write down what they are told.
#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lab::{Lab, Output, stage};

const EXAMPLE: &str = include_str!("../../../examples/berth.toml");
const AGENT: &str = include_str!("../../fixtures/recording-agent.sh");
const FILE: &str = "/run/berth.toml";

struct Cluster {
    lab: Lab,
    _agents: tempfile::TempDir,
}

impl Cluster {
    fn up() -> Self {
        let agents = tempfile::tempdir().unwrap();
        for name in ["portwatch", "vserver", "fscheck", "vip"] {
            let path = agents.path().join(name);
            fs::write(&path, AGENT).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let berth = Path::new(env!("CARGO_BIN_EXE_lab")).with_file_name("berth");
        fs::copy(berth, agents.path().join("berth")).unwrap();
        let mut options = stage::options("apply");
        options.plan.agents = Some(agents.path().to_owned());
        let lab = Lab::up(&options).unwrap();
        Self {
            lab,
            _agents: agents,
        }
    }

    /// Runs a script on n1.
    fn run(&self, script: &str) -> Output {
        let limit = Duration::from_secs(240);
        self.lab
            .exec_within("n1", &["sh", "-c", script], limit)
            .unwrap()
    }

    fn good(&self, script: &str) -> String {
        self.run(script).check(script).unwrap().stdout
    }

    fn apply(&self, toml: &str) -> String {
        self.lab.write("n1", FILE, toml).unwrap();
        self.good(&format!("berth apply --file {FILE} --wait"))
    }

    /// What the agents of all nodes were told since the last look.
    fn recorded(&self) -> Vec<String> {
        let mut all = Vec::new();
        for node in self.lab.plan().node_names() {
            let script = "touch /run/recorded; cat /run/recorded; : >/run/recorded";
            let output = self.lab.exec(&node, &["sh", "-c", script]).unwrap();
            all.extend(output.stdout.lines().map(str::to_owned));
        }
        all
    }
}

fn without_beta() -> &'static str {
    EXAMPLE.split("[vserver.beta]").next().unwrap()
}

fn position(list: &[String], line: &str) -> usize {
    let found = list.iter().position(|l| l == line);
    found.unwrap_or_else(|| panic!("no {line:?} in {list:?}"))
}

#[test]
#[ignore = "needs root"]
fn apply_adds_keeps_changes_and_removes_what_is_its_own() {
    let cluster = Cluster::up();
    cluster.good("cibadmin --create --scope resources --xml-text '<primitive id=\"foreign\" class=\"ocf\" provider=\"pacemaker\" type=\"Dummy\"/>'");
    refuses_without_fencing(&cluster);
    starts_everything_and_then_changes_nothing(&cluster);
    the_mark_of_an_earlier_version_becomes_the_tag_and_nothing_is_told(&cluster);
    a_changed_entry_touches_only_its_resource(&cluster);
    a_busy_cluster_is_no_obstacle(&cluster);
    what_is_degraded_runs_and_is_said_to_be_degraded(&cluster);
    what_does_not_start_is_no_success(&cluster);
    what_was_refused_once_is_waited_for(&cluster);
    what_is_not_in_force_is_no_success(&cluster);
    what_is_kept_stopped_is_said_to_be_so(&cluster);
    nothing_is_removed_that_the_cluster_would_not_stop(&cluster);
    an_interrupted_removal_leaves_everything_as_it_was(&cluster);
    a_second_interrupt_does_not_reach_what_sets_things_back(&cluster);
    a_killed_removal_is_put_right_by_the_next_apply(&cluster);
    a_removed_server_is_stopped_in_order(&cluster);
    an_opt_in_cluster_stops_nothing_that_the_file_does_not_allow_unasked(&cluster);
    let cib = cluster.good("cibadmin --query --scope configuration");
    assert!(cib.contains("\"foreign\"") && cib.contains("\"power\"") && !cib.contains("beta"));
    cluster.lab.down().unwrap();
}

fn refuses_without_fencing(cluster: &Cluster) {
    cluster.lab.write("n1", FILE, EXAMPLE).unwrap();
    cluster.good("crm_attribute --name stonith-enabled --update false");
    let before = cluster.good("cibadmin --query --scope resources");
    let refused = cluster.run(&format!("berth apply --file {FILE}"));
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        refused
            .stderr
            .starts_with("berth: the cluster property stonith-enabled is false")
    );
    assert_eq!(cluster.good("cibadmin --query --scope resources"), before);
    cluster.good("crm_attribute --name stonith-enabled --update true");
}

fn starts_everything_and_then_changes_nothing(cluster: &Cluster) {
    let said = cluster.apply(EXAMPLE);
    assert!(
        said.contains("+ resource alpha (ocf:berth:vserver)\n"),
        "{said}"
    );
    assert!(said.contains("all 11 resources started"), "{said}");
    let recorded = cluster.recorded();
    let start = |id: &str| position(&recorded, &format!("start {id}"));
    assert!(start("alpha-home") < start("alpha") && start("alpha") < start("alpha-ip1"));
    let said = cluster.apply(EXAMPLE);
    assert!(said.starts_with("no change\n"), "{said}");
    assert_eq!(
        cluster
            .run(&format!("berth diff --file {FILE}"))
            .status
            .code(),
        Some(0)
    );
    assert!(cluster.recorded().is_empty());
}

fn the_mark_of_an_earlier_version_becomes_the_tag_and_nothing_is_told(cluster: &Cluster) {
    let tagged = cluster.good("cibadmin --query --xpath \"//tag[@id='berth']/obj_ref\" | grep -o ' id=\"[^\"]*' | cut -c6-");
    assert_eq!(tagged.lines().count(), 11, "{tagged}");
    let mark = "xargs -I ID crm_resource --meta --resource ID --set-parameter berth-managed --parameter-value true --force";
    cluster.lab.write("n1", "/run/tagged", &tagged).unwrap();
    cluster.good(&format!(
        "{mark} </run/tagged && cibadmin --delete --scope tags --xml-text '<tag id=\"berth\"/>'"
    ));
    let said = cluster.apply(EXAMPLE);
    assert!(said.contains("+ tag berth\n"), "{said}");
    let marks = said
        .lines()
        .filter(|l| l.ends_with(": meta berth-managed removed"));
    assert_eq!(marks.count(), 11, "{said}");
    assert_eq!(cluster.recorded(), [""; 0]);
    assert!(cluster.apply(EXAMPLE).starts_with("no change\n"));
}

fn a_changed_entry_touches_only_its_resource(cluster: &Cluster) {
    let vips = r#"vips = ["10.1.0.60", "10.2.0.60"]"#;
    let fewer = EXAMPLE.replace(vips, r#"vips = ["10.2.0.60"]"#);
    let said = cluster.apply(&fewer);
    assert!(
        said.contains("stopping beta-ip1\n- resource beta-ip1 (ocf:berth:vip)\n"),
        "{said}"
    );
    assert_eq!(cluster.recorded(), ["stop beta-ip1"]);
    // The address that stayed keeps its id, although it is now the first one.
    let other = EXAMPLE.replace(vips, r#"vips = ["10.2.0.60", "10.1.0.61"]"#);
    cluster.apply(&other);
    assert_eq!(cluster.recorded(), ["start beta-ip1"]);
}

fn a_busy_cluster_is_no_obstacle(cluster: &Cluster) {
    // Whenever apply has read the CIB and works out a patch, the state changes before it is sent.
    let changing =
        "cd /usr/sbin && mv crm_diff crm_diff.real && cat >crm_diff <<'E' && chmod 755 crm_diff
#!/bin/sh
i=$(($(cat /run/noise 2>/dev/null || echo 0) + 1))
echo $i >/run/noise
attrd_updater --name noise --update $i
until cibadmin --query --scope status | grep -q \"name=.noise. value=.$i.\"; do sleep 0.02; done
exec /usr/sbin/crm_diff.real \"$@\"
E";
    cluster.good(changing);
    let vips = r#"vips = ["10.1.0.60", "10.2.0.60"]"#;
    let said = cluster.apply(&EXAMPLE.replace(vips, r#"vips = ["10.2.0.60"]"#));
    assert!(
        said.contains("- resource beta-ip1 (ocf:berth:vip)\n"),
        "{said}"
    );
    assert_ne!(cluster.good("cat /run/noise").trim(), "");
    cluster.good("mv /usr/sbin/crm_diff.real /usr/sbin/crm_diff");
    assert_eq!(cluster.recorded(), ["stop beta-ip1"]);
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

/// What `berth apply` ends with for a file, and says on standard error.
fn failed(cluster: &Cluster, toml: &str, options: &str) -> (Option<i32>, String) {
    cluster.lab.write("n1", FILE, toml).unwrap();
    let output = cluster.run(&format!("berth apply --file {FILE} {options}"));
    (output.status.code(), output.stderr)
}

fn resources(cluster: &Cluster) -> String {
    cluster.good("cibadmin --query --scope resources")
}

fn what_is_degraded_runs_and_is_said_to_be_degraded(cluster: &Cluster) {
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

fn what_does_not_start_is_no_success(cluster: &Cluster) {
    answer(cluster, "beta-data-start", "6 options: bogus is not known");
    let device = "device = \"/dev/vg0/beta-data\"";
    let other = EXAMPLE.replace(device, "device = \"/dev/vg0/beta-other\"");
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
}

fn what_was_refused_once_is_waited_for(cluster: &Cluster) {
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
    cluster.recorded();
}

fn what_is_not_in_force_is_no_success(cluster: &Cluster) {
    let device = "device = \"/dev/vg0/beta-data\"";
    let other = EXAMPLE.replace(device, "device = \"/dev/vg0/beta-other\"");
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
    cluster.recorded();
}

fn what_is_kept_stopped_is_said_to_be_so(cluster: &Cluster) {
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
    cluster.recorded();
}

fn nothing_is_removed_that_the_cluster_would_not_stop(cluster: &Cluster) {
    // In the order in which they came into the cluster.
    let beta = "beta-home, beta-data, beta, beta-ip2 and beta-ip1";
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

/// An apply that removes beta, whose addresses take their time to stop; ended by a signal meanwhile.
fn killed_while_stopping(cluster: &Cluster, signal: &str) -> Output {
    interrupted_while_stopping(cluster, &format!("kill -{signal} $apply"))
}

/// Such an apply, the leader of a process group, and what a script does to it.
fn interrupted_while_stopping(cluster: &Cluster, interrupt: &str) -> Output {
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

fn an_interrupted_removal_leaves_everything_as_it_was(cluster: &Cluster) {
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
    cluster.recorded();
}

/// ^C goes to the whole group in front of a terminal: also to the tool that makes the change.
fn a_second_interrupt_does_not_reach_what_sets_things_back(cluster: &Cluster) {
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
    cluster.recorded();
}

fn a_killed_removal_is_put_right_by_the_next_apply(cluster: &Cluster) {
    killed_while_stopping(cluster, "KILL");
    assert!(resources(cluster).contains("berth-stopping"));
    let said = cluster.apply(EXAMPLE);
    let change = "~ resource beta (ocf:berth:vserver): target-role set back, which an interrupted removal had left\n";
    assert!(said.contains(change), "{said}");
    assert!(said.contains("all 11 resources started"), "{said}");
    assert!(!resources(cluster).contains("berth-stopping"));
    cluster.recorded();
}

fn a_removed_server_is_stopped_in_order(cluster: &Cluster) {
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
}

fn an_opt_in_cluster_stops_nothing_that_the_file_does_not_allow_unasked(cluster: &Cluster) {
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
    let configuration = || cluster.good("cibadmin --query --scope configuration");
    let there = configuration();
    let (code, said) = failed(cluster, &without_n2, "");
    assert_eq!(code, Some(4), "{said}");
    let why =
        "berth: node n2 runs portwatch and is not in the file, nor allowed by another constraint: ";
    assert!(said.starts_with(why), "{said}");
    assert_eq!(configuration(), there);
    allow("portwatch-clone", "n2");
    cluster.apply(&without_n2);
    let runs = cluster.good("crm_resource --locate --resource portwatch-clone");
    assert!(runs.contains(": n2"), "{runs}");
    cluster.recorded();
}
