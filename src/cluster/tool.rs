//! Pacemaker's command-line tools: reporting a failure, the node's name, transient attributes.

use std::io;
use std::time::Instant;

use crate::sys::command::{command, run};

const CRM_RESOURCE: &str = "/usr/sbin/crm_resource";
const CRM_NODE: &str = "/usr/sbin/crm_node";
const ATTRD_UPDATER: &str = "/usr/sbin/attrd_updater";

/// Reports to Pacemaker that `resource` has failed on `node`, as if a monitor had found it.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub fn fail_resource(resource: &str, node: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(CRM_RESOURCE);
    tool.args(["--fail", "-r", resource, "-N", node]);
    run(tool, deadline)?
        .check(format_args!("report failure of {resource} on {node}"))
        .map(|_| ())
}

/// The name of this node in the cluster.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub fn read_node_name(deadline: Instant) -> io::Result<String> {
    let mut tool = command(CRM_NODE);
    tool.arg("--name");
    let output = run(tool, deadline)?.check("ask for this node's name")?;
    match output.text().trim() {
        "" => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "this node has no name in the cluster",
        )),
        name => Ok(name.to_owned()),
    }
}

/// Sets a transient attribute of this node, at once on all nodes.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub fn set_attribute(name: &str, value: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(ATTRD_UPDATER);
    tool.args(["-n", name, "-U", value]);
    run(tool, deadline)?
        .check(format_args!("set node attribute {name} to {value}"))
        .map(|_| ())
}

/// Deletes a transient attribute of this node; that it is not set is no error.
///
/// # Errors
/// What the tool says; `TimedOut` at `deadline`.
pub fn delete_attribute(name: &str, deadline: Instant) -> io::Result<()> {
    let mut tool = command(ATTRD_UPDATER);
    tool.args(["-n", name, "-D"]);
    run(tool, deadline)?
        .check(format_args!("delete node attribute {name}"))
        .map(|_| ())
}
