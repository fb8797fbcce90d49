//! Keeps VIPs on record. That a record can't be written fails no action that can do without it.

use std::net::IpAddr;

use super::service::Service;
use crate::log;
use crate::ocf::{Error, State};
use crate::plan::vip::record::Record;
use crate::plan::vip::record::{Role, VipSpec};
use crate::types::VserverName;

/// Whether a VIP in service was put on record; if not, why.
#[derive(Debug)]
#[must_use]
pub(crate) struct Noted(pub(crate) Option<String>);

impl Noted {
    /// The VIP's state in view of that: degraded without a record, since portwatch moves only VIPs on record.
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
    /// Writes the record of a VIP that is started: for a stop that gets no usable parameters, and for portwatch.
    pub(crate) fn record(&self, record: Record) -> Result<(), Error> {
        let _lock = self.lock()?;
        self.record_locked(record)
    }

    /// As [`Self::record`], for a caller that holds the lock.
    pub(crate) fn record_locked(&self, mut record: Record) -> Result<(), Error> {
        let before = Record::read(&self.runtime, self.instance);
        record.degraded = before.as_ref().is_some_and(|r| r.degraded);
        match before.as_ref() == Some(&record) {
            true => Ok(()),
            false => Ok(record.write(&self.runtime, self.instance)?),
        }
    }

    /// As [`Self::record_locked`], but a VIP with its cell on this node can do without a record: its state can be read
    /// from the kernel. A VIP that is routed to another node can't: nothing else says which node that is.
    pub(crate) fn note_started(&self, record: Record) -> Result<Noted, Error> {
        let home = record.role == Role::Home;
        match self.record_locked(record) {
            Err(e) if home => {
                // The former record no longer holds.
                self.forget();
                Ok(Noted(Some(e.to_string())))
            }
            other => other.map(|()| Noted(None)),
        }
    }

    /// Puts a VIP on record that is in service without a record, for want of room when it was started. Returns its
    /// state: degraded if the record still can't be written.
    ///
    /// # Errors
    /// If the lock can't be taken.
    pub fn put_on_record(&self, spec: &VipSpec, state: State) -> Result<State, Error> {
        if state != State::Running || Record::read(&self.runtime, self.instance).is_some() {
            return Ok(state);
        }
        let record = Record {
            serving: true,
            // It was reported as degraded for want of a record.
            degraded: true,
            ..Record::new(spec, Role::Home)
        };
        let _lock = self.lock()?;
        let written = record.write(&self.runtime, self.instance);
        Ok(Noted(written.err().map(|e| e.to_string())).of(state, spec.vip))
    }

    /// Notes that `state` is about to be reported to the cluster. Returns whether that ends a degradation that was
    /// reported before: the cluster shows it until the resource is cleaned up.
    ///
    /// # Errors
    /// If the lock can't be taken.
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

    /// Whether the VIP was reported to the cluster as degraded on this node.
    pub(crate) fn is_degraded(&self) -> bool {
        Record::read(&self.runtime, self.instance).is_some_and(|record| record.degraded)
    }

    /// The vserver and VIP that this resource was started with.
    pub(crate) fn recorded(&self) -> Option<(VserverName, IpAddr)> {
        let Record { spec, .. } = Record::read(&self.runtime, self.instance)?;
        Some((spec.vserver, spec.vip))
    }

    /// What the resource runs as, if its vserver or VIP were changed since it was started. It must not be reported as
    /// stopped: the cluster would start it elsewhere, beside what runs here.
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
