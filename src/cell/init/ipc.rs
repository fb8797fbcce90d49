//! Limits of the kernel's memory that processes of a cell may use through System V IPC and POSIX message queues. Such
//! memory counts against no file system's size, and outlives its makers until the cell ends.

use std::fs;
use std::io;

use crate::sys::message;

/// Settings of an IPC namespace, which begins with the kernel's own defaults, not with the node's: sysvipc(7),
/// mq_overview(7), Documentation/admin-guide/sysctl/{kernel,fs}.rst. NFS-Ganesha and Samba use none of this; a further
/// command may need a little, as PostgreSQL does.
const LIMITS: [(&str, &str); 8] = [
    // Bytes in a segment of shared memory; pages in all of them; segments.
    ("kernel/shmmax", "16777216"),
    ("kernel/shmall", "4096"),
    ("kernel/shmmni", "64"),
    // Bytes in a message, and in a queue; queues.
    ("kernel/msgmax", "8192"),
    ("kernel/msgmnb", "16384"),
    ("kernel/msgmni", "32"),
    // Semaphores in a set, and in all; operations in a call; sets.
    ("kernel/sem", "250 8000 100 128"),
    // Queues; each is limited by default.
    ("fs/mqueue/queues_max", "16"),
];

/// Limits the calling process's IPC namespace, while its settings can still be reached.
///
/// # Errors
/// Whatever the kernel refuses, with the setting. A setting that the kernel does not know is skipped: it has nothing to
/// limit then.
pub(crate) fn limit() -> io::Result<()> {
    for (name, value) in LIMITS {
        match fs::write(format!("/proc/sys/{name}"), value) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(message(e, format_args!("set {name} to {value}")));
            }
            _ => {}
        }
    }
    Ok(())
}
