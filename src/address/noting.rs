//! Keeping VIPs on record. A record that can't be written fails nothing that can be done without.

use std::net::IpAddr;

use super::service::Service;
use crate::log;
use crate::ocf::{Error, State};
use crate::plan::vip::record::Record;
use crate::plan::vip::record::{Role, VipSpec};

/// What noting a VIP in service has led to: why it could not be noted, if so.
#[derive(Debug)]
#[must_use]
pub(crate) struct Noted(pub(crate) Option<String>);

impl Noted {
    /// How the VIP is then: portwatch moves only what is on record.
    pub(crate) fn of(self, state: State, vip: IpAddr) -> State {
        match (self.0, state) {
            (Some(why), State::Running) => State::Degraded(format!(
                "{vip} is served, but stays on its port if that fails: {why}"
            )),
            (_, state) => state,
        }
    }
}

impl Service<'_> {
    /// Notes what is started, for a stop that gets no usable parameters, and for portwatch.
    pub(crate) fn record(&self, record: Record) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.record_locked(record)
    }

    /// The same for whoever has the lock.
    pub(crate) fn record_locked(&self, mut record: Record) -> Result<(), Error> {
        let before = Record::read(&self.runtime, self.instance);
        record.degraded = before.as_ref().is_some_and(|r| r.degraded);
        match before.as_ref() == Some(&record) {
            true => Ok(()),
            false => Ok(record.write(&self.runtime, self.instance)?),
        }
    }

    /// Notes what is started, as far as it can be, for whoever has the lock. A VIP with its cell on this
    /// node needs no record: what it is can be read from the kernel. One that is routed to another node
    /// does: nothing else says where that is.
    pub(crate) fn note_started(&self, record: Record) -> Result<Noted, Error> {
        let home = record.role == Role::Home;
        match self.record_locked(record) {
            Err(e) if home => {
                // What was noted before does not hold any more.
                self.forget();
                Ok(Noted(Some(e.to_string())))
            }
            other => other.map(|()| Noted(None)),
        }
    }

    /// Puts a VIP on record that is in service without, for want of room when it was started; or says
    /// that this can't be done.
    ///
    /// # Errors
    /// If the lock can't be had.
    pub fn put_on_record(&self, spec: &VipSpec, state: State) -> Result<State, Error> {
        if state != State::Running || Record::read(&self.runtime, self.instance).is_some() {
            return Ok(state);
        }
        let record = Record {
            serving: true,
            // It was said that it was not on record.
            degraded: true,
            ..Record::new(spec, Role::Home)
        };
        let _lock = self.lock()?;
        let written = record.write(&self.runtime, self.instance);
        Ok(Noted(written.err().map(|e| e.to_string())).of(state, spec.vip))
    }

    /// Notes that the cluster is about to be told of `state`; says whether that ends a degradation
    /// that it was told of, which it shows until that is cleaned up.
    ///
    /// # Errors
    /// If the lock can't be had.
    pub fn note(&self, state: &State) -> Result<bool, Error> {
        let degraded = match state {
            State::Degraded(_) => true,
            State::Running => false,
            _ => return Ok(false),
        };
        let _lock = self.lock()?;
        match Record::read(&self.runtime, self.instance) {
            Some(mut record) if record.degraded != degraded => {
                record.degraded = degraded;
                let written = record.write(&self.runtime, self.instance);
                Ok(written.inspect_err(|e| log::warn(e)).is_ok() && !degraded)
            }
            _ => Ok(false),
        }
    }

    /// Whether the cluster was told that the VIP is degraded here.
    pub(crate) fn is_degraded(&self) -> bool {
        Record::read(&self.runtime, self.instance).is_some_and(|record| record.degraded)
    }

    /// The vserver and VIP that this resource was started with.
    pub(crate) fn recorded(&self) -> Option<(String, IpAddr)> {
        let Record { spec, .. } = Record::read(&self.runtime, self.instance)?;
        Some((spec.vserver, spec.vip))
    }

    /// What the resource was started as and runs as, if its parameters were changed since. Whoever were told that
    /// it does not run would have it started elsewhere, beside what runs here.
    pub(crate) fn started_otherwise(&self, spec: &VipSpec) -> Option<String> {
        let record = Record::read(&self.runtime, self.instance)?;
        let VipSpec { vserver, vip, .. } = record.spec;
        let is_other = vserver != spec.vserver || vip != spec.vip;
        (record.serving && is_other)
            .then(|| format!("runs as {vip} of {vserver}, as it was started"))
    }

    pub(crate) fn forget(&self) {
        Record::forget(&self.runtime, self.instance);
    }
}
