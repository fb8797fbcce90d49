//! The condition of members, and when agents are answered.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Core;
use super::effect::{Effect, Effects};
use super::requests::Until;
use super::volume::{self, Phase, Volume};
use crate::cell::protocol::{Cause, Condition, Reply};

/// How long servers that could not be started may take to end.
const REFUSED_LIMIT: Duration = Duration::from_secs(5);

impl Core {
    pub(crate) fn member(&self, resource: &str) -> Reply {
        let held = self.volumes.get(resource);
        Reply::Member {
            condition: self.condition(resource),
            device: held.and_then(Volume::block_device).map(Path::to_owned),
            init: self.cell.as_ref().and_then(|cell| cell.init),
            inspects: true,
        }
    }

    /// Answers the agents whose answer is there or whose time is up.
    pub(crate) fn answer(&mut self, now: Instant, out: &mut Effects) {
        for (client, (until, deadline)) in std::mem::take(&mut self.waiting) {
            if matches!(until, Until::Hangup) {
                out.push(Effect::HangUp(client));
                continue;
            }
            let reply = self
                .reply(&until)
                .filter(|_| !self.is_early(&until))
                .or_else(|| (now >= deadline).then(|| self.too_late(&until)));
            let Some(reply) = reply else {
                self.waiting.insert(client, (until, deadline));
                continue;
            };
            let refused = matches!(reply, Reply::Refused { .. });
            out.push(Effect::Reply(client, reply));
            if refused {
                self.forget_refused(&until, now, out);
            }
        }
    }

    /// The answer to an agent that waits for this; `None` while there is none.
    fn reply(&self, until: &Until) -> Option<Reply> {
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
            Until::Limited(_) if !self.groups.settled => return None,
            Until::Limited(resource) => self.member(resource),
            // The last member's agent is answered when the cell is gone, too.
            Until::Gone(resource) => {
                let is_member = self.condition(resource) != Condition::Absent;
                let ends = self.is_empty() && self.cell.is_some();
                if is_member || ends || self.mounters.may_hold(resource) {
                    return None;
                }
                self.member(resource)
            }
            Until::Hangup => return None,
            Until::Found => return self.found(),
        };
        Some(reply)
    }

    /// Whether it is too early to answer for a file system that is in service: the servers that run are about to export
    /// it.
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

    fn found(&self) -> Option<Reply> {
        let Some(cell) = &self.cell else {
            return Some(Reply::NoCell);
        };
        let init = cell.init.filter(|_| cell.connected && cell.ready)?;
        let directories = volume::directories(self.volumes.values());
        Some(Reply::Cell { init, directories })
    }

    fn too_late(&self, until: &Until) -> Reply {
        let state = match until {
            // The file system is in service; only whether all servers export it is not known yet.
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

    /// Forgets what was refused at its start: it is no member.
    fn forget_refused(&mut self, until: &Until, now: Instant, out: &mut Effects) {
        match until {
            Until::Attached(resource) => {
                let failed = |h: &Volume| matches!(h.phase, Phase::Failed(..));
                if self.volumes.get(resource).is_some_and(failed) {
                    self.volumes.remove(resource);
                }
            }
            Until::Served(_) => {
                if let Some(servers) = self.servers.as_mut().filter(|s| s.fault().is_some()) {
                    servers
                        .leaving
                        .get_or_insert((Duration::ZERO, now + REFUSED_LIMIT));
                }
            }
            _ => return,
        }
        self.tell_sentinel(out);
    }
}
