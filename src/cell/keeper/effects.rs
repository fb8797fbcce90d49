//! Carries out what the core has decided.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use super::claim::Taker;
use super::core::{
    Admission, ClientId, Effect, Effects, Event, Level, MountTask, MounterId, RepairSpec,
};
use super::{Cell, Keeper, gate, mounting, start};
use crate::cell::cgroup::Groups;
use crate::cell::init::protocol::Order;
use crate::cell::keeper::repair::{Repair, RepairTarget};
use crate::cell::keeper::sentinel::Sentinel;
use crate::cell::network;
use crate::cell::protocol::{Cause, Reply, VolumeSpec};
use crate::cell::service::Own;
use crate::cluster::complaint;
use crate::cluster::complaint::Member;
use crate::log;
use crate::sys::announce::PacketSocket;

/// Where the records of repairs are kept, in a directory for each resource. They are on the node, since the file system
/// itself is being repaired.
const RECORDS: &str = "/var/lib/berth/repair";

impl Keeper {
    /// Carries out these effects, and those that follow from them. Returns whether any event has followed.
    pub(crate) fn carry_out(&mut self, effects: Effects) -> bool {
        let mut left: VecDeque<Effect> = effects.into_iter().collect();
        let mut told = false;
        while let Some(effect) = left.pop_front() {
            if let Some(event) = self.execute(effect) {
                let mut effects = Effects::default();
                self.core.on(event, Instant::now(), &mut effects);
                left.extend(effects);
                told = true;
            }
        }
        told
    }

    /// Carries out one effect. Returns the event that follows at once, if any.
    fn execute(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Mount {
                mounter,
                member,
                volume,
                task,
            } => return self.mount(mounter, &member, &volume, task),
            Effect::KillMounter(mounter) => {
                if let Some(job) = self.mounting.get(&mounter) {
                    job.kill();
                }
            }
            Effect::DropMount(mounter) => drop(self.mounts.remove(&mounter)),
            Effect::Repair(spec) => return Some(self.repair(*spec)),
            Effect::CutOff(resource) => {
                let repair = self.repairs.remove(&resource);
                self.leftover.extend(repair.and_then(|mut r| r.cut_off()));
            }
            Effect::SpawnCell => return Some(self.spawn_cell()),
            Effect::Connect => {
                let connected = self.cell.as_mut()?.connect(&self.vserver);
                return Some(match connected {
                    Ok(()) => Event::CellConnected,
                    Err(e) => Event::NotConnected(e.to_string()),
                });
            }
            Effect::Order {
                number,
                order,
                mount,
            } => return self.send_order(number, order, mount),
            Effect::KillCell => {
                if let Some(cell) = &self.cell {
                    cell.kill();
                }
            }
            Effect::BuryCell => self.bury_cell(),
            Effect::ShowNames { anew } => {
                if anew {
                    self.names = super::Names::default();
                }
                self.show_names();
            }
            Effect::Admit { rules, before } => {
                let begun = gate::begin(self.cell.as_ref()?.pid, &rules, before.as_deref());
                match begun {
                    Ok(job) => self.admission = Some(job),
                    Err(e) => {
                        let why = format!("start a child: {e}");
                        return Some(Event::Admitted(Admission::Failed(Cause::Failed, why)));
                    }
                }
            }
            Effect::Look(spec) => return Some(Event::Own(Own::look(&spec))),
            Effect::Limit(limits) => self.cgroup.limit(limits),
            Effect::Announce { client, vip, port } => {
                let client = self.clients.get_mut(&client);
                if let Some(fd) = client.and_then(|client| client.brought.take()) {
                    let wire = Rc::new(PacketSocket::from(fd));
                    self.announcing.begin(vip, &port, Instant::now(), &wire);
                }
            }
            Effect::Reply(client, reply) => self.reply(client, &reply),
            Effect::HangUp(client) => drop(self.clients.remove(&client)),
            Effect::Report { members, why } => self.report(members, why),
            Effect::CleanUp(member) => self.in_child(move || complaint::clean_up(&member)),
            Effect::CleanUpLater(member) => self.clean_up_later(member),
            Effect::SpawnSentinel => match Sentinel::spawn() {
                Ok(sentinel) => self.sentinel = Some(sentinel),
                Err(e) => return Some(Event::NoSentinel(e.to_string())),
            },
            Effect::Watch(members) => {
                if let Some(sentinel) = &self.sentinel {
                    sentinel.watch(members);
                }
            }
            Effect::Retire => {
                start::forget_socket(&self.vserver);
                self.listener = None;
                if let Some(sentinel) = &self.sentinel {
                    sentinel.dismiss();
                }
            }
            Effect::Log(level, line) => say(level, &line),
        }
        None
    }

    fn mount(
        &mut self,
        mounter: MounterId,
        member: &Member,
        volume: &VolumeSpec,
        task: MountTask,
    ) -> Option<Event> {
        let taker = Taker {
            vserver: &self.vserver,
            member,
            volume,
        };
        match mounting::send(taker, task) {
            Ok(job) => {
                self.mounting.insert(mounter, job);
                None
            }
            Err(e) => Some(Event::NoMounter {
                mounter,
                why: e.to_string(),
            }),
        }
    }

    fn repair(&mut self, spec: RepairSpec) -> Event {
        let RepairSpec {
            resource,
            stage,
            proof,
            policy,
            kind,
            device,
            mmp,
        } = spec;
        let target = RepairTarget {
            kind,
            policy,
            proof,
            device,
            mmp,
            records: Path::new(RECORDS).join(resource.as_str()),
            group: Groups::of(&self.vserver).ok().map(|place| place.repair()),
        };
        match Repair::start(target, stage) {
            Ok(repair) => {
                let progress = repair.progress();
                self.repairs.insert(resource.clone(), repair);
                Event::RepairGoesOn { resource, progress }
            }
            Err(e) => Event::NoRepair {
                resource,
                cause: cause_of(&e),
                why: e.to_string(),
            },
        }
    }

    /// Goes on with the repairs.
    pub(crate) fn advance_repairs(&mut self) {
        let mut events = Vec::new();
        let mut leftover = Vec::new();
        self.repairs.retain(|resource, repair| {
            let ended = match repair.advance(Instant::now()) {
                Ok(None) => {
                    let (resource, progress) = (resource.clone(), repair.progress());
                    events.push(Event::RepairGoesOn { resource, progress });
                    return true;
                }
                Ok(Some(decision)) => Ok(decision),
                Err(e) => Err(e),
            };
            let record = repair.record().display();
            log::warn(format_args!(
                "{resource}: repair ended ({record}): {ended:?}"
            ));
            // If this failed in the middle of a stage, its program may still run.
            leftover.extend(repair.cut_off());
            events.push(Event::RepairEnded {
                resource: resource.clone(),
                stage: repair.stage(),
                outcome: ended.map_err(|e| (cause_of(&e), e.to_string())),
            });
            false
        });
        self.leftover.extend(leftover);
        for event in events {
            self.tell(event);
        }
    }

    fn spawn_cell(&mut self) -> Event {
        match Cell::spawn(&self.vserver, self.cgroup.cell(), self.cgroup.is_new()) {
            Ok(cell) => {
                let init = cell.pid.as_raw();
                self.cell = Some(cell);
                Event::CellSpawned(init)
            }
            Err(e) => Event::NoCell(e.to_string()),
        }
    }

    fn send_order(&mut self, number: u64, order: Order, mount: Option<MounterId>) -> Option<Event> {
        let cell = self.cell.as_mut()?;
        let descriptor = mount.and_then(|mount| self.mounts.get(&mount));
        match cell.give(number, order, descriptor.map(AsFd::as_fd)) {
            Ok(()) => {
                // PID 1 has the mount now.
                mount.and_then(|mount| self.mounts.remove(&mount));
                None
            }
            Err(e) => Some(Event::NotOrdered {
                number,
                why: e.to_string(),
            }),
        }
    }

    /// Clears away a cell whose PID 1 is dead.
    fn bury_cell(&mut self) {
        let cell = self.cell.take();
        if let Some(cell) = &cell {
            // A process that has joined the cell from outside does not end with PID 1.
            cell.kill();
            self.cgroup.sum_up();
            self.leftover.push(cell.pid);
        }
        if let Some(job) = self.admission.take() {
            job.kill();
            self.leftover.push(job.pid());
        }
        if let Err(e) = network::disconnect(&self.vserver) {
            log::warn(e);
        }
        // The cell's filter goes after its interface.
        drop(cell);
    }

    fn reply(&mut self, client: ClientId, reply: &Reply) {
        let Some(client) = self.clients.get(&client) else {
            return;
        };
        let cell = self.cell.as_ref();
        let cell = cell.filter(|_| matches!(reply, Reply::Cell { .. }));
        let network = cell.and_then(Cell::network);
        if let Err(e) = client.channel.send(reply, network) {
            log::debug(format_args!("answer an agent: {e}"));
        }
    }
}

fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotFound => Cause::Missing,
        _ => Cause::Failed,
    }
}

fn say(level: Level, line: &str) {
    match level {
        Level::Info => log::info(line),
        Level::Warning => log::warn(line),
        Level::Error => log::error(line),
        Level::Critical => log::critical(line),
    }
}
