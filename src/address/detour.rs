//! What the actions do for a VIP whose cell is on another node, or that another node routes for; and what
//! portwatch does for it between them.

use std::os::fd::BorrowedFd;

use super::change::{ATTEMPTS, error_of, observe};
use super::noting::Noted;
use super::rival::search;
use super::service::Service;
use crate::address::location::CellLocation;
use crate::cell::network;
use crate::log;
use crate::ocf::{Error, State, step};
use crate::plan::vip::record::{Record, detour_name};
use crate::plan::vip::record::{Role, TransitPath, VipSpec};
use crate::plan::vip::{self, Desired, Object, Observed, Request, Step};
use crate::sys::announce::Wire;
use crate::sys::lock::Lock;
use crate::types::Family;

impl Service<'_> {
    /// Brings the VIP into service by routing to the node with its cell, by the way that `find` finds; or
    /// notes why there is none. That the VIP has no other user is looked at meanwhile.
    ///
    /// # Errors
    /// As [`Service::start`], and those of `find`.
    pub(crate) fn route(
        &self,
        spec: &VipSpec,
        find: impl FnOnce() -> Result<Result<TransitPath, String>, Error>,
    ) -> Result<State, Error> {
        spec.check()?;
        let mut kernel = self.kernel(None)?;
        // The port that answers is the same, whatever the way.
        let request = Request {
            routed: false,
            ..spec.request()
        };
        let seen = observe(&mut kernel, &request, &Family::BOTH)?;
        let desired = Desired::new(&request, &seen).map_err(error_of)?;
        let (wire, macs) = (Wire::open()?, kernel.macs());
        let sought = search(&kernel, &desired, &seen, (&wire, &macs))?;
        step("looking for a way to the virtual server's node");
        let place = match find()? {
            Ok(way) => CellLocation::There(way),
            Err(why) => return self.mark_unreachable(spec, &why),
        };
        let record = Record::new(spec, place.role());
        // portwatch goes on announcing.
        let (state, _) = self.bring(&mut kernel, record, sought, (&desired, &wire), &place)?;
        Ok(state)
    }

    /// Makes what the VIP needs in its place, as a start does, where nobody outside has to be told: it is
    /// announced already, or not here. Says whether; not if the record is not `before` any more, or the
    /// VIP's own resource is at work on this node: then it is no more this one's affair. The lock is the caller's.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub(crate) fn reconcile_if_unchanged(
        &self,
        _lock: &Lock,
        before: Option<&Record>,
        spec: &VipSpec,
        place: &CellLocation<'_>,
    ) -> Result<bool, Error> {
        let others = |(name, record): (&String, &Record)| {
            name != self.instance && record.spec.vip == spec.vip
        };
        let now = Record::read(&self.runtime, self.instance);
        if now.as_ref() != before || Record::read_all(&self.runtime).iter().any(others) {
            return Ok(false);
        }
        let mut record = Record::new(spec, place.role());
        let request = record.request();
        let mut kernel = self.kernel(place.cell())?;
        self.record_locked(record.clone())?;
        self.change_locked(&mut kernel, &request, |steps| steps)?;
        record.serving = true;
        self.record_locked(record)?;
        Ok(true)
    }

    /// Notes that this node should route for the VIP but can't, for this reason.
    ///
    /// # Errors
    /// If it can't be noted.
    fn mark_unreachable(&self, spec: &VipSpec, why: &str) -> Result<State, Error> {
        self.record(stranded(spec, why))?;
        Ok(State::Degraded(why.to_owned()))
    }

    /// Notes that this node can't route for the VIP any more. Says whether; not if the record is not
    /// `before` any more.
    ///
    /// # Errors
    /// If it can't be noted.
    pub(crate) fn give_up(&self, _lock: &Lock, before: &Record, why: &str) -> Result<bool, Error> {
        let same = Record::read(&self.runtime, self.instance).as_ref() == Some(before);
        if same {
            self.record_locked(stranded(&before.spec, why))?;
        }
        Ok(same)
    }

    /// Forgets the record, if it is still `before`.
    pub(crate) fn forget_if(&self, _lock: &Lock, before: &Record) {
        if Record::read(&self.runtime, self.instance).as_ref() == Some(before) {
            self.forget();
        }
    }

    /// As [`Service::clear`], unless the record is not `before` any more. Says whether.
    ///
    /// # Errors
    /// As [`Service::clear`].
    pub(crate) fn clear_if(
        &self,
        _lock: &Lock,
        before: &Record,
        cell: Option<BorrowedFd<'_>>,
    ) -> Result<bool, Error> {
        if Record::read(&self.runtime, self.instance).as_ref() != Some(before) {
            return Ok(false);
        }
        let spec = &before.spec;
        if let Some(kernel) = self.clear_locked((&spec.vserver, spec.vip), cell)? {
            kernel.close_aside();
        }
        Ok(true)
    }

    /// Takes away only what has a port answer for the VIP, if the rest is still of use; says whether.
    pub(crate) fn hand_over(&self, record: &Record, alive: bool) -> Result<bool, Error> {
        let vip = record.spec.vip;
        let role = match &record.role {
            Role::Router(way) | Role::Ending(way) => Role::Ending(way.clone()),
            Role::Home if alive && record.spec.reroute => Role::Detour(None),
            _ => return Ok(false),
        };
        let mut kernel = self.kernel(None)?;
        step("waiting for other addresses' agents");
        let _lock = self.lock()?;
        let seen = kernel.observe(None, &Family::BOTH)?;
        let home = record.role == Role::Home;
        // Without portwatch nobody would do the rest.
        if seen.watched.is_empty() || (home && !vip::is_lost(&record.request(), &seen)) {
            return Ok(false);
        }
        let answers = |o: &&Object| matches!(o, Object::Proxy(_, ip) if *ip == vip);
        let proxies = |seen: &Observed| -> Vec<Step> {
            let proxies = seen.objects.iter().filter(answers);
            proxies.cloned().map(Step::Remove).collect()
        };
        step("changing the kernel's state");
        let kept = Record {
            serving: false,
            // A detour's is nobody's resource.
            degraded: record.degraded && !home,
            role,
            ..record.clone()
        };
        let name = match home {
            true => &detour_name(vip),
            false => self.instance,
        };
        // Not served any more, for whoever sees both records, and for portwatch: what it does after this it takes
        // back itself.
        let ended = Record {
            serving: false,
            ..record.clone()
        };
        ended.write(&self.runtime, self.instance)?;
        let family = [Family::of(&vip)];
        let mut left = proxies(&kernel.observe_ways(&family)?);
        for _ in 0..ATTEMPTS {
            kernel.apply(&left, self.deadline, Err)?;
            left = proxies(&kernel.observe_ways(&family)?);
            if left.is_empty() {
                break;
            }
        }
        kept.write(&self.runtime, name)?;
        if home {
            self.forget();
        }
        match left.first() {
            None => Ok(true),
            Some(left) => Err(Error::failed(format!("still to do after stop: {left}"))),
        }
    }

    /// Notes that the VIP is in service. What this node did for it while another one routed is the
    /// started resource's from then on, and what the cell has learned of the way there is of the past.
    pub(crate) fn record_served(
        &self,
        record: Record,
        place: &CellLocation<'_>,
    ) -> Result<Noted, Error> {
        let name = detour_name(record.spec.vip);
        let lock = self.lock()?;
        let noted = self.note_started(record)?;
        let CellLocation::Here(cell) = place else {
            return Ok(noted);
        };
        let was_away = Record::read(&self.runtime, &name).is_some();
        Record::forget(&self.runtime, &name);
        drop(lock);
        if was_away {
            // Too small packets for some minutes are no reason to call it failed.
            network::forget_paths(*cell).unwrap_or_else(log::warn);
        }
        Ok(noted)
    }
}

/// What a node that can't route has on record.
fn stranded(spec: &VipSpec, why: &str) -> Record {
    Record {
        serving: true,
        ..Record::new(spec, Role::Stranded(why.to_owned()))
    }
}
