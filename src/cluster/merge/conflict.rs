//! What stands in the way of a merge.

use std::collections::BTreeSet;

use super::Ownership;
use crate::cluster::canonical::pairs;
use crate::cluster::element::Element;

/// Why the merge can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// An id is somebody else's.
    #[error(
        "{kind} {id} exists already and was not made by berth: rename or remove one of the two{hint}"
    )]
    Taken {
        /// What has the id.
        kind: String,
        /// The id.
        id: String,
        /// A third way out, if there is one.
        hint: String,
    },
    /// Something of somebody else's does what is wanted.
    #[error(
        "resource {id}, not made by berth, does what {wanted} is to do: remove it, or put it under the tag {tag} if it is berth's"
    )]
    Twin {
        /// The resource.
        id: String,
        /// The one that is wanted.
        wanted: String,
        /// What makes it the owner's.
        tag: &'static str,
    },
    /// A resource of the owner was put into something of somebody else's.
    #[error("resource {id}, made by berth, was put into {kind} {into}: take it out first")]
    Inside {
        /// The resource.
        id: String,
        /// What kind of thing it is in.
        kind: String,
        /// The thing's id.
        into: String,
    },
    /// Somebody else's constraint or tag needs a resource that is to go.
    #[error(
        "{kind} {by}, not made by berth, refers to {id}, which would be removed: remove the {kind} first"
    )]
    Needed {
        /// `constraint` or `tag`.
        kind: &'static str,
        /// Its id.
        by: String,
        /// The resource.
        id: String,
    },
}

/// Nothing in a section refers to what is removed.
pub(crate) fn needed(
    kind: &'static str,
    section: &Element,
    removed: &[String],
) -> Result<(), Conflict> {
    let dangling = section.children.iter().find_map(|element| {
        let id = removed.iter().find(|id| refers(element, id))?;
        Some((element.id().to_owned(), id.clone()))
    });
    match dangling {
        Some((by, id)) => Err(Conflict::Needed { kind, by, id }),
        None => Ok(()),
    }
}

/// What has an id that is wanted. If it looks like the owner's, somebody has taken it from under the tag.
pub(crate) fn taken_by(foreign: &Element, wanted: &Element, owner: Ownership) -> Conflict {
    let looks_own = foreign.name == wanted.name && agent(foreign) == agent(wanted);
    let hint = format!(", or put it under the tag {} if it is berth's", owner.tag);
    Conflict::Taken {
        kind: foreign.name.clone(),
        id: foreign.id().to_owned(),
        hint: if looks_own { hint } else { String::new() },
    }
}

/// Nobody else does what a resource is to do: it may have been the owner's and lost its place under the tag,
/// as when a shell gives it another name, and twice would be once too often.
pub(crate) fn no_twin(
    resources: &Element,
    wanted: &Element,
    (owner, own): (Ownership, &BTreeSet<String>),
) -> Result<(), Conflict> {
    let kind = wanted.get("type").unwrap_or_default();
    let Some((_, parameters)) = owner.identity.iter().find(|(name, _)| *name == kind) else {
        return Ok(());
    };
    let identity = |primitive| {
        let of_all = pairs(primitive, "instance_attributes");
        let mut identity: Vec<_> = of_all.filter(|(n, _)| parameters.contains(n)).collect();
        identity.sort_unstable();
        identity
    };
    let mut others = resources
        .walk()
        .filter(|e| e.name == "primitive" && !own.contains(e.id()));
    match others.find(|e| agent(e) == agent(wanted) && identity(e) == identity(wanted)) {
        Some(twin) => Err(Conflict::Twin {
            id: twin.id().to_owned(),
            wanted: wanted.id().to_owned(),
            tag: owner.tag,
        }),
        None => Ok(()),
    }
}

/// The agent of a primitive, as its three attributes.
fn agent(primitive: &Element) -> [Option<&str>; 3] {
    ["class", "provider", "type"].map(|name| primitive.get(name))
}

fn refers(constraint: &Element, resource: &str) -> bool {
    // A clone goes with its primitive.
    let clone = format!("{resource}-clone");
    let named = |value: Option<&str>| value == Some(resource) || value == Some(&clone);
    constraint.walk().any(|e| match e.name.as_str() {
        "resource_ref" | "obj_ref" => named(e.get("id")),
        _ => ["rsc", "with-rsc", "first", "then"]
            .iter()
            .any(|name| named(e.get(name))),
    })
}
