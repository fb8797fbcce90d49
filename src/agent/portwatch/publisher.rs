//! Node attributes: told to the cluster, and asked of it, by children, so that the daemon never waits
//! for the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cell::job::{self, Job};
use crate::cluster::status;
use crate::cluster::tool::{self, Attribute};
use crate::ocf::log;
use crate::sys::message;

/// How long one call of a tool may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often cleaning up is tried again: the resource may be gone.
const CLEAN_UPS: u8 = 3;
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A value that the cluster shall know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Value {
    /// `None`: the attribute is deleted.
    pub text: Option<String>,
    /// Not to be seen by the scheduler.
    pub private: bool,
    /// After its first value, changes wait for others that follow closely.
    pub dampened: bool,
}

/// The values of an attribute at all nodes, as they were asked for.
pub(super) type Values = BTreeMap<String, String>;

/// What a child is told to do.
#[derive(Debug, Clone, Default)]
struct Work {
    changes: BTreeMap<String, (Value, Duration)>,
    questions: BTreeSet<String>,
    whereabouts: BTreeSet<String>,
    clean_up: Option<(String, String)>,
}

/// What a child has done.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Done {
    published: BTreeMap<String, Value>,
    answers: BTreeMap<String, Values>,
    located: BTreeMap<String, Vec<String>>,
    cleaned: bool,
    error: Option<String>,
}

/// What is to be told and asked.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    wanted: BTreeMap<String, Value>,
    published: BTreeMap<String, Value>,
    questions: BTreeSet<String>,
    whereabouts: BTreeSet<String>,
    /// What to clean up, and how often that has failed.
    clean_up: BTreeMap<(String, String), u8>,
    /// What a child is cleaning up: a wish that comes meanwhile is another one.
    cleaning: Option<((String, String), u8)>,
    answers: BTreeMap<String, Values>,
    located: BTreeMap<String, Vec<String>>,
    job: Option<Job<Done>>,
    leftover: Vec<Pid>,
    retry: Option<Instant>,
    /// The last failure, told in the log once.
    error: Option<String>,
}

impl Publisher {
    /// The cluster shall know this.
    pub fn want(&mut self, name: String, value: Value) {
        self.wanted.insert(name, value);
    }

    /// The values of this attribute are wanted.
    pub fn ask(&mut self, name: String) {
        self.questions.insert(name);
    }

    /// The nodes are wanted that the cluster takes this resource to be started on.
    pub fn locate(&mut self, resource: String) {
        self.whereabouts.insert(resource);
    }

    /// The cluster shall forget what this resource reported on this node.
    pub fn clean_up(&mut self, resource: &str, node: &str) {
        self.clean_up
            .insert((resource.to_owned(), node.to_owned()), 0);
    }

    /// The answers that have come in since the last call.
    pub fn answers(&mut self) -> BTreeMap<String, Values> {
        std::mem::take(&mut self.answers)
    }

    /// Where resources are, by their ids, as it has come in since the last call.
    pub fn located(&mut self) -> BTreeMap<String, Vec<String>> {
        std::mem::take(&mut self.located)
    }

    /// Whether the cluster knows all that it shall.
    pub fn is_done(&self) -> bool {
        self.wanted == self.published
    }

    /// Why it does not, the last time that it was tried.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// What to wait for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.job.as_ref().map(AsFd::as_fd)
    }

    /// When it is to be called again although nothing happens.
    pub fn next(&self) -> Option<Instant> {
        self.retry
    }

    /// Goes on: takes what a child has done, and has the next one do what is left.
    pub fn advance(&mut self, now: Instant) {
        self.leftover.retain(|pid| !job::reap(*pid));
        if let Some(outcome) = self.job.as_ref().and_then(Job::outcome) {
            self.leftover.extend(self.job.take().map(|job| job.pid()));
            self.take(outcome.map(|(done, _)| done), now);
        }
        if self.job.is_some() || self.retry.is_some_and(|at| at > now) {
            return;
        }
        self.retry = None;
        let work = self.work();
        if work.is_empty() {
            return;
        }
        self.cleaning = work
            .clean_up
            .as_ref()
            .and_then(|one| self.clean_up.remove_entry(one));
        match Job::spawn(c"berth-publish", move || (work.run(), None)) {
            Ok(job) => self.job = Some(job),
            Err(e) => self.take(Err(message(e, "start a child")), now),
        }
    }

    fn work(&self) -> Work {
        let differs = |(name, value): &(&String, &Value)| self.published.get(*name) != Some(*value);
        let changes = self.wanted.iter().filter(differs).map(|(name, value)| {
            let later = self.published.contains_key(name);
            let dampening = match later && value.dampened {
                true => Duration::from_secs(1),
                false => Duration::ZERO,
            };
            (name.clone(), (value.clone(), dampening))
        });
        let changes: BTreeMap<String, (Value, Duration)> = changes.collect();
        // What the cluster acts on at once must not wait for anything else: each takes a process.
        let urgent = |name: &String, value: &Value, dampening: &Duration| {
            self.published.contains_key(name) && !value.private && dampening.is_zero()
        };
        if changes
            .iter()
            .any(|(name, (value, dampening))| urgent(name, value, dampening))
        {
            let urgent = changes.into_iter().filter(|(n, (v, d))| urgent(n, v, d));
            return Work {
                changes: urgent.collect(),
                ..Work::default()
            };
        }
        let mut work = Work {
            changes,
            questions: self.questions.clone(),
            whereabouts: self.whereabouts.clone(),
            clean_up: None,
        };
        // One at a time, and only when nothing else is to be done: it is for people's eyes.
        if work.is_empty() {
            work.clean_up = self.clean_up.keys().next().cloned();
        }
        work
    }

    fn take(&mut self, outcome: io::Result<Done>, now: Instant) {
        let cleaned = outcome.as_ref().is_ok_and(|done| done.cleaned);
        let begun = self.cleaning.take();
        if let Some((one, failures)) = begun.filter(|(_, n)| !cleaned && *n < CLEAN_UPS) {
            self.clean_up.entry(one).or_insert(failures + 1);
        }
        let done = match outcome {
            Ok(done) => done,
            Err(e) => return self.fail(&e.to_string(), now),
        };
        self.published.extend(done.published);
        for (name, values) in done.answers {
            self.questions.remove(&name);
            self.answers.insert(name, values);
        }
        for (resource, nodes) in done.located {
            self.whereabouts.remove(&resource);
            self.located.insert(resource, nodes);
        }
        match done.error {
            Some(error) => self.fail(&error, now),
            None => self.error = None,
        }
    }

    fn fail(&mut self, error: &str, now: Instant) {
        if self.error.as_deref() != Some(error) {
            log::warn(error);
            self.error = Some(error.to_owned());
        }
        self.retry = Some(now + AGAIN);
    }
}

impl Work {
    fn is_empty(&self) -> bool {
        let Self {
            changes,
            questions,
            whereabouts,
            clean_up,
        } = self;
        changes.is_empty() && questions.is_empty() && whereabouts.is_empty() && clean_up.is_none()
    }

    fn run(self) -> Done {
        let mut done = Done::default();
        let note = |done: &mut Done, e: io::Error| done.error = Some(e.to_string());
        for (name, (value, dampening)) in self.changes {
            let deadline = Instant::now() + PATIENCE;
            let result = match &value.text {
                None => tool::delete_attribute(&name, deadline),
                Some(text) => {
                    let attribute = Attribute {
                        name: name.clone(),
                        value: text.clone(),
                        private: value.private,
                        dampening,
                    };
                    tool::set_attribute(&attribute, deadline)
                }
            };
            match result {
                Ok(()) => drop(done.published.insert(name, value)),
                Err(e) => note(&mut done, e),
            }
        }
        for name in self.questions {
            match tool::read_attribute(&name, Instant::now() + PATIENCE) {
                Ok(values) => drop(done.answers.insert(name, values)),
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
        done
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value {
            text: Some(text.into()),
            private: false,
            dampened: true,
        }
    }

    #[test]
    fn only_what_the_cluster_does_not_know_is_told_and_only_later_values_wait() {
        let (mut publisher, now) = (Publisher::default(), Instant::now());
        publisher.want("berth-ports".into(), value("3"));
        let first = publisher.work().changes;
        assert_eq!(first["berth-ports"], (value("3"), Duration::ZERO));
        let done = Done {
            published: [("berth-ports".to_owned(), value("3"))].into(),
            ..Done::default()
        };
        publisher.take(Ok(done), now);
        assert!(publisher.is_done() && publisher.work().changes.is_empty());
        publisher.want("berth-ports".into(), value("2"));
        let later = publisher.work().changes;
        assert_eq!(later["berth-ports"], (value("2"), Duration::from_secs(1)));
    }

    #[test]
    fn what_the_cluster_acts_on_at_once_goes_alone() {
        let mut publisher = Publisher::default();
        let net = |text: &str| Value {
            dampened: false,
            ..value(text)
        };
        publisher.published = [("berth-net-office".to_owned(), net("1"))].into();
        publisher.want("berth-net-office".into(), net("0"));
        publisher.want(
            "berth-heard-office".into(),
            Value {
                private: true,
                ..net("0")
            },
        );
        publisher.want("berth-ports".into(), value("1"));
        publisher.ask("berth-router-n1".into());
        let work = publisher.work();
        assert_eq!(
            work.changes.into_keys().collect::<Vec<_>>(),
            ["berth-net-office"]
        );
        assert!(work.questions.is_empty());
        publisher
            .published
            .insert("berth-net-office".into(), net("0"));
        let rest = publisher.work();
        assert_eq!((rest.changes.len(), rest.questions.len()), (2, 1));
    }

    #[test]
    fn what_was_to_be_cleaned_up_meanwhile_is_cleaned_up_too() {
        let (mut publisher, now) = (Publisher::default(), Instant::now());
        let outcome = |cleaned| Done {
            cleaned,
            ..Done::default()
        };
        let begin = |publisher: &mut Publisher| {
            let one = publisher.work().clean_up.unwrap();
            publisher.cleaning = publisher.clean_up.remove_entry(&one);
        };
        publisher.clean_up("portwatch", "n1");
        begin(&mut publisher);
        publisher.take(Ok(outcome(false)), now);
        assert!(!publisher.clean_up.is_empty(), "it failed");
        begin(&mut publisher);
        publisher.clean_up("portwatch", "n1");
        publisher.take(Ok(outcome(true)), now);
        assert!(!publisher.clean_up.is_empty(), "another one");
        begin(&mut publisher);
        publisher.take(Ok(outcome(true)), now);
        assert!(publisher.clean_up.is_empty());
    }

    #[test]
    fn cleaning_up_waits_for_everything_else_and_is_given_up() {
        let (mut publisher, now) = (Publisher::default(), Instant::now());
        publisher.clean_up("alpha-ip1", "n1");
        publisher.ask("berth-router-n1".into());
        assert_eq!(publisher.work().clean_up, None);
        publisher.questions.clear();
        let tried = (0..10).take_while(|_| {
            let one = publisher.work().clean_up;
            publisher.cleaning = one.and_then(|one| publisher.clean_up.remove_entry(&one));
            let tried = publisher.cleaning.is_some();
            publisher.take(Ok(Done::default()), now);
            tried
        });
        assert_eq!(tried.count(), usize::from(CLEAN_UPS) + 1);
    }

    #[test]
    fn a_question_stays_until_it_is_answered_and_a_failure_is_tried_again() {
        let (mut publisher, now) = (Publisher::default(), Instant::now());
        publisher.ask("berth-addr-office".into());
        let failed = Done {
            error: Some("no cluster".into()),
            ..Done::default()
        };
        publisher.take(Ok(failed), now);
        assert_eq!(publisher.next(), Some(now + AGAIN));
        assert_eq!(publisher.work().questions.len(), 1);
        let values: Values = [("n2".to_owned(), "10.1.0.2".to_owned())].into();
        let answered = Done {
            answers: [("berth-addr-office".to_owned(), values.clone())].into(),
            ..Done::default()
        };
        publisher.take(Ok(answered), now);
        assert!(publisher.work().questions.is_empty() && publisher.error().is_none());
        assert_eq!(publisher.answers()["berth-addr-office"], values);
    }
}
