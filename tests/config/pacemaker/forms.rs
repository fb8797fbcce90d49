//! The three forms of a plan say the same: what crm and pcs make of their own, and the configuration as XML.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::cluster::canonical;
use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::cluster::merge::merge;
use berth::config::ids::OWNERSHIP;
use berth::config::model::{Features, Model};
use berth::config::render;
use berth::sys::command::{command, run};
use tempfile::TempDir;

use crate::EXAMPLE;
use crate::simulation::{cib, model_of, soon};

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
