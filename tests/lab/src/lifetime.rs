//! Beginning and end of labs: locks, the warden's start, and what has to be cleared away, also of those
//! that were killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::error::{Context, Error, Result};
use crate::loop_device;
use crate::plan::{STATE, state};
use crate::process;
use crate::protocol::{Connection, Request};
use crate::system::System;
use crate::wait::{holds, wait_for};
use crate::warden;

const READY_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(30);
const LOCK_LIMIT: Duration = Duration::from_secs(120);
/// What this machine needs for labs, and where it comes from.
const NEEDED: [(&str, &str); 4] = [
    ("/sbin/ip", "package: iproute2"),
    ("/sbin/bridge", "package: iproute2"),
    ("/dev/fuse", "a kernel with FUSE has it"),
    ("/dev/loop-control", "a kernel with loop devices has it"),
];

/// Takes the lab called `name` down, whatever state it is in; one that does not exist is down.
///
/// # Errors
/// Names what is left.
pub fn down(name: &str) -> Result<()> {
    let _lock = lock(name)?;
    end(name)
}

/// Refuses to go on where a lab called `name` is up. One that is ending is waited for: whoever killed a
/// lab sees its devices go before its warden. The caller holds the lab's lock, so none is starting.
pub(crate) fn refuse_another(name: &str) -> Result<()> {
    let state = state(name);
    let Some(pid) = warden::alive(&state) else {
        return Ok(());
    };
    let answer =
        Connection::open(&state.join(warden::SOCKET)).and_then(|c| c.ask(&Request::Status));
    if answer.is_ok() {
        return Err(Error::new(format!(
            "lab {name} is up already (process {pid}); `lab down --name {name}` ends it"
        )));
    }
    wait_for_end(name)
}

fn wait_for_end(name: &str) -> Result<()> {
    let state = state(name);
    wait_for(
        format_args!("the warden of lab {name} to end"),
        END_LIMIT,
        || holds(warden::alive(&state).is_none(), "still alive"),
    )
}

/// Takes a lab down. The caller holds its lock.
pub(crate) fn end(name: &str) -> Result<()> {
    let state = state(name);
    if let Some(pid) = warden::alive(&state) {
        let asked = Connection::open(&state.join(warden::SOCKET))
            .and_then(|c| c.ask(&Request::Down).map(drop));
        if let Err(e) = asked {
            eprintln!("lab {name}: {e}: its warden (process {pid}) is killed");
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        wait_for_end(name)?;
    }
    clear(name)
}

/// Clears away what a dead lab left: loop devices, which no death of a process takes away, and its
/// directory.
fn clear(name: &str) -> Result<()> {
    let prefix = warden::label_prefix(name);
    let noted = fs::read_to_string(state(name).join(warden::LOOPS)).unwrap_or_default();
    for number in noted.lines().filter_map(|line| line.parse().ok()) {
        if loop_device::belongs_to(number, &prefix) {
            wait_for(format_args!("loop{number} to be free"), END_LIMIT, || {
                loop_device::detach(number, &prefix)
            })?;
        }
    }
    match fs::remove_dir_all(state(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context(state(name).display()),
        _ => Ok(()),
    }
}

/// Clears away every dead lab. The caller holds the lock of the lab called `own`.
pub(crate) fn sweep(own: &str) -> Result<()> {
    clear(own)?;
    for name in known().into_iter().filter(|name| name != own) {
        // A lab that somebody works on is none of ours.
        let Ok(_lock) = try_lock(&name) else {
            continue;
        };
        if warden::alive(&state(&name)).is_none() {
            clear(&name)?;
        }
    }
    Ok(())
}

/// Names of the labs of this machine, those included that were killed.
pub fn known() -> Vec<String> {
    let entries = fs::read_dir(STATE).into_iter().flatten().flatten();
    let labs = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    labs.map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The lock on the beginning and the end of the lab called `name`. It goes when dropped, and its file
/// with it.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked here: whoever waits for it finds out that the file is another one now.
        let _ = fs::remove_file(&self.path);
    }
}

fn try_lock(name: &str) -> Result<Lock> {
    fs::create_dir_all(STATE).context(STATE)?;
    let path = Path::new(STATE).join(format!("{name}.lock"));
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = Flock::lock(
        file.context(path.display())?,
        FlockArg::LockExclusiveNonblock,
    )
    .map_err(|(_, _)| Error::new("another `lab` is starting or ending it"))?;
    let locked = file.metadata().context(path.display())?.ino();
    let current = fs::metadata(&path).is_ok_and(|m| m.ino() == locked);
    holds(current, Error::new("another `lab` has just ended it"))?;
    Ok(Lock { _file: file, path })
}

pub(crate) fn lock(name: &str) -> Result<Lock> {
    wait_for(format_args!("the lock of lab {name}"), LOCK_LIMIT, || {
        try_lock(name)
    })
}

pub(crate) fn start_warden(program: &Path, state: &Path, plan: &str) -> Result<()> {
    let log = state.join("warden.log");
    let mut child = process::command(program)
        .arg("warden")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).context(log.display())?)
        .spawn()
        .context(format!("start {}", program.display()))?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(plan.as_bytes())
            .context("tell the warden its plan")?;
    }
    let output = child
        .stdout
        .take()
        .ok_or_else(|| Error::new("no standard output"))?;
    let (sender, lines) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(line);
    });
    let said = lines.recv_timeout(READY_LIMIT).unwrap_or_default();
    process::wait(&mut child, READY_LIMIT).context("start the warden")?;
    if said.trim_end() == warden::READY {
        return Ok(());
    }
    let log = fs::read_to_string(&log).unwrap_or_default();
    let why = log.lines().last().unwrap_or("it said nothing");
    Err(Error::new(format!("the warden did not come up: {why}")))
}

/// Refuses a machine, or a system, on which no lab could be built.
pub(crate) fn check(system: &System) -> Result<()> {
    if !geteuid().is_root() {
        return Err(Error::new(
            "a lab needs root: namespaces, loop devices and mounts are made",
        ));
    }
    for (path, origin) in NEEDED {
        if !Path::new(path).exists() {
            return Err(Error::new(format!("{path} is missing; {origin}")));
        }
    }
    system.check()
}

/// This program, if it is `lab`, or the `lab` built beside it or one directory up, where Cargo puts
/// a test's own program.
pub(crate) fn find_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    if own.file_stem().is_some_and(|name| name == "lab") {
        return Ok(own);
    }
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join("lab"));
    beside.into_iter().find(|p| p.is_file()).ok_or_else(|| {
        Error::new(format!(
            "no `lab` program near {}; `cargo build -p lab`",
            own.display()
        ))
    })
}
