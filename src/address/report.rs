//! The daemon's report of the ports to the addresses' agents on its node: a file that counts while the daemon lives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::plan::vip::Watched;
use crate::sys::state;
use crate::types::IfName;

/// A node has a few dozens of ports at the most.
const LIMIT: u64 = 1 << 20;

/// Every port that is watched, by its name.
pub(crate) type Report = BTreeMap<IfName, Watched>;

fn file(runtime: &Path) -> PathBuf {
    runtime.join("ports.json")
}

/// The lock that the daemon holds as long as it lives.
pub(crate) fn lock_file(runtime: &Path) -> PathBuf {
    runtime.join("portwatch.lock")
}

/// Writes the report. The file is replaced: readers see the old report or the new one.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn write(runtime: &Path, report: &Report) -> io::Result<()> {
    state::replace(&file(runtime), &serde_json::to_vec(report)?)
}

/// The report of the daemon, if one is alive; else empty.
pub(crate) fn read(runtime: &Path) -> Report {
    let read = || -> Option<Report> {
        let lock = File::open(lock_file(runtime)).ok()?;
        match Flock::lock(lock, FlockArg::LockSharedNonblock) {
            Err((_, Errno::EWOULDBLOCK)) => {}
            // Nobody holds the lock: the report is that of a daemon that has ended.
            _ => return None,
        }
        serde_json::from_slice(&state::read(&file(runtime), LIMIT).ok()?).ok()
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;
    use crate::plan::port::Standing;

    #[test]
    fn a_report_counts_while_its_daemon_lives() {
        let dir = tempfile::tempdir().unwrap();
        let watched = Watched {
            standing: Standing::Failed,
            load: 3,
            nets: vec![("10.1.0.0/24".parse().unwrap(), None)],
        };
        let report: Report = [("eth1".into(), watched)].into();
        write(dir.path(), &report).unwrap();
        assert_eq!(read(dir.path()), Report::new());
        let lock = File::create(lock_file(dir.path())).unwrap();
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(read(dir.path()), report);
        drop(lock);
        assert_eq!(read(dir.path()), Report::new());
    }

    #[test]
    fn reports_of_all_versions_can_be_read() {
        let kinds = ["good", "degraded", "suspect", "held", "failed"];
        formats::check(
            "ports.jsonl",
            &kinds,
            |report: &Report| match report["eth1"].standing {
                Standing::Good => "good",
                Standing::Degraded => "degraded",
                Standing::Suspect => "suspect",
                Standing::Held => "held",
                Standing::Failed => "failed",
            },
        );
    }
}
