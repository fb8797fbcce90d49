//! The command for people: its arguments, its messages and its exit codes.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::cell::exec::{Rights, exec};
use crate::cluster::cib::Cib;
use crate::cluster::release;
use crate::config::{self, Config, Problems};
use crate::sys::stderr;
use crate::types::VserverName;

mod apply;
mod here;
mod manual;
mod nodes;
mod signals;

/// For what is asked of this node's own Pacemaker.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the configuration is unless `--file` says otherwise.
const DEFAULT_FILE: &str = "/etc/berth/berth.toml";

#[derive(Parser)]
#[command(
    name = "berth",
    version,
    about = "Highly available virtual file servers on Pacemaker",
    after_help = EXIT_CODES,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for diff: nothing would change
  1  failed, such as a tool of the cluster or a wait that took too long
  2  wrong use of this command
  3  the configuration file is wrong
  4  refused: the cluster is not fit for it, such as one without working fencing
  5  diff and apply --dry-run: something would change
exec ends with the program's own exit code, 128 and more for a death by signal.";

#[derive(Subcommand)]
enum Command {
    /// Check the configuration file
    Check(Source),
    /// Print the resources and constraints that the file describes
    Plan {
        #[command(flatten)]
        source: Source,
        /// The form to print them in
        #[arg(long, value_enum, default_value_t = Format::Crm)]
        format: Format,
    },
    /// Print what apply would change in the cluster
    Diff(apply::Target),
    /// Make the cluster's resources and constraints as the file says
    ///
    /// Removes what berth once made and the file no longer has, and leaves everything else alone.
    Apply(apply::Options),
    /// Run a program inside a virtual server's cell on this node
    ///
    /// With the cell's network, mounts, processes and host name, and with the rights of its servers: for
    /// looking around, and for what has to be done in there, such as smbpasswd. It gets a terminal of its own
    /// where the caller has one, and nothing else of the caller's but the standard streams. A system call that it is
    /// refused is named on standard error.
    Exec {
        /// With root's full rights
        ///
        /// Whatever the program reads in the cell may have been written by its servers: a program with full rights
        /// that trusts it hands them the node.
        #[arg(long)]
        privileged: bool,
        /// The virtual server
        vserver: VserverName,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(hide = true)]
    Manual {
        /// The page
        #[arg(value_enum)]
        page: manual::Page,
    },
}

#[derive(Args)]
struct Source {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_FILE)]
    file: PathBuf,
}

impl Source {
    fn load(&self) -> Result<Config, Failure> {
        Ok(config::load(&self.file)?)
    }

    /// The same, compared with what this node has.
    fn load_here(&self) -> Result<Config, Failure> {
        let config = self.load()?;
        let problems = here::problems(&config, Instant::now() + PATIENCE);
        match problems.is_empty() {
            true => Ok(config),
            false => Err(Problems::new(self.file.display().to_string(), problems).into()),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Commands for crm configure
    Crm,
    /// A script of pcs commands
    Pcs,
    /// XML of the CIB
    Xml,
}

/// Why a command did not do what it was asked to.
enum Failure {
    /// The file is wrong.
    File(Problems),
    /// The cluster is not fit for it.
    Refused(String),
    /// The reader of our output went away: nothing is left to do.
    Unread,
    /// Anything else, as one line.
    Failed(String),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::File(problems)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Failure {
    /// Its words, as one line.
    fn text(&self) -> String {
        match self {
            Self::File(problems) => problems.lines().collect::<Vec<_>>().join("; "),
            Self::Unread => "the reader of the output went away".to_owned(),
            Self::Refused(text) | Self::Failed(text) => text.clone(),
        }
    }

    fn report(self) -> ExitCode {
        match self {
            Self::File(problems) => {
                problems.lines().for_each(|line| complain(&line));
                ExitCode::from(3)
            }
            Self::Refused(text) => {
                complain(&text);
                ExitCode::from(4)
            }
            Self::Unread => ExitCode::SUCCESS,
            Self::Failed(text) => {
                complain(&text);
                ExitCode::from(1)
            }
        }
    }
}

/// One line on standard error.
fn complain(text: &str) {
    stderr::line(&format!("berth: {text}"));
}

/// Says which system call the program in a cell was refused. While it runs, a terminal does not go to the beginning
/// of a new line by itself.
fn complain_of_refusal(call: &str) {
    let back = if io::stderr().is_terminal() { "\r" } else { "" };
    stderr::line(&format!("berth: refused {call}{back}"));
}

/// Runs the command that `arguments` ask for; the first is the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return wrong_use(&error),
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Help and version go to standard output; an error becomes one line like every other.
fn wrong_use(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = write!(io::stdout(), "{}", error.render());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let words: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let text = words.join(" ");
    complain(&format!(
        "{}; see berth --help",
        text.strip_prefix("error: ").unwrap_or(&text)
    ));
    ExitCode::from(2)
}

/// Checks a file, and compares it with this node and, where one runs here, with the cluster.
fn check(source: &Source, out: &mut impl Write) -> Result<(), Failure> {
    let config = source.load_here()?;
    let file = source.file.display();
    let here = here::warnings(&config);
    for warning in config::warnings(&config).into_iter().chain(here) {
        complain(&format!("{file}: warning: {warning}"));
    }
    if let Some(warning) = release::complaint_about_this_node(Instant::now() + PATIENCE) {
        complain(&format!("warning: {warning}"));
    }
    // That there is no cluster is no complaint: the file may be checked anywhere.
    if let Ok(cib) = Cib::default().read(Instant::now() + PATIENCE) {
        let nodes = nodes::Comparison::of(&config, &cib);
        for warning in nodes.unknown.iter().chain(&nodes.unmentioned) {
            complain(&format!("{file}: warning: {warning}"));
        }
    }
    writeln!(out, "{file}: {}", config::summary(&config))?;
    Ok(())
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    match command {
        Command::Diff(target) => return apply::diff(&target),
        Command::Apply(options) => return apply::apply(&options),
        Command::Check(source) => check(&source, &mut out)?,
        Command::Plan { source, format } => {
            let config = source.load()?;
            let model = config::build::build(
                &config,
                config::model::Features::CURRENT,
                &config::ids::Known::new(),
            );
            let text = match format {
                Format::Crm => config::render::crm::commands(&model),
                Format::Pcs => config::render::pcs::script(&model),
                Format::Xml => config::render::xml::configuration(&model).to_string(),
            };
            out.write_all(text.as_bytes())?;
        }
        Command::Exec {
            privileged,
            vserver,
            command,
        } => {
            let rights = match privileged {
                true => Rights::Full,
                false => Rights::Server,
            };
            let status = exec(&vserver, &command, rights, complain_of_refusal)?;
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            return Ok(ExitCode::from(
                code.map_or(1, |code| code.clamp(0, 255) as u8),
            ));
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "berth", &mut text);
            out.write_all(&text)?;
        }
        Command::Manual { page } => {
            out.write_all(manual::page(page, Cli::command())?.as_bytes())?
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
