//! Power, disks and cables of one machine.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::disk::DiskPath;
use super::network;
use crate::enter;
use crate::error::{Context, Error, Result};
use crate::machine::{CABLED, Setup, UP, groups};
use crate::plan::{Host, Plan, Port};
use crate::process::command;
use crate::protocol::{Cable, MachineState};
use crate::system::System;
use crate::wait::{holds, wait_for};

const BOOT_LIMIT: Duration = Duration::from_secs(40);
const DEATH_LIMIT: Duration = Duration::from_secs(20);

/// Where the files of a lab are, for the warden.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directory with `images/`, `paths/`, `layer/` and one directory per machine.
    pub private: PathBuf,
    /// Directory that the host sees, for the machines' consoles.
    pub state: PathBuf,
    /// The power switch's socket.
    pub switch: PathBuf,
}

/// A machine as seen from outside.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    lab: String,
    system: System,
    places: Places,
    running: Option<Running>,
    disks: Vec<String>,
    paths: BTreeMap<String, DiskPath>,
    lost_paths: Vec<String>,
    cables: BTreeMap<String, Cable>,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    handle: OwnedFd,
    /// The control group that all of it is in.
    groups: Option<PathBuf>,
}

impl Machine {
    /// A machine without power.
    pub fn new(plan: &Plan, host: Host, places: Places) -> Self {
        let disks = if host.cluster {
            plan.disks.clone()
        } else {
            vec![]
        };
        Self {
            host,
            lab: plan.name.clone(),
            system: plan.system.clone(),
            places,
            running: None,
            disks,
            paths: BTreeMap::new(),
            lost_paths: vec![],
            cables: BTreeMap::new(),
        }
    }

    /// Whether it is a cluster node.
    pub fn is_node(&self) -> bool {
        self.host.cluster
    }

    /// A handle of its PID 1.
    ///
    /// # Errors
    /// If it has no power.
    pub fn handle(&self) -> Result<&OwnedFd> {
        match &self.running {
            Some(running) if !enter::has_ended(&running.handle) => Ok(&running.handle),
            _ => Err(Error::new(format!("{} has no power", self.host.name))),
        }
    }

    /// What there is to say of it.
    pub fn state(&self) -> MachineState {
        let cables = self
            .cables
            .iter()
            .filter(|(_, state)| **state != Cable::Good);
        let cables = cables.map(|(port, state)| format!("{port} {state:?}").to_lowercase());
        let disks = self.lost_paths.iter().map(|disk| format!("{disk} cut"));
        MachineState {
            on: self.handle().is_ok(),
            disks: self
                .paths
                .iter()
                .map(|(disk, p)| (disk.clone(), p.loop_number()))
                .collect(),
            faults: cables.chain(disks).collect(),
        }
    }

    /// Gives it power, and waits until everything in it has been started. Does nothing if it is on.
    ///
    /// # Errors
    /// Says which part did not come up; the machine is off then.
    pub fn boot(&mut self) -> Result<()> {
        if self.handle().is_ok() {
            return Ok(());
        }
        self.crash()?;
        let booted = self.open_paths().and_then(|()| self.start());
        if booted.is_err() {
            self.crash()?;
        }
        booted.context(format!("boot {}", self.host.name))
    }

    fn open_paths(&mut self) -> Result<()> {
        for disk in &self.disks {
            let image = self.places.private.join("images").join(disk);
            let name = format!("{}-{disk}", self.host.name);
            let label = format!("{}{}:{disk}", label_prefix(&self.lab), self.host.name);
            let path = DiskPath::open(
                &image,
                &self.places.private.join("paths").join(name),
                &label,
            )?;
            path.set_good(!self.lost_paths.contains(disk));
            self.note_loop(path.loop_number())?;
            self.paths.insert(disk.clone(), path);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let place = self.places.private.join("machines").join(&self.host.name);
        fs::create_dir_all(&place).context(place.display())?;
        let console = self.places.state.join(format!("{}.log", self.host.name));
        let console = OpenOptions::new().create(true).append(true).open(&console);
        let mut child = command("/proc/self/exe")
            .arg("machine")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(console.context("open the console's log")?)
            .spawn()
            .context("start the machine")?;
        let mut input = child
            .stdin
            .take()
            .ok_or_else(|| Error::new("no standard input"))?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| Error::new("no standard output"))?;
        let lines = read_lines(output);
        let setup = Setup {
            host: self.host.clone(),
            place,
            system: self.system.clone(),
            layer: self.places.private.join("layer"),
            disks: self
                .paths
                .iter()
                .map(|(d, p)| (d.clone(), p.loop_number()))
                .collect(),
            switch: self.places.switch.clone(),
            groups: groups::make(&self.lab, &self.host.name),
        };
        let text = serde_json::to_string(&setup).context("encode the machine's set-up")?;
        writeln!(input, "{text}").context("tell the machine what it is")?;
        let deadline = Instant::now() + BOOT_LIMIT;
        let pid = line(&lines, deadline, "the machine's PID 1")?;
        let pid: i32 = pid.parse().context("the machine's PID 1")?;
        child.wait().context("start the machine")?;
        self.running = Some(Running {
            pid: Pid::from_raw(pid),
            handle: enter::handle(pid)?,
            groups: setup.groups,
        });
        network::plug(&self.host, pid)?;
        for port in &self.host.ports {
            let state = self.cables.get(&port.name).copied().unwrap_or(Cable::Good);
            if state != Cable::Good {
                network::set_cable(&self.host, port, state)?;
            }
        }
        writeln!(input, "{CABLED}").context("tell the machine that it has cables")?;
        match line(&lines, deadline, "the machine to be up")?.as_str() {
            UP => Ok(()),
            other => Err(Error::new(format!("expected {UP:?}, it said {other:?}"))),
        }
    }

    /// A power failure: first nobody hears it any more; then it loses its disks, so that nothing it
    /// had not written is written while the kernel takes its mounts apart; then all its processes are
    /// killed at once.
    ///
    /// # Errors
    /// If a process or a device of it is still there after a while.
    pub fn crash(&mut self) -> Result<()> {
        if self.running.is_some() {
            // Or a server might still tell its clients that its disk has failed.
            network::silence(&self.host);
        }
        for path in self.paths.values() {
            path.set_good(false);
        }
        if let Some(running) = self.running.take() {
            // It may have ended by itself.
            let _ = kill(running.pid, Signal::SIGKILL);
            let name = &self.host.name;
            wait_for(format_args!("{name} to be dead"), DEATH_LIMIT, || {
                holds(enter::has_ended(&running.handle), "still alive")
            })?;
            waitpid(running.pid, None).context(format!("reap {name}"))?;
            if let Some(group) = &running.groups {
                groups::remove(group);
            }
            network::unplug(&self.host);
        }
        let paths = std::mem::take(&mut self.paths);
        let closed: Vec<_> = paths.into_values().map(DiskPath::close).collect();
        closed
            .into_iter()
            .collect::<Result<_>>()
            .context(format!("disks of {}", self.host.name))
    }

    /// Puts the cable of the port called `name` into `state`.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn set_cable(&mut self, name: &str, state: Cable) -> Result<()> {
        let port = self.port(name)?.clone();
        self.cables.insert(name.to_owned(), state);
        match self.running {
            Some(_) => network::set_cable(&self.host, &port, state),
            None => Ok(()),
        }
    }

    /// Puts another card into the port called `name`: an interface that has to be set up anew.
    ///
    /// # Errors
    /// If there is no such port, or the machine has no power.
    pub fn replace(&mut self, name: &str) -> Result<()> {
        let port = self.port(name)?.clone();
        match &self.running {
            Some(running) => network::replace(&self.host, &port, running.pid.as_raw()),
            None => Err(Error::new(format!("{} has no power", self.host.name))),
        }
    }

    fn port(&self, name: &str) -> Result<&Port> {
        let found = self.host.ports.iter().find(|p| p.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.host.ports.iter().map(|p| p.name.as_str()).collect();
            let all = names.join(" ");
            Error::new(format!(
                "{} has no port {name:?}; its ports: {all}",
                self.host.name
            ))
        })
    }

    /// Breaks the path to `disk`, or makes it work again.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn set_path(&mut self, disk: &str, good: bool) -> Result<()> {
        if !self.disks.iter().any(|d| d == disk) {
            let all = self.disks.join(" ");
            let name = &self.host.name;
            return Err(Error::new(format!(
                "{name} has no disk {disk:?}; its disks: {all}"
            )));
        }
        self.lost_paths.retain(|d| d != disk);
        if !good {
            self.lost_paths.push(disk.to_owned());
        }
        if let Some(path) = self.paths.get(disk) {
            path.set_good(good);
        }
        Ok(())
    }

    /// Leaves a trace of the loop device for those who clear up after a killed warden.
    fn note_loop(&self, number: u32) -> Result<()> {
        let path = self.places.state.join(LOOPS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        writeln!(file.context(path.display())?, "{number}").context(path.display())
    }
}

/// In the lab's directory: numbers of the loop devices that it once had.
pub const LOOPS: &str = "loops";

/// What the labels of a lab's loop devices begin with.
pub fn label_prefix(lab: &str) -> String {
    format!("berth-lab:{lab}:")
}

fn read_lines(pipe: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn line(lines: &Receiver<String>, deadline: Instant, what: &str) -> Result<String> {
    let left = deadline.saturating_duration_since(Instant::now());
    lines.recv_timeout(left).map_err(|_| {
        Error::new(format!(
            "waited for {what} in vain; its console's log says why"
        ))
    })
}
