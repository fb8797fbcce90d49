//! Using a lab: bringing it up, doing things in it and to it, taking it down.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::enter;
use crate::error::{Context, Error, Result};
use crate::lifetime;
use crate::machine::LOG;
use crate::plan::{Plan, state};
use crate::process::{self, Output};
use crate::protocol::{Cable, Connection, Reply, Request};
use crate::system::System;
use crate::wait::{holds, wait_for};
use crate::warden;

const CLUSTER_LIMIT: Duration = Duration::from_secs(60);
const EXEC_LIMIT: Duration = Duration::from_secs(60);
const PLAN: &str = "plan.json";

/// The environment variable that names the root file system of a lab's machines, for demo, bench and
/// tests alike.
pub const ROOT_VARIABLE: &str = "BERTH_LAB_ROOT";

/// The environment variable that names the directory for the logs of labs whose test fails.
const LOGS_VARIABLE: &str = "BERTH_LAB_LOGS";
/// How much of the end of a log is kept, in bytes.
const LOG_LIMIT: &str = "4000000";

/// How a lab is brought up.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it consists of.
    pub plan: Plan,
    /// Says nothing about its progress.
    pub quiet: bool,
    /// The `lab` program; by default this program, if it is `lab`, or the one built beside it.
    pub program: Option<PathBuf>,
}

impl Options {
    /// The usual lab, under this name, of the system that [`ROOT_VARIABLE`] names, if it names one.
    pub fn new(name: &str) -> Self {
        let named = std::env::var_os(ROOT_VARIABLE).filter(|dir| !dir.is_empty());
        Self {
            plan: Plan {
                system: named.map_or_else(System::default, System::at),
                ..Plan::new(name)
            },
            quiet: false,
            program: None,
        }
    }
}

/// A lab that is up. Dropping it takes it down, unless it is kept.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    kept: bool,
    quiet: bool,
    started: Instant,
    /// The lab ends with this connection, unless it is kept.
    holder: Option<Connection>,
}

impl Lab {
    /// Builds a lab, boots its nodes and waits until they are one cluster with working fencing.
    /// What earlier labs left behind after being killed is cleared away first.
    ///
    /// # Errors
    /// If one of that name is up, something is missing on this machine, or a part does not come up
    /// in time. Nothing is left of the lab then.
    pub fn up(options: &Options) -> Result<Self> {
        options.plan.check()?;
        lifetime::check(&options.plan.system)?;
        let program = match &options.program {
            Some(program) => program.clone(),
            None => lifetime::find_program()?,
        };
        let name = &options.plan.name;
        let _lock = lifetime::lock(name)?;
        lifetime::refuse_another(name)?;
        lifetime::sweep(name)?;
        let mut lab = Self {
            plan: options.plan.clone(),
            kept: false,
            quiet: options.quiet,
            started: Instant::now(),
            holder: None,
        };
        let built = lab.build(&program);
        if let Err(e) = built {
            // The lock is held here, so the value must not take the lab down once more when dropped.
            lab.kept = true;
            lab.report_logs();
            let end = lifetime::end(name);
            return Err(match end {
                Ok(()) => e,
                Err(end) => Error::new(format!("{e}; then, taking lab {name} down: {end}")),
            });
        }
        Ok(lab)
    }

    /// A lab that is up already. It is not taken down when the value is dropped.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn attach(name: &str) -> Result<Self> {
        let state = state(name);
        if warden::alive(&state).is_none() {
            let line = format!("no lab {name} is up; `lab up --name {name}` starts one");
            return Err(Error::new(line));
        }
        let file = state.join(PLAN);
        let text = fs::read_to_string(&file).context(file.display())?;
        Ok(Self {
            plan: serde_json::from_str(&text).context(file.display())?,
            kept: true,
            quiet: false,
            started: Instant::now(),
            holder: None,
        })
    }

    fn build(&mut self, program: &Path) -> Result<()> {
        let state = self.plan.state();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&state)
            .context(state.display())?;
        let text = serde_json::to_string(&self.plan).context("encode the plan")?;
        fs::write(state.join(PLAN), &text).context("write the plan")?;
        self.say("networks, disks, clients");
        lifetime::start_warden(program, &state, &text)?;
        let holder = self.connect()?;
        holder.ask(&Request::Hold)?;
        self.holder = Some(holder);
        let nodes = self.plan.node_names();
        self.say(&format!("power to {}", nodes.join(" ")));
        thread::scope(|scope| {
            let boots: Vec<_> = nodes.iter().map(|n| scope.spawn(|| self.boot(n))).collect();
            let join = |boot: thread::ScopedJoinHandle<'_, Result<()>>| {
                boot.join()
                    .unwrap_or_else(|_| Err(Error::new("boot panicked")))
            };
            boots.into_iter().try_for_each(join)
        })?;
        self.wait_for_cluster(&nodes)?;
        self.say("one cluster, fencing works");
        Ok(())
    }

    /// Prints the ends of the lab's logs, before they are cleared away.
    fn report_logs(&self) {
        let entries = fs::read_dir(self.plan.state())
            .into_iter()
            .flatten()
            .flatten();
        for path in entries
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "log"))
        {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(5)..] {
                self.say(&format!("{}: {line}", path.display()));
            }
        }
    }

    /// Keeps the nodes' logs for whoever looks for the cause of a test's failure, where
    /// [`LOGS_VARIABLE`] says.
    fn save_logs(&self) {
        let Some(directory) = std::env::var_os(LOGS_VARIABLE).map(PathBuf::from) else {
            return;
        };
        for node in self.plan.node_names() {
            let words = ["tail", "-c", LOG_LIMIT, LOG];
            let text = match self.exec(&node, &words) {
                Ok(output) => output.stdout,
                Err(e) => e.to_string(),
            };
            let file = directory.join(format!("{}-{node}.log", self.plan.name));
            match fs::create_dir_all(&directory).and_then(|()| fs::write(&file, text)) {
                Ok(()) => eprintln!("log of {node}: {}", file.display()),
                Err(e) => eprintln!("log of {node}: {}: {e}", file.display()),
            }
        }
    }

    /// What it consists of.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Prints a line about progress, with the seconds since the lab was started.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            let seconds = self.started.elapsed().as_secs_f64();
            eprintln!("[{seconds:6.2} s] {line}");
        }
    }

    /// Waits until `nodes` are members of one quorate cluster that has a controller and an active
    /// fence device.
    ///
    /// # Errors
    /// If they are not, a minute later.
    pub fn wait_for_cluster(&self, nodes: &[String]) -> Result<()> {
        let first = nodes
            .first()
            .ok_or_else(|| Error::new("no node to wait for"))?;
        let what = format!("{} to be one cluster", nodes.join(" "));
        wait_for(what, CLUSTER_LIMIT, || {
            let text = self.exec(first, &["crm_mon", "-1", "--output-as=xml"])?;
            cluster_is_up(&text.check("crm_mon")?.stdout, nodes)
        })
    }

    /// Runs a program on a machine, a minute at most. That it fails is no error here: see
    /// [`Output::check`].
    ///
    /// # Errors
    /// If the machine has no power, or the program can't be started or takes too long.
    pub fn exec(&self, machine: &str, words: &[&str]) -> Result<Output> {
        self.exec_within(machine, words, EXEC_LIMIT)
    }

    /// As [`Lab::exec`], with another limit.
    ///
    /// # Errors
    /// As [`Lab::exec`].
    pub fn exec_within(&self, machine: &str, words: &[&str], limit: Duration) -> Result<Output> {
        let command = self.command(machine, words)?;
        process::run(command, "", limit).context(format!("{machine}: {}", words.join(" ")))
    }

    /// Writes a file on a machine.
    ///
    /// # Errors
    /// If the machine has no power, or the file can't be written.
    pub fn write(&self, machine: &str, path: &str, text: &str) -> Result<()> {
        let command = self.command(machine, &["sh", "-c", "cat > \"$0\"", path])?;
        let what = format!("{machine}: write {path}");
        process::run(command, text, EXEC_LIMIT).and_then(|o| o.check(what))?;
        Ok(())
    }

    /// Copies the file `from` to `path` on a machine.
    ///
    /// # Errors
    /// As [`Lab::write`], and if `from` can't be read.
    pub fn send(&self, machine: &str, from: &Path, path: &str) -> Result<()> {
        let mut command = self.command(machine, &["sh", "-c", "cat > \"$0\"", path])?;
        command.stdin(File::open(from).context(from.display())?);
        let what = format!("{machine}: write {path}");
        process::run(command, "", EXEC_LIMIT).and_then(|o| o.check(what))?;
        Ok(())
    }

    /// A command that will run on a machine, its standard streams still to be chosen.
    ///
    /// # Errors
    /// If the machine has no power.
    pub fn command(&self, machine: &str, words: &[&str]) -> Result<Command> {
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Error::new("no program was named"))?;
        let mut command = process::command(program);
        command.args(args);
        enter::enter(&mut command, self.handle(machine)?);
        Ok(command)
    }

    /// Runs `work` with the network of a machine, on a thread of its own, and waits for it.
    ///
    /// # Errors
    /// If the machine has no power.
    pub fn on_network_of<T: Send>(
        &self,
        machine: &str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        enter::on_network_of(self.handle(machine)?.as_fd(), work)
    }

    /// Power for a node; returns when everything in it has been started. A node that is on is left
    /// alone.
    ///
    /// # Errors
    /// If it does not come up in time.
    pub fn boot(&self, node: &str) -> Result<()> {
        self.ask(&Request::Boot {
            node: node.to_owned(),
        })
        .map(drop)
    }

    /// A power failure: the node loses its disks, then all its processes at once. Returns when they
    /// are dead and its devices free.
    ///
    /// # Errors
    /// If that can't be had.
    pub fn crash(&self, node: &str) -> Result<()> {
        self.ask(&Request::Crash {
            node: node.to_owned(),
        })
        .map(drop)
    }

    /// Pulls or mends the cable of a machine's port, or lets the switch behind it die.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn set_cable(&self, machine: &str, port: &str, state: Cable) -> Result<()> {
        let (machine, port) = (machine.to_owned(), port.to_owned());
        self.ask(&Request::Cable {
            machine,
            port,
            state,
        })
        .map(drop)
    }

    /// Puts another card into a machine's port: the interface goes, and a new one comes under its name,
    /// which has yet to be switched on.
    ///
    /// # Errors
    /// If there is no such port, or the machine has no power.
    pub fn replace_port(&self, machine: &str, port: &str) -> Result<()> {
        let (machine, port) = (machine.to_owned(), port.to_owned());
        self.ask(&Request::Replace { machine, port }).map(drop)
    }

    /// Breaks a node's path to a disk (every access fails at once), or makes it work again.
    ///
    /// # Errors
    /// If there is no such disk.
    pub fn set_path(&self, node: &str, disk: &str, good: bool) -> Result<()> {
        let (node, disk) = (node.to_owned(), disk.to_owned());
        self.ask(&Request::Path { node, disk, good }).map(drop)
    }

    /// Makes a file system with the disk's name as its label. No node may be using the disk.
    ///
    /// # Errors
    /// If there is no such disk, or no such kind of file system.
    pub fn mkfs(&self, disk: &str, kind: &str) -> Result<()> {
        let (disk, kind) = (disk.to_owned(), kind.to_owned());
        self.ask(&Request::Mkfs { disk, kind }).map(drop)
    }

    /// State of all machines.
    ///
    /// # Errors
    /// If the lab does not answer.
    pub fn status(&self) -> Result<Reply> {
        self.ask(&Request::Status)
    }

    /// Lets the lab live on when this value is dropped and this program has ended.
    ///
    /// # Errors
    /// If the lab does not answer.
    pub fn keep(&mut self) -> Result<()> {
        self.ask(&Request::Keep)?;
        self.kept = true;
        Ok(())
    }

    /// Takes it down, and checks that nothing is left.
    ///
    /// # Errors
    /// Names what is left.
    pub fn down(mut self) -> Result<()> {
        self.kept = true;
        lifetime::down(&self.plan.name)
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        Ok(self.connect()?.ask(request)?.0)
    }

    fn connect(&self) -> Result<Connection> {
        Connection::open(&self.plan.state().join(warden::SOCKET))
    }

    fn handle(&self, machine: &str) -> Result<OwnedFd> {
        let request = Request::Enter {
            machine: machine.to_owned(),
        };
        let (_, handle) = self.connect()?.ask(&request)?;
        handle.ok_or_else(|| Error::new(format!("the lab gave no handle of {machine}")))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.kept && thread::panicking() {
            self.save_logs();
        }
        if self.kept {
            return;
        }
        if let Err(e) = lifetime::down(&self.plan.name) {
            eprintln!("lab {}: {e}", self.plan.name);
        }
    }
}

fn cluster_is_up(text: &str, nodes: &[String]) -> Result<()> {
    let xml = roxmltree::Document::parse(text).context("crm_mon")?;
    let find = |tag: &str, name: &str, value: &str| {
        xml.descendants()
            .find(|n| n.has_tag_name(tag) && (name.is_empty() || n.attribute(name) == Some(value)))
    };
    let is = |tag: &str, id: (&str, &str), attribute: &str, value: &str| {
        let node = find(tag, id.0, id.1);
        node.is_some_and(|n| n.attribute(attribute) == Some(value))
    };
    let dc = is("current_dc", ("", ""), "with_quorum", "true");
    holds(dc, Error::new("no controller with quorum"))?;
    for name in nodes {
        let member = is("node", ("name", name), "online", "true")
            && is("node", ("name", name), "unclean", "false");
        holds(member, Error::new(format!("{name} is not online")))?;
    }
    let fencing = is("resource", ("id", "power"), "active", "true")
        && is("resource", ("id", "power"), "failed", "false");
    holds(fencing, Error::new("the fence device is not active"))
}
