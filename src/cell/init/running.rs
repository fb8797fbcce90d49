//! A server that PID 1 has started: its output, and whether it has accepted a configuration that it was told to read
//! again.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::filter::Refusals;
use crate::cell::init::output::{Heard, Lines};
use crate::cell::init::protocol::Event;
use crate::cell::init::server::Started;
use crate::cell::last_words::LastWords;
use crate::cell::probe::Protocol;
use crate::cell::refused::{Complaints, Refused, reread};
use crate::cell::service::{self, Launch};
use crate::runtime::channel::Channel;
use crate::sys::state;

/// How long PID 1 waits for a server to say whether it has accepted the configuration that it was told to read again. A
/// server whose log level the admin has lowered never says so.
const REREAD_LIMIT: Duration = Duration::from_secs(3);

/// How long after a server has said that it refuses a configuration PID 1 waits for the reason, which follows at once.
const REASON_LIMIT: Duration = Duration::from_millis(100);

/// The most bytes read of a server's configuration: berth writes none as long.
const CONFIG_LIMIT: u64 = 4 << 20;

/// The most bytes of a security label: a page (proc_pid_attr(5)).
const LABEL_LIMIT: u64 = 4096;

/// A server that was started.
pub(crate) struct Server {
    /// How it was started.
    pub(crate) launch: Launch,
    /// Its process.
    pub(crate) pid: Pid,
    /// Its standard output and error, until it closes them.
    pub(crate) output: Option<OwnedFd>,
    /// The system calls that it is refused, if the kernel can report them.
    pub(crate) refusals: Option<Refusals>,
    lines: Lines,
    /// Its last lines that matter: mostly they give the reason for its end.
    last: LastWords,
    /// The AppArmor profile that it is confined by, read when its first line came.
    profile: Option<String>,
    has_spoken: bool,
    /// Its complaints since it last began to read its configuration.
    complaints: Complaints,
    /// The number of the order to start it, until it answers.
    pub(crate) starting: Option<u64>,
    /// Set while it reads its configuration again.
    rereading: Option<Rereading>,
}

/// A server reads its configuration again: the order's number, until when its answer is waited for, and whether it has
/// refused the configuration.
struct Rereading {
    number: u64,
    until: Instant,
    refused: bool,
}

impl Server {
    /// A server that was started by order `number`.
    pub(crate) fn new(launch: Launch, started: Started, number: u64) -> Self {
        Self {
            launch,
            // Pids are far below 2^31 (kernel.pid_max). Reaped by PID 1, with all others.
            pid: Pid::from_raw(started.child.id() as i32),
            output: Some(started.output),
            refusals: started.refusals,
            lines: Lines::default(),
            last: LastWords::default(),
            profile: None,
            has_spoken: false,
            complaints: Complaints::default(),
            starting: Some(number),
            rereading: None,
        }
    }

    /// Signals the server to read its configuration again, for order `number`.
    ///
    /// # Errors
    /// Why the signal can't be sent.
    pub(crate) fn reload(&mut self, number: u64, signal: i32) -> Result<(), String> {
        let signal = Signal::try_from(signal).map_err(|_| format!("{signal} is no signal"))?;
        let name = &self.launch.name;
        kill(self.pid, signal).map_err(|e| format!("signal {name}: {e}"))?;
        self.complaints = Complaints::default();
        self.rereading = Some(Rereading {
            number,
            until: Instant::now() + REREAD_LIMIT,
            refused: false,
        });
        Ok(())
    }

    /// The number of the order by which the server is reading its configuration again, if it is.
    pub(crate) fn rereads_for(&self) -> Option<u64> {
        Some(self.rereading.as_ref()?.number)
    }

    /// Until when the server's answer to that is waited for.
    pub(crate) fn rereads_until(&self) -> Option<Instant> {
        Some(self.rereading.as_ref()?.until)
    }

    /// Once the wait is over: the order's number, and whether the configuration was accepted or why it was refused.
    pub(crate) fn reread(&mut self, now: Instant) -> Option<(u64, Result<(), String>)> {
        let rereading = self.rereading.take_if(|r| now >= r.until)?;
        let why = self.complaints.of_configuration().unwrap_or("no reason");
        let result = match rereading.refused {
            true => Err(format!("{} refuses: {why}", self.launch.name)),
            false => Ok(()),
        };
        Some((rereading.number, result))
    }

    /// Adds to `how` the server has ended why it has, as far as that is known.
    pub(crate) fn why(&self, mut how: String) -> String {
        if let Some(words) = self.last.get(Instant::now()) {
            how = format!("{how}: {words}");
        }
        // A profile applies to a program's path, which is the same in a cell, and allows only the usual directories.
        // What it denies looks like any other lack of rights.
        if let Some(profile) = &self.profile {
            how = format!("{how} (confined by AppArmor's profile {profile})");
        }
        how
    }

    /// Adds what the server has complained of to something that it does not serve.
    pub(crate) fn explain(&self, refused: &mut Refused) {
        let block = match refused.protocol {
            // Not trusted: the servers can write this file, too.
            Protocol::Nfs => state::read_plain(service::nfs_config().as_ref(), CONFIG_LIMIT)
                .ok()
                .and_then(|config| {
                    let config = String::from_utf8_lossy(&config);
                    service::nfs_lines_about(&config, &refused.directory)
                }),
            Protocol::Smb => None,
        };
        if let Some(words) = self.complaints.about(&refused.directory, block) {
            refused.why = format!("{}: {words}", refused.why);
        }
    }

    /// Refuses the system calls that wait for an answer, and reports them to the keeper.
    pub(crate) fn refuse(&mut self, channel: &Channel, now: Instant) {
        let Some(refusals) = &mut self.refusals else {
            return;
        };
        let in_use = refusals.answer(now, |refusal| {
            // As with its lines, a report that a busy keeper has no room for is lost.
            let refused = Event::Refused {
                server: self.launch.name.clone(),
                what: refusal.to_string(),
            };
            let _ = channel.send(&refused, None);
        });
        if !in_use {
            self.refusals = None;
        }
    }

    /// Reports the lines that the server has written to the keeper.
    pub(crate) fn forward_output(&mut self, channel: &Channel) {
        let Some(output) = &self.output else { return };
        let open = self.lines.read(output, |heard| {
            let (line, said) = match heard {
                Heard::Line(line) => (Some(line), Some(line.to_owned())),
                Heard::Beyond(line) => (Some(line), None),
                Heard::Missing(number) => (None, Some(format!("({number} more lines)"))),
            };
            // Not read before the first line: the program may not have been executed yet.
            if !std::mem::replace(&mut self.has_spoken, true) {
                self.profile = profile_of(self.pid);
            }
            if let Some(line) = line {
                self.last.note(line, Instant::now());
                self.complaints.note(line);
                if let (Some(rereading), Some(taken)) = (&mut self.rereading, reread(line)) {
                    let now = Instant::now();
                    rereading.refused = !taken;
                    rereading.until = if taken { now } else { now + REASON_LIMIT };
                }
            }
            if let Some(line) = said {
                let server = self.launch.name.clone();
                // A line that a busy keeper has no room for is lost: PID 1 does not wait for it.
                let _ = channel.send(&Event::Said { server, line }, None);
            }
        });
        if !open {
            self.output = None;
        }
    }
}

/// The AppArmor profile that a process is confined by, if there is one that denies anything.
fn profile_of(pid: Pid) -> Option<String> {
    let path = format!("/proc/{pid}/attr/current");
    let label = state::read(path.as_ref(), LABEL_LIMIT).ok()?;
    confinement(&String::from_utf8_lossy(&label)).map(str::to_owned)
}

/// The profile in a label of AppArmor's, if it is one that denies anything: `smbd (enforce)`. Other security modules
/// have labels without a mode.
pub(crate) fn confinement(label: &str) -> Option<&str> {
    label
        .trim_end_matches(['\n', '\0'])
        .strip_suffix(" (enforce)")
}
