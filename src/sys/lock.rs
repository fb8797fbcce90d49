//! Locks of files (flock(2)) that are waited for up to a deadline. The kernel gives one back when its holder dies.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::message;

/// How long it is waited from one try to the next.
const PAUSE: Duration = Duration::from_millis(2);

/// The exclusive lock of a file, held as long as this lives.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of an open file. It is tried once even if `deadline` has passed.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else still has it at `deadline`; at once whatever else the kernel refuses.
    pub fn take(mut file: File, deadline: Instant) -> io::Result<Self> {
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < deadline => file,
                Err((_, e)) => return Err(e.into()),
            };
            thread::sleep(PAUSE);
        }
    }

    /// Takes the lock of an open file, if nobody else has it at this moment.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn try_take(file: File) -> io::Result<Option<Self>> {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, e)) => Err(e.into()),
        }
    }
}

/// Opens a file that is there only to be locked, and makes it if need be.
///
/// # Errors
/// If it can't be opened.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let opened = options.create(true).truncate(false).write(true).open(path);
    opened.map_err(|e| message(e, format_args!("open {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::OpenOptionsExt;

    use tempfile::TempDir;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn files() -> (TempDir, File, File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (one, other) = (open(&path).unwrap(), open(&path).unwrap());
        (dir, one, other)
    }

    #[test]
    fn it_is_tried_once_after_the_deadline_too() {
        let (_dir, one, other) = files();
        let past = Instant::now();
        let lock = Lock::take(one, past).unwrap();
        let held = Lock::take(other.try_clone().unwrap(), past).unwrap_err();
        assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        Lock::take(other, past).unwrap();
    }

    #[test]
    fn it_is_waited_for() {
        let (_dir, one, other) = files();
        let lock = Lock::take(one, later()).unwrap();
        let waiting = thread::spawn(move || Lock::take(other, later()));
        drop(lock);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn who_does_not_wait_has_it_or_not() {
        let (_dir, one, other) = files();
        let lock = Lock::try_take(one).unwrap();
        assert!(lock.is_some());
        assert!(
            Lock::try_take(other.try_clone().unwrap())
                .unwrap()
                .is_none()
        );
        drop(lock);
        assert!(Lock::try_take(other).unwrap().is_some());
    }

    /// A file that is open for its place only has no lock, now or later.
    #[test]
    fn what_waiting_does_not_cure_is_not_waited_for() {
        let (dir, ..) = files();
        let place = || {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(libc::O_PATH);
            options.open(dir.path().join("lock")).unwrap()
        };
        let begun = Instant::now();
        let refused = [
            Lock::take(place(), later()).map(|_| ()),
            Lock::try_take(place()).map(|_| ()),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF));
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_lock_that_has_no_place_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/lock");
        let error = open(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("open {}: ", path.display())),
            "{error}"
        );
    }
}
