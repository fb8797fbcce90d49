//! The lock that keeps the agents of addresses, and portwatch, apart.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::sys::locks;
use crate::sys::message;
use crate::sys::state::is_full;

/// How often the lock is tried.
pub(crate) const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// What keeps other agents of this node, and portwatch, from changing anything about VIPs meanwhile.
pub(crate) type Lock = Flock<File>;

/// Takes the lock, if nobody has it at this moment.
///
/// # Errors
/// If it can't be asked for.
pub(crate) fn try_lock(runtime: &Path) -> io::Result<Option<Lock>> {
    let path = runtime.join("vip.lock");
    let what = || format!("lock {}", path.display());
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
            .open(&path)
    };
    let file = open()
        .or_else(|e| match is_full(&e) {
            // The directory does as well for all that find it so full.
            true => {
                File::open(runtime).or_else(|_| File::open(runtime.parent().unwrap_or(runtime)))
            }
            false => Err(e),
        })
        .map_err(|e| message(e, what()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, e)) => Err(message(e.into(), what())),
    }
}

/// Takes the lock.
///
/// # Errors
/// If it is still held by another one at `deadline`.
pub(crate) fn lock(runtime: &Path, deadline: Instant) -> io::Result<Lock> {
    loop {
        if let Some(lock) = try_lock(runtime)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            let path = runtime.join("vip.lock");
            let who = locks::holder(&path).unwrap_or_else(|| "another address's agent".to_owned());
            let text = format!("lock {}: {who} still holds it", path.display());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(LOCK_PAUSE);
    }
}
