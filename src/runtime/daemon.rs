//! Processes of berth's that outlive the agent which starts them: each has a name of its own, a lock that only one can
//! hold, and a socket by which it is reached.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::log;
use crate::runtime::channel::Channel;
use crate::sys::cgroup;
use crate::sys::command::command;
use crate::sys::lock::{self, Lock};
use crate::sys::poll::wait_readable;
use crate::sys::{message, namespace, process};

/// How long a killed daemon is waited for.
const KILLED_LIMIT: Duration = Duration::from_millis(500);
/// The rank of a daemon for the kernel's out-of-memory killer: after all others. -1000 would mean never, even if the
/// daemon itself leaks.
const OOM_SCORE: &CStr = c"-900";

/// A daemon to start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// The name of its process, by which the program knows which daemon it is.
    pub(crate) name: &'a str,
    /// Its argument.
    pub(crate) argument: &'a str,
    /// The resource that it belongs to, under whose name it logs.
    pub(crate) instance: &'a str,
    /// How messages call it.
    pub(crate) what: &'a str,
}

/// Starts a daemon: this same program under another name. Returns when it has said that it can be
/// connected to. Of the environment it gets the variables that `pass` lets through, and those that
/// say where to log.
///
/// # Errors
/// Its own reason why not; `TimedOut` at `deadline`.
pub(crate) fn start(
    call: &Call<'_>,
    pass: impl Fn(&OsStr) -> bool,
    deadline: Instant,
) -> io::Result<()> {
    let Call { name, what, .. } = call;
    let passed = |name: &OsStr| name.as_encoded_bytes().starts_with(b"HA_") || pass(name);
    let mut daemon = command("/proc/self/exe");
    daemon
        .arg0(name)
        .arg(call.argument)
        .envs(std::env::vars_os().filter(|(name, _)| passed(name)))
        .env("OCF_RESOURCE_INSTANCE", call.instance)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // The daemon is not waited for: it lives on, and becomes a child of the system's PID 1.
    let mut child = daemon
        .spawn()
        .map_err(|e| message(e, format_args!("start {what}")))?;
    let mut answer = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        wait_readable(&pipe, deadline)
            .map_err(|e| message(e, format_args!("{what} does not start")))?;
        let mut text = [0; 1024];
        let length = pipe.read(&mut text)?;
        answer = String::from_utf8_lossy(&text[..length]).trim().to_owned();
    }
    match answer.as_str() {
        "ok" => Ok(()),
        "" => Err(io::Error::other(format!("{what} ended at once"))),
        why => Err(io::Error::other(format!("{what}: {why}"))),
    }
}

/// Connects to the daemon called `name` at `path`, and returns its process id, too; `None` if there is none.
///
/// # Errors
/// If what listens there is not berth's.
pub(crate) fn connect(path: &Path, name: &str, what: &str) -> io::Result<Option<(Channel, i32)>> {
    let channel = match Channel::connect(path) {
        Ok(channel) => channel,
        Err(e) => {
            return match e.kind() {
                // A killed daemon leaves its socket behind.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(message(e, format_args!("connect to {}", path.display()))),
            };
        }
    };
    let (process, user) = channel.peer()?;
    if user != 0 || !is_called(process, name) {
        let called = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        let called = called.trim();
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} belongs to process {process} ({called}, user {user}), not to berth's {what}: end it or remove the socket",
                path.display()
            ),
        ));
    }
    Ok(Some((channel, process)))
}

/// Whether a process runs the very program that this one runs. After an upgrade a daemon goes on with the
/// program that it was started with.
pub(crate) fn runs_this_program(process: i32) -> bool {
    let program = |of: &str| {
        let file = fs::metadata(format!("/proc/{of}/exe")).ok()?;
        Some((file.dev(), file.ino()))
    };
    // A process that has ended meanwhile need not be replaced.
    program(&process.to_string()).is_none_or(|theirs| program("self") == Some(theirs))
}

/// Whether the file of the program that a process runs was removed or replaced. Each agent is a program of its own, any
/// of which may have started a keeper, and an upgrade replaces them all.
pub(crate) fn was_replaced(process: i32) -> bool {
    // proc_pid_exe(5). A process that has ended meanwhile has no such link.
    let program = fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
    program.as_os_str().as_bytes().ends_with(b" (deleted)")
}

/// A pidfd of the daemon called `name` with this process id.
///
/// # Errors
/// `NotFound` if it has died, though its number may be another process's by now; whatever the kernel refuses.
pub(crate) fn open_process(process: i32, name: &str) -> io::Result<OwnedFd> {
    let handle = namespace::open_process(process)?;
    // From now on the pidfd stands for this process, even if the process id is used again.
    match is_called(process, name) {
        true => Ok(handle),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Kills a daemon, and waits until it has died: until then its socket takes connections as if it lived.
pub(crate) fn kill(daemon: &OwnedFd) {
    // A failure means that the daemon has died. If it can't die yet, the caller's own proof finds that out.
    let _ = rustix::process::pidfd_send_signal(daemon, rustix::process::Signal::KILL);
    let _ = wait_readable(daemon, Instant::now() + KILLED_LIMIT);
}

/// Whether a process has this name. A process that was just killed has none any more, and passes.
fn is_called(process: i32, name: &str) -> bool {
    let called = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    // The kernel keeps 15 bytes of a name.
    matches!(called.trim(), called if called.is_empty() || called == name.get(..15).unwrap_or(name))
}

/// Makes a directory for root alone. One that belongs to another user is not used.
///
/// # Errors
/// If it can't be made, or is somebody else's.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(message(
                e,
                format_args!("make directory {}", path.display()),
            ));
        }
        _ => {}
    }
    let is = fs::symlink_metadata(path)?;
    if !is.is_dir() || is.uid() != 0 || is.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "{} is not a directory of root's alone (mode 0700): remove it",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Detaches this process from the agent that has started it, which ends long before it.
///
/// # Errors
/// Whatever the kernel refuses.
///
/// # Safety
/// As of [`process::close_all_but`]: the process has just been executed, and uses no descriptor from 3 on, all of which
/// are closed.
pub(crate) unsafe fn detach(name: &CStr) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(None)?;
    // SAFETY: the caller's promise.
    unsafe { process::close_all_but(&mut [0, 1, 2]) };
    rustix::thread::set_name(name)?;
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Makes the kernel's out-of-memory killer take this process last. If it kills a keeper, the cell ends. And under
/// systemd, if it kills any process in Pacemaker's service, such as portwatch's daemon, the whole service ends
/// (`OOMPolicy=` in systemd.service(5)).
pub(crate) fn protect() {
    if let Err(e) = cgroup::set_oom_score(OOM_SCORE) {
        // A container may not have the right to do that.
        log::debug(format_args!("write oom_score_adj: {e}"));
    }
}

/// Answers the agent that has started this process: `ok`, or why not. After that standard output leads nowhere.
pub(crate) fn answer(text: &str) {
    // The agent may have been killed meanwhile.
    let _ = writeln!(io::stdout(), "{text}");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// A lock that is held as long as the daemon lives: there is never more than one.
///
/// # Errors
/// If the previous daemon still holds it at `deadline`.
pub(crate) fn lock(path: &Path, what: &str, deadline: Instant) -> io::Result<Lock> {
    Lock::take(lock::open(path)?, deadline).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => message(e, format_args!("another {what} does not end")),
        _ => message(e, format_args!("lock {}", path.display())),
    })
}

/// Blocks SIGTERM, SIGINT, SIGHUP and SIGCHLD, which are read from the returned descriptor instead.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn block_signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGCHLD,
    ] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(
        &signals,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// Listens on a socket, which replaces one that a dead daemon has left. The caller holds the daemon's lock.
///
/// # Errors
/// If the socket can't be made, or the old one can't be removed.
pub(crate) fn listen(path: &Path) -> io::Result<OwnedFd> {
    // The name that agents know leads to a socket at any moment.
    let new = path.with_extension("new");
    forget_socket(&new)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&new)?)
        .and_then(|()| rustix::net::listen(&socket, 64))
        .and_then(|()| rustix::fs::rename(&new, path))
        .map_err(|e| message(e.into(), format_args!("listen on {}", path.display())))?;
    Ok(socket)
}

/// Removes a socket's name, if there is one.
///
/// # Errors
/// If it can't be removed.
pub(crate) fn forget_socket(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(message(e, format_args!("remove {}", path.display())))
        }
        _ => Ok(()),
    }
}
