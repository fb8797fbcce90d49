//! The control groups of the keeper's cell. Children make them while the keeper does other work: systemd and the kernel
//! take some milliseconds each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{Event, Keeper};
use crate::cell::cgroup::{self, Groups, Limits};
use crate::log;
use crate::runtime::job::Job;
use crate::sys::cgroup::{self as kernel, Events, Group, Usage};
use crate::types::VserverName;

/// The least time between two log lines about a shortage: an attacker in the cell may cause one all the time.
const PAUSE: Duration = Duration::from_secs(10);

/// The result of a child; with an error the cell has no limits.
type Done<T> = Result<T, String>;

/// The control groups, and how far their making has come.
pub(crate) struct Cgroup {
    vserver: VserverName,
    /// The groups; `None` if they can't be made.
    place: Option<Groups>,
    phase: Phase,
    /// The group that the keeper was in before.
    origin: PathBuf,
    /// The limits that the cell is to have.
    limits: Limits,
    /// Whether no cell has been in its group yet.
    is_new: bool,
    /// Whether limits have been in force once: the keeper has moved into its group, and shortages are watched for.
    is_watched: bool,
    watched: Vec<Watched>,
    /// Why the limits are not in force, or not all of them.
    missing: Option<String>,
}

enum Phase {
    /// A child makes the groups.
    Making(Job<Done<bool>>),
    /// A child puts these limits in force, which takes moving processes the first time.
    Settling(Job<Done<Vec<String>>>, Limits),
    /// These limits are in force, as far as they can be.
    Settled(Limits),
}

/// A resource that a cell can run short of.
#[derive(Debug, Clone, Copy)]
enum Shortage {
    Memory,
    Processes,
}

/// A resource that is watched for shortages.
struct Watched {
    shortage: Shortage,
    events: Events,
    quiet_until: Instant,
    /// How often there was a shortage, if that is still to be logged.
    unsaid: Option<u64>,
}

impl Shortage {
    fn watch(self, cell: &Group) -> io::Result<Events> {
        match self {
            Self::Memory => Events::watch(cell, "memory.events", "oom_kill"),
            Self::Processes => Events::watch(cell, "pids.events", "max"),
        }
    }

    fn describe(self, limits: &Limits, count: u64) -> String {
        let times = if count == 1 { "time" } else { "times" };
        let (what, limit) = match self {
            Self::Memory => (
                "the kernel has ended a process for want of memory",
                format!("memory_max = {}", limits.memory_max),
            ),
            Self::Processes => (
                "it can start no more processes",
                format!("pids_max = {}", u32::from(limits.pids_max)),
            ),
        };
        format!("{what}: {limit}, {count} {times} so far")
    }
}

impl Cgroup {
    /// Begins to make the groups for this process, the keeper of `vserver`.
    pub(crate) fn begin(vserver: VserverName) -> Self {
        let mut cgroup = Self {
            vserver,
            place: None,
            phase: Phase::Settled(Limits::default()),
            origin: PathBuf::from("/"),
            limits: Limits::default(),
            is_new: false,
            is_watched: false,
            watched: Vec::new(),
            missing: None,
        };
        match cgroup.make() {
            Ok((place, job)) => {
                cgroup.place = Some(place);
                cgroup.phase = Phase::Making(job);
            }
            Err(e) => cgroup.do_without(&e.to_string()),
        }
        cgroup
    }

    fn make(&mut self) -> io::Result<(Groups, Job<Done<bool>>)> {
        let place = Groups::of(&self.vserver)?;
        let keeper = nix::unistd::getpid().as_raw();
        self.origin = kernel::of_process(keeper)?.unwrap_or_default();
        let (vserver, there) = (self.vserver.clone(), place.clone());
        let job = Job::spawn(c"berth-cgroup", move || {
            let made = there.make(&vserver, keeper);
            (made.map_err(|e| e.to_string()), None)
        })?;
        Ok((place, job))
    }

    fn do_without(&mut self, why: &str) {
        self.miss(why);
        self.place = None;
        self.phase = Phase::Settled(self.limits);
    }

    /// Notes and logs that the limits are not in force, for this reason.
    fn miss(&mut self, why: &str) {
        let vserver = &self.vserver;
        log::warn(format_args!("limits of {vserver} are not in force: {why}"));
        self.missing = Some(why.to_owned());
    }

    /// Sets the limits that the cell is to have from now on.
    pub(crate) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        for line in limits.beyond_node().unwrap_or_default() {
            log::warn(format_args!("{}: {line}", self.vserver));
        }
    }

    /// Whether a cell can be started: its group is there, or can't be made.
    pub(crate) fn is_made(&self) -> bool {
        !matches!(self.phase, Phase::Making(_))
    }

    /// Whether servers can be started: the limits are in force, as far as they can be.
    pub(crate) fn is_settled(&self) -> bool {
        self.place.is_none()
            || matches!(self.phase, Phase::Settled(limits) if limits == self.limits)
    }

    /// Readable when [`Cgroup::advance`] has something to do.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.phase {
            Phase::Making(job) => Some(job.as_fd()),
            Phase::Settling(job, _) => Some(job.as_fd()),
            Phase::Settled(_) => None,
        }
    }

    /// To be polled for POLLPRI: [`Keeper::arrange_cgroup`] has something to log then.
    pub(crate) fn events(&self, now: Instant) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watched.iter().filter_map(move |w| w.events.fd(now))
    }

    /// When [`Keeper::arrange_cgroup`] is due by time alone.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let due = |w: &Watched| {
            let unsaid = w.unsaid.map(|_| w.quiet_until);
            unsaid.into_iter().chain(w.events.due(now)).min()
        };
        self.watched.iter().filter_map(due).min()
    }

    /// Takes the child's result, if it has ended, and starts the next one if there is more to do. Returns a child that
    /// is to be reaped. The sentinel goes into the keeper's group with it.
    fn advance(&mut self, sentinel: Option<Pid>) -> Option<Pid> {
        let over = match &self.phase {
            Phase::Making(job) => {
                let (pid, outcome) = (job.pid(), flat(job)?);
                match outcome {
                    Ok(is_new) => {
                        self.is_new = is_new;
                        self.apply(sentinel);
                    }
                    Err(why) => self.do_without(&why),
                }
                Some(pid)
            }
            Phase::Settling(job, limits) => {
                let (pid, outcome, limits) = (job.pid(), flat(job)?, *limits);
                self.phase = Phase::Settled(limits);
                match outcome {
                    Ok(missing) => self.have_settled(&missing),
                    Err(why) => self.miss(&why),
                }
                Some(pid)
            }
            Phase::Settled(_) => None,
        };
        if matches!(self.phase, Phase::Settled(_)) && !self.is_settled() {
            self.apply(sentinel);
        }
        over
    }

    fn apply(&mut self, sentinel: Option<Pid>) {
        let Some(place) = self.place.clone() else {
            return;
        };
        let limits = self.limits;
        let keeper = nix::unistd::getpid();
        let mut processes = Vec::new();
        if !self.is_watched {
            let all = sentinel.into_iter().chain([keeper]);
            processes.extend(all.map(|pid| pid.as_raw()));
        }
        let job = Job::spawn(c"berth-cgroup", move || {
            let settled = place.apply(&processes, &limits);
            (settled.map_err(|e| e.to_string()), None)
        });
        match job {
            Ok(job) => self.phase = Phase::Settling(job, limits),
            Err(e) => {
                self.miss(&format!("start a child: {e}"));
                // The groups exist, and are removed at the end. The next change of limits tries again.
                self.phase = Phase::Settled(limits);
            }
        }
    }

    fn have_settled(&mut self, missing: &[String]) {
        let why = (!missing.is_empty()).then(|| cgroup::why_missing(missing));
        self.missing.clone_from(&why);
        if std::mem::replace(&mut self.is_watched, true) {
            return;
        }
        if let Some(why) = why {
            let vserver = &self.vserver;
            let line = match missing.len() < cgroup::CONTROLLERS.len() {
                true => format!("not all limits of {vserver} are in force"),
                false => format!("limits of {vserver} are not in force"),
            };
            log::warn(format_args!("{line}: {why}"));
        }
        let Some(cell) = self.cell() else { return };
        for shortage in [Shortage::Memory, Shortage::Processes] {
            // Without the controller of this resource there is nothing to watch.
            if let Ok(events) = shortage.watch(&cell) {
                self.watched.push(Watched {
                    shortage,
                    events,
                    quiet_until: Instant::now(),
                    unsaid: None,
                });
            }
        }
    }

    /// Logs the cell's shortages, at most once in [`PAUSE`] each.
    fn log_shortages(&mut self, now: Instant) {
        for watched in &mut self.watched {
            watched.unsaid = watched.events.news(now).or(watched.unsaid);
            if now < watched.quiet_until {
                continue;
            }
            if let Some(count) = watched.unsaid.take() {
                let line = watched.shortage.describe(&self.limits, count);
                log::warn(format_args!("{}: {line}", self.vserver));
                watched.quiet_until = now + PAUSE;
            }
        }
    }

    /// The group of the cell, if there is one.
    pub(crate) fn cell(&self) -> Option<Group> {
        self.place.as_ref().map(Groups::cell)
    }

    /// Whether no cell has been in that group yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Logs what a cell that has ended has used.
    pub(crate) fn sum_up(&mut self) {
        self.is_new = false;
        let used = self.cell().and_then(|cell| Usage::of(&cell).ok());
        if let Some(used) = used {
            log::info(format_args!("{} used {used}", self.vserver));
        }
    }

    /// Removes the groups, and leaves this process in its former one: it is about to end.
    pub(crate) fn leave(&self) {
        if let Some(place) = &self.place {
            place.leave(&self.origin);
        }
    }
}

impl Keeper {
    /// Goes on with the groups, logs shortages, and passes the state of the limits to the core.
    pub(crate) fn arrange_cgroup(&mut self) {
        let sentinel = self.sentinel.as_ref().map(|sentinel| sentinel.pid);
        self.leftover.extend(self.cgroup.advance(sentinel));
        self.cgroup.log_shortages(Instant::now());
        self.tell(Event::Groups {
            made: self.cgroup.is_made(),
            settled: self.cgroup.is_settled(),
            missing: self.cgroup.missing.clone(),
        });
    }
}

/// The result of a child, once it has ended.
fn flat<T: serde::Serialize + serde::de::DeserializeOwned>(job: &Job<Done<T>>) -> Option<Done<T>> {
    let outcome = job.outcome()?;
    Some(outcome.map_or_else(|e| Err(format!("a child {e}")), |(result, _)| result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_in_which_nothing_could_be_settled_are_still_known_at_the_end() {
        let Ok(place) = Groups::of(&"test".into()) else {
            // This node has no control groups.
            return;
        };
        let mut cgroup = Cgroup {
            vserver: "test".into(),
            place: Some(place.clone()),
            phase: Phase::Settled(Limits::default()),
            origin: PathBuf::from("/"),
            limits: Limits {
                pids_max: 100.try_into().expect("a limit"),
                ..Limits::default()
            },
            is_new: true,
            is_watched: false,
            watched: Vec::new(),
            missing: None,
        };
        assert!(!cgroup.is_settled());
        // A process with threads, as this one is, can't start a child.
        assert!(cgroup.advance(None).is_none());
        assert!(cgroup.is_settled());
        assert_eq!(cgroup.place, Some(place));
    }
}
