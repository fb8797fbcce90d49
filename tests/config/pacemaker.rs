//! What Pacemaker's own tools make of a plan: the three forms say the same, the schema accepts it, and
//! the scheduler does with it what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::cluster::allowance::Allowance;
use berth::cluster::canonical;
use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::cluster::merge::merge;
use berth::cluster::survey;
use berth::config::ids::OWNERSHIP;
use berth::config::model::{Features, Model};
use berth::config::render;
use berth::sys::command::{command, run};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::any_config;
use crate::simulation::{
    changes, cib, model_of, simulate, soon, started, three_servers, with_fatal_starts,
};

const EXAMPLE: &str = include_str!("../../examples/berth.toml");

/// Everything that a CIB's resources and constraints say.
fn said(cib: &Element) -> BTreeSet<String> {
    let configuration = cib.child("configuration").unwrap();
    let primitives = configuration.walk().filter(|e| e.name == "primitive");
    let facts = primitives.flat_map(|p| {
        let facts = canonical::facts(p, |_| true);
        facts
            .into_iter()
            .chain(canonical::node_facts(p))
            .map(|(k, v)| format!("{}: {k}={v}", p.id()))
            .collect::<Vec<_>>()
    });
    let clones = configuration.walk().filter(|e| e.name == "clone");
    let clones = clones.map(|c| format!("{}: of {}", c.id(), c.child("primitive").unwrap().id()));
    let constraints = &configuration.child("constraints").unwrap().children;
    let constraints = constraints
        .iter()
        .map(|c| format!("{}: {}", c.id(), canonical::constraint(c)));
    let tagged = configuration
        .child("tags")
        .into_iter()
        .flat_map(Element::walk);
    let tagged = tagged.filter(|e| e.name == "obj_ref");
    let tagged = tagged.map(|e| format!("under the tag: {}", e.id()));
    facts
        .chain(clones)
        .chain(constraints)
        .chain(tagged)
        .collect()
}

/// The agents, as far as the shells ask for them, in a directory like the one where they are installed.
fn agents() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let provider = dir.path().join("berth");
    std::fs::create_dir(&provider).unwrap();
    for (name, program) in [
        ("fscheck", env!("CARGO_BIN_EXE_fscheck")),
        ("vserver", env!("CARGO_BIN_EXE_vserver")),
        ("vip", env!("CARGO_BIN_EXE_vip")),
        ("portwatch", env!("CARGO_BIN_EXE_portwatch")),
    ] {
        std::os::unix::fs::symlink(program, provider.join(name)).unwrap();
    }
    // One that is planned, but that does not exist yet.
    let path = provider.join("rebalance");
    std::fs::write(&path, REBALANCE).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    dir
}

const REBALANCE: &str = r#"#!/bin/sh
cat <<END
<?xml version="1.0"?>
<resource-agent name="rebalance" version="0"><version>1.1</version><longdesc lang="en">x</longdesc><shortdesc lang="en">x</shortdesc><parameters/>
<actions><action name="start" timeout="60s"/><action name="stop" timeout="60s"/><action name="monitor" timeout="20s" interval="10s"/><action name="meta-data" timeout="5s"/></actions></resource-agent>
END
"#;

/// Runs a shell's script where the agents are installed, for this script only, and gives all it said.
fn said_where_agents_are(script: &str, dir: &Path, limit: Duration) -> String {
    const INSTALLED: &str = "/usr/lib/ocf/resource.d";
    let agents = agents();
    let mut shell = command("/usr/bin/unshare");
    shell.args(["--mount", "--propagation", "private", "/bin/sh", "-e", "-c"]);
    shell.arg(format!(
        "mount -t overlay none -o lowerdir={}:{INSTALLED} {INSTALLED}\n{script}",
        agents.path().display()
    ));
    shell.current_dir(dir).env("HOME", dir).env("TERM", "dumb");
    let output = run(shell, Instant::now() + limit).unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8(said).unwrap();
    output.check(&said).unwrap();
    said
}

/// What crm says of a meta attribute that it does not know and of a reference to one. It is in the manual.
fn known_complaints() -> Vec<&'static str> {
    let mut known = vec![
        "unknown attribute 'berth-home'",
        "referenced node berth-home does not exist",
    ];
    let mut crm = command("/usr/sbin/crm");
    crm.arg("--version");
    let version = run(crm, soon()).unwrap().text();
    if version.starts_with("crm 4.") {
        // Pacemaker's own: this crm has a list of its own.
        known.push("unknown attribute 'critical'");
    }
    known
}

/// The lines with which a shell complains, apart from those that are known.
fn complaints<'s>(said: &'s str, known: &[&str]) -> Vec<&'s str> {
    let complaint = |line: &&str| {
        let line = line.to_lowercase();
        ["warning", "deprecat", "error", "unknown"]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines = said.lines().filter(complaint);
    lines
        .filter(|l| !known.iter().any(|known| l.ends_with(known)))
        .collect()
}

/// A cluster that has fencing and no resources, of which no tool complains.
fn empty() -> Element {
    let mut cib = cib(None);
    let configuration = cib.child_mut("configuration");
    let options = configuration
        .child_mut("crm_config")
        .child_mut("cluster_property_set");
    let property = |(name, value): (&str, &str)| {
        let pair = Element::new("nvpair").with("id", format!("o-{name}"));
        pair.with("name", name).with("value", value)
    };
    let watchdog = [
        ("have-watchdog", "true"),
        ("stonith-watchdog-timeout", "10s"),
    ];
    options.children = watchdog.map(property).into();
    cib
}

fn loaded_by_crm(dir: &Path, model: &Model) -> Element {
    std::fs::write(dir.join("crm.xml"), empty().to_string()).unwrap();
    std::fs::write(dir.join("plan.crm"), render::crm::commands(model)).unwrap();
    let script = "CIB_file=crm.xml crm configure load update plan.crm";
    let said = said_where_agents_are(script, dir, Duration::from_secs(120));
    assert_eq!(complaints(&said, &known_complaints()), [""; 0], "{said}");
    Element::parse(&std::fs::read_to_string(dir.join("crm.xml")).unwrap()).unwrap()
}

fn loaded_by_pcs(dir: &Path, model: &Model) -> Element {
    let file = dir.join("berth-cib.xml");
    std::fs::write(&file, empty().to_string()).unwrap();
    let script = render::pcs::script(model);
    let from_cluster = ["set -e", "pcs cluster ", "cp "];
    let commands = script
        .lines()
        .filter(|line| !from_cluster.iter().any(|c| line.starts_with(c)));
    let commands: Vec<&str> = commands.collect();
    // Each line starts pcs anew, which takes a second even if nothing else runs.
    let limit = Duration::from_secs(10 * commands.len() as u64);
    let said = said_where_agents_are(&commands.join("\n"), dir, limit);
    assert_eq!(complaints(&said, &[]), [""; 0], "{said}");
    Element::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
#[ignore = "needs root, pacemaker, crm and pcs"]
fn the_three_forms_say_the_same() {
    for features in [Features::CURRENT, Features::ALL] {
        let dir = tempfile::tempdir().unwrap();
        let model = model_of(EXAMPLE, features);
        let xml = said(&cib(Some(&render::xml::configuration(&model))));
        assert_eq!(said(&loaded_by_crm(dir.path(), &model)), xml, "crm");
        assert_eq!(said(&loaded_by_pcs(dir.path(), &model)), xml, "pcs");
    }
}

/// A cluster in which nothing runs where it is not allowed to.
fn opt_in(configuration: &Element) -> Element {
    let mut cib = cib(Some(configuration));
    let options = cib.child_mut("configuration").child_mut("crm_config");
    let property = Element::new("nvpair").with("id", "o-y");
    let property = property
        .with("name", "symmetric-cluster")
        .with("value", "false");
    options
        .child_mut("cluster_property_set")
        .children
        .push(property);
    cib
}

#[test]
#[ignore = "needs pacemaker"]
fn in_an_opt_in_cluster_what_others_allow_is_left_to_run_where_it_does() {
    let toml = EXAMPLE.replace("stay_on = \"n1\"", "");
    let model = model_of(&toml, Features::CURRENT);
    let mut configuration = render::xml::configuration(&model);
    let constraints = &mut configuration.child_mut("constraints").children;
    for (id, node) in model
        .resources
        .iter()
        .flat_map(|r| ["n1", "n2"].map(|node| (r.reference(), node)))
    {
        let location = Element::new("rsc_location").with("id", format!("others-{id}-{node}"));
        let location = location.with("rsc", id).with("node", node);
        constraints.push(location.with("score", 0));
    }
    let all_up = ["--node-up=n1", "--node-up=n2", "--node-up=n3"];
    let running = simulate(&opt_in(&configuration), &all_up);
    let places = || model.ids().filter(|id| *id != "portwatch");
    assert!(places().all(|id| ["n1", "n2"].contains(&running.place(id))));

    let mut more = model.clone();
    let allowances: BTreeMap<&str, Allowance> = model
        .resources
        .iter()
        .map(|r| {
            let names = (r.id.as_str(), &*r.reference());
            (
                r.id.as_str(),
                Allowance::by_others(&running.after, names, OWNERSHIP),
            )
        })
        .collect();
    more.allow_on(&["n2"], |resource| &allowances[&*resource.id]);
    let applied = |more: &Model| {
        let merged = merge(&running.after, &render::xml::configuration(more), OWNERSHIP).unwrap();
        simulate(&merged.cib, &[])
    };
    assert_eq!(changes(&applied(&more)), [""; 0]);
    // Whoever does not ask the others stops what they allow.
    let nobody = Allowance::Nodes(BTreeSet::new());
    let mut fewer = model.clone();
    fewer.allow_on(&["n2"], |_| &nobody);
    assert!(
        changes(&applied(&fewer))
            .iter()
            .any(|a| a.ends_with(" stop on n1"))
    );
}

#[test]
#[ignore = "needs pacemaker"]
fn in_an_opt_in_cluster_everything_starts_on_the_files_nodes_and_nowhere_else() {
    let toml = EXAMPLE.replace("stay_on = \"n1\"", "");
    let mut model = model_of(&toml, Features::CURRENT);
    let all_up = ["--node-up=n1", "--node-up=n2", "--node-up=n3"];
    let opt_in = |model: &Model| simulate(&opt_in(&render::xml::configuration(model)), &all_up);
    assert_eq!(opt_in(&model).place("alpha-home"), "nowhere");
    let nobody = Allowance::Nodes(BTreeSet::new());
    model.allow_on(&["n2", "n3"], |_| &nobody);
    let outcome = opt_in(&model);
    let starts: Vec<&str> = changes(&outcome);
    for id in model.ids().filter(|id| *id != "portwatch") {
        let place = outcome.place(id);
        assert!(["n2", "n3"].contains(&place), "{id} is {place}");
    }
    let watchers = starts.iter().filter(|a| a.starts_with("portwatch:"));
    assert_eq!(watchers.count(), 2, "{starts:#?}");
    assert!(starts.iter().all(|a| !a.ends_with(" n1")), "{starts:#?}");
}

#[test]
#[ignore = "needs root, pacemaker, crm and pcs"]
fn ports_of_single_nodes_are_the_same_in_all_forms_and_need_no_change_after_them() {
    let toml = "[subnets]\na = { cidr = \"10.1.0.0/24\" }\n[nodes.n1]\nports = { eth1 = \"a\", \"e&1\" = \"a\" }\n\
        [nodes.\"n2.example.com\"]\nports = { eth2 = \"a\" }\n[nodes.n3]\n";
    let dir = tempfile::tempdir().unwrap();
    let model = model_of(toml, Features::CURRENT);
    let wanted = render::xml::configuration(&model);
    let xml = said(&cib(Some(&wanted)));
    assert_eq!(xml.iter().filter(|s| s.contains("ports on ")).count(), 2);
    for loaded in [
        loaded_by_crm(dir.path(), &model),
        loaded_by_pcs(dir.path(), &model),
    ] {
        assert_eq!(said(&loaded), xml);
        assert_eq!(merge(&loaded, &wanted, OWNERSHIP).unwrap().changes, []);
        Cib::default().verify(&loaded, soon()).unwrap();
    }
}

#[test]
#[ignore = "needs root, pacemaker, crm and pcs"]
fn awkward_values_survive_both_shells() {
    let dir = tempfile::tempdir().unwrap();
    let toml = EXAMPLE
        .replace("share = \"data\", users", "share = \"Q1 new $HOME\", users")
        .replace(
            "stay_on = \"n1\"",
            "command = '/bin/x --say \"a b\" $(id) `id` \\ '",
        );
    let mut model = model_of(&toml, Features::CURRENT);
    // They have no such values, and each is a second of pcs's time.
    model.constraints.clear();
    let xml = said(&cib(Some(&render::xml::configuration(&model))));
    assert_eq!(said(&loaded_by_pcs(dir.path(), &model)), xml, "pcs");
    assert_eq!(said(&loaded_by_crm(dir.path(), &model)), xml, "crm");
}

#[test]
#[ignore = "needs pacemaker"]
fn everything_starts_and_each_server_has_all_of_its_parts_with_it() {
    let outcome = started(&three_servers());
    for server in ["low", "mid", "high"] {
        let node = outcome.place(server);
        assert_ne!(node, "nowhere", "{server}");
        for part in ["home", "data", "ip1", "ip2"] {
            assert_eq!(
                outcome.place(&format!("{server}-{part}")),
                node,
                "{server}-{part}"
            );
        }
        let start = |id: &str| outcome.position(&format!("{id} start on {node}"));
        assert!(start(&format!("{server}-home")) < start(server));
        assert!(start(server) < start(&format!("{server}-ip1")));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn servers_of_a_lost_node_start_elsewhere_in_the_order_of_their_priority() {
    let first = started(&three_servers());
    // All on n1, by the nodes being there one after the other.
    let only = simulate(&first.after, &["--node-down=n2", "--node-down=n3"]);
    assert!(["low", "mid", "high"].iter().all(|s| only.place(s) == "n1"));
    let back = simulate(&only.after, &["--node-up=n2", "--node-up=n3"]);
    assert_eq!(back.place("low"), "n1", "stickiness keeps it");
    let moved = simulate(&back.after, &["--node-down=n1"]);
    let start = |id: &str| {
        let node = moved.place(id);
        assert_ne!(node, "n1");
        moved.position(&format!("{id} start on {node}"))
    };
    for (higher, lower) in [("high", "mid"), ("mid", "low"), ("high", "low")] {
        for address in ["ip1", "ip2"] {
            assert!(
                start(&format!("{higher}-{address}")) < start(lower),
                "{higher} {lower}"
            );
        }
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_lower_server_waits_for_a_much_higher_one_also_when_the_middle_one_stays_up() {
    let first = started(&three_servers());
    let high = first.place("high").to_owned();
    let low = first.place("low").to_owned();
    assert_ne!(first.place("mid"), high, "the servers are spread");
    let (down_high, down_low) = (format!("--node-down={high}"), format!("--node-down={low}"));
    let moved = simulate(&first.after, &[&down_high, &down_low]);
    let start = |id: &str| moved.position(&format!("{id} start on {}", moved.place(id)));
    assert!(start("high-ip1") < start("low") && start("high-ip2") < start("low"));
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_that_is_to_stay_does_not_move_and_returns_with_its_node() {
    let first = started(EXAMPLE);
    assert_eq!(first.place("alpha"), "n1");
    let gone = simulate(&first.after, &["--node-down=n1"]);
    for id in ["alpha", "alpha-home", "alpha-data", "alpha-ip1"] {
        assert_eq!(gone.place(id), "nowhere", "{id}");
    }
    for id in ["beta", "beta-home", "beta-data", "beta-ip1", "beta-ip2"] {
        assert_ne!(gone.place(id), "nowhere", "{id}");
    }
    let back = simulate(&gone.after, &["--node-up=n1"]);
    assert_eq!((back.place("alpha"), back.place("alpha-ip2")), ("n1", "n1"));
}

#[test]
#[ignore = "needs pacemaker"]
fn a_failed_address_or_data_file_system_does_not_move_its_server() {
    let first = started(&three_servers());
    let node = first.place("high").to_owned();
    for part in ["high-ip1", "high-data"] {
        let inject = format!("--op-inject={part}_monitor_10000@{node}=1");
        let fail = format!("--op-fail={part}_start_0@{node}=1");
        let mut outcome = simulate(&first.after, &[&inject, &fail]);
        for _ in 0..2 {
            assert_eq!(outcome.place("high"), node, "{part}");
            assert_eq!(outcome.place("high-ip2"), node, "{part}");
            outcome = simulate(&with_fatal_starts(&outcome.after), &[]);
        }
        assert_eq!(outcome.place(part), "nowhere");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_failed_home_takes_the_whole_server_to_another_node() {
    let first = started(&three_servers());
    let node = first.place("mid").to_owned();
    let inject = format!("--op-inject=mid-home_monitor_10000@{node}=1");
    let fail = format!("--op-fail=mid-home_start_0@{node}=1");
    let failed = simulate(&first.after, &[&inject, &fail]);
    let moved = simulate(&with_fatal_starts(&failed.after), &[]);
    let place = moved.place("mid");
    assert!(place != "nowhere" && place != node, "{place}");
    for part in ["mid-home", "mid-data", "mid-ip1", "mid-ip2"] {
        assert_eq!(moved.place(part), place, "{part}");
    }
}

/// The cluster as a version of berth from before the tag has set it up.
fn by_an_earlier_version(cib: &Element) -> Element {
    let mut cib = cib.clone();
    let configuration = cib.child_mut("configuration");
    configuration.children.retain(|c| c.name != "tags");
    for top in &mut configuration.child_mut("resources").children {
        let primitive = match top.name.as_str() {
            "clone" => top.child_mut("primitive"),
            _ => top,
        };
        let id = format!("{}.meta.berth-managed", primitive.id());
        let mark = Element::new("nvpair").with("id", id);
        let mark = mark.with("name", "berth-managed").with("value", "true");
        primitive.child_mut("meta_attributes").children.push(mark);
    }
    cib
}

#[test]
#[ignore = "needs pacemaker"]
fn a_running_cluster_of_an_earlier_version_gets_the_tag_and_nothing_is_touched() {
    let old = by_an_earlier_version(&started(EXAMPLE).after);
    let again = simulate(&old, &[]);
    assert_eq!(changes(&again), [""; 0], "it had settled");
    let wanted = render::xml::configuration(&model_of(EXAMPLE, Features::CURRENT));
    let merged = merge(&old, &wanted, OWNERSHIP).unwrap();
    let said: Vec<String> = merged.changes.iter().map(ToString::to_string).collect();
    let (tag, marks) = said.split_last().unwrap();
    assert_eq!(tag, "+ tag berth");
    assert_eq!(marks.len(), 11);
    assert!(
        marks
            .iter()
            .all(|m| m.ends_with(": meta berth-managed removed")),
        "{marks:?}"
    );
    Cib::default().verify(&merged.cib, soon()).unwrap();
    let after = simulate(&merged.cib, &[]);
    assert_eq!(after.actions, [""; 0], "not even a monitor is started anew");
    let settled = merge(&merged.cib, &wanted, OWNERSHIP).unwrap();
    assert_eq!(settled.changes, []);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_that_is_to_stay_is_moved_by_its_meta_attribute() {
    let first = started(EXAMPLE);
    let text = first.after.to_string();
    let home = |node| format!(r#"name="berth-home" value="{node}""#);
    assert!(text.contains(&home("n1")));
    let moved = Element::parse(&text.replace(&home("n1"), &home("n3"))).unwrap();
    let moved = simulate(&moved, &[]);
    for id in [
        "alpha",
        "alpha-home",
        "alpha-data",
        "alpha-ip1",
        "alpha-ip2",
    ] {
        assert_eq!(moved.place(id), "n3", "{id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[ignore = "needs pacemaker"]
    fn any_plan_is_accepted_and_everything_is_placed(toml in any_config::toml()) {
        for features in [Features::CURRENT, Features::ALL] {
            let configuration = render::xml::configuration(&model_of(&toml, features));
            Cib::default().verify(&cib(Some(&configuration)), soon()).unwrap();
        }
        let outcome = started(&toml);
        let model = model_of(&toml, Features::CURRENT);
        let resources = || model.resources.iter().filter(|r| !r.cloned);
        for resource in resources() {
            prop_assert_ne!(outcome.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
        let gone = simulate(&outcome.after, &["--node-down=n3"]);
        // Nothing in such a file is bound to n3.
        for resource in resources() {
            prop_assert_ne!(gone.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
    }
}

/// A node's record of one of its resources: each operation with its id, result and interval.
fn on_record(resource: &str, provider: &str, operations: &[(&str, u32, u32)]) -> Element {
    let operation = |(id, code, interval): &(&str, u32, u32)| {
        let id = format!("{}_{id}", resource.split(':').next().unwrap_or_default());
        Element::new("lrm_rsc_op")
            .with("id", id)
            .with("operation", "monitor")
            .with("call-id", 7)
            .with("rc-code", code)
            .with("op-status", 0)
            .with("interval", interval)
    };
    Element::new("lrm_resource")
        .with("id", resource)
        .with("class", "ocf")
        .with("provider", provider)
        .with("type", "vip")
        .containing(operations.iter().map(operation))
}

#[test]
#[ignore = "needs pacemaker"]
fn what_is_degraded_and_monitored_no_more_is_found_on_its_own_node() {
    let attribute = Element::new("nvpair")
        .with("id", "status-1-berth-ports")
        .with("name", "berth-ports")
        .with("value", 3);
    let attributes = Element::new("instance_attributes")
        .with("id", "status-1")
        .containing([attribute]);
    // As 2.1.5 and 3.0.0 leave it when a monitor is cancelled that stands at 190.
    let left = [("last_0", 0, 0), ("last_failure_0", 190, 10_000)];
    let resources = [
        on_record("portwatch:1", "berth", &left),
        on_record("theirs", "heartbeat", &left),
        on_record(
            "degraded",
            "berth",
            &[
                ("last_failure_0", 190, 10_000),
                ("monitor_10000", 190, 10_000),
            ],
        ),
        on_record(
            "good",
            "berth",
            &[("last_0", 0, 0), ("monitor_10000", 0, 10_000)],
        ),
        on_record(
            "begun-anew",
            "berth",
            &[
                ("last_failure_0", 190, 10_000),
                ("monitor_10000", 193, 10_000),
            ],
        ),
        on_record(
            "failed",
            "berth",
            &[("last_0", 0, 0), ("last_failure_0", 1, 10_000)],
        ),
    ];
    let others = [on_record("elsewhere", "berth", &left)];
    let node = |id: u32, resources: &[Element]| {
        let all = Element::new("lrm_resources").containing(resources.iter().cloned());
        Element::new("node_state")
            .with("id", id)
            .with("uname", format!("n{id}"))
            .containing([Element::new("lrm").with("id", id).containing([all])])
    };
    let mut first = node(1, &resources);
    let transient = Element::new("transient_attributes").with("id", 1);
    first.children.push(transient.containing([attributes]));
    let mut cib = cib(None);
    cib.child_mut("status").children = vec![first, node(2, &others), node(3, &[])];
    let file = TempDir::new().unwrap();
    let file = file.path().join("cib.xml");
    std::fs::write(&file, cib.to_string()).unwrap();
    for (asked, found) in [
        ("n1", &["portwatch"][..]),
        ("n2", &["elsewhere"]),
        ("n3", &[]),
    ] {
        let mut query = command("/usr/sbin/cibadmin");
        query.args(["--query", "--xpath", &survey::xpath(asked)]);
        query.env("CIB_file", &file);
        let answer = run(query, soon()).unwrap().check("cibadmin").unwrap();
        let survey = survey::parse(&answer.text()).unwrap();
        assert!(survey.unmonitored.iter().eq(found), "{asked}: {survey:?}");
        assert_eq!(survey.values["berth-ports"]["n1"], "3");
    }
}
