//! The records of this node's VIPs, in files under /run: a reboot deletes them along with the VIPs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{message, state};

use crate::plan::vip::record::Record;

/// A record is a few hundred bytes; a longer file is not one of berth's.
const LIMIT: u64 = 1 << 16;
/// More VIPs than a node can have.
const RECORDS: usize = 4096;

/// The directory of the records, below `runtime`.
pub(crate) fn directory(runtime: &Path) -> PathBuf {
    runtime.join("vip.d")
}

fn file(runtime: &Path, instance: &str) -> PathBuf {
    // Resource ids have no slashes, but nothing here relies on it.
    directory(runtime).join(instance.replace('/', "_"))
}

impl Record {
    /// Writes the record of the resource `instance`. The file is replaced: readers see the old record or the new one.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn write(&self, runtime: &Path, instance: &str) -> io::Result<()> {
        let (directory, path) = (directory(runtime), file(runtime, instance));
        fs::create_dir_all(&directory)
            .map_err(|e| message(e, format_args!("make directory {}", directory.display())))?;
        state::replace(&path, &serde_json::to_vec(self)?)
    }

    /// The record of the resource `instance`, if it has one that can be read.
    pub(crate) fn read(runtime: &Path, instance: &str) -> Option<Self> {
        read(&file(runtime, instance)).ok()
    }

    /// The records of all resources, by their names. A record that can't be read is left out.
    pub(crate) fn read_all(runtime: &Path) -> BTreeMap<String, Self> {
        state::read_all(&directory(runtime), RECORDS, read)
    }

    /// Deletes the record of the resource `instance`, if there is one.
    pub(crate) fn forget(runtime: &Path, instance: &str) {
        // A record that stays does no harm: nothing of its VIP is left to serve.
        let _ = fs::remove_file(file(runtime, instance));
    }
}

fn read(path: &Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&state::read(path, LIMIT)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;
    use crate::plan::vip::record::{Role, VipSpec};

    #[test]
    fn what_is_written_is_read_and_what_is_no_record_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            spec: VipSpec {
                vserver: "alpha".into(),
                vip: [10, 1, 0, 50].into(),
                subnet: "10.1.0.0/24".parse().ok(),
                gateway: None,
                ports: Some(vec!["eth1".into()]),
                routed: true,
                reroute: true,
            },
            serving: true,
            degraded: false,
            role: Role::Home,
            claimed: None,
        };
        assert!(Record::read_all(dir.path()).is_empty());
        record.write(dir.path(), "alpha/ip1").unwrap();
        fs::write(directory(dir.path()).join("odd"), "alpha 10.1.0.50\n").unwrap();
        fs::write(directory(dir.path()).join("alpha-ip2.new"), "{").unwrap();
        assert_eq!(Record::read(dir.path(), "alpha/ip1"), Some(record.clone()));
        let all: Vec<_> = Record::read_all(dir.path()).into_values().collect();
        assert_eq!(all, [record]);
        Record::forget(dir.path(), "alpha/ip1");
        assert_eq!(Record::read(dir.path(), "alpha/ip1"), None);
    }

    #[test]
    fn records_of_all_versions_can_be_read() {
        let kinds = [
            "home",
            "contested",
            "router",
            "stranded",
            "ending",
            "detour",
            "about to be one",
        ];
        formats::check("vip-record.jsonl", &kinds, |record: &Record| {
            match record.role {
                Role::Home if record.claimed.is_some() => "contested",
                Role::Home => "home",
                Role::Router(_) => "router",
                Role::Stranded(_) => "stranded",
                Role::Ending(_) => "ending",
                Role::Detour(Some(_)) => "detour",
                Role::Detour(None) => "about to be one",
            }
        });
        // Of before 0.1.0.
        let oldest = r#"{"wish":{"vserver":"alpha","vip":"10.1.0.50","subnet":null,"gateway":null,"ports":null,"routed":false},"serving":true}"#;
        let record: Record = serde_json::from_str(oldest).unwrap();
        assert_eq!((record.role, record.degraded), (Role::Home, false));
    }
}
