//! The keeper's reports to Pacemaker: by children, since Pacemaker's tools may be slow.

use super::Keeper;
use crate::cluster::complaint::{self, Member};
use crate::log;
use crate::runtime::job::Job;

impl Keeper {
    /// Reports these members to Pacemaker as failed, in a child.
    pub(crate) fn report(&mut self, members: Vec<Member>, why: &'static str) {
        self.in_child(move || {
            for member in &members {
                complaint::report(member, why);
            }
        });
    }

    /// Does this work in a child.
    pub(crate) fn in_child(&mut self, work: impl FnOnce()) {
        let work = || {
            work();
            ((), None)
        };
        match Job::spawn(c"berth-report", work) {
            Ok(job) => self.reports.push(job),
            Err(e) => log::error(format_args!("tell the cluster: {e}")),
        }
    }

    /// Has Pacemaker forget, after a while, that this member was degraded, which has left.
    pub(crate) fn clean_up_later(&mut self, member: Member) {
        match complaint::clean_up_later(member) {
            Ok(pid) => self.leftover.push(pid),
            Err(e) => log::warn(format_args!("clean up: {e}")),
        }
    }
}
