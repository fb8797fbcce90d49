//! PID 1 of a cell: attaches and detaches file systems, starts servers and reaps them.
//!
//! The keeper forks it, and the kernel kills it when the keeper ends. Children do whatever may block, so that PID 1 can
//! always take an order. When PID 1 is killed, the kernel ends everything in the cell.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::init::protocol::{Event, Numbered, Order};
use super::init::root::Root;
use super::network;
use super::refused::Refused;
use super::service::{self, ServerSpec};
use super::{names, owner};
use crate::log;
use crate::runtime::channel::{Channel, Received};
use crate::runtime::job::Job;
use crate::runtime::poller::Poller;
use crate::sys::{cgroup, keyring, message};
use crate::types::VserverName;
use detaching::Detaching;
use report::{report, report_panics};
use running::Server;

mod detaching;
mod report;
mod running;

/// The rank of PID 1 for the kernel's out-of-memory killer. Its end is that of the whole virtual server, so it comes
/// after any server process, but before the keeper, which has to report that end.
const OOM_SCORE: &CStr = c"-500";

/// How often PID 1 looks for strays while servers are being ended.
const STRAY_PAUSE: Duration = Duration::from_millis(5);

/// The whole life of a cell's PID 1; returns its exit code.
pub(crate) fn run(vserver: &VserverName, channel: &Channel) -> i32 {
    report_panics(channel);
    if let Err(e) = cgroup::set_oom_score(OOM_SCORE) {
        // PID 1 keeps the keeper's value then, which the keeper could not set either.
        log::debug(format_args!("PID 1: write oom_score_adj: {e}"));
    }
    match build(vserver, channel).and_then(|root| {
        let mut init = Init::new(root, channel)?;
        channel.send(&Event::Ready, None)?;
        init.serve()
    }) {
        Ok(()) => 0,
        Err(e) => {
            // A failure means that the keeper is gone, and there is nobody to report to.
            let _ = channel.send(&Event::Broken(e.to_string()), None);
            1
        }
    }
}

fn build(vserver: &VserverName, channel: &Channel) -> io::Result<Root> {
    keyring::leave().map_err(|e| message(e, "join a new session keyring"))?;
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(flags)?;
    nix::unistd::sethostname(vserver.as_str())?;
    network::harden()?;
    ipc::limit()?;
    channel.send(&Event::Separate, None)?;
    let root = Root::build()?;
    owner::leave_name(vserver)?;
    // No process in the cell may read the memory and descriptors of PID 1, whatever its rights.
    nix::sys::prctl::set_dumpable(false)?;
    Ok(root)
}

/// A child at work, and the number of its order.
struct Task {
    number: u64,
    job: Job<Result<Outcome, String>>,
}

/// The result of a child: what the servers do not serve, and a warning, if there is one.
type Outcome = (Vec<Refused>, Option<String>);

/// Servers being ended: the order, when it came, and the longest patience with one of them.
struct Halting {
    number: u64,
    since: Instant,
    patience: Duration,
}

struct Init<'a> {
    root: Root,
    channel: &'a Channel,
    signals: SignalFd,
    /// `/dev/null`, opened before anything else ran in the cell.
    null: OwnedFd,
    servers: Vec<Server>,
    tasks: Vec<Task>,
    /// Directories that are being detached, by the numbers of the orders.
    detaching: HashMap<u64, PathBuf>,
    /// Directories to be detached for which no child could be forked yet.
    unborn: Vec<Detaching>,
    halting: Option<Halting>,
}

impl<'a> Init<'a> {
    fn new(root: Root, channel: &'a Channel) -> io::Result<Self> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        children.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            root,
            channel,
            signals: SignalFd::with_flags(&children, flags)?,
            null: File::open("/dev/null")?.into(),
            servers: Vec::new(),
            tasks: Vec::new(),
            detaching: HashMap::new(),
            unborn: Vec::new(),
            halting: None,
        })
    }

    /// Serves until the keeper closes its end.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            while let Ok(Some(_)) = self.signals.read_signal() {}
            let now = Instant::now();
            for server in &mut self.servers {
                server.refuse(self.channel, now);
                server.forward_output(self.channel);
            }
            self.finish_rereading()?;
            self.finish_tasks()?;
            self.reap()?;
            self.detach_unborn()?;
            self.press_halt()?;
            loop {
                match self.channel.receive::<Numbered>()? {
                    Received::Nothing => break,
                    Received::Closed => return Ok(()),
                    Received::Message(Numbered { number, order }, fd) => {
                        self.carry_out(number, order, fd)?;
                    }
                }
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let mut poller = Poller::default();
        poller.read((), [self.channel.as_fd(), self.signals.as_fd()]);
        poller.read((), self.tasks.iter().map(|task| task.job.as_fd()));
        for server in &self.servers {
            poller.read((), server.output.as_ref().map(AsFd::as_fd));
            poller.until(server.rereads_until());
            if let Some(refusals) = &server.refusals {
                poller.read((), refusals.fd(now));
                poller.until(refusals.waits_until(now));
            }
        }
        poller.until(self.unborn.iter().map(Detaching::due));
        if self.halting.is_some() {
            // The end of a stray that is not PID 1's child is not signalled.
            poller.until([now + STRAY_PAUSE]);
        }
        poller.wait().map(drop)
    }

    fn carry_out(&mut self, number: u64, order: Order, fd: Option<OwnedFd>) -> io::Result<()> {
        match order {
            Order::Attach { directory } => {
                let result = match fd {
                    Some(mount) => self
                        .root
                        .attach(&mount, &directory)
                        .map_err(|e| e.to_string()),
                    None => Err("no mount came with the order".to_owned()),
                };
                self.done(number, result)
            }
            Order::Show { directory } => {
                let view = fd.ok_or_else(|| io::Error::other("no view came with the order"));
                let nobodies = self.root.nobodies();
                let shown = view.and_then(|view| names::show(&view, &directory, nobodies));
                let result = shown.map_err(|e| format!("{}: {e}", directory.display()));
                self.done(number, result)
            }
            Order::Detach {
                directory,
                patience,
            } => self.detach(Detaching::new(number, directory, patience)),
            Order::Prepare { home } => self.task_with(number, move || {
                prepare::prepare(&home).map(|warning| (Vec::new(), warning))
            }),
            Order::Configure { spec, exports } => {
                self.task(number, move || prepare::configure(&spec, &exports))
            }
            Order::Run {
                server,
                argv,
                limit,
            } => match self.running(&server) {
                Ok(server) => {
                    let like = server.launch.clone();
                    self.task(number, move || task::run(&argv, &like, limit))
                }
                Err(e) => self.done(number, Err(e)),
            },
            Order::Launch { spec, server } => self.launch(number, &spec, &server),
            Order::Reload { server, signal } => match self.reload(number, &server, signal) {
                Ok(()) => Ok(()),
                Err(e) => self.done(number, Err(e)),
            },
            Order::Inspect {
                spec,
                exports,
                patience,
            } => self.task_with(number, move || {
                Ok((task::inspect(&spec, &exports, patience), None))
            }),
            Order::Halt { patience } => {
                // In the reverse order of their start.
                for server in self.servers.iter().rev() {
                    let signal = Signal::try_from(server.launch.stop).unwrap_or(Signal::SIGTERM);
                    let _ = kill(server.pid, signal);
                }
                self.halting = Some(Halting {
                    number,
                    since: Instant::now(),
                    patience,
                });
                self.press_halt()
            }
        }
    }

    fn task(&mut self, number: u64, work: impl FnOnce() -> Result<(), String>) -> io::Result<()> {
        self.task_with(number, || work().map(|()| (Vec::new(), None)))
    }

    fn task_with(
        &mut self,
        number: u64,
        work: impl FnOnce() -> Result<Outcome, String>,
    ) -> io::Result<()> {
        match Job::spawn(c"berth-task", || (work(), None)) {
            Ok(job) => {
                self.tasks.push(Task { number, job });
                Ok(())
            }
            Err(e) => self.done(number, Err(e.to_string())),
        }
    }

    fn launch(&mut self, number: u64, spec: &ServerSpec, name: &str) -> io::Result<()> {
        if self.running(name).is_ok() {
            return self.done(number, Err(format!("{name} runs already")));
        }
        let Some(launch) = service::launches(spec).into_iter().find(|l| l.name == name) else {
            return self.done(number, Err(format!("{name} is none of the servers")));
        };
        let started = self.null.try_clone();
        match started.and_then(|null| server::spawn(&launch, null)) {
            Ok(started) => {
                let ready = launch.ready;
                self.servers.push(Server::new(launch, started, number));
                // The keeper has the deadline: it ends the wait with an order to halt.
                self.task(number, move || task::await_ready(ready))
            }
            Err(e) => self.done(number, Err(e.to_string())),
        }
    }

    fn running(&self, name: &str) -> Result<&Server, String> {
        let server = self.servers.iter().find(|s| s.launch.name == name);
        server.ok_or_else(|| format!("{name} does not run"))
    }

    fn reload(&mut self, number: u64, name: &str, signal: i32) -> Result<(), String> {
        let server = self.servers.iter_mut().find(|s| s.launch.name == name);
        let server = server.ok_or_else(|| format!("{name} does not run"))?;
        server.reload(number, signal)
    }

    fn finish_rereading(&mut self) -> io::Result<()> {
        for server in &mut self.servers {
            if let Some((number, result)) = server.reread(Instant::now()) {
                let result = result.map(|()| Vec::new());
                report(self.channel, &Event::Done { number, result })?;
            }
        }
        Ok(())
    }

    fn finish_tasks(&mut self) -> io::Result<()> {
        let mut at = 0;
        while at < self.tasks.len() {
            let Some(outcome) = self.tasks[at].job.outcome() else {
                at += 1;
                continue;
            };
            let number = self.tasks.swap_remove(at).number;
            if let Some(server) = self.servers.iter_mut().find(|s| s.starting == Some(number)) {
                server.starting = None;
            }
            let outcome = outcome.map_or_else(|e| Err(e.to_string()), |(result, _)| result);
            let (mut result, warning) = match outcome {
                Ok((refused, warning)) => (Ok(refused), warning),
                Err(e) => (Err(e), None),
            };
            if let Some(warning) = warning {
                self.report(&Event::Warned(warning))?;
            }
            for refused in result.iter_mut().flatten().filter(|r| r.definite) {
                if let Ok(server) = self.running(service::server_of(refused.protocol)) {
                    server.explain(refused);
                }
            }
            if let Some(directory) = self.detaching.remove(&number) {
                if result.is_ok() {
                    self.root.forget(&directory);
                }
            }
            self.report(&Event::Done { number, result })?;
        }
        Ok(())
    }

    /// Reaps servers, finished tasks, and the orphans of both.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("signal {signal}")),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            if let Some(at) = self.servers.iter().position(|s| s.pid == pid) {
                let mut server = self.servers.remove(at);
                server.forward_output(self.channel);
                self.report_exit(server, how)?;
            }
        }
    }

    /// Reports the end of a server: to the order that waits for it, or else as an event.
    fn report_exit(&mut self, server: Server, how: String) -> io::Result<()> {
        let how = server.why(how);
        if let Some(number) = server.rereads_for() {
            self.done(number, Err(format!("{} ended: {how}", server.launch.name)))?;
        }
        if let Some(number) = server.starting {
            // The server will never answer: the child that waits for it is killed.
            if let Some(at) = self.tasks.iter().position(|t| t.number == number) {
                self.tasks.swap_remove(at).job.kill();
            }
            return self.done(number, Err(format!("{} ended: {how}", server.launch.name)));
        }
        match self.halting {
            Some(_) => Ok(()),
            None => self.report(&Event::Died {
                server: server.launch.name,
                how,
            }),
        }
    }

    /// While servers are being ended: kills those whose time is up, and reports when all are gone.
    fn press_halt(&mut self) -> io::Result<()> {
        let Some(Halting {
            number,
            since,
            patience,
        }) = self.halting
        else {
            return Ok(());
        };
        let tasks: Vec<Pid> = self.tasks.iter().map(|t| t.job.pid()).collect();
        let strays = task::strays(&tasks).map_err(|e| crate::sys::message(e, "read /proc"))?;
        if self.servers.is_empty() && strays.is_empty() {
            self.halting = None;
            return self.done(number, Ok(()));
        }
        for server in &self.servers {
            if since.elapsed() >= server.launch.patience.min(patience) {
                let _ = kill(server.pid, Signal::SIGKILL);
            }
        }
        // Nobody is left who could ask the processes that servers have left behind to end: they are killed.
        if self.servers.is_empty() {
            for pid in strays {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        Ok(())
    }

    fn done(&self, number: u64, result: Result<(), String>) -> io::Result<()> {
        let result = result.map(|()| Vec::new());
        self.report(&Event::Done { number, result })
    }

    fn report(&self, event: &Event) -> io::Result<()> {
        report(self.channel, event)
    }
}

pub(crate) mod host_tree;
pub(crate) mod ipc;
pub(crate) mod output;
pub mod owners;
pub(crate) mod prepare;
pub(crate) mod protocol;
pub(crate) mod root;
pub(crate) mod server;
pub(crate) mod state_directory;
pub(crate) mod task;
#[cfg(test)]
mod tests;
