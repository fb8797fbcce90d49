//! The plan and the agents agree: each parameter that is set exists, and its value is accepted.

use berth::agent;
use berth::config;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::{Features, Pair};
use berth::ocf::{Agent, Env};
use proptest::prelude::*;

use crate::any_config;

/// The declarations of what a plan consists of.
const AGENTS: [&Agent; 4] = [
    &agent::fscheck::AGENT,
    &agent::vserver::AGENT,
    &agent::vip::AGENT,
    &agent::portwatch::AGENT,
];

fn check(toml: &str) {
    let config = config::parse("berth.toml", toml).unwrap();
    let model = build::build(&config, Features::CURRENT, &Known::new());
    for resource in &model.resources {
        let name = resource.agent.name();
        let agent = AGENTS.into_iter().find(|agent| agent.name == name);
        let agent = agent.unwrap_or_else(|| panic!("{name} is not declared"));
        check_parameters(agent, &resource.params);
        for (_, on_one_node) in &resource.node_params {
            let params = [&resource.params[..], on_one_node].concat();
            check_parameters(agent, &params);
        }
    }
}

fn check_parameters(agent: &Agent, params: &[Pair]) {
    for (parameter, _) in params {
        let known = agent.params.iter().any(|d| d.spec().name == *parameter);
        assert!(known, "{} has no parameter {parameter}", agent.name);
    }
    let set = params
        .iter()
        .map(|(n, value)| (format!("OCF_RESKEY_{n}"), value.clone()));
    let env = Env::from_variables(set);
    for parameter in agent.params {
        parameter.check(&env).unwrap();
    }
}

#[test]
fn the_agents_accept_what_the_example_sets() {
    check(include_str!("../../examples/berth.toml"));
}

#[test]
fn the_agents_accept_the_rarer_keys_at_their_limits() {
    let example = include_str!("../../examples/berth.toml");
    let more = "priority = 50\nservices = [\"nfs\", \"smb\"]\ncommand = \"/usr/bin/env x=1 y\"\nconfig_dir = \"/etc/berth/beta\"\nallow_calls = [\"bpf\", \"io_uring_setup\"]\n";
    for (lease, grace, stop, most, memory, pids, weight) in [
        (5, 6, 1, 1, "128M", 64, 1),
        (300, 600, 600, 100_000, "100%", 4_194_304, 10_000),
    ] {
        let text = format!(
            "{more}nfs_lease = {lease}\nnfs_grace = {grace}\nstop_timeout = {stop}\nmax_connections = {most}\nmax_connections_per_client = {most}\n\
             memory_max = \"{memory}\"\npids_max = {pids}\ncpu_weight = {weight}\nio_weight = {weight}\n"
        );
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
