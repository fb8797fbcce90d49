//! What a lab consists of: names, addresses, cables, disks. Nothing here changes anything.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::system::System;

/// Where the state of all labs of this machine is kept.
pub const STATE: &str = "/run/berth-lab";
/// The networks, each a bridge: the cluster's ring and the two subnets of the clients.
pub const BRIDGES: [&str; 3] = ["ring", "office", "lab"];
/// The machine that routes between the subnets.
pub const ROUTER: &str = "router";
/// Longest name of a lab; it is part of paths and of loop device labels.
const NAME_LIMIT: usize = 20;

/// What a lab is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Tells labs on one machine apart.
    pub name: String,
    /// Number of cluster nodes, named `n1`, `n2` and so on.
    pub nodes: u8,
    /// Names of the shared disks.
    pub disks: Vec<String>,
    /// Size of each disk in MiB. Disks are sparse.
    pub disk_mib: u64,
    /// Directory with the built agents and the `berth` command, installed in each node.
    pub agents: Option<PathBuf>,
    /// A fenced node boots again by itself.
    pub autoboot: bool,
    /// Number of further ports of each node, `eth4` and so on, on the office's network.
    #[serde(default)]
    pub spare_ports: u8,
    /// The system whose programs the machines run.
    #[serde(default)]
    pub system: System,
}

/// One network port of a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Port {
    /// Its name inside the machine.
    pub name: String,
    /// The bridge it is plugged into.
    pub bridge: String,
    /// Its addresses with prefix lengths; none for a port that only carries virtual addresses.
    pub addresses: Vec<String>,
}

/// A machine's part of the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Default gateways.
    pub gateways: Vec<String>,
    /// Runs Corosync and Pacemaker and has the shared disks.
    pub cluster: bool,
    /// Forwards between its ports.
    pub forwards: bool,
}

impl Plan {
    /// A plan of three nodes and four disks of 512 MiB.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            nodes: 3,
            disks: (1..=4).map(|i| format!("d{i}")).collect(),
            disk_mib: 512,
            agents: None,
            autoboot: false,
            spare_ports: 0,
            system: System::default(),
        }
    }

    /// Refuses what could not be built.
    ///
    /// # Errors
    /// Names the first value that is out of range.
    pub fn check(&self) -> Result<()> {
        check_name("lab name", &self.name)?;
        if !(1..=9).contains(&self.nodes) {
            let nodes = self.nodes;
            return Err(Error::new(format!(
                "number of nodes {nodes}: must be 1 to 9"
            )));
        }
        for disk in &self.disks {
            check_name("disk name", disk)?;
        }
        if !(16..=65536).contains(&self.disk_mib) {
            let size = self.disk_mib;
            return Err(Error::new(format!(
                "disk size {size} MiB: must be 16 to 65536"
            )));
        }
        match &self.agents {
            Some(dir) if !dir.join("berth").is_file() => Err(Error::new(format!(
                "agents directory {}: has no built `berth` in it",
                dir.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The lab's directory.
    pub fn state(&self) -> PathBuf {
        state(&self.name)
    }

    /// Names of the cluster nodes.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|i| format!("n{i}")).collect()
    }

    /// Every machine: the nodes, the router, the clients.
    pub fn hosts(&self) -> Vec<Host> {
        let spare = |n: u8| Port {
            name: format!("eth{}", n + 4),
            bridge: OFFICE.bridge.to_owned(),
            addresses: vec![],
        };
        let mut hosts: Vec<Host> = (1..=self.nodes).map(node).collect();
        for host in &mut hosts {
            host.ports.extend((0..self.spare_ports).map(spare));
        }
        hosts.push(Host {
            forwards: true,
            ..other(ROUTER, &[(OFFICE, 254), (LAB, 254)])
        });
        hosts.push(other("c1", &[(OFFICE, 101)]));
        hosts.push(other("c2", &[(LAB, 101)]));
        hosts
    }

    /// Lines for every machine's /etc/hosts.
    pub fn hosts_file(&self) -> String {
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
        for i in 1..=self.nodes {
            text += &format!("10.0.0.{i} n{i}\n");
        }
        text + "10.1.0.101 c1\n10.2.0.101 c2\n10.1.0.254 router\n"
    }
}

/// The directory of the lab called `name`.
pub fn state(name: &str) -> PathBuf {
    Path::new(STATE).join(name)
}

/// A subnet of clients: its bridge and what its addresses begin with.
struct Subnet {
    bridge: &'static str,
    v4: &'static str,
    v6: &'static str,
}

const OFFICE: &Subnet = &Subnet {
    bridge: "office",
    v4: "10.1.0",
    v6: "fd00:1:",
};
const LAB: &Subnet = &Subnet {
    bridge: "lab",
    v4: "10.2.0",
    v6: "fd00:2:",
};

impl Subnet {
    fn port(&self, name: &str, number: u8) -> Port {
        Port {
            name: name.to_owned(),
            bridge: self.bridge.to_owned(),
            addresses: vec![
                format!("{}.{number}/24", self.v4),
                format!("{}:{number}/64", self.v6),
            ],
        }
    }

    fn gateways(&self) -> Vec<String> {
        vec![format!("{}.254", self.v4), format!("{}:254", self.v6)]
    }
}

fn node(number: u8) -> Host {
    Host {
        name: format!("n{number}"),
        ports: vec![
            Port {
                name: "eth0".to_owned(),
                bridge: "ring".to_owned(),
                addresses: vec![format!("10.0.0.{number}/24")],
            },
            OFFICE.port("eth1", number),
            // A second port on the same subnet, which carries only virtual addresses.
            Port {
                name: "eth2".to_owned(),
                bridge: OFFICE.bridge.to_owned(),
                addresses: vec![],
            },
            LAB.port("eth3", number),
        ],
        gateways: OFFICE.gateways(),
        cluster: true,
        forwards: false,
    }
}

fn other(name: &str, subnets: &[(&Subnet, u8)]) -> Host {
    let port =
        |(i, (subnet, number)): (usize, &(&Subnet, u8))| subnet.port(&format!("eth{i}"), *number);
    Host {
        name: name.to_owned(),
        ports: subnets.iter().enumerate().map(port).collect(),
        gateways: match subnets {
            [(subnet, _)] => subnet.gateways(),
            _ => vec![],
        },
        cluster: false,
        forwards: false,
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_LIMIT || !name.chars().all(good) {
        return Err(Error::new(format!(
            "{what} {name:?}: must be 1 to {NAME_LIMIT} of a-z, 0-9 and -"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_state_directory_are_refused() {
        for name in ["", "..", "a/b", "A", "a b", "twenty-one-characters"] {
            assert!(Plan::new(name).check().is_err(), "{name:?}");
        }
        assert!(Plan::new("demo-2").check().is_ok());
    }

    #[test]
    fn no_address_is_given_twice() {
        let mut plan = Plan::new("x");
        plan.nodes = 9;
        let hosts = plan.hosts();
        let ports = hosts.iter().flat_map(|h| &h.ports);
        let mut all: Vec<_> = ports.flat_map(|p| &p.addresses).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn each_interface_name_fits_the_kernel() {
        for host in Plan::new("x").hosts() {
            for port in &host.ports {
                assert!(format!("{}-{}", host.name, port.name).len() <= 15);
            }
        }
    }
}
