//! Moves VIPs from port to port, and makes again what others remove of them, as [`crate::plan::mover`] decides.
//!
//! What clients wait for is done at once: the new port answers for the VIP and is announced. An agent that begins
//! to stop the VIP at that moment puts that on record before it looks for what to remove, and the record is read again
//! after the move: one of the two sees the other. Everything else is done under the lock of the addresses' agents, only
//! to VIPs that an agent has started and not begun to stop. While an agent holds the lock it is tried repeatedly, and
//! nothing waits for it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::records::Records;
use super::state::{self, VipState};
use crate::address::kernel::Kernel;
use crate::address::lock;
use crate::address::report::Report;
use crate::log;
pub(crate) use crate::plan::mover::Extent;
use crate::plan::mover::{self, Changes, Cutover, Deferred, Placement};
use crate::plan::port::{Move, Port, Vip};
use crate::plan::vip::Step;
use crate::plan::vip::record::Record;
use crate::sys::announce::repeat::Announcing;
use crate::sys::announce::{Announcement, PacketSocket};
use crate::sys::memory;
use crate::types::{BitRate, Family, IfName};

/// How long the changes of one move may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// What the daemon has concluded about the ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// The ports to choose from, without their loads.
    pub(crate) ports: Vec<Port>,
    /// What the addresses' agents read of the ports.
    pub(crate) report: Report,
}

/// Moves VIPs; owns the sockets and records that this takes.
pub(crate) struct Mover {
    runtime: PathBuf,
    records: Records,
    kernel: Kernel,
    wire: Rc<PacketSocket>,
    announcing: Announcing,
    decisions: mover::Mover,
}

impl Mover {
    /// Opens the sockets.
    ///
    /// # Errors
    /// Without the capabilities for them.
    pub(crate) fn open(runtime: &Path) -> io::Result<Self> {
        Ok(Self {
            runtime: runtime.to_owned(),
            records: Records::open(runtime)?,
            kernel: Kernel::open(None, runtime)?,
            wire: Rc::new(PacketSocket::open()?),
            announcing: Announcing::default(),
            decisions: mover::Mover::default(),
        })
    }

    /// Readable when a VIP was started or stopped: then [`Self::act`] is due.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.records.fd()
    }

    /// Whether [`Self::act`] is due although [`Self::fd`] is not readable: something else has read the records since.
    pub(crate) fn has_news(&self) -> bool {
        self.records.has_news()
    }

    /// The records of this node's VIPs, by their names.
    pub(crate) fn records(&mut self) -> &BTreeMap<String, Record> {
        self.records.all()
    }

    /// The byte counter of each VIP, which counts from its start.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn traffic(&mut self) -> io::Result<BTreeMap<IpAddr, u64>> {
        self.kernel.traffic()
    }

    /// The records of this node's VIPs as they were last read, with each VIP's port, load and claimant.
    pub(crate) fn vips(&self) -> BTreeMap<String, VipState> {
        let records = self.records.as_read();
        records.map_or_else(BTreeMap::new, |all| state::vips(all, &self.decisions))
    }

    /// The traffic of all VIPs at each port, as last measured.
    pub(crate) fn port_loads(&self) -> BTreeMap<&IfName, BitRate> {
        self.decisions.port_loads()
    }

    /// When [`Self::announce_again`] or [`Self::finish`] is due by time alone.
    pub(crate) fn next(&self) -> Option<Instant> {
        let times = [self.announcing.next(), self.decisions.next()];
        times.into_iter().flatten().min()
    }

    /// Begins to announce VIPs anew at their present ports.
    pub(crate) fn announce_anew(&mut self, vips: impl IntoIterator<Item = IpAddr>, now: Instant) {
        for vip in vips {
            if let Some(Some(port)) = self.decisions.placed().get(&vip) {
                self.announcing.begin(vip, port, now, &self.wire);
            }
        }
    }

    /// Sends the repeated announcements that are due.
    pub(crate) fn announce_again(&mut self, now: Instant) {
        if self.announcing.next().is_some_and(|at| at <= now) {
            if let Err(e) = self.announcing.send(now) {
                log::warn(e);
            }
        }
    }

    /// Measures the VIPs' traffic.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn measure(&mut self, now: Instant) -> io::Result<()> {
        self.decisions.measured(self.kernel.traffic()?, now);
        Ok(())
    }

    /// Makes the moves that `choose` picks, and, if `extent` says so, has whatever is missing of any VIP made again
    /// once the lock is free. Returns the moves.
    ///
    /// # Errors
    /// If the kernel's state can't be read. A change that the kernel refuses is logged, and the others are made.
    pub(crate) fn act(
        &mut self,
        view: &View,
        extent: Extent,
        choose: impl FnOnce(&[Vip], &[Port]) -> Vec<Move>,
    ) -> io::Result<Vec<Move>> {
        let records = self.records.news();
        let mut seen = self.kernel.observe_ways(&Family::BOTH)?;
        seen.watched.clone_from(&view.report);
        let survey = self.decisions.survey(&records, &seen, &view.ports);
        self.apply(&survey.dead_proxies);
        self.begin_announcing(&survey.announce);
        let moves = choose(&survey.vips, &survey.ports);
        self.apply_urgent(&Cutover::new(&moves, &survey.vips, &seen));
        self.decisions.moved(&moves, extent, Instant::now());
        self.finish(view, Instant::now())?;
        Ok(moves)
    }

    /// Does what waits for the lock, if there is anything and the lock is free.
    ///
    /// # Errors
    /// If the lock file can't be opened, or the kernel's state can't be read. The work is given up then.
    pub(crate) fn finish(&mut self, view: &View, now: Instant) -> io::Result<()> {
        if !self.decisions.is_due(now) {
            return Ok(());
        }
        let lock = lock::try_lock(&self.runtime);
        if let Ok(None) = lock {
            if let Some(trouble) = self.decisions.locked_out(now) {
                log::warn(trouble);
            }
            return Ok(());
        }
        let deferred = self.decisions.take_deferred();
        let _lock = lock?;
        deferred.map_or(Ok(()), |deferred| self.complete(&deferred, view))
    }

    /// Carries out the part of the moves that clients wait for.
    fn apply_urgent(&mut self, cutover: &Cutover) {
        self.announce(&cutover.announce);
        self.apply(&cutover.steps);
        // An agent may have begun to stop one of the VIPs since the records were read.
        let stopped = cutover.taken_back(&self.records.views());
        self.apply(&stopped);
    }

    /// Makes what the VIPs need at the ports they have moved to or are at. The caller holds the lock.
    fn complete(&mut self, deferred: &Deferred, view: &View) -> io::Result<()> {
        let records = self.records.views();
        let mut seen = self.kernel.observe(None, &Family::BOTH)?;
        seen.watched.clone_from(&view.report);
        let work = deferred.work(&records, &seen);
        for (vip, links) in work.links(&seen) {
            self.kernel.observe_settings(vip, &links, &mut seen)?;
        }
        let changes = work.changes(seen);
        for (vip, problem) in &changes.problems {
            log::warn(format_args!("{vip}: {problem}"));
        }
        self.change(&changes);
        drop((records, changes));
        memory::trim();
        Ok(())
    }

    fn change(&mut self, changes: &Changes) {
        self.apply(&changes.steps);
        self.announce(&changes.announce);
        self.begin_announcing(&changes.announce_again);
    }

    fn apply(&mut self, steps: &[Step]) {
        let deadline = Instant::now() + CHANGE_LIMIT;
        let logged = |e| {
            log::warn(e);
            Ok(())
        };
        if let Err(e) = self.kernel.apply(steps, deadline, logged) {
            log::warn(e);
        }
    }

    /// Announces each VIP at its port once. A port that is gone is skipped.
    fn announce(&self, placements: &[Placement]) {
        let announcements: Vec<Announcement> = placements
            .iter()
            .filter_map(|Placement { vip, port }| self.kernel.announcement(port, *vip).ok())
            .collect();
        if let Err(e) = self.wire.announce(&announcements) {
            log::warn(e);
        }
    }

    /// Begins to announce each VIP at its port repeatedly.
    fn begin_announcing(&mut self, placements: &[Placement]) {
        let now = Instant::now();
        for Placement { vip, port } in placements {
            self.announcing.begin(*vip, port, now, &self.wire);
        }
    }
}
