//! The servers of a cell: what they are to serve, the files that tell them so, how each is started,
//! told of a change, and stopped.
//!
//! Pure but for [`Surroundings::look`]: files and command lines are rendered from values that were checked
//! when they were parsed, so that nothing in a parameter can end a line, a quote or a block of a
//! server's configuration.
//!
//! # What the servers need of a cell
//! Tried with nfs-ganesha 4.3 and 6.5, and with Samba 4.17 and 4.22:
//! - `/proc` mounted with `subset=pid` is enough for both, but `/etc/mtab` must lead to
//!   `/proc/self/mounts`: Ganesha finds its file systems there. On some machines it leads to
//!   `/proc/mounts`, which is hidden then.
//! - Ganesha looks its own host name up before it answers. Where that goes out to a name server that
//!   a cell can't reach, the first answer is seconds late: hence [`files`]' own `/etc/hosts` and empty
//!   `/etc/resolv.conf`.
//! - For XFS, a device node that nothing can open: [`Entry::Node`].
//! - `no_new_privs` and the capabilities of [`Launch`] are enough.
//! - Samba starts helpers (`samba-dcerpcd`) in sessions of their own, which outlive it and keep files of
//!   the state directory open: once the servers have ended, what else runs in the cell must be killed
//!   before the home file system is unmounted.
//! - An NFS export that is taken away is let go some 15 ms after Ganesha got its signal: an unmount is
//!   to be tried until it works.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use super::cgroup;
use super::filter::Call;
use super::probe::Protocol;
use crate::plan;
use crate::runtime::paths::RUNTIME_IN_CELL;
use crate::sys::superblock::Uuid;
use crate::types::VserverName;

mod handle;
mod limits;
mod nfs;
mod own;
mod smb;
mod value;
mod version;

pub(crate) use limits::Limits;
pub(crate) use nfs::config as nfs_config;
pub(crate) use nfs::lines_about as nfs_lines_about;
pub(crate) use own::Own;
pub(crate) use value::{Access, Ports, Squash, User};
pub use value::{Client, ShareName};
pub(crate) use version::Version;

/// Where the generated configuration lies in the cell.
const CONFIG: &str = RUNTIME_IN_CELL;

/// What a vserver runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// The vserver's name: host name, NFSv4 server scope, SMB server name.
    pub name: VserverName,
    /// Whether it serves NFS.
    pub nfs: bool,
    /// Whether it serves SMB.
    pub smb: bool,
    /// Further commands, each for a shell.
    pub commands: Vec<String>,
    /// Where the servers keep what must move with them, as the cell sees it: on the home file system.
    pub state: PathBuf,
    /// NFSv4 lease, in seconds.
    pub lease: u32,
    /// NFSv4 grace period, in seconds.
    pub grace: u32,
    /// A directory of the admin's own configuration: see [`Surroundings`].
    pub config_dir: Option<PathBuf>,
    /// What they may use of the node.
    #[serde(default, skip_serializing_if = "cgroup::Limits::are_default")]
    pub cgroup: cgroup::Limits,
    /// How many connections they take.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// System calls that the servers may make beyond what every server may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_calls: Vec<Call>,
}

impl ServerSpec {
    /// How long a client's state outlives its last word, in seconds. Clients renew after two thirds of
    /// it; much less, and a client that is merely slow loses its locks.
    pub const LEASE: u32 = 15;
    /// How long a server that has just started waits for its former clients to claim their locks, in
    /// seconds. A client notices the restart at its next renewal, so it must be longer than the lease.
    pub const GRACE: u32 = 20;
}

/// A file system that the servers are to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Where it is attached in the cell: a normal absolute path.
    pub directory: String,
    /// For XFS, what its handles are made of.
    pub xfs: Option<XfsIdentity>,
    /// How NFS serves it.
    pub nfs: Option<NfsExport>,
    /// How SMB serves it.
    pub smb: Option<SmbShare>,
}

/// What ties an XFS to its UUID where libblkid can't read the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct XfsIdentity {
    /// The block device's number on this node (`st_rdev`).
    pub device: u64,
    /// The file system's UUID.
    pub uuid: Uuid,
}

impl Export {
    /// All that servers of these protocols are to serve of it: the protocol, and what to ask for by it.
    pub(crate) fn served(&self, spec: &ServerSpec) -> Vec<(Protocol, &str)> {
        let nfs = self.nfs.as_ref().filter(|_| spec.nfs);
        let smb = self.smb.as_ref().filter(|_| spec.smb);
        let nfs = nfs.map(|_| (Protocol::Nfs, self.directory.as_str()));
        let smb = smb.map(|share| (Protocol::Smb, share.name.as_str()));
        nfs.into_iter().chain(smb).collect()
    }
}

/// The [`Launch::name`] of the server of a protocol.
pub(crate) const fn server_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Nfs => nfs::NAME,
        Protocol::Smb => smb::NAME,
    }
}

/// An export over NFS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NfsExport {
    /// Who may mount it; nobody else can.
    pub clients: Vec<Client>,
    /// What they may do.
    pub access: Access,
    /// Whose rights they have.
    pub squash: Squash,
    /// From which ports they may come.
    #[serde(default, skip_serializing_if = "Ports::is_default")]
    pub ports: Ports,
}

/// A share over SMB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmbShare {
    /// Its name.
    pub name: ShareName,
    /// Who may use it; empty: each user whom the server knows.
    pub users: Vec<User>,
    /// Whether they may only read.
    pub read_only: bool,
}

/// What the configuration depends on besides what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The admin's own configuration, included at the end of the generated one: `ganesha.conf` in the
    /// vserver's `config_dir`, if it exists.
    nfs_snippet: Option<PathBuf>,
    /// Likewise `smb.conf`.
    smb_snippet: Option<PathBuf>,
    /// Which NFS-Ganesha is installed.
    ganesha: Version,
    /// Which Samba is installed, if that matters.
    samba: Version,
}

impl Surroundings {
    /// Looks what there is. To be called in the cell.
    ///
    /// # Errors
    /// If a server that is wanted is not installed or does not tell its version.
    pub fn look(spec: &ServerSpec, exports: &[Export]) -> io::Result<Self> {
        let ask = |wanted, argv: [&str; 2]| match wanted {
            true => Version::ask(&argv),
            false => Ok(Version::NEWEST),
        };
        Ok(Self {
            nfs_snippet: snippet(spec, "ganesha.conf"),
            smb_snippet: snippet(spec, "smb.conf"),
            ganesha: ask(spec.nfs, nfs::TELL_VERSION)?,
            samba: ask(smb::shares_with_nfs(spec, exports), smb::TELL_VERSION)?,
        })
    }
}

/// The admin's file of this name, if it exists.
fn snippet(spec: &ServerSpec, name: &str) -> Option<PathBuf> {
    let path = spec.config_dir.as_ref()?.join(name);
    path.is_file().then_some(path)
}

/// Something that must be in the cell before a server starts. Owned by root; what is there already is
/// replaced, directories excepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Where.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file, to be replaced as a whole: a server may read it at any moment.
    File {
        /// Where. What is under `/etc` belongs over the host's.
        path: PathBuf,
        /// All of it.
        content: String,
        /// Its permissions.
        mode: u32,
    },
    /// A block device node that nothing can open: mode 0, on a `nodev` tmpfs of its own that is
    /// mounted on the directory it is in.
    Node {
        /// Where.
        path: PathBuf,
        /// The device's number.
        device: u64,
    },
}

/// How a server is started and watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Its name in messages: `nfs`, `smb`, `command 1`.
    pub name: String,
    /// Program, by name, and arguments. It stays in the foreground and logs to standard error.
    pub argv: Vec<String>,
    /// Its environment, in addition to `PATH` and `LC_ALL=C`.
    pub environment: Vec<(String, String)>,
    /// All the capabilities it gets.
    pub capabilities: CapabilitySet,
    /// System calls that it may make beyond what every server may.
    pub(crate) calls: Vec<Call>,
    /// How to see that it serves.
    pub ready: Ready,
    /// The signal that asks it to end.
    pub stop: i32,
    /// After this long, it is killed.
    pub patience: Duration,
}

/// How to see that a server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// It answers [`crate::cell::probe::ask`].
    Answers(Protocol),
    /// It does not end at once.
    Started,
}

/// What makes running servers take up changed exports, to be done in this order after [`files`] were
/// written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Send `signal` to the server of this name.
    Signal {
        /// [`Launch::name`].
        server: &'static str,
        /// The signal.
        signal: i32,
    },
    /// Run this in the cell, with the rights of the server of this name.
    Run {
        /// [`Launch::name`].
        server: &'static str,
        /// Program, by name, and arguments.
        argv: Vec<String>,
    },
}

/// All that must be in the cell for these exports, in the order of making.
///
/// # Errors
/// Two exports that can't be served side by side, named.
pub fn files(
    spec: &ServerSpec,
    exports: &[Export],
    found: &Surroundings,
) -> Result<Vec<Entry>, String> {
    check(spec, exports)?;
    let mut entries = vec![
        directory(CONFIG, 0o755),
        directory(&spec.state, 0o700),
        file(
            "/etc/hosts",
            format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", spec.name),
        ),
        file("/etc/resolv.conf", String::new()),
        file("/etc/hostname", format!("{}\n", spec.name)),
    ];
    if spec.nfs {
        entries.extend(handle::entries(exports));
        entries.extend(nfs::entries(spec, exports, found)?);
    }
    if spec.smb {
        entries.extend(smb::entries(spec, exports, found)?);
    }
    Ok(entries)
}

/// Refuses a path that could not be written into a server's configuration as it is.
fn check(spec: &ServerSpec, exports: &[Export]) -> Result<(), String> {
    for export in exports {
        let directory = &export.directory;
        plan::directory::check(directory).map_err(|e| format!("directory {directory} {e}"))?;
    }
    for path in spec.config_dir.iter().chain([&spec.state]) {
        let plain = |c: char| c.is_alphanumeric() || " /._-+,@=".contains(c);
        match path.to_str() {
            Some(text) if text.starts_with('/') && text.chars().all(plain) => {}
            _ => {
                return Err(format!(
                    "path {path:?} is not absolute or has characters other than letters, digits, \
                     spaces and / . _ - + , @ ="
                ));
            }
        }
    }
    Ok(())
}

/// The capabilities of a file server, whichever protocol it speaks.
pub const CAPABILITIES: CapabilitySet = nfs::CAPABILITIES.union(smb::CAPABILITIES);

/// The servers, in the order of starting. They are stopped in the reverse order.
pub fn launches(spec: &ServerSpec) -> Vec<Launch> {
    let mut launches = vec![];
    if spec.nfs {
        launches.push(nfs::launch());
    }
    if spec.smb {
        launches.push(smb::launch());
    }
    for (i, command) in spec.commands.iter().enumerate() {
        launches.push(Launch {
            name: format!("command {}", i + 1),
            // "exec": signals and the exit code are the command's own, not the shell's.
            argv: ["sh", "-c", &format!("exec {command}")]
                .map(str::to_owned)
                .to_vec(),
            environment: vec![],
            capabilities: CAPABILITIES,
            calls: vec![],
            ready: Ready::Started,
            stop: libc::SIGTERM,
            patience: Duration::from_secs(5),
        });
    }
    for launch in &mut launches {
        launch.calls.extend(&spec.allow_calls);
    }
    launches
}

/// What running servers must be told when they did not take what they were told last, and nobody knows which of the
/// exports `old` they still have: they are to have `new` ones.
pub(crate) fn changes_anew(spec: &ServerSpec, old: &[Export], new: &[Export]) -> Vec<Change> {
    let mut changes = vec![];
    if spec.nfs {
        changes.push(nfs::change());
    }
    if spec.smb {
        changes.extend(smb::changes_anew(old, new));
    }
    changes
}

/// What running servers must be told when their exports were `old` and are `new` now.
pub fn changes(spec: &ServerSpec, old: &[Export], new: &[Export]) -> Vec<Change> {
    let mut changes = vec![];
    if spec.nfs && nfs::differs(old, new) {
        changes.push(nfs::change());
    }
    if spec.smb {
        changes.extend(smb::changes(spec, old, new));
    }
    changes
}

fn directory(path: impl AsRef<Path>, mode: u32) -> Entry {
    Entry::Directory {
        path: path.as_ref().to_owned(),
        mode,
    }
}

fn file(path: impl AsRef<Path>, content: String) -> Entry {
    Entry::File {
        path: path.as_ref().to_owned(),
        content,
        mode: 0o644,
    }
}

#[cfg(test)]
mod tests;
