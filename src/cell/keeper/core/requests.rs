//! The requests of agents, and what an agent waits for after its request.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Core;
use super::effect::{Effect, Effects};
use super::servers::Servers;
use super::terms::ClientId;
use super::volume::{self, Phase, Volume};
use crate::cell::cgroup::Limits;
use crate::cell::protocol::{Cause, Condition, Exported, Reply, Request, VolumeSpec};
use crate::cell::service::ServerSpec;
use crate::cluster::complaint::Member;
use crate::plan::budget::Budget;
use crate::types::ResourceId;

/// The event that the answer to a client waits for.
#[derive(Debug)]
pub(crate) enum Until {
    /// Nothing: this is the answer.
    Now(Reply),
    /// The file system of this resource is in service, or is kept from service.
    Attached(ResourceId),
    /// This resource is no longer a member.
    Gone(ResourceId),
    /// The servers of this resource answer, or wait for their home.
    Served(ResourceId),
    /// The servers have taken up a change of exports, or refused it, and have been asked for what they serve.
    Exported(ResourceId),
    /// The limits of the cell are in force; with the servers' resource.
    Limited(ResourceId),
    /// The servers of this resource have been asked for what they serve.
    Inspected(ResourceId),
    /// The cell is built.
    Found,
    /// Nothing: the client came too late, and is hung up on, so that it starts the next keeper.
    Hangup,
}

/// How long a client waits for a cell to be built.
const FIND_LIMIT: Duration = Duration::from_secs(5);

impl Core {
    /// Begins what a client asks for. Returns what its answer waits for, and until when.
    pub(crate) fn on_request(
        &mut self,
        client: ClientId,
        request: Request,
        now: Instant,
        out: &mut Effects,
    ) -> (Until, Instant) {
        match request {
            Request::Attach {
                member,
                volume,
                budget,
            } => (self.attach(member, volume, out), now + budget),
            Request::Detach { resource, budget } => {
                (self.detach(resource, budget, now, out), now + budget)
            }
            Request::Status { resource } => (self.look(resource, now, out), now),
            Request::State => (Until::Now(self.state_reply()), now),
            Request::Inspect { resource, budget } => {
                if let Some(servers) = &mut self.servers {
                    servers.inspect();
                }
                (Until::Inspected(resource), now + budget)
            }
            Request::CleanUp { member } => {
                out.push(Effect::CleanUp(member));
                (Until::Now(Reply::Noted), now)
            }
            Request::Find => (Until::Found, now + FIND_LIMIT),
            Request::Announce { vip, port } => {
                out.push(Effect::Announce { client, vip, port });
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
            } => (self.serve(member, spec, home, out), now + budget),
            Request::Limit {
                resource,
                limits,
                budget,
            } => (self.limit(resource, limits, out), now + budget),
            Request::Unserve {
                resource,
                patience,
                budget,
            } => (
                self.unserve(resource, (patience, budget), now, out),
                now + budget,
            ),
        }
    }

    /// Looks at a member for its monitor. What the servers have not taken up is tried again.
    fn look(&mut self, resource: ResourceId, now: Instant, out: &mut Effects) -> Until {
        if self.takes_orders() {
            out.push(Effect::ShowNames { anew: false });
        }
        if let Some(servers) = &mut self.servers {
            servers.retry(now);
            out.push(Effect::Look(Box::new(servers.spec.clone())));
        }
        self.gate.retry(now);
        let condition = self.condition(&resource);
        self.note_condition(&resource, &condition, out);
        Until::Now(self.member(&resource))
    }

    /// Notes that this condition of a member is being reported to Pacemaker. When a degradation is over, Pacemaker is
    /// made to forget it.
    fn note_condition(&mut self, resource: &ResourceId, condition: &Condition, out: &mut Effects) {
        match condition {
            Condition::Degraded(_) => {
                self.degraded.insert(resource.clone());
            }
            Condition::Running if self.degraded.remove(resource) => {
                let volume = self.volumes.get(resource).map(|held| &held.member);
                let servers = self.servers.as_ref().map(|servers| &servers.member);
                let servers = servers.filter(|member| member.resource == *resource);
                if let Some(member) = volume.or(servers).cloned() {
                    out.push(Effect::CleanUp(member));
                }
            }
            _ => {}
        }
    }

    fn export(&mut self, resource: ResourceId, export: Exported) -> Until {
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

    fn limit(&mut self, resource: ResourceId, limits: Limits, out: &mut Effects) -> Until {
        let servers = self.servers.as_mut();
        if let Some(servers) = servers.filter(|s| s.member.resource == *resource) {
            servers.spec.cgroup = limits;
            self.keep_within(limits, out);
        }
        Until::Limited(resource)
    }

    /// Sets the limits of the cell.
    fn keep_within(&mut self, limits: Limits, out: &mut Effects) {
        // Until an event says that they are in force.
        self.groups.settled = false;
        out.push(Effect::Limit(limits));
    }

    fn serve(
        &mut self,
        member: Member,
        spec: ServerSpec,
        home: Option<PathBuf>,
        out: &mut Effects,
    ) -> Until {
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
                _ => self.begin_serving(member, spec, home, out),
            };
        }
        self.begin_serving(member, spec, home, out)
    }

    fn begin_serving(
        &mut self,
        member: Member,
        spec: ServerSpec,
        home: Option<PathBuf>,
        out: &mut Effects,
    ) -> Until {
        let resource = member.resource.clone();
        self.keep_within(spec.cgroup, out);
        self.gate.begin(&spec, out);
        self.servers = Some(Servers::new(member, spec, home));
        self.tell_sentinel(out);
        Until::Served(resource)
    }

    fn unserve(
        &mut self,
        resource: ResourceId,
        (patience, budget): (Duration, Duration),
        now: Instant,
        out: &mut Effects,
    ) -> Until {
        if let Some(servers) = self
            .servers
            .as_mut()
            .filter(|s| s.member.resource == *resource)
        {
            let budget = Budget::of_keeper(budget);
            let kill_at = now + budget.cell_killed();
            servers
                .leaving
                .get_or_insert((patience.min(budget.patience()), kill_at));
            self.tell_sentinel(out);
        }
        Until::Gone(resource)
    }

    fn attach(&mut self, member: Member, volume: VolumeSpec, out: &mut Effects) -> Until {
        let resource = member.resource.clone();
        if self.ending {
            return Until::Hangup;
        }
        if let Some(held) = self.volumes.get(&resource).filter(|h| h.leaving.is_none()) {
            if matches!(held.phase, Phase::Failed(..)) {
                // What is left of the failed file system is dropped below, and it is mounted anew.
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
        let held = Volume::new(member, volume, &mut self.mounters, out);
        self.volumes.insert(resource.clone(), held);
        self.tell_sentinel(out);
        Until::Attached(resource)
    }

    fn detach(
        &mut self,
        resource: ResourceId,
        budget: Duration,
        now: Instant,
        out: &mut Effects,
    ) -> Until {
        if let Some(held) = self.volumes.get_mut(&resource) {
            let kill_at = now + Budget::of_keeper(budget).cell_killed();
            held.leaving.get_or_insert(kill_at);
            self.tell_sentinel(out);
        }
        Until::Gone(resource)
    }
}

/// Why `wanted` can't be attached beside a file system that is there already.
fn conflict(other: &Volume, wanted: &VolumeSpec) -> Option<Reply> {
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
