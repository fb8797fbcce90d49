//! The next orders and children that bring the present state nearer to the wanted one.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Core;
use super::cell::Cell;
use super::effect::{Effect, Effects};
use super::gate::Standing;
use super::servers::Home;
use super::volume::{Phase, Volume};
use crate::cell::init::protocol::Order;
use crate::cell::keeper::rules::Rules;
use crate::cell::protocol::{Cause, Condition};
use crate::cell::service::Export;
use crate::cluster::complaint::Member;
use crate::plan::budget::Budget;

/// How long PID 1 may take to build the cell.
const BUILD_LIMIT: Duration = Duration::from_secs(20);

impl Core {
    /// Brings the present state nearer to the wanted one, as far as that is possible without waiting.
    pub(crate) fn reconcile(&mut self, now: Instant, out: &mut Effects) {
        if !self.is_empty() {
            self.idle_until = None;
        }
        self.drop_leavers(out);
        if self.is_empty() && self.idle_until.is_none_or(|t| now >= t) {
            self.end(out);
            return;
        }
        if self.build_until.is_some_and(|t| now >= t) {
            self.build_until = None;
            self.break_cell("build the cell: not finished in time", out);
        }
        if self.sentinel_at.is_some_and(|t| now >= t) {
            self.spawn_sentinel(out);
        }
        if self.groups.made {
            for held in self.volumes.values_mut() {
                held.try_again(now, &mut self.mounters, out);
            }
            self.begin_cell(now, out);
        }
        self.move_gate(out);
        self.move_servers(now, out);
        self.move_gate(out);
        self.move_volumes(now, out);
    }

    /// Starts a cell, if there is none and a file system is mounted that waits to be attached in it.
    fn begin_cell(&mut self, now: Instant, out: &mut Effects) {
        let mut volumes = self.volumes.values();
        if self.cell.is_none() && volumes.any(|h| matches!(h.phase, Phase::Unattached(_))) {
            self.cell = Some(Cell::default());
            self.build_until = Some(now + BUILD_LIMIT);
            out.push(Effect::SpawnCell);
        }
    }

    /// The wanted rules for connections to the cell, from the exports that the servers have or are to have. A new
    /// export is open before the servers have it; one that goes is closed when they no longer have it.
    fn wanted_rules(&self) -> Option<Rules> {
        let servers = self.servers.as_ref()?;
        let exports = self.exports();
        let all = servers.exported().chain(&exports);
        Some(Rules::of(&servers.spec, self.gate.own(), all))
    }

    fn move_gate(&mut self, out: &mut Effects) {
        if let Some(wanted) = self.wanted_rules().filter(|_| self.takes_orders()) {
            self.gate.advance(&wanted, out);
        }
    }

    fn move_servers(&mut self, now: Instant, out: &mut Effects) {
        let (home, exports) = (self.home(), self.exports());
        let rules = self.wanted_rules();
        let gate = rules.map_or(Standing::Pending, |rules| self.gate.standing(&rules));
        let Some(servers) = &mut self.servers else {
            return;
        };
        servers.expect(&home);
        if let Home::At(directory) = &home {
            self.last_home = Some(directory.clone());
        }
        // Servers do not start before the limits are in force. Servers that are to end do not wait for that.
        let settled = self.groups.settled || servers.leaving.is_some();
        match (&self.cell, &home) {
            (Some(cell), _) if cell.killed => return,
            (Some(cell), _) if cell.ready && settled => {
                servers.advance(&mut self.orders, (&home, &exports, &gate), now, out);
            }
            // Without a cell nothing of the servers can be left.
            (None, _) if servers.leaving.is_some() => servers.lose(""),
            (None, Home::None(cause, why)) => servers.fail(*cause, why.clone(), out),
            _ => {}
        }
        let late = servers.leaving.is_some_and(|(_, kill_at)| now >= kill_at);
        if late && !servers.is_halted() && self.cell.is_some() {
            out.error("the servers do not end; ending the cell");
            self.kill_cell(out);
        }
    }

    /// The exports that the servers are to have now.
    pub(crate) fn exports(&self) -> Vec<Export> {
        let mut exports: Vec<Export> = self.volumes.values().filter_map(Volume::export).collect();
        exports.sort_by(|a, b| a.directory.cmp(&b.directory));
        exports
    }

    /// The state of the servers' home file system. What they do not serve as they should is their home all the same.
    pub(crate) fn home(&self) -> Home {
        let Some(servers) = &self.servers else {
            return Home::None(Cause::Failed, "there are no servers".to_owned());
        };
        let mut candidates = self.volumes.values().filter(|h| h.leaving.is_none());
        let named = servers.home.as_ref().or(self.last_home.as_ref());
        let found = match named {
            Some(directory) => candidates.find(|h| h.volume.directory == *directory),
            None => match (candidates.next(), candidates.next()) {
                (Some(one), Some(other)) => {
                    let (one, other) = (&one.volume.directory, &other.volume.directory);
                    let (one, other) = (one.display(), other.display());
                    let text = format!(
                        "parameter home: must name one of several file systems: {one}, {other}"
                    );
                    return Home::None(Cause::Parameters, text);
                }
                (found, _) => found,
            },
        };
        match (found.map(|held| (held, held.condition(None))), named) {
            (Some((held, Condition::Running)), _) => Home::At(held.volume.directory.clone()),
            (Some((_, Condition::Degraded(why))), _) => Home::Later(why, true),
            (Some((_, Condition::Failed(why))), _) => {
                Home::None(Cause::Failed, format!("home: {why}"))
            }
            (Some((_, _)), _) => Home::Later("being attached".to_owned(), false),
            (None, Some(directory)) => {
                let text = format!(
                    "parameter home: no file system is attached at {}",
                    directory.display()
                );
                Home::None(Cause::Failed, text)
            }
            (None, None) => Home::None(
                Cause::Failed,
                "no file system is attached to be their home".to_owned(),
            ),
        }
    }

    /// Removes the members that are being stopped and have nothing left in the cell.
    fn drop_leavers(&mut self, out: &mut Effects) {
        let mut left: Vec<Member> = Vec::new();
        let mounters = &mut self.mounters;
        self.volumes.retain(|_, held| {
            if held.leaving.is_none() || held.is_in_cell() {
                return true;
            }
            held.let_go(mounters, out);
            let stays = matches!(held.phase, Phase::Mounting(_));
            if !stays {
                left.push(held.member.clone());
            }
            stays
        });
        let mut servers = self.servers.iter();
        if servers.any(|s| s.leaving.is_some() && s.is_halted()) {
            left.extend(self.servers.take().map(|servers| servers.member));
        }
        if !left.is_empty() {
            self.clean_up_after(left, out);
            self.tell_sentinel(out);
        }
    }

    /// Has Pacemaker forget, for each of these members that have left, that it was degraded: otherwise it would go on
    /// showing that.
    fn clean_up_after(&mut self, left: Vec<Member>, out: &mut Effects) {
        for member in left {
            if self.degraded.remove(&member.resource) {
                out.push(Effect::CleanUpLater(member));
            }
        }
    }

    fn move_volumes(&mut self, now: Instant, out: &mut Effects) {
        if !self.takes_orders() {
            return;
        }
        let servers = self.servers.as_ref();
        let served = |directory: &Path| servers.is_some_and(|s| s.serve(directory));
        let mut late = None;
        for held in self.volumes.values_mut() {
            let directory = held.volume.directory.clone();
            held.phase = match (&held.phase, held.leaving) {
                (Phase::Unattached(mount), None) => {
                    let order = Order::Attach { directory };
                    Phase::Attaching(self.orders.give_mount(order, *mount, out), *mount)
                }
                (Phase::Attached, Some(kill_at)) if served(&directory) && now < kill_at => continue,
                (Phase::Attached, Some(kill_at)) => {
                    let left = kill_at.saturating_duration_since(now);
                    let patience = Budget::patience_within(left);
                    let order = Order::Detach {
                        directory,
                        patience,
                    };
                    Phase::Detaching(self.orders.give(order, out))
                }
                (Phase::Detaching(_) | Phase::Attaching(..), Some(kill_at)) if now >= kill_at => {
                    late = Some(directory);
                    continue;
                }
                _ => continue,
            };
        }
        if let Some(directory) = late {
            let directory = directory.display();
            out.error(format_args!(
                "{directory}: not detached in time; ending the cell"
            ));
            self.kill_cell(out);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.servers.is_none()
    }

    /// Ends the keeper, since the last member has left.
    fn end(&mut self, out: &mut Effects) {
        if self.ending {
            return;
        }
        self.ending = true;
        (self.idle_until, self.build_until, self.sentinel_at) = (None, None, None);
        // From now on an agent that connects starts a new keeper, which waits until this one has ended.
        out.push(Effect::Retire);
        self.kill_cell(out);
    }
}
