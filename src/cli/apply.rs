//! `diff` and `apply`: the file against the cluster.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::nodes::Comparison;
use super::{Failure, Source, complain};
use crate::cluster::canonical::pairs;
use crate::cluster::cib::Cib;
use crate::cluster::element::Element;
use crate::cluster::merge::{self, Merged};
use crate::cluster::patch::Loaded;
use crate::cluster::status::Status;
use crate::cluster::{fencing, properties, release};
use crate::config::build;
use crate::config::ids::{Known, OWNERSHIP};
use crate::config::model::{Agent, Features, Model};
use crate::config::{Config, render};

mod opt_in;
mod removal;
mod wait;

use opt_in::OptIn;

/// Exit code of [`diff`] and of a dry run when something would change.
const DIFFERENT: u8 = 5;
/// For one call of a tool of the cluster.
const TOOL_PATIENCE: Duration = Duration::from_secs(60);
/// For an unchanging CIB: how long a change that came too late is tried again.
const LOAD_PATIENCE: Duration = Duration::from_secs(30);
/// For a cluster that elects a controller: longer than its tools wait for an answer.
const ELECTION_PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(300);

/// What is compared.
#[derive(Args)]
pub(crate) struct Target {
    #[command(flatten)]
    source: Source,
    /// Use a CIB in a file instead of the running cluster's
    #[arg(long, value_name = "FILE")]
    cib: Option<PathBuf>,
}

/// How to apply.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// Only print what would change
    #[arg(long)]
    dry_run: bool,
    /// Wait until everything is started, at most so many seconds (120 if none are given)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "120", value_parser = clap::value_parser!(u32).range(1..=86400))]
    wait: Option<u32>,
    /// Apply to a cluster that can't fence its nodes: two nodes may then write to one file system
    #[arg(long)]
    without_fencing: bool,
}

impl Target {
    fn open(&self) -> Result<(Config, Cib), Failure> {
        let config = self.source.load_here()?;
        let file = self.cib.as_ref().map(std::path::absolute).transpose()?;
        Ok((config, Cib { file }))
    }
}

fn soon() -> Instant {
    Instant::now() + TOOL_PATIENCE
}

/// Tells how the work goes on. The work does not depend on somebody listening.
fn say(text: impl Display) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn warn(text: &String) {
    complain(&format!("warning: {text}"));
}

/// A CIB as it was read, and what the file makes of it.
struct Attempt {
    model: Model,
    /// Where it may run, if that has to be said.
    opt_in: Option<OptIn>,
    before: Element,
    merged: Merged,
}

impl Attempt {
    fn opt_in_warning(&self) -> Option<&String> {
        self.opt_in.as_ref()?.warning.as_ref()
    }

    /// What would be stopped in the running cluster, as it runs where it may not.
    fn stops(&self, cib: &Cib) -> Result<Vec<String>, Failure> {
        match &self.opt_in {
            Some(opt_in) if cib.file.is_none() => Ok(opt_in.stops(&Status::read(soon())?)),
            _ => Ok(Vec::new()),
        }
    }
}

/// What `config` makes of a CIB.
fn attempt(config: &Config, before: Element) -> Result<Attempt, Failure> {
    release::check(&before).map_err(Failure::Failed)?;
    let mut model = build::build(config, Features::CURRENT, &known(&before));
    let opt_in = match properties::is_opt_in(&before) {
        true => Some(OptIn::settle(&mut model, config, &before)?),
        false => None,
    };
    let wanted = render::xml::configuration(&model);
    let merged = merge::merge(&before, &wanted, OWNERSHIP)
        .map_err(|conflict| Failure::Failed(conflict.to_string()))?;
    Ok(Attempt {
        model,
        opt_in,
        before,
        merged,
    })
}

/// The ids of the addresses that the cluster already has.
fn known(cib: &Element) -> Known {
    let primitives = cib.walk().filter(|e| e.name == "primitive");
    let own = OWNERSHIP.owned(cib);
    let vips =
        primitives.filter(|e| own.contains(e.id()) && e.get("type") == Some(Agent::Vip.name()));
    vips.filter_map(|vip| {
        let parameter = |name| {
            let mut found = pairs(vip, "instance_attributes").filter(|(n, _)| *n == name);
            found.next().map(|(_, value)| value)
        };
        let key = (
            parameter("vserver")?.to_owned(),
            parameter("ip")?.parse().ok()?,
        );
        Some((key, vip.id().to_owned()))
    })
    .collect()
}

/// Prints what [`apply`] would change.
pub(crate) fn diff(target: &Target) -> Result<ExitCode, Failure> {
    let (config, cib) = target.open()?;
    let attempt = attempt(&config, cib.read(soon())?)?;
    let nodes = Comparison::of(&config, &attempt.before);
    nodes
        .unknown
        .iter()
        .chain(&nodes.unmentioned)
        .chain(attempt.opt_in_warning())
        .chain(&attempt.stops(&cib)?)
        .for_each(warn);
    let mut out = io::stdout().lock();
    for change in &attempt.merged.changes {
        writeln!(out, "{change}")?;
    }
    out.flush()?;
    if attempt.merged.changes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    cib.verify(&attempt.merged.cib, soon())?;
    Ok(ExitCode::from(DIFFERENT))
}

/// Makes the cluster as the file says.
pub(crate) fn apply(options: &Options) -> Result<ExitCode, Failure> {
    if options.dry_run {
        return diff(&options.target);
    }
    let (config, cib) = options.target.open()?;
    let mut attempt = attempt(&config, cib.read(soon())?)?;
    let nodes = Comparison::of(&config, &attempt.before);
    if !nodes.unknown.is_empty() {
        return Err(Failure::Refused(nodes.unknown.join("; ")));
    }
    let stops = attempt.stops(&cib)?;
    if !stops.is_empty() {
        return Err(Failure::Refused(stops.join("; ")));
    }
    nodes
        .unmentioned
        .iter()
        .chain(attempt.opt_in_warning())
        .for_each(warn);
    if !options.without_fencing {
        check_fencing(&cib, &attempt.before)?;
    }
    let mut touched = Vec::new();
    if attempt.merged.changes.is_empty() {
        say("no change");
    } else {
        cib.verify(&attempt.merged.cib, soon())?;
        let loaded = match cib.file {
            None => removal::load(&config, &cib, &attempt.merged.removed)?,
            Some(_) => load(&config, &cib)?,
        };
        // Nothing is left to change where the answer to a first attempt was lost.
        let made = match loaded.merged.changes.is_empty() {
            true => &attempt.merged,
            false => &loaded.merged,
        };
        made.changes.iter().for_each(say);
        touched.clone_from(&made.touched);
        attempt = loaded;
    }
    if let Some(patience) = options.wait.filter(|_| cib.file.is_none()) {
        let patience = Duration::from_secs(patience.into());
        wait::until_started(&attempt.model, &touched, patience)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check_fencing(cib: &Cib, live: &Element) -> Result<(), Failure> {
    fencing::check_configuration(live).map_err(|lack| {
        // Where there is a device, to do without fencing is no advice.
        let instead = match lack.no_device {
            true => " (--without-fencing applies nevertheless)",
            false => "",
        };
        Failure::Refused(format!(
            "{}; without fencing two nodes may write to one file system{instead}",
            lack.text
        ))
    })?;
    if cib.file.is_some() {
        return Ok(());
    }
    for node in properties::members(live) {
        if !fencing::reaches(&node, soon())? {
            return Err(Failure::Refused(format!(
                "no running fence device reaches node {node}; without fencing two nodes may write to one file system"
            )));
        }
    }
    Ok(())
}

fn load(config: &Config, cib: &Cib) -> Result<Attempt, Failure> {
    change(cib, |before| {
        let attempt = attempt(config, before)?;
        Ok((attempt.merged.cib.clone(), attempt))
    })
}

/// Changes the CIB to what `plan` makes of it, again from its newest state when somebody else was faster, or when
/// the cluster had no controller that would have answered.
fn change<T>(
    cib: &Cib,
    mut plan: impl FnMut(Element) -> Result<(Element, T), Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        let (patience, why) = match cib.read(soon()) {
            Err(unread) => (ELECTION_PATIENCE, unread.to_string()),
            Ok(before) => {
                let (after, result) = plan(before.clone())?;
                match cib.load(&before, &after, soon())? {
                    Loaded::Done => return Ok(result),
                    Loaded::Outdated => {
                        let seconds = LOAD_PATIENCE.as_secs();
                        let why = format!("others change it all the time, no gap in {seconds} s");
                        (LOAD_PATIENCE, format!("change the CIB: {why}"))
                    }
                    Loaded::Unanswered(words) => (ELECTION_PATIENCE, words),
                }
            }
        };
        if begin.elapsed() > patience {
            return Err(Failure::Failed(why));
        }
        std::thread::sleep(PAUSE);
    }
}
