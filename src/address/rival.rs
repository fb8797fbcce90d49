//! Another user on the network that answers for a VIP.
//!
//! The cluster decides where a VIP is, and the node that had it was stopped or fenced before this one starts it. So a
//! claimant is either a ghost (a switch, a proxy, or a node cut off from its disks alone, which goes on answering) or a
//! stranger that was given the same address by mistake. A ghost must not keep the VIP down, on this node and then on
//! all others: a claim with the Ethernet address of a node that is down is no reason to refuse a start. A claim of a
//! stranger is a reason once, and so is one of a node that is up, which may be about to give the VIP up. The refusal
//! tells the administrator; if the cluster starts the VIP again, it is meant to run. From then on the VIP is defended
//! (RFC 5227, 2.4 c).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::change::{announce, error_of, observe, own};
use super::kernel::Kernel;
use super::service::Service;
use crate::address::peers;
use crate::log;
use crate::ocf::{Error, State, step};
use crate::plan::vip::record::Record;
use crate::plan::vip::record::Role;
use crate::plan::vip::{Desired, Object, Observed};
use crate::sys::announce::{DuplicateProbe, DuplicateSearch, PacketSocket};
use crate::sys::state;
use crate::types::{IfName, Mac};

/// How long a start waits for a reply to its first probe before it changes anything. A host on the network replies
/// within a fraction of that; later replies are taken while the start goes on.
const FIRST_ANSWER: Duration = Duration::from_millis(10);
/// How long the cluster may take to say whether a node is up.
const MEMBER_LIMIT: Duration = Duration::from_secs(2);
/// How long a refusal is remembered; after that a claim refuses a start again. A start without a claimant in between
/// does not end it: a claimant that falls silent now and then could have the first start of each failover refused.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Refusals are some dozens of bytes each; a longer file is not one of berth's.
const LIMIT: u64 = 1 << 20;
/// More VIPs than a node can have.
const REFUSALS: usize = 4096;

/// What a search for another user of a VIP has found so far.
pub(crate) enum Sought<'a> {
    /// Not searched: there can be no other user, or this node answers for the VIP already.
    Needless,
    /// Nobody has replied; the search goes on.
    Nobody(DuplicateSearch<'a>),
    /// The interface with this Ethernet address has replied.
    Claimed(Mac),
}

/// The starts that were refused on this node because somebody else claimed the VIP.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Refusals(BTreeMap<IpAddr, Refusal>);

/// A start that was refused.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    /// The Ethernet address of the claimant.
    by: Mac,
    /// Seconds from the node's boot to the refusal.
    at: u64,
}

impl Refusals {
    fn file(runtime: &Path) -> PathBuf {
        runtime.join("vip.claims")
    }

    /// The refusals that are still remembered; none if they can't be read.
    fn read(runtime: &Path, now: u64) -> Self {
        let read = || -> Option<Self> {
            serde_json::from_slice(&state::read(&Self::file(runtime), LIMIT).ok()?).ok()
        };
        let mut refusals = read().unwrap_or_default();
        let fresh = |r: &Refusal| now.saturating_sub(r.at) < REMEMBERED.as_secs();
        refusals.0.retain(|_, refusal| fresh(refusal));
        refusals
    }

    fn write(&self, runtime: &Path) -> std::io::Result<()> {
        state::replace(&Self::file(runtime), &serde_json::to_vec(self)?)
    }
}

/// Seconds since the node's boot: unlike the time of day, nobody can set them.
fn since_boot() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    time.unwrap_or_default().as_secs()
}

impl Service<'_> {
    /// Decides whether a start goes on although `other` claims the VIP: see the module.
    ///
    /// # Errors
    /// If the start is refused.
    pub(crate) fn admit(&self, desired: &Desired, other: Mac) -> Result<(), Error> {
        let vip = desired.vip;
        let node = peers::node_of(&self.runtime, other);
        if let Some(node) = &node {
            step("asking the cluster for the address's other user");
            let limit = self.deadline.min(Instant::now() + MEMBER_LIMIT);
            if peers::is_member(node, other, limit) != Some(true) {
                log::warn(format_args!(
                    "{vip} is also answered for by {other}, which is what was node {node}: it is started, since the cluster has it here"
                ));
                return Ok(());
            }
        }
        let _lock = self.lock()?;
        let now = since_boot();
        let mut refusals = Refusals::read(&self.runtime, now);
        if refusals.0.contains_key(&vip) {
            log::warn(format_args!(
                "{vip} is also used by {other}: it is started, since a start was refused for that before"
            ));
            return Ok(());
        }
        if refusals.0.len() >= REFUSALS {
            refusals.0.clear();
        }
        refusals.0.insert(vip, Refusal { by: other, at: now });
        match refusals.write(&self.runtime) {
            Ok(()) => Err(in_use(desired, other, node.as_deref())),
            Err(e) => {
                // Without a note of it every start would be refused.
                log::warn(format_args!(
                    "{vip} is also used by {other}: it is started, since a refusal can't be noted: {e}"
                ));
                Ok(())
            }
        }
    }

    /// If somebody else claimed the VIP when it was started, looks whether that is over. If it is not, announces the
    /// VIP once more and returns it as degraded, with the claimant. A failure to probe is no fault of a VIP that is
    /// served: its state is as it was.
    pub fn defend(&self, cell: BorrowedFd<'_>, state: State) -> State {
        let record = Record::read(&self.runtime, self.instance);
        let claimed = record.filter(|r| r.claimed.is_some() && r.role == Role::Home);
        let (Some(record), State::Running) = (claimed, &state) else {
            return state;
        };
        match self.contest(cell, &record) {
            Ok(contested) => contested.unwrap_or(state),
            Err(e) => {
                log::warn(format_args!(
                    "look for another user of {}: {e}",
                    record.spec.vip
                ));
                state
            }
        }
    }

    /// The state of the VIP on `record` if somebody else still claims it; `None` if nobody does.
    fn contest(&self, cell: BorrowedFd<'_>, record: &Record) -> Result<Option<State>, Error> {
        let request = record.request();
        let mut kernel = self.kernel(Some(cell))?;
        let seen = observe(&mut kernel, &request, &own(&request))?;
        let desired = Desired::new(&request, &seen).map_err(error_of)?;
        let (wire, macs) = (PacketSocket::open()?, kernel.macs());
        let probe = probe(&kernel, &desired, &seen, (desired.vip, &macs))?;
        let Some(probe) = probe else {
            return Ok(None);
        };
        step("looking for another user of the address");
        let other = DuplicateSearch::begin(&wire, probe)?.finish()?;
        if other.is_some() {
            announce(&kernel, &desired, &wire);
        }
        let claimed = other;
        let lock = self.lock()?;
        let now = Record::read(&self.runtime, self.instance);
        if let Some(now) = now.filter(|now| now == record && now.claimed != claimed) {
            let changed = Record { claimed, ..now };
            let written = changed.write(&self.runtime, self.instance);
            written.unwrap_or_else(log::warn);
        }
        drop(lock);
        Ok(other.map(|other| contested(&desired, other)))
    }
}

/// The state of a VIP that somebody else answers for, too.
pub(crate) fn contested(desired: &Desired, other: Mac) -> State {
    let port = desired.port.as_deref().unwrap_or_default();
    State::Degraded(format!(
        "{} is also claimed by {other} on the network of {port}",
        desired.vip
    ))
}

/// The gateway's Ethernet address, whose claim to a VIP with an announced route does not count: the gateway answers as
/// a proxy for a VIP that it reached by another subnet, until it learns in some seconds that this is over.
pub(crate) fn router(
    kernel: &Kernel,
    desired: &Desired,
    seen: &Observed,
    (wire, gateway): (&PacketSocket, IpAddr),
) -> Result<Option<Mac>, Error> {
    let probe = probe(kernel, desired, seen, (gateway, &[]))?;
    let Some(probe) = probe.filter(|_| !is_answered(desired, seen)) else {
        return Ok(None);
    };
    step("looking for the gateway");
    Ok(DuplicateSearch::begin(wire, probe)?.listen(FIRST_ANSWER)?)
}

/// Begins to search the network for another user of the VIP, unless this node answers for it already.
///
/// # Errors
/// If no probe can be sent.
pub(crate) fn search<'a>(
    kernel: &Kernel,
    desired: &Desired,
    seen: &Observed,
    (wire, ignore): (&'a PacketSocket, &'a [Mac]),
) -> Result<Sought<'a>, Error> {
    let probe = probe(kernel, desired, seen, (desired.vip, ignore))?;
    let Some(probe) = probe.filter(|_| !is_answered(desired, seen)) else {
        return Ok(Sought::Needless);
    };
    step("looking for another user of the address");
    let mut search = DuplicateSearch::begin(wire, probe)?;
    Ok(match search.listen(FIRST_ANSWER)? {
        None => Sought::Nobody(search),
        Some(other) => Sought::Claimed(other),
    })
}

/// Whether this node answers for the VIP.
fn is_answered(desired: &Desired, seen: &Observed) -> bool {
    let answers = |o: &Object| matches!(o, Object::Proxy(_, ip) if *ip == desired.vip);
    seen.objects.iter().any(answers)
}

/// A probe for `address` on the network of the VIP's port; `None` if there can be no other user there.
fn probe<'a>(
    kernel: &Kernel,
    desired: &Desired,
    seen: &Observed,
    (address, ignore): (IpAddr, &'a [Mac]),
) -> Result<Option<DuplicateProbe<'a>>, Error> {
    let carrier = |port: &&IfName| seen.link(port).is_some_and(|l| l.carrier);
    let port = desired.port.as_ref().filter(carrier);
    // At a port of another subnet only routers could answer for the VIP.
    let Some(port) = port.filter(|_| !desired.elsewhere) else {
        return Ok(None);
    };
    let (link, mac) = kernel.port(port)?;
    let own = seen.link(port).into_iter().flat_map(|l| &l.addresses);
    let sender = own
        .filter(|a| desired.subnet.contains(a.ip()))
        .find_map(|a| match a.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
    Ok(Some(DuplicateProbe {
        link,
        mac,
        address,
        sender,
        ignore,
    }))
}

fn in_use(desired: &Desired, other: Mac, node: Option<&str>) -> Error {
    let port = desired.port.as_deref().unwrap_or_default();
    let who = node.map_or_else(
        || other.to_string(),
        |node| format!("{other} of node {node}"),
    );
    Error::failed(format!(
        "parameter ip: {} is already in use by {who} at {port}; the next start takes it",
        desired.vip
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn refusals_of_all_versions_can_be_read() {
        formats::check("vip-claims.jsonl", &["refused"], |_: &Refusals| "refused");
    }

    #[test]
    fn a_refusal_counts_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let vip: IpAddr = "10.1.0.50".parse().unwrap();
        let refusal = Refusal {
            by: Mac([2; 6]),
            at: 100,
        };
        Refusals([(vip, refusal)].into()).write(dir.path()).unwrap();
        let counts = |now| Refusals::read(dir.path(), now).0.contains_key(&vip);
        assert!(counts(100) && counts(86_499) && !counts(86_500));
        std::fs::write(Refusals::file(dir.path()), "{").unwrap();
        assert!(!counts(100));
    }
}
