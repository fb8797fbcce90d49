//! The servers of a cell: started when their home file system is attached, told of changes of their exports, and ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::effect::Effects;
use super::gate::Standing;
use crate::cell::init::protocol::Order;
use crate::cell::keeper::core::orders::Orders;
use crate::cell::protocol::Cause;
use crate::cell::refused::Refused;
use crate::cell::service::{self, Change, Export, Launch, Ready, ServerSpec};
use crate::cluster::complaint::Member;
use notes::Notes;

mod notes;
mod state;

/// How long a program that tells a server of a change may run.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// How long running servers have to take up a change before it counts as refused: Samba does not say when it has.
const TAKE_UP_LIMIT: Duration = Duration::from_secs(2);

/// After how long exports that are not served are tried and looked at again.
const RETRY: Duration = Duration::from_secs(5);

/// How long servers that have failed to start have to end before they are killed.
const FAILED_PATIENCE: Duration = Duration::from_secs(2);

/// The state of the servers' home file system.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// It is attached at this directory.
    At(PathBuf),
    /// It is being mounted, or kept from service: why, and whether that may last.
    Later(String, bool),
    /// There is none, for this reason.
    None(Cause, String),
}

/// The servers of a cell and their state.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The servers' resource.
    pub(crate) member: Member,
    /// The specification of the servers.
    pub(crate) spec: ServerSpec,
    /// The directory of their home, if it was named.
    pub(crate) home: Option<PathBuf>,
    /// Set while their resource is being stopped: how long they have to end, and when PID 1 is killed if they have not.
    pub(crate) leaving: Option<(Duration, Instant)>,
    /// Whether the start of their resource was answered before they could be started, as their home was kept from
    /// service.
    late: bool,
    phase: Phase,
    /// Why the servers have failed.
    fault: Option<(Cause, String)>,
    /// Why the last change of exports was not made, and the directories that it was about.
    trouble: Option<String>,
    changed: BTreeSet<String>,
    /// What is known of exports that are not served as they should be.
    notes: Notes,
    /// The number of the order to ask the servers for their exports, and when such an order was last given.
    inspection: Option<u64>,
    inspected: Option<Instant>,
    /// All exports that the servers may have had since the last change that they took.
    former: Vec<Export>,
    /// The exports that the servers have now, and those that they will have when `steps` are done.
    applied: Vec<Export>,
    target: Vec<Export>,
    /// The orders to give, step after step; those of a step are carried out at the same time.
    steps: VecDeque<Vec<Order>>,
    /// The orders that PID 1 is carrying out.
    orders: Vec<u64>,
    /// Of these, the orders that start a server, with its name.
    launching: BTreeMap<u64, String>,
    /// The servers that could not be started or have ended by themselves, and why.
    failed: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The servers wait until their home is attached.
    Waiting,
    Starting,
    Running,
    Halting,
    /// Nothing of the servers is left in the cell.
    Halted,
}

impl Servers {
    /// Servers to be started.
    pub(crate) fn new(member: Member, spec: ServerSpec, home: Option<PathBuf>) -> Self {
        Self {
            member,
            spec,
            home,
            leaving: None,
            late: false,
            phase: Phase::Waiting,
            fault: None,
            trouble: None,
            changed: BTreeSet::new(),
            notes: Notes::default(),
            inspection: None,
            inspected: None,
            former: Vec::new(),
            applied: Vec::new(),
            target: Vec::new(),
            steps: VecDeque::new(),
            orders: Vec::new(),
            launching: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Why the file system at `directory` is not served as it should be, if it is not.
    pub(crate) fn refusal(&self, directory: &Path) -> Option<&str> {
        self.notes
            .about(directory.to_str()?)
            .filter(|_| self.phase == Phase::Running && self.leaving.is_none())
    }

    /// Why the servers have failed.
    pub(crate) fn fault(&self) -> Option<&(Cause, String)> {
        self.fault.as_ref()
    }

    /// Notes the state of their home before the servers are started.
    pub(crate) fn expect(&mut self, home: &Home) {
        let kept_from_service = matches!(home, Home::Later(_, true));
        self.late |= self.phase == Phase::Waiting && kept_from_service;
    }

    /// Whether the servers have failed after the start of their resource had been answered.
    pub(crate) fn has_failed_late(&self) -> bool {
        self.late && self.phase == Phase::Starting && self.fault.is_some()
    }

    /// Whether nothing of the servers is in the cell.
    pub(crate) fn is_halted(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Halted)
    }

    /// Whether the servers have the wanted exports, as far as they ever will.
    pub(crate) fn has_settled(&self, exports: &[Export]) -> bool {
        match self.phase {
            Phase::Running => {
                self.orders.is_empty() && self.steps.is_empty() && self.target == exports
            }
            Phase::Waiting | Phase::Halted => true,
            Phase::Starting | Phase::Halting => false,
        }
    }

    /// Whether the servers run, and are being changed to the wanted exports.
    pub(crate) fn are_changing(&self, exports: &[Export]) -> bool {
        self.phase == Phase::Running && self.leaving.is_none() && !self.has_settled(exports)
    }

    /// Has the servers asked for all their exports.
    pub(crate) fn inspect(&mut self) {
        if self.is_idle() {
            self.look(Duration::ZERO);
        }
    }

    /// Tries again what the servers did not take, after [`RETRY`]: what was in the way may be gone.
    pub(crate) fn retry(&mut self, now: Instant) {
        let lately = |since: Instant| now.duration_since(since) < RETRY;
        if !self.is_idle() || self.inspected.is_some_and(lately) {
            return;
        }
        if self.trouble.is_some() {
            self.change(&self.target.clone());
        } else if !self.notes.is_empty() {
            self.look(Duration::ZERO);
        }
    }

    fn is_idle(&self) -> bool {
        self.phase == Phase::Running && self.orders.is_empty() && self.steps.is_empty()
    }

    /// Adds the step that asks the servers for their exports.
    fn look(&mut self, patience: Duration) {
        self.steps.push_back(vec![Order::Inspect {
            spec: self.spec.clone(),
            exports: self.target.clone(),
            patience,
        }]);
    }

    /// Whether they still serve the file system at `directory`. One that is only their home need not wait for them:
    /// who detaches it spares them for as long as they may take to end.
    pub(crate) fn serve(&self, directory: &Path) -> bool {
        let mut exported = self.exported();
        !self.is_halted() && exported.any(|e| Path::new(&e.directory) == directory)
    }

    /// Notes that the servers have failed: all of them are to be ended.
    pub(crate) fn fail(&mut self, cause: Cause, why: String, out: &mut Effects) {
        out.error(format_args!("{}: {why}", self.member.resource));
        self.fault.get_or_insert((cause, why));
    }

    /// Notes that one of the servers has ended by itself.
    pub(crate) fn lose_one(&mut self, server: &str, how: &str, out: &mut Effects) {
        self.failed.insert(server.to_owned(), how.to_owned());
        let why = format!("server {server} has ended: {how}");
        self.fail(Cause::Failed, why, out);
    }

    /// Notes that the cell is gone, and the servers with it.
    pub(crate) fn lose(&mut self, why: &str) {
        self.phase = Phase::Halted;
        self.orders.clear();
        self.launching.clear();
        self.steps.clear();
        if self.leaving.is_none() {
            self.fault.get_or_insert((Cause::Failed, why.to_owned()));
        }
    }

    /// Notes that PID 1 has carried out an order. Returns whether the order was for the servers.
    pub(crate) fn done(
        &mut self,
        number: u64,
        result: &Result<Vec<Refused>, String>,
        out: &mut Effects,
    ) -> bool {
        let Some(at) = self.orders.iter().position(|order| *order == number) else {
            return false;
        };
        self.orders.swap_remove(at);
        let launched = self.launching.remove(&number);
        if let (Some(server), Err(why)) = (launched, result) {
            self.failed.insert(server, why.clone());
        }
        let inspected = self.inspection.take_if(|order| *order == number).is_some();
        match (self.phase, result) {
            (Phase::Halting, _) => self.phase = Phase::Halted,
            (_, Ok(refused)) if inspected => {
                let trouble = self.trouble.as_deref();
                self.notes
                    .take(refused, trouble.zip(Some(&self.changed)), out);
            }
            (_, Err(why)) if inspected => {
                out.warn(format_args!("look what is served: {why}"));
            }
            (Phase::Starting, Err(why)) => self.fail(Cause::Failed, why.clone(), out),
            (_, Err(why)) => {
                out.error(format_args!(
                    "{}: change the exports: {why}",
                    self.member.resource
                ));
                self.trouble = Some(why.clone());
            }
            _ => {}
        }
        true
    }

    /// All exports that the servers have or are going to have.
    pub(crate) fn exported(&self) -> impl Iterator<Item = &Export> {
        self.applied.iter().chain(&self.target)
    }

    /// Whether the next step starts a server.
    fn is_to_launch(&self) -> bool {
        let launches = |step: &Vec<Order>| step.iter().any(|o| matches!(o, Order::Launch { .. }));
        self.orders.is_empty() && self.steps.front().is_some_and(launches)
    }

    /// Notes that PID 1 has not taken an order, for which the cell is killed. Returns whether the order was for the
    /// servers.
    pub(crate) fn not_ordered(&mut self, number: u64) -> bool {
        let before = self.orders.len();
        self.orders.retain(|order| *order != number);
        self.launching.remove(&number);
        self.orders.len() != before
    }

    /// Does the next step towards the wanted exports. Clients get access before there is anything for them.
    pub(crate) fn advance(
        &mut self,
        orders: &mut Orders,
        (home, exports, gate): (&Home, &[Export], &Standing),
        now: Instant,
        out: &mut Effects,
    ) {
        if let (true, Standing::Broken(cause, why)) = (self.is_to_launch(), gate) {
            self.fail(*cause, why.clone(), out);
        }
        if self.phase != Phase::Halting && self.wants_end() && !self.is_halted() {
            // The order to end goes to PID 1 at once, whatever else it is doing for the servers.
            let patience = self
                .leaving
                .map_or(FAILED_PATIENCE, |(patience, _)| patience);
            self.steps.clear();
            self.launching.clear();
            self.orders = vec![orders.give(Order::Halt { patience }, out)];
            self.phase = Phase::Halting;
        }
        if self.wants_end() && self.phase == Phase::Waiting {
            self.phase = Phase::Halted;
        }
        if !self.orders.is_empty() || (self.is_to_launch() && *gate == Standing::Pending) {
            return;
        }
        match (self.phase, home) {
            (Phase::Waiting, Home::At(directory)) => self.begin(directory, exports),
            (Phase::Waiting, Home::None(cause, why)) => self.fail(*cause, why.clone(), out),
            // If clients can't be given access, the servers get the exports all the same: the file systems show as
            // degraded.
            (Phase::Running, _)
                if self.steps.is_empty()
                    && self.target != exports
                    && *gate != Standing::Pending =>
            {
                self.change(exports);
            }
            _ => {}
        }
        if let Some(step) = self.steps.pop_front() {
            for order in step {
                let inspects = matches!(order, Order::Inspect { .. });
                let launches = match &order {
                    Order::Launch { server, .. } => Some(server.clone()),
                    _ => None,
                };
                let number = orders.give(order, out);
                self.orders.push(number);
                self.launching
                    .extend(launches.map(|server| (number, server)));
                if inspects {
                    self.inspection = Some(number);
                    self.inspected = Some(now);
                }
            }
        } else if self.phase == Phase::Starting && self.fault.is_none() {
            out.info(format_args!("{}: the servers answer", self.member.resource));
            self.phase = Phase::Running;
        }
        if self.orders.is_empty() {
            self.applied = self.target.clone();
        }
    }

    fn wants_end(&self) -> bool {
        self.leaving.is_some() || self.fault.is_some()
    }

    fn begin(&mut self, home: &Path, exports: &[Export]) {
        let spec = &self.spec;
        self.steps = VecDeque::from([
            vec![Order::Prepare {
                home: home.to_owned(),
            }],
            vec![Order::Configure {
                spec: spec.clone(),
                exports: exports.to_vec(),
            }],
        ]);
        // File servers start at the same time; further commands may need them, and start after them.
        let (servers, others): (Vec<Launch>, Vec<Launch>) = service::launches(spec)
            .into_iter()
            .partition(|l| matches!(l.ready, Ready::Answers(_)));
        let launches = std::iter::once(servers).chain(others.into_iter().map(|l| vec![l]));
        // A step without an order would never be over.
        for launches in launches.filter(|l| !l.is_empty()) {
            let order = |l: Launch| Order::Launch {
                spec: spec.clone(),
                server: l.name,
            };
            self.steps
                .push_back(launches.into_iter().map(order).collect());
        }
        self.target = exports.to_vec();
        if !exports.is_empty() {
            self.look(TAKE_UP_LIMIT);
        }
        self.phase = Phase::Starting;
    }

    fn change(&mut self, exports: &[Export]) {
        let spec = self.spec.clone();
        // If the servers did not take a change, it is not known how much of it was made.
        let missed = self.trouble.take().is_some();
        if !missed {
            self.former.clear();
            self.changed.clear();
        }
        for export in &self.applied {
            if !self.former.contains(export) {
                self.former.push(export.clone());
            }
        }
        let changes = match missed {
            true => service::changes_anew(&spec, &self.former, exports),
            false => service::changes(&spec, &self.former, exports),
        };
        let differs = |one: &[Export], other: &[Export]| -> Vec<String> {
            let differing = one.iter().filter(|export| !other.contains(export));
            differing.map(|export| export.directory.clone()).collect()
        };
        self.changed.extend(differs(&self.applied, exports));
        self.changed.extend(differs(exports, &self.applied));
        self.notes.forget(&self.changed);
        self.steps = VecDeque::from([vec![Order::Configure {
            spec,
            exports: exports.to_vec(),
        }]]);
        self.steps.extend(changes.into_iter().map(|change| {
            vec![match change {
                Change::Signal { server, signal } => Order::Reload {
                    server: server.to_owned(),
                    signal,
                },
                Change::Run { server, argv } => Order::Run {
                    server: server.to_owned(),
                    argv,
                    limit: CHANGE_LIMIT,
                },
            }]
        }));
        self.target = exports.to_vec();
        self.look(TAKE_UP_LIMIT);
    }
}

#[cfg(test)]
mod tests;
