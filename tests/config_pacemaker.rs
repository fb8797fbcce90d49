//! What Pacemaker's own tools make of a plan: the three forms say the same, the schema accepts it, and
//! the scheduler does with it what is wanted.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use berth::cluster::canonical;
use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::config::ids::Known;
use berth::config::model::{self, Features, Model};
use berth::config::{self, render};
use berth::sys::command::{command, run};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../examples/berth.toml");
const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn model_of(toml: &str, features: Features) -> Model {
    let config = config::parse("berth.toml", toml).unwrap();
    model::build(&config, features, &Known::new())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

/// A cluster of three nodes with nothing on it but what `configuration` has.
fn cib(configuration: Option<&Element>) -> Element {
    let property = |name: &str, value: &str| {
        Element::new("nvpair")
            .with("id", format!("o-{name}"))
            .with("name", name)
            .with("value", value)
    };
    let nodes = NODES.iter().enumerate();
    let nodes = nodes.map(|(i, n)| Element::new("node").with("id", i + 1).with("uname", n));
    let empty = Element::new("configuration")
        .containing([Element::new("resources"), Element::new("constraints")]);
    let given = configuration.unwrap_or(&empty);
    let options = Element::new("cluster_property_set").with("id", "options");
    let options = options.containing([property("stonith-enabled", "false")]);
    let mut all = Element::new("configuration").containing([
        Element::new("crm_config").containing([options]),
        Element::new("nodes").containing(nodes),
    ]);
    all.children.extend(given.children.iter().cloned());
    Element::new("cib")
        .with("crm_feature_set", "3.16.1")
        .with("validate-with", "pacemaker-3.9")
        .with("admin_epoch", 0)
        .with("epoch", 1)
        .with("num_updates", 0)
        .with("have-quorum", 1)
        .with("dc-uuid", 1)
        .containing([all, Element::new("status")])
}

/// Everything that a CIB's resources and constraints say.
fn said(cib: &Element) -> BTreeSet<String> {
    let configuration = cib.child("configuration").unwrap();
    let primitives = configuration.walk().filter(|e| e.name == "primitive");
    let facts = primitives.flat_map(|p| {
        let facts = canonical::facts(p, |_| true);
        facts
            .into_iter()
            .map(|(k, v)| format!("{}: {k}={v}", p.id()))
            .collect::<Vec<_>>()
    });
    let clones = configuration.walk().filter(|e| e.name == "clone");
    let clones = clones.map(|c| format!("{}: of {}", c.id(), c.child("primitive").unwrap().id()));
    let constraints = &configuration.child("constraints").unwrap().children;
    let constraints = constraints
        .iter()
        .map(|c| format!("{}: {}", c.id(), canonical::constraint(c)));
    facts.chain(clones).chain(constraints).collect()
}

/// The one difference between the forms: the shells name the node instead of the meta attribute.
fn with_literal_home(said: BTreeSet<String>) -> BTreeSet<String> {
    let literal = |s: String| s.replace("value-source=meta value=berth-home", "value=n1");
    said.into_iter().map(literal).collect()
}

fn loaded_by_crm(dir: &Path, model: &Model) -> Element {
    let (file, commands) = (dir.join("crm.xml"), dir.join("plan.crm"));
    std::fs::write(&file, cib(None).to_string()).unwrap();
    std::fs::write(&commands, render::crm::commands(model)).unwrap();
    let mut crm = command("/usr/sbin/crm");
    // Forced, as the agents are not installed where the tests run.
    crm.args(["-F", "configure", "load", "update"])
        .arg(commands);
    crm.env("CIB_file", &file).env("HOME", dir);
    run(crm, soon())
        .unwrap()
        .check("crm configure load")
        .unwrap();
    Element::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn loaded_by_pcs(dir: &Path, model: &Model) -> Element {
    let file = dir.join("berth-cib.xml");
    std::fs::write(&file, cib(None).to_string()).unwrap();
    let script = render::pcs::script(model);
    let commands = script.lines().filter(|line| line.starts_with("pcs -f "));
    let forced =
        commands.map(|line| line.replacen("resource create", "resource create --force", 1));
    let script = forced.collect::<Vec<_>>().join("\n");
    let mut shell = command("/bin/sh");
    shell
        .args(["-e", "-c", &script])
        .current_dir(dir)
        .env("HOME", dir);
    run(shell, soon()).unwrap().check("pcs").unwrap();
    Element::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
#[ignore = "needs pacemaker"]
fn the_three_forms_say_the_same() {
    for features in [Features::CURRENT, Features::ALL] {
        let dir = tempfile::tempdir().unwrap();
        let model = model_of(EXAMPLE, features);
        let xml = with_literal_home(said(&cib(Some(&render::xml::configuration(&model)))));
        assert_eq!(said(&loaded_by_crm(dir.path(), &model)), xml, "crm");
        assert_eq!(said(&loaded_by_pcs(dir.path(), &model)), xml, "pcs");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn awkward_values_survive_both_shells() {
    let dir = tempfile::tempdir().unwrap();
    let toml = EXAMPLE
        .replace("share = \"data\", users", "share = \"Q1 new $HOME\", users")
        .replace(
            "stay_on = \"n1\"",
            "command = '/bin/x --say \"a b\" $(id) `id` \\ '",
        );
    let model = model_of(&toml, Features::CURRENT);
    let xml = said(&cib(Some(&render::xml::configuration(&model))));
    assert_eq!(said(&loaded_by_pcs(dir.path(), &model)), xml, "pcs");
    assert_eq!(said(&loaded_by_crm(dir.path(), &model)), xml, "crm");
}

/// What a simulated transition did and where everything is after it.
struct Outcome {
    actions: Vec<String>,
    places: BTreeMap<String, String>,
    after: Element,
}

impl Outcome {
    fn position(&self, action: &str) -> usize {
        let found = self.actions.iter().position(|a| a == action);
        found.unwrap_or_else(|| panic!("no {action:?} in {:#?}", self.actions))
    }

    fn place(&self, resource: &str) -> &str {
        self.places.get(resource).map_or("nowhere", String::as_str)
    }
}

fn simulate(cib: &Element, arguments: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before.xml"), dir.path().join("after.xml"));
    std::fs::write(&before, cib.to_string()).unwrap();
    let mut simulate = command("/usr/sbin/crm_simulate");
    simulate
        .args(["--simulate", "--quorum=true", "--xml-file"])
        .arg(before);
    simulate.arg("--save-output").arg(&after).args(arguments);
    let text = run(simulate, soon())
        .unwrap()
        .check("crm_simulate")
        .unwrap()
        .text();
    let actions = text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("* Resource action: "));
    let actions = actions.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    let status = text.split("Revised Cluster Status").nth(1).unwrap();
    let places = status.lines().filter_map(|line| {
        let (resource, state) = line
            .trim()
            .strip_prefix("* ")?
            .split_once("\t(ocf:berth:")?;
        let node = state.split_once("Started ")?.1.split_whitespace().next()?;
        Some((resource.to_owned(), node.to_owned()))
    });
    Outcome {
        actions: actions.collect(),
        places: places.collect(),
        after: Element::parse(&std::fs::read_to_string(after).unwrap()).unwrap(),
    }
}

/// As the controller counts a failed start: crm_simulate adds 1, it takes the node's last chance.
fn with_fatal_starts(cib: &Element) -> Element {
    let text = cib.to_string();
    let text = text.replace("#start_0\" value=\"1\"", "#start_0\" value=\"INFINITY\"");
    Element::parse(&text).unwrap()
}

/// A cluster that has just started everything of `toml`.
fn started(toml: &str) -> Outcome {
    let configuration = render::xml::configuration(&model_of(toml, Features::CURRENT));
    let up: Vec<String> = NODES.iter().map(|n| format!("--node-up={n}")).collect();
    let up: Vec<&str> = up.iter().map(String::as_str).collect();
    simulate(&cib(Some(&configuration)), &up)
}

/// Three virtual servers of different priority that start on one node.
fn three_servers() -> String {
    let mut toml = String::from("[subnets]\na = { cidr = \"10.1.0.0/24\" }\n");
    for (n, (name, priority)) in [("low", 1), ("high", 100), ("mid", 50)]
        .into_iter()
        .enumerate()
    {
        toml.push_str(&format!(
            "[vserver.{name}]\npriority = {priority}\nvips = [\"10.1.0.1{n}\", \"10.1.0.2{n}\"]\n\
             [[vserver.{name}.filesystem]]\ndevice = \"/dev/{name}\"\npath = \"/home\"\nnfs = {{ clients = [\"*\"] }}\n\
             [[vserver.{name}.filesystem]]\ndevice = \"/dev/{name}2\"\npath = \"/data\"\nnfs = {{ clients = [\"*\"] }}\n"
        ));
    }
    toml
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

mod any_config;

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
        for resource in &model_of(&toml, Features::CURRENT).resources {
            prop_assert_ne!(outcome.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
        let gone = simulate(&outcome.after, &["--node-down=n3"]);
        // Nothing in such a file is bound to n3.
        for resource in &model_of(&toml, Features::CURRENT).resources {
            prop_assert_ne!(gone.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
    }
}
