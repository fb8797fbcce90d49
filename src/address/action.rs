//! What the actions do, given the cell's network namespace.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use super::hindrance::{Found, barrier, unhindered};
use super::kernel::Kernel;
use super::rival::{self, Sought};
use crate::address::change::{ATTEMPTS, announce, error_of, fit, observe, own, state_of};
use crate::address::location::{CellLocation, routing};
use crate::address::report;
use crate::address::service::Service;
use crate::cell::network;
use crate::log;
use crate::ocf::{Error, Explain, State, step};
use crate::plan::vip::record::{Record, detour_name};
use crate::plan::vip::record::{Role, VipSpec};
use crate::plan::vip::{self, Desired, Object, Observed, Request, Step, judge, judge_without_plan};
use crate::sys::announce::Wire;
use crate::sys::lock::Lock;
use crate::types::Family;

/// How long a monitor leaves what is missing to portwatch, and how often it looks meanwhile.
const MENDING: Duration = Duration::from_secs(3);
const MENDING_PAUSE: Duration = Duration::from_millis(50);

/// What a start has led to.
#[derive(Debug)]
pub struct Started {
    /// How the VIP is.
    pub state: State,
    /// The port that it was announced on, if that had to be done, and the socket that was used.
    pub(crate) announced: Option<(String, Wire)>,
}

/// The steps of a start that were due.
pub(crate) struct Change {
    /// What the VIP needs.
    desired: Desired,
    /// What is there, where no step was due.
    unchanged: Option<Observed>,
}

/// What the steps of a start have led to.
struct Applied {
    state: State,
    desired: Desired,
    /// Whether there was anything to do.
    changed: bool,
}

impl Service<'_> {
    /// Brings the VIP into service, wherever it was interrupted before, or takes over changed
    /// parameters.
    ///
    /// # Errors
    /// If it can't be on this node, is in use elsewhere, or the kernel refuses a step.
    pub fn start(&self, spec: &VipSpec, place: &CellLocation<'_>) -> Result<Started, Error> {
        spec.check()?;
        let before = Record::read(&self.runtime, self.instance);
        let mut record = Record::new(spec, place.role());
        record.claimed = before.and_then(|record| record.claimed);
        let request = record.request();
        let mut kernel = self.kernel(place.cell())?;
        let seen = observe(&mut kernel, &request, &Family::BOTH)?;
        let desired = Desired::new(&request, &seen).map_err(error_of)?;
        if vip::start(&desired, &seen).is_empty() {
            let state = state_of(judge(&desired, &seen));
            let state = unhindered(&kernel, &request, &desired, state);
            let state = self.served(record, place, (&desired, state))?;
            return Ok(Started {
                state,
                announced: None,
            });
        }
        let (wire, mut macs) = (Wire::open()?, kernel.macs());
        if let Some(gateway) = spec.gateway.filter(|_| spec.routed) {
            macs.extend(rival::router(&kernel, &desired, &seen, (&wire, gateway))?);
        }
        let sought = rival::search(&kernel, &desired, &seen, (&wire, &macs))?;
        let (state, port) = self.bring(&mut kernel, record, sought, (&desired, &wire), place)?;
        Ok(Started {
            state,
            announced: port.map(|port| (port, wire)),
        })
    }

    /// Makes what the VIP needs and announces it; says on which port, if that had to be done.
    pub(crate) fn bring(
        &self,
        kernel: &mut Kernel,
        mut record: Record,
        sought: Sought<'_>,
        (desired, wire): (&Desired, &Wire),
        place: &CellLocation<'_>,
    ) -> Result<(State, Option<String>), Error> {
        let (request, spec) = (record.request(), record.spec.clone());
        if let Sought::Claimed(other) = sought {
            self.admit(desired, other)?;
            record.claimed = Some(other);
        }
        // Whether it is on record is said when it is in service.
        let lock = self.lock()?;
        let _ = self.note_started(record.clone())?;
        drop(lock);
        if let Sought::Nobody(search) = sought {
            // Up to the proxy entry nobody outside can tell that anything happens here.
            let lock = self.lock_for_steps()?;
            self.change_locked(kernel, &request, |steps| {
                &steps[..before_proxy(steps, spec.vip)]
            })?;
            drop(lock);
            match search.finish()? {
                None => record.claimed = None,
                Some(other) => {
                    if let Err(e) = self.admit(desired, other) {
                        self.clear(&spec.vserver, spec.vip, place.cell())?;
                        return Err(e);
                    }
                    record.claimed = Some(other);
                }
            }
        }
        let mut port = None;
        for _ in 0..ATTEMPTS {
            let done = self.apply(kernel, &request)?;
            if done.changed {
                announce(kernel, &done.desired, wire);
                port.clone_from(&done.desired.port);
            }
            if !done.changed || !matches!(done.state, State::Failed(_)) {
                let state = unhindered(kernel, &request, &done.desired, done.state);
                let state = self.served(record, place, (&done.desired, state))?;
                return Ok((state, port));
            }
        }
        Err(Error::failed(format!(
            "start {}: somebody else takes away what it makes",
            spec.vip
        )))
    }

    /// Notes that the VIP is in service, and says how it is.
    fn served(
        &self,
        mut record: Record,
        place: &CellLocation<'_>,
        (desired, state): (&Desired, State),
    ) -> Result<State, Error> {
        record.serving = true;
        let claimed = record.claimed;
        let noted = self.record_served(record, place)?;
        Ok(match claimed.filter(|_| state == State::Running) {
            Some(other) => rival::contested(desired, other),
            None => noted.of(state, desired.vip),
        })
    }

    /// Does what is missing for the VIP, while no other address's agent does anything.
    fn apply(&self, kernel: &mut Kernel, request: &Request) -> Result<Applied, Error> {
        let _lock = self.lock_for_steps()?;
        let Change { desired, unchanged } = self.change_locked(kernel, request, |steps| steps)?;
        let changed = unchanged.is_none();
        let seen = match unchanged {
            Some(seen) => seen,
            None => observe(kernel, request, &own(request))?,
        };
        Ok(Applied {
            state: state_of(judge(&desired, &seen)),
            desired,
            changed,
        })
    }

    fn lock_for_steps(&self) -> Result<Lock, Error> {
        step("waiting for other addresses' agents");
        self.lock()
    }

    /// Does those steps of a start that `choose` lets through. The lock is the caller's.
    ///
    /// # Errors
    /// If the VIP can't be on this node, or the kernel refuses a step.
    pub(crate) fn change_locked(
        &self,
        kernel: &mut Kernel,
        request: &Request,
        choose: impl for<'s> Fn(&'s [Step]) -> &'s [Step],
    ) -> Result<Change, Error> {
        let seen = observe(kernel, request, &Family::BOTH)?;
        let desired = Desired::new(request, &seen).map_err(error_of)?;
        let steps = vip::start(&desired, &seen);
        let steps = choose(&steps);
        let Some(next) = steps.first() else {
            return Ok(Change {
                desired,
                unchanged: Some(seen),
            });
        };
        step("changing the kernel's state");
        log::debug(format_args!("{} steps, first: {next}", steps.len()));
        kernel
            .apply(steps, self.deadline, Err)
            .context(format!("start {}", request.vip))?;
        fit(kernel, request);
        Ok(Change {
            desired,
            unchanged: None,
        })
    }

    /// Takes the VIP out of service. Where clients go on to reach it by another node, what this node does
    /// for that stays, and is portwatch's from then on; otherwise all goes that no other VIP needs.
    ///
    /// # Errors
    /// If something of it is left that should not be, or can't be shown not to be.
    pub fn stop(
        &self,
        vserver: &str,
        vip: IpAddr,
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<State, Error> {
        let record = Record::read(&self.runtime, self.instance);
        match record.map(|record| self.hand_over(&record, cell.is_some())) {
            Some(Ok(true)) => return Ok(State::Stopped),
            // The rest is only for the sake of connections: whatever is wrong, it can all go.
            Some(Err(e)) => log::warn(e),
            Some(Ok(false)) | None => {}
        }
        self.clear(vserver, vip, cell)
    }

    /// Takes the VIP out of service with all that no other needs, from any state.
    ///
    /// # Errors
    /// If something of it is left, or can't be shown not to be.
    pub(crate) fn clear(
        &self,
        vserver: &str,
        vip: IpAddr,
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<State, Error> {
        step("waiting for other addresses' agents");
        let lock = self.lock()?;
        let cleared = self.clear_locked((vserver, vip), cell);
        drop(lock);
        if let Some(kernel) = cleared? {
            kernel.close_aside();
        }
        Ok(State::Stopped)
    }

    /// The same for whoever has the lock. Returns what is to be closed aside after that is given back.
    pub(crate) fn clear_locked(
        &self,
        (vserver, vip): (&str, IpAddr),
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Kernel>, Error> {
        let mut kernel = self.kernel(cell)?;
        // First of all, as portwatch does not wait for the lock to move a VIP that is served: what it does after
        // this it takes back itself.
        if let Some(mut record) = Record::read(&self.runtime, self.instance) {
            record.serving = false;
            record
                .write(&self.runtime, self.instance)
                .unwrap_or_else(|e| {
                    // To remove it takes no room, and says the same to portwatch.
                    log::warn(e);
                    self.forget();
                });
        }
        let mut seen = kernel.observe(Some(vip), &Family::BOTH)?;
        if vip::holder(vip, &seen).is_some_and(|link| link != network::outside(vserver)) {
            // It runs here, but for another vserver: that one's resource stops it.
            self.forget();
            return Ok(None);
        }
        step("changing the kernel's state");
        let to_do = |seen: &Observed| {
            let mut left = vip::stop(vip, seen);
            // One that is back is only still on record.
            left.retain(
                |step| !matches!(step, Step::Restore(key) if seen.settings.get(key) == seen.before.get(key)),
            );
            left
        };
        let (mut errors, mut left) = (Vec::new(), vip::stop(vip, &seen));
        for _ in 0..ATTEMPTS {
            errors.clear();
            kernel.apply(&left, self.deadline, |e| {
                errors.push(e);
                Ok(())
            })?;
            // What counts is what is left, not what went wrong on the way.
            seen = kernel.observe(Some(vip), &Family::BOTH)?;
            left = to_do(&seen);
            if left.is_empty() {
                break;
            }
        }
        for error in &errors {
            log::warn(error);
        }
        match left.first() {
            None => {
                self.forget();
                Record::forget(&self.runtime, &detour_name(vip));
                Ok(Some(kernel))
            }
            Some(left) => Err(Error::failed(match errors.first() {
                Some(first) => first.to_string(),
                None => format!("still to do after stop: {left}"),
            })),
        }
    }

    /// How the VIP is. This changes nothing and starts no process, but has portwatch look after the VIP, by `mend`, if
    /// something of it is missing.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn monitor(
        &self,
        spec: &VipSpec,
        cell: Option<BorrowedFd<'_>>,
        mend: &dyn Fn(Instant),
    ) -> Result<State, Error> {
        if let Some(why) = self.started_otherwise(spec) {
            return Ok(State::Failed(why));
        }
        let mut kernel = self.kernel(cell)?;
        let alive = cell.is_some();
        let found = self.examine(spec, &mut kernel, alive)?;
        if !matches!(found.state, State::Failed(_)) {
            return Ok(found.conclude(&kernel));
        }
        // It may have been in the middle of a move to another port, or portwatch can mend what
        // somebody else took away: a restart would only take longer.
        let routes = || {
            let record = Record::read(&self.runtime, self.instance);
            record.is_some_and(|r| matches!(r.role, Role::Router(_)))
        };
        let mends = !report::read(&self.runtime).is_empty() && (alive || routes());
        if mends {
            mend(self.deadline);
        }
        let until = Instant::now() + if mends { MENDING } else { Duration::ZERO };
        loop {
            let lock = self.lock()?;
            let found = self.examine(spec, &mut kernel, alive)?;
            drop(lock);
            let is_over = Instant::now() >= until.min(self.deadline);
            if is_over || !matches!(found.state, State::Failed(_)) {
                return Ok(found.conclude(&kernel));
            }
            thread::sleep(MENDING_PAUSE);
        }
    }

    fn examine(&self, spec: &VipSpec, kernel: &mut Kernel, alive: bool) -> Result<Found, Error> {
        let role = match Record::read(&self.runtime, self.instance) {
            Some(record) => record.role,
            None => {
                let lent = Record::read(&self.runtime, &detour_name(spec.vip));
                // The resource is not here, only what another node's needs.
                lent.map_or(Role::Home, |record| record.role)
            }
        };
        let request = Record::new(spec, role.clone()).request();
        let seen = observe(kernel, &request, &own(&request))?;
        let there = match &role {
            Role::Home => None,
            Role::Router(way) => Some(way),
            Role::Stranded(why) => return Ok(State::Degraded(why.clone()).into()),
            Role::Ending(_) | Role::Detour(_) => return Ok(State::Stopped.into()),
        };
        let own = network::outside(&spec.vserver);
        if vip::holder(spec.vip, &seen).is_some_and(|link| there.is_some() || link != own) {
            return Ok(State::Stopped.into());
        }
        if !alive && there.is_none() {
            let reason = format!("vserver {}'s cell does not run on this node", spec.vserver);
            return Ok(state_of(judge_without_plan(spec.vip, &reason, &seen)).into());
        }
        fit(kernel, &request);
        Ok(match Desired::new(&request, &seen) {
            Ok(desired) => Found {
                state: state_of(judge(&desired, &seen)),
                routing: there.map(|way| routing(spec.vip, way)),
                plan: Some((request, desired)),
            },
            Err(problem) => {
                state_of(judge_without_plan(spec.vip, &problem.to_string(), &seen)).into()
            }
        })
    }

    /// Whether the VIP could be on this node.
    ///
    /// # Errors
    /// Why not.
    pub fn validate(&self, spec: &VipSpec) -> Result<(), Error> {
        let request = spec.request();
        let mut kernel = self.kernel(None)?;
        let seen = observe(&mut kernel, &request, &own(&request))?;
        let desired = Desired::new(&request, &seen).map_err(error_of)?;
        vip::check_places(&request, &seen).map_err(error_of)?;
        match barrier(&kernel, &request, &desired) {
            Some(why) => Err(Error::host(why)),
            None => Ok(()),
        }
    }
}

/// How many of the steps come before the one that has a port answer for the VIP.
fn before_proxy(steps: &[Step], vip: IpAddr) -> usize {
    let is_proxy = |s: &Step| matches!(s, Step::Add(Object::Proxy(_, ip)) if *ip == vip);
    steps.iter().position(is_proxy).unwrap_or(steps.len())
}
