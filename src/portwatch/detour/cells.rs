//! The network namespaces of cells whose VIPs other nodes route.
//!
//! Children ask the keepers: otherwise a keeper that hangs would keep the daemon from moving anybody's VIPs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cell::client;
use crate::runtime::job::{self, Job};
use crate::types::VserverName;

/// How long a keeper may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The cell's network namespace, or why it can't be opened.
type Found = Result<OwnedFd, String>;

/// The cells that keepers are being asked for, and those that were found.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    asked: BTreeMap<VserverName, Job<Result<(), String>>>,
    found: BTreeMap<VserverName, Found>,
    leftover: Vec<Pid>,
}

impl Cells {
    /// Has a child look for a virtual server's cell, unless that is done already. If no child can be started, that is
    /// the result, at once.
    pub(crate) fn find(&mut self, vserver: &VserverName) {
        if !self.found.contains_key(vserver) && !self.asked.contains_key(vserver) {
            self.ask(vserver);
        }
    }

    /// The network namespace of a virtual server's cell, or why it can't be opened; `None` if that is not known yet.
    pub(crate) fn network(&self, vserver: &str) -> Option<Result<BorrowedFd<'_>, &str>> {
        let found = self.found.get(vserver)?;
        Some(found.as_ref().map(AsFd::as_fd).map_err(String::as_str))
    }

    fn ask(&mut self, vserver: &VserverName) {
        let name = vserver.clone();
        let find = move || match client::find_within(&name, Instant::now() + LIMIT) {
            Ok(Some(cell)) => (Ok(()), Some(cell.netns)),
            Ok(None) => (Err(format!("{name}'s cell has ended")), None),
            Err(e) => (Err(e.to_string()), None),
        };
        match Job::spawn(c"berth-find", find) {
            Ok(job) => drop(self.asked.insert(vserver.clone(), job)),
            Err(e) => drop(self.found.insert(vserver.clone(), Err(e.to_string()))),
        }
    }

    /// The descriptors to poll for input: [`Self::advance`] is due then.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.asked.values().map(AsFd::as_fd)
    }

    /// Takes the children's results. Returns the virtual servers whose result has come in since the last call.
    pub(crate) fn advance(&mut self) -> Vec<VserverName> {
        self.leftover.retain(|pid| !job::reap(*pid));
        let mut over = Vec::new();
        let (found, leftover) = (&mut self.found, &mut self.leftover);
        self.asked.retain(|vserver, job| {
            let Some(outcome) = job.outcome() else {
                return true;
            };
            leftover.push(job.pid());
            found.insert(vserver.clone(), network_of(outcome));
            over.push(vserver.clone());
            false
        });
        over
    }

    /// Closes the cell: the next time the virtual server may have another one.
    pub(crate) fn forget(&mut self, vserver: &str) {
        self.found.remove(vserver);
    }
}

fn network_of(outcome: io::Result<job::Outcome<Result<(), String>>>) -> Found {
    match outcome {
        Ok((Ok(()), Some(network))) => Ok(network),
        Ok((Ok(()), None)) => Err("the keeper's answer has come without the network".to_owned()),
        Ok((Err(why), _)) => Err(why),
        Err(e) => Err(format!("look for the cell: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::paths::RUNTIME;
    use std::fs;

    use super::*;
    use crate::cell::protocol;
    use crate::cell::protocol::{KEEPER, Reply, Request};
    use crate::runtime::channel::Channel;
    use crate::runtime::daemon;
    use crate::sys::poll::wait_readable;

    const VSERVER: &str = "t-watch-hangs";

    /// It is the keeper too.
    fn ask_a_keeper_that_hangs() {
        rustix::thread::set_name(c"berth-keeper").unwrap();
        assert_eq!(KEEPER, "berth-keeper");
        daemon::private_directory(RUNTIME.as_ref()).unwrap();
        let (mut cells, vserver) = (Cells::default(), VSERVER.into());
        let directory = protocol::directory(&vserver);
        daemon::private_directory(&directory).unwrap();
        let listener = daemon::listen(&protocol::socket(&vserver)).unwrap();
        // It has not even taken the connection.
        cells.find(&vserver);
        cells.find(&vserver);
        assert!(cells.network(VSERVER).is_none());
        assert!(cells.advance().is_empty());
        let soon = Instant::now() + Duration::from_secs(10);
        wait_readable(&listener, soon).unwrap();
        let keeper = Channel::new(rustix::net::accept(&listener).unwrap()).unwrap();
        let (request, _) = keeper.wait::<Request>(soon).unwrap();
        assert!(matches!(request, Request::Find));
        assert_eq!(cells.fds().count(), 1, "it is asked once");
        keeper.send(&Reply::NoCell, None).unwrap();
        wait_readable(&cells.fds().next().unwrap(), soon).unwrap();
        assert_eq!(cells.advance(), [VSERVER]);
        assert!(cells.fds().next().is_none());
        let found = cells.network(VSERVER).unwrap();
        assert_eq!(found.unwrap_err(), "t-watch-hangs's cell has ended");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_keeper_that_does_not_answer_is_not_waited_for() {
        // SAFETY: no other test takes a lock that this work takes.
        assert!(unsafe { job::passes_alone(ask_a_keeper_that_hangs) });
    }
}
