//! The parameters of `ocf:berth:vserver`.

use std::ops::RangeInclusive;
use std::path::{Component, Path};

use super::{Integer, Parameter};

/// The virtual server's name.
pub(crate) const NAME: Parameter = Parameter::text(
    "name",
    "Name of the virtual server",
    "1 to 13 of a-z, 0-9 and -, a letter first. It becomes the host name in the cell, the scope of NFSv4 \
     and the name of the SMB server.",
)
.required()
.unique_group("name");

/// [`SERVICES`]: NFS-Ganesha.
pub(crate) const NFS: &str = "nfs";
/// [`SERVICES`]: Samba.
pub(crate) const SMB: &str = "smb";
/// [`SERVICES`]: neither.
pub(crate) const NONE: &str = "none";

/// Protocols to serve.
pub(crate) const SERVICES: Parameter = Parameter::text(
    "services",
    "Protocols to serve",
    "nfs, smb, both separated by a blank, or none.",
)
.with_default("nfs smb");

/// A program of the admin's.
pub(crate) const COMMAND: Parameter = Parameter::text(
    "command",
    "A further program",
    "A command line for a shell, run in the cell beside the servers and under the same supervision. It \
     must stay in the foreground.",
);

/// Where the servers' state is.
pub(crate) const HOME: Parameter = Parameter::text(
    "home",
    "Directory of the home file system",
    "The directory of the fscheck resource whose file system holds the state of the servers, which moves \
     with it. By default that of the only file system; with several, it must be named.",
);

/// The admin's own server configuration: see [`config_dir`].
pub const CONFIG_DIR: Parameter = Parameter::text(
    "config_dir",
    "Directory with your own server configuration",
    "What its files ganesha.conf and smb.conf say is included at the end of the configuration that berth \
     writes. NFS-Ganesha 6 takes each block but EXPORT only once: a second NFS_CORE_PARAM, NFSV4 or NFS_KRB5 \
     is passed over, with a warning in the log. Where a ganesha.conf there may make exports (EXPORT occurs in it, or it includes other files) anybody gets \
     to port 2049, and where an smb.conf may make shares to port 445: whom those are for is up to the servers. \
     The directory must lie under /etc, /opt or /usr, which the cell sees, and be readable by everybody.",
);

/// Lease of NFSv4, seconds.
pub const NFS_LEASE: Parameter<Integer> = Parameter::integer(
    "nfs_lease",
    (5..=300, "15"),
    "Lease of NFSv4 in seconds",
    "How long a client that falls silent keeps its locks.",
);

/// Grace period of NFSv4, seconds; longer than the lease.
pub const NFS_GRACE: Parameter<Integer> = Parameter::integer(
    "nfs_grace",
    (5..=600, "20"),
    "Grace period of NFSv4 in seconds",
    "How long after a start clients may claim their locks again, and new ones wait. Longer than the \
     lease.",
);

/// The largest number of connections that can be asked for: Ganesha's `RPC_Max_Connections` takes one million.
const MOST_CONNECTIONS: u32 = 100_000;

/// Connections at once, by each protocol.
pub const MAX_CONNECTIONS: Parameter<Integer> = Parameter::integer(
    "max_connections",
    (1..=MOST_CONNECTIONS, "1000"),
    "Connections at once",
    "How many connections clients may have at once by each protocol, all together; more are refused. It is also the \
     number of NFS clients that are kept on record.",
);

/// Those of one client.
pub const MAX_CONNECTIONS_PER_CLIENT: Parameter<Integer> = Parameter::integer(
    "max_connections_per_client",
    (1..=MOST_CONNECTIONS, "100"),
    "Connections at once of one client",
    "How many of them may come from one IPv4 address, or from one IPv6 network of 64 bits. Clients behind an address \
     translation are one.",
);

/// System calls that the servers may make besides.
pub const ALLOW_CALLS: Parameter = Parameter::text(
    "allow_calls",
    "Further system calls for the servers",
    "Names of system calls, separated by blanks, that the servers and the command may make although berth refuses \
     them to programs in a cell. The log names each call that was refused: \"nfs: refused bpf (process 17, allow_calls \
     would allow it)\". What makes namespaces or mounts, reads the kernel's keyrings or is about the whole node can't \
     be allowed. Each one that is allowed is one more way to attack the kernel; io_uring_setup, io_uring_enter and \
     io_uring_register together also have sockets made that berth would refuse.",
)
.with_default("");

/// Time for the servers to end, seconds.
pub const STOP_TIMEOUT: Parameter<Integer> = Parameter::integer(
    "stop_timeout",
    (1..=600, "10"),
    "Seconds until servers are killed",
    "How long the servers are given to end when they are asked to.",
);

/// The most memory that the servers may have.
pub const MEMORY_MAX: Parameter = Parameter::text(
    "memory_max",
    "Most memory",
    "The most memory that all servers together may have, cached files included: an amount such as 4G or 512M, at \
     least 128M, or a part of what the node has, such as 50%. When they want more, cached files make way, then the \
     process that has most is ended, which for SMB costs one client.",
)
.with_default("80%")
.reloadable();

/// The most processes and threads that the servers may have. With fewer than the least no server starts: NFS-Ganesha
/// alone has some 50 without a client. The kernel numbers no more than the most (`PID_MAX_LIMIT` in
/// linux/threads.h).
pub const PIDS_MAX: Parameter<Integer> = Parameter::integer(
    "pids_max",
    (64..=1 << 22, "4096"),
    "Most processes and threads",
    "The most processes and threads that all servers together may have. Samba has a process for each client, \
     NFS-Ganesha some 300 threads.",
)
.reloadable();

/// The kernel's range and default of cpu.weight, and of the weight in io.weight.
const WEIGHT: (RangeInclusive<u32>, &str) = (1..=10_000, "100");

/// The servers' share of processors.
pub const CPU_WEIGHT: Parameter<Integer> = Parameter::integer(
    "cpu_weight",
    WEIGHT,
    "Share of the processors",
    "Where virtual servers compete for processors, one with twice the weight gets twice as much.",
)
.reloadable();

/// The servers' share of disks.
pub const IO_WEIGHT: Parameter<Integer> = Parameter::integer(
    "io_weight",
    WEIGHT,
    "Share of disks",
    "Where virtual servers compete for a disk, one with twice the weight gets twice as much, if the disk's scheduler \
     is BFQ or the kernel's io.cost is set up for it.",
)
.reloadable();

/// Of the node's own directories a cell sees these, and what is below them.
const SEEN_IN_CELLS: [&str; 3] = ["/etc", "/opt", "/usr"];

/// Whether [`CONFIG_DIR`] may be this: what a cell sees of its node.
///
/// # Errors
/// What would be right, as the rest of a sentence about the directory.
pub(crate) fn config_dir(directory: &str) -> Result<(), String> {
    let path = Path::new(directory);
    let seen = SEEN_IN_CELLS.iter().any(|top| path.starts_with(top));
    if !seen || path.components().any(|part| part == Component::ParentDir) {
        return Err("is not an absolute path under /etc, /opt or /usr".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admins_configuration_lies_where_cells_see_it() {
        for good in ["/etc/berth/beta", "/opt", "/usr//local/x/"] {
            assert_eq!(config_dir(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "etc",
            "/etcetera",
            "/srv/x",
            "/etc/../srv",
            "/usr/..",
            "/",
        ] {
            assert!(config_dir(bad).is_err(), "{bad}");
        }
    }
}
