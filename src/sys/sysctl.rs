//! Kernel settings under /proc/sys/net, of the calling thread's network namespace. Their former values are recorded
//! before they are changed, and are restored unless somebody else has changed them since.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::{message, state};

/// A record is a few entries an interface; a longer file is not one of berth's.
const RECORD_LIMIT: u64 = 1 << 20;

/// The setting whether IPv6 is forwarded at all.
pub const FORWARD_ALL_IPV6: &str = "ipv6/conf/all/forwarding";

/// The value of `key`, such as `ipv4/conf/eth1/forwarding`; `None` if there is no such setting: there may be no such
/// interface, or the kernel may not have the setting.
///
/// # Errors
/// If the setting can't be read or is not a whole number.
pub fn read(key: &str) -> io::Result<Option<i64>> {
    // Long enough for any number, which the kernel gives in one read: a monitor reads many settings.
    let mut bytes = [0; 32];
    let length = match File::open(file(key)).and_then(|mut file| file.read(&mut bytes)) {
        Ok(length) => length,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(message(e, format_args!("read setting {key}"))),
    };
    let text = String::from_utf8_lossy(&bytes[..length]);
    let value = text.trim().parse().map_err(|_| {
        io::Error::other(format!("setting {key}: \"{}\" is no number", text.trim()))
    })?;
    Ok(Some(value))
}

/// Sets `key` to `value`.
///
/// # Errors
/// If the kernel refuses.
pub fn write(key: &str, value: i64) -> io::Result<()> {
    let result = match key {
        FORWARD_ALL_IPV6 => write_for_all(value),
        _ => fs::write(file(key), value.to_string()),
    };
    result.map_err(|e| message(e, format_args!("set {key} to {value}")))
}

/// Sets IPv6 forwarding as a whole, which alone counts on kernels before 6.17, and restores each interface's own
/// setting, to which the kernel copies the value. An interface that forwards, if only for this moment, loses its routes
/// from router advertisements unless `accept_ra` is 2.
fn write_for_all(value: i64) -> io::Result<()> {
    let mut before = Vec::new();
    for entry in fs::read_dir(file("ipv6/conf"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let own = |setting: &str| format!("ipv6/conf/{name}/{setting}");
        let (forwarding, accept_ra) = (own("forwarding"), own("accept_ra"));
        if forwarding == FORWARD_ALL_IPV6 {
            continue;
        }
        // An interface may be removed at any moment, and has no settings then.
        if let (Some(forwards), Some(accepts)) = (read(&forwarding)?, read(&accept_ra)?) {
            if accepts == 1 {
                fs::write(file(&accept_ra), "2")?;
                before.push((accept_ra, accepts));
            }
            before.push((forwarding, forwards));
        }
    }
    fs::write(file(FORWARD_ALL_IPV6), value.to_string())?;
    for (key, value) in before.into_iter().rev() {
        if read(&key)?.is_some_and(|now| now != value) {
            fs::write(file(&key), value.to_string())?;
        }
    }
    Ok(())
}

fn file(key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(key)
}

/// A setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    key: String,
    /// The former value.
    before: i64,
    /// The value that berth has set.
    since: i64,
}

/// The former values of the settings that berth has changed, recorded in a file. The caller holds a lock while it
/// changes the record.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    changes: Vec<Change>,
    /// Why the file does not have what this record has, if it does not.
    unsaved: Option<io::Error>,
}

impl Record {
    /// An empty record, to be kept in `path`.
    pub fn empty(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            changes: Vec::new(),
            unsaved: None,
        }
    }

    /// Reads what other processes have recorded since. Without a file the record is empty.
    ///
    /// # Errors
    /// If the file can't be read or understood: the record is empty then, too.
    pub(crate) fn reload(&mut self) -> io::Result<()> {
        self.changes.clear();
        self.changes = match state::read(&self.path, RECORD_LIMIT) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| message(e.into(), format_args!("read {}", self.path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e),
        };
        Ok(())
    }

    /// The settings that berth has changed, each with its former value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.changes.iter().map(|c| (c.key.as_str(), c.before))
    }

    /// Records `key` as changed by berth from `before` to `now`, unless it is on record already.
    pub(crate) fn suppose(&mut self, key: &str, (before, now): (i64, i64)) {
        if !self.changes.iter().any(|c| c.key == key) {
            self.changes.push(Change {
                key: key.to_owned(),
                before,
                since: now,
            });
        }
    }

    /// Why the record could not be written, if it could not: mostly for want of room. The error is returned once.
    pub(crate) fn unsaved(&mut self) -> Option<io::Error> {
        self.unsaved.take()
    }

    /// Sets `key` to `value`. The former value is recorded first, so that a crash in between loses nothing. If it can't
    /// be recorded, the setting is changed all the same: see [`Record::unsaved`].
    ///
    /// # Errors
    /// If there is no such setting, or the kernel refuses.
    pub fn change(&mut self, key: &str, value: i64) -> io::Result<()> {
        let Some(now) = read(key)? else {
            let error = io::Error::from(io::ErrorKind::NotFound);
            return Err(message(error, format_args!("set {key} to {value}")));
        };
        match self.changes.iter_mut().find(|c| c.key == key) {
            Some(change) => change.since = value,
            None => self.suppose(key, (now, value)),
        }
        self.save();
        write(key, value)
    }

    /// Restores `key`, unless somebody else has changed it since, or it no longer exists. If the record can't be
    /// written, the setting is restored all the same: see [`Record::unsaved`].
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn restore(&mut self, key: &str) -> io::Result<()> {
        let Some(at) = self.changes.iter().position(|c| c.key == key) else {
            return Ok(());
        };
        let change = &self.changes[at];
        if read(key)? == Some(change.since) {
            write(key, change.before)?;
        }
        self.changes.remove(at);
        self.save();
        Ok(())
    }

    fn save(&mut self) {
        self.unsaved = self.write().err();
    }

    /// Replaces the file; an empty record has none.
    fn write(&self) -> io::Result<()> {
        if !self.changes.is_empty() {
            return state::replace(&self.path, &serde_json::to_vec(&self.changes)?);
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let what = format!("remove {}", self.path.display());
                Err(message(e, what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

    #[test]
    fn a_setting_that_is_not_there_is_none() {
        assert_eq!(read("ipv4/conf/no-such-port/forwarding").unwrap(), None);
        assert!(read("ipv4/conf/lo/forwarding").unwrap().is_some());
    }

    #[test]
    fn a_record_that_is_not_berths_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        let mut record = Record::empty(&path);
        record.reload().unwrap();
        fs::write(&path, "{").unwrap();
        let error = record.reload().unwrap_err().to_string();
        assert!(error.starts_with(&format!("read {}: ", path.display())));
    }

    #[test]
    fn a_record_survives_its_process_and_goes_with_its_last_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.json");
        let mut record = Record::empty(&path);
        // An interface that is gone when its settings are to be put back.
        let key = "ipv4/conf/no-such-port/forwarding";
        record.changes.push(Change {
            key: key.into(),
            before: 0,
            since: 1,
        });
        record.write().unwrap();
        let mut record = Record::empty(&path);
        record.reload().unwrap();
        assert_eq!(record.iter().collect::<Vec<_>>(), [(key, 0)]);
        record.restore(key).unwrap();
        assert!(record.iter().next().is_none() && !path.exists());
    }

    #[test]
    fn a_setting_is_put_back_although_the_record_can_not_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::empty(&dir.path().join("nonesuch/settings.json"));
        let key = "ipv4/conf/no-such-port/forwarding";
        record.suppose(key, (0, 1));
        record.suppose(key, (7, 1));
        record.suppose("ipv4/conf/no-such-port/rp_filter", (1, 2));
        assert_eq!(record.iter().next(), Some((key, 0)));
        record.restore(key).unwrap();
        assert!(record.unsaved().is_some() && record.unsaved().is_none());
        assert_eq!(record.iter().count(), 1);
    }

    #[test]
    fn records_of_all_versions_can_be_read() {
        formats::check("settings.jsonl", &["changes"], |_: &Vec<Change>| "changes");
    }
}
