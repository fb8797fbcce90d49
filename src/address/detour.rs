//! Detours: what the actions do for a VIP whose cell is on another node or that another node routes, and what portwatch
//! changes for such a VIP between actions.

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
use crate::sys::announce::PacketSocket;
use crate::sys::lock::Lock;
use crate::types::Family;

impl Service<'_> {
    /// Brings the VIP into service by routing to the node with its cell, over the path that `find` returns; or notes
    /// why there is none. Meanwhile the network is searched for another user of the VIP.
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
        // The port that answers for the VIP does not depend on the path.
        let request = Request {
            routed: false,
            ..spec.request()
        };
        let seen = observe(&mut kernel, &request, &Family::BOTH)?;
        let desired = Desired::new(&request, &seen).map_err(error_of)?;
        let (wire, macs) = (PacketSocket::open()?, kernel.macs());
        let sought = search(&kernel, &desired, &seen, (&wire, &macs))?;
        step("looking for a way to the virtual server's node");
        let place = match find()? {
            Ok(way) => CellLocation::There(way),
            Err(why) => return self.mark_unreachable(spec, &why),
        };
        let record = Record::new(spec, place.role());
        // portwatch repeats the announcement.
        let (state, _) = self.bring(&mut kernel, record, sought, (&desired, &wire), &place)?;
        Ok(state)
    }

    /// Makes what the VIP needs, as a start does, but announces nothing: the VIP is announced already, or on another
    /// node. Returns false, with nothing changed, if the record is no longer `before`, or the VIP has another record on
    /// this node, whose owner decides then. The caller holds the lock.
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

    /// Notes on record that this node should route for the VIP but can't, for this reason.
    ///
    /// # Errors
    /// If the record can't be written.
    fn mark_unreachable(&self, spec: &VipSpec, why: &str) -> Result<State, Error> {
        self.record(stranded(spec, why))?;
        Ok(State::Degraded(why.to_owned()))
    }

    /// Notes on record that this node can no longer route for the VIP. Returns false, with nothing changed, if the
    /// record is no longer `before`.
    ///
    /// # Errors
    /// If the record can't be written.
    pub(crate) fn give_up(&self, _lock: &Lock, before: &Record, why: &str) -> Result<bool, Error> {
        let same = Record::read(&self.runtime, self.instance).as_ref() == Some(before);
        if same {
            self.record_locked(stranded(&before.spec, why))?;
        }
        Ok(same)
    }

    /// Deletes the record, if it is still `before`.
    pub(crate) fn forget_if(&self, _lock: &Lock, before: &Record) {
        if Record::read(&self.runtime, self.instance).as_ref() == Some(before) {
            self.forget();
        }
    }

    /// As [`Service::clear`], for a caller that holds the lock. Returns false, with nothing changed, if the record is
    /// no longer `before`.
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

    /// Removes only the VIP's proxy entry, if everything else is still of use: a router forwards what still arrives,
    /// and the node with the cell sends replies to a router. Returns false, with nothing changed, if it is of no use.
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
        // Without portwatch nobody would remove the rest later.
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
            // A detour's record belongs to no resource that could be shown as degraded.
            degraded: record.degraded && !home,
            role,
            ..record.clone()
        };
        let name = match home {
            true => &detour_name(vip),
            false => self.instance,
        };
        // The resource's record no longer serves: whoever sees both records goes by the other one, and portwatch takes
        // back a move that it makes after this.
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

    /// Notes that the VIP is in service. A detour's record of it is deleted, as what the kernel has belongs to the
    /// started resource from then on; and the cell forgets what it has learned of paths by way of the router.
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
            // If that fails, packets are smaller than they could be for some minutes: no reason to fail the start.
            network::forget_paths(*cell).unwrap_or_else(log::warn);
        }
        Ok(noted)
    }
}

/// The record of a VIP that this node should route and has no path for.
fn stranded(spec: &VipSpec, why: &str) -> Record {
    Record {
        serving: true,
        ..Record::new(spec, Role::Stranded(why.to_owned()))
    }
}
