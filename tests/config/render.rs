//! What holds of the plan of any valid file.

use std::collections::{BTreeMap, BTreeSet};

use berth::cluster::element::Element;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::{self, Features, Kind, Model, Reward, Score};
use berth::config::{self, render};
use proptest::prelude::*;

use crate::simulation::model_of;
use crate::{EXAMPLE, any_config};

/// The most that stickiness and rewards add up to for one resource on one node.
fn highest_sum(model: &Model) -> u32 {
    let mut sums: BTreeMap<&str, u32> = BTreeMap::new();
    for resource in &model.resources {
        *sums.entry(&resource.id).or_default() += resource
            .meta("resource-stickiness")
            .unwrap()
            .parse::<u32>()
            .unwrap();
    }
    for constraint in &model.constraints {
        match &constraint.kind {
            Kind::Location {
                resource,
                reward: Reward::Score(Score::Points(n)),
                ..
            } => {
                *sums.entry(resource).or_default() += n;
            }
            // The largest placement that rebalance writes; no node says that it has as much room.
            Kind::Location {
                resource,
                reward: Reward::Attribute(_),
                ..
            } => {
                *sums.entry(resource).or_default() += 200;
            }
            Kind::Colocation {
                with,
                score: Score::Points(n),
                ..
            } => *sums.entry(with).or_default() += n,
            _ => {}
        }
    }
    sums.into_values().max().unwrap_or_default()
}

#[test]
fn a_rule_waits_for_the_agent_that_writes_its_attribute() {
    let xml = render::xml::configuration(&model_of(EXAMPLE, Features::CURRENT)).to_string();
    assert!(xml.contains("portwatch-clone") && xml.contains("berth-ports"));
    assert!(xml.contains("berth-nopath-alpha") && xml.contains("berth-spare"));
    for attribute in ["berth-storage", "berth-place", "#is_dc"] {
        assert!(!xml.contains(attribute), "{attribute}");
    }
    let all = render::xml::configuration(&model_of(EXAMPLE, Features::ALL)).to_string();
    assert!(all.contains("berth-place-alpha") && all.contains("berth-storage-array1"));
}

#[test]
fn without_ports_there_is_no_portwatch_and_no_rule_on_what_it_would_write() {
    let lines = EXAMPLE.lines().filter(|line| !line.starts_with("ports ="));
    let toml = lines.collect::<Vec<_>>().join("\n");
    for features in [Features::CURRENT, Features::ALL] {
        let xml = render::xml::configuration(&model_of(&toml, features)).to_string();
        for word in [
            "portwatch",
            "berth-ports",
            "berth-net",
            "berth-storage",
            "berth-spare",
        ] {
            assert!(!xml.contains(word), "{word}");
        }
    }
    let warnings = config::warnings(&config::parse("berth.toml", &toml).unwrap());
    let nothing = "no node has ports, so nothing is watched: give each node its ports";
    assert_eq!(warnings, [nothing]);
}

/// What portwatch is told by a file: everywhere, and on single nodes.
fn told(toml: &str) -> (BTreeMap<&'static str, String>, Vec<String>) {
    let model = model_of(toml, Features::CURRENT);
    let watch = model
        .resources
        .into_iter()
        .find(|r| r.id == "portwatch")
        .unwrap();
    let by_node = watch
        .node_params
        .iter()
        .map(|(node, pairs)| format!("{node}: {pairs:?}"));
    let by_node = by_node.collect();
    (watch.params.into_iter().collect(), by_node)
}

#[test]
fn portwatch_is_told_the_subnets_and_only_the_settings_that_are_in_the_file() {
    let toml = "[subnets]\na = { cidr = \"10.1.0.0/24\", gateway = \"10.1.0.254\", cidr6 = \"fd00:1::/64\", gateway6 = \"fd00:1::254\" }\n\
        b = { cidr = \"10.2.0.0/24\", targets = [\"10.2.0.1\", \"10.2.0.2\"] }\n\
        [nodes.n1]\nports = { eth2 = \"b\", eth1 = \"a\" }\n[nodes.n2]\nports = { eth1 = \"a\", eth2 = \"b\" }\n";
    let (everywhere, by_node) = told(toml);
    let expected = BTreeMap::from([
        (
            "subnets",
            "a=10.1.0.0/24,10.1.0.254 a=fd00:1::/64,fd00:1::254 b=10.2.0.0/24".to_owned(),
        ),
        ("targets", "10.2.0.1 10.2.0.2".to_owned()),
        ("ports", "eth1=a eth2=b".to_owned()),
    ]);
    assert_eq!((everywhere, by_node), (expected, Vec::new()));
    let watch = "[portwatch]\ninterval = \"2s\"\nfail_after = 5\nrecover_after = 0\nbalance = 0\n";
    let (everywhere, _) = told(&format!("{toml}{watch}"));
    let said =
        ["interval", "fail_after", "recover_after", "balance"].map(|name| &everywhere[name][..]);
    assert_eq!(said, ["2000ms", "5", "0s", "0"]);
}

#[test]
fn nodes_with_different_ports_have_each_their_own() {
    let toml = "[subnets]\na = { cidr = \"10.1.0.0/24\" }\n[nodes.n1]\nports = { eth1 = \"a\" }\n\
        [nodes.n2]\nports = { eno1 = \"a\", eno2 = \"a\" }\n[nodes.n3]\n";
    let (everywhere, by_node) = told(toml);
    assert!(!everywhere.contains_key("ports"));
    let expected = [
        r#"n1: [("ports", "eth1=a")]"#,
        r#"n2: [("ports", "eno1=a eno2=a")]"#,
    ];
    assert_eq!(by_node, expected);
}

#[test]
fn the_order_of_entries_changes_no_id_but_those_of_new_addresses() {
    let config = config::parse("f", EXAMPLE).unwrap();
    let ids = |c: &config::Config, known: &Known| -> BTreeSet<(String, String)> {
        let model = build::build(c, Features::CURRENT, known);
        let key = |r: model::Resource| {
            let identity = r
                .params
                .into_iter()
                .filter(|(n, _)| ["ip", "directory", "name", "vserver"].contains(n));
            (r.id, format!("{:?}", identity.collect::<Vec<_>>()))
        };
        model.resources.into_iter().map(key).collect()
    };
    let known: Known = config
        .vservers
        .iter()
        .flat_map(|v| {
            let name = &v.name.value;
            v.vips
                .iter()
                .enumerate()
                .map(move |(n, vip)| ((name.clone(), vip.ip.value), config::ids::vip(name, n + 1)))
        })
        .collect();
    let mut other = config.clone();
    other.vservers.reverse();
    for vserver in &mut other.vservers {
        vserver.vips.reverse();
        vserver.filesystems.reverse();
    }
    assert_eq!(ids(&config, &known), ids(&other, &known));
}

#[test]
fn the_scores_of_a_very_large_server_do_not_saturate() {
    let vips = (0..200).map(|n| format!("\"10.1.0.{}\"", n + 20));
    let filesystems = (0..121).map(|n| {
        format!(
            "[[vserver.a.filesystem]]\ndevice = \"/dev/{n}\"\npath = \"/{n}\"\nunit = \"u{n}\"\nnfs = {{ clients = [\"*\"] }}\n\
             [storage.u{n}]\nprobe = [\"/dev/{n}\"]\n"
        )
    });
    let toml = format!(
        "[subnets]\ns = {{ cidr = \"10.1.0.0/24\" }}\n[nodes.n1]\nports = {{ eth1 = \"s\" }}\n\
         [vserver.a]\nvips = [{}]\n{}",
        vips.collect::<Vec<_>>().join(", "),
        filesystems.collect::<String>()
    );
    let sum = highest_sum(&model_of(&toml, Features::ALL));
    assert!((900_000..1_000_000).contains(&sum), "{sum}");
}

/// The commands of all virtual servers, in the order of their resources.
fn commands_of(model: &Model) -> Vec<String> {
    let all = model.resources.iter().flat_map(|r| &r.params);
    let commands = all.filter(|(name, _)| *name == "command");
    commands.map(|(_, value)| value.clone()).collect()
}

/// The commands as crmsh reads them: words with quotes, in which a backslash stands before a quote or a backslash.
fn in_crm(model: &Model) -> Vec<String> {
    let text = render::crm::commands(model);
    let mut commands = Vec::new();
    for line in text.replace(" \\\n\t", " ").lines() {
        let (mut word, mut quotes, mut letters) = (String::new(), false, line.chars());
        let mut words = Vec::new();
        while let Some(c) = letters.next() {
            match c {
                '"' => quotes = !quotes,
                '\\' if quotes => word.extend(letters.next()),
                ' ' if !quotes => words.push(std::mem::take(&mut word)),
                c => word.push(c),
            }
        }
        assert!(!quotes, "{line}");
        words.push(word);
        let given = words.iter().filter_map(|w| w.strip_prefix("command="));
        commands.extend(given.map(str::to_owned));
    }
    commands
}

/// The commands as a shell gives them to pcs. Nothing else is run by it.
fn in_pcs(script: &str) -> Vec<String> {
    const STAND_INS: &str = "pcs() { for word; do case $word in command=*) printf '%s\\0' \"$word\" ;; esac; done; }\n\
        cp() { :; }\nexport PATH=/nowhere\ncibadmin() { :; }\n";
    let mut shell = berth::sys::command::command("/bin/sh");
    shell.args(["-c", &format!("{STAND_INS}{script}")]);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let output = berth::sys::command::run(shell, limit).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text
        .split_terminator('\0')
        .map(|word| word.strip_prefix("command=").unwrap());
    words.map(str::to_owned).collect()
}

proptest! {
    #[test]
    fn any_plan_is_sound(toml in any_config::toml()) {
        for features in [Features::CURRENT, Features::ALL] {
            let model = model_of(&toml, features);
            let tree = render::xml::configuration(&model);
            prop_assert_eq!(&Element::parse(&tree.to_string()).unwrap(), &tree);
            let mut ids = BTreeSet::new();
            let refers = |e: &&Element| e.name.ends_with("_ref");
            for element in tree.walk().filter(|e| !refers(e) && e.get("id").is_some()) {
                prop_assert!(ids.insert(element.id()), "id {} is there twice", element.id());
            }
            for reference in tree.walk().filter(refers) {
                prop_assert!(ids.contains(reference.id()), "{} is nowhere", reference.id());
            }
            prop_assert!(highest_sum(&model) < 1_000_000);
            let commands = commands_of(&model);
            let in_xml: Vec<String> = tree
                .walk()
                .filter(|e| e.name == "nvpair" && e.get("name") == Some("command"))
                .map(|e| e.get("value").unwrap().to_owned())
                .collect();
            prop_assert_eq!(&in_xml, &commands);
            prop_assert_eq!(&Element::parse(&tree.to_string()).unwrap(), &tree);
            prop_assert_eq!(&in_crm(&model), &commands);
            let script = render::pcs::script(&model);
            prop_assert_eq!(&in_pcs(&script), &commands);
            let commands = ["pcs ", "rule ", "CIB_file=berth-cib.xml cibadmin ", "# "];
            let known = |l: &str| commands.iter().any(|c| l.starts_with(c));
            let (_, rest) = script.split_once("\ncp ").unwrap();
            prop_assert!(rest.lines().skip(1).all(known));
        }
    }
}
