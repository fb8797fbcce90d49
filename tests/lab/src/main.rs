//! `lab`: the lab by hand.

mod traffic;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use lab::bench::measure::{self, Program};
use lab::plan::Plan;
use lab::protocol::Cable;
use lab::system::System;
use lab::{Context, Error, Lab, Options, Result};

#[derive(Parser)]
#[command(
    name = "lab",
    about = "A real Corosync/Pacemaker cluster on one machine"
)]
struct Cli {
    /// Name of the lab; several can be up on one machine
    #[arg(long, global = true, default_value = "lab")]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a lab, boot its nodes, wait for the cluster
    Up(Up),
    /// Take a lab down; one that was killed is cleared away
    Down {
        /// All labs of this machine
        #[arg(long)]
        all: bool,
    },
    /// What there is, and its state
    Status,
    /// Run a program on a node: exec n1 -- crm_mon -1
    Exec {
        /// The node
        machine: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Run a program on a client: client c1 -- nfs-ls nfs://10.1.0.50/?version=4
    Client {
        /// c1 (subnet office) or c2 (subnet lab)
        #[arg(default_value = "c1")]
        machine: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Power failure of a node
    Crash {
        /// The node
        node: String,
    },
    /// Power for a node
    Boot {
        /// The node
        node: String,
    },
    /// Pull a cable
    Cut {
        /// The node
        node: String,
        /// The port: eth0 (ring), eth1, eth2 (office), eth3 (lab)
        port: String,
        /// The link stays up but nothing passes, as behind a dead switch
        #[arg(long)]
        dead_switch: bool,
    },
    /// Plug a cable in again
    Mend {
        /// The node
        node: String,
        /// The port
        port: String,
    },
    /// Break a node's path to a disk: every access fails
    CutStorage {
        /// The node
        node: String,
        /// The disk
        disk: String,
    },
    /// Make a node's path to a disk work again
    MendStorage {
        /// The node
        node: String,
        /// The disk
        disk: String,
    },
    /// Show two virtual servers surviving the power failure of their node
    Demo(Demo),
    /// Append records to a file over NFS, and check what was acknowledged
    NfsWriter(traffic::NfsWriter),
    /// Ask for a listing over NFS again and again, and print the outages
    NfsProbe(traffic::NfsProbe),
    /// Put files over SMB, and check what was acknowledged
    SmbWriter(traffic::SmbArgs),
    /// Make a file system on a disk that no node uses
    Mkfs {
        /// The disk
        disk: String,
        /// ext4, xfs or btrfs
        kind: String,
    },
    /// Figures, side by side with the stock agents
    Bench(Bench),
    /// Run one program, without a lab, on the system of --root, in the current directory
    Run(Run),
    /// Cost of a program's runs, as JSON
    #[command(hide = true)]
    Measure(Measure),
    /// Send back what comes by UDP or TCP
    #[command(hide = true)]
    Echo {
        /// Where: 10.1.0.50:7007
        address: std::net::SocketAddr,
    },
    /// What portwatch's daemon on this node knows, as JSON: exec n1 -- lab portwatch
    Portwatch,
    #[command(hide = true)]
    Warden,
    #[command(hide = true)]
    Machine,
}

/// The system whose programs run.
#[derive(clap::Args)]
struct SystemArgs {
    /// Root file system of the system whose programs run [default: $BERTH_LAB_ROOT, or this machine's own]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl SystemArgs {
    /// The usual lab of that system, under this name.
    fn options(self, name: &str) -> Options {
        let mut options = Options::new(name);
        if let Some(root) = self.root {
            options.plan.system = System::at(root);
        }
        options
    }
}

#[derive(clap::Args)]
struct Up {
    #[command(flatten)]
    system: SystemArgs,
    /// Number of nodes
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Directory with the built agents, to be installed in the nodes
    #[arg(long)]
    agents: Option<PathBuf>,
    /// Names of the shared disks
    #[arg(long, value_delimiter = ',', default_value = "d1,d2,d3,d4")]
    disks: Vec<String>,
    /// Size of each disk in MiB
    #[arg(long, default_value_t = 512)]
    disk_mib: u64,
    /// Fenced nodes boot again by themselves
    #[arg(long)]
    autoboot: bool,
    /// Number of further ports of each node, eth4 and so on, on the office's network
    #[arg(long, default_value_t = 0)]
    spare_ports: u8,
}

#[derive(clap::Args)]
struct Demo {
    #[command(flatten)]
    system: SystemArgs,
    /// Directory with the built agents [default: where this program is]
    #[arg(long)]
    agents: Option<PathBuf>,
    /// Leave the lab up
    #[arg(long)]
    keep: bool,
}

#[derive(clap::Args)]
struct Bench {
    #[command(flatten)]
    system: SystemArgs,
    /// Directory with the built agents [default: where this program is]
    #[arg(long)]
    agents: Option<PathBuf>,
    /// Power failures and planned moves to measure
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Nothing but what has to do with ports
    #[arg(long)]
    ports: bool,
    /// Nothing but what has to do with lost subnets
    #[arg(long, conflicts_with = "ports")]
    detour: bool,
    /// Lost subnets to measure, and half as many dead switches
    #[arg(long, default_value_t = 20)]
    detours: usize,
    /// Pulled cables under load
    #[arg(long, default_value_t = 20)]
    failures: usize,
    /// Seconds for which a port is saturated
    #[arg(long, default_value_t = 20)]
    soak: u64,
    /// Seconds for which a port flaps
    #[arg(long, default_value_t = 60)]
    flap: u64,
}

impl Bench {
    fn scope(&self) -> lab::bench::Scope {
        lab::bench::Scope {
            runs: self.runs,
            ports: lab::bench::ports::Scope {
                failures: self.failures,
                soak: Duration::from_secs(self.soak),
                flap: Duration::from_secs(self.flap),
            },
            only_ports: self.ports,
            detours: self.detours,
            only_detours: self.detour,
        }
    }
}

#[derive(clap::Args)]
struct Run {
    #[command(flatten)]
    system: SystemArgs,
    /// A directory of this machine that is there under the same path
    #[arg(long, value_name = "DIR")]
    show: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    words: Vec<String>,
}

#[derive(clap::Args)]
struct Measure {
    /// Number of runs
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// A variable of the program's environment: NAME=VALUE
    #[arg(long, value_parser = variable)]
    env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    words: Vec<std::ffi::OsString>,
}

fn variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if args.first().is_some_and(|name| name.ends_with("fence_lab")) {
        return lab::fence::main(&args[1..]);
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let attach = || Lab::attach(&cli.name);
    match cli.verb {
        Verb::Up(up) => self::up(&cli.name, up),
        Verb::Down { all: false } => lab::down(&cli.name),
        Verb::Down { all: true } => lab::known().iter().try_for_each(|name| lab::down(name)),
        Verb::Status => status(&attach()?),
        Verb::Exec { machine, command } | Verb::Client { machine, command } => {
            exec(&attach()?, &machine, &command)
        }
        Verb::Crash { node } => attach()?.crash(&node),
        Verb::Boot { node } => attach()?.boot(&node),
        Verb::Cut {
            node,
            port,
            dead_switch,
        } => {
            let state = if dead_switch {
                Cable::Dead
            } else {
                Cable::Pulled
            };
            attach()?.set_cable(&node, &port, state)
        }
        Verb::Mend { node, port } => attach()?.set_cable(&node, &port, Cable::Good),
        Verb::CutStorage { node, disk } => attach()?.set_path(&node, &disk, false),
        Verb::MendStorage { node, disk } => attach()?.set_path(&node, &disk, true),
        Verb::Demo(demo) => {
            let options = with_agents(demo.system.options(&cli.name), demo.agents)?;
            lab::demo::run(&options, demo.keep)
        }
        Verb::NfsWriter(args) => traffic::nfs_writer(&attach()?, &args),
        Verb::NfsProbe(args) => traffic::nfs_probe(&attach()?, &args),
        Verb::SmbWriter(args) => traffic::smb_writer(&attach()?, &args),
        Verb::Mkfs { disk, kind } => attach()?.mkfs(&disk, &kind),
        Verb::Bench(bench) => {
            let scope = bench.scope();
            let options = with_agents(bench.system.options(&cli.name), bench.agents)?;
            lab::bench::run(options, scope)
        }
        Verb::Measure(what) => measure(what),
        Verb::Run(what) => {
            let system = what.system.options(&cli.name).plan.system;
            return lab::inside::run_on(&system, &what.show, &what.words).map(ExitCode::from);
        }
        Verb::Echo { address } => lab::flow::echo_main(address),
        Verb::Portwatch => lab::portwatch::main(),
        Verb::Warden => lab::warden::main(),
        Verb::Machine => lab::machine::main(),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn up(name: &str, up: Up) -> Result<()> {
    let mut options = up.system.options(name);
    options.plan = Plan {
        nodes: up.nodes,
        agents: up.agents,
        disks: up.disks,
        disk_mib: up.disk_mib,
        autoboot: up.autoboot,
        spare_ports: up.spare_ports,
        ..options.plan
    };
    let mut lab = Lab::up(&options)?;
    lab.keep()?;
    let name = if name == "lab" {
        String::new()
    } else {
        format!(" --name {name}")
    };
    println!(
        "The lab is up. Look around: lab{name} exec n1 -- crm_mon -1\n\
         Take it down:              lab{name} down"
    );
    Ok(())
}

/// With the built agents: where they are said to be, or beside this program.
fn with_agents(mut options: Options, named: Option<PathBuf>) -> Result<Options> {
    let own = std::env::current_exe().context("find this program")?;
    let agents = named.unwrap_or_else(|| own.parent().unwrap_or(&own).to_owned());
    options.plan.agents = Some(agents);
    Ok(options)
}

fn measure(what: Measure) -> Result<()> {
    let program = Program {
        words: what.words,
        environment: what.env,
    };
    let cost = measure::measure(&program, what.runs).context("measure")?;
    println!(
        "{}",
        serde_json::to_string(&cost).context("encode the cost")?
    );
    Ok(())
}

fn status(lab: &Lab) -> Result<()> {
    for (name, state) in lab.status()?.machines {
        let power = if state.on { "on " } else { "off" };
        let disks = state
            .disks
            .iter()
            .map(|(disk, number)| format!("{disk}=loop{number}"));
        let faults = state.faults.iter().map(|fault| format!("[{fault}]"));
        let details: Vec<String> = disks.chain(faults).collect();
        println!(
            "{}",
            format!("{name:<8}{power} {}", details.join(" ")).trim_end()
        );
    }
    Ok(())
}

/// Becomes the program on the machine.
fn exec(lab: &Lab, machine: &str, words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = lab.command(machine, &words)?;
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    command.stdin(Stdio::inherit());
    let error = command.exec();
    Err(Error::new(error.to_string())).context(format!("{machine}: {}", words.join(" ")))
}
