//! Publishes node attributes and queries them. Children do both, so that the daemon never waits for the cluster.
//!
//! The cluster may forget an attribute: Pacemaker's daemon for attributes (`pacemaker-attrd`) starts without any, and
//! an administrator may delete one. So the end of that daemon is noticed, and whatever is read is compared with what
//! was published; what differs is published again.

#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use self::work::{Done, Surveyed, Work};
use crate::log;
use crate::plan::attribute::{Attribute, Values};
use crate::runtime::job::{self, Job};
use crate::sys::message;
use crate::sys::namespace::is_alive;
use crate::types::NodeName;
use nix::unistd::Pid;

/// How many times a cleanup is tried: the resource may be gone.
const CLEAN_UPS: u8 = 3;
/// How long the cluster must show a degraded resource as not monitored before it is made to monitor it again, and how
/// many times that is tried.
const LINGERING: Duration = Duration::from_secs(30);
const RENEWALS: u8 = 3;
/// How long after a failure the next child is started.
const AGAIN: Duration = Duration::from_secs(1);
/// How long after a value was published it is surely in the CIB: dampening and writing take their time.
const SETTLED: Duration = Duration::from_secs(3);

/// The value of an attribute; `None`: the attribute is deleted.
type Value = Option<String>;

/// What is to be published and queried, and what has come of it.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// This node's name in the cluster, which tells its own values from others'.
    node: Option<NodeName>,
    wanted: BTreeMap<Attribute, Value>,
    /// What was published last, and when.
    published: BTreeMap<Attribute, (Value, Instant)>,
    questions: BTreeSet<Attribute>,
    whereabouts: BTreeSet<String>,
    /// Whether all attributes in the CIB are to be read.
    survey: bool,
    surveyed: Option<Surveyed>,
    /// Whether the CIB has turned out to differ from what was published.
    refresh: bool,
    /// The private attribute that was compared last. Private ones are not in the CIB, so each takes a query of its own.
    compared: Option<Attribute>,
    /// This node's resources that are degraded and not monitored, when that was first seen or last acted upon, and how
    /// often the cluster was made to monitor them.
    unmonitored: BTreeMap<String, (Instant, u8)>,
    /// Resources that the cluster is to be made to monitor again.
    renew: BTreeSet<String>,
    /// What to clean up, as resource and node, and how often that has failed.
    clean_up: BTreeMap<(String, NodeName), u8>,
    /// What a child is cleaning up: a request for the same that comes meanwhile is kept for another child.
    cleaning: Option<((String, NodeName), u8)>,
    answers: BTreeMap<Attribute, Values>,
    located: BTreeMap<String, Vec<NodeName>>,
    job: Option<Job<Done>>,
    leftover: Vec<Pid>,
    /// The process of Pacemaker's that keeps this node's attributes, as a pidfd.
    keeper: Option<OwnedFd>,
    /// Whether that process has ended, and the one that follows it has not been given the attributes yet.
    lost: bool,
    /// Whether that process has ended while a child was at work: what the child has published may be lost with it.
    stale: bool,
    retry: Option<Instant>,
    /// The last failure, which is logged once.
    error: Option<String>,
}

impl Publisher {
    /// A publisher of the node that the cluster calls `node`; `None` if that is not known.
    pub(crate) fn new(node: Option<NodeName>) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    /// Publishes a value of an attribute; `None` deletes the attribute.
    pub(crate) fn publish(&mut self, attribute: Attribute, value: Option<String>) {
        self.wanted.insert(attribute, value);
    }

    /// Queries the nodes' values of an attribute: they are among [`Self::answers`] later.
    pub(crate) fn query(&mut self, attribute: Attribute) {
        self.questions.insert(attribute);
    }

    /// Has all attributes in the CIB read: [`Self::surveyed`] has them later.
    pub(crate) fn survey(&mut self) {
        self.survey = true;
    }

    /// Asks on which nodes the cluster has this resource started: [`Self::located`] has them later.
    pub(crate) fn locate(&mut self, resource: String) {
        self.whereabouts.insert(resource);
    }

    /// Has the cluster delete the history of a resource on a node.
    pub(crate) fn clean_up(&mut self, resource: &str, node: &NodeName) {
        self.clean_up.insert((resource.to_owned(), node.clone()), 0);
    }

    /// The answers that have come in since the last call.
    pub(crate) fn answers(&mut self) -> BTreeMap<Attribute, Values> {
        std::mem::take(&mut self.answers)
    }

    /// This node's attributes in the CIB, and those with other nodes' addresses, if they were read since the last call.
    pub(crate) fn surveyed(&mut self) -> Option<Surveyed> {
        self.surveyed.take()
    }

    /// The nodes that resources are started on, by resource ids, as they have come in since the last call.
    pub(crate) fn located(&mut self) -> BTreeMap<String, Vec<NodeName>> {
        std::mem::take(&mut self.located)
    }

    /// Whether everything that is to be published was.
    pub(crate) fn is_done(&self) -> bool {
        self.differing().next().is_none()
    }

    /// What is still to be published.
    fn differing(&self) -> impl Iterator<Item = (&Attribute, &Value)> {
        let untold = self.attributes().filter(|(_, _, told)| !told);
        untold.map(|(name, value, _)| (name, value))
    }

    /// The attributes of this node, their values, and whether each was published.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&Attribute, &Value, bool)> {
        let told = |name: &Attribute| self.published.get(name).map(|(value, _)| value);
        let wanted = self.wanted.iter();
        wanted.map(move |(name, value)| (name, value, told(name) == Some(value)))
    }

    /// Why the last attempt to publish or query has failed.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// The descriptor to poll for input while a child is at work.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.job.as_ref().map(AsFd::as_fd)
    }

    /// The descriptors to poll for input: [`Self::advance`] is due then.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.fd()
            .into_iter()
            .chain(self.keeper.as_ref().map(AsFd::as_fd))
    }

    /// When [`Self::advance`] is due by time alone. While a child is at work its end is waited for instead.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.retry.filter(|_| self.job.is_none())
    }

    /// Takes the result of the child, if it has ended, and starts the next one for what is left.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.leftover.retain(|pid| !job::reap(*pid));
        self.watch_keeper(now);
        if let Some(outcome) = self.job.as_ref().and_then(Job::outcome) {
            self.leftover.extend(self.job.take().map(|job| job.pid()));
            let outcome = outcome.map(|(done, keeper)| {
                self.keeper = keeper.or(self.keeper.take());
                done
            });
            self.take(outcome, now);
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
        if let Some((resource, _)) = &work.renew {
            self.renew.remove(resource);
        }
        self.lost = false;
        match Job::spawn(c"berth-publish", move || work.run()) {
            Ok(job) => self.job = Some(job),
            Err(e) => self.take(Err(message(e, "start a child")), now),
        }
    }

    /// Notices the end of Pacemaker's daemon for attributes, with which all that was published is lost.
    fn watch_keeper(&mut self, now: Instant) {
        let lives = |keeper: &OwnedFd| is_alive(keeper.as_fd());
        if self.keeper.as_ref().is_none_or(lives) {
            return;
        }
        self.keeper = None;
        log::info("pacemaker-attrd has ended: telling the next one all anew");
        self.published.clear();
        self.stale = self.job.is_some();
        self.lost = true;
        self.retry = Some(now);
    }

    fn work(&self) -> Work {
        let changes = self.differing().map(|(name, value)| {
            let later = self.published.contains_key(name);
            let dampening = match later && value.is_some() {
                true => name.dampening(),
                false => Duration::ZERO,
            };
            (name.clone(), (value.clone(), dampening))
        });
        let work = Work {
            changes: changes.collect(),
            find_keeper: self.keeper.is_none(),
            keeper_lost: self.lost,
            ..Work::default()
        };
        // What the cluster acts on at once goes alone: each attribute takes a process, and nothing must delay it.
        let urgent = |name: &Attribute, dampening: &Duration| {
            self.published.contains_key(name) && !name.is_private() && dampening.is_zero()
        };
        let mut changes = work.changes.iter();
        if changes.any(|(name, (_, dampening))| urgent(name, dampening)) {
            let urgent =
                |(name, (_, dampening)): &(Attribute, (Value, Duration))| urgent(name, dampening);
            return Work {
                changes: work.changes.into_iter().filter(urgent).collect(),
                ..work
            };
        }
        let own = || self.node.as_deref().unwrap_or_default().to_owned();
        let mut work = Work {
            questions: self.questions.clone(),
            whereabouts: self.whereabouts.clone(),
            survey: self.survey.then(own),
            compare: self.next_to_compare().filter(|_| self.survey),
            refresh: self.refresh,
            ..work
        };
        // Cleanups only change what people see: one at a time, and only when nothing else is to be done.
        if work.is_empty() {
            work.clean_up = self.clean_up.keys().next().cloned();
        }
        if work.is_empty() {
            work.renew = self.renew.first().cloned().zip(self.node.clone());
        }
        work
    }

    /// The private attribute that is to be compared next.
    fn next_to_compare(&self) -> Option<Attribute> {
        let private = || {
            let all = self.published.iter();
            let own = all.filter(|(name, (value, _))| name.is_private() && value.is_some());
            own.map(|(name, _)| name)
        };
        let next = private().find(|name| Some(*name) > self.compared.as_ref());
        next.or(private().next()).cloned()
    }

    fn take(&mut self, outcome: io::Result<Done>, now: Instant) {
        let stale = std::mem::take(&mut self.stale);
        let cleaned = outcome.as_ref().is_ok_and(|done| done.cleaned);
        let begun = self.cleaning.take();
        if let Some((one, failures)) = begun.filter(|(_, n)| !cleaned && *n < CLEAN_UPS) {
            self.clean_up.entry(one).or_insert(failures + 1);
        }
        let done = match outcome {
            Ok(done) => done,
            Err(e) => return self.fail(&e.to_string(), now),
        };
        self.refresh &= !done.refreshed;
        if !stale {
            self.compare(&done, now);
            let told = done.published.into_iter();
            self.published
                .extend(told.map(|(name, value)| (name, (value, now))));
        }
        for (name, values) in done.answers {
            self.questions.remove(&name);
            self.answers.insert(name, values);
        }
        for (resource, nodes) in done.located {
            self.whereabouts.remove(&resource);
            self.located.insert(resource, nodes);
        }
        if let Some(all) = done.surveyed {
            self.survey = false;
            self.surveyed = Some(all);
        }
        if let Some(found) = done.unmonitored {
            self.on_unmonitored(found, now);
        }
        self.compared = done.compared.map(|(name, _)| name).or(self.compared.take());
        match done.error {
            Some(error) => self.fail(&error, now),
            None => self.error = None,
        }
    }

    /// Marks as unpublished what the cluster turns out to have forgotten, or to have from somebody else. If an
    /// attribute is missing in the CIB, private ones may be lost, too.
    fn compare(&mut self, done: &Done, now: Instant) {
        let Some(node) = &self.node else { return };
        let mut forgotten: BTreeSet<Attribute> = BTreeSet::new();
        let differs = |name: &Attribute, values: Option<&Values>| {
            let told = self.published.get(name);
            let told = told.filter(|(_, at)| now.saturating_duration_since(*at) >= SETTLED);
            let seen = values.and_then(|values| values.get(node));
            told.is_some_and(|(value, _)| value.as_ref() != seen)
        };
        let compared = done.compared.iter().map(|(name, values)| (name, values));
        for (name, values) in done.answers.iter().chain(compared) {
            forgotten.extend(differs(name, Some(values)).then(|| name.clone()));
        }
        if let Some(all) = &done.surveyed {
            let public = self.published.keys().filter(|name| !name.is_private());
            let lost = public.filter(|name| differs(name, all.get(name)));
            let lost: Vec<Attribute> = lost.cloned().collect();
            if !lost.is_empty() {
                self.refresh = true;
                let private = self.published.keys().filter(|name| name.is_private());
                forgotten.extend(private.cloned());
            }
            forgotten.extend(lost);
        }
        // What this very child has published may have come after what it has read.
        forgotten.retain(|name| !done.published.contains_key(name));
        if forgotten.is_empty() {
            return;
        }
        self.published.retain(|name, _| !forgotten.contains(name));
        let names: Vec<String> = forgotten.into_iter().map(String::from).collect();
        log::warn(format_args!(
            "the cluster has other values than it was told: telling it again: {}",
            names.join(", ")
        ));
    }

    /// Makes the cluster monitor again what it has not monitored for [`LINGERING`]. A resource that was just degraded,
    /// stopped or cleaned up may look like that for a moment.
    fn on_unmonitored(&mut self, found: BTreeSet<String>, now: Instant) {
        self.unmonitored.retain(|name, _| found.contains(name));
        for name in found {
            let (since, times) = self.unmonitored.entry(name.clone()).or_insert((now, 0));
            if *times == RENEWALS || now.saturating_duration_since(*since) < LINGERING {
                continue;
            }
            (*since, *times) = (now, *times + 1);
            log::warn(format_args!(
                "{name} was degraded when its monitor was cancelled, and is not monitored since: the cluster is to \
                 look at it anew"
            ));
            self.renew.insert(name);
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
