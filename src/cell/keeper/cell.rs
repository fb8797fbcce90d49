//! The keeper's handle on its cell: PID 1, the orders given to it, and the cell's network namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::cell::init::protocol::{Event, Numbered, Order};
use crate::cell::{init, network};
use crate::log;
use crate::runtime::channel::{Channel, Received};
use crate::runtime::job;
use crate::sys::cgroup::Group;
use crate::sys::namespace;
use crate::sys::nft::CellFilter;
use crate::types::VserverName;

/// A cell, from the fork of its PID 1 on.
#[derive(Debug)]
pub(crate) struct Cell {
    /// The process id of PID 1 on the host.
    pub(crate) pid: Pid,
    process: OwnedFd,
    channel: Channel,
    network: Option<OwnedFd>,
    /// The filter on what the cell may send to the node itself: there before the cell's interface, and as long as it
    /// is.
    filter: Option<CellFilter>,
    /// Whether PID 1 has not taken an order: none is given any more.
    stuck: bool,
    /// The control group of all processes in the cell.
    group: Option<Group>,
}

impl Cell {
    /// Starts PID 1 in `group`, which no cell has been in yet if `is_new`, and in a PID namespace of its own. PID 1
    /// builds the rest of the cell.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn spawn(
        vserver: &VserverName,
        group: Option<Group>,
        is_new: bool,
    ) -> io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let home = File::open("/proc/self/ns/pid")?;
        let inside = group.as_ref().filter(|_| is_new);
        let inside = inside.and_then(|group| group.open().ok());
        let run = |group: Option<&Group>| {
            if let Some(Err(e)) = group.map(|group| group.entrance()?.enter()) {
                // A cell without limits is better than none. PID 1 can log only by way of the keeper.
                let said = Event::Said {
                    server: "PID 1".to_owned(),
                    line: format!("limits of {vserver} are not in force: {e}"),
                };
                let _ = there.send(&said, None);
            }
            init::run(vserver, &there)
        };
        let name = c"berth-init";
        // This affects children only: this process stays in its own PID namespace.
        unshare(CloneFlags::CLONE_NEWPID)?;
        let born =
            inside.map(|inside| job::fork_into(Some(&inside), name, &[&there], || run(None)));
        let pid = match born {
            Some(Ok(pid)) => Ok(pid),
            _ => job::fork(name, &[&there], || run(group.as_ref())),
        };
        if setns(&home, CloneFlags::CLONE_NEWPID).is_err() {
            // Otherwise every later child would be born into the cell.
            std::process::abort();
        }
        let pid = pid?;
        let process = namespace::open_process(pid.as_raw())?;
        Ok(Self {
            pid,
            process,
            channel: here,
            network: None,
            filter: None,
            stuck: false,
            group,
        })
    }

    /// Readable when PID 1 has something to report.
    pub(crate) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Readable when PID 1 has ended.
    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Whether PID 1 lives.
    pub(crate) fn is_alive(&self) -> bool {
        namespace::is_alive(self.process.as_fd())
    }

    /// The cell's network namespace, once it is connected.
    pub(crate) fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }

    /// Connects the network of a cell whose namespaces have just been made.
    ///
    /// # Errors
    /// The step that failed.
    pub(crate) fn connect(&mut self, vserver: &VserverName) -> io::Result<()> {
        let network = namespace::open_network_of(self.pid.as_raw(), self.process.as_fd())?;
        let filter = network::connect(vserver, &network)?;
        if !filter.is_owned() {
            log::warn(format_args!(
                "{filter:?} can be flushed: this kernel has no tables with an owner"
            ));
        }
        (self.network, self.filter) = (Some(network), Some(filter));
        Ok(())
    }

    /// Gives PID 1 an order. If PID 1 does not take it, no other order is given any more.
    ///
    /// # Errors
    /// If PID 1 does not take the order: it is dead or stuck.
    pub(crate) fn give(
        &mut self,
        number: u64,
        order: Order,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        if self.stuck {
            return Err(io::Error::other("the cell's PID 1 has not taken an order"));
        }
        let given = self.offer(number, order, fd);
        self.stuck = given.is_err();
        given
    }

    /// Gives PID 1 an order that nothing depends on.
    ///
    /// # Errors
    /// If PID 1 does not take the order.
    pub(crate) fn offer(
        &self,
        number: u64,
        order: Order,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.channel
            .send(&Numbered { number, order }, fd)
            .map_err(|e| crate::sys::message(e, "give an order to the cell's PID 1"))
    }

    /// The next report of PID 1; `None` if there is none.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub(crate) fn next_report(&self) -> io::Result<Option<Event>> {
        Ok(match self.channel.receive()? {
            Received::Message(event, _) => Some(event),
            // The end of PID 1 is noticed by its pidfd.
            Received::Nothing | Received::Closed => None,
        })
    }

    /// Ends everything in the cell.
    pub(crate) fn kill(&self) {
        // A failure means that PID 1 is dead already.
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL);
        // A process that has joined the cell from outside may not be in its PID namespace: it does not end with PID 1.
        if let Some(Err(e)) = self.group.as_ref().map(Group::kill) {
            log::warn(e);
        }
    }
}
