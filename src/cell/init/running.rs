//! A server that PID 1 has started: what it writes, and what became of a configuration that it was told to
//! read again.

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

/// How long a server may take to say what became of the configuration that it was told to read again. One whose
/// admin has it say less never does.
const REREAD_LIMIT: Duration = Duration::from_secs(3);

/// Why a configuration was refused follows that it was, at once.
const REASON_LIMIT: Duration = Duration::from_millis(100);

/// No configuration that berth writes is as long.
const CONFIG_LIMIT: u64 = 4 << 20;

/// No security module has longer labels (a page: proc_pid_attr(5)).
const LABEL_LIMIT: u64 = 4096;

/// A server that was started.
pub(crate) struct Server {
    /// How it was started.
    pub(crate) launch: Launch,
    /// Its process.
    pub(crate) pid: Pid,
    /// What it writes, until it closes that.
    pub(crate) output: Option<OwnedFd>,
    /// The system calls that it is refused, where the kernel tells of them.
    pub(crate) refusals: Option<Refusals>,
    lines: Lines,
    /// What it said last that mattered: mostly the reason for its end.
    last: LastWords,
    /// The AppArmor profile that it is confined by, as far as it has lived to tell.
    profile: Option<String>,
    has_spoken: bool,
    /// What it has complained of since it last began to read its configuration.
    complaints: Complaints,
    /// The order to start it, until it answers.
    pub(crate) starting: Option<u64>,
    /// While it reads its configuration again.
    rereading: Option<Rereading>,
}

/// A server reads its configuration again: the order to do so, until when that is waited for, and whether it
/// has said that it could not.
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

    /// Has it read its configuration again, by order `number`.
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

    /// The order by which it reads its configuration again, if it does.
    pub(crate) fn rereads_for(&self) -> Option<u64> {
        Some(self.rereading.as_ref()?.number)
    }

    /// Until when that is waited for.
    pub(crate) fn rereads_until(&self) -> Option<Instant> {
        Some(self.rereading.as_ref()?.until)
    }

    /// What became of the configuration, once that is over: the order, and why it was refused.
    pub(crate) fn reread(&mut self, now: Instant) -> Option<(u64, Result<(), String>)> {
        let rereading = self.rereading.take_if(|r| now >= r.until)?;
        let why = self.complaints.of_configuration().unwrap_or("no reason");
        let result = match rereading.refused {
            true => Err(format!("{} refuses: {why}", self.launch.name)),
            false => Ok(()),
        };
        Some((rereading.number, result))
    }

    /// Why it has ended in this way, as far as it is known.
    pub(crate) fn why(&self, mut how: String) -> String {
        if let Some(words) = self.last.get(Instant::now()) {
            how = format!("{how}: {words}");
        }
        // Such a profile goes with the program's path, which is the same in a cell, and knows its usual
        // directories alone. What it denies shows as any lack of rights does.
        if let Some(profile) = &self.profile {
            how = format!("{how} (confined by AppArmor's profile {profile})");
        }
        how
    }

    /// Adds what it said of something that it does not serve.
    pub(crate) fn explain(&self, refused: &mut Refused) {
        let block = match refused.protocol {
            // The servers may write there too.
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

    /// Refuses the system calls that wait for it, and passes on which.
    pub(crate) fn refuse(&mut self, channel: &Channel, now: Instant) {
        let Some(refusals) = &mut self.refusals else {
            return;
        };
        let in_use = refusals.answer(now, |refusal| {
            // As with its lines: what a busy keeper has no room for is lost.
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

    /// Passes on what it has written.
    pub(crate) fn forward_output(&mut self, channel: &Channel) {
        let Some(output) = &self.output else { return };
        let open = self.lines.read(output, |heard| {
            let (line, said) = match heard {
                Heard::Line(line) => (Some(line), Some(line.to_owned())),
                Heard::Beyond(line) => (Some(line), None),
                Heard::Missing(number) => (None, Some(format!("({number} more lines)"))),
            };
            // Before its first line it may not have been executed yet.
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
                // Lines that a busy keeper has no room for are lost rather than waited with.
                let _ = channel.send(&Event::Said { server, line }, None);
            }
        });
        if !open {
            self.output = None;
        }
    }
}

/// The AppArmor profile that a process is confined by.
fn profile_of(pid: Pid) -> Option<String> {
    let path = format!("/proc/{pid}/attr/current");
    let label = state::read(path.as_ref(), LABEL_LIMIT).ok()?;
    confinement(&String::from_utf8_lossy(&label)).map(str::to_owned)
}

/// The profile that a label names, if it is one of AppArmor's that denies anything: `smbd (enforce)`. Others have
/// labels without a mode, or none.
pub(crate) fn confinement(label: &str) -> Option<&str> {
    label
        .trim_end_matches(['\n', '\0'])
        .strip_suffix(" (enforce)")
}
