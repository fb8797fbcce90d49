//! How far resources are from being started, and what to say of it.

use std::collections::BTreeSet;

use super::{Failure, Instance, MONITORING, Status};

/// A resource that is not as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its id.
    pub(crate) id: String,
    /// What it is and why, in a few words.
    pub(crate) text: String,
    /// What the state is waiting for.
    pub(crate) until: Until,
}

/// What would make a resource started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// The cluster is at it, or may come to it.
    Started,
    /// It runs, and the result of its first monitor is not there yet.
    Monitored,
    /// The cluster has given up on it until it forgets the failure.
    Forgotten,
    /// Somebody has to do something: it is blocked, or the cluster leaves it alone.
    Mended,
}

/// How far some resources have come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Those that are neither started nor set to stay stopped.
    pub(crate) waiting: Vec<Waiting>,
    /// Those that are set to stay stopped.
    pub(crate) kept_stopped: Vec<String>,
    /// Those that run and that the cluster leaves alone, whatever is changed of them: the id, and the node.
    pub(crate) unmanaged: Vec<(String, String)>,
    /// What is to be said of those that run.
    pub(crate) notes: Vec<String>,
}

impl Progress {
    /// Of the resources with these ids. `depends` says for two ids whether the first one can't run without
    /// the second one.
    pub(crate) fn of(
        ids: &[String],
        status: &Status,
        depends: impl Fn(&str, &str) -> bool,
    ) -> Self {
        let stopped = kept_stopped(ids, status, depends);
        let mut progress = Self::default();
        for id in ids {
            if stopped.contains(id.as_str()) {
                progress.kept_stopped.push(id.clone());
                continue;
            }
            let mut own = status.instances.iter().filter(|i| i.id == *id).peekable();
            if own.peek().is_none() {
                progress.waiting.push(Waiting {
                    id: id.clone(),
                    text: format!("{id} (unknown to the cluster yet)"),
                    until: Until::Started,
                });
            }
            for instance in own {
                progress.add(instance, status);
            }
        }
        progress
    }

    fn add(&mut self, instance: &Instance, status: &Status) {
        let id = &instance.id;
        let degraded = status.degraded(instance);
        let node = instance.nodes.first().map_or("", String::as_str);
        // The first recurring monitor that finds a service degraded leaves the note that it has begun.
        let monitored = instance.pending.as_deref() == Some(MONITORING);
        let idle = instance.pending.is_none() || (monitored && degraded.is_some());
        if instance.role != "Started" || instance.failed || !idle {
            self.waiting.push(Waiting {
                id: id.clone(),
                text: format!("{id} ({})", state(instance, status)),
                until: until(instance, status, monitored),
            });
            return;
        }
        if let Some(reason) = degraded {
            self.notes
                .push(format!("{id} on {node} is degraded: {reason}"));
        }
        if instance.unmanaged {
            self.unmanaged.push((id.clone(), node.to_owned()));
            self.notes.push(format!(
                "{id} on {node} is not managed by the cluster (is-managed or maintenance is set)"
            ));
        }
    }

    /// Their words.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.waiting.iter().map(|w| w.text.clone()).collect()
    }

    /// The ids of those on which the cluster has given up until it forgets their failures.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = &str> {
        let own = self.waiting.iter().filter(|w| w.until == Until::Forgotten);
        own.map(|w| w.id.as_str())
    }

    /// Whether nothing will change by itself once the cluster has nothing to do.
    pub(crate) fn is_stuck(&self) -> bool {
        self.waiting.iter().any(|w| w.until == Until::Mended)
    }

    /// Whether all run, and some were not yet found to be well.
    pub(crate) fn is_only_monitored(&self) -> bool {
        self.waiting.iter().all(|w| w.until == Until::Monitored)
    }
}

/// Those that are set to stay stopped, and those that can't run without them.
fn kept_stopped<'i>(
    ids: &'i [String],
    status: &Status,
    depends: impl Fn(&str, &str) -> bool,
) -> BTreeSet<&'i str> {
    let own = |id: &str| {
        let mut own = status.instances.iter().filter(|i| i.id == id);
        own.any(Instance::is_kept_stopped)
    };
    let runs = |id: &str| {
        let mut own = status.instances.iter().filter(|i| i.id == id);
        own.any(Instance::is_active)
    };
    let ids = ids.iter().map(String::as_str);
    let mut stopped: BTreeSet<&str> = ids.clone().filter(|id| own(id)).collect();
    loop {
        let hangs = |id: &&str| !runs(id) && stopped.iter().any(|on| depends(id, on));
        let more: Vec<&str> = ids
            .clone()
            .filter(|id| !stopped.contains(id))
            .filter(hangs)
            .collect();
        if more.is_empty() {
            return stopped;
        }
        stopped.extend(more);
    }
}

fn until(instance: &Instance, status: &Status, monitored: bool) -> Until {
    let given_up = status.failures_of(&instance.id).next().is_some();
    match instance {
        Instance {
            role,
            failed: false,
            ..
        } if role == "Started" && monitored => Until::Monitored,
        Instance {
            pending: Some(_), ..
        } => Until::Started,
        Instance {
            unmanaged: true, ..
        }
        | Instance { blocked: true, .. } => Until::Mended,
        // What still runs is recovered at once.
        _ if given_up && instance.role != "Started" => Until::Forgotten,
        _ => Until::Started,
    }
}

fn state(instance: &Instance, status: &Status) -> String {
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
    } else if instance.unmanaged {
        text.push_str(", unmanaged");
    }
    let failures = status.failures_of(&instance.id);
    let failures = failures.map(
        |Failure {
             node,
             action,
             reason,
             ..
         }| { format!("; {action} failed on {node}: {reason}") },
    );
    text.extend(failures);
    text
}
