//! `berth apply` on a real cluster: it adds, keeps, changes and removes what is its own. The agents are stand-ins that
//! only write down what they are told.

#![allow(clippy::unwrap_used)] // a test may panic

mod changes;
mod removal;
mod started;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use lab::{Lab, Output, stage};

const EXAMPLE: &str = include_str!("../../../../examples/berth.toml");
const AGENT: &str = include_str!("../../../fixtures/recording-agent.sh");
const FILE: &str = "/run/berth.toml";
/// beta's addresses in the example.
const VIPS: &str = r#"vips = ["10.1.0.60", "10.2.0.60"]"#;

lab::scenes! {
    Cluster:
    changes::refuses_without_fencing,
    changes::starts_everything_and_then_changes_nothing,
    changes::the_mark_of_an_earlier_version_becomes_the_tag_and_nothing_is_told,
    changes::a_changed_entry_touches_only_its_resource,
    changes::a_busy_cluster_is_no_obstacle,
    started::what_is_degraded_runs_and_is_said_to_be_degraded,
    started::what_does_not_start_is_no_success,
    started::what_was_refused_once_is_waited_for,
    started::what_is_not_in_force_is_no_success,
    started::what_is_kept_stopped_is_said_to_be_so,
    removal::nothing_is_removed_that_the_cluster_would_not_stop,
    removal::an_interrupted_removal_leaves_everything_as_it_was,
    removal::a_second_interrupt_does_not_reach_what_sets_things_back,
    removal::a_killed_removal_is_put_right_by_the_next_apply,
    removal::a_removed_server_is_stopped_in_order,
    removal::an_opt_in_cluster_stops_nothing_that_the_file_does_not_allow_unasked,
}

/// A cluster that has a resource of somebody else's.
struct Cluster {
    lab: Lab,
    _agents: tempfile::TempDir,
    /// The file that is in force, if that is known.
    in_force: Mutex<Option<String>>,
}

impl stage::Stage for Cluster {
    fn build() -> Self {
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
        let cluster = Self {
            lab: Lab::up(&options).unwrap(),
            _agents: agents,
            in_force: Mutex::new(None),
        };
        cluster.good("cibadmin --create --scope resources --xml-text '<primitive id=\"foreign\" class=\"ocf\" provider=\"pacemaker\" type=\"Dummy\"/>'");
        cluster
    }

    fn check(&self) {
        self.assert_others_untouched();
    }

    fn clear(self) {
        self.lab.down().unwrap();
    }
}

impl Cluster {
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
        *self.in_force.lock().unwrap() = None;
        self.lab.write("n1", FILE, toml).unwrap();
        let said = self.good(&format!("berth apply --file {FILE} --wait"));
        *self.in_force.lock().unwrap() = Some(toml.to_owned());
        said
    }

    /// Has this file in force, and nothing recorded.
    fn begin(&self, toml: &str) {
        let in_force = self.in_force.lock().unwrap().clone();
        if in_force.as_deref() != Some(toml) {
            self.apply(toml);
        }
        self.recorded();
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

    #[track_caller]
    fn assert_others_untouched(&self) {
        let cib = configuration(self);
        assert!(cib.contains("\"foreign\"") && cib.contains("\"power\""));
    }
}

fn configuration(cluster: &Cluster) -> String {
    cluster.good("cibadmin --query --scope configuration")
}

fn without_beta() -> &'static str {
    EXAMPLE.split("[vserver.beta]").next().unwrap()
}

/// beta has only its second address.
fn without_an_address() -> String {
    EXAMPLE.replace(VIPS, r#"vips = ["10.2.0.60"]"#)
}

/// Of one of beta's file systems.
fn with_another_device() -> String {
    let device = "device = \"/dev/vg0/beta-data\"";
    EXAMPLE.replace(device, "device = \"/dev/vg0/beta-other\"")
}

fn position(list: &[String], line: &str) -> usize {
    let found = list.iter().position(|l| l == line);
    found.unwrap_or_else(|| panic!("no {line:?} in {list:?}"))
}

/// What `berth apply` ends with for a file, and says on standard error.
fn failed(cluster: &Cluster, toml: &str, options: &str) -> (Option<i32>, String) {
    *cluster.in_force.lock().unwrap() = None;
    cluster.lab.write("n1", FILE, toml).unwrap();
    let output = cluster.run(&format!("berth apply --file {FILE} {options}"));
    (output.status.code(), output.stderr)
}
