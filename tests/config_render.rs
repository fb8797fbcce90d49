//! What holds of the plan of any valid file.
#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::{BTreeMap, BTreeSet};

use berth::cluster::element::Element;
use berth::config::ids::Known;
use berth::config::model::{self, Features, Kind, Model, Reward, Score};
use berth::config::{self, render};
use proptest::prelude::*;

mod any_config;

const EXAMPLE: &str = include_str!("../examples/berth.toml");

fn model_of(toml: &str, features: Features) -> Model {
    let config = config::parse("berth.toml", toml).unwrap();
    model::build(&config, features, &Known::new())
}

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
            // The largest placement that rebalance writes.
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
    for attribute in [
        "berth-ports",
        "berth-storage",
        "berth-net",
        "berth-nopath",
        "berth-place",
        "#is_dc",
    ] {
        assert!(!xml.contains(attribute), "{attribute}");
    }
    let all = render::xml::configuration(&model_of(EXAMPLE, Features::ALL)).to_string();
    assert!(all.contains("berth-nopath-alpha") && all.contains("portwatch-clone"));
}

#[test]
fn the_order_of_entries_changes_no_id_but_those_of_new_addresses() {
    let config = config::parse("f", EXAMPLE).unwrap();
    let ids = |c: &config::Config, known: &Known| -> BTreeSet<(String, String)> {
        let model = model::build(c, Features::CURRENT, known);
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

proptest! {
    #[test]
    fn any_plan_is_sound(toml in any_config::toml()) {
        for features in [Features::CURRENT, Features::ALL] {
            let model = model_of(&toml, features);
            let tree = render::xml::configuration(&model);
            prop_assert_eq!(&Element::parse(&tree.to_string()).unwrap(), &tree);
            let mut ids = BTreeSet::new();
            for element in tree.walk().filter(|e| e.name != "resource_ref" && e.get("id").is_some()) {
                prop_assert!(ids.insert(element.id()), "id {} is there twice", element.id());
            }
            for reference in tree.walk().filter(|e| e.name == "resource_ref") {
                prop_assert!(ids.contains(reference.id()), "{} is nowhere", reference.id());
            }
            prop_assert!(highest_sum(&model) < 1_000_000);
            let script = render::pcs::script(&model);
            prop_assert!(script.lines().skip(1).all(|l| l.starts_with("pcs ") || l.starts_with("cp ")));
        }
    }
}
