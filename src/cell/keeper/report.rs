//! What the keeper tells Pacemaker: in children, since its tools may be slow.

use super::Keeper;
use crate::cluster::complaint::{self, Member};
use crate::log;
use crate::runtime::job::Job;

impl Keeper {
    /// Reports failures to Pacemaker, in a child.
    pub(crate) fn report(&mut self, members: Vec<Member>, why: &'static str) {
        self.in_child(move || {
            for member in &members {
                complaint::report(member, why);
            }
        });
    }

    /// Tells Pacemaker something, in a child.
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

    /// Has Pacemaker forget, in a while, that this one was degraded, which has left.
    pub(crate) fn clean_up_later(&mut self, member: Member) {
        match complaint::clean_up_later(member) {
            Ok(pid) => self.leftover.push(pid),
            Err(e) => log::warn(format_args!("clean up: {e}")),
        }
    }
}
