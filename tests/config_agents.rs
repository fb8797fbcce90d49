//! The plan and the agents agree: each parameter that is set exists, and its value is accepted.
#![allow(clippy::unwrap_used)] // a test may panic

use berth::config;
use berth::config::ids::Known;
use berth::config::model::{self, Features};
use berth::ocf::Env;
use common::AGENTS;
use proptest::prelude::*;

mod any_config;
mod common;

fn check(toml: &str) {
    let config = config::parse("berth.toml", toml).unwrap();
    let model = model::build(&config, Features::CURRENT, &Known::new());
    for resource in &model.resources {
        let name = resource.agent.name();
        let Some(installed) = AGENTS.iter().find(|a| a.agent.name == name) else {
            continue;
        };
        let declared = installed.agent.params;
        for (parameter, _) in &resource.params {
            let known = declared.iter().any(|d| d.spec().name == *parameter);
            assert!(known, "{name} has no parameter {parameter}");
        }
        let set = resource
            .params
            .iter()
            .map(|(n, value)| (format!("OCF_RESKEY_{n}"), value.clone()));
        let env = Env::from_variables(set);
        for parameter in declared {
            parameter.check(&env).unwrap();
        }
    }
}

#[test]
fn the_agents_accept_what_the_example_sets() {
    check(include_str!("../examples/berth.toml"));
}

#[test]
fn the_agents_accept_the_rarer_keys_at_their_limits() {
    let example = include_str!("../examples/berth.toml");
    let more = "priority = 50\nservices = [\"nfs\", \"smb\"]\ncommand = \"/usr/bin/env x=1 y\"\nconfig_dir = \"/etc/berth/beta\"\n";
    for (lease, grace, stop) in [(5, 6, 1), (300, 600, 600)] {
        let text =
            format!("{more}nfs_lease = {lease}\nnfs_grace = {grace}\nstop_timeout = {stop}\n");
        check(&example.replace("priority = 50\n", &text));
    }
    let only_command = "vips = [\"10.1.0.60\"]\ncommand = \"/bin/x\"";
    let text = example.replace("vips = [\"10.1.0.60\", \"10.2.0.60\"]", only_command);
    let text = text.replace(
        "nfs = { clients = [\"*\"], access = \"ro\" }",
        "options = \"noatime,ro\"",
    );
    check(&text.replace("smb = { share = \"data\" }", ""));
}

proptest! {
    #[test]
    fn the_agents_accept_any_plan(toml in any_config::toml()) {
        check(&toml);
    }
}
