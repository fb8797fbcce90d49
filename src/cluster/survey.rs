//! What the cluster has on record of its nodes, as far as portwatch looks after it: with one query, which it makes
//! once a minute on each node.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use super::element::Element;
use super::history;
use super::tool::command;
use super::transient::{self, Values};
use crate::sys::command::run;

const CIBADMIN: &str = "cibadmin";
/// cibadmin's exit code where nothing is found (CRM_EX_NOSUCH).
const NO_SUCH: i32 = 105;
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
pub fn read(node: &str, deadline: Instant) -> io::Result<Survey> {
    let mut query = command(CIBADMIN)?;
    query.args(["--query", "--local", "--xpath", &xpath(node)]);
    let output = run(query, deadline)?;
    if output.status.code() == Some(NO_SUCH) {
        return Ok(Survey::default());
    }
    parse(&output.check(WHAT)?.text())
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
    Ok(Survey {
        values: transient::values(&found),
        unmonitored: history::unmonitored(&found),
    })
}
