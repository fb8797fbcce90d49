//! The agents' way to the keeper of a cell: finding it, starting it, asking it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};

use super::channel::{Channel, wait_readable};
use super::network;
use super::protocol::{self, KEEPER, Reply, Request};
use crate::sys::{command::command, message, namespace};

/// How long a keeper may take to answer what it can answer at once.
pub const PROMPT: Duration = Duration::from_secs(5);
/// How long a killed keeper is waited for.
const KILLED_LIMIT: Duration = Duration::from_millis(500);

/// A cell of this node.
#[derive(Debug)]
pub struct CellInfo {
    /// Its keeper.
    pub keeper_pid: i32,
    /// Its PID 1, as the host numbers it.
    pub init_pid: i32,
    /// Its network namespace.
    pub netns: OwnedFd,
    /// Name of the host's end of its veth.
    pub veth: String,
    /// Where its file systems are attached.
    pub directories: Vec<PathBuf>,
}

/// Finds the cell of `vserver`; `None` if it has none on this node.
///
/// # Errors
/// If there is a keeper, or something in its place, that does not answer as it should.
pub fn find(vserver: &str) -> io::Result<Option<CellInfo>> {
    let Some(client) = Client::connect(vserver)? else {
        return Ok(None);
    };
    let keeper_pid = client.keeper;
    match client.ask(&Request::Find, Instant::now() + PROMPT * 2) {
        Ok((Reply::Cell { init, directories }, Some(netns))) => Ok(Some(CellInfo {
            keeper_pid,
            init_pid: init,
            netns,
            veth: network::outside(vserver),
            directories,
        })),
        Ok((Reply::NoCell, _)) => Ok(None),
        Ok((Reply::Refused { message, .. }, _)) => Err(io::Error::other(message)),
        Ok(_) => Err(io::Error::other(
            "the keeper gave an answer to another question",
        )),
        // It ended in good order in this moment.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// A connection to a keeper.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    keeper: i32,
    vserver: String,
}

impl Client {
    /// Connects to the keeper of `vserver`; `None` if there is none.
    ///
    /// # Errors
    /// If what listens there is not berth's keeper.
    pub fn connect(vserver: &str) -> io::Result<Option<Self>> {
        let path = protocol::socket(vserver);
        let channel = match Channel::connect(&path) {
            Ok(channel) => channel,
            Err(e) => {
                return match e.kind() {
                    // A keeper that was killed leaves its socket behind.
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(message(e, format_args!("connect to {}", path.display()))),
                };
            }
        };
        let (keeper, user) = channel.peer()?;
        let name = fs::read_to_string(format!("/proc/{keeper}/comm")).unwrap_or_default();
        let name = name.trim();
        // One that has just been killed has no name any more.
        if user != 0 || !(name == KEEPER || name.is_empty()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{} belongs to process {keeper} ({name}, user {user}), not to berth's keeper: end it or remove the socket",
                    path.display()
                ),
            ));
        }
        Ok(Some(Self {
            channel,
            keeper,
            vserver: vserver.to_owned(),
        }))
    }

    /// Connects to the keeper of `vserver`, starting it if there is none.
    ///
    /// # Errors
    /// As [`Client::connect`], and whatever keeps a keeper from starting.
    pub fn connect_or_start(vserver: &str, deadline: Instant) -> io::Result<Self> {
        if let Some(client) = Self::connect(vserver)? {
            return Ok(client);
        }
        // Several agents may come at once: the first one starts the keeper, for all.
        let _lock = lock(vserver, deadline)?;
        if let Some(client) = Self::connect(vserver)? {
            return Ok(client);
        }
        start(vserver, deadline)?;
        Self::connect(vserver)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotConnected,
                format!("the keeper of {vserver} ended at once"),
            )
        })
    }

    /// The keeper's process.
    pub fn keeper(&self) -> i32 {
        self.keeper
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// `TimedOut` at `deadline`; `UnexpectedEof` if the keeper ended without an answer.
    pub fn ask(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> io::Result<(Reply, Option<OwnedFd>)> {
        self.ask_with(request, None, deadline)
    }

    /// As [`Client::ask`], handing over a copy of a descriptor.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_with(
        &self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        deadline: Instant,
    ) -> io::Result<(Reply, Option<OwnedFd>)> {
        let vserver = &self.vserver;
        self.channel
            .send(request, fd)
            .map_err(|e| match e.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    io::ErrorKind::UnexpectedEof.into()
                }
                _ => e,
            })
            .and_then(|()| self.channel.wait(deadline))
            .map_err(|e| match e.kind() {
                io::ErrorKind::TimedOut => {
                    message(e, format_args!("the keeper of {vserver} does not answer"))
                }
                io::ErrorKind::UnexpectedEof => {
                    message(e, format_args!("the keeper of {vserver} has ended"))
                }
                _ => message(e, format_args!("ask the keeper of {vserver}")),
            })
    }

    /// Kills the keeper, and with it the cell, and waits until it has died: until then its socket
    /// takes connections as if it lived.
    pub fn kill(&self) {
        // The kernel vouches for the process: it is still the one that accepted this connection, or
        // the connection would be closed.
        let process = namespace::open_process(self.keeper);
        let pid = nix::unistd::Pid::from_raw(self.keeper);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        // One that is not there any more, or can't die yet, is for the caller's own proof to find.
        if let Ok(process) = process {
            let _ = wait_readable(&process, Instant::now() + KILLED_LIMIT);
        }
    }
}

/// Runs `argv` in the cell of `vserver`, with this process's standard streams and rights.
///
/// # Errors
/// `NotFound` if there is no such cell; whatever the kernel refuses.
pub fn exec(vserver: &str, argv: &[String]) -> io::Result<ExitStatus> {
    let Some(cell) = find(vserver)? else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{vserver} has no cell on this node"),
        ));
    };
    let process = namespace::open_process(cell.init_pid)?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    setns(&process, all)
        .map_err(|e| message(e.into(), format_args!("enter the cell of {vserver}")))?;
    command("/usr/bin/env")
        .args(argv)
        .stdin(Stdio::inherit())
        .spawn()?
        .wait()
}

/// The directory of all keepers, and that of this one. What is not root's own is not used.
fn make_directory(vserver: &str) -> io::Result<PathBuf> {
    let directory = protocol::directory(vserver);
    for path in [Path::new(protocol::RUNTIME_DIRECTORY), &directory] {
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
    }
    Ok(directory)
}

fn lock(vserver: &str, deadline: Instant) -> io::Result<Flock<File>> {
    let path = make_directory(vserver)?.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| message(e, format_args!("open {}", path.display())))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, e)) if Instant::now() >= deadline => {
                return Err(message(e.into(), format_args!("lock {}", path.display())));
            }
            Err((same, _)) => file = same,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a keeper: this same program under another name. Returns when it can be connected to.
fn start(vserver: &str, deadline: Instant) -> io::Result<()> {
    let mut keeper = command("/proc/self/exe");
    keeper
        .arg0(KEEPER)
        .arg(vserver)
        .env("OCF_RESOURCE_INSTANCE", vserver)
        .envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HA_")))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // It is not waited for: it lives on, and becomes a child of the system's PID 1.
    let mut child = keeper
        .spawn()
        .map_err(|e| message(e, format_args!("start the keeper of {vserver}")))?;
    let mut answer = String::new();
    if let Some(mut pipe) = child.stdout.take() {
        wait_readable(&pipe, deadline)
            .map_err(|e| message(e, format_args!("the keeper of {vserver} does not start")))?;
        let mut text = [0; 1024];
        let length = pipe.read(&mut text)?;
        answer = String::from_utf8_lossy(&text[..length]).trim().to_owned();
    }
    match answer.as_str() {
        "ok" => Ok(()),
        "" => Err(io::Error::other(format!(
            "the keeper of {vserver} ended at once"
        ))),
        why => Err(io::Error::other(format!("the keeper of {vserver}: {why}"))),
    }
}
