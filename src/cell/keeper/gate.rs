//! The keeper's work on what the cell's network lets in: one run of `nft` in a child for each change.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::cell::Cell;
use crate::cell::gate::{Rules, SETTINGS};
use crate::cell::job::Job;
use crate::cell::protocol::Cause;
use crate::ocf::log;
use crate::sys::command::run_with_input;
use crate::sys::{message, namespace, program};

/// How long a change may take; some 10 ms are usual.
const LIMIT: Duration = Duration::from_secs(10);

/// After this long, what did not work is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How a change has ended.
type Outcome = Result<(), (Cause, String)>;

/// What the cell lets in, and is going to.
#[derive(Debug, Default)]
pub struct Gate {
    /// What is in force.
    rules: Option<Rules>,
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
        let script = wanted.script(self.rules.as_ref());
        let pid = cell.pid.as_raw();
        // The number stays this cell's as long as the keeper has not reaped it.
        let work = move || (enforce(pid, &script), None);
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
            Ok((Ok(()), _)) => {
                self.rules = Some(rules);
                self.failed = None;
            }
            Ok((Err(why), _)) => self.fail(rules, why),
            Err(e) => self.fail(rules, (Cause::Failed, format!("a child {e}"))),
        }
        Some(job.pid())
    }

    fn fail(&mut self, rules: Rules, why: (Cause, String)) {
        log::error(format_args!("{}", why.1));
        self.failed = Some((rules, Instant::now(), why));
    }

    /// Has what did not work tried again if that was a while ago: what was in the way may be gone.
    pub fn retry(&mut self, now: Instant) {
        let failed = self.failed.as_ref();
        self.again |= failed.is_some_and(|(_, since, _)| now.duration_since(*since) >= RETRY);
    }

    /// Has it tried again at once, for servers that are yet to be started.
    pub fn retry_now(&mut self) {
        self.failed = None;
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
        self.failed.as_ref().map(|(_, _, (_, why))| why.as_str())
    }

    /// The cell has gone; the child that is to be reaped.
    pub fn lose(&mut self) -> Option<Pid> {
        let Self { job, .. } = std::mem::take(self);
        let (_, job) = job?;
        job.kill();
        Some(job.pid())
    }
}

/// Puts it in force in the network of the cell with this PID 1.
fn enforce(pid: i32, script: &str) -> Outcome {
    let cause = |e: &io::Error| match e.kind() {
        io::ErrorKind::NotFound => Cause::Missing,
        _ => Cause::Failed,
    };
    let nft = program::command("nft").map_err(|e| (cause(&e), e.to_string()))?;
    let apply = || {
        let mut nft = nft;
        nft.args(["-f", "-"]);
        run_with_input(nft, script.as_bytes(), Instant::now() + LIMIT)?
            .check("let clients into the cell's network: nft")?;
        SETTINGS
            .iter()
            .try_for_each(|(name, value)| set(name, value))
    };
    namespace::open_process(pid)
        .and_then(|process| namespace::inside(process, apply))
        .map_err(|e| (Cause::Failed, e.to_string()))
}

/// Writes a setting of this network, if the kernel has it.
fn set(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{name}");
    match fs::write(&path, value) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|e| message(e, format_args!("write {value} to {path}"))),
    }
}
