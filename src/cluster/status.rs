//! What runs where, as crm_mon tells it.

use std::io;
use std::time::Instant;

use super::element::Element;
use crate::sys::command::{command, run};

const CRM_MON: &str = "/usr/sbin/crm_mon";
const CRM_RESOURCE: &str = "/usr/sbin/crm_resource";

/// One resource, or one instance of a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its id, without the number of an instance.
    pub id: String,
    /// `Started`, `Stopped`, `Starting`, …
    pub role: String,
    /// The role that an administrator has set for it.
    pub target_role: Option<String>,
    /// Where it runs.
    pub nodes: Vec<String>,
    /// Whether its last action failed.
    pub failed: bool,
    /// Whether the cluster gave up on it.
    pub blocked: bool,
    /// What is being done with it.
    pub pending: Option<String>,
}

impl Instance {
    /// Whether it runs somewhere, or is not known not to.
    pub fn is_active(&self) -> bool {
        self.role != "Stopped" || !self.nodes.is_empty()
    }
}

/// Reads the state of all resources.
///
/// # Errors
/// The cluster does not run on this node, or its answer can't be read.
pub fn read(deadline: Instant) -> io::Result<Vec<Instance>> {
    let mut crm_mon = command(CRM_MON);
    crm_mon.args(["--one-shot", "--inactive", "--output-as=xml"]);
    let text = run(crm_mon, deadline)?
        .check("read the state of the cluster")?
        .text();
    let tree = Element::parse(&text)
        .map_err(|e| io::Error::other(format!("read the state of the cluster: {e}")))?;
    Ok(instances(&tree))
}

/// The resources in crm_mon's answer.
pub fn instances(answer: &Element) -> Vec<Instance> {
    let resources = answer.child("resources");
    let elements = resources
        .into_iter()
        .flat_map(Element::walk)
        .filter(|e| e.name == "resource");
    let is = |e: &Element, name| e.get(name) == Some("true");
    elements
        .map(|e| Instance {
            id: e.id().split(':').next().unwrap_or_default().to_owned(),
            role: e.get("role").unwrap_or_default().to_owned(),
            target_role: e.get("target_role").map(str::to_owned),
            nodes: e
                .children
                .iter()
                .filter(|c| c.name == "node")
                .filter_map(|c| c.get("name").map(str::to_owned))
                .collect(),
            failed: is(e, "failed"),
            blocked: is(e, "blocked"),
            pending: e.get("pending").map(str::to_owned),
        })
        .collect()
}

/// Whether the cluster has nothing left to do; waits for that at most `patience` seconds.
///
/// # Errors
/// The tool can't be run.
pub fn is_settled(patience: u32, deadline: Instant) -> io::Result<bool> {
    let mut wait = command(CRM_RESOURCE);
    wait.args(["--wait", &format!("--timeout={patience}s")]);
    Ok(run(wait, deadline)?.status.success())
}

/// What is not yet as it shall be: each id that is neither started nor set to stay stopped, with its
/// state in a few words.
pub fn not_started(ids: &[String], instances: &[Instance]) -> Vec<String> {
    let mut waiting = Vec::new();
    for id in ids {
        let mut own = instances.iter().filter(|i| i.id == *id).peekable();
        if own.peek().is_none() {
            waiting.push(format!("{id} (unknown to the cluster yet)"));
        }
        for instance in own {
            let kept_stopped = instance.target_role.as_deref() == Some("Stopped");
            let started = instance.role == "Started" && !instance.failed;
            if !kept_stopped && (!started || instance.pending.is_some()) {
                waiting.push(format!("{id} ({})", state(instance)));
            }
        }
    }
    waiting
}

fn state(instance: &Instance) -> String {
    let mut text = instance
        .pending
        .clone()
        .unwrap_or_else(|| instance.role.clone())
        .to_lowercase();
    if let [node, ..] = instance.nodes.as_slice() {
        text.push_str(&format!(" on {node}"));
    }
    if instance.blocked {
        text.push_str(", blocked");
    } else if instance.failed {
        text.push_str(", failed");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<pacemaker-result api-version="2.25" request="crm_mon">
      <resources>
        <resource id="alpha" role="Started" active="true" failed="false"><node name="n1" id="1" cached="true"/></resource>
        <resource id="alpha-ip1" role="Starting" failed="false" pending="Starting"/>
        <resource id="beta" role="Stopped" target_role="Stopped" failed="false"/>
        <clone id="portwatch-clone"><resource id="portwatch:0" role="Started" failed="true"><node name="n2"/></resource></clone>
      </resources></pacemaker-result>"#;

    #[test]
    fn only_what_is_neither_started_nor_kept_stopped_is_waited_for() {
        let instances = instances(&Element::parse(ANSWER).unwrap());
        let ids = ["alpha", "alpha-ip1", "beta", "portwatch", "gamma"].map(str::to_owned);
        assert_eq!(
            not_started(&ids, &instances),
            [
                "alpha-ip1 (starting)",
                "portwatch (started on n2, failed)",
                "gamma (unknown to the cluster yet)"
            ]
        );
    }
}
