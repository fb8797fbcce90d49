//! What the keeper tells Pacemaker: in children, since its tools may be slow.

use super::Keeper;
use crate::cell::protocol::Condition;
use crate::cluster::complaint;
use crate::cluster::complaint::Member;
use crate::log;
use crate::runtime::job::Job;

impl Keeper {
    /// Reports failures to Pacemaker, in a child.
    pub(super) fn report(&mut self, members: Vec<Member>, why: &'static str) {
        if members.is_empty() {
            return;
        }
        self.tell(move || {
            for member in &members {
                complaint::report(member, why);
            }
        });
    }

    /// Tells Pacemaker something, in a child.
    pub(super) fn tell(&mut self, work: impl FnOnce()) {
        let work = || {
            work();
            ((), None)
        };
        match Job::spawn(c"berth-report", work) {
            Ok(job) => self.reports.push(job),
            Err(e) => log::error(format_args!("tell the cluster: {e}")),
        }
    }

    /// Pacemaker is being told how this member is: what it was told of its degradation is cleaned up
    /// when that is over.
    pub(super) fn note_condition(&mut self, resource: &str, condition: &Condition) {
        match condition {
            Condition::Degraded(_) => {
                self.degraded.insert(resource.to_owned());
            }
            Condition::Running if self.degraded.remove(resource) => {
                let volume = self.volumes.get(resource).map(|held| &held.member);
                let servers = self.servers.as_ref().map(|servers| &servers.member);
                let servers = servers.filter(|member| member.resource == resource);
                if let Some(member) = volume.or(servers).cloned() {
                    self.tell(move || complaint::clean_up(&member));
                }
            }
            _ => {}
        }
    }

    /// These have left. Where one was degraded, Pacemaker would go on showing that.
    pub(super) fn clean_up_after(&mut self, left: Vec<Member>) {
        for member in left {
            if !self.degraded.remove(&member.resource) {
                continue;
            }
            // SAFETY: a keeper has one thread.
            match unsafe { complaint::clean_up_later(member) } {
                Ok(pid) => self.leftover.push(pid),
                Err(e) => log::warn(format_args!("clean up: {e}")),
            }
        }
    }
}
