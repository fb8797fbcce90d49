//! From what is wanted to the next orders and children.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::cell::Cell;
use super::gate::Standing;
use super::servers::Home;
use super::volume::{Held, Phase};
use super::{Keeper, start};
use crate::cell::init::order::Order;
use crate::cell::keeper::gate::rules::Rules;
use crate::cell::protocol::{Cause, Condition};
use crate::cell::service::Export;
use crate::cluster::complaint::Member;
use crate::log;
use crate::plan::budget::Budget;

/// How long PID 1 may take to build the cell.
const BUILD_LIMIT: Duration = Duration::from_secs(20);

impl Keeper {
    /// Brings what is nearer to what is wanted, as far as it goes without waiting.
    pub(super) fn reconcile(&mut self) {
        self.drop_leavers();
        if self.is_empty() && self.idle_until.is_none_or(|t| Instant::now() >= t) {
            self.end();
            return;
        }
        if self.build_until.is_some_and(|t| Instant::now() >= t) {
            self.build_until = None;
            self.break_cell("build the cell: not finished in time");
        }
        if self.cell.is_none()
            && self.cgroup.is_made()
            && self
                .volumes
                .values()
                .any(|h| matches!(h.phase, Phase::Loose(_)))
        {
            match Cell::spawn(&self.vserver, self.cgroup.cell(), self.cgroup.is_new()) {
                Ok(cell) => {
                    self.cell = Some(cell);
                    self.build_until = Some(Instant::now() + BUILD_LIMIT);
                }
                Err(e) => self.break_cell(&format!("start the cell's PID 1: {e}")),
            }
        }
        self.move_gate();
        self.move_servers();
        self.move_gate();
        self.move_volumes();
    }

    /// What the cell's network is to let in, now that the servers have these exports or are to have them: one that
    /// comes is open before they have it, one that goes is shut when they have it no more.
    fn wanted_rules(&self) -> Option<Rules> {
        let servers = self.servers.as_ref()?;
        let exports = self.exports();
        let all = servers.exported().chain(&exports);
        Some(Rules::of(&servers.spec, self.gate.own(), all))
    }

    fn move_gate(&mut self) {
        let wanted = self.wanted_rules();
        let cell = self.cell.as_ref().filter(|c| c.ready && !c.killed);
        if let (Some(cell), Some(wanted)) = (cell, wanted) {
            self.gate.advance(cell, &wanted);
        }
    }

    fn move_servers(&mut self) {
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
        // Nothing of them starts before its limits are in force. What is to end does not wait for that.
        let settled = self.cgroup.is_settled() || servers.leaving.is_some();
        let given = match (&mut self.cell, &home) {
            (Some(cell), _) if cell.killed => return,
            (Some(cell), _) if cell.ready && settled => {
                servers.advance(cell, &home, &exports, &gate)
            }
            // Nothing of them can be left where nothing is.
            (None, _) if servers.leaving.is_some() => {
                servers.lose("");
                Ok(())
            }
            (None, Home::None(cause, why)) => {
                servers.fail(*cause, why.clone());
                Ok(())
            }
            _ => Ok(()),
        };
        let late = servers
            .leaving
            .is_some_and(|(_, kill_at)| Instant::now() >= kill_at);
        let why = match given {
            Err(e) => e.to_string(),
            Ok(()) if late && !servers.is_halted() => "the servers do not end".to_owned(),
            Ok(()) => return,
        };
        if let Some(cell) = &mut self.cell {
            log::error(format_args!("{why}; ending the cell"));
            cell.kill();
        }
    }

    /// What is to be exported now.
    pub(super) fn exports(&self) -> Vec<Export> {
        let mut exports: Vec<Export> = self.volumes.values().filter_map(Held::export).collect();
        exports.sort_by(|a, b| a.directory.cmp(&b.directory));
        exports
    }

    /// Where the servers' home is.
    pub(super) fn home(&self) -> Home {
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
        match (found.map(|held| (held, held.condition())), named) {
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

    /// Forgets what is leaving and has nothing in the cell any more.
    fn drop_leavers(&mut self) {
        let before = self.volumes.len();
        for held in self.volumes.values().filter(|h| h.leaving.is_some()) {
            if let Phase::Mounting(job) = &held.phase {
                job.kill();
            }
        }
        let stays = |held: &Held| {
            held.leaving.is_none() || held.is_in_cell() || matches!(held.phase, Phase::Mounting(_))
        };
        let mut left: Vec<Member> = Vec::new();
        for held in self.volumes.values_mut().filter(|held| !stays(held)) {
            left.push(held.member.clone());
            self.leftover.extend(held.cut_off());
        }
        self.volumes.retain(|_, held| stays(held));
        let gone = self
            .servers
            .as_ref()
            .is_some_and(|s| s.leaving.is_some() && s.is_halted());
        if gone {
            left.extend(self.servers.take().map(|servers| servers.member));
        }
        self.clean_up_after(left);
        if gone || self.volumes.len() != before {
            self.tell_guard();
        }
    }

    fn move_volumes(&mut self) {
        let home = self.home();
        let servers = self.servers.as_ref();
        let used = |directory: &Path| servers.is_some_and(|s| s.uses(directory, &home));
        let Some(cell) = self.cell.as_mut().filter(|c| c.ready && !c.killed) else {
            return;
        };
        let mut broken = None;
        for held in self.volumes.values_mut() {
            let directory = held.volume.directory.clone();
            let given = match (&held.phase, held.leaving) {
                (Phase::Loose(mount), None) => cell
                    .give(Order::Attach { directory }, Some(mount.as_fd()))
                    .map(Phase::Attaching),
                (Phase::Attached, Some(kill_at))
                    if used(&directory) && Instant::now() < kill_at =>
                {
                    continue;
                }
                (Phase::Attached, Some(kill_at)) => {
                    let left = kill_at.saturating_duration_since(Instant::now());
                    cell.give(
                        Order::Detach {
                            directory,
                            patience: Budget::patience_within(left),
                        },
                        None,
                    )
                    .map(Phase::Detaching)
                }
                (Phase::Detaching(_) | Phase::Attaching(_), Some(kill_at))
                    if Instant::now() >= kill_at =>
                {
                    Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "not detached in time",
                    ))
                }
                _ => continue,
            };
            match given {
                Ok(phase) => held.phase = phase,
                Err(e) => broken = Some(format!("{}: {e}", held.volume.directory.display())),
            }
        }
        if let Some(why) = broken {
            log::error(format_args!("{why}; ending the cell"));
            cell.kill();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.servers.is_none()
    }

    /// The last member has left.
    fn end(&mut self) {
        if self.ending {
            return;
        }
        self.ending = true;
        self.idle_until = None;
        // From here on an agent that comes starts a new keeper, which waits for this one's end.
        start::forget_socket(&self.vserver);
        self.listener = None;
        self.guard.dismiss();
        if let Some(cell) = &mut self.cell {
            cell.kill();
        }
    }
}
