//! The watchdog: ends an action with a reason before Pacemaker kills it without one.
//!
//! An interval timer and a signal handler, no thread: agents fork and enter namespaces, and threads
//! survive neither. The handler does nothing but write a line that was prepared beforehand and exit.

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::reason;
use crate::sys::process;

/// The line that the handler writes. Replaced by [`step`], never freed: a few short lines in the
/// life of an action, and the handler may be reading one of them.
static LINE: AtomicPtr<String> = AtomicPtr::new(ptr::null_mut());

/// What does not change from step to step.
static BASE: OnceLock<Base> = OnceLock::new();

#[derive(Debug)]
struct Base {
    prefix: String,
    subject: String,
    limit: Duration,
}

/// Starts the watchdog: after `limit` the process ends with exit code 1 and an exit reason with
/// `prefix` that names `subject` (such as "start of alpha-data") and the step at that moment.
///
/// Forked children have no timer (setitimer(2): not inherited).
///
/// # Errors
/// The kernel refused the handler or the timer.
pub(crate) fn arm(prefix: &str, subject: &str, limit: Duration) -> io::Result<()> {
    let base = Base {
        prefix: prefix.to_owned(),
        subject: subject.to_owned(),
        limit,
    };
    // A second call changes nothing: one process serves one action.
    if BASE.set(base).is_err() {
        return Ok(());
    }
    step("beginning");
    install()?;
    let value = libc::timeval {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_usec: libc::suseconds_t::from(limit.subsec_micros() as i32).max(1),
    };
    let timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: value,
    };
    // SAFETY: setitimer reads the structure, which lives until it returns; no old value is asked for.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Tells what the action is doing now ("mounting /dev/x"), for the reason if time runs out.
/// Without a watchdog, nothing.
pub(crate) fn step(doing: &str) {
    let Some(base) = BASE.get() else { return };
    let text = reason::line(&format!(
        "{} not finished after {} s while {doing}",
        base.subject,
        base.limit.as_secs()
    ));
    let line = Box::new(format!("{}{text}\n", base.prefix));
    LINE.store(Box::into_raw(line), Ordering::Release);
}

fn install() -> io::Result<()> {
    let handler = SigHandler::Handler(expired);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: as sigaction wants it, the handler makes async-signal-safe calls only.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    // The signal may have been blocked by whoever started the agent.
    Ok(SigSet::from(Signal::SIGALRM).thread_unblock()?)
}

extern "C" fn expired(_signal: libc::c_int) {
    let line = LINE.load(Ordering::Acquire);
    // SAFETY: the pointer is null or from Box::into_raw and never freed nor changed after its store.
    if let Some(line) = unsafe { line.as_ref() } {
        // This is a single system call, and a failed one leaves nothing better to do.
        let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
    }
    process::leave(1);
}
