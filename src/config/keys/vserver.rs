//! Virtual servers and their addresses.

use super::key::{Section, key, number, set};
use crate::spec::{Integer, vip, vserver};

/// Which virtual servers come first.
pub(crate) const PRIORITY: Integer = Integer {
    least: 0,
    most: 9999,
    default: 0,
};

/// A virtual server.
pub(crate) static VSERVER: Section = Section {
    head: "[vserver.NAME]",
    text: "A virtual server. NAME is also its host name: at most 13 of a-z, 0-9 and -, a letter first.",
    keys: &[
        number(
            "priority",
            PRIORITY,
            "{least} to {most}",
            "Higher fails over first. Default {default}.",
        ),
        key(
            "stay_on",
            "node",
            "Run on this node only; do not fail over.",
        ),
        set(
            vserver::SERVICES,
            "list of \"nfs\", \"smb\"",
            "Servers to run. Default: those that a file system is exported by.",
        ),
        set(
            vserver::COMMAND,
            "command line",
            "One more program to run and supervise in the cell; its path is absolute.",
        ),
        key(
            "vips",
            "list",
            "The addresses. Each an address, or a table (see below).",
        ),
        key(
            "filesystem",
            "list of tables",
            "The file systems (see below).",
        ),
        set(
            vserver::CONFIG_DIR,
            "directory",
            "Where the admin's own snippets of server configuration are, the same on every node, under /etc, /opt or /usr.",
        ),
        set(
            vserver::ALLOW_CALLS,
            "list of names",
            "System calls that the servers and the command may make although berth refuses them to programs in a cell.",
        ),
        set(
            vserver::NFS_LEASE.any(),
            "{least} to {most} seconds",
            "NFSv4 lease. Default {default}.",
        ),
        set(
            vserver::NFS_GRACE.any(),
            "{least} to {most} seconds",
            "NFSv4 grace period, longer than the lease. Default {default}.",
        ),
        set(
            vserver::MAX_CONNECTIONS.any(),
            "{least} to {most}",
            "Connections that clients may have at once, by each protocol; also the number of NFS clients on record. Default {default}.",
        ),
        set(
            vserver::MAX_CONNECTIONS_PER_CLIENT.any(),
            "{least} to {most}",
            "How many of them may come from one IPv4 address or one IPv6 network of 64 bits. Default {default}.",
        ),
        set(
            vserver::STOP_TIMEOUT.any(),
            "{least} to {most} seconds",
            "How long the servers may take to end before they are killed.",
        ),
        set(
            vserver::MEMORY_MAX,
            "\"4G\", \"512M\" or \"50%\"",
            "The most memory that all its servers together may have, cached files included: an amount, at least 128M, or a part of what the node has. When they want more, cached files make way, then the process that has most is ended. Virtual servers may together be allowed more than a node has, so that it can carry those of another one. Default {default}.",
        ),
        set(
            vserver::PIDS_MAX.any(),
            "{least} to {most}",
            "The most processes and threads that all its servers together may have. Samba has a process for each client, NFS-Ganesha some 300 threads. Default {default}.",
        ),
        set(
            vserver::CPU_WEIGHT.any(),
            "{least} to {most}",
            "{meaning} Default {default}.",
        ),
        set(
            vserver::IO_WEIGHT.any(),
            "{least} to {most}",
            "The same for a disk, if its scheduler is BFQ or the kernel's io.cost is set up for it. Default {default}. These four need cgroup v2 on the nodes.",
        ),
    ],
};

/// A virtual address in its long form.
pub(crate) static VIP: Section = Section {
    head: "vips = [{ ip = \"…\", … }]",
    text: "A virtual IP address in its long form.",
    keys: &[
        set(vip::IP, "address", "IPv4 or IPv6."),
        set(
            vip::SUBNET,
            "subnet",
            "Default: the one whose network the address is in.",
        ),
        set(vip::GATEWAY, "address", "Default: the subnet's."),
        set(
            vip::PORTS,
            "list of interfaces",
            "Ports that may carry it. Default: the nodes' ports on the subnet.",
        ),
        set(
            vip::ON_SUBNET_LOSS.any(),
            "{words}",
            "What to do when the virtual server's node loses the subnet. \"reroute\" (default): another node answers for the address and routes to the virtual server, which stays where it is with its connections, until the subnet is back. This needs ports in the nodes' tables, and a node on this subnet that has a second subnet in common with the virtual server's node; of several the one with the most room is taken. Where there is none, the address waits beside its virtual server. \"migrate\": the virtual server moves to a node that has the subnet, and its connections are made anew. With either it moves when its node has no good port left and another has one.",
        ),
        set(
            vip::ANNOUNCE.any(),
            "{words}",
            "How the way to it is made known: on its own subnet only (default), or also by a routing daemon such as BIRD or FRR, for which its route is kept in table 190 with the protocol number 191.",
        ),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::vip::{ANNOUNCED_PROTOCOL, TO_TABLE};

    #[test]
    fn a_routing_daemon_is_told_of_the_numbers_that_routes_have() {
        let key = VIP.keys.iter().find(|key| key.name == "announce").unwrap();
        let numbers = format!("table {TO_TABLE} with the protocol number {ANNOUNCED_PROTOCOL}");
        assert!(key.text().contains(&numbers), "{}", key.text());
    }
}
