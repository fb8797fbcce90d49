//! Puts the rules for connections to the cell in force: one run of `nft` in a child for each change.

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

/// Begins to replace the rules `before` by these in the network of the cell with this PID 1.
///
/// # Errors
/// If no child can be started.
pub(crate) fn begin(
    init: Pid,
    rules: &Rules,
    before: Option<&Rules>,
) -> io::Result<Job<Admission>> {
    // The process id is not given to another process as long as the keeper has not reaped this one.
    let init = init.as_raw();
    Job::spawn(c"berth-gate", move || (enforce(init, rules, before), None))
}

/// The result of a change, once its child has ended, and that child, which is to be reaped.
pub(crate) fn admission(job: &Job<Admission>) -> Option<(Pid, Admission)> {
    let admission = match job.outcome()? {
        Ok((admission, _)) => admission,
        Err(e) => Admission::Failed(Cause::Failed, format!("a child {e}")),
    };
    Some((job.pid(), admission))
}

/// Replaces the rules `before` by these in the network of the cell with this PID 1.
fn enforce(pid: i32, rules: &Rules, before: Option<&Rules>) -> Admission {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Admission::Failed(Cause::Missing, e.to_string()),
        io::ErrorKind::TimedOut => Admission::Late(e.to_string()),
        _ => Admission::Failed(Cause::Failed, e.to_string()),
    };
    let apply = || {
        let refused = match run(&rules.script(before))? {
            Ok(()) => None,
            // A kernel that can't count connections can still keep out those who have no access.
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

/// Runs `nft` with this script in the network namespace of this process. The inner error is why `nft` refuses it.
fn run(script: &str) -> io::Result<Result<(), String>> {
    let mut nft = program::command("nft")?;
    nft.args(["-f", "-"]);
    let output = run_with_input(nft, script.as_bytes(), Instant::now() + LIMIT)?;
    let checked = output.check("let clients into the cell's network: nft");
    Ok(checked.map(drop).map_err(|e| e.to_string()))
}
