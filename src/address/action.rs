//! The actions start, stop, monitor and validate of a VIP, given the cell's network namespace.

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
use crate::sys::announce::PacketSocket;
use crate::sys::lock::Lock;
use crate::types::{Family, IfName, VserverName};

/// How long a monitor waits for portwatch to make again what is missing, and how often it looks meanwhile.
const MENDING: Duration = Duration::from_secs(3);
const MENDING_PAUSE: Duration = Duration::from_millis(50);

/// The result of a start.
#[derive(Debug)]
pub struct Started {
    /// The state of the VIP.
    pub state: State,
    /// The port that the VIP was announced on, if it had to be announced, and the socket that was used.
    pub(crate) announced: Option<(IfName, PacketSocket)>,
}

/// The steps of a start that were due.
pub(crate) struct Change {
    /// What the VIP needs.
    desired: Desired,
    /// The state of the kernel, if no step was due.
    unchanged: Option<Observed>,
}

/// The result of the steps of a start.
struct Applied {
    state: State,
    desired: Desired,
    /// Whether there was any step to carry out.
    changed: bool,
}

impl Service<'_> {
    /// Brings the VIP into service, from whatever an earlier start has left, or with changed parameters.
    ///
    /// # Errors
    /// If the VIP can't be on this node, somebody else uses it, or the kernel refuses a step.
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
        let (wire, mut macs) = (PacketSocket::open()?, kernel.macs());
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

    /// Makes what the VIP needs and announces it. Returns its state, and the port that it was announced on, if it had
    /// to be.
    pub(crate) fn bring(
        &self,
        kernel: &mut Kernel,
        mut record: Record,
        sought: Sought<'_>,
        (desired, wire): (&Desired, &PacketSocket),
        place: &CellLocation<'_>,
    ) -> Result<(State, Option<IfName>), Error> {
        let (request, spec) = (record.request(), record.spec.clone());
        if let Sought::Claimed(other) = sought {
            self.admit(desired, other)?;
            record.claimed = Some(other);
        }
        // A failure to write the record is reported later, once the VIP is in service.
        let lock = self.lock()?;
        let _ = self.note_started(record.clone())?;
        drop(lock);
        if let Sought::Nobody(search) = sought {
            // Nothing up to the proxy entry can be seen from outside, so it is made while replies are waited for.
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

    /// Notes that the VIP is in service. Returns its state, in view of another claimant and of a record that can't be
    /// written.
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

    /// Carries out the steps of a start that are due, under the lock of the addresses' agents.
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

    /// Carries out those of the due steps of a start that `choose` picks. The caller holds the lock.
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

    /// Takes the VIP out of service. If clients are to reach it by way of another node, what they need on this node
    /// stays, and portwatch removes it later. Otherwise everything is removed that no other VIP needs.
    ///
    /// # Errors
    /// If something is left that should not be, or the kernel's state can't be read.
    pub fn stop(
        &self,
        vserver: &VserverName,
        vip: IpAddr,
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<State, Error> {
        let record = Record::read(&self.runtime, self.instance);
        match record.map(|record| self.hand_over(&record, cell.is_some())) {
            Some(Ok(true)) => return Ok(State::Stopped),
            // The handover only spares clients' connections: if it fails, everything is removed.
            Some(Err(e)) => log::warn(e),
            Some(Ok(false)) | None => {}
        }
        self.clear(vserver, vip, cell)
    }

    /// Removes, from any state, everything of the VIP that no other VIP needs.
    ///
    /// # Errors
    /// If something is left, or the kernel's state can't be read.
    pub(crate) fn clear(
        &self,
        vserver: &VserverName,
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

    /// As [`Self::clear`], for a caller that holds the lock. Returns the kernel's sockets, to be closed by
    /// [`Kernel::close_aside`] once the lock is released.
    pub(crate) fn clear_locked(
        &self,
        (vserver, vip): (&VserverName, IpAddr),
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<Option<Kernel>, Error> {
        let mut kernel = self.kernel(cell)?;
        // The record is changed first, because portwatch moves a served VIP without the lock: it reads the record
        // again after a move, and takes the move back.
        if let Some(mut record) = Record::read(&self.runtime, self.instance) {
            record.serving = false;
            record
                .write(&self.runtime, self.instance)
                .unwrap_or_else(|e| {
                    // Removing the record takes no room, and tells portwatch the same.
                    log::warn(e);
                    self.forget();
                });
        }
        let mut seen = kernel.observe(Some(vip), &Family::BOTH)?;
        if vip::holder(vip, &seen).is_some_and(|link| *link != network::outside(vserver)) {
            // The VIP is served here for another vserver, whose resource stops it.
            self.forget();
            return Ok(None);
        }
        step("changing the kernel's state");
        let to_do = |seen: &Observed| {
            let mut left = vip::stop(vip, seen);
            // A setting that has its former value is only still on record.
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
            // Success is that nothing is left, whatever failed on the way.
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

    /// The state of the VIP. This changes nothing and starts no process; if something of the VIP is missing, `mend` has
    /// portwatch make it again.
    ///
    /// # Errors
    /// If the kernel's state can't be read.
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
        // portwatch may have been in the middle of a move, or can make again what somebody else has removed. The
        // restart that a failure leads to would take longer.
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
                // The resource has no record here: at most there is a detour's, for another node's resource.
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
        if vip::holder(spec.vip, &seen).is_some_and(|link| there.is_some() || *link != own) {
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

    /// Checks that the VIP could be started on this node.
    ///
    /// # Errors
    /// Why it could not.
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

/// How many of the steps come before the one that makes the VIP's proxy entry.
fn before_proxy(steps: &[Step], vip: IpAddr) -> usize {
    let is_proxy = |s: &Step| matches!(s, Step::Add(Object::Proxy(_, ip)) if *ip == vip);
    steps.iter().position(is_proxy).unwrap_or(steps.len())
}
