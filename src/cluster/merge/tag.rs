//! The tag under which the owner's resources are, and others may be.

use std::collections::BTreeSet;

use super::{Change, Conflict, Ownership, section};
use crate::cluster::element::Element;

/// The owner's tag in a `<configuration>`.
pub(crate) fn find(configuration: &Element, owner: Ownership) -> Option<&Element> {
    section(configuration, "tags")
        .iter()
        .find(|t| t.id() == owner.tag)
}

/// What a tag refers to.
pub(crate) fn references(tag: &Element) -> impl Iterator<Item = &str> {
    tag.children.iter().map(Element::id)
}

/// Has the owner's tag refer to all that it does in `wanted`, and to what others have put under it as far
/// as that is still there.
pub(crate) fn merge(
    configuration: &mut Element,
    wanted: &Element,
    owner: Ownership,
) -> Result<Option<Change>, Conflict> {
    let wanted: Vec<&str> = find(wanted, owner)
        .into_iter()
        .flat_map(references)
        .collect();
    if !wanted.is_empty() {
        is_free(configuration, owner.tag)?;
    }
    let there: BTreeSet<&str> = others(configuration).map(Element::id).collect();
    let before: Vec<&str> = find(configuration, owner)
        .into_iter()
        .flat_map(references)
        .collect();
    let (kept, gone): (Vec<&str>, Vec<&str>) = before.iter().partition(|id| there.contains(**id));
    // A clone under the tag stands for what is in it.
    let has = |id: &str| kept.contains(&id) || kept.contains(&format!("{id}-clone").as_str());
    let added: Vec<&str> = wanted.into_iter().filter(|id| !has(id)).collect();
    if gone.is_empty() && added.is_empty() {
        return Ok(None);
    }
    let references = kept.iter().chain(&added);
    let references = references.map(|id| Element::new("obj_ref").with("id", id));
    let tag = Element::new("tag")
        .with("id", owner.tag)
        .containing(references);
    let what = format!("tag {}", owner.tag);
    let change = if before.is_empty() {
        Change::Add(what)
    } else if tag.children.is_empty() {
        Change::Remove(what)
    } else {
        let added = added.iter().map(|id| format!("{id} added"));
        let gone = gone.iter().map(|id| format!("{id} removed"));
        Change::Modify(what, added.chain(gone).collect())
    };
    put(configuration, tag);
    Ok(Some(change))
}

/// All that a tag may refer to.
fn others(configuration: &Element) -> impl Iterator<Item = &Element> {
    // What only refers to something carries its id too.
    let named = |e: &&Element| !e.name.ends_with("_ref") && e.name != "tag";
    configuration.walk().filter(named)
}

/// Nothing but a tag has this id.
fn is_free(configuration: &Element, id: &str) -> Result<(), Conflict> {
    match others(configuration).find(|e| e.id() == id) {
        Some(other) => Err(Conflict::Taken {
            kind: other.name.clone(),
            id: id.to_owned(),
            hint: String::new(),
        }),
        None => Ok(()),
    }
}

/// Takes the place of the tag of that id; the schema wants no tag that refers to nothing.
fn put(configuration: &mut Element, tag: Element) {
    let tags = &mut configuration.child_mut("tags").children;
    tags.retain(|t| t.id() != tag.id());
    if !tag.children.is_empty() {
        tags.push(tag);
    }
}
