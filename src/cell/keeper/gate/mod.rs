//! The keeper's work on what the cell's network lets in: one run of `nft` in a child for each change.

pub mod rules;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::cell::keeper::gate::rules::{Rules, SETTINGS};
use crate::cell::network;
use crate::cell::protocol::Cause;
use crate::cell::service::{Own, ServerSpec};
use crate::log;
use crate::runtime::job::Job;
use crate::sys::command::run_with_input;
use crate::sys::{namespace, program};

/// How long a change may take; some 10 ms are usual.
const LIMIT: Duration = Duration::from_secs(10);

/// After this long, what did not work is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How a change has ended.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// It is in force.
    Done,
    /// It is, but connections are not limited: why not.
    Unlimited(String),
    /// `nft` did not end in time, which says nothing of what it would have done.
    Late(String),
    /// It can't be.
    Failed(Cause, String),
}

/// What the cell lets in, and is going to.
#[derive(Debug, Default)]
pub struct Gate {
    /// What is in force.
    rules: Option<Rules>,
    /// It is without limits.
    unlimited: bool,
    /// What the admin's own configuration serves.
    own: Own,
    /// Why what is being put in force was not in time.
    late: Option<String>,
    /// What is being put in force.
    job: Option<(Rules, Job<Outcome>)>,
    /// What could not be, since when, and why not: until it is.
    failed: Option<(Rules, Instant, (Cause, String))>,
    /// It is to be tried again.
    again: bool,
}

/// Whether it lets in what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Open,
    /// It is going to.
    Pending,
    /// It can't.
    Broken(Cause, String),
}

impl Gate {
    /// Begins what leads to these rules, unless something is going on already.
    pub fn advance(&mut self, cell: &Cell, wanted: &Rules) {
        let known = self.failed.as_ref().is_some_and(|(of, ..)| of == wanted);
        if self.job.is_some() || (known && !self.again) || self.rules.as_ref() == Some(wanted) {
            return;
        }
        self.again = false;
        let (rules, before) = (wanted.clone(), self.rules.clone());
        let pid = cell.pid.as_raw();
        // The number stays this cell's as long as the keeper has not reaped it.
        let work = move || (enforce(pid, &rules, before.as_ref()), None);
        match Job::spawn(c"berth-gate", work) {
            Ok(job) => self.job = Some((wanted.clone(), job)),
            Err(e) => self.fail(
                wanted.clone(),
                (Cause::Failed, format!("start a child: {e}")),
            ),
        }
    }

    /// Readable when something has ended.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.job.as_ref().map(|(_, job)| job.as_fd())
    }

    /// Takes note of what has ended; the child that is to be reaped.
    pub fn finish(&mut self) -> Option<Pid> {
        let outcome = self.job.as_ref()?.1.outcome()?;
        let (rules, job) = self.job.take()?;
        match outcome {
            Ok((Outcome::Done, _)) => self.succeed(rules),
            Ok((Outcome::Unlimited(why), _)) => {
                log::warn(format_args!("connections are not limited: {why}"));
                self.succeed(rules);
                self.unlimited = true;
            }
            // Tried again at once: a start waits for it as long as it may.
            Ok((Outcome::Late(why), _)) => {
                log::warn(format_args!("{why}; trying again"));
                self.failed = None;
                self.late = Some(why);
            }
            Ok((Outcome::Failed(cause, why), _)) => self.fail(rules, (cause, why)),
            Err(e) => self.fail(rules, (Cause::Failed, format!("a child {e}"))),
        }
        Some(job.pid())
    }

    fn succeed(&mut self, rules: Rules) {
        self.rules = Some(rules);
        self.failed = None;
        self.late = None;
    }

    fn fail(&mut self, rules: Rules, why: (Cause, String)) {
        log::error(format_args!("{}", why.1));
        self.failed = Some((rules, Instant::now(), why));
        self.late = None;
    }

    /// Has what did not work tried again if that was a while ago: what was in the way may be gone.
    pub fn retry(&mut self, now: Instant) {
        let failed = self.failed.as_ref();
        self.again |= failed.is_some_and(|(_, since, _)| now.duration_since(*since) >= RETRY);
    }

    /// Has it tried again at once, for these servers, which are yet to be started. So are limits that could not be.
    pub fn begin(&mut self, spec: &ServerSpec) {
        self.failed = None;
        if std::mem::take(&mut self.unlimited) {
            self.rules = None;
        }
        self.look(spec);
    }

    /// Looks what the admin's own configuration serves now.
    pub fn look(&mut self, spec: &ServerSpec) {
        self.own = Own::look(spec);
    }

    /// What it served when that was looked at last.
    pub fn own(&self) -> Own {
        self.own
    }

    /// Whether something is going on.
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// How it stands to these rules.
    pub fn standing(&self, wanted: &Rules) -> Standing {
        match &self.failed {
            _ if self.rules.as_ref() == Some(wanted) => Standing::Open,
            Some((rules, _, (cause, why))) if rules == wanted => {
                Standing::Broken(*cause, why.clone())
            }
            _ => Standing::Pending,
        }
    }

    /// Why what is let in is not what should be.
    pub fn fault(&self) -> Option<&str> {
        let failed = self.failed.as_ref().map(|(_, _, (_, why))| why);
        failed.or(self.late.as_ref()).map(String::as_str)
    }

    /// The cell has gone; the child that is to be reaped.
    pub fn lose(&mut self) -> Option<Pid> {
        let own = self.own;
        let Self { job, .. } = std::mem::replace(
            self,
            Self {
                own,
                ..Self::default()
            },
        );
        let (_, job) = job?;
        job.kill();
        Some(job.pid())
    }
}

/// Puts the rules in force in the network of the cell with this PID 1, where those of before are.
fn enforce(pid: i32, rules: &Rules, before: Option<&Rules>) -> Outcome {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Outcome::Failed(Cause::Missing, e.to_string()),
        io::ErrorKind::TimedOut => Outcome::Late(e.to_string()),
        _ => Outcome::Failed(Cause::Failed, e.to_string()),
    };
    let apply = || {
        let refused = match run(&rules.script(before))? {
            Ok(()) => None,
            // A kernel without what counts connections still keeps out who is not to come in.
            Err(why) if before.is_none() => {
                run(&rules.script_without_limits())?.map_err(|_| io::Error::other(why.clone()))?;
                Some(why)
            }
            Err(why) => return Err(io::Error::other(why)),
        };
        for (name, value) in SETTINGS {
            network::set(name, value)?;
        }
        Ok(refused)
    };
    let applied =
        namespace::open_process(pid).and_then(|process| namespace::inside(process, apply));
    match applied {
        Ok(None) => Outcome::Done,
        Ok(Some(why)) => Outcome::Unlimited(why),
        Err(e) => failed(e),
    }
}

/// Has `nft` do this in the network that it is in; why it refuses, if it does.
fn run(script: &str) -> io::Result<Result<(), String>> {
    let mut nft = program::command("nft")?;
    nft.args(["-f", "-"]);
    let output = run_with_input(nft, script.as_bytes(), Instant::now() + LIMIT)?;
    let checked = output.check("let clients into the cell's network: nft");
    Ok(checked.map(drop).map_err(|e| e.to_string()))
}
