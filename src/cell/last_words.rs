//! The reason why a server has ended, as far as it has written one: the most telling of its last lines.
//!
//! NFS-Ganesha gives each line a level (`log_levels` in src/include/log.h). Since 6 it writes a backtrace
//! after a fatal line, and where its configuration is wrong the fatal line says only that it is, after
//! others that say where. Samba's lines on standard output have no level: its closing line says what it could not
//! do, one before it why; those of a panic are many.

use std::time::{Duration, Instant};

/// A line counts for this long: what was wrong long before an end is not its cause. Before that it yields
/// only to one that says as much.
const MEMORY: Duration = Duration::from_secs(10);

/// How much a line says about an end that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Anything.
    Said,
    /// That something is wrong.
    Wrong,
    /// What is wrong, where other lines say only that something is.
    Detail,
    /// That the server can't go on, and why.
    Fatal,
}

/// The most telling of the last lines.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    best: Option<(Weight, Instant, String)>,
}

impl LastWords {
    /// Notes a line of the output.
    pub(crate) fn note(&mut self, line: &str, now: Instant) {
        let Some((weight, text)) = weigh(line) else {
            return;
        };
        let text = match self.get(now).filter(|_| is_closing(text)) {
            Some(before) if !is_closing(before) => format!("{}: {before}", shortened(text)),
            _ => text.to_owned(),
        };
        let yields = |&(best, since, _): &(Weight, Instant, String)| {
            weight >= best || now.duration_since(since) > MEMORY
        };
        if self.best.as_ref().is_none_or(yields) {
            self.best = Some((weight, now, text));
        }
    }

    /// The line, if it is recent enough.
    pub(crate) fn get(&self, now: Instant) -> Option<&str> {
        let lately =
            |&&(_, since, _): &&(Weight, Instant, String)| now.duration_since(since) <= MEMORY;
        let (_, _, text) = self.best.as_ref().filter(lately)?;
        Some(text)
    }
}

/// Whether a line says that something is wrong.
pub(crate) fn tells_of_trouble(line: &str) -> bool {
    weigh(line).is_some_and(|(weight, _)| weight >= Weight::Wrong)
}

/// How much a line says, and its text without time and place; `None` if it says nothing.
fn weigh(line: &str) -> Option<(Weight, &str)> {
    match Ganesha::parse(line) {
        Some(line) => line.weigh(),
        None => weigh_plain(line),
    }
}

/// A line of NFS-Ganesha's log: `TIME : epoch N : HOST : PROGRAM-PID[THREAD] FUNCTION :COMPONENT :LEVEL
/// :TEXT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ganesha<'a> {
    function: &'a str,
    pub(crate) component: &'a str,
    level: &'a str,
    pub(crate) text: &'a str,
}

impl<'a> Ganesha<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once(" : epoch ")?;
        let (place, rest) = rest
            .split_once(" :")?
            .1
            .split_once(" :")?
            .1
            .split_once(" :")?;
        let (component, rest) = rest.split_once(" :")?;
        let (level, text) = rest.split_once(" :")?;
        Some(Self {
            function: place.rsplit(' ').next()?,
            component,
            level,
            text: text.trim(),
        })
    }

    fn weigh(self) -> Option<(Weight, &'a str)> {
        let weight = match self.level {
            _ if self.text.is_empty() || self.function == "gsh_backtrace" => return None,
            "FATAL" if !self.text.starts_with("Fatal errors.") => Weight::Fatal,
            "CRIT" | "MAJ" if self.is_usual() => Weight::Said,
            "CRIT" if self.text.starts_with("Config File (") && !self.is_summary() => {
                Weight::Detail
            }
            "FATAL" | "CRIT" | "MAJ" => Weight::Wrong,
            _ => Weight::Said,
        };
        Some((weight, self.text))
    }

    /// Whether it says what is wrong. A value that is passed over is only warned of.
    pub(crate) fn is_complaint(self) -> bool {
        let level = match self.level {
            "FATAL" | "CRIT" | "MAJ" => !self.text.is_empty(),
            "WARN" => self.text.starts_with("Config File ("),
            _ => false,
        };
        level && self.function != "gsh_backtrace" && !self.is_usual() && !self.is_summary()
    }

    /// What it says of a wrong block after it has said what is wrong in it.
    fn is_summary(self) -> bool {
        const SUMMARIES: [&str; 5] = [
            " errors while processing ",
            "Errors processing block",
            " errors found block ",
            " validation errors in block ",
            "Fatal errors.",
        ];
        SUMMARIES.iter().any(|part| self.text.contains(part))
    }

    /// What it says at each start in a cell.
    fn is_usual(self) -> bool {
        const USUAL: [&str; 2] = [
            "Cannot register NFS V",
            "gssd_refresh_krb5_machine_credential",
        ];
        self.component == "DBUS" || USUAL.iter().any(|part| self.text.contains(part))
    }
}

/// Whether a line without a level says anything.
pub(crate) fn is_reason(line: &str) -> bool {
    weigh_plain(line).is_some()
}

/// Weighs a line without a level: of Samba, of a library, of any other command.
fn weigh_plain(line: &str) -> Option<(Weight, &str)> {
    // What Samba writes at each start and around the reason of a panic (lib/util/fault.c).
    const EMPTY: [&str; 8] = [
        "smbd version ",
        "Copyright ",
        "=====",
        "If you are running a recent Samba",
        "PANIC (pid ",
        "BACKTRACE: ",
        "#",
        "dumping core in ",
    ];
    let text = line.trim();
    if text.is_empty() || EMPTY.iter().any(|start| text.starts_with(start)) {
        return None;
    }
    if is_closing(text) || names_cause(text) {
        return Some((Weight::Wrong, text));
    }
    Some((Weight::Said, text))
}

/// Whether a line is Samba's last one of its own accord: of a panic, of a daemon that can't start.
fn is_closing(text: &str) -> bool {
    const CLOSINGS: [&str; 3] = ["INTERNAL ERROR: ", "exit_daemon: ", "ERROR: "];
    CLOSINGS.iter().any(|start| text.starts_with(start))
}

/// A closing line without the full stop, and without the process that a panic was in.
fn shortened(text: &str) -> &str {
    let (what, _) = text
        .split_once(" in smbd ")
        .or_else(|| text.split_once(" in pid "))
        .unwrap_or((text, ""));
    what.trim_end_matches('.')
}

/// Whether a line has a reason in it: a status of Windows', or an error of the system's.
fn names_cause(text: &str) -> bool {
    const CAUSES: [&str; 9] = [
        "NT_STATUS_",
        "No space left on device",
        "Disk quota exceeded",
        "Permission denied",
        "Read-only file system",
        "Input/output error",
        "Address already in use",
        "Too many open files",
        "Cannot allocate memory",
    ];
    CAUSES.iter().any(|cause| text.contains(cause))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn last_of(lines: &str) -> String {
        let (mut words, now) = (LastWords::default(), Instant::now());
        for line in lines.lines() {
            words.note(line, now);
        }
        words.get(now).unwrap_or_default().to_owned()
    }

    /// Recorded from 6.5 without CAP_SYS_RESOURCE and without `Allow_Set_Io_Flusher_Fail`.
    const FATAL_65: &str = "\
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] load_rados_config :CONFIG :WARN :Missing RADOS URLs backend library
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] nfs_set_param_from_conf :NFS STARTUP :EVENT :Configuration file successfully parsed
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] main :MAIN :FATAL :Failed to PR_SET_IO_FLUSHER with EPERM. Take a look at config option allow_set_io_flusher_fail to see if you should allow it
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/usr/lib/ganesha/libganesha_nfsd.so.6.5(+0x88256) [0x7fa9933c6256]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/usr/lib/ganesha/libganesha_nfsd.so.6.5(+0x883fd) [0x7fa9933c63fd]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/usr/lib/ganesha/libganesha_nfsd.so.6.5(+0x8867d) [0x7fa9933c667d]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/usr/lib/ganesha/libganesha_nfsd.so.6.5(DisplayLogComponentLevel+0x8b) [0x7fa9933c6a0b]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :ganesha.nfsd(main+0xb0e) [0x55f6b94ebede]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/lib/x86_64-linux-gnu/libc.so.6(+0x29ca8) [0x7fa99316eca8]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :/lib/x86_64-linux-gnu/libc.so.6(__libc_start_main+0x85) [0x7fa99316ed65]
26/11/2026 06:26:42 : epoch 6b07d122 : alpha : nfs-ganesha-160[main] gsh_backtrace :NFS STARTUP :MAJ :ganesha.nfsd(_start+0x21) [0x55f6b94ec211]
";

    /// Recorded from 4.3: a word for the grace period.
    const CONFIG_43: &str = "\
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] nfs_set_param_from_conf :NFS STARTUP :CRIT :Error while parsing NFSv4 specific configuration
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] main :NFS STARTUP :CRIT :Error setting parameters from configuration file.
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:12): Expected a number, got a option name or number
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:9): 1 errors while processing parameters for NFSv4
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:9): Errors processing block (NFSv4)
26/11/2026 06:26:08 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] config_errs_to_log :CONFIG :CRIT :Config File (/run/berth/ganesha.conf:21): 1 (invalid param value) errors found block NFSv4
26/11/2026 06:26:09 : epoch 6b07d100 : alpha : nfs-ganesha-184[main] main :NFS STARTUP :FATAL :Fatal errors.  Server exiting...
";

    /// Recorded from 4.3: the port is taken.
    const PORT_43: &str = "\
26/11/2026 06:26:25 : epoch 6b07d111 : alpha : nfs-ganesha-186[main] Bind_sockets_V6 :DISP :WARN :Cannot bind NFS tcp6 socket, error 98 (Address already in use)
26/11/2026 06:26:25 : epoch 6b07d111 : alpha : nfs-ganesha-186[main] Bind_sockets :DISP :FATAL :Error binding to V6 interface. Cannot continue.
";

    #[test]
    fn a_fatal_line_of_ganesha_is_shown_and_not_the_backtrace_after_it() {
        assert_eq!(
            last_of(FATAL_65),
            "Failed to PR_SET_IO_FLUSHER with EPERM. Take a look at config option \
             allow_set_io_flusher_fail to see if you should allow it"
        );
        assert_eq!(
            last_of(PORT_43),
            "Error binding to V6 interface. Cannot continue."
        );
    }

    #[test]
    fn what_is_wrong_in_ganeshas_configuration_is_shown_and_not_that_something_is() {
        assert_eq!(
            last_of(CONFIG_43),
            "Config File (/run/berth/ganesha.conf:12): Expected a number, got a option name or number"
        );
    }

    #[test]
    fn what_ganesha_says_at_each_start_is_no_reason() {
        let usual = "\
26/11/2026 06:26:22 : epoch 6b07d10e : alpha : nfs-ganesha-184[main] gsh_dbus_pkginit :DBUS :CRIT :dbus_bus_get failed (Failed to connect to socket /run/dbus/system_bus_socket: No such file or directory)
26/11/2026 06:28:36 : epoch 6b07d194 : alpha : nfs-ganesha-188[main] __Register_program :DISP :MAJ :Cannot register NFS V4 on TCP
26/11/2026 06:28:36 : epoch 6b07d194 : alpha : nfs-ganesha-188[main] gssd_refresh_krb5_machine_credential :NFS CB :CRIT :ERROR: gssd_refresh_krb5_machine_credential: no usable keytab entry found in keytab /etc/krb5.keytab for connection with host localhost
26/11/2026 06:28:36 : epoch 6b07d194 : alpha : nfs-ganesha-188[main] nfs_start :NFS STARTUP :EVENT :             NFS SERVER INITIALIZED
";
        assert_eq!(last_of(usual), "NFS SERVER INITIALIZED");
    }

    /// Recorded from 4.22; 4.17's differ only in names of libraries.
    const PANIC_422: &str = "\
smbd version 4.22.11-Debian-4.22.11+dfsg-0+deb13u1 started.
Copyright Andrew Tridgell and the Samba Team 1992-2025
open_sockets_smbd: No sockets available to bind to.
===============================================================
INTERNAL ERROR: open_sockets_smbd() failed in smbd () () pid 17 (4.22.11-Debian-4.22.11+dfsg-0+deb13u1)
If you are running a recent Samba version, and if you think this problem is not yet fixed in the latest versions, please consider reporting this bug, see https://wiki.samba.org/index.php/Bug_Reporting
===============================================================
PANIC (pid 17): open_sockets_smbd() failed in 4.22.11-Debian-4.22.11+dfsg-0+deb13u1
BACKTRACE: 9 stack frames:
 #0 /usr/lib/x86_64-linux-gnu/samba/libgenrand-private-samba.so.0(log_stack_trace+0x2d) [0x7f89cffc05bd]
 #8 smbd(_start+0x21) [0x558ee2578e61]
dumping core in /var/log/samba/cores/smbd
";

    /// Recorded from 4.17, on a file system that was full; 4.22's differ only in the version.
    const FULL_417: &str = "\
messaging_reinit() failed: NT_STATUS_DISK_FULL
reinit_after_fork() failed
===============================================================
INTERNAL ERROR: reinit_after_fork() failed in pid 51 (4.17.12-Debian)
If you are running a recent Samba version, and if you think this problem is not yet fixed in the latest versions, please consider reporting this bug, see https://wiki.samba.org/index.php/Bug_Reporting
===============================================================
PANIC (pid 51): reinit_after_fork() failed in 4.17.12-Debian
BACKTRACE: 13 stack frames:
 #0 /usr/lib/x86_64-linux-gnu/samba/libgenrand-samba4.so.0(log_stack_trace+0x2e) [0x7f8ffc52f55e]
dumping core in /var/log/samba/cores/smbd
";

    #[test]
    fn sambas_reason_is_shown_and_not_its_backtrace() {
        assert_eq!(
            last_of(PANIC_422),
            "INTERNAL ERROR: open_sockets_smbd() failed: open_sockets_smbd: No sockets available to \
             bind to."
        );
        assert_eq!(
            last_of(FULL_417),
            "INTERNAL ERROR: reinit_after_fork() failed: messaging_reinit() failed: \
             NT_STATUS_DISK_FULL"
        );
    }

    /// Recorded from 4.17 and 4.22, which say the same.
    #[test]
    fn what_samba_could_not_do_is_shown_with_why() {
        for (lines, reason) in [
            (
                "smbd version 4.17.12-Debian started.\n\
                 Copyright Andrew Tridgell and the Samba Team 1992-2022\n\
                 Failed to open /data/.berth/smb/private/secrets.tdb\n\
                 exit_daemon: daemon failed to start: smbd can not open secrets.tdb, error code 13\n",
                "exit_daemon: daemon failed to start: smbd can not open secrets.tdb, error code 13: \
                 Failed to open /data/.berth/smb/private/secrets.tdb",
            ),
            (
                "SamInfo3_for_guest: Unable to locate guest account [nosuch]!\n\
                 get_guest_info3 failed with NT_STATUS_NO_SUCH_USER\n\
                 ERROR: failed to setup guest info.\n",
                "ERROR: failed to setup guest info: get_guest_info3 failed with \
                 NT_STATUS_NO_SUCH_USER",
            ),
            (
                "smbd version 4.22.11-Debian-4.22.11+dfsg-0+deb13u1 started.\n\
                 Copyright Andrew Tridgell and the Samba Team 1992-2025\n\
                 No builtin nor plugin backend for elsewhere found\n",
                "No builtin nor plugin backend for elsewhere found",
            ),
            (
                "ERROR: smbd is already running. File /run/samba/pid/smbd.pid exists and process id 46 \
                 is running.\n",
                "ERROR: smbd is already running. File /run/samba/pid/smbd.pid exists and process id 46 \
                 is running.",
            ),
        ] {
            assert_eq!(last_of(lines), reason);
        }
    }

    #[test]
    fn of_any_other_command_the_last_line_is_shown() {
        assert_eq!(last_of("one\n  two  \n\n"), "two");
        let failed = "can't bind: Address already in use";
        assert_eq!(last_of(&format!("{failed}\nbye\n")), failed);
        assert_eq!(last_of(""), "");
    }

    #[test]
    fn what_was_wrong_long_ago_is_forgotten() {
        let (mut words, begun) = (LastWords::default(), Instant::now());
        let later = begun + MEMORY + Duration::from_millis(1);
        words.note(
            FATAL_65.lines().find(|l| l.contains("FATAL")).unwrap(),
            begun,
        );
        words.note("soon after", begun + MEMORY);
        assert!(words.get(begun + MEMORY).unwrap().starts_with("Failed"));
        assert_eq!(words.get(later), None);
        words.note("long after", later);
        assert_eq!(words.get(later), Some("long after"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "( : epoch | :|[a-z]|FATAL|\\PC)*") {
            let _ = weigh(&line);
        }
    }
}
