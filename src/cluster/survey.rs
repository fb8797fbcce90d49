//! What the cluster has on record of its nodes, as far as portwatch looks after it: with one query, which it makes
//! once a minute on each node.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use super::element::Element;
use super::history;
use super::tool::query;
use super::transient::{self, Values};

const WHAT: &str = "read what is on record of the nodes";

/// What is on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The attributes of all nodes that are not private.
    pub values: Values,
    /// berth's resources that are not monitored on one node: see [`history::unmonitored`].
    pub unmonitored: BTreeSet<String>,
}

/// Reads the attributes of all nodes, and what `node` has of resources.
///
/// # Errors
/// What the tool says, or that it is not understood; `TimedOut` at `deadline`.
pub(crate) fn read(node: &str, deadline: Instant) -> io::Result<Survey> {
    let found = query(&xpath(node), WHAT, deadline)?;
    Ok(found.as_ref().map(survey).unwrap_or_default())
}

/// What is asked for.
pub fn xpath(node: &str) -> String {
    match history::xpath_of_unmonitored(node) {
        Some(unmonitored) => format!("{} | {unmonitored}", transient::XPATH),
        None => transient::XPATH.to_owned(),
    }
}

/// What the answer means.
///
/// # Errors
/// If it is not understood.
pub fn parse(answer: &str) -> io::Result<Survey> {
    let found = Element::parse(answer).map_err(|e| io::Error::other(format!("{WHAT}: {e}")))?;
    Ok(survey(&found))
}

fn survey(found: &Element) -> Survey {
    Survey {
        values: transient::values(found),
        unmonitored: history::unmonitored(found),
    }
}
