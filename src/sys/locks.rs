//! Who holds a lock of a file (flock(2)), for messages.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::state;

/// A line a lock; a node has some hundreds.
const LIMIT: u64 = 1 << 20;

/// Who holds the exclusive lock of this file, as "process 71 (vip)"; `None` if nobody does, or nobody who can be seen
/// from here.
pub fn holder(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let table = state::read("/proc/locks".as_ref(), LIMIT).ok()?;
    let process = find(&String::from_utf8_lossy(&table), file.dev(), file.ino())?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(match name.trim() {
        "" => format!("process {process}"),
        name => format!("process {process} ({name})"),
    })
}

/// The process in the kernel's table of locks (proc_locks(5)): `1: FLOCK ADVISORY WRITE 71 00:1a:1234 0 EOF`. One that
/// waits for a lock has an arrow before its type.
fn find(table: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
    let wanted = format!("{device}:{inode}");
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let process = words.next()?.parse().ok()?;
        // Of another PID namespace: it has no number here.
        (is_it && process > 0 && words.next() == Some(&wanted)).then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{Flock, FlockArg};

    use super::*;

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
