//! Brings what is wanted into a CIB that also holds what others made: pure, from tree to tree.

use std::collections::BTreeSet;
use std::fmt;

use super::canonical::{constraint, differences, facts, node_facts, node_of, pairs};
use super::element::Element;

mod conflict;
mod removal;
mod tag;

pub(crate) use conflict::Conflict;
pub(crate) use removal::{resuming, stopping};

/// How the owner of resources and constraints is told from others.
#[derive(Debug, Clone, Copy)]
pub struct Ownership {
    /// The tag that refers to every resource of the owner.
    pub(crate) tag: &'static str,
    /// The provider of the owner's agents: a resource of another one is not the owner's, even if somebody
    /// has put it under the tag.
    pub(crate) provider: &'static str,
    /// The meta attribute, with the value `true`, that stood for the tag in earlier versions.
    pub(crate) former_mark: &'static str,
    /// The meta attribute that says, on a resource that was stopped in order to be removed, what its
    /// `target-role` was before.
    pub(crate) stop_mark: &'static str,
    /// By agent, the parameters that no two resources may have the same values of.
    pub(crate) identity: &'static [(&'static str, &'static [&'static str])],
    /// The prefix of the ids of the owner's constraints.
    pub(crate) prefix: &'static str,
    /// Meta attributes that the owner decides on; others, such as `target-role`, are left alone.
    pub(crate) meta: &'static [&'static str],
    /// Agents of which the owner decides on the parameters for single nodes; what others have set for a
    /// node on a resource of another agent is left alone.
    pub(crate) by_node: &'static [&'static str],
}

impl Ownership {
    /// Ids of the primitives in a `<cib>` that are the owner's.
    pub(crate) fn owned(self, cib: &Element) -> BTreeSet<String> {
        let configuration = cib.child("configuration");
        let tag = configuration.and_then(|c| tag::find(c, self));
        let tagged: BTreeSet<&str> = tag.into_iter().flat_map(tag::references).collect();
        let resources = configuration.and_then(|c| c.child("resources"));
        let all: Vec<&Element> = resources.into_iter().flat_map(Element::walk).collect();
        let clones = all.iter().filter(|e| tagged.contains(e.id()));
        let in_clones = clones.filter_map(|e| primitive_of(e)).map(Element::id);
        let tagged: BTreeSet<&str> = tagged.iter().copied().chain(in_clones).collect();
        let own = all.into_iter().filter(|e| {
            e.name == "primitive"
                && e.get("provider") == Some(self.provider)
                && (tagged.contains(e.id()) || self.marks(e))
        });
        own.map(|e| e.id().to_owned()).collect()
    }

    fn marks(self, primitive: &Element) -> bool {
        let mut meta = pairs(primitive, "meta_attributes");
        meta.any(|pair| pair == (self.former_mark, "true"))
    }

    fn decides_by_node(self, primitive: &Element) -> bool {
        primitive
            .get("type")
            .is_some_and(|agent| self.by_node.contains(&agent))
    }
}

/// One difference between the CIB and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something is added.
    Add(String),
    /// Something is changed: what, and how.
    Modify(String, Vec<String>),
    /// Something is taken away.
    Remove(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(what) => write!(f, "+ {what}"),
            Self::Modify(what, how) => write!(f, "~ {what}: {}", how.join(", ")),
            Self::Remove(what) => write!(f, "- {what}"),
        }
    }
}

/// A CIB after the merge.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The whole CIB.
    pub cib: Element,
    /// What differs from the one before.
    pub changes: Vec<Change>,
    /// Ids of the primitives that are added or changed.
    pub(crate) touched: Vec<String>,
    /// Ids of the primitives that are taken away.
    pub(crate) removed: Vec<String>,
}

/// Makes the resources and constraints of `wanted`, a `<configuration>`, part of `live`, a `<cib>`,
/// and takes away those of the same owner that are not wanted.
///
/// # Errors
/// Something of somebody else's stands in the way.
pub fn merge(live: &Element, wanted: &Element, owner: Ownership) -> Result<Merged, Conflict> {
    let own = owner.owned(live);
    let mut cib = live.clone();
    let mut changes = Vec::new();
    let configuration = cib.child_mut("configuration");
    let wanted_ids: BTreeSet<&str> = ids(section(wanted, "resources")).collect();
    let resources = configuration.child_mut("resources");
    let removed = resources_to_remove(resources, &wanted_ids, &own)?;
    resources.children.retain(|top| {
        let goes = primitive_of(top).is_some_and(|p| removed.iter().any(|id| id == p.id()));
        if goes {
            changes.push(Change::Remove(describe(top)));
        }
        !goes
    });
    let mut touched = Vec::new();
    for new in section(wanted, "resources") {
        let before = changes.len();
        place_resource(resources, new, (owner, &own), &mut changes)?;
        let primitive = primitive_of(new).filter(|_| changes.len() > before);
        touched.extend(primitive.map(|p| p.id().to_owned()));
    }
    let constraints = configuration.child_mut("constraints");
    merge_constraints(constraints, wanted, owner, &mut changes);
    conflict::needed("constraint", constraints, &removed)?;
    changes.extend(tag::merge(configuration, wanted, owner)?);
    if let Some(tags) = configuration.child("tags") {
        conflict::needed("tag", tags, &removed)?;
    }
    Ok(Merged {
        cib,
        changes,
        touched,
        removed,
    })
}

fn section<'e>(configuration: &'e Element, name: &str) -> &'e [Element] {
    configuration.child(name).map_or(&[], |s| &s.children)
}

fn ids(elements: &[Element]) -> impl Iterator<Item = &str> {
    let primitives = elements
        .iter()
        .flat_map(Element::walk)
        .filter(|e| e.name == "primitive");
    primitives.map(Element::id)
}

/// The primitive of a top-level resource that is one, or a clone of one.
fn primitive_of(top: &Element) -> Option<&Element> {
    match top.name.as_str() {
        "primitive" => Some(top),
        "clone" => top.child("primitive"),
        _ => None,
    }
}

fn resources_to_remove(
    resources: &Element,
    wanted: &BTreeSet<&str>,
    own: &BTreeSet<String>,
) -> Result<Vec<String>, Conflict> {
    let mut removed = Vec::new();
    for top in &resources.children {
        for primitive in top
            .walk()
            .filter(|e| e.name == "primitive" && own.contains(e.id()))
        {
            let alone = primitive_of(top).is_some_and(|p| p.id() == primitive.id());
            if !alone {
                return Err(Conflict::Inside {
                    id: primitive.id().to_owned(),
                    kind: top.name.clone(),
                    into: top.id().to_owned(),
                });
            }
            if !wanted.contains(primitive.id()) {
                removed.push(primitive.id().to_owned());
            }
        }
    }
    Ok(removed)
}

fn place_resource(
    resources: &mut Element,
    new: &Element,
    (owner, own): (Ownership, &BTreeSet<String>),
    changes: &mut Vec<Change>,
) -> Result<(), Conflict> {
    let Some(wanted) = primitive_of(new) else {
        return Ok(());
    };
    let is_ours = |top: &Element| {
        primitive_of(top).is_some_and(|p| own.contains(p.id()) && p.id() == wanted.id())
    };
    let foreign = resources
        .children
        .iter()
        .filter(|top| !is_ours(top))
        .flat_map(Element::walk);
    let taken = |e: &&Element| e.id() == new.id() || e.id() == wanted.id();
    if let Some(foreign) = foreign.into_iter().find(taken) {
        return Err(conflict::taken_by(foreign, wanted, owner));
    }
    conflict::no_twin(resources, wanted, (owner, own))?;
    let place = resources
        .children
        .iter_mut()
        .find(|top| primitive_of(top).is_some_and(|p| p.id() == wanted.id()));
    let Some(place) = place else {
        changes.push(Change::Add(describe(new)));
        resources.children.push(new.clone());
        return Ok(());
    };
    if place.name != new.name {
        changes.push(Change::Modify(
            describe(new),
            vec![format!("was a {}", place.name)],
        ));
        *place = new.clone();
        return Ok(());
    }
    let live = if place.name == "clone" {
        place.child_mut("primitive")
    } else {
        place
    };
    let mut how = changed(live, wanted, owner);
    if removal::resume(live, owner) {
        how.push("target-role set back, which an interrupted removal had left".to_owned());
    }
    if !how.is_empty() {
        changes.push(Change::Modify(describe(new), how));
        *live = with_foreign_parts(live, wanted, owner);
    }
    Ok(())
}

/// How a live primitive differs from the wanted one, in what the owner decides on.
fn changed(live: &Element, wanted: &Element, owner: Ownership) -> Vec<String> {
    let facts = |primitive| {
        let mut facts = facts(primitive, |meta| owner.meta.contains(&meta));
        if owner.decides_by_node(wanted) {
            facts.append(&mut node_facts(primitive));
        }
        facts
    };
    differences(&facts(live), &facts(wanted))
}

/// The wanted primitive with what others have set on the live one: meta attributes that the owner
/// leaves to them, conditional sets, utilization.
fn with_foreign_parts(live: &Element, wanted: &Element, owner: Ownership) -> Element {
    let mut merged = wanted.clone();
    let foreign = pairs(live, "meta_attributes").filter(|(name, _)| !owner.meta.contains(name));
    let id = format!("{}.meta", wanted.id());
    let foreign: Vec<Element> = foreign
        .map(|(name, value)| {
            Element::new("nvpair")
                .with("id", format!("{id}.{name}"))
                .with("name", name)
                .with("value", value)
        })
        .collect();
    if !foreign.is_empty() {
        merged.child_mut("meta_attributes").children.extend(foreign);
    }
    let replaced = ["instance_attributes", "meta_attributes", "operations"];
    let by_node = owner.decides_by_node(wanted);
    let kept = live.children.iter().filter(|c| {
        let conditional = c.child("rule").is_some() && !(by_node && node_of(c).is_some());
        !replaced.contains(&c.name.as_str()) || conditional
    });
    merged.children.extend(kept.cloned());
    // The schema takes the sets in any order, but the operations only after them.
    merged.children.sort_by_key(|c| match c.name.as_str() {
        "instance_attributes" | "meta_attributes" | "utilization" => 0,
        _ => 1,
    });
    merged
}

fn merge_constraints(
    constraints: &mut Element,
    wanted: &Element,
    owner: Ownership,
    changes: &mut Vec<Change>,
) {
    let wanted = section(wanted, "constraints");
    constraints.children.retain(|live| {
        let goes =
            live.id().starts_with(owner.prefix) && !wanted.iter().any(|w| w.id() == live.id());
        if goes {
            changes.push(Change::Remove(describe(live)));
        }
        !goes
    });
    for new in wanted {
        match constraints.children.iter_mut().find(|c| c.id() == new.id()) {
            None => {
                changes.push(Change::Add(describe(new)));
                constraints.children.push(new.clone());
            }
            Some(live) => {
                let (before, after) = (constraint(live), constraint(new));
                if before != after {
                    let how = vec![format!("{before} -> {after}")];
                    changes.push(Change::Modify(describe(new), how));
                    *live = new.clone();
                }
            }
        }
    }
}

/// `resource alpha (ocf:berth:vserver)` or `constraint berth-stay-alpha`.
fn describe(element: &Element) -> String {
    match primitive_of(element) {
        Some(primitive) => format!(
            "resource {} (ocf:berth:{})",
            primitive.id(),
            primitive.get("type").unwrap_or_default()
        ),
        None => format!("constraint {}", element.id()),
    }
}

#[cfg(test)]
mod tests;
