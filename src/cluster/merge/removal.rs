//! Stopping what is to be removed, so that it can be told from what an administrator has stopped, and
//! undone.

use super::{Ownership, pairs, primitive_of};
use crate::cluster::element::Element;

const ROLE: &str = "target-role";
const STOPPED: &str = "Stopped";
/// The mark's value where there was no `target-role`.
const NONE: &str = "default";

/// The CIB with `target-role=Stopped` on the primitives of those ids, so that they stop in the order
/// that their constraints ask for, while these are still there. Each has a mark of what it had before.
pub(crate) fn stopping(live: &Element, ids: &[String], owner: Ownership) -> Element {
    each(live, ids, |primitive| {
        let former = meta(primitive, ROLE).map(str::to_owned);
        let stopped = former
            .as_deref()
            .is_some_and(|role| role.eq_ignore_ascii_case(STOPPED));
        // By an administrator, or by an attempt before, which has left its mark.
        if !stopped {
            set_meta(
                primitive,
                owner.stop_mark,
                former.as_deref().unwrap_or(NONE),
            );
            set_meta(primitive, ROLE, STOPPED);
        }
    })
}

/// The CIB with the `target-role` that those of these primitives had before [`stopping`] that still bear
/// its mark.
pub(crate) fn resuming(live: &Element, ids: &[String], owner: Ownership) -> Element {
    each(live, ids, |primitive| {
        resume(primitive, owner);
    })
}

/// Gives a primitive back the `target-role` that it had before [`stopping`], unless somebody has set
/// another one since. Whether there was anything to undo.
pub(crate) fn resume(primitive: &mut Element, owner: Ownership) -> bool {
    let Some(former) = meta(primitive, owner.stop_mark).map(str::to_owned) else {
        return false;
    };
    remove_meta(primitive, owner.stop_mark);
    if meta(primitive, ROLE) == Some(STOPPED) {
        match former.as_str() {
            NONE => remove_meta(primitive, ROLE),
            role => set_meta(primitive, ROLE, role),
        }
    }
    true
}

fn each(live: &Element, ids: &[String], change: impl Fn(&mut Element)) -> Element {
    let mut cib = live.clone();
    let resources = cib.child_mut("configuration").child_mut("resources");
    for top in &mut resources.children {
        if !primitive_of(top).is_some_and(|p| ids.iter().any(|id| id == p.id())) {
            continue;
        }
        change(match top.name.as_str() {
            "clone" => top.child_mut("primitive"),
            _ => top,
        });
    }
    cib
}

fn meta<'p>(primitive: &'p Element, name: &str) -> Option<&'p str> {
    let mut found = pairs(primitive, "meta_attributes").filter(|(n, _)| *n == name);
    found.next().map(|(_, value)| value)
}

/// The sets of meta attributes that hold always.
fn sets(primitive: &mut Element) -> impl Iterator<Item = &mut Element> {
    let children = primitive.children.iter_mut();
    children.filter(|set| set.name == "meta_attributes" && set.child("rule").is_none())
}

fn remove_meta(primitive: &mut Element, name: &str) {
    for set in sets(primitive) {
        set.children.retain(|pair| pair.get("name") != Some(name));
    }
}

fn set_meta(primitive: &mut Element, name: &str, value: &str) {
    remove_meta(primitive, name);
    let id = format!("{}.meta", primitive.id());
    let pair = Element::new("nvpair")
        .with("id", format!("{id}.{name}"))
        .with("name", name)
        .with("value", value);
    if let Some(set) = sets(primitive).next() {
        set.children.push(pair);
        return;
    }
    let set = Element::new("meta_attributes").with("id", id);
    primitive.children.push(set.containing([pair]));
    // The schema takes the sets in any order, but the operations only after them.
    primitive.children.sort_by_key(|c| match c.name.as_str() {
        "instance_attributes" | "meta_attributes" | "utilization" => 0,
        _ => 1,
    });
}
