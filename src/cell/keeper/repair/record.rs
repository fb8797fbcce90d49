//! The record of a repair: a directory with the log, and what was on the device before. It is on the node, since the
//! file system itself is being repaired, and next to the cluster's own state: it must never fill that file system.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};

use crate::log;
use crate::text::plain;

/// The name of the log in a record. It is locked while the repair is under way.
const LOG: &str = "log";

/// How many records are kept of one file system.
const RECORDS: usize = 4;

/// How much the older records of a file system may hold together, in bytes.
const OLDER_SIZE: u64 = 1 << 30;

/// How much the records of all file systems of the node may hold together when another one is begun, in bytes.
const ALL_SIZE: u64 = 4 << 30;

/// The most bytes of a file that keeps what was on the device.
const KEPT_SIZE: u64 = 1 << 30;

/// With less free space than this, in bytes, nothing of the device is kept.
const LEAST_ROOM: u64 = 64 << 20;

/// The most bytes of the log, where there is free space and where there is little.
const LOG_SIZE: usize = 16 << 20;
const SHORT_LOG_SIZE: usize = 1 << 20;

/// The record of one repair.
#[derive(Debug)]
pub(crate) struct Record {
    directory: PathBuf,
    log: Option<Flock<File>>,
    left: usize,
    keeps: bool,
}

impl Record {
    /// Makes the directory for this repair's record, named by the time, and drops older ones. If that fails, the repair
    /// goes on without a record: clients must not wait because a disk of the node is full.
    pub(crate) fn new(records: &Path) -> Self {
        let (directory, log) = match make(records) {
            Ok((directory, log)) => (directory, Some(log)),
            Err(e) => {
                log::warn(format_args!(
                    "the repair has no record, its words are logged here: {}: {e}",
                    records.display()
                ));
                (records.to_owned(), None)
            }
        };
        let mut record = Self {
            directory,
            log,
            left: SHORT_LOG_SIZE,
            keeps: true,
        };
        if record.room() > 0 {
            record.left = LOG_SIZE;
        } else {
            record.write(
                "# no room to keep an image or what is overwritten: the repair can't be taken back",
            );
        }
        record
    }

    /// The directory of the record.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How large one more file that keeps what was on the device may become, in bytes; 0: there is no room.
    pub(crate) fn room(&self) -> u64 {
        match &self.log {
            Some(_) if self.keeps => room(&self.directory),
            _ => 0,
        }
    }

    /// Keeps nothing more of the device in this repair.
    pub(crate) fn give_up_keeping(&mut self) {
        self.keeps = false;
    }

    /// Adds a line to the log, up to a limit. It is made harmless for a terminal, as it comes from a program that an
    /// attacker may have taken over. A failure is ignored: it must not end the repair.
    pub(crate) fn write(&mut self, line: &str) {
        let line = plain(line);
        let Some(left) = self.left.checked_sub(line.len() + 1) else {
            return;
        };
        self.left = left;
        match &mut self.log {
            Some(log) => {
                let _ = writeln!(&mut **log, "{line}");
            }
            None => log::info(format_args!("repair: {line}")),
        }
    }

    /// Makes an empty file for root alone, and replaces one that may be there.
    ///
    /// # Errors
    /// If it can't be made.
    pub(crate) fn make_file(&self, name: &str) -> io::Result<PathBuf> {
        self.drop_file(name);
        let path = self.directory.join(name);
        let mut options = File::options();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(path)
    }

    /// Drops a file if it is empty, or `anyhow`.
    pub(crate) fn settle_file(&self, name: &str, anyhow: bool) {
        let is_empty = || fs::metadata(self.directory.join(name)).is_ok_and(|file| file.len() == 0);
        if anyhow || is_empty() {
            self.drop_file(name);
        }
    }

    /// Drops a file of the record.
    pub(crate) fn drop_file(&self, name: &str) {
        // The file may never have been made.
        let _ = fs::remove_file(self.directory.join(name));
    }
}

fn make(records: &Path) -> io::Result<(PathBuf, Flock<File>)> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(records)?;
    let mut held = 0;
    for (newer, path) in newest_first(entries(records)?).iter().enumerate() {
        held += size(path);
        if newer >= RECORDS - 1 || held > OLDER_SIZE {
            fs::remove_dir_all(path)?;
        }
    }
    if let Some(all) = records.parent() {
        limit(all);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let record = records.join(format!("{:012}.{:09}", now.as_secs(), now.subsec_nanos()));
    builder.recursive(false).create(&record)?;
    let log = File::create(record.join(LOG))?;
    let log = Flock::lock(log, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e)?;
    Ok((record, log))
}

/// Drops the oldest records of all file systems until the rest hold no more than [`ALL_SIZE`]; that includes resources
/// that no longer exist. The record of a repair that is under way stays. A failure is left to the next time.
fn limit(all: &Path) {
    let of_each = entries(all).unwrap_or_default();
    let records = of_each
        .iter()
        .flat_map(|of| entries(of).unwrap_or_default());
    let mut held = 0;
    for record in newest_first(records.collect()) {
        held += size(&record);
        if held > ALL_SIZE && !in_use(&record) {
            let _ = fs::remove_dir_all(&record);
            // This succeeds only if that was the last record of its resource.
            let _ = record.parent().map(fs::remove_dir);
        }
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|e| Some(e.ok()?.path())).collect())
}

/// The records, newest first: they are named by their time.
fn newest_first(mut records: Vec<PathBuf>) -> Vec<PathBuf> {
    records.sort_by(|a, b| b.file_name().cmp(&a.file_name()));
    records
}

/// Whether the repair of this record is under way.
fn in_use(record: &Path) -> bool {
    let Ok(log) = File::open(record.join(LOG)) else {
        return false;
    };
    Flock::lock(log, FlockArg::LockSharedNonblock).is_err()
}

/// The size of a record, in bytes; it has no directories in it.
fn size(record: &Path) -> u64 {
    let files = fs::read_dir(record).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// How large a file may become here, in bytes. A tenth of the file system is left to others; half of what is free
/// beyond that may be used, and half as much for each other repair under way, which may use as much.
fn room(directory: &Path) -> u64 {
    let Ok(place) = rustix::fs::statvfs(directory) else {
        return 0;
    };
    share(
        place.f_bavail.saturating_mul(place.f_frsize),
        place.f_blocks.saturating_mul(place.f_frsize),
        others(directory),
    )
}

/// How many repairs are under way beside the one with this record.
fn others(record: &Path) -> u32 {
    let all = record.parent().and_then(Path::parent);
    let of_each = all.and_then(|all| entries(all).ok()).unwrap_or_default();
    let records = of_each
        .iter()
        .flat_map(|of| entries(of).unwrap_or_default());
    let busy = records.filter(|other| other != record && in_use(other));
    busy.fold(0, |count: u32, _| count.saturating_add(1))
}

fn share(free: u64, whole: u64, others: u32) -> u64 {
    let half = free.saturating_sub(whole / 10) / 2;
    match half.checked_shr(others).unwrap_or(0) {
        room if room < LEAST_ROOM => 0,
        room => room.min(KEPT_SIZE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_tenth_of_the_place_and_half_of_the_rest_are_left_to_others() {
        assert_eq!(share(100 * GIB, 200 * GIB, 0), KEPT_SIZE);
        assert_eq!(share(3 * GIB, 20 * GIB, 0), GIB / 2);
        assert_eq!(share(3 * GIB, 20 * GIB, 2), GIB / 8);
        assert_eq!(share(3 * GIB, 20 * GIB, 200), 0);
        for full in [0, GIB, 2 * GIB, 2 * GIB + LEAST_ROOM] {
            assert_eq!(share(full, 20 * GIB, 0), 0, "{full}");
        }
    }

    #[test]
    fn older_records_go_by_number_and_by_size() {
        let place = tempfile::tempdir().unwrap();
        let records = place.path().join("records");
        let mut made = vec![];
        for _ in 0..6 {
            made.push(Record::new(&records).directory().to_owned());
        }
        let there = |path: &PathBuf| path.exists();
        assert_eq!(made.iter().filter(|p| there(p)).count(), RECORDS);
        let image = File::create(made[4].join("image")).unwrap();
        // Sparse: it is the length that counts, as it would with an image that has been copied.
        image.set_len(OLDER_SIZE + 1).unwrap();
        let last = Record::new(&records).directory().to_owned();
        assert!(there(&last) && there(&made[5]) && !there(&made[4]));
        assert!(!there(&made[3]), "older than what was too large");
    }

    #[test]
    fn records_of_all_versions_are_older_than_new_ones() {
        let place = tempfile::tempdir().unwrap();
        let records = place.path().join("records");
        // As 0.1.0 names them.
        let known = records.join("001700000000.000000001");
        fs::create_dir_all(&known).unwrap();
        let log = File::create(known.join("log")).unwrap();
        let log = Flock::lock(log, FlockArg::LockExclusiveNonblock);
        assert!(in_use(&known));
        drop(log);
        assert!(!in_use(&known));
        for _ in 1..RECORDS {
            assert!(known.exists());
            Record::new(&records);
        }
        Record::new(&records);
        assert!(!known.exists());
    }

    /// A record of a resource, ended, that holds a quarter of what all may hold. A disk that is nearly full makes a
    /// line in its log, for which there is room beside the image.
    fn ended(all: &Path, resource: &str) -> PathBuf {
        let record = Record::new(&all.join(resource)).directory().to_owned();
        let image = File::create(record.join("image")).unwrap();
        image.set_len(ALL_SIZE / 4 - 4096).unwrap();
        record
    }

    #[test]
    fn the_records_of_all_file_systems_are_limited_but_for_those_in_use() {
        let place = tempfile::tempdir().unwrap();
        let all = place.path();
        let running = Record::new(&all.join("oldest"));
        let image = File::create(running.directory().join("image")).unwrap();
        image.set_len(GIB).unwrap();
        let made: Vec<PathBuf> = (0..6).map(|n| ended(all, &format!("fs{n}"))).collect();
        let last = Record::new(&all.join("another"));
        let there: Vec<bool> = made.iter().map(|record| record.exists()).collect();
        assert_eq!(there, [false, false, true, true, true, true]);
        assert!(!all.join("fs0").exists(), "nothing is left of its resource");
        assert!(running.directory().exists() && last.directory().exists());
        assert_eq!(others(last.directory()), 1);
        drop(running);
        assert_eq!(others(last.directory()), 0);
    }

    #[test]
    fn what_a_program_says_is_harmless_to_who_reads_it() {
        let place = tempfile::tempdir().unwrap();
        let mut record = Record::new(&place.path().join("records"));
        record.write("one\u{1b}[2J\n# Attach");
        let log = fs::read_to_string(record.directory().join(LOG)).unwrap();
        assert_eq!(log.lines().last(), Some("one [2J # Attach"));
    }

    #[test]
    fn without_a_place_there_is_a_record_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let mut record = Record::new(&file.join("records"));
        record.write("said");
        assert_eq!(record.room(), 0);
    }
}
