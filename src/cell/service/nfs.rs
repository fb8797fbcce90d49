//! NFS-Ganesha: NFSv4 over TCP, without rpcbind, statd or D-Bus.
//!
//! Answers some 10 ms after its start. Where no client is known from before, it lifts its grace period at
//! once; else when the last of them has claimed its locks.
//!
//! Run with 4.3 and 6.5: file handles, file system identities and the records of clients are the same, byte
//! by byte, so a server may move to a node with the other one, and back. Listens on its one port in both;
//! builds of 5 and 6 with `USE_MONITORING`, which is not the default, have one more that no setting closes.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::thread::CapabilitySet;

use super::super::filter::Call;
use super::super::probe::Protocol;
use super::{
    Access, CONFIG, Change, Client, Entry, Export, Launch, NfsExport, Ports, Ready, ServerSpec,
    Squash, Surroundings, Version, directory, file,
};
use crate::hash::fnv32;

pub(crate) const NAME: &str = "nfs";

const PROGRAM: &str = "ganesha.nfsd";

/// What makes it tell its version.
pub(crate) const TELL_VERSION: [&str; 2] = [PROGRAM, "-v"];

/// To open by handle (`DAC_READ_SEARCH`), to act as the client's user (`SETUID`, `SETGID`), and root's
/// rights over files for clients whose root is not squashed. Not `SYS_RESOURCE`: with it quotas would not
/// bind. Not `NET_BIND_SERVICE`: its port is above 1023.
pub(crate) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// The number of an export, 1 to 65535. It is part of every file handle, so it must be the same on every
/// node and whatever other exports there are: it is made of the directory alone.
pub(crate) fn export_id(directory: &str) -> u16 {
    // 0 is the root of the pseudo file system.
    u16::try_from(fnv32(directory) % 65535).map_or(1, |id| id + 1)
}

pub(crate) fn entries(
    spec: &ServerSpec,
    exports: &[Export],
    found: &Surroundings,
) -> Result<Vec<Entry>, String> {
    Ok(vec![
        directory(state(spec), 0o700),
        file(config(), render(spec, exports, found)?),
    ])
}

/// No complaints at each start that a cell has no D-Bus. Left out where the admin may have a block of this
/// kind: since 6.0 the first one would be the only one that counts.
const QUIET: &str = "LOG {\n\tCOMPONENTS { DBUS = FATAL; }\n}\n";

/// Where the configuration lies in the cell.
pub(crate) fn config() -> String {
    format!("{CONFIG}/ganesha.conf")
}

/// Which lines of a configuration that was rendered here are about this directory, counted from 1.
pub(crate) fn lines_about(config: &str, directory: &str) -> Option<RangeInclusive<usize>> {
    let path = path_line(directory);
    let mut begin = 0;
    let mut found = false;
    for (number, line) in (1..).zip(config.lines()) {
        match line {
            "EXPORT {" => (begin, found) = (number, false),
            "}" if found => return Some(begin..=number),
            line => found |= line == path,
        }
    }
    None
}

fn path_line(directory: &str) -> String {
    format!("\tPath = \"{directory}\";")
}

fn state(spec: &ServerSpec) -> String {
    format!("{}/nfs", spec.state.display())
}

pub(crate) fn launch() -> Launch {
    Launch {
        name: NAME.to_owned(),
        argv: [
            PROGRAM,
            "-F",
            "-L",
            "STDERR",
            "-N",
            "NIV_EVENT",
            "-f",
            &config(),
            "-p",
            "/run/ganesha.pid",
        ]
        .map(str::to_owned)
        .to_vec(),
        environment: vec![],
        capabilities: CAPABILITIES,
        calls: vec![Call::OPEN_BY_HANDLE, Call::NAME_TO_HANDLE],
        ready: Ready::Answers(Protocol::Nfs),
        stop: libc::SIGTERM,
        patience: Duration::from_secs(5),
    }
}

pub(crate) fn differs(old: &[Export], new: &[Export]) -> bool {
    let served = |exports: &[Export]| -> Vec<(String, NfsExport)> {
        let mut all: Vec<_> = exports
            .iter()
            .filter_map(|e| Some((e.directory.clone(), e.nfs.clone()?)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    served(old) != served(new)
}

pub(crate) fn change() -> Change {
    Change::Signal {
        server: NAME,
        signal: libc::SIGHUP,
    }
}

fn render(spec: &ServerSpec, exports: &[Export], found: &Surroundings) -> Result<String, String> {
    let mut text = head(spec, found.ganesha);
    let mut seen: Vec<(u16, &str)> = vec![];
    for export in exports {
        let Some(nfs) = &export.nfs else { continue };
        let id = export_id(&export.directory);
        if let Some((_, other)) = seen.iter().find(|(other, _)| *other == id) {
            return Err(format!(
                "{} and {other} have the same NFS export number ({id}): use another directory",
                export.directory
            ));
        }
        seen.push((id, &export.directory));
        text.push_str(&block(id, &export.directory, nfs));
    }
    match &found.nfs_snippet {
        Some(path) => {
            let _ = writeln!(text, "%include \"{}\"", path.display());
        }
        None => text.push_str(QUIET),
    }
    Ok(text)
}

fn head(spec: &ServerSpec, version: Version) -> String {
    let ServerSpec {
        name,
        lease,
        grace,
        limits,
        ..
    } = spec;
    let connections = limits.of_server();
    let clients = limits.connections;
    let state = state(spec);
    let since = |first: Version, line: &'static str| if version >= first { line } else { "" };
    // It would be an I/O flusher, which takes CAP_SYS_RESOURCE (src/MainNFSD/nfs_main.c), and ends if it
    // can't. 6.0 does so too, but knows no such key. An unknown one is complained of.
    let flusher = since(Version::new(6, 1), "\tAllow_Set_Io_Flusher_Fail = true;\n");
    // A client that is gone would be kept for a day, its record too (src/SAL/nfs4_clientid.c), and each
    // start in that time would wait for it until the end of the grace period.
    let expired = since(Version::new(6, 0), "\tExpired_Client_Threshold = 0;\n");
    format!(
        "# Made by berth; changes are overwritten. Put your own into the vserver's config_dir.\n\
        NFS_CORE_PARAM {{\n\
        \tProtocols = 4;\n\
        \tEnable_NLM = false;\n\
        \tEnable_RQUOTA = false;\n\
        \tEnable_UDP = false;\n\
        \tfsid_device = false;\n\
        \tRPC_Max_Connections = {connections};\n\
        {flusher}\
        }}\n\
        NFSV4 {{\n\
        \tServer_Scope = \"{name}\";\n\
        \tLease_Lifetime = {lease};\n\
        \tGrace_Period = {grace};\n\
        \tRecoveryBackend = fs;\n\
        \tRecoveryRoot = \"{state}\";\n\
        \tMinor_Versions = 0, 1, 2;\n\
        \tOnly_Numeric_Owners = true;\n\
        \tMax_Client_Ids = {clients};\n\
        {expired}\
        }}\n\
        NFS_KRB5 {{\n\
        \tActive_krb5 = false;\n\
        }}\n"
    )
}

/// One export. Nobody has access but the clients named, of whom the first that fits counts, and whoever asks
/// from within the cell whether it is exported ([`Inquiry::find`](crate::cell::probe::Inquiry::find)): as a client to
/// whom it is not, he would be told that it does not exist.
fn block(id: u16, directory: &str, nfs: &NfsExport) -> String {
    let access = match nfs.access {
        Access::Ro => "RO",
        Access::Rw => "RW",
    };
    let squash = match nfs.squash {
        Squash::Root => "Root_Squash",
        Squash::All => "All_Squash",
        Squash::None => "No_Root_Squash",
    };
    let clients: Vec<_> = nfs.clients.iter().map(Client::to_string).collect();
    let privileged = nfs.ports == Ports::Privileged;
    let path = path_line(directory);
    format!(
        "EXPORT {{\n\
        \tExport_Id = {id};\n\
        {path}\n\
        \tPseudo = \"{directory}\";\n\
        \tProtocols = 4;\n\
        \tTransports = TCP;\n\
        \tSecType = sys;\n\
        \tAccess_Type = None;\n\
        \tSquash = {squash};\n\
        \tCLIENT {{ Clients = {}; Protocols = 4; Access_Type = {access}; PrivilegedPort = {privileged}; }}\n\
        \tCLIENT {{ Clients = 127.0.0.1; Protocols = 4; Access_Type = MDONLY_RO; Squash = All_Squash; PrivilegedPort = false; }}\n\
        \tFSAL {{ Name = VFS; }}\n\
        }}\n",
        clients.join(", ")
    )
}
