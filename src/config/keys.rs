//! Every key of `berth.toml`, declared once: the reader knows a key only from here, and
//! `berth.toml(5)` is written from it.

use super::problem::nearest;
use crate::spec::{Content, Integer, Parameter, fscheck, portwatch, vip, vserver};

/// One key.
pub(crate) struct Key {
    /// As written in the file.
    pub(crate) name: &'static str,
    /// The kind of value, and what it means with its default: with places that are filled in.
    texts: [&'static str; 2],
    /// What fills them.
    of: Of,
}

/// What a key sets.
enum Of {
    /// Nothing that an agent has as such.
    Berth,
    /// An agent's parameter.
    Parameter(Parameter),
    /// One of which the file says the number.
    Number(Integer),
}

impl Key {
    /// The kind of value, for people.
    pub(crate) fn value(&self) -> String {
        self.filled(self.texts[0])
    }

    /// What it means, with its default.
    pub(crate) fn text(&self) -> String {
        self.filled(self.texts[1])
    }

    /// `text` with what the parameter's declaration says in its places: `{least}`, `{most}`, `{words}`,
    /// `{default}` as they are written in the file, and `{meaning}`.
    fn filled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut fill = |place: &str, with: &str| text = text.replace(place, with);
        match &self.of {
            Of::Berth => {}
            Of::Number(integer) => fill_range(&mut fill, integer),
            Of::Parameter(parameter) => {
                fill("{meaning}", parameter.longdesc);
                match parameter.content {
                    Content::Integer(integer) => fill_range(&mut fill, &integer),
                    Content::Time(time) => {
                        fill("{least}", &quoted(time.least));
                        fill("{most}", &quoted(time.most));
                    }
                    Content::Select(words) => fill("{words}", &alternatives(words)),
                    Content::String => {}
                }
                fill("{default}", &quoted(parameter.default.unwrap_or_default()));
            }
        }
        text
    }
}

fn fill_range(fill: &mut impl FnMut(&str, &str), integer: &Integer) {
    fill("{least}", &integer.least.to_string());
    fill("{most}", &integer.most.to_string());
    fill("{default}", &integer.default.to_string());
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// `"a", "b" or "c"`
fn alternatives(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// The keys of one kind of table.
pub(crate) struct Section {
    /// How the table's head is written.
    pub(crate) head: &'static str,
    /// What it describes.
    pub(crate) text: &'static str,
    /// Its keys; empty if the admin chooses them.
    pub(crate) keys: &'static [Key],
}

impl Section {
    /// The names of its keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// Whether it has a key of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// The key that `name`, which is none of its own, is most likely a slip for.
    pub(crate) fn slip(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.names()).filter(|_| !self.has(name))
    }
}

/// A key of berth's own.
const fn key(name: &'static str, value: &'static str, text: &'static str) -> Key {
    Key {
        name,
        texts: [value, text],
        of: Of::Berth,
    }
}

/// The key that sets an agent's parameter, and is called as it.
const fn set(parameter: Parameter, value: &'static str, text: &'static str) -> Key {
    part(parameter.name, parameter, value, text)
}

/// The key that sets an agent's parameter under another name: one that has to say less where it stands.
const fn part(
    name: &'static str,
    parameter: Parameter,
    value: &'static str,
    text: &'static str,
) -> Key {
    Key {
        name,
        texts: [value, text],
        of: Of::Parameter(parameter),
    }
}

/// The whole file.
pub(crate) static FILE: Section = Section {
    head: "",
    text: "The tables of the file.",
    keys: &[
        key(
            "subnets",
            "table",
            "The networks that clients sit on, by name.",
        ),
        key(
            "nodes",
            "table",
            "The nodes of the cluster, by their names in Pacemaker.",
        ),
        key("portwatch", "table", "How the nodes' ports are watched."),
        key("storage", "table", "Shared disks, LUNs or arrays, by name."),
        key("vserver", "table", "The virtual servers, by name."),
    ],
};

/// A network.
pub(crate) static SUBNET: Section = Section {
    head: "[subnets.NAME]",
    text: "A network that clients sit on. At least one of cidr and cidr6 is needed.",
    keys: &[
        key("cidr", "IPv4 network", "Such as \"10.1.0.0/24\"."),
        key(
            "gateway",
            "IPv4 address",
            "The router of this network; without it, answers stay in the network.",
        ),
        key("cidr6", "IPv6 network", "Such as \"fd00:1::/64\"."),
        key(
            "gateway6",
            "IPv6 address",
            "The router for IPv6: an address in the network, or the router's link-local one, such as \"fe80::1\".",
        ),
        key(
            "targets",
            "list of addresses",
            "Hosts in this network that answer as long as it works, to be probed besides its router and the other nodes.",
        ),
    ],
};

/// A node.
pub(crate) static NODE: Section = Section {
    head: "[nodes.NAME]",
    text: "A node of the cluster. NAME is its name in Pacemaker (crm_node -n), in quotes if it has dots. In a cluster with symmetric-cluster=false virtual servers run on these nodes and on those that location constraints of others allow them, and nowhere else.",
    keys: &[key(
        "ports",
        "table",
        "Network interface = subnet, for each port that serves clients. Without ports, a VIP uses those that have an address in its network, and is not rerouted.",
    )],
};

/// The watch over the ports.
pub(crate) static PORTWATCH: Section = Section {
    head: "[portwatch]",
    text: "How the nodes' ports are watched. The table may be left out; without ports in a node's table nothing is watched.",
    keys: &[
        set(
            portwatch::INTERVAL.any(),
            "{least} to {most}",
            "Time from one probe of a port to the next. Default {default}.",
        ),
        set(
            portwatch::FAIL_AFTER.any(),
            "{least} to {most}",
            "Intervals without any answer until a port has failed. Default {default}.",
        ),
        Key {
            name: portwatch::RECOVER_AFTER.name,
            texts: [
                "{least} to {most} seconds",
                "How long a failed port has to be good again before it is used. Default {default}.",
            ],
            of: Of::Number(portwatch::RECOVER_AFTER_SECONDS),
        },
        set(
            portwatch::BALANCE.any(),
            "{least} to {most}",
            "Difference in load between two ports of a subnet, in percent of a port's speed, from which an address is moved from one to the other when it has lasted for recover_after, and at least 5 seconds. 0 = never. Default {default}.",
        ),
    ],
};

/// A storage unit.
pub(crate) static STORAGE: Section = Section {
    head: "[storage.NAME]",
    text: "A storage unit: a shared disk, LUN or array. Several file systems can be on one.",
    keys: &[key(
        "probe",
        "list of device paths",
        "Devices whose being readable shows that a node reaches the unit.",
    )],
};

/// A virtual server.
pub(crate) static VSERVER: Section = Section {
    head: "[vserver.NAME]",
    text: "A virtual server. NAME is also its host name: at most 13 of a-z, 0-9 and -, a letter first.",
    keys: &[
        key(
            "priority",
            "0 to 9999",
            "Higher fails over first. Default 0.",
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

/// A file system.
pub(crate) static FILESYSTEM: Section = Section {
    head: "[[vserver.NAME.filesystem]]",
    text: "A file system of the virtual server.",
    keys: &[
        set(
            fscheck::DEVICE,
            "path, UUID=… or LABEL=…",
            "The block device. Needed. A path of its own, such as /dev/disk/by-id/… or /dev/vg0/…, is best: UUID and label are on each clone and snapshot too.",
        ),
        part(
            "path",
            fscheck::DIRECTORY,
            "directory",
            "Where it is attached in the cell, and the path of its NFS export. Needed.",
        ),
        key(
            "name",
            "name",
            "Last part of the resource's id. Default: the path, with - for /.",
        ),
        key(
            "home",
            "true or false",
            "Keep the servers' state on this file system. Default: the first.",
        ),
        set(
            fscheck::FSTYPE.any(),
            "{words}",
            "Default: as found on the device.",
        ),
        set(fscheck::OPTIONS, "mount options", "Separated by commas."),
        set(
            fscheck::UNIT,
            "storage unit",
            "The unit that the device is on.",
        ),
        set(
            fscheck::REPAIR.any(),
            "{words}",
            "How far a repair may go without a person. Default {default}.",
        ),
        key("nfs", "table", "Export over NFS (see below)."),
        key("smb", "table", "Export over SMB (see below)."),
    ],
};

/// An NFS export.
pub(crate) static NFS: Section = Section {
    head: "nfs = { … }",
    text: "How a file system is exported over NFS.",
    keys: &[
        part(
            "clients",
            fscheck::NFS_CLIENTS,
            "list",
            "Addresses, networks, or \"*\" for all. Needed.",
        ),
        part(
            "access",
            fscheck::NFS_ACCESS.any(),
            "{words}",
            "Default {default}.",
        ),
        part(
            "squash",
            fscheck::NFS_SQUASH.any(),
            "{words}",
            "Whose identity is replaced by nobody's. Default {default}.",
        ),
        part(
            "ports",
            fscheck::NFS_PORTS.any(),
            "{words}",
            "Ports that clients may come from: those below 1024, which only root has on a client, or any, which clients behind an address translation need. Default {default}.",
        ),
    ],
};

/// An SMB share.
pub(crate) static SMB: Section = Section {
    head: "smb = { … }",
    text: "How a file system is shared over SMB.",
    keys: &[
        part(
            "share",
            fscheck::SMB_SHARE,
            "name",
            "The share's name. Needed.",
        ),
        part(
            "users",
            fscheck::SMB_USERS,
            "list",
            "Users and @groups that may use it. Default: all that the server knows; an empty list is refused.",
        ),
    ],
};

/// All sections in the order of the manual.
pub(crate) static ALL: [&Section; 10] = [
    &FILE,
    &SUBNET,
    &NODE,
    &PORTWATCH,
    &STORAGE,
    &VSERVER,
    &VIP,
    &FILESYSTEM,
    &NFS,
    &SMB,
];

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

    #[test]
    fn every_place_is_filled() {
        for key in ALL.iter().flat_map(|section| section.keys) {
            for text in [key.value(), key.text()] {
                assert!(!text.contains(['{', '}']), "{}: {text}", key.name);
                assert!(!text.contains("\"\""), "{} has no default", key.name);
            }
        }
    }

    #[test]
    fn a_parameters_range_words_and_default_are_shown_as_the_file_has_them() {
        let parameter = vserver::NFS_LEASE.any();
        let lease = set(parameter, "{least} to {most}", "{default}");
        assert_eq!((&*lease.value(), &*lease.text()), ("5 to 300", "15"));
        let interval = set(portwatch::INTERVAL.any(), "{least} to {most}", "{default}");
        assert_eq!(interval.value(), "\"20ms\" to \"10s\"");
        assert_eq!(interval.text(), "\"200ms\"");
        let repair = part("how", fscheck::REPAIR.any(), "{words}", "{default}");
        assert_eq!(repair.value(), "\"never\", \"preen\" or \"full\"");
        assert_eq!((repair.name, &*repair.text()), ("how", "\"preen\""));
    }
}
