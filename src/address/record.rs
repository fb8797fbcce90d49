//! What is on record of the VIPs of this node, under /run: it goes with a reboot, as they do.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::cell::network;
use crate::plan::vip::{Behind, Detour, NextHop, Request};
use crate::sys::{message, state};
use crate::types::Mac;

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
    /// Whether another node may route for it.
    #[serde(default)]
    pub reroute: bool,
}

impl Wish {
    /// The same as the plan has it.
    pub(crate) fn request(&self) -> Request {
        Request {
            vip: self.vip,
            behind: Behind::Cell(network::outside(&self.vserver)),
            subnet: self.subnet,
            gateway: self.gateway,
            ports: self.ports.clone(),
            routed: self.routed,
            prefer: None,
            detour: None,
        }
    }
}

/// The way from a node that routes for a VIP to the node with its cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The node with the cell.
    pub node: String,
    /// The subnet between the two.
    pub subnet: String,
    /// This node's port on it.
    pub port: String,
    /// The other node's address on it.
    pub address: IpAddr,
    /// The Ethernet addresses that answer for it: a node with several ports on the subnet may answer by
    /// all of them.
    pub macs: Vec<Mac>,
    /// This node's own address on it.
    pub own: IpAddr,
}

/// The way from the node with the cell to the node that routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The node that routes.
    pub node: String,
    /// The subnet between the two.
    pub net: IpNetwork,
    /// This node's ports on it.
    pub ports: Vec<String>,
    /// The other node's address on it.
    pub router: IpAddr,
}

/// What this node does for a VIP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It has the cell and serves the VIP.
    #[default]
    Home,
    /// It routes to the node with the cell.
    Router(Path),
    /// It should, but can't, for this reason.
    Stranded(String),
    /// It routed up to now, and passes on what is still coming.
    Ending(Path),
    /// It has the cell, and another node routes, or is about to if none is named. Such a record is
    /// portwatch's: the resource runs on that node.
    Detour(Option<Leg>),
}

/// A VIP's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it was started with.
    pub wish: Wish,
    /// Whether it has been started: up to then, and from a stop on, its ports are not to be touched
    /// but by its own agent.
    pub serving: bool,
    /// Whether the cluster was told that it is degraded.
    #[serde(default)]
    pub degraded: bool,
    /// What this node does for it.
    #[serde(default)]
    pub role: Role,
    /// The Ethernet address of somebody who claimed it too when it was started, or was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<Mac>,
}

/// What the record of a VIP that another node routes for is called, in place of a resource.
pub(crate) fn detour_name(vip: IpAddr) -> String {
    format!("@{vip}")
}

/// The directory of the records below berth's own under /run.
pub(crate) fn directory(runtime: &std::path::Path) -> PathBuf {
    runtime.join("vip.d")
}

fn file(runtime: &std::path::Path, instance: &str) -> PathBuf {
    // Resource ids have no slashes, but nothing here relies on it.
    directory(runtime).join(instance.replace('/', "_"))
}

impl Record {
    /// The VIP's record in this role, before anything was done for it.
    pub fn new(wish: &Wish, role: Role) -> Self {
        Self {
            wish: wish.clone(),
            serving: false,
            degraded: false,
            role,
            claimed: None,
        }
    }

    /// What the plan is asked for.
    pub fn request(&self) -> Request {
        let mut request = self.wish.request();
        match &self.role {
            Role::Router(path) | Role::Ending(path) => {
                request.behind = Behind::Node(NextHop {
                    link: path.port.clone(),
                    address: path.address,
                    macs: path.macs.clone(),
                });
                // What came in by another subnet's port would not be passed on.
                request.routed = false;
            }
            Role::Detour(Some(leg)) => {
                request.detour = Some(Detour {
                    ports: leg.ports.clone(),
                    subnet: leg.net,
                    router: leg.router,
                });
            }
            Role::Home | Role::Stranded(_) | Role::Detour(None) => {}
        }
        request
    }

    /// Writes it for the resource `instance`: readers see the old one or the new one.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, runtime: &std::path::Path, instance: &str) -> io::Result<()> {
        let (directory, path) = (directory(runtime), file(runtime, instance));
        fs::create_dir_all(&directory)
            .map_err(|e| message(e, format_args!("make directory {}", directory.display())))?;
        state::replace(&path, &serde_json::to_vec(self)?)
    }

    /// That of the resource `instance`, if it has one that can be read.
    pub fn read(runtime: &std::path::Path, instance: &str) -> Option<Self> {
        read(&file(runtime, instance)).ok()
    }

    /// Those of all resources, by their names; what can't be read is left out.
    pub fn read_all(runtime: &std::path::Path) -> BTreeMap<String, Self> {
        state::read_all(&directory(runtime), RECORDS, read)
    }

    /// Removes that of the resource `instance`, whether or not there is one.
    pub fn forget(runtime: &std::path::Path, instance: &str) {
        // One that stays is in nobody's way: there is nothing to serve.
        let _ = fs::remove_file(file(runtime, instance));
    }
}

fn read(path: &std::path::Path) -> io::Result<Record> {
    Ok(serde_json::from_slice(&state::read(path, LIMIT)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats;

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
