//! What runs where, what has failed, and whether the cluster has anything to do, from crm_mon and crm_simulate.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::element::Element;
use super::tool::command;
use crate::sys::command::run;

mod progress;

pub(crate) use progress::Progress;

const CRM_MON: &str = "crm_mon";
const CRM_SIMULATE: &str = "crm_simulate";

/// How crm_mon calls an action that has begun and not ended, where that is a recurring monitor.
const MONITORING: &str = "Monitoring";
/// Exit codes of a monitor that found a service degraded (`PCMK_OCF_DEGRADED` and its like for a promoted
/// one): Pacemaker records them as failures and takes them for none.
const DEGRADED: [&str; 2] = ["190", "191"];

/// One resource, or one instance of a clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Its id, without the number of an instance.
    pub(crate) id: String,
    /// `Started`, `Stopped`, `Starting`, …
    pub(crate) role: String,
    /// The role that an administrator has set for it.
    pub(crate) target_role: Option<String>,
    /// The nodes on which it runs.
    pub(crate) nodes: Vec<String>,
    /// Whether its last action failed.
    pub(crate) failed: bool,
    /// Whether the cluster gave up on it.
    pub(crate) blocked: bool,
    /// Whether the cluster leaves it as it is, because of a maintenance or as it was told so.
    pub(crate) unmanaged: bool,
    /// What is being done with it.
    pub(crate) pending: Option<String>,
}

impl Instance {
    /// Whether it runs somewhere, or may run.
    pub(crate) fn is_active(&self) -> bool {
        self.role != "Stopped" || !self.nodes.is_empty()
    }

    /// Whether its target role is to be stopped.
    pub(crate) fn is_kept_stopped(&self) -> bool {
        let target = self.target_role.as_deref();
        target.is_some_and(|role| role.eq_ignore_ascii_case("Stopped"))
    }
}

/// An action that failed, or that found a service degraded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The resource, without the number of an instance.
    pub(crate) id: String,
    /// The node.
    pub(crate) node: String,
    /// `start`, `stop`, `monitor`, …
    pub(crate) action: String,
    /// Whether the service runs all the same.
    pub(crate) degraded: bool,
    /// The agent's exit reason, or else how the action ended.
    pub(crate) reason: String,
}

impl Failure {
    fn from_element(e: &Element) -> Option<Self> {
        // Old releases write "none" where the agent gave no reason.
        let part = |name| e.get(name).filter(|text| !["", "none"].contains(text));
        let action = part("task")?;
        // alpha-ip1_monitor_10000
        let (key, _) = part("op_key")?.rsplit_once('_')?;
        let id = key.strip_suffix(action)?.strip_suffix('_')?;
        // How it ended, in words that differ from release to release: for people only.
        let ended = || {
            let (code, status) = (part("exitstatus")?, part("status")?);
            Some(format!("{code} ({status})"))
        };
        let reason = part("exitreason").map(str::to_owned).or_else(ended);
        Some(Self {
            id: id.split(':').next().unwrap_or_default().to_owned(),
            node: part("node")?.to_owned(),
            action: action.to_owned(),
            degraded: part("exitcode").is_some_and(|code| DEGRADED.contains(&code)),
            reason: reason.unwrap_or_else(|| "no reason given".to_owned()),
        })
    }
}

/// A node of the cluster itself, which runs Pacemaker: none that is merely reached from one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is known to be down: fenced, or stopped in good order. A cluster that does not fence, or has
    /// no quorum, calls down whom it has lost sight of; of such a one nothing is known.
    pub(crate) down: bool,
}

/// The state of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Its resources, without the instances of clones that have no node to run on.
    pub(crate) instances: Vec<Instance>,
    /// The failures that were not cleaned up.
    pub(crate) failures: Vec<Failure>,
    /// Its nodes.
    pub(crate) members: Vec<Member>,
    /// Nodes that are in maintenance.
    pub(crate) maintained: Vec<String>,
    /// What holds up the whole cluster, in a few words each.
    pub(crate) obstacles: Vec<String>,
}

impl Status {
    /// Reads it.
    ///
    /// # Errors
    /// The cluster does not run on this node, or its answer can't be read.
    pub(crate) fn read(deadline: Instant) -> io::Result<Self> {
        const WHAT: &str = "read the state of the cluster";
        let mut crm_mon = command(CRM_MON)?;
        crm_mon.args(["--one-shot", "--inactive", "--output-as=xml"]);
        let text = run(crm_mon, deadline)?.check(WHAT)?.text();
        let tree = Element::parse(&text).map_err(|e| io::Error::other(format!("{WHAT}: {e}")))?;
        Ok(Self::from_answer(&tree))
    }

    /// What crm_mon's answer says.
    pub(crate) fn from_answer(answer: &Element) -> Self {
        let nodes = answer.child("nodes").map_or(&[][..], |n| &n.children);
        let maintained = nodes.iter().filter(|node| is(node, "maintenance"));
        let failures = answer.child("failures").map_or(&[][..], |f| &f.children);
        Self {
            instances: without_nodes_that_rest(instances(answer), resting_nodes(nodes)),
            failures: failures.iter().filter_map(Failure::from_element).collect(),
            members: members(answer, nodes),
            maintained: maintained
                .filter_map(|node| node.get("name").map(str::to_owned))
                .collect(),
            obstacles: obstacles(answer),
        }
    }

    /// The failures of a resource that it has not recovered from, as far as is known.
    pub(crate) fn failures_of(&self, id: &str) -> impl Iterator<Item = &Failure> {
        let own = self.failures.iter().filter(move |f| f.id == id);
        own.filter(|failure| !failure.degraded)
    }

    /// Why a running instance is degraded, if it is.
    pub(crate) fn degraded(&self, instance: &Instance) -> Option<&str> {
        let own = |f: &&Failure| f.id == instance.id && instance.nodes.contains(&f.node);
        let found = self.failures.iter().find(|f| f.degraded && own(f))?;
        Some(&found.reason)
    }

    /// What keeps the running ones of these resources from being stopped, if anything does.
    pub(crate) fn why_unstoppable(&self, ids: &[String]) -> Option<String> {
        let active = self.instances.iter().filter(|i| i.is_active());
        let mut active = active.filter(|i| ids.contains(&i.id)).peekable();
        active.peek()?;
        if let Some(obstacle) = self.obstacles.first() {
            return Some(obstacle.clone());
        }
        active.find_map(|instance| {
            let id = &instance.id;
            let failed = self.failures_of(id).find(|f| f.action == "stop");
            let maintained = instance.nodes.iter().find(|n| self.maintained.contains(n));
            match (instance, failed, maintained) {
                (Instance { blocked: true, .. }, Some(Failure { node, reason, .. }), _) => {
                    Some(format!("{id} could not be stopped on {node}: {reason}"))
                }
                (Instance { blocked: true, .. }, None, _) => {
                    Some(format!("{id} is blocked by a failure"))
                }
                (
                    Instance {
                        unmanaged: true, ..
                    },
                    _,
                    Some(node),
                ) => Some(format!("node {node}, where {id} runs, is in maintenance")),
                (
                    Instance {
                        unmanaged: true, ..
                    },
                    ..,
                ) => Some(format!(
                    "{id} is not managed by the cluster (is-managed or maintenance is set)"
                )),
                _ => None,
            }
        })
    }
}

/// Reads the state of all resources.
///
/// # Errors
/// As [`Status::read`].
pub(crate) fn read(deadline: Instant) -> io::Result<Vec<Instance>> {
    Status::read(deadline).map(|status| status.instances)
}

fn is(element: &Element, name: &str) -> bool {
    element.get(name) == Some("true")
}

fn instances(answer: &Element) -> Vec<Instance> {
    let resources = answer.child("resources");
    let elements = resources
        .into_iter()
        .flat_map(Element::walk)
        .filter(|e| e.name == "resource");
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
        unmanaged: e.get("managed") == Some("false"),
        pending: e.get("pending").map(str::to_owned),
    });
    instances.collect()
}

/// An option of the cluster that crm_mon shows.
fn option<'a>(answer: &'a Element, name: &str) -> Option<&'a str> {
    answer.child("summary")?.child("cluster_options")?.get(name)
}

/// Whether this part of the cluster has quorum.
fn quorum(answer: &Element) -> Option<&str> {
    let dc = answer.child("summary")?.child("current_dc")?;
    dc.get("with_quorum")
}

fn members(answer: &Element, nodes: &[Element]) -> Vec<Member> {
    let fences = ["stonith-enabled", "fencing-enabled"]
        .iter()
        .any(|name| option(answer, name) == Some("true"));
    let knows = fences && quorum(answer) == Some("true");
    // A remote node that is offline may only have lost the node that it was reached from.
    let members = nodes
        .iter()
        .filter(|node| node.get("type") == Some("member"));
    let member = |node: &Element| {
        // One that is joining is in nobody's hands yet.
        let down = node.get("online") == Some("false") && node.get("unclean") == Some("false");
        Some(Member {
            name: node.get("name")?.to_owned(),
            down: knows && down && !is(node, "pending"),
        })
    };
    members.filter_map(member).collect()
}

/// What keeps the cluster from acting at all.
fn obstacles(answer: &Element) -> Vec<String> {
    let option = |name| option(answer, name).unwrap_or_default();
    let mut found = Vec::new();
    if option("maintenance-mode") == "true" {
        found.push("the cluster is in maintenance mode".to_owned());
    }
    if quorum(answer) == Some("false") && option("no-quorum-policy") != "ignore" {
        found.push("this part of the cluster has no quorum".to_owned());
    }
    found
}

/// How many nodes run nothing now, as they are down or in standby.
fn resting_nodes(nodes: &[Element]) -> usize {
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

/// What the scheduler would do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// Nothing: it is settled.
    Nothing,
    /// Only forget failures, after which there may be more to do.
    Forget,
    /// Start or stop something, or fence a node: what, in a few words each.
    Act(Vec<String>),
}

/// Asks the scheduler what there is to do with the resources of these ids, which a failing or restless
/// resource of somebody else's does not concern. Unlike `crm_resource --wait` it does not take a recurring
/// monitor for an action that is to come: a degraded service's first one may stay on record as begun.
///
/// # Errors
/// The cluster does not run on this node, or its answer can't be read.
pub(crate) fn prospect(ids: &[String], deadline: Instant) -> io::Result<Prospect> {
    const WHAT: &str = "ask what the cluster has to do";
    let mut simulate = command(CRM_SIMULATE)?;
    simulate.args(["--live-check", "--simulate", "--output-as=xml"]);
    let text = run(simulate, deadline)?.check(WHAT)?.text();
    let tree = Element::parse(&text).map_err(|e| io::Error::other(format!("{WHAT}: {e}")))?;
    Ok(prospect_in(&tree, ids))
}

fn prospect_in(answer: &Element, ids: &[String]) -> Prospect {
    let transition = answer.child("transition");
    let actions = transition.map_or(&[][..], |t| &t.children);
    let part = |e: &Element, name| e.get(name).unwrap_or_default().to_owned();
    let own = |e: &Element| {
        let id = e.get("resource").and_then(|id| id.split(':').next());
        id.is_some_and(|id| ids.iter().any(|own| own == id))
    };
    let acts: Vec<String> = actions
        .iter()
        .filter_map(|e| {
            let (what, to) = match e.name.as_str() {
                "rsc_action" if own(e) && e.get("op") != Some("monitor") => ("op", "resource"),
                "fencing_action" => ("action", "target"),
                _ => return None,
            };
            Some(format!("{} {}", part(e, what), part(e, to)))
        })
        .collect();
    match acts.is_empty() {
        false => Prospect::Act(acts),
        true if actions.iter().any(|e| e.name == "cluster_action") => Prospect::Forget,
        true => Prospect::Nothing,
    }
}

#[cfg(test)]
mod tests;
