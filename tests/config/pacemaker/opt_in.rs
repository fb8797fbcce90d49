//! Clusters in which nothing runs where it is not allowed to.

use std::collections::{BTreeMap, BTreeSet};

use berth::cluster::allowance::Allowance;
use berth::cluster::element::Element;
use berth::cluster::merge::merge;
use berth::config::ids::OWNERSHIP;
use berth::config::model::{Features, Model};
use berth::config::render;

use crate::EXAMPLE;
use crate::simulation::{changes, cib, model_of, simulate};

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
