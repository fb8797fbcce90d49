//! The lock under which the addresses' agents and portwatch change VIPs, one at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::sys::lock::{self, Lock};
use crate::sys::message;
use crate::sys::state::is_full;

/// Takes the lock if nobody holds it at this moment; `None` if somebody does.
///
/// # Errors
/// If the lock file can't be opened.
pub(crate) fn try_lock(runtime: &Path) -> io::Result<Option<Lock>> {
    let locked = open_lock(runtime).and_then(Lock::try_take);
    locked.map_err(|e| unlocked(e, runtime))
}

/// Takes the lock, and waits for it until `deadline`.
///
/// # Errors
/// `TimedOut` if another process still holds the lock at `deadline`; or if the lock file can't be opened.
pub(crate) fn lock(runtime: &Path, deadline: Instant) -> io::Result<Lock> {
    let locked = open_lock(runtime).and_then(|file| Lock::take(file, deadline));
    locked.map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => {
            let who = lock::holder(&lock_file(runtime));
            let who = who.unwrap_or_else(|| "another address's agent".to_owned());
            let text = format!("{who} still holds it");
            unlocked(io::Error::new(io::ErrorKind::TimedOut, text), runtime)
        }
        _ => unlocked(e, runtime),
    })
}

fn lock_file(runtime: &Path) -> PathBuf {
    runtime.join("vip.lock")
}

fn open_lock(runtime: &Path) -> io::Result<File> {
    let open = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(runtime)?;
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(lock_file(runtime))
    };
    open().or_else(|e| match is_full(&e) {
        // No room for the file: the directory is locked instead, as by every process that finds no room.
        true => File::open(runtime).or_else(|_| File::open(runtime.parent().unwrap_or(runtime))),
        false => Err(e),
    })
}

fn unlocked(e: io::Error, runtime: &Path) -> io::Error {
    message(e, format_args!("lock {}", lock_file(runtime).display()))
}
