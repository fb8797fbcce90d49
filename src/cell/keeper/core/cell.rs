//! What the keeper knows of the cell, and what the cell's PID 1 reports.

use super::effect::{Effect, Effects};
use super::{Core, Phase};
use crate::cell::init::protocol::Event;
use crate::cell::protocol::Cause;
use crate::cell::refused::Refused;
use crate::cluster::complaint::Member;

/// A cell, from the start of its PID 1 until PID 1 is dead.
#[derive(Debug, Default)]
pub(crate) struct Cell {
    /// The process id of PID 1 on the host.
    pub(crate) init: Option<i32>,
    /// Whether it has a network.
    pub(crate) connected: bool,
    /// Whether it takes orders.
    pub(crate) ready: bool,
    /// Whether it is being killed: the kernel does the rest.
    pub(crate) killed: bool,
}

impl Core {
    /// Whether the cell takes orders.
    pub(crate) fn takes_orders(&self) -> bool {
        self.cell.as_ref().is_some_and(|c| c.ready && !c.killed)
    }

    /// Ends everything in the cell, if there is one.
    pub(crate) fn kill_cell(&mut self, out: &mut Effects) {
        if let Some(cell) = &mut self.cell {
            cell.killed = true;
            out.push(Effect::KillCell);
        }
    }

    pub(crate) fn take(&mut self, event: Event, out: &mut Effects) {
        match event {
            Event::Separate if self.cell.is_some() => out.push(Effect::Connect),
            Event::Separate => {}
            Event::Ready => {
                self.build_until = None;
                if let Some(cell) = &mut self.cell {
                    cell.ready = true;
                }
                if self.takes_orders() {
                    out.push(Effect::ShowNames { anew: true });
                }
            }
            Event::Broken(why) => self.break_cell(&format!("build the cell: {why}"), out),
            Event::Done { number, result } => self.done(number, &result, out),
            Event::Refused { server, what } => out.warn(format_args!("{server}: {what}")),
            Event::Warned(what) => out.warn(what),
            Event::Said { server, line } => out.info(format_args!("{server}: {line}")),
            Event::Died { server, how } => self.lose_server(&server, &how, out),
        }
    }

    /// Kills a cell that can't be used, and fails everything in it.
    pub(crate) fn break_cell(&mut self, why: &str, out: &mut Effects) {
        out.error(why);
        for held in self.volumes.values_mut() {
            held.fail(Cause::Failed, why.to_owned(), &mut self.mounters, out);
        }
        if let Some(servers) = &mut self.servers {
            servers.lose(why);
        }
        self.kill_cell(out);
    }

    /// Notes that a server has ended by itself. That is reported to Pacemaker at once, which restarts all servers.
    fn lose_server(&mut self, server: &str, how: &str, out: &mut Effects) {
        let Some(servers) = self.servers.as_mut().filter(|s| s.leaving.is_none()) else {
            return;
        };
        let known = servers.fault().is_some();
        servers.lose_one(server, how, out);
        if !known {
            let members = vec![servers.member.clone()];
            report(members, "one of its servers has ended", out);
        }
    }

    fn done(&mut self, number: u64, result: &Result<Vec<Refused>, String>, out: &mut Effects) {
        if let Some(servers) = &mut self.servers {
            if servers.done(number, result, out) {
                if servers.has_failed_late() && servers.leaving.is_none() {
                    let members = vec![servers.member.clone()];
                    report(members, "its servers could not be started", out);
                }
                return;
            }
        }
        let mut kill = None;
        for held in self.volumes.values_mut() {
            match (&held.phase, result) {
                (Phase::Attaching(n, _), Ok(_)) if *n == number => held.phase = Phase::Attached,
                (Phase::Attaching(n, _), Err(e)) if *n == number => {
                    held.phase = Phase::Failed(Cause::Failed, e.clone());
                }
                (Phase::Detaching(n), Ok(_)) if *n == number => {
                    held.phase = Phase::Failed(Cause::Failed, "detached".to_owned());
                }
                // The device can be freed only by killing the cell. That is better than to fail the stop, for
                // which the whole node would be fenced.
                (Phase::Detaching(n), Err(e)) if *n == number => kill = Some(e),
                _ => {}
            }
        }
        if let Some(why) = kill.filter(|_| self.cell.is_some()) {
            out.error(format_args!("{why}; ending the cell"));
            self.kill_cell(out);
        }
    }

    /// Notes that PID 1 has not taken an order: it is dead or stuck. Nothing has been done for the order.
    pub(crate) fn not_ordered(&mut self, number: u64, why: &str, out: &mut Effects) {
        let mut line = why.to_owned();
        let servers = self.servers.as_mut();
        if !servers.is_some_and(|servers| servers.not_ordered(number)) {
            for held in self.volumes.values_mut() {
                held.phase = match held.phase {
                    Phase::Attaching(n, mount) if n == number => Phase::Unattached(mount),
                    Phase::Detaching(n) if n == number => Phase::Attached,
                    _ => continue,
                };
                line = format!("{}: {why}", held.volume.directory.display());
            }
        }
        if self.cell.as_ref().is_some_and(|cell| !cell.killed) {
            out.error(format_args!("{line}; ending the cell"));
            self.kill_cell(out);
        }
    }

    /// Notes that PID 1 is dead, and with it everything in the cell.
    pub(crate) fn lose_cell(&mut self, why: &str, out: &mut Effects) {
        if self.cell.take().is_none() {
            return;
        }
        out.push(Effect::BuryCell);
        self.gate.lose();
        self.build_until = None;
        let mut lost = Vec::new();
        for held in self.volumes.values_mut().filter(|h| h.is_in_cell()) {
            held.phase = Phase::Failed(Cause::Failed, format!("the cell has ended: {why}"));
            if held.leaving.is_none() {
                lost.push(held.member.clone());
            }
        }
        if let Some(servers) = &mut self.servers {
            if servers.leaving.is_none() && servers.fault().is_none() {
                lost.push(servers.member.clone());
            }
            servers.lose(why);
        }
        if !self.ending && !lost.is_empty() {
            out.critical(format_args!(
                "the cell of {} has ended: {why}",
                self.vserver
            ));
        }
        report(lost, "its cell has ended", out);
    }
}

fn report(members: Vec<Member>, why: &'static str, out: &mut Effects) {
    if !members.is_empty() {
        out.push(Effect::Report { members, why });
    }
}
