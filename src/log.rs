//! Logging as OCF's shell agents do it (`ocf_log`).
//!
//! On a terminal: standard error. Otherwise syslog if `HA_LOGFACILITY` names a facility, and the
//! files `HA_LOGFILE` and `HA_DEBUGLOG` if they are set; standard error if there is nothing of these.
//! Debug messages only if `HA_debug` is set and not 0. Logging never fails an action.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::panic;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sys::stderr;
use crate::text::{plain, without_markup};

/// Where the local syslog listens.
const SYSLOG: &str = "/dev/log";

/// Longer messages are cut: what a datagram to syslog surely holds.
const MESSAGE_LIMIT: usize = 2048;

/// The beginning of the message about a panic.
pub(crate) const MISTAKE: &str = "mistake in berth";

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The service is lost.
    Critical,
    /// The action is about to fail.
    Error,
    /// Something that needs attention.
    Warning,
    /// What was done.
    Info,
    /// What was seen; only for who asks for it.
    Debug,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Critical => "CRIT",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// The severity in syslog (RFC 5424, 6.2.1).
    const fn severity(self) -> u8 {
        match self {
            Self::Critical => 2,
            Self::Error => 3,
            Self::Warning => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Target {
    name: String,
    instance: Option<String>,
    facility: Option<u8>,
    logfile: Option<String>,
    debuglog: Option<String>,
    debug: bool,
}

static TARGET: OnceLock<Target> = OnceLock::new();

/// Sets where the messages of this process go, as the variables of the OCF API say (`HA_LOGFACILITY` and others);
/// a panic is one too. Only the first call counts.
pub(crate) fn init(name: &str, variable: impl Fn(&str) -> Option<String>) {
    // A later call finds it set and changes nothing.
    let _ = TARGET.set(Target::new(name, variable));
    // A daemon has no standard error that anybody reads, and would end without a word.
    panic::set_hook(Box::new(|info| critical(format_args!("{MISTAKE}: {info}"))));
}

/// The service is lost.
pub(crate) fn critical(message: impl Display) {
    log(Level::Critical, &message);
}

/// The action is about to fail.
pub(crate) fn error(message: impl Display) {
    log(Level::Error, &message);
}

/// Something that needs attention.
pub(crate) fn warn(message: impl Display) {
    log(Level::Warning, &message);
}

/// What was done.
pub(crate) fn info(message: impl Display) {
    log(Level::Info, &message);
}

/// What was seen; shown if `HA_debug` asks for it.
pub(crate) fn debug(message: impl Display) {
    log(Level::Debug, &message);
}

fn log(level: Level, message: &dyn Display) {
    let target = TARGET.get_or_init(|| Target {
        name: "berth".into(),
        ..Target::default()
    });
    if level == Level::Debug && !target.debug {
        return;
    }
    let text = one_line(&message.to_string());
    if io::stderr().is_terminal() {
        to_stderr(&format!("{}: {}: {text}", target.tag(), level.name()));
    } else {
        target.write(level, &text);
    }
}

fn one_line(message: &str) -> String {
    let cut = (0..=message.len().min(MESSAGE_LIMIT))
        .rev()
        .find(|at| message.is_char_boundary(*at))
        .unwrap_or(0);
    plain(&message[..cut])
}

impl Target {
    fn new(name: &str, variable: impl Fn(&str) -> Option<String>) -> Self {
        // One that is set to nothing is not set.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            name: name.to_owned(),
            instance: variable("OCF_RESOURCE_INSTANCE"),
            facility: variable("HA_LOGFACILITY")
                .filter(|name| name != "none")
                .map(|name| facility(&name)),
            logfile: variable("HA_LOGFILE"),
            debuglog: variable("HA_DEBUGLOG"),
            debug: variable("HA_debug").is_some_and(|value| value != "0"),
        }
    }

    /// `agent(instance)[pid]`; the pid is asked for each time, because agents fork.
    fn tag(&self) -> String {
        let pid = std::process::id();
        match &self.instance {
            Some(instance) => format!("{}({instance})[{pid}]", self.name),
            None => format!("{}[{pid}]", self.name),
        }
    }

    /// The files that a message of `level` goes to, each once.
    fn files(&self, level: Level) -> impl Iterator<Item = &str> {
        let log = self.logfile.as_deref().filter(|_| level != Level::Debug);
        let debug = self.debuglog.as_deref().filter(|file| Some(*file) != log);
        log.into_iter().chain(debug)
    }

    fn write(&self, level: Level, text: &str) {
        let tag = self.tag();
        let mut written = false;
        if let Some(facility) = self.facility {
            let priority = facility * 8 + level.severity();
            let entry = format!("<{priority}>{}{tag}: {}: {text}", now(), level.name());
            written |= to_syslog(SYSLOG.as_ref(), &entry).is_ok();
        }
        let entry = format!("{tag}: {}: {text}", level.name());
        for file in self.files(level) {
            written |= append(file, &format!("{}{entry}\n", now())).is_ok();
        }
        if !written {
            to_stderr(&entry);
        }
    }
}

/// Pacemaker takes what an agent writes there as one text, and sends it on in XML.
fn to_stderr(line: &str) {
    stderr::line(&without_markup(line));
}

fn append(file: &str, entry: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NONBLOCK)
        .open(file)?;
    file.write_all(entry.as_bytes())
}

/// Sends to the syslog at `path`, without waiting for one that does not read.
fn to_syslog(path: &Path, entry: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(entry.as_bytes(), path).map(drop)
}

/// The facility's number (RFC 5424, 6.2.1); that of daemons for a name that is none.
fn facility(name: &str) -> u8 {
    const LOW: [&str; 12] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron",
        "authpriv", "ftp",
    ];
    let local = name
        .strip_prefix("local")
        .and_then(|n| n.parse::<u8>().ok())
        .filter(|n| *n < 8);
    match (local, (0..).zip(LOW).find(|(_, low)| *low == name)) {
        (Some(n), _) => 16 + n,
        (None, Some((n, _))) => n,
        (None, None) => 3,
    }
}

/// The local time as syslog writes it, with a blank behind: `Nov 22 18:45:00 `.
fn now() -> String {
    let mut buffer = [0u8; 32];
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.map_or(0, |since| since.as_secs() as libc::time_t);
    // SAFETY: all pointers are to local variables that outlive the calls; `tm` is plain data, for
    // which zero is valid; strftime writes at most the buffer's length and gives what it wrote.
    let length = unsafe {
        let mut local = std::mem::zeroed();
        libc::localtime_r(&raw const time, &raw mut local);
        libc::strftime(
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            c"%b %e %T ".as_ptr(),
            &raw const local,
        )
    };
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(variables: &[(&str, &str)]) -> Target {
        Target::new("vip", |name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_tag_names_agent_instance_and_process() {
        let pid = std::process::id();
        let named = target(&[("OCF_RESOURCE_INSTANCE", "alpha-ip1")]);
        assert_eq!(named.tag(), format!("vip(alpha-ip1)[{pid}]"));
        assert_eq!(target(&[]).tag(), format!("vip[{pid}]"));
    }

    #[test]
    fn facilities_are_syslogs() {
        for (name, number) in [("daemon", 3), ("local0", 16), ("local7", 23), ("user", 1)] {
            assert_eq!(facility(name), number, "{name}");
        }
        assert_eq!((facility("local8"), facility("nonsense")), (3, 3));
        assert_eq!(target(&[("HA_LOGFACILITY", "none")]).facility, None);
    }

    #[test]
    fn debug_goes_to_the_debug_log_only() {
        let both = target(&[("HA_LOGFILE", "/a"), ("HA_DEBUGLOG", "/b")]);
        assert_eq!(both.files(Level::Info).collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(both.files(Level::Debug).collect::<Vec<_>>(), ["/b"]);
        let same = target(&[("HA_LOGFILE", "/a"), ("HA_DEBUGLOG", "/a")]);
        assert_eq!(same.files(Level::Info).collect::<Vec<_>>(), ["/a"]);
    }

    #[test]
    fn debug_is_off_unless_asked_for() {
        for (value, on) in [("0", false), ("", false), ("1", true)] {
            assert_eq!(target(&[("HA_debug", value)]).debug, on, "{value}");
        }
    }

    #[test]
    fn a_file_gets_one_line_a_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ha.log");
        let target = target(&[("HA_LOGFILE", path.to_str().unwrap())]);
        target.write(Level::Info, &one_line("first\nstill first"));
        target.write(Level::Error, "second");
        let text = std::fs::read_to_string(path).unwrap();
        let ends: Vec<_> = text
            .lines()
            .map(|l| l.split("]: ").nth(1).unwrap())
            .collect();
        assert_eq!(ends, ["INFO: first still first", "ERROR: second"]);
    }

    #[test]
    fn syslog_gets_a_datagram_and_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert!(to_syslog(&path, "nobody listens").is_err());
        let syslog = UnixDatagram::bind(&path).unwrap();
        while to_syslog(&path, "<30>vip: INFO: up").is_ok() {}
        let mut buffer = [0; 64];
        let length = syslog.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"<30>vip: INFO: up");
    }

    const FILE: &str = "BERTH_TEST_PANIC_LOG";

    /// Another process runs this one alone.
    #[test]
    #[allow(clippy::disallowed_methods)] // it is that process
    fn panics() {
        if let Ok(file) = std::env::var(FILE) {
            init("keeper", |name| {
                (name == "HA_LOGFILE").then(|| file.clone())
            });
            panic!("on purpose,\nin two lines");
        }
    }

    #[test]
    fn a_daemon_that_panics_says_so_in_the_log() {
        use crate::sys::command::{command, run};
        use std::time::{Duration, Instant};

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ha.log");
        let mut daemon = command(std::env::current_exe().unwrap());
        daemon
            .args(["--exact", "log::tests::panics"])
            .env(FILE, &file);
        run(daemon, Instant::now() + Duration::from_secs(60)).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let (_, said) = text.split_once("]: ").unwrap();
        assert!(
            said.starts_with("CRIT: mistake in berth: panicked at src/log.rs:"),
            "{text}"
        );
        assert!(said.ends_with(" on purpose, in two lines\n"), "{text}");
    }

    #[test]
    fn endless_messages_are_cut_on_a_character() {
        assert!(one_line(&"ä".repeat(5000)).len() <= MESSAGE_LIMIT);
    }
}
