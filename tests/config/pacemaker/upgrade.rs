//! A cluster that an earlier version of berth has set up.

use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::cluster::merge::merge;
use berth::config::ids::OWNERSHIP;
use berth::config::model::Features;
use berth::config::render;

use crate::EXAMPLE;
use crate::simulation::{changes, model_of, simulate, soon, started};

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
