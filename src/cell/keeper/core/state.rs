//! The state of the cell and of all members, for agents and people.

use super::Core;
use super::volume::Volume;
use crate::cell::protocol::{Condition, Reply};
use crate::cell::state::{CellPhase, CellState, LimitsState, MemberState, VolumeState};
use crate::runtime::channel::MESSAGE_LIMIT;

impl Core {
    /// The state of the cell and of all members.
    pub(crate) fn state(&self) -> CellState {
        let volumes: Vec<VolumeState> = self
            .volumes
            .values()
            .map(|h| h.state(self.refusal(h)))
            .collect();
        let servers = self.servers.as_ref();
        let servers = servers.map(|s| s.state(self.home(), self.gate.fault()));
        let of_volumes = volumes.iter().map(|v| (&v.resource, v.condition()));
        let of_servers = servers.iter().map(|s| (&s.resource, s.condition()));
        let members = of_volumes.chain(of_servers);
        CellState {
            vserver: self.vserver.to_string(),
            phase: self.phase(),
            init: self.cell.as_ref().and_then(|cell| cell.init),
            members: members
                .map(|(resource, condition)| MemberState {
                    resource: resource.clone(),
                    condition: Some(condition),
                })
                .collect(),
            limits: self.servers.as_ref().map(|servers| LimitsState {
                wanted: Some(servers.spec.cgroup),
                pending: !self.groups.settled,
                missing: self.groups.missing.clone(),
            }),
            volumes,
            servers,
            left_out: 0,
        }
    }

    /// The reply with that state, as much of it as fits into a message.
    pub(crate) fn state_reply(&self) -> Reply {
        Reply::State(Box::new(self.state().within(MESSAGE_LIMIT / 2)))
    }

    /// The condition of this resource.
    pub(crate) fn condition(&self, resource: &str) -> Condition {
        if let Some(held) = self.volumes.get(resource) {
            return held.condition(self.refusal(held));
        }
        let servers = self.servers.as_ref();
        match servers.filter(|s| s.member.resource == resource) {
            Some(servers) => servers.condition(self.home(), self.gate.fault()),
            None => Condition::Absent,
        }
    }

    fn phase(&self) -> CellPhase {
        match &self.cell {
            None if self.ending => CellPhase::Ending,
            None => CellPhase::Absent,
            Some(cell) if cell.killed || self.ending => CellPhase::Ending,
            Some(cell) if cell.ready => CellPhase::Ready,
            Some(_) => CellPhase::Building,
        }
    }

    /// Why the servers do not serve a file system as they should. That is a degradation only: no other node would serve
    /// it better, so nothing is moved.
    fn refusal(&self, held: &Volume) -> Option<&str> {
        let servers = self.servers.as_ref()?;
        let shut = self.gate.fault().filter(|_| held.export().is_some());
        servers.refusal(&held.volume.directory).or(shut)
    }
}
