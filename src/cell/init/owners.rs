//! The owners of files as a cell sees them: mounts in which owners are shown as other users, or as nobody.
//!
//! The kernel does this for a mount by the maps of a user namespace (mount_setattr(2), "ID-mapped mounts"). An owner
//! that the maps leave out is shown as nobody, and root's capabilities do not reach its files, neither by path nor by
//! handle (`capable_wrt_inode_uidgid` in kernel/capability.c): the permissions for everybody apply, and writing is
//! refused in any case. No file that is made through such a mount can get such an owner.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use rustix::fs::{CWD, Mode, OFlags};

use crate::runtime::channel::Channel;
use crate::runtime::job;

/// The first of the user and group IDs that own the servers' state on disk. Nobody else has these: they are above
/// those that systemd, sssd and containers assign (systemd.io/UIDS-GIDS), and below the last two, which stand for "no
/// user" and for NFS's anonymous user.
pub const RESERVED: u32 = 0xF0BE_0000;

/// How many reserved IDs there are: servers see them as 0 to 65535 in their state.
pub(crate) const RESERVED_COUNT: u32 = 1 << 16;

/// An ID behind the reserved ones that no file has, since a map can't be empty.
const NOBODY: u32 = RESERVED + RESERVED_COUNT;

/// The end of the IDs: (uid_t) -1 is no ID.
const END: u32 = u32::MAX;

/// How long a child may take to make a namespace, which takes a millisecond.
const LIMIT: Duration = Duration::from_secs(5);

/// How the owners of files are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// All owners as nobody.
    Hidden,
    /// The reserved IDs as nobody, all others as they are.
    WithoutState,
    /// The reserved IDs as the users that they stand for, all others as nobody.
    State,
}

/// A line of a map: `count` IDs on disk, from `stored` on, are shown as those from `seen` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    stored: u32,
    seen: u32,
    count: u32,
}

impl Owners {
    fn extents(self) -> Vec<Extent> {
        let same = |from: u32, to: u32| Extent {
            stored: from,
            seen: from,
            count: to - from,
        };
        match self {
            Self::Hidden => vec![same(NOBODY, NOBODY + 1)],
            Self::WithoutState => vec![same(0, RESERVED), same(RESERVED + RESERVED_COUNT, END)],
            Self::State => vec![Extent {
                stored: RESERVED,
                seen: 0,
                count: RESERVED_COUNT,
            }],
        }
    }

    /// The map as it is written to `/proc/PID/uid_map` of a child namespace: user_namespaces(7).
    fn map(self) -> String {
        let extents = self.extents().into_iter();
        let lines = extents.map(|e| format!("{} {} {}\n", e.stored, e.seen, e.count));
        lines.collect()
    }

    /// Makes a user namespace with these maps for [`set_owners`](crate::sys::mount::set_owners). No process stays in
    /// it. This works only in a process with a single thread.
    ///
    /// # Errors
    /// Whatever the kernel refuses; `TimedOut` if the child does not make the namespace in time.
    pub(crate) fn namespace(self) -> io::Result<OwnedFd> {
        self.make().map_err(|e| {
            let what = match e.raw_os_error() {
                Some(libc::ENOSPC) => "make a user namespace (user.max_user_namespaces)",
                _ => "make a user namespace",
            };
            crate::sys::message(e, what)
        })
    }

    fn make(self) -> io::Result<OwnedFd> {
        let (here, there) = Channel::pair()?;
        let deadline = Instant::now() + LIMIT;
        let work = || {
            let (result, process) = match enter() {
                Ok(process) => (Ok(()), Some(process)),
                Err(e) => (Err(e.raw_os_error().unwrap_or(libc::EIO)), None),
            };
            if there
                .send(&result, process.as_ref().map(AsFd::as_fd))
                .is_err()
            {
                return 1;
            }
            // The namespace lives as long as this process until the parent has it open, which then closes its end.
            let _ = there.wait::<()>(deadline);
            0
        };
        let pid = job::fork(c"berth-owners", &[&there], work)?;
        let made = here
            .wait::<Result<(), i32>>(deadline)
            .and_then(|(result, process)| {
                result.map_err(io::Error::from_raw_os_error)?;
                let process = process.ok_or(io::ErrorKind::UnexpectedEof)?;
                self.fill(&process)
            });
        drop(here);
        // The child is killed and reaped: this waits for as long as the kernel takes to end it.
        let _ = kill(pid, Signal::SIGKILL);
        while waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
        made
    }

    /// Writes the maps, which takes capabilities in the parent namespace, and opens the namespace.
    fn fill(self, process: &OwnedFd) -> io::Result<OwnedFd> {
        let open = |name: &str, flags: OFlags| {
            rustix::fs::openat(process, name, flags | OFlags::CLOEXEC, Mode::empty())
        };
        for name in ["uid_map", "gid_map"] {
            // In one write: a map can be written only once.
            File::from(open(name, OFlags::WRONLY)?).write_all(self.map().as_bytes())?;
        }
        Ok(open("ns/user", OFlags::RDONLY)?)
    }
}

/// Enters a new user namespace. Returns a descriptor of this process's directory in /proc: there its process id may be
/// another one than the parent knows.
fn enter() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, "/proc/self", flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As what a stored ID is seen.
    fn seen(owners: Owners, stored: u32) -> Option<u32> {
        owners.extents().into_iter().find_map(|e| {
            let at = stored.checked_sub(e.stored)?;
            (at < e.count).then(|| e.seen + at)
        })
    }

    #[test]
    fn the_owners_of_the_state_are_nobody_elsewhere_and_the_servers_users_there() {
        // Root, users, nobody, those of directories, NFS's anonymous one.
        for id in [
            0,
            1,
            1000,
            65_534,
            65_536,
            2_000_200_000,
            RESERVED - 1,
            END - 1,
        ] {
            assert_eq!(seen(Owners::WithoutState, id), Some(id));
            assert_eq!(seen(Owners::State, id), None);
            assert_eq!(seen(Owners::Hidden, id), None);
        }
        for id in [0, 101, 65_535] {
            assert_eq!(seen(Owners::State, RESERVED + id), Some(id));
            assert_eq!(seen(Owners::WithoutState, RESERVED + id), None);
            assert_eq!(seen(Owners::Hidden, RESERVED + id), None);
        }
    }

    #[test]
    fn a_map_is_what_the_kernel_takes() {
        assert_eq!(Owners::State.map(), "4038983680 0 65536\n");
        let whole = "0 0 4038983680\n4039049216 4039049216 255918079\n";
        assert_eq!(Owners::WithoutState.map(), whole);
        // No ID is -1, nor behind it: "map_write" in kernel/user_namespace.c.
        for owners in [Owners::Hidden, Owners::WithoutState, Owners::State] {
            for extent in owners.extents() {
                assert!(extent.count > 0 && extent.stored.checked_add(extent.count).is_some());
            }
        }
    }
}
