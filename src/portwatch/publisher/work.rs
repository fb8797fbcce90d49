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

/// How long one call of a tool may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long Pacemaker may take to start another daemon for attributes, and how often it is looked.
const KEEPER_LIMIT: Duration = Duration::from_secs(2);
const KEEPER_PAUSE: Duration = Duration::from_millis(10);

/// What a child is told to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    /// The changes, in no order that matters, each with its dampening.
    pub(crate) changes: BTreeMap<Attribute, (Value, Duration)>,
    pub(crate) questions: BTreeSet<Attribute>,
    pub(crate) whereabouts: BTreeSet<String>,
    /// What is on record is to be read, by the node of this name.
    pub(crate) survey: Option<String>,
    /// A private attribute to be read only for comparison.
    pub(crate) compare: Option<Attribute>,
    pub(crate) clean_up: Option<(String, String)>,
    /// A resource that is to be looked at anew on the node of this name.
    pub(crate) renew: Option<(String, String)>,
    /// What is on record is not what it was told: what it knows already it would not write again.
    pub(crate) refresh: bool,
    /// Pacemaker's process that keeps the attributes is to be found.
    pub(crate) find_keeper: bool,
    /// It has just ended: the next one is worth waiting for.
    pub(crate) keeper_lost: bool,
}

/// What a child has done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) published: BTreeMap<Attribute, Value>,
    pub(crate) answers: BTreeMap<Attribute, Values>,
    pub(crate) located: BTreeMap<String, Vec<String>>,
    pub(crate) surveyed: Option<transient::Values>,
    /// This node's resources that are not monitored, if that was looked for.
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

    /// Does it. A descriptor is that of the process that keeps the attributes.
    pub(crate) fn run(self) -> (Done, Option<OwnedFd>) {
        let mut done = Done::default();
        let note = |done: &mut Done, e: io::Error| done.error = Some(e.to_string());
        let patience = Instant::now()
            + if self.keeper_lost {
                KEEPER_LIMIT
            } else {
                Duration::ZERO
            };
        // It comes before what it is told: what it does not live to keep is known to be lost.
        let keeper = match self.find_keeper {
            true => find_keeper(patience),
            false => None,
        };
        for (name, (value, dampening)) in by_urgency(self.changes) {
            let mut result = change(&name, &value, dampening);
            while result.is_err() && Instant::now() < patience {
                thread::sleep(KEEPER_PAUSE);
                result = change(&name, &value, dampening);
            }
            match result {
                Ok(()) => drop(done.published.insert(name, value)),
                Err(e) => {
                    note(&mut done, e);
                    // Nobody is there to be told the rest, nor asked.
                    if self.find_keeper && keeper.is_none() {
                        return (done, keeper);
                    }
                }
            }
        }
        if self.refresh {
            match tool::refresh_attributes(Instant::now() + PATIENCE) {
                Ok(()) => done.refreshed = true,
                Err(e) => note(&mut done, e),
            }
        }
        for name in self.questions {
            match tool::read_attribute(&name.name(), Instant::now() + PATIENCE) {
                Ok(values) => drop(done.answers.insert(name, values)),
                Err(e) => note(&mut done, e),
            }
        }
        if let Some(node) = self.survey {
            match survey::read(&node, Instant::now() + PATIENCE) {
                Ok(found) => {
                    done.surveyed = Some(of_interest(found.values, &node));
                    done.unmonitored = Some(found.unmonitored);
                }
                Err(e) => note(&mut done, e),
            }
        }
        if let Some(name) = self.compare {
            match tool::read_attribute(&name.name(), Instant::now() + PATIENCE) {
                Ok(values) => done.compared = Some((name, values)),
                Err(e) => note(&mut done, e),
            }
        }
        if !self.whereabouts.is_empty() {
            match status::read(Instant::now() + PATIENCE) {
                Ok(all) => done.located = located(self.whereabouts, &all),
                Err(e) => note(&mut done, e),
            }
        }
        if let Some((resource, node)) = self.clean_up {
            match tool::clean_up(&resource, &node, Instant::now() + PATIENCE) {
                Ok(()) => done.cleaned = true,
                // Nothing else has to wait for another attempt.
                Err(e) => log::warn(e),
            }
        }
        if let Some((resource, node)) = self.renew {
            tool::renew(&resource, &node, Instant::now() + PATIENCE).unwrap_or_else(log::warn);
        }
        (done, keeper)
    }
}

/// What the scheduler goes by comes first, and of that what makes or ends detours: it acts within some ten
/// milliseconds on what is missing, and each change takes a process.
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

fn change(attribute: &Attribute, value: &Value, dampening: Duration) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
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

/// Of what is on record: this node's own, and where the other nodes are.
fn of_interest(all: transient::Values, own: &str) -> transient::Values {
    let reduced = all.into_iter().filter_map(|(name, mut values)| {
        // What the other nodes' addresses are is wanted as well.
        let of_all = matches!(Attribute::parse(&name)?, Attribute::Addr(_));
        values.retain(|node, _| node == own || of_all);
        (!values.is_empty()).then_some((name, values))
    });
    reduced.collect()
}

fn located(resources: BTreeSet<String>, all: &[status::Instance]) -> BTreeMap<String, Vec<String>> {
    let nodes = |resource: &String| {
        let own = all.iter().filter(|i| i.id == *resource && i.is_active());
        own.flat_map(|i| i.nodes.clone()).collect()
    };
    let pair = |resource: String| {
        let nodes = nodes(&resource);
        (resource, nodes)
    };
    resources.into_iter().map(pair).collect()
}
