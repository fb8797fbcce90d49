//! The parameters of `ocf:berth:fscheck`.

use super::{Parameter, Words};

/// The virtual server.
pub(crate) const VSERVER: Parameter = Parameter::text(
    "vserver",
    "Virtual server",
    "Name of the virtual server in whose cell the file system is attached, as given to its \
     vserver resource.",
)
.required();

/// The block device.
pub const DEVICE: Parameter = Parameter::text(
    "device",
    "Block device",
    "The block device: an absolute path, UUID= or LABEL=. Paths below /dev/disk/by-id or /dev/mapper are \
     the same on all nodes and mean one disk. A UUID or label is searched on all block devices of the node: \
     whoever can write to one of them can make it ambiguous, as can a clone or a snapshot.",
)
.required()
.unique_group("device");

/// Where it is attached.
pub const DIRECTORY: Parameter = Parameter::text(
    "directory",
    "Directory in the cell",
    "Where the file system is attached in the cell, such as /data. It exists in the cell only; \
     several virtual servers may use the same.",
)
.required();

/// What is on the device.
pub const FSTYPE: Parameter<Words> = Parameter::select(
    "fstype",
    &["ext4", "xfs", "btrfs"],
    "File system type",
    "ext4, xfs or btrfs. By default whatever the superblock says; if it is set and the superblock \
     says otherwise, the start is refused.",
);

/// Mount options.
pub const OPTIONS: Parameter = Parameter::text(
    "options",
    "Mount options",
    "Mount options, separated by commas. Device nodes and set-user-ID programs are never honoured.",
)
.with_default("");

/// The storage unit.
pub(crate) const UNIT: Parameter = Parameter::text(
    "unit",
    "Storage unit",
    "The storage unit that the device is on, as portwatch watches it.",
);

/// How far to repair.
pub const REPAIR: Parameter<Words> = Parameter::select(
    "repair",
    &["never", "preen", "full"],
    "How far to repair by itself",
    "What may be done to a damaged file system without a person: never: nothing; preen: what its own \
     tool calls safe; full: all the tool can do, even if damaged files are lost. While it is repaired, \
     nobody has access, and the monitor says so.",
)
.with_default("preen");

/// Who may mount the NFS export, which there is only with it.
pub const NFS_CLIENTS: Parameter = Parameter::text(
    "nfs_clients",
    "Clients that may mount it over NFS",
    "Addresses and networks (10.1.0.0/24), separated by blanks; *, 0.0.0.0/0 or ::/0 for all. Without it \
     the file system is not exported over NFS.",
)
.reloadable();

/// What NFS clients may do.
pub const NFS_ACCESS: Parameter<Words> = Parameter::select(
    "nfs_access",
    &["rw", "ro"],
    "What NFS clients may do",
    "rw: read and write; ro: read only.",
)
.with_default("rw")
.reloadable();

/// Whose identity an NFS client can't have.
pub const NFS_SQUASH: Parameter<Words> = Parameter::select(
    "nfs_squash",
    &["root", "all", "none"],
    "Whose NFS requests become nobody's",
    "root: those of a client's root; all: everybody's; none: nobody's.",
)
.with_default("root")
.reloadable();

/// Which ports NFS clients come from.
pub const NFS_PORTS: Parameter<Words> = Parameter::select(
    "nfs_ports",
    &["privileged", "any"],
    "Ports that NFS clients come from",
    "privileged: below 1024, which only root has on a client: the server believes a client who its users are. any: \
     for clients behind an address translation; every user of a client can then say he is anybody.",
)
.with_default("privileged")
.reloadable();

/// The name of the SMB share, which there is only with it.
pub const SMB_SHARE: Parameter = Parameter::text(
    "smb_share",
    "Name of the SMB share",
    "The name under which SMB clients see it. Without it the file system is not shared over SMB.",
)
.reloadable();

/// Who may use the SMB share.
pub const SMB_USERS: Parameter = Parameter::text(
    "smb_users",
    "Who may use the SMB share",
    "Users, and @groups, separated by blanks. Without it, or if it is empty, everybody who can log in: to \
     lock all out, leave smb_share out.",
)
.with_default("")
.reloadable();
