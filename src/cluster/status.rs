//! What runs where, as crm_mon tells it.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::element::Element;
use crate::sys::command::run;
use crate::sys::program::command;

const CRM_MON: &str = "crm_mon";
const CRM_RESOURCE: &str = "crm_resource";

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
    let mut crm_mon = command(CRM_MON)?;
    crm_mon.args(["--one-shot", "--inactive", "--output-as=xml"]);
    let text = run(crm_mon, deadline)?
        .check("read the state of the cluster")?
        .text();
    let tree = Element::parse(&text)
        .map_err(|e| io::Error::other(format!("read the state of the cluster: {e}")))?;
    Ok(instances(&tree))
}

/// The resources in crm_mon's answer, without the instances of clones that have no node to run on.
pub fn instances(answer: &Element) -> Vec<Instance> {
    let resources = answer.child("resources");
    let elements = resources
        .into_iter()
        .flat_map(Element::walk)
        .filter(|e| e.name == "resource");
    let is = |e: &Element, name| e.get(name) == Some("true");
    let instances = elements.map(|e| Instance {
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
    });
    without_nodes_that_rest(instances.collect(), resting_nodes(answer))
}

/// How many nodes run nothing now, as they are down or in standby.
fn resting_nodes(answer: &Element) -> usize {
    let nodes = answer.child("nodes").map_or(&[][..], |n| &n.children);
    let rests = |node: &&Element| {
        node.get("online") == Some("false") || node.get("standby") == Some("true")
    };
    nodes.iter().filter(rests).count()
}

/// A clone has an instance for each node, also for one that can't run it: of these, as many as there are
/// such nodes are left out, as they are no more to be waited for than the node.
fn without_nodes_that_rest(mut instances: Vec<Instance>, resting: usize) -> Vec<Instance> {
    let mut of_clones: BTreeMap<String, usize> = BTreeMap::new();
    for instance in &instances {
        *of_clones.entry(instance.id.clone()).or_default() += 1;
    }
    of_clones.retain(|_, count| *count > 1);
    let mut left: BTreeMap<String, usize> = of_clones.into_keys().map(|id| (id, resting)).collect();
    instances.retain(|instance| {
        let stopped = !instance.is_active() && instance.pending.is_none() && !instance.failed;
        match left
            .get_mut(&instance.id)
            .filter(|left| stopped && **left > 0)
        {
            Some(left) => {
                *left -= 1;
                false
            }
            None => true,
        }
    });
    instances
}

/// Whether the cluster has nothing left to do; waits for that at most `patience` seconds.
///
/// # Errors
/// The tool can't be run.
pub fn is_settled(patience: u32, deadline: Instant) -> io::Result<bool> {
    let mut wait = command(CRM_RESOURCE)?;
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
        <clone id="other-clone"><resource id="other" role="Started"><node name="n2"/></resource><resource id="other" role="Stopped"/><resource id="other" role="Stopped"/><resource id="other" role="Stopped"/></clone>
      </resources></pacemaker-result>"#;

    #[test]
    fn instances_of_a_clone_that_have_no_node_are_not_waited_for() {
        let waiting = |answer: &str| {
            let instances = instances(&Element::parse(answer).unwrap());
            not_started(&["other".to_owned()], &instances).len()
        };
        let nodes = r#"<nodes><node online="true" standby="false"/><node online="false"/><node online="true" standby="true"/></nodes><resources>"#;
        assert_eq!(waiting(ANSWER), 3);
        assert_eq!(waiting(&ANSWER.replacen("<resources>", nodes, 1)), 1);
        // A resource that is there once is waited for, even if all nodes are down.
        let alone = ANSWER.replacen("<resources>", nodes, 1).replace(
            "\"beta\" role=\"Stopped\" target_role=\"Stopped\"",
            "\"beta\" role=\"Stopped\"",
        );
        let instances = instances(&Element::parse(&alone).unwrap());
        assert_eq!(
            not_started(&["beta".to_owned()], &instances),
            ["beta (stopped)"]
        );
    }

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
