//! How a keeper comes to life: a process of its own, one per cell, behind a socket.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::announcing::Announcing;
use super::{FIRST_MEMBER_LIMIT, Keeper};
use crate::cell::guard::Guard;
use crate::cell::{job, protocol};
use crate::ocf::{Env, log};

/// How long a keeper waits for the one before it to end.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(20);

/// How the kernel's out-of-memory killer likes it: last of all, as the end of a keeper is the end of
/// its cell.
const OOM_SCORE: &str = "-900";

/// The whole life of the process `berth-keeper VSERVER`; its result is its exit code.
///
/// Its standard output is a pipe: `ok` is written when agents may connect, or else the reason why not.
pub fn main(vserver: &str) -> i32 {
    log::init(protocol::KEEPER, &Env::from_process());
    let (mut keeper, _lock) = match begin(vserver) {
        Ok(both) => both,
        Err(e) => {
            log::error(&e);
            answer(&e.to_string());
            return 1;
        }
    };
    answer("ok");
    match keeper.serve() {
        Ok(()) => 0,
        Err(e) => {
            log::critical(format_args!("keeper of {vserver}: {e}"));
            1
        }
    }
}

fn begin(vserver: &str) -> io::Result<(Keeper, Flock<File>)> {
    // Its parent is an agent, which ends long before it.
    nix::sys::prctl::set_pdeathsig(None)?;
    job::close_others(Vec::new());
    rustix::thread::set_name(c"berth-keeper")?;
    nix::unistd::setsid()?;
    rustix::process::chdir("/")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if let Err(e) = fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        // A container may not have the right to.
        log::debug(format_args!("write oom_score_adj: {e}"));
    }
    let lock = lock(vserver)?;
    let signals = block_signals()?;
    let guard = Guard::spawn()?;
    let listener = listen(vserver)?;
    let keeper = Keeper {
        vserver: vserver.to_owned(),
        listener: Some(listener),
        signals,
        guard,
        clients: Vec::new(),
        volumes: BTreeMap::new(),
        servers: None,
        last_home: None,
        cell: None,
        build_until: None,
        announcing: Announcing::default(),
        reports: Vec::new(),
        leftover: Vec::new(),
        idle_until: Some(Instant::now() + FIRST_MEMBER_LIMIT),
        ending: false,
    };
    Ok((keeper, lock))
}

/// Tells the agent that started it, and leaves it alone from then on.
fn answer(text: &str) {
    // It may have been killed meanwhile.
    let _ = writeln!(io::stdout(), "{text}");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

/// Held as long as the keeper lives: there is never more than one.
fn lock(vserver: &str) -> io::Result<Flock<File>> {
    let path = protocol::directory(vserver).join("keeper.lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| crate::sys::message(e, format_args!("open {}", path.display())))?;
    let deadline = Instant::now() + PREDECESSOR_LIMIT;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, e)) if Instant::now() >= deadline => {
                let what = format!("another keeper of {vserver} does not end");
                return Err(crate::sys::message(e.into(), what));
            }
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn block_signals() -> io::Result<SignalFd> {
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

/// Listens; whoever holds the lock may replace a socket that a dead keeper has left.
fn listen(vserver: &str) -> io::Result<OwnedFd> {
    forget_socket(vserver);
    let path = protocol::socket(vserver);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)
        .and_then(|()| rustix::net::listen(&socket, 64))
        .map_err(|e| crate::sys::message(e.into(), format_args!("listen on {}", path.display())))?;
    Ok(socket)
}

/// Removes the socket's name.
pub fn forget_socket(vserver: &str) {
    let path = protocol::socket(vserver);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            log::warn(format_args!("remove {}: {e}", path.display()));
        }
        _ => {}
    }
}
