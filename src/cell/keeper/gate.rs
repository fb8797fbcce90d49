//! The keeper's work on what the cell's network lets in: one run of `nft` in a child for each change.

use std::io;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::cell::keeper::core::Admission;
use crate::cell::keeper::rules::{Rules, SETTINGS};
use crate::cell::network;
use crate::cell::protocol::Cause;
use crate::runtime::job::Job;
use crate::sys::command::run_with_input;
use crate::sys::{namespace, program};

/// How long a change may take; some 10 ms are usual.
const LIMIT: Duration = Duration::from_secs(10);

/// Begins to put these rules in force in the network of the cell with this PID 1, where those of before are.
///
/// # Errors
/// If no child can be started.
pub(crate) fn begin(
    init: Pid,
    rules: &Rules,
    before: Option<&Rules>,
) -> io::Result<Job<Admission>> {
    // The number stays this cell's as long as the keeper has not reaped it.
    let init = init.as_raw();
    Job::spawn(c"berth-gate", move || (enforce(init, rules, before), None))
}

/// How a change has ended, once it has, and the child that is to be reaped.
pub(crate) fn admission(job: &Job<Admission>) -> Option<(Pid, Admission)> {
    let admission = match job.outcome()? {
        Ok((admission, _)) => admission,
        Err(e) => Admission::Failed(Cause::Failed, format!("a child {e}")),
    };
    Some((job.pid(), admission))
}

/// Puts the rules in force in the network of the cell with this PID 1, where those of before are.
fn enforce(pid: i32, rules: &Rules, before: Option<&Rules>) -> Admission {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Admission::Failed(Cause::Missing, e.to_string()),
        io::ErrorKind::TimedOut => Admission::Late(e.to_string()),
        _ => Admission::Failed(Cause::Failed, e.to_string()),
    };
    let apply = || {
        let refused = match run(&rules.script(before))? {
            Ok(()) => None,
            // A kernel without what counts connections still keeps out who is not to come in.
            Err(why) if before.is_none() => {
                run(&rules.script_without_limits())?.map_err(|_| io::Error::other(why.clone()))?;
                Some(why)
            }
            Err(why) => return Err(io::Error::other(why)),
        };
        for (name, value) in SETTINGS {
            network::set(name, value)?;
        }
        Ok(refused)
    };
    let applied =
        namespace::open_process(pid).and_then(|process| namespace::inside(process, apply));
    match applied {
        Ok(None) => Admission::Done,
        Ok(Some(why)) => Admission::Unlimited(why),
        Err(e) => failed(e),
    }
}

/// Has `nft` do this in the network that it is in; why it refuses, if it does.
fn run(script: &str) -> io::Result<Result<(), String>> {
    let mut nft = program::command("nft")?;
    nft.args(["-f", "-"]);
    let output = run_with_input(nft, script.as_bytes(), Instant::now() + LIMIT)?;
    let checked = output.check("let clients into the cell's network: nft");
    Ok(checked.map(drop).map_err(|e| e.to_string()))
}
