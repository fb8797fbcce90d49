//! A cluster of three nodes as Pacemaker's scheduler sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::cluster::merge::merge;
use berth::config::build;
use berth::config::ids::{Known, OWNERSHIP};
use berth::config::model::{Features, Model};
use berth::config::{self, render};
use berth::sys::command::{command, run};

/// The nodes' names.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];

pub fn model_of(toml: &str, features: Features) -> Model {
    let config = config::parse("berth.toml", toml).unwrap();
    build::build(&config, features, &Known::new())
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

/// A cluster of three nodes with nothing on it but what `configuration` has.
pub fn cib(configuration: Option<&Element>) -> Element {
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

/// What a simulated transition did and where everything is after it.
pub struct Outcome {
    pub actions: Vec<String>,
    pub places: BTreeMap<String, String>,
    pub after: Element,
}

impl Outcome {
    pub fn position(&self, action: &str) -> usize {
        let found = self.actions.iter().position(|a| a == action);
        found.unwrap_or_else(|| panic!("no {action:?} in {:#?}", self.actions))
    }

    pub fn place(&self, resource: &str) -> &str {
        self.places.get(resource).map_or("nowhere", String::as_str)
    }
}

pub fn simulate(cib: &Element, arguments: &[&str]) -> Outcome {
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

/// The cluster after nodes have published attributes, or taken them back.
pub fn published<V: Into<Option<u32>> + Copy>(
    cib: &Element,
    attributes: &[(&str, &str, V)],
) -> Element {
    let mut cib = cib.clone();
    for (node, name, value) in attributes {
        let states = &mut cib.child_mut("status").children;
        let state = states.iter_mut().find(|s| s.get("uname") == Some(node));
        let transient = state.unwrap().child_mut("transient_attributes");
        transient.set("id", node);
        let set = transient.child_mut("instance_attributes");
        set.set("id", format!("status-{node}"));
        set.children.retain(|pair| pair.get("name") != Some(name));
        if let Some(value) = (*value).into() {
            let pair = Element::new("nvpair")
                .with("id", format!("status-{node}-{name}"))
                .with("name", name)
                .with("value", value);
            set.children.push(pair);
        }
    }
    cib
}

/// What is started or stopped.
pub fn changes(outcome: &Outcome) -> Vec<&str> {
    let changes = outcome.actions.iter().map(String::as_str);
    changes.filter(|a| !a.contains(" monitor")).collect()
}

/// The live cluster with the configuration of another file.
pub fn applied(live: &Element, toml: &str) -> Element {
    let wanted = render::xml::configuration(&model_of(toml, Features::CURRENT));
    let cib = merge(live, &wanted, OWNERSHIP).unwrap().cib;
    Cib::default().verify(&cib, soon()).unwrap();
    cib
}

/// What each primitive's score on each node is before anything is placed; `None` where it is infinite.
pub fn scores(cib: &Element) -> BTreeMap<(String, String), Option<i64>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cib.xml");
    std::fs::write(&file, cib.to_string()).unwrap();
    let mut simulate = command("/usr/sbin/crm_simulate");
    simulate
        .args(["--show-scores", "--output-as=xml", "--xml-file"])
        .arg(file);
    let text = run(simulate, soon())
        .unwrap()
        .check("crm_simulate")
        .unwrap()
        .text();
    let answer = Element::parse(&text).unwrap();
    let all = answer.walk().filter(|e| e.name == "node_weight");
    let first = all.filter(|e| e.get("function") == Some("pcmk__primitive_assign"));
    let scores = first.map(|e| {
        let node = e.get("node").unwrap();
        let score = e.get("score").unwrap();
        ((e.id().to_owned(), node.to_owned()), score.parse().ok())
    });
    scores.collect()
}

/// As the controller counts a failed start: crm_simulate adds 1, it takes the node's last chance.
pub fn with_fatal_starts(cib: &Element) -> Element {
    let text = cib.to_string();
    let text = text.replace("#start_0\" value=\"1\"", "#start_0\" value=\"INFINITY\"");
    Element::parse(&text).unwrap()
}

/// A cluster that has just started everything of `toml`.
pub fn started(toml: &str) -> Outcome {
    started_with(toml, Features::CURRENT)
}

/// The same of a version of berth that has only `features`.
pub fn started_with(toml: &str, features: Features) -> Outcome {
    let configuration = render::xml::configuration(&model_of(toml, features));
    let up: Vec<String> = NODES.iter().map(|n| format!("--node-up={n}")).collect();
    let up: Vec<&str> = up.iter().map(String::as_str).collect();
    simulate(&cib(Some(&configuration)), &up)
}

/// Three virtual servers of different priority that start on one node.
pub fn three_servers() -> String {
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
