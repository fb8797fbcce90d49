//! Running one program on another system's root file system: with this machine's kernel and devices, and
//! with namespaces of its own, so that nothing of it outlives it.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::unshare;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, geteuid};

use crate::enter::NAMESPACES;
use crate::error::{Context, Error, Result};
use crate::process::{PATH, command, run};
use crate::rootfs;
use crate::system::System;

/// Something that this machine has, to mount on, and under which nothing is that is needed.
const PLACE: &str = "/run";
const NETWORK_LIMIT: Duration = Duration::from_secs(10);

/// Runs `words` on `system`, in the current directory, and returns the exit code; 128 and the signal's
/// number stand for a death by signal. The directories `shown` are there under the same paths, to be
/// written to; what is written elsewhere is gone afterwards. The network has nothing but the loopback
/// interface.
///
/// # Errors
/// If that can't be set up, or the program not started.
pub fn run_on(system: &System, shown: &[PathBuf], words: &[String]) -> Result<u8> {
    if !geteuid().is_root() {
        return Err(Error::new(
            "this needs root: namespaces and mounts are made",
        ));
    }
    system.check_root()?;
    let _held = system.hold()?;
    let here = env::current_dir().context("the current directory")?;
    let shown: Vec<PathBuf> = shown
        .iter()
        .map(|dir| dir.canonicalize().context(dir.display()))
        .collect::<Result<_>>()?;
    unshare(NAMESPACES).context("make namespaces")?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("start PID 1")? {
        ForkResult::Parent { child } => wait_for(child),
        ForkResult::Child => {
            // Whoever ends this program ends what it runs.
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("die with the parent")?;
            live(system, &here, &shown, words)
        }
    }
}

/// PID 1 of the program's namespaces: builds its root, starts it, reaps what it leaves behind.
fn live(system: &System, here: &Path, shown: &[PathBuf], words: &[String]) -> Result<u8> {
    rootfs::make_private()?;
    rootfs::tmpfs(Path::new(PLACE), "mode=755")?;
    let root = rootfs::show(system, None, Path::new(PLACE))?;
    rootfs::kernel(&root)?;
    rootfs::bind(Path::new("/dev"), &root.join("dev"))?;
    rootfs::runtime(&root)?;
    for dir in shown {
        let at = root.join(dir.strip_prefix("/").unwrap_or(dir));
        fs::create_dir_all(&at).context(at.display())?;
        rootfs::bind(dir, &at)?;
    }
    rootfs::enter(&root)?;
    env::set_current_dir(here).map_err(|e| {
        let here = here.display();
        Error::new(format!(
            "the current directory {here} is not there (--show it): {e}"
        ))
    })?;
    let mut loopback = command("ip");
    loopback.args(["link", "set", "lo", "up"]);
    run(loopback, "", NETWORK_LIMIT)?.check("switch the loopback interface on")?;
    // SAFETY: this process has one thread; those that read the output of `ip` have ended.
    match unsafe { fork() }.context("start the program")? {
        ForkResult::Parent { child } => wait_for(child),
        ForkResult::Child => match become_program(words) {
            Ok(never) => match never {},
            Err(e) => Err(e),
        },
    }
}

fn become_program(words: &[String]) -> Result<Infallible> {
    let (program, args) = words
        .split_first()
        .ok_or_else(|| Error::new("no program was named"))?;
    #[allow(clippy::disallowed_methods)]
    // becomes the program, with what the caller's environment says
    let mut command = Command::new(program);
    let error = command.args(args).env("PATH", PATH).exec();
    Err(error).context(format!("start {program}"))
}

/// Reaps until `child` has ended.
fn wait_for(child: Pid) -> Result<u8> {
    loop {
        let code = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => code,
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(e) => return Err(e).context("wait for the program"),
        };
        return u8::try_from(code).context("an exit code");
    }
}
