//! What a child does for the publisher.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Value;
use crate::cluster::status;
use crate::cluster::survey;
use crate::cluster::tool;
use crate::cluster::transient;
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::portwatch::settings::node;
use crate::types::NodeName;

/// How long one call of a tool may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long Pacemaker may take to start another daemon for attributes, and how often the child looks for it.
const KEEPER_LIMIT: Duration = Duration::from_secs(2);
const KEEPER_PAUSE: Duration = Duration::from_millis(10);

/// The attributes in the CIB as far as they are of interest.
pub(crate) type Surveyed = BTreeMap<Attribute, Values>;

/// The work of one child.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// The attributes to publish, in no particular order, each with its dampening.
    pub(crate) changes: BTreeMap<Attribute, (Value, Duration)>,
    pub(crate) questions: BTreeSet<Attribute>,
    pub(crate) whereabouts: BTreeSet<String>,
    /// Whether to read the attributes in the CIB, and the name of this node, whose resources are looked at, too.
    pub(crate) survey: Option<String>,
    /// A private attribute to read only for comparison with what was published.
    pub(crate) compare: Option<Attribute>,
    pub(crate) clean_up: Option<(String, NodeName)>,
    /// A resource that the cluster is to be made to monitor again, and the node.
    pub(crate) renew: Option<(String, NodeName)>,
    /// Whether Pacemaker's daemon is to write all attributes to the CIB anew: it would not write a value that it has
    /// already, although the CIB lacks it.
    pub(crate) refresh: bool,
    /// Whether to find the process of Pacemaker's that keeps the attributes.
    pub(crate) find_keeper: bool,
    /// Whether that process has just ended: the next one is waited for.
    pub(crate) keeper_lost: bool,
}

/// What a child has done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) published: BTreeMap<Attribute, Value>,
    pub(crate) answers: BTreeMap<Attribute, Values>,
    pub(crate) located: BTreeMap<String, Vec<NodeName>>,
    pub(crate) surveyed: Option<Surveyed>,
    /// This node's resources that are not monitored; `None` if the child was not to look.
    pub(crate) unmonitored: Option<BTreeSet<String>>,
    pub(crate) compared: Option<(Attribute, Values)>,
    pub(crate) cleaned: bool,
    pub(crate) refreshed: bool,
    pub(crate) error: Option<String>,
}

impl Work {
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            changes,
            questions,
            whereabouts,
            survey,
            compare: _,
            clean_up,
            renew,
            refresh,
            find_keeper: _,
            keeper_lost: _,
        } = self;
        changes.is_empty()
            && questions.is_empty()
            && whereabouts.is_empty()
            && survey.is_none()
            && clean_up.is_none()
            && renew.is_none()
            && !refresh
    }

    /// Does the work. Returns what has come of it, and, if it was to be found, a pidfd of the process that keeps the
    /// attributes.
    pub(crate) fn run(self) -> (Done, Option<OwnedFd>) {
        let mut done = Done::default();
        let patience = match self.keeper_lost {
            true => KEEPER_LIMIT,
            false => Duration::ZERO,
        };
        let patience = Instant::now() + patience;
        // Found before anything is published: if that process ends later, what it was given is known to be lost.
        let keeper = match self.find_keeper {
            true => find_keeper(patience),
            false => None,
        };
        let is_lost = self.find_keeper && keeper.is_none();
        for (name, (value, dampening)) in by_urgency(self.changes) {
            let changed = change_until(&name, &value, dampening, patience);
            match done.note(changed) {
                Some(()) => drop(done.published.insert(name, value)),
                // There is nobody to publish the rest to, nor to query.
                None if is_lost => return (done, keeper),
                None => {}
            }
        }
        done.refreshed = self.refresh && done.note(tool::refresh_attributes(soon())).is_some();
        for name in self.questions {
            if let Some(values) = done.note(tool::read_attribute(&name.name(), soon())) {
                done.answers.insert(name, by_node(values));
            }
        }
        if let Some(node) = self.survey {
            if let Some(found) = done.note(survey::read(&node, soon())) {
                done.surveyed = Some(of_interest(found.values, &node));
                done.unmonitored = Some(found.unmonitored);
            }
        }
        if let Some(name) = self.compare {
            let values = done.note(tool::read_attribute(&name.name(), soon()));
            done.compared = values.map(|values| (name, by_node(values)));
        }
        if !self.whereabouts.is_empty() {
            if let Some(all) = done.note(status::read(soon())) {
                done.located = located(self.whereabouts, &all);
            }
        }
        if let Some((resource, node)) = self.clean_up {
            // A failure here is no reason to delay anything else by another attempt.
            let cleaned = tool::clean_up(&resource, &node, soon()).map_err(log::warn);
            done.cleaned = cleaned.is_ok();
        }
        if let Some((resource, node)) = self.renew {
            tool::renew(&resource, &node, soon()).unwrap_or_else(log::warn);
        }
        (done, keeper)
    }
}

impl Done {
    /// What was read or done; if nothing, the error is noted.
    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        result.map_err(|e| self.error = Some(e.to_string())).ok()
    }
}

/// When a call that begins now has to be over.
fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// The changes in the order of their urgency: what the scheduler decides by comes first, and of that what makes or ends
/// detours. The scheduler acts within some ten milliseconds on what it knows by then, and each change takes a process.
fn by_urgency(
    changes: BTreeMap<Attribute, (Value, Duration)>,
) -> impl Iterator<Item = (Attribute, (Value, Duration))> {
    let mut changes: Vec<_> = changes.into_iter().collect();
    changes.sort_by_key(|(name, _)| {
        let reached = matches!(name, Attribute::Net(_) | Attribute::NoPath(_));
        (
            name.is_private(),
            !reached,
            matches!(name, Attribute::Addr(_)),
        )
    });
    changes.into_iter()
}

fn find_keeper(patience: Instant) -> Option<OwnedFd> {
    loop {
        match transient::keeper() {
            Ok(None) if Instant::now() < patience => thread::sleep(KEEPER_PAUSE),
            Ok(found) => return found,
            Err(e) => {
                log::debug(e);
                return None;
            }
        }
    }
}

/// Publishes a value; tries again until `patience` is over.
fn change_until(
    attribute: &Attribute,
    value: &Value,
    dampening: Duration,
    patience: Instant,
) -> io::Result<()> {
    loop {
        let changed = change(attribute, value, dampening);
        if changed.is_ok() || Instant::now() >= patience {
            return changed;
        }
        thread::sleep(KEEPER_PAUSE);
    }
}

fn change(attribute: &Attribute, value: &Value, dampening: Duration) -> io::Result<()> {
    let deadline = soon();
    match value {
        None => tool::delete_attribute(&attribute.name(), deadline),
        Some(text) => {
            let attribute = tool::Attribute {
                name: attribute.name(),
                value: text.clone(),
                private: attribute.is_private(),
                dampening,
            };
            tool::set_attribute(&attribute, deadline)
        }
    }
}

/// Of the attributes in the CIB: those of this node, and those with the nodes' addresses.
fn of_interest(all: transient::Values, own: &str) -> Surveyed {
    let reduced = all.into_iter().filter_map(|(name, mut values)| {
        // The addresses of the other nodes are needed, too.
        let name = Attribute::parse(&name)?;
        let of_all = matches!(name, Attribute::Addr(_));
        values.retain(|node, _| node == own || of_all);
        let values = by_node(values);
        (!values.is_empty()).then_some((name, values))
    });
    reduced.collect()
}

/// The values that the cluster gives, of nodes whose names can be used.
pub(crate) fn by_node(found: BTreeMap<String, String>) -> Values {
    let named = found.into_iter();
    named
        .filter_map(|(name, value)| Some((node(&name)?, value)))
        .collect()
}

fn located(
    resources: BTreeSet<String>,
    all: &[status::Instance],
) -> BTreeMap<String, Vec<NodeName>> {
    let nodes = |resource: &String| {
        let own = all.iter().filter(|i| i.id == *resource && i.is_active());
        own.flat_map(|i| &i.nodes).filter_map(|n| node(n)).collect()
    };
    let pair = |resource: String| {
        let nodes = nodes(&resource);
        (resource, nodes)
    };
    resources.into_iter().map(pair).collect()
}
