//! Samba: SMB 2 and 3 over TCP, a standalone server whose users live on the home file system.
//!
//! Answers some 50 ms after its start, most of it spent on linking. What would delay it is switched off:
//! NetBIOS (broadcasts never reach a cell), printing, user shares.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use rustix::thread::CapabilitySet;

use super::super::probe::Protocol;
use super::{
    CONFIG, Change, Entry, Export, Launch, Ready, ServerSpec, SmbShare, Surroundings, Version,
    directory, file,
};

pub(crate) const NAME: &str = "smb";

const PROGRAM: &str = "smbd";

/// What makes it tell its version.
pub(crate) const TELL_VERSION: [&str; 2] = [PROGRAM, "-V"];

/// To act as the client's user, to listen on port 445, and root's rights over files, which Samba takes up
/// again where it stores ownership and access lists for a user. Tried without `KILL`: its processes keep
/// root as their real user, so they may signal each other.
pub(crate) const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::NET_BIND_SERVICE);

/// Samba's directories whose contents must move with the server.
const KEPT: [&str; 2] = ["private", "state"];

/// Those that mean nothing after a restart. Each process of Samba writes to them before it answers its client:
/// on a home file system that is full nobody could so much as delete a file.
const PASSING: [&str; 4] = ["lock", "cache", "pid", "ncalrpc"];

const RUN: &str = "/run/samba";

/// Minutes until a connection with a share but no open file is closed; clients make it anew unasked. Samba would
/// wait for a week. One that has come to no share is closed within a minute in any case (source3/smbd/smb2_process.c).
const IDLE_LIMIT: u32 = 60;

/// Clients that are gone are noticed within 8 minutes, their processes end and their files are free: the kernel
/// would take two hours (tcp(7)).
const SEE_DEAD: &str = "TCP_KEEPIDLE=300 TCP_KEEPINTVL=30 TCP_KEEPCNT=6";

pub(crate) fn entries(
    spec: &ServerSpec,
    exports: &[Export],
    found: &Surroundings,
) -> Result<Vec<Entry>, String> {
    let mut entries = vec![
        directory(state(spec), 0o700),
        directory(RUN, 0o755),
        directory("/var/log/samba", 0o750),
    ];
    for name in KEPT {
        entries.push(directory(format!("{}/{name}", state(spec)), 0o700));
    }
    for name in PASSING {
        entries.push(directory(format!("{RUN}/{name}"), 0o755));
    }
    entries.push(file(config(), render(spec, exports, found)?));
    Ok(entries)
}

fn config() -> String {
    format!("{CONFIG}/smb.conf")
}

fn state(spec: &ServerSpec) -> String {
    format!("{}/smb", spec.state.display())
}

pub(crate) fn launch() -> Launch {
    Launch {
        name: NAME.to_owned(),
        argv: [
            PROGRAM,
            "--foreground",
            // PID 1 made it the leader of a session already; a second setsid(2) would fail.
            "--no-process-group",
            "--debug-stdout",
            "--configfile",
            &config(),
        ]
        .map(str::to_owned)
        .to_vec(),
        environment: vec![],
        capabilities: CAPABILITIES,
        calls: vec![],
        ready: Ready::Answers(Protocol::Smb),
        stop: libc::SIGTERM,
        patience: Duration::from_secs(5),
    }
}

/// Tells smbd to read its configuration, then to throw out who uses a share that went or changed: in
/// this order nobody can come back in between.
pub(crate) fn changes(spec: &ServerSpec, old: &[Export], new: &[Export]) -> Vec<Change> {
    let settings_differ = shares_with_nfs(spec, old) != shares_with_nfs(spec, new);
    let (old, new) = (shares(old), shares(new));
    let gone: Vec<_> = old.iter().filter(|share| !new.contains(share)).collect();
    if !settings_differ && gone.is_empty() && new.iter().all(|share| old.contains(share)) {
        return vec![];
    }
    take_up(gone.into_iter().map(|(_, share)| *share))
}

/// The same where it may have missed a part of it. Who uses a share that is still there is left in peace: this may be
/// tried again and again, for want of something else.
pub(crate) fn changes_anew(old: &[Export], new: &[Export]) -> Vec<Change> {
    let new = shares(new);
    let is_there = |share: &SmbShare| new.iter().any(|(_, other)| other.name == share.name);
    let old = shares(old).into_iter().map(|(_, share)| share);
    take_up(old.filter(|share| !is_there(share)))
}

fn take_up<'a>(closed: impl Iterator<Item = &'a SmbShare>) -> Vec<Change> {
    let closed: BTreeSet<&str> = closed.map(|share| share.name.as_str()).collect();
    let close = |name| control(&["close-share", name]);
    std::iter::once(control(&["reload-config"]))
        .chain(closed.into_iter().map(close))
        .collect()
}

fn shares(exports: &[Export]) -> Vec<(&str, &SmbShare)> {
    exports
        .iter()
        .filter_map(|e| Some((e.directory.as_str(), e.smb.as_ref()?)))
        .collect()
}

fn control(message: &[&str]) -> Change {
    let config = config();
    let argv = ["smbcontrol", "--configfile", &config, "smbd"];
    Change::Run {
        server: NAME,
        argv: argv.iter().chain(message).map(|&s| s.to_owned()).collect(),
    }
}

fn render(spec: &ServerSpec, exports: &[Export], found: &Surroundings) -> Result<String, String> {
    let mut text = head(spec);
    text.push_str(leases(spec, exports, found.samba));
    let mut seen: Vec<String> = vec![];
    let mut sections = String::new();
    for export in exports {
        let Some(share) = &export.smb else { continue };
        let folded = share.name.as_str().to_lowercase();
        if seen.contains(&folded) {
            return Err(format!("share name \"{}\" is used twice", share.name));
        }
        seen.push(folded);
        sections.push_str(&section(&export.directory, share));
    }
    // Included before the shares: what it says of [global] holds for all of them.
    if let Some(path) = &found.smb_snippet {
        let _ = writeln!(text, "include = {}", path.display());
    }
    Ok(text + &sections)
}

fn head(spec: &ServerSpec) -> String {
    let name = &spec.name;
    let kept = state(spec);
    let processes = spec.limits.of_server();
    format!(
        "# Made by berth; changes are overwritten. Put your own into the vserver's config_dir.\n\
        [global]\n\
        \tnetbios name = {name}\n\
        \tserver string = {name}\n\
        \tserver role = standalone server\n\
        \tdisable netbios = yes\n\
        \tsmb ports = 445\n\
        \tdns proxy = no\n\
        \tprivate dir = {kept}/private\n\
        \tstate directory = {kept}/state\n\
        \tlock directory = {RUN}/lock\n\
        \tcache directory = {RUN}/cache\n\
        \tpid directory = {RUN}/pid\n\
        \tncalrpc dir = {RUN}/ncalrpc\n\
        \tpassdb backend = tdbsam\n\
        \tusershare max shares = 0\n\
        \tload printers = no\n\
        \tprinting = bsd\n\
        \tprintcap name = /dev/null\n\
        \tdisable spoolss = yes\n\
        \tveto files = /.berth/\n\
        \tmax smbd processes = {processes}\n\
        \tdeadtime = {IDLE_LIMIT}\n\
        \tsocket options = TCP_NODELAY {SEE_DEAD}\n"
    )
}

/// Whether clients of both protocols use the same files: then the configuration depends on the version.
pub(crate) fn shares_with_nfs(spec: &ServerSpec, exports: &[Export]) -> bool {
    let both = |e: &Export| e.smb.is_some() && e.nfs.is_some();
    spec.smb && spec.nfs && exports.iter().any(both)
}

/// Since 4.22 clients may keep the listing of a directory until Samba recalls it, which it does for
/// changes that it makes itself, not for those that come by NFS.
fn leases(spec: &ServerSpec, exports: &[Export], version: Version) -> &'static str {
    if version >= Version::new(4, 22) && shares_with_nfs(spec, exports) {
        "\tsmb3 directory leases = no\n"
    } else {
        ""
    }
}

fn section(directory: &str, share: &SmbShare) -> String {
    let users: Vec<_> = share.users.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "[{}]\n\tpath = {directory}\n\tread only = {}\n",
        share.name,
        if share.read_only { "yes" } else { "no" }
    );
    if !users.is_empty() {
        let _ = writeln!(text, "\tvalid users = {}", users.join(" "));
    }
    text
}
