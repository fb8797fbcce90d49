//! What is kept of a repair: a directory with the log, and what the damage was. It lies on the node, since
//! the file system itself is what is being repaired, and beside what the cluster keeps of itself: it must
//! never fill that place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ocf::log;

/// How many repairs' records are kept of a file system.
const RECORDS: usize = 4;

/// How much the older records of a file system may hold together, in bytes.
const OLDER_SIZE: u64 = 1 << 30;

/// What is kept of the damage takes no more than this, in bytes.
const KEPT_SIZE: u64 = 1 << 30;

/// With less room than this, in bytes, nothing is kept of the damage.
const LEAST_ROOM: u64 = 64 << 20;

/// What is kept of the programs' words, in bytes, where there is room for more and where there is not.
const LOG_SIZE: usize = 16 << 20;
const SHORT_LOG_SIZE: usize = 1 << 20;

/// The record of one repair.
#[derive(Debug)]
pub(super) struct Record {
    directory: PathBuf,
    log: Option<File>,
    left: usize,
    room: u64,
}

impl Record {
    /// Makes the directory for this repair's record, named by the time, and drops older ones. Where that
    /// can't be done the repair is done without: nobody's files wait for a full disk of the node.
    pub(super) fn new(records: &Path) -> Self {
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
        let room = log.as_ref().map_or(0, |_| room(&directory));
        let left = if room > 0 { LOG_SIZE } else { SHORT_LOG_SIZE };
        let mut record = Self {
            directory,
            log,
            left,
            room,
        };
        if record.room == 0 {
            record.write(
                "# no room to keep an image or what is overwritten: the repair can't be taken back",
            );
        }
        record
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How large a file may be in which something is kept of the damage, in bytes; 0: there is no room.
    pub(super) fn room(&self) -> u64 {
        self.room
    }

    /// Nothing more is kept in this repair.
    pub(super) fn give_up_keeping(&mut self) {
        self.room = 0;
    }

    /// Adds a line, up to a limit. A log that can't be written must not end a repair that can be done.
    pub(super) fn write(&mut self, line: &str) {
        let Some(left) = self.left.checked_sub(line.len() + 1) else {
            return;
        };
        self.left = left;
        match &mut self.log {
            Some(log) => {
                let _ = writeln!(log, "{line}");
            }
            None => log::info(format_args!("repair: {line}")),
        }
    }

    /// Makes an empty file, for root alone, in the place of one that may be there.
    ///
    /// # Errors
    /// If it can't be made.
    pub(super) fn make_file(&self, name: &str) -> io::Result<PathBuf> {
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

    /// Drops a file that nothing came to be kept in, or `anyhow`.
    pub(super) fn settle_file(&self, name: &str, anyhow: bool) {
        let is_empty = || fs::metadata(self.directory.join(name)).is_ok_and(|file| file.len() == 0);
        if anyhow || is_empty() {
            self.drop_file(name);
        }
    }

    /// Drops a file that is worth nothing by itself.
    pub(super) fn drop_file(&self, name: &str) {
        // It may never have been made.
        let _ = fs::remove_file(self.directory.join(name));
    }
}

fn make(records: &Path) -> io::Result<(PathBuf, File)> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(records)?;
    let mut old: Vec<PathBuf> = fs::read_dir(records)?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    old.sort();
    let mut held = 0;
    for (newer, path) in old.iter().rev().enumerate() {
        held += size(path);
        if newer >= RECORDS - 1 || held > OLDER_SIZE {
            fs::remove_dir_all(path)?;
        }
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let record = records.join(format!("{:012}.{:09}", now.as_secs(), now.subsec_nanos()));
    builder.recursive(false).create(&record)?;
    let log = File::create(record.join("log"))?;
    Ok((record, log))
}

/// What a record holds, in bytes; it has no directories in it.
fn size(record: &Path) -> u64 {
    let files = fs::read_dir(record).into_iter().flatten().flatten();
    files
        .filter_map(|file| Some(file.metadata().ok()?.len()))
        .sum()
}

/// How large a file may be here: half of what is free beyond a tenth of the whole, which is left to others.
fn room(directory: &Path) -> u64 {
    let Ok(all) = rustix::fs::statvfs(directory) else {
        return 0;
    };
    share(
        all.f_bavail.saturating_mul(all.f_frsize),
        all.f_blocks.saturating_mul(all.f_frsize),
    )
}

fn share(free: u64, whole: u64) -> u64 {
    match free.saturating_sub(whole / 10) / 2 {
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
        assert_eq!(share(100 * GIB, 200 * GIB), KEPT_SIZE);
        assert_eq!(share(3 * GIB, 20 * GIB), GIB / 2);
        for full in [0, GIB, 2 * GIB, 2 * GIB + LEAST_ROOM] {
            assert_eq!(share(full, 20 * GIB), 0, "{full}");
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
    fn without_a_place_there_is_a_record_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let mut record = Record::new(&file.join("records"));
        record.write("said");
        assert_eq!(record.room(), 0);
    }
}
