//! The scope that systemd makes for a cell: org.freedesktop.systemd1(5), systemd.scope(5).

use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::Limits;
use crate::sys::cgroup;
use crate::sys::command::run;
use crate::sys::program;
use crate::types::VserverName;

/// The slice of all cells: beside system.slice, where the cluster's own services are.
pub(crate) const SLICE: &str = "berth.slice";

/// The time between two looks whether systemd has moved a process.
const PAUSE: Duration = Duration::from_millis(1);

/// Whether systemd governs this node: sd_booted(3).
pub(crate) fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The name of the scope of a virtual server.
pub(crate) fn scope(vserver: &VserverName) -> String {
    format!("berth-{vserver}.scope")
}

/// Has systemd make the scope of `vserver` with this process in it, and waits until it is. Blocks.
///
/// # Errors
/// `NotFound` without busctl(1); what systemd says; `TimedOut` at `deadline`.
pub(crate) fn make_scope(
    scope: &str,
    vserver: &VserverName,
    process: i32,
    deadline: Instant,
) -> io::Result<()> {
    let mut busctl = call("StartTransientUnit", "ssa(sv)a(sa(sv))")?;
    busctl.args([scope, "fail"]);
    let description = format!("berth: cell of virtual server {vserver}");
    let process_number = process.to_string();
    let properties: [&[&str]; 7] = [
        &["Description", "s", &description],
        &["Slice", "s", SLICE],
        &["PIDs", "au", "1", &process_number],
        // The groups below it, and all controllers in them, are berth's. So nothing is stopped when a process in
        // them is killed for want of memory.
        &["Delegate", "b", "true"],
        &["TasksMax", "t", "18446744073709551615"],
        // Otherwise a failed scope would keep its name.
        &["CollectMode", "s", "inactive-or-failed"],
        // Units stop in the reverse order at a shutdown: Pacemaker, which stops the virtual server, ends first.
        &["Before", "as", "1", "pacemaker.service"],
    ];
    busctl.arg(properties.len().to_string());
    busctl.args(properties.concat());
    // No auxiliary units.
    busctl.arg("0");
    run(busctl, deadline)?.check(format_args!("have systemd make {scope}"))?;
    let place = Path::new(SLICE).join(scope);
    while !cgroup::of_process(process)?.is_some_and(|group| group.ends_with(&place)) {
        if Instant::now() >= deadline {
            let text = format!("systemd does not make {scope}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Has systemd give the scope these weights among all scopes, until it goes. Blocks.
///
/// # Errors
/// As [`make_scope`].
pub(crate) fn weigh(scope: &str, limits: &Limits, deadline: Instant) -> io::Result<()> {
    let mut busctl = call("SetUnitProperties", "sba(sv)")?;
    // For this boot only.
    busctl.args([scope, "true", "2"]);
    for (name, weight) in [
        ("CPUWeight", limits.cpu_weight),
        ("IOWeight", limits.io_weight),
    ] {
        busctl.args([name, "t", &u32::from(weight).to_string()]);
    }
    let output = run(busctl, deadline)?;
    output.check(format_args!("set the weights of {scope}"))?;
    Ok(())
}

/// Has systemd take this process into a scope that is there, into the group `below` it. Blocks.
///
/// # Errors
/// As [`make_scope`]; also if the scope is not active any more.
pub(crate) fn join_scope(
    scope: &str,
    below: &str,
    process: i32,
    deadline: Instant,
) -> io::Result<()> {
    let mut busctl = call("AttachProcessesToUnit", "ssau")?;
    busctl.args([scope, below, "1", &process.to_string()]);
    let output = run(busctl, deadline)?;
    output.check(format_args!("have systemd take a process into {scope}"))?;
    Ok(())
}

/// A call of systemd's manager, without its arguments, which have these types.
fn call(method: &str, types: &str) -> io::Result<Command> {
    let mut busctl = program::command("busctl")?;
    busctl.args([
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        method,
        types,
    ]);
    Ok(busctl)
}

/// Whether systemd has said that there is such a scope (org.freedesktop.systemd1.UnitExists): an empty one is about
/// to go.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    error.to_string().contains("was already loaded")
}
