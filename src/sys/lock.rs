//! Locks of files (flock(2)), waited for up to a deadline. The kernel releases a lock when its holder dies.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{message, state};

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The exclusive lock of a file, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of an open file. It is tried once even if `deadline` has passed.
    ///
    /// # Errors
    /// `WouldBlock` if somebody else still holds it at `deadline`; any other error at once.
    pub(crate) fn take(mut file: File, deadline: Instant) -> io::Result<Self> {
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
    pub(crate) fn try_take(file: File) -> io::Result<Option<Self>> {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { _file: file })),
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, e)) => Err(e.into()),
        }
    }
}

/// Opens a file that is only there to be locked, and makes it if need be.
///
/// # Errors
/// If the file can't be opened or made.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let opened = options.create(true).truncate(false).write(true).open(path);
    opened.map_err(|e| message(e, format_args!("open {}", path.display())))
}

/// The most bytes read of the kernel's table, which has a line for each lock; a node has some hundreds.
const LIMIT: u64 = 1 << 20;

/// The holder of the exclusive lock of this file, as "process 71 (vip)"; `None` if nobody holds it, or a process that
/// can't be seen from here.
pub(crate) fn holder(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let table = state::read("/proc/locks".as_ref(), LIMIT).ok()?;
    let process = find(&String::from_utf8_lossy(&table), file.dev(), file.ino())?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {process}"),
        name => format!("process {process} ({name})"),
    })
}

/// The holder's process id in the kernel's table of locks (proc_locks(5)): `1: FLOCK ADVISORY WRITE 71 00:1a:1234 0
/// EOF`. The line of a process that waits for a lock has an arrow before the type.
fn find(table: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
    let wanted = format!("{device}:{inode}");
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let process = words.next()?.parse().ok()?;
        // A holder in another PID namespace has no process id here.
        (is_it && process > 0 && words.next() == Some(&wanted)).then_some(process)
    })
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

    #[test]
    fn the_holder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()), None);
        let open = File::open(file.path()).unwrap();
        let lock = Flock::lock(open, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e);
        let me = format!("process {} (", std::process::id());
        assert!(holder(file.path()).is_some_and(|who| who.starts_with(&me)));
        drop(lock);
        assert_eq!(holder(file.path()), None);
    }

    #[test]
    fn others_locks_and_those_that_wait_are_not_taken_for_it() {
        let table = "1: POSIX  ADVISORY  WRITE 5 00:1a:1234 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 6 00:1a:1234 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 00:1a:1234 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 7 00:1a:1234 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 8 00:1b:1234 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 9 00:1a:1234 0 EOF\n";
        assert_eq!(find(table, libc::makedev(0, 0x1a), 1234), Some(9));
        assert_eq!(find(table, libc::makedev(0, 0x1a), 1235), None);
    }
}
