//! What Pacemaker is told of a resource outside the answers of its agent: that it has failed, and that what was
//! said of it is over.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::tool;
use crate::log;
use crate::runtime::channel::Channel;
use crate::runtime::job;
use crate::sys::poll::wait_readable;
use crate::types::{NodeName, ResourceId};

/// How long reporting one failure may take.
const REPORT_LIMIT: Duration = Duration::from_secs(20);

/// A resource of the cluster on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub(crate) resource: ResourceId,
    /// This node's name in the cluster; without it a failure can't be reported.
    pub(crate) node: Option<NodeName>,
}

/// Reports the failure of `member` to Pacemaker. Blocks.
pub(crate) fn report(member: &Member, why: &str) {
    let Member {
        resource,
        node: Some(node),
    } = member
    else {
        log::error(format_args!("{}: {why}", member.resource));
        return;
    };
    log::error(format_args!(
        "{resource}: {why}; reporting its failure on {node}"
    ));
    if let Err(e) = tool::fail_resource(resource, node, Instant::now() + REPORT_LIMIT) {
        // The next monitor finds out.
        log::warn(e);
    }
}

/// Has Pacemaker forget that `member` was degraded: it shows that until somebody does. Blocks.
pub(crate) fn clean_up(member: &Member) {
    let Some(node) = &member.node else { return };
    let deadline = Instant::now() + REPORT_LIMIT;
    if let Err(e) = tool::clean_up(&member.resource, node, deadline) {
        // It is only a line too much in crm_mon.
        log::warn(e);
    }
}

/// Whether Pacemaker counts a failed start of `member` on its node, which to clean up would have it forget: it may have
/// been tried again since it left. That it was degraded is a line too much then. Blocks.
fn start_has_failed(member: &Member) -> bool {
    let Some(node) = &member.node else {
        return false;
    };
    let name = format!("fail-count-{}#start_0", member.resource);
    match tool::read_attribute(&name, Instant::now() + REPORT_LIMIT) {
        Ok(counts) => counts.get(node.as_str()).is_some_and(|count| count != "0"),
        Err(e) => {
            log::warn(e);
            false
        }
    }
}

/// How long after a resource has left it has surely arrived elsewhere: to clean up after it has the cluster look at
/// it anew.
const ARRIVED: Duration = Duration::from_secs(3);

/// How long a child may take to part from its parent, which takes some microseconds.
const PARTED: Duration = Duration::from_secs(1);

/// Has Pacemaker forget, in a while, that `member` was degraded here, which has left: nobody else would. Whoever
/// calls this may end meanwhile.
///
/// # Errors
/// As of [`job::fork`].
pub(crate) fn clean_up_later(member: Member) -> io::Result<Pid> {
    let (here, there) = Channel::pair()?;
    let work = || {
        let _ = nix::sys::prctl::set_pdeathsig(None);
        let _ = rustix::process::setsid();
        let _ = there.send(&(), None);
        // Pacemaker waits for the end of what an agent says, and so does the agent that stops a daemon.
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&null);
            let _ = rustix::stdio::dup2_stdout(&null);
            let _ = rustix::stdio::dup2_stderr(&null);
        }
        std::thread::sleep(ARRIVED);
        if !start_has_failed(&member) {
            clean_up(&member);
        }
        0
    };
    let pid = job::fork(c"berth-clean-up", &[&there], work)?;
    // This process may end at once, and a child that has not parted from it would end with it.
    let _ = wait_readable(&here, Instant::now() + PARTED);
    Ok(pid)
}
