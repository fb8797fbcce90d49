//! Pacemaker's command-line tools: reporting a failure, the node's name, transient attributes.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::element::Element;
use crate::sys::command::{Output, run};
use crate::sys::program;

const CRM_RESOURCE: &str = "crm_resource";
const CIBADMIN: &str = "cibadmin";
/// cibadmin's exit code where nothing is found (CRM_EX_NOSUCH).
const NO_SUCH: i32 = 105;
const ATTRD_UPDATER: &str = "attrd_updater";
/// attrd_updater's exit codes when asked for an attribute that no node has: up to Pacemaker 2.1.4
/// (CRM_EX_NOSUCH), and since (CRM_EX_CONFIG).
const NO_SUCH_ATTRIBUTE: [i32; 2] = [105, 78];

/// One of Pacemaker's tools, in a process group of its own: ^C in a terminal is for whoever uses the tool, who may
/// be putting something in order that must not end half-way. The tool still dies with its parent.
///
/// # Errors
/// As [`program::command`].
pub(crate) fn command(name: &str) -> io::Result<Command> {
    let mut command = program::command(name)?;
    command.process_group(0);
    Ok(command)
}

/// What the cluster has on record that `xpath` finds, from this node's copy; `None` if there is nothing. `what` is
/// for messages.
///
/// # Errors
/// What the tool says, or that it is not understood; `TimedOut` at `deadline`.
pub(crate) fn query(xpath: &str, what: &str, deadline: Instant) -> io::Result<Option<Element>> {
    let mut tool = command(CIBADMIN)?;
    tool.args(["--query", "--local", "--xpath", xpath]);
    let output = run(tool, deadline)?;
    if output.status.code() == Some(NO_SUCH) {
        return Ok(None);
    }
    let text = output.check(what)?.text();
    let found = Element::parse(&text).map_err(|e| io::Error::other(format!("{what}: {e}")))?;
    Ok(Some(found))
}

/// Reports to Pacemaker that `resource` has failed on `node`, as if a monitor had found it.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn fail_resource(resource: &str, node: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(CRM_RESOURCE)?;
    tool.args(["--fail", "-r", resource, "-N", node]);
    run(tool, deadline)?
        .check(format_args!("report failure of {resource} on {node}"))
        .map(|_| ())
}

/// A transient attribute of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
    /// Known on all nodes, but not part of the status that the scheduler sees.
    pub(crate) private: bool,
    /// How long the cluster waits for further changes before it acts on this one.
    pub(crate) dampening: Duration,
}

/// Sets a transient attribute of this node, on all nodes.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn set_attribute(attribute: &Attribute, deadline: Instant) -> io::Result<()> {
    let Attribute { name, value, .. } = attribute;
    let mut tool = command(ATTRD_UPDATER)?;
    let seconds = attribute.dampening.as_secs().to_string();
    // The dampening is the attribute's, not the change's: it is set with each value.
    tool.args(["-n", name, "-B", value, "-d", &seconds]);
    if attribute.private {
        tool.arg("-p");
    }
    run(tool, deadline)?
        .check(format_args!("set node attribute {name} to {value}"))
        .map(|_| ())
}

/// The values of an attribute, each with the node that has it.
///
/// # Errors
/// What the tool says, or that it is not understood; `TimedOut` at `deadline`.
pub(crate) fn read_attribute(
    name: &str,
    deadline: Instant,
) -> io::Result<BTreeMap<String, String>> {
    let mut tool = command(ATTRD_UPDATER)?;
    tool.args(["-n", name, "-Q", "-A", "--output-as=xml"]);
    attribute_values(name, run(tool, deadline)?)
}

/// What attrd_updater's answer means.
fn attribute_values(name: &str, output: Output) -> io::Result<BTreeMap<String, String>> {
    if output
        .status
        .code()
        .is_some_and(|code| NO_SUCH_ATTRIBUTE.contains(&code))
    {
        return Ok(BTreeMap::new());
    }
    let text = output
        .check(format_args!("read node attribute {name}"))?
        .text();
    let tree = Element::parse(&text)
        .map_err(|e| io::Error::other(format!("read node attribute {name}: {e}")))?;
    let found = tree.walk().filter(|e| e.name == "attribute");
    // One that was deleted is listed without a value.
    Ok(found
        .filter_map(|e| Some((e.get("host")?.to_owned(), e.get("value")?.to_owned())))
        .filter(|(_, value)| !value.is_empty())
        .collect())
}

/// Deletes a transient attribute of this node; that it is not set is no error.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn delete_attribute(name: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(ATTRD_UPDATER)?;
    tool.args(["-n", name, "-D"]);
    run(tool, deadline)?
        .check(format_args!("delete node attribute {name}"))
        .map(|_| ())
}

/// Has the attributes of all nodes that are not private written into the status anew: what Pacemaker's daemon for
/// attributes knows already is not written because it is told again.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn refresh_attributes(deadline: Instant) -> io::Result<()> {
    let mut tool = command(ATTRD_UPDATER)?;
    tool.arg("--refresh");
    run(tool, deadline)?
        .check("have the node attributes written anew")
        .map(|_| ())
}

/// Has the cluster forget the failed and degraded actions of a resource on a node.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn clean_up(resource: &str, node: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(CRM_RESOURCE)?;
    tool.args(["--cleanup", "-r", resource, "-N", node]);
    run(tool, deadline)?
        .check(format_args!("clean up {resource} on {node}"))
        .map(|_| ())
}

/// Has the cluster delete the history of a resource on a node and probe it anew; its monitor begins anew, too.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub(crate) fn renew(resource: &str, node: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(CRM_RESOURCE)?;
    tool.args(["--refresh", "-r", resource, "-N", node]);
    run(tool, deadline)?
        .check(format_args!(
            "have the cluster look anew at {resource} on {node}"
        ))
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: i32, answer: &str) -> io::Result<BTreeMap<String, String>> {
        attribute_values("berth-spare", Output::recorded(code, answer, ""))
    }

    #[test]
    fn an_attribute_has_a_value_on_each_node_that_has_set_one() {
        let answer = r#"<pacemaker-result api-version="2.25" request="attrd_updater">
            <attribute name="berth-spare" value="10" host="n1"/><attribute name="berth-spare" value="" host="n2"/>
            <status code="0" message="OK"/></pacemaker-result>"#;
        let found = answered(0, answer).unwrap();
        assert_eq!(found, BTreeMap::from([("n1".to_owned(), "10".to_owned())]));
    }

    #[test]
    fn that_nobody_has_it_is_no_error_whatever_the_words_and_anything_else_is() {
        for code in [105, 78] {
            assert!(answered(code, "").unwrap().is_empty());
        }
        for code in [1, 102] {
            assert!(answered(code, "attribute does not exist").is_err());
        }
    }
}
