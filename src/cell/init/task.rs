//! The work of PID 1's children: what may block.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::prepare;
use crate::cell::confine;
use crate::cell::probe::{self, Inquiry, Protocol};
use crate::cell::refused::Refused;
use crate::cell::service::{Export, Launch, Ready, ServerSpec};
use crate::sys::command;
use crate::sys::mount;
use crate::sys::mountinfo;
use crate::sys::mountinfo::Entry;

/// The time between two looks at something that gives no notice of changes.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long a server may take to answer one request before it is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How long servers may take to say what they serve; each answer takes a millisecond or some more.
const INSPECTION_LIMIT: Duration = Duration::from_secs(10);

/// How many requests a server may leave unanswered before it is not asked any more for now: it may be waiting for the
/// node's name services, and each request costs it a process.
const UNANSWERED_LIMIT: u32 = 3;

/// How long a program that answers no requests must run to count as started: one that rejects its arguments ends at
/// once.
const STARTED: Duration = Duration::from_millis(100);

/// Unmounts everything of the file system attached at `directory`. Processes that use it are asked to end, then killed;
/// `servers` are spared until only they are left.
pub(crate) fn detach(directory: &Path, patience: Duration, servers: &[Pid]) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let table = mountinfo::read_table(Path::new("/proc/self/mountinfo"))
            .map_err(|e| format!("read the mount table: {e}"))?;
        let Some(there) = table.iter().rev().find(|e| e.target == directory) else {
            return Ok(());
        };
        let of_it: Vec<&Entry> = table.iter().filter(|e| e.device == there.device).collect();
        let error = match unmount_all(&table, &of_it) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => e,
            Err(e) => return Err(e.to_string()),
        };
        let waited = begun.elapsed();
        if waited > patience * 2 {
            return Err(error.to_string());
        }
        for pid in users(&of_it) {
            // Users have a quarter of the patience to end unasked, and the rest of it to end when asked.
            let signal = match (servers.contains(&pid), waited) {
                (true, waited) if waited < patience => continue,
                (_, waited) if waited < patience / 4 => continue,
                (false, waited) if waited < patience => Signal::SIGTERM,
                _ => Signal::SIGKILL,
            };
            let _ = kill(pid, signal);
        }
        pause(INTERVAL);
    }
}

/// Unmounts the mounts `of_it`, which all are of one file system, and everything mounted on them.
fn unmount_all(table: &[Entry], of_it: &[&Entry]) -> io::Result<()> {
    // The last mount first: the state directory is mounted on the home file system.
    for entry in table.iter().rev() {
        if of_it.iter().any(|e| entry.target.starts_with(&e.target)) {
            mount::detach(&entry.target)?;
        }
    }
    Ok(())
}

/// The processes that have something open in one of these mounts.
///
/// Mounts are compared by their ids: on btrfs the device number that `stat` shows is not the file system's, since each
/// subvolume has one of its own.
fn users(mounts: &[&Entry]) -> Vec<Pid> {
    let lies_there = |path: &Path| mountinfo::id_of(path).is_ok_and(|id| has(mounts, id));
    processes()
        .unwrap_or_default()
        .into_iter()
        .filter(|pid| pid.as_raw() != 1 && *pid != Pid::this())
        .filter(|pid| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            ["cwd", "root", "exe"]
                .iter()
                .any(|name| lies_there(&process.join(name)))
                || any_entry(&process.join("fd"), lies_there)
                || any_entry(&process.join("map_files"), lies_there)
        })
        .collect()
}

fn has(mounts: &[&Entry], id: u64) -> bool {
    mounts.iter().any(|mount| mount.id == id)
}

fn any_entry(directory: &Path, test: impl Fn(&Path) -> bool) -> bool {
    // The directory of a process that has just ended has no entries any more.
    fs::read_dir(directory).is_ok_and(|entries| entries.flatten().any(|entry| test(&entry.path())))
}

/// All processes of the cell.
fn processes() -> io::Result<Vec<Pid>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            pids.push(Pid::from_raw(pid));
        }
    }
    Ok(pids)
}

/// The living processes of the cell that are neither PID 1 nor among `tasks`, nor have joined from outside: the parent
/// of such a process can't be seen here.
///
/// # Errors
/// If /proc can't be read.
pub(crate) fn strays(tasks: &[Pid]) -> io::Result<Vec<Pid>> {
    Ok(processes()?
        .into_iter()
        .filter(|pid| pid.as_raw() != 1 && !tasks.contains(pid))
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|stat| state_and_parent(&stat))
                .is_some_and(|(state, parent)| {
                    state != 'Z' && parent != 0 && !tasks.contains(&Pid::from_raw(parent))
                })
        })
        .collect())
}

/// State and parent from `/proc/PID/stat`, `12 (name) S 1 …`; the name may contain anything, even `)`.
fn state_and_parent(stat: &str) -> Option<(char, i32)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Runs a program to its end, with the rights of a server that was launched like this.
pub(crate) fn run(argv: &[String], like: &Launch, limit: Duration) -> Result<(), String> {
    confine::restricted(argv, like.capabilities, &like.calls)
        .and_then(|program| command::run(program, Instant::now() + limit))
        .and_then(|output| output.check(argv.join(" ")))
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// Asks the servers for all that they are to serve, for each export until they serve it or the patience is over.
/// Returns what they do not serve, and what they give no answer about.
pub(crate) fn inspect(spec: &ServerSpec, exports: &[Export], patience: Duration) -> Vec<Refused> {
    let end = Instant::now() + patience;
    let mut inspection = Inspection {
        end,
        limit: end + INSPECTION_LIMIT,
        inquiries: BTreeMap::new(),
        unanswered: BTreeMap::new(),
    };
    let mut refused = Vec::new();
    let served = prepare::withheld(spec, exports).and_then(|withheld| {
        refused.extend(withheld.map(|(export, why)| Refused {
            directory: export.directory.clone(),
            protocol: Protocol::Nfs,
            definite: true,
            why,
        }));
        prepare::served(spec, exports)
    });
    // If the mount table can't be read, it is not known what is withheld: the servers are asked for everything.
    let served = served.unwrap_or_else(|_| exports.to_vec());
    for export in &served {
        for (protocol, name) in export.served(spec) {
            let error = inspection.find(protocol, name).err();
            refused.extend(error.map(|e| Refused {
                directory: export.directory.clone(),
                protocol,
                definite: e.kind() == io::ErrorKind::NotFound,
                why: e.to_string(),
            }));
        }
    }
    refused
}

/// The requests to the servers for what they serve.
struct Inspection {
    /// Until when a server that says no is asked again.
    end: Instant,
    /// Until when servers are asked at all.
    limit: Instant,
    inquiries: BTreeMap<Protocol, Inquiry>,
    /// How many requests each server has left unanswered.
    unanswered: BTreeMap<Protocol, u32>,
}

impl Inspection {
    /// Asks for one export or share, until the server has it or the patience is over.
    ///
    /// # Errors
    /// As [`Inquiry::find`]; `TimedOut` if there was no time to ask.
    fn find(&mut self, protocol: Protocol, name: &str) -> io::Result<()> {
        loop {
            let unanswered = self.unanswered.get(&protocol).copied().unwrap_or(0);
            if Instant::now() >= self.limit || unanswered >= UNANSWERED_LIMIT {
                let text = format!("{protocol}: not asked, for want of answers");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            let error = match self.ask(protocol, name) {
                Ok(()) => return Ok(()),
                Err(e) => e,
            };
            if Instant::now() >= self.end {
                if error.kind() != io::ErrorKind::NotFound {
                    *self.unanswered.entry(protocol).or_default() += 1;
                }
                return Err(error);
            }
            // Asked again on a new connection: Samba's process for the old one may be late to read the new
            // configuration.
            self.inquiries.remove(&protocol);
            pause(INTERVAL);
        }
    }

    /// Asks once. The connection is used again if the server has answered, whatever it said.
    fn ask(&mut self, protocol: Protocol, name: &str) -> io::Result<()> {
        let deadline = self.limit.min(Instant::now() + ANSWER_LIMIT);
        let mut inquiry = match self.inquiries.remove(&protocol) {
            Some(inquiry) => inquiry,
            None => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, protocol.port()));
                Inquiry::begin(protocol, address, deadline)?
            }
        };
        let found = inquiry.find(name, deadline);
        match &found {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {}
            _ => {
                self.inquiries.insert(protocol, inquiry);
            }
        }
        found
    }
}

/// Waits until a server that was just started answers. If it never does, PID 1 kills this child.
pub(crate) fn await_ready(ready: Ready) -> Result<(), String> {
    let Ready::Answers(protocol) = ready else {
        // If the program ends within this time, PID 1 kills this child, and the start fails.
        pause(STARTED);
        return Ok(());
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, protocol.port()));
    while probe::ask_at(protocol, address, Instant::now() + ANSWER_LIMIT).is_err() {
        pause(INTERVAL);
    }
    Ok(())
}

fn pause(time: Duration) {
    // If a signal ends the sleep early, that only means one more look.
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_may_contain_what_it_likes() {
        assert_eq!(state_and_parent("12 (a) R 1 2) Z 7 0 0"), Some(('Z', 7)));
        assert_eq!(state_and_parent("12 smbd S 1"), None);
    }
}
