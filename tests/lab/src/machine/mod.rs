//! A machine: a set of namespaces whose PID 1 is this program. It builds its root directory, waits
//! for its cables to be plugged in, configures its network, starts the cluster stack where it is a
//! node, and from then on reaps orphans.

pub mod groups;
mod root;

pub use root::SWITCH;

use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sched::unshare;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, sethostname};
use serde::{Deserialize, Serialize};

use crate::enter::NAMESPACES;
use crate::error::{Context, Error, Result};
use crate::plan::Host;
use crate::process::{command, run};
use crate::system::System;
use crate::wait::{holds, wait_for};

const NETWORK_LIMIT: Duration = Duration::from_secs(10);
const COROSYNC_LIMIT: Duration = Duration::from_secs(20);
/// What the cluster and its agents write on a node.
pub const LOG: &str = "/var/log/pacemaker/pacemaker.log";
/// Said on standard output when everything of the machine has been started.
pub const UP: &str = "up";
/// Sent to the machine when its cables are plugged in.
pub const CABLED: &str = "cabled";

/// What a machine is told by whoever gives it power.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// What it is.
    pub host: Host,
    /// Directory for its root and for what is written there.
    pub place: PathBuf,
    /// The system whose programs it runs.
    pub system: System,
    /// What all machines have on top of the system's own files.
    pub layer: PathBuf,
    /// Loop device number of each of its disks.
    pub disks: Vec<(String, u32)>,
    /// The power switch's socket.
    pub switch: PathBuf,
    /// The control group that all of it is in.
    pub groups: Option<PathBuf>,
}

/// Becomes a machine, as told by the first line of standard input. Prints the number of PID 1, then
/// [`UP`].
///
/// # Errors
/// If a part of it can't be built; PID 1 has ended then, and so has the machine.
pub fn main() -> Result<()> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("read the machine's set-up")?;
    let setup: Setup = serde_json::from_str(&line).context("read the machine's set-up")?;
    if let Some(group) = &setup.groups {
        groups::enter(group)?;
    }
    unshare(NAMESPACES).context("make namespaces")?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("start PID 1")? {
        ForkResult::Parent { child } => say(&child.to_string()),
        ForkResult::Child => live(&setup),
    }
}

fn live(setup: &Setup) -> Result<()> {
    let name = &setup.host.name;
    sethostname(name).context("set the host name")?;
    root::build(setup)?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .context("wait for cables")?;
    if line.trim_end() != CABLED {
        return Err(Error::new(format!(
            "{name}: expected {CABLED:?}, was told {line:?}"
        )));
    }
    configure_network(&setup.host)?;
    if setup.host.cluster {
        start_cluster()?;
    }
    reap_forever()
}

/// From now on the kernel reaps what ends here, orphans included. Only now, because programs inherit
/// it and some can't live with it.
fn reap_forever() -> Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.context("ignore SIGCHLD")?;
    let any = Pid::from_raw(-1);
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(any, Some(WaitPidFlag::WNOHANG))
    {}
    say(UP)?;
    loop {
        nix::unistd::pause();
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("report")
}

fn configure_network(host: &Host) -> Result<()> {
    if host.forwards {
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = Path::new("/proc/sys/net").join(switch);
            fs::write(&path, "1").context(path.display())?;
        }
    }
    let mut batch = String::from("link set lo up\n");
    for port in &host.ports {
        batch += &format!("link set {} up\n", port.name);
        for address in &port.addresses {
            let quick = if address.contains(':') { "nodad" } else { "" };
            batch += &format!("addr add {address} dev {} {quick}\n", port.name);
        }
    }
    for gateway in &host.gateways {
        batch += &format!("route add default via {gateway}\n");
    }
    let mut ip = command("ip");
    ip.args(["-batch", "-"]);
    run(ip, &batch, NETWORK_LIMIT)?.check("configure the network")?;
    Ok(())
}

/// Starts Corosync, then Pacemaker, as children of PID 1: nothing restarts them, so what kills one
/// of them stays dead, as on a node without a supervisor.
fn start_cluster() -> Result<()> {
    daemon("corosync", &["-f"], "/var/log/cluster/corosync.out")?;
    wait_for("Corosync to listen", COROSYNC_LIMIT, || {
        let sockets = fs::read_to_string("/proc/net/unix").context("/proc/net/unix")?;
        // Names of abstract sockets are shown padded.
        let listens = sockets
            .lines()
            .any(|l| l.trim_end_matches('@').ends_with("@quorum"));
        holds(listens, Error::new("no socket of it"))
    })?;
    daemon("pacemakerd", &[], "/var/log/pacemaker/pacemakerd.out")
}

fn daemon(program: &str, args: &[&str], log: &str) -> Result<()> {
    let out = fs::File::create(log).context(log)?;
    let err = out.try_clone().context(log)?;
    command(program)
        .args(args)
        .env("PCMK_logfacility", "none")
        .env("PCMK_logfile", LOG)
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .process_group(0)
        .spawn()
        .context(format!("start {program}"))?;
    Ok(())
}
