//! What agents ask for, and when they are answered.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Keeper;
use super::servers::Servers;
use super::volume::{self, Held, Phase};
use crate::cell::cgroup::Limits;
use crate::cell::protocol::{Cause, Condition, Exported, Reply, Request, Volume};
use crate::cell::service::ServerSpec;
use crate::cluster::complaint;
use crate::cluster::complaint::Member;
use crate::log;
use crate::plan::budget::Budget;
use crate::sys::announce::Wire;

/// What a client waits for.
#[derive(Debug)]
pub enum Until {
    /// Nothing: it can be told now.
    Now(Reply),
    /// The file system of this resource is in service, or kept from it.
    Attached(String),
    /// This resource is no member any more.
    Gone(String),
    /// The servers answer, or wait for their home.
    Served(String),
    /// The servers have taken up what is to be exported, or not, and have been asked for it.
    Exported(String),
    /// The limits of the cell of these servers are in force.
    Limited(String),
    /// The servers have been asked for what they are to serve.
    Inspected(String),
    /// The cell is built.
    Found,
    /// Nothing: it came too late, and is to start the next keeper.
    Hangup,
}

/// How long what is left of servers that could not be started may take to end.
const REFUSED_LIMIT: Duration = Duration::from_secs(5);

/// How long a client waits for a cell to be built.
const FIND_LIMIT: Duration = Duration::from_secs(5);

impl Keeper {
    /// Begins what is asked for.
    pub(super) fn heed(&mut self, request: Request, fd: Option<OwnedFd>) -> (Until, Instant) {
        let now = Instant::now();
        match request {
            Request::Attach {
                member,
                volume,
                budget,
            } => (self.attach(member, volume), now + budget),
            Request::Detach { resource, budget } => (self.detach(resource, budget), now + budget),
            Request::Status { resource } => {
                self.show_names();
                if let Some(servers) = &mut self.servers {
                    servers.retry(now);
                    self.gate.look(&servers.spec);
                }
                self.gate.retry(now);
                self.note_condition(&resource, &self.condition(&resource));
                (Until::Now(self.member(&resource)), now)
            }
            Request::Inspect { resource, budget } => {
                if let Some(servers) = &mut self.servers {
                    servers.inspect();
                }
                (Until::Inspected(resource), now + budget)
            }
            Request::CleanUp { member } => {
                self.tell(move || complaint::clean_up(&member));
                (Until::Now(Reply::Noted), now)
            }
            Request::Find => (Until::Found, now + FIND_LIMIT),
            Request::Announce { vip, port } => {
                if let Some(wire) = fd.map(|fd| Rc::new(Wire::from(fd))) {
                    self.announcing.begin(vip, &port, now, &wire);
                }
                (Until::Now(Reply::Noted), now)
            }
            Request::Export {
                resource,
                export,
                budget,
            } => (self.export(resource, export), now + budget),
            Request::Serve {
                member,
                spec,
                home,
                budget,
            } => (self.serve_with(member, spec, home), now + budget),
            Request::Limit {
                resource,
                limits,
                budget,
            } => (self.limit(resource, limits), now + budget),
            Request::Unserve {
                resource,
                patience,
                budget,
            } => (self.unserve(resource, patience, budget), now + budget),
        }
    }

    fn export(&mut self, resource: String, export: Exported) -> Until {
        let Some(held) = self
            .volumes
            .get_mut(&resource)
            .filter(|h| h.leaving.is_none())
        else {
            return Until::Now(self.member(&resource));
        };
        held.volume.export = export;
        Until::Exported(resource)
    }

    fn limit(&mut self, resource: String, limits: Limits) -> Until {
        let servers = self.servers.as_mut();
        if let Some(servers) = servers.filter(|s| s.member.resource == resource) {
            servers.spec.cgroup = limits;
            self.cgroup.limit(limits);
        }
        Until::Limited(resource)
    }

    fn serve_with(&mut self, member: Member, spec: ServerSpec, home: Option<PathBuf>) -> Until {
        if self.ending {
            return Until::Hangup;
        }
        let resource = member.resource.clone();
        if let Some(servers) = &self.servers {
            let same = servers.member.resource == resource && servers.spec == spec;
            return match (
                same && servers.home == home,
                servers.leaving.is_some() || !servers.is_halted(),
            ) {
                (true, _) if servers.leaving.is_none() && servers.fault().is_none() => {
                    Until::Served(resource)
                }
                (_, true) => {
                    let has = &servers.member.resource;
                    let text =
                        format!("the cell already has the servers of {has}: stop them first");
                    Until::Now(Reply::refused(Cause::Failed, text))
                }
                _ => self.begin_serving(member, spec, home),
            };
        }
        self.begin_serving(member, spec, home)
    }

    fn begin_serving(&mut self, member: Member, spec: ServerSpec, home: Option<PathBuf>) -> Until {
        let resource = member.resource.clone();
        self.cgroup.limit(spec.cgroup);
        self.gate.begin(&spec);
        self.servers = Some(Servers::new(member, spec, home));
        self.idle_until = None;
        self.tell_guard();
        Until::Served(resource)
    }

    fn unserve(&mut self, resource: String, patience: Duration, budget: Duration) -> Until {
        if let Some(servers) = self
            .servers
            .as_mut()
            .filter(|s| s.member.resource == resource)
        {
            let budget = Budget::of_keeper(budget);
            let kill_at = Instant::now() + budget.cell_killed();
            servers
                .leaving
                .get_or_insert((patience.min(budget.patience()), kill_at));
            self.tell_guard();
        }
        Until::Gone(resource)
    }

    fn attach(&mut self, member: Member, volume: Volume) -> Until {
        let resource = member.resource.clone();
        if self.ending {
            return Until::Hangup;
        }
        if let Some(held) = self.volumes.get(&resource).filter(|h| h.leaving.is_none()) {
            if matches!(held.phase, Phase::Failed(..)) {
                // What is left of it is dropped below, and it is tried anew.
            } else if held.volume.device == volume.device
                && held.volume.directory == volume.directory
            {
                return Until::Attached(resource);
            } else {
                let is = format!(
                    "{} at {}",
                    held.volume.device,
                    held.volume.directory.display()
                );
                return Until::Now(Reply::refused(
                    Cause::Failed,
                    format!("this resource already has {is}: stop it first"),
                ));
            }
        } else if self.volumes.contains_key(&resource) {
            return Until::Now(Reply::refused(
                Cause::Failed,
                "this resource is still being stopped",
            ));
        }
        let others = self
            .volumes
            .values()
            .filter(|h| h.member.resource != resource);
        if let Some(reply) = others.filter_map(|other| conflict(other, &volume)).next() {
            return Until::Now(reply);
        }
        match Held::new(&self.vserver, member, volume) {
            Ok(held) => {
                self.volumes.insert(resource.clone(), held);
                self.idle_until = None;
                self.tell_guard();
                Until::Attached(resource)
            }
            Err(e) => Until::Now(Reply::refused(Cause::Failed, format!("start a child: {e}"))),
        }
    }

    fn detach(&mut self, resource: String, budget: Duration) -> Until {
        if let Some(held) = self.volumes.get_mut(&resource) {
            let kill_at = Instant::now() + Budget::of_keeper(budget).cell_killed();
            held.leaving.get_or_insert(kill_at);
            self.tell_guard();
        }
        Until::Gone(resource)
    }

    fn member(&self, resource: &str) -> Reply {
        Reply::Member {
            condition: self.condition(resource),
            device: self
                .volumes
                .get(resource)
                .and_then(|h| Some(h.found.as_ref()?.path.clone())),
            init: self.cell.as_ref().map(|cell| cell.pid.as_raw()),
            inspects: true,
        }
    }

    fn condition(&self, resource: &str) -> Condition {
        let servers = self
            .servers
            .as_ref()
            .filter(|s| s.member.resource == resource);
        match (self.volumes.get(resource), servers) {
            (Some(held), _) => match held.condition() {
                // What is not served as it should be is served by no other node either: nothing is moved for it.
                Condition::Running => self.refusal(held),
                other => other,
            },
            (None, Some(servers)) => match (servers.condition(&self.home()), self.gate.fault()) {
                (Condition::Running, Some(why)) => Condition::Degraded(why.to_owned()),
                (condition, _) => condition,
            },
            (None, None) => Condition::Absent,
        }
    }

    /// How the resource of a file system is that is in service, as far as the servers go.
    fn refusal(&self, held: &Held) -> Condition {
        let servers = self.servers.as_ref();
        let exports = held.export().is_some() && servers.is_some();
        let shut = self.gate.fault().filter(|_| exports);
        match servers
            .and_then(|s| s.refusal(&held.volume.directory))
            .or(shut)
        {
            Some(why) => Condition::Degraded(why.to_owned()),
            None => Condition::Running,
        }
    }

    /// Answers those for whom it is time.
    pub(super) fn answer_clients(&mut self) {
        let mut clients = std::mem::take(&mut self.clients);
        clients.retain(|c| !matches!(c.until, Some((Until::Hangup, _))));
        for client in &mut clients {
            let Some((until, deadline)) = &client.until else {
                continue;
            };
            let reply = self
                .answer(until)
                .filter(|_| !self.is_early(until))
                .or_else(|| (Instant::now() >= *deadline).then(|| (self.too_late(until), None)));
            if let Some((reply, fd)) = reply {
                if let Err(e) = client.channel.send(&reply, fd) {
                    log::debug(format_args!("answer an agent: {e}"));
                }
                self.forget_refused(&client.until, &reply);
                client.until = None;
            }
        }
        self.clients = clients;
    }

    fn answer(&self, until: &Until) -> Option<(Reply, Option<BorrowedFd<'_>>)> {
        let reply = match until {
            Until::Now(reply) => reply.clone(),
            Until::Attached(resource) => match self.volumes.get(resource) {
                Some(held) => match &held.phase {
                    Phase::Failed(cause, why) => Reply::refused(*cause, why.clone()),
                    _ if held.is_settled() => self.member(resource),
                    _ => return None,
                },
                None => Reply::refused(Cause::Failed, "was stopped meanwhile"),
            },
            Until::Served(resource) => match &self.servers {
                Some(servers) => match (servers.fault(), self.condition(resource)) {
                    (Some((cause, why)), _) => Reply::refused(*cause, why.clone()),
                    (None, Condition::Changing(_)) => return None,
                    (None, _) => self.member(resource),
                },
                None => Reply::refused(Cause::Failed, "was stopped meanwhile"),
            },
            Until::Exported(resource) | Until::Inspected(resource) => match &self.servers {
                Some(servers) if !servers.has_settled(&self.exports()) || self.gate.is_busy() => {
                    return None;
                }
                _ => self.member(resource),
            },
            Until::Limited(_) if !self.cgroup.is_settled() => return None,
            Until::Limited(resource) => self.member(resource),
            // The last one is told when the cell is gone too.
            Until::Gone(resource) => {
                let is_member = self.condition(resource) != Condition::Absent;
                let ends = self.is_empty() && self.cell.is_some();
                let mounts = self.mounters.iter().any(|(of, _)| of == resource);
                if is_member || ends || mounts {
                    return None;
                }
                self.member(resource)
            }
            Until::Hangup => return None,
            Until::Found => return self.found(),
        };
        Some((reply, None))
    }

    /// Whether more will be known of a file system that is in service: servers that run are told of it.
    fn is_early(&self, until: &Until) -> bool {
        let Until::Attached(resource) = until else {
            return false;
        };
        let held = self.volumes.get(resource);
        let in_service = held.is_some_and(|h| matches!(h.phase, Phase::Attached));
        let exports = self.exports();
        let servers = self.servers.as_ref();
        in_service && servers.is_some_and(|servers| servers.are_changing(&exports))
    }

    fn found(&self) -> Option<(Reply, Option<BorrowedFd<'_>>)> {
        let Some(cell) = &self.cell else {
            return Some((Reply::NoCell, None));
        };
        let namespace = cell.network().filter(|_| cell.ready)?;
        let directories = volume::directories(self.volumes.values());
        Some((
            Reply::Cell {
                init: cell.pid.as_raw(),
                directories,
            },
            Some(namespace),
        ))
    }

    fn too_late(&self, until: &Until) -> Reply {
        let state = match until {
            // It is in service; only what all the servers make of it is not known yet.
            Until::Attached(resource)
                if matches!(
                    self.condition(resource),
                    Condition::Running | Condition::Degraded(_)
                ) =>
            {
                return self.member(resource);
            }
            Until::Inspected(resource) | Until::Limited(resource) => return self.member(resource),
            Until::Attached(resource)
            | Until::Gone(resource)
            | Until::Served(resource)
            | Until::Exported(resource) => match self.condition(resource) {
                Condition::Changing(what) => format!("still {what}"),
                other => format!("still {other:?}"),
            },
            _ => "the cell is still being built".to_owned(),
        };
        Reply::refused(Cause::Failed, format!("{state}, and time is up"))
    }

    /// What was refused at its start is no member.
    fn forget_refused(&mut self, until: &Option<(Until, Instant)>, reply: &Reply) {
        let (Some((until, _)), Reply::Refused { .. }) = (until, reply) else {
            return;
        };
        match until {
            Until::Attached(resource) => {
                let failed = |h: &Held| matches!(h.phase, Phase::Failed(..));
                if self.volumes.get(resource).is_some_and(failed) {
                    self.volumes.remove(resource);
                }
            }
            Until::Served(_) => {
                let now = Instant::now();
                if let Some(servers) = self.servers.as_mut().filter(|s| s.fault().is_some()) {
                    servers
                        .leaving
                        .get_or_insert((Duration::ZERO, now + REFUSED_LIMIT));
                }
            }
            _ => return,
        }
        self.tell_guard();
    }
}

/// Why `wanted` can't be beside a file system that is there already.
fn conflict(other: &Held, wanted: &Volume) -> Option<Reply> {
    let has = &other.volume;
    if volume::nested(&has.directory, &wanted.directory) {
        let text = format!(
            "parameter directory: {} and {} of {} must not be the same, nor one in the other",
            wanted.directory.display(),
            has.directory.display(),
            other.member.resource
        );
        return Some(Reply::refused(Cause::Parameters, text));
    }
    (has.device == wanted.device).then(|| {
        let text = format!(
            "parameter device: {} is that of {} already",
            has.device, other.member.resource
        );
        Reply::refused(Cause::Parameters, text)
    })
}
