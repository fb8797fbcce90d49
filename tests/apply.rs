//! `berth apply` on a real cluster. The agents are stand-ins that only write down what they are told.
#![allow(clippy::unwrap_used)] // a test may panic

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use lab::{Lab, Options, Output};

const EXAMPLE: &str = include_str!("../examples/berth.toml");
const AGENT: &str = include_str!("fixtures/recording-agent.sh");
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
        let berth = Path::new(env!("CARGO_BIN_EXE_berth"));
        fs::copy(berth, agents.path().join("berth")).unwrap();
        let mut options = Options::new(&format!("apply{}", std::process::id()));
        options.quiet = true;
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
    a_removed_server_is_stopped_in_order(&cluster);
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

fn a_removed_server_is_stopped_in_order(cluster: &Cluster) {
    let said = cluster.apply(without_beta());
    assert!(
        said.contains("- resource beta (ocf:berth:vserver)\n"),
        "{said}"
    );
    let recorded = cluster.recorded();
    let stop = |id: &str| position(&recorded, &format!("stop {id}"));
    assert!(stop("beta-ip2") < stop("beta"));
    assert!(stop("beta") < stop("beta-home") && stop("beta") < stop("beta-data"));
    assert_eq!(recorded.len(), 4, "{recorded:?}");
}
