//! Reports to Pacemaker outside of an agent's result: that a resource has failed, and that its degradation is over.

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
        // The next monitor will report it.
        log::warn(e);
    }
}

/// Has Pacemaker forget that `member` was degraded, which it would go on showing. Blocks.
pub(crate) fn clean_up(member: &Member) {
    let Some(node) = &member.node else { return };
    let deadline = Instant::now() + REPORT_LIMIT;
    if let Err(e) = tool::clean_up(&member.resource, node, deadline) {
        // A failure only leaves a line too many in crm_mon.
        log::warn(e);
    }
}

/// Whether Pacemaker counts a failed start of `member` on its node: it may have been tried again since it left. A
/// cleanup would make Pacemaker forget that, so the degradation stays in crm_mon then. Blocks.
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

/// How long after a resource has left this node it has surely arrived elsewhere: a cleanup makes the cluster probe it
/// anew.
const ARRIVED: Duration = Duration::from_secs(3);

/// How long a child may take to detach itself from its parent, which takes some microseconds.
const PARTED: Duration = Duration::from_secs(1);

/// Has Pacemaker forget, after a while, that `member`, which has left, was degraded here: nobody else would do that. A
/// child does it, so the caller may end meanwhile.
///
/// # Errors
/// As of [`job::fork`].
pub(crate) fn clean_up_later(member: Member) -> io::Result<Pid> {
    let (here, there) = Channel::pair()?;
    let work = || {
        let _ = nix::sys::prctl::set_pdeathsig(None);
        let _ = rustix::process::setsid();
        let _ = there.send(&(), None);
        // Pacemaker reads an agent's output to its end, and so does an agent that stops a daemon: the child must not
        // keep that open.
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
    // This process may end at once, and a child that is not detached yet would end with it.
    let _ = wait_readable(&here, Instant::now() + PARTED);
    Ok(pid)
}
