//! Moves VIPs from port to port, and mends what others take away of them.
//!
//! What clients wait for is done at once: the new port answers for the VIP and is announced. An agent that begins
//! to stop the VIP in that moment puts that on record before it looks what there is to take away, and the record
//! is read again after the move: one of the two sees the other. All the rest is done under the lock of the
//! addresses' agents, only to VIPs that these have started and not begun to stop; while one of them has the lock,
//! it is tried again and again, and nothing waits.
//!
//! What is to be done is decided in [`crate::plan::mover`].

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
use crate::plan::mover::{self, Changes, Haste, Placement, Rest};
use crate::plan::port::{Move, Port, Vip};
use crate::plan::vip::Step;
use crate::plan::vip::record::Record;
use crate::sys::announce::repeat::Announcing;
use crate::sys::announce::{Announcement, Wire};
use crate::sys::memory;
use crate::types::{BitRate, Family};

/// How long the changes of one move may take.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);

/// What is known of the ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    /// For the choice between them; without their loads.
    pub(crate) ports: Vec<Port>,
    /// For the agents of addresses.
    pub(crate) report: Report,
}

/// Mover of VIPs.
pub(crate) struct Mover {
    runtime: PathBuf,
    records: Records,
    kernel: Kernel,
    wire: Rc<Wire>,
    announcing: Announcing,
    decisions: mover::Mover,
}

impl Mover {
    /// Opens its sockets.
    ///
    /// # Errors
    /// Without the rights to them.
    pub(crate) fn open(runtime: &Path) -> io::Result<Self> {
        Ok(Self {
            runtime: runtime.to_owned(),
            records: Records::open(runtime)?,
            kernel: Kernel::open(None, runtime)?,
            wire: Rc::new(Wire::open()?),
            announcing: Announcing::default(),
            decisions: mover::Mover::default(),
        })
    }

    /// What can be read when a VIP was started or stopped: then it is time to act.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.records.fd()
    }

    /// Whether it is time to act although nothing can be read: what could be was, by somebody else.
    pub(crate) fn has_news(&self) -> bool {
        self.records.has_news()
    }

    /// What is on record of this node's VIPs.
    pub(crate) fn records(&mut self) -> &BTreeMap<String, Record> {
        self.records.all()
    }

    /// The bytes that VIPs have moved since they were started.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn traffic(&mut self) -> io::Result<BTreeMap<IpAddr, u64>> {
        self.kernel.traffic()
    }

    /// What was on record of this node's VIPs when it was read last, with what is known of them beside.
    pub(crate) fn vips(&self) -> BTreeMap<String, VipState> {
        let records = self.records.as_read();
        records.map_or_else(BTreeMap::new, |all| state::vips(all, &self.decisions))
    }

    /// The bytes a second that VIPs move through each port, as they were last measured.
    pub(crate) fn port_loads(&self) -> BTreeMap<&str, BitRate> {
        self.decisions.port_loads()
    }

    /// When it is to be called again although nothing happens: for further announcements, and for the rest.
    pub(crate) fn next(&self) -> Option<Instant> {
        let times = [self.announcing.next(), self.decisions.next()];
        times.into_iter().flatten().min()
    }

    /// Begins to announce VIPs again where they are.
    pub(crate) fn announce_anew(&mut self, vips: impl IntoIterator<Item = IpAddr>, now: Instant) {
        for vip in vips {
            if let Some(Some(port)) = self.decisions.placed().get(&vip) {
                self.announcing.begin(vip, port, now, &self.wire);
            }
        }
    }

    /// Announces again what is due.
    pub(crate) fn announce_again(&mut self, now: Instant) {
        if self.announcing.next().is_some_and(|at| at <= now) {
            if let Err(e) = self.announcing.send(now) {
                log::warn(e);
            }
        }
    }

    /// Measures what VIPs move.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn measure(&mut self, now: Instant) -> io::Result<()> {
        self.decisions.measured(self.kernel.traffic()?, now);
        Ok(())
    }

    /// Makes the moves that `choose` finds, and mends the rest if `extent` says so, as soon as nobody has the lock.
    /// Tells the moves.
    ///
    /// # Errors
    /// If the kernel can't be asked. What it refuses of the changes is logged: the others are made all the same.
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
        self.apply_urgent(&Haste::new(&moves, &survey.vips, &seen));
        self.decisions.moved(&moves, extent, Instant::now());
        self.finish(view, Instant::now())?;
        Ok(moves)
    }

    /// Does the rest, if there is one and nobody has the lock.
    ///
    /// # Errors
    /// If the lock can't be asked for, or the kernel. The rest is given up then.
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
        let rest = self.decisions.take_rest();
        let _lock = lock?;
        rest.map_or(Ok(()), |rest| self.complete(&rest, view))
    }

    /// What clients wait for.
    fn apply_urgent(&mut self, haste: &Haste) {
        self.announce(&haste.announce);
        self.apply(&haste.steps);
        // Its agent may have begun to stop one since the records were read.
        let stopped = haste.taken_back(&self.records.views());
        self.apply(&stopped);
    }

    /// Makes all that VIPs need, at the ports they have moved to or are at. The caller has the lock.
    fn complete(&mut self, rest: &Rest, view: &View) -> io::Result<()> {
        let records = self.records.views();
        let mut seen = self.kernel.observe(None, &Family::BOTH)?;
        seen.watched.clone_from(&view.report);
        let work = rest.work(&records, &seen);
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

    /// Announces once. A port that is gone has nobody to tell.
    fn announce(&self, placements: &[Placement]) {
        let announcements: Vec<Announcement> = placements
            .iter()
            .filter_map(|Placement { vip, port }| self.kernel.announcement(port, *vip).ok())
            .collect();
        if let Err(e) = self.wire.announce(&announcements) {
            log::warn(e);
        }
    }

    /// Begins to announce again and again.
    fn begin_announcing(&mut self, placements: &[Placement]) {
        let now = Instant::now();
        for Placement { vip, port } in placements {
            self.announcing.begin(*vip, port, now, &self.wire);
        }
    }
}
