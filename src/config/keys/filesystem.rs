//! Storage, file systems on it, and how they are exported.

use super::key::{Section, key, part, set};
use crate::spec::fscheck;

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
