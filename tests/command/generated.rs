//! What `berth` generates and is committed: manual pages, completions, and the plans of the example
//! file. With `BERTH_REGENERATE=1` (`make gen`) the files are written anew; otherwise they are compared.

use assert_cmd::Command;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::Features;
use berth::config::{self, render};

use crate::committed::compare;

fn output(arguments: &[&str]) -> String {
    let mut berth = Command::cargo_bin("berth").unwrap();
    let assert = berth.args(arguments).assert().success().stderr("");
    String::from_utf8(assert.get_output().stdout.clone()).unwrap()
}

#[test]
fn the_manual_pages_are_the_committed_ones() {
    for page in ["berth.8", "berth.toml.5"] {
        compare(&format!("man/{page}"), &output(&["manual", page]));
    }
}

#[test]
fn the_completions_are_the_committed_ones() {
    for (shell, file) in [
        ("bash", "berth.bash"),
        ("zsh", "_berth"),
        ("fish", "berth.fish"),
    ] {
        compare(
            &format!("completions/{file}"),
            &output(&["completions", shell]),
        );
    }
}

#[test]
fn the_plans_of_the_example_are_the_committed_ones() {
    let config = config::parse("berth.toml", include_str!("../../examples/berth.toml")).unwrap();
    let model = |features| build::build(&config, features, &Known::new());
    let current = model(Features::CURRENT);
    let xml = render::xml::configuration(&current).to_string();
    compare("tests/fixtures/plan.xml", &xml);
    compare("tests/fixtures/plan.crm", &render::crm::commands(&current));
    compare("tests/fixtures/plan.pcs", &render::pcs::script(&current));
    // The one whose behaviour was tried case by case on three nodes.
    let all = render::xml::configuration(&model(Features::ALL)).to_string();
    compare("tests/fixtures/plan-all-features.xml", &all);
}
