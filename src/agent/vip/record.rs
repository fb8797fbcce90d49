//! What is on record of the VIPs of this node, under /run: it goes with a reboot, as they do.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::cell::network;
use crate::plan::vip::Request;
use crate::sys::{message, state};

/// A record is a few hundred bytes; a longer file is not one of berth's.
const LIMIT: u64 = 1 << 16;
/// More VIPs than a node can have.
const RECORDS: usize = 4096;

/// What the parameters ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The vserver.
    pub vserver: String,
    /// The VIP.
    pub vip: IpAddr,
    /// Its subnet.
    pub subnet: Option<IpNetwork>,
    /// The gateway out of it.
    pub gateway: Option<IpAddr>,
    /// The ports it may be served through.
    pub ports: Option<Vec<String>>,
    /// Whether a routing daemon announces its route.
    pub routed: bool,
}

impl Wish {
    /// The same as the plan has it.
    pub(in crate::agent) fn request(&self) -> Request {
        Request {
            vip: self.vip,
            veth: network::outside(&self.vserver),
            subnet: self.subnet,
            gateway: self.gateway,
            ports: self.ports.clone(),
            routed: self.routed,
            prefer: None,
        }
    }
}

/// A VIP's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::agent) struct Record {
    /// What it was started with.
    pub wish: Wish,
    /// Whether it has been started: up to then, and from a stop on, its ports are not to be touched
    /// but by its own agent.
    pub serving: bool,
    /// Whether the cluster was told that it is degraded.
    #[serde(default)]
    pub degraded: bool,
}

/// The directory of the records below berth's own under /run.
pub(in crate::agent) fn directory(runtime: &Path) -> PathBuf {
    runtime.join("vip.d")
}

fn file(runtime: &Path, instance: &str) -> PathBuf {
    // Resource ids have no slashes, but nothing here relies on it.
    directory(runtime).join(instance.replace('/', "_"))
}

impl Record {
    /// Writes it for the resource `instance`: readers see the old one or the new one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, runtime: &Path, instance: &str) -> io::Result<()> {
        let (directory, path) = (directory(runtime), file(runtime, instance));
        fs::create_dir_all(&directory)
            .map_err(|e| message(e, format_args!("make directory {}", directory.display())))?;
        state::replace(&path, &serde_json::to_vec(self)?)
    }

    /// That of the resource `instance`, if it has one that can be read.
    pub fn read(runtime: &Path, instance: &str) -> Option<Self> {
        read(&file(runtime, instance)).ok()
    }

    /// Those of all resources; what can't be read is left out.
    pub fn read_all(runtime: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(directory(runtime)) else {
            return Vec::new();
        };
        let names = entries.flatten().map(|e| e.file_name());
        let finished = names.filter(|name| !name.as_encoded_bytes().ends_with(b".new"));
        finished
            .take(RECORDS)
            .filter_map(|name| read(&directory(runtime).join(name)).ok())
            .collect()
    }

    /// Removes that of the resource `instance`, whether or not there is one.
    pub fn forget(runtime: &Path, instance: &str) {
        // One that stays is in nobody's way: there is nothing to serve.
        let _ = fs::remove_file(file(runtime, instance));
    }
}

fn read(path: &Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&state::read(path, LIMIT)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_no_record_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            wish: Wish {
                vserver: "alpha".into(),
                vip: [10, 1, 0, 50].into(),
                subnet: "10.1.0.0/24".parse().ok(),
                gateway: None,
                ports: Some(vec!["eth1".into()]),
                routed: true,
            },
            serving: true,
            degraded: false,
        };
        assert_eq!(Record::read_all(dir.path()), []);
        record.write(dir.path(), "alpha/ip1").unwrap();
        fs::write(directory(dir.path()).join("odd"), "alpha 10.1.0.50\n").unwrap();
        fs::write(directory(dir.path()).join("alpha-ip2.new"), "{").unwrap();
        assert_eq!(Record::read(dir.path(), "alpha/ip1"), Some(record.clone()));
        assert_eq!(Record::read_all(dir.path()), [record]);
        Record::forget(dir.path(), "alpha/ip1");
        assert_eq!(Record::read(dir.path(), "alpha/ip1"), None);
    }
}
