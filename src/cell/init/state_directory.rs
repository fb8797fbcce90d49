//! The servers' state directory on disk, `.berth` on the home file system: made, and given to whom it is to belong.
//!
//! Clients of the file system may have root's rights on it, and a handle that is made up leads past every directory
//! and every mount that lies over one. So the state belongs to IDs that nobody else has ([`super::owners`]), and
//! where clients come in, those count as nobody. A state directory that an older version has made belongs to root: it
//! is given to those IDs at the next start. Whatever is cut off in the middle of that is gone through again.

use std::fs::Permissions;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RawMode, Stat, Uid, XattrFlags, chownat, fgetxattr,
    fsetxattr, fstat, mkdirat, openat,
};
use rustix::io::Errno;

use super::owners::{RESERVED, RESERVED_COUNT};

/// Its name on the home file system.
pub(crate) const NAME: &str = ".berth";

/// How many files are gone through: Ganesha has one for each client, Samba some dozens.
const FILES: usize = 1 << 18;

/// How many directories lie within each other. Ganesha's records of a client take a few.
const DEPTH: usize = 32;

/// Everybody but the owner: of those there is none.
const OTHERS: RawMode = 0o077;

/// What new files in a directory may be, whatever a server asks for: their owner's alone. A default access list in the
/// kernel's form (linux/posix_acl_xattr.h): version 2, then tag, permissions and no ID of owner, group and others.
const DEFAULT_ACCESS: [u8; 28] = [
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 4, 0, 0, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255,
    255, 255, 255,
];
const DEFAULT_ACCESS_NAME: &str = "system.posix_acl_default";

/// Whom the files are to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// The reserved IDs.
    Apart,
    /// Root and others by their own IDs: for a file system whose owners this kernel can't map.
    Common,
}

impl Keeping {
    /// Which ID on disk a file's should be; `None` if it is right.
    fn instead_of(self, id: u32) -> Option<u32> {
        let at = id.checked_sub(RESERVED).filter(|at| *at < RESERVED_COUNT);
        match (self, at) {
            (Self::Apart, Some(_)) | (Self::Common, None) => None,
            // One that the servers would not see at all counts as root.
            (Self::Apart, None) if id < RESERVED_COUNT => Some(RESERVED + id),
            (Self::Apart, None) => Some(RESERVED),
            (Self::Common, Some(at)) => Some(at),
        }
    }
}

/// Opens the directory in the root `home` of a file system, and makes it if it is not there.
///
/// # Errors
/// If there is something else, a link for instance, which a client could have put there, or a directory that is
/// somebody's; whatever the kernel refuses.
pub(crate) fn open(home: &OwnedFd) -> io::Result<OwnedFd> {
    match mkdirat(home, NAME, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let directory = openat(home, NAME, DIRECTORY, Mode::empty()).map_err(|e| match e {
        Errno::NOTDIR | Errno::LOOP => {
            io::Error::new(io::ErrorKind::NotADirectory, "is not a directory")
        }
        e => e.into(),
    })?;
    let owner = fstat(&directory)?.st_uid;
    if owner != 0 && Keeping::Apart.instead_of(owner).is_some() {
        let text = format!(
            "belongs to user {owner}: it was not made by berth; move it away, or give it to root"
        );
        return Err(io::Error::other(text));
    }
    Ok(directory)
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Gives the directory and all that is in it to whom it is to belong, and takes everybody else's rights away.
///
/// Files are changed by descriptor, and links are not followed: what lies elsewhere is not touched. Another name that a
/// file has elsewhere leads to it as before, and finds it closed.
///
/// A server can make more than is gone through. That must not keep the others from their state: the rest stays as it
/// is, and it is said which that is. What this version's servers make has the right owners anyway.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn give(directory: &OwnedFd, keeping: Keeping) -> io::Result<Option<String>> {
    let mut walk = Walk {
        keeping,
        files: FILES,
        too_deep: false,
    };
    let here = openat(directory, ".", DIRECTORY, Mode::empty())?;
    set(&here, &fstat(&here)?, keeping)?;
    let all = walk.give_below(here, DEPTH)?.is_continue();
    let why = match (all, walk.too_deep) {
        (false, _) => format!("has more than {FILES} files in it"),
        (true, true) => format!("has more than {DEPTH} directories within each other"),
        (true, false) => return Ok(None),
    };
    Ok(Some(format!(
        "{why}: what a berth of before has made among the rest is not kept from clients with root's rights"
    )))
}

/// What is still gone through.
struct Walk {
    keeping: Keeping,
    /// How many files.
    files: usize,
    /// Whether a directory was left out, being too deep.
    too_deep: bool,
}

impl Walk {
    /// Breaks off when there are too many files.
    fn give_below(&mut self, directory: OwnedFd, depth: usize) -> io::Result<ControlFlow<()>> {
        limit_access(&directory)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let Some(left) = self.files.checked_sub(1) else {
                return Ok(ControlFlow::Break(()));
            };
            self.files = left;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match openat(&directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let stat = fstat(&file)?;
            set(&file, &stat, self.keeping)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let Some(depth) = depth.checked_sub(1) else {
                self.too_deep = true;
                continue;
            };
            let below = openat(&file, ".", DIRECTORY, Mode::empty())?;
            if self.give_below(below, depth)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn set(file: &OwnedFd, stat: &Stat, keeping: Keeping) -> io::Result<()> {
    let owner = keeping.instead_of(stat.st_uid);
    let group = keeping.instead_of(stat.st_gid);
    if owner.is_some() || group.is_some() {
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(file, "", owner, group, AtFlags::EMPTY_PATH)?;
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Symlink && stat.st_mode & OTHERS != 0 {
        // By way of /proc, as older kernels change no permissions by a descriptor that opens nothing.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        std::fs::set_permissions(path, Permissions::from_mode(stat.st_mode & 0o700))?;
    }
    Ok(())
}

/// Sees to it that new files in a directory are their owner's alone. A file system may have no access lists, or have
/// become so full that there is no room for one: then what a server has opened to all is closed at the next start.
fn limit_access(directory: impl AsFd) -> io::Result<()> {
    let mut now = [0; DEFAULT_ACCESS.len() + 1];
    let found = fgetxattr(&directory, DEFAULT_ACCESS_NAME, &mut now);
    if found.is_ok_and(|length| now.get(..length) == Some(&DEFAULT_ACCESS)) {
        return Ok(());
    }
    match fsetxattr(
        &directory,
        DEFAULT_ACCESS_NAME,
        &DEFAULT_ACCESS,
        XattrFlags::empty(),
    ) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_given_to_reserved_ids_and_back() {
        for id in [0, 101, 65_535] {
            assert_eq!(Keeping::Apart.instead_of(id), Some(RESERVED + id));
            assert_eq!(Keeping::Apart.instead_of(RESERVED + id), None);
            assert_eq!(Keeping::Common.instead_of(RESERVED + id), Some(id));
            assert_eq!(Keeping::Common.instead_of(id), None);
        }
        // Those that have no place among them.
        for id in [
            RESERVED_COUNT,
            RESERVED - 1,
            RESERVED + RESERVED_COUNT,
            u32::MAX - 1,
        ] {
            assert_eq!(Keeping::Apart.instead_of(id), Some(RESERVED));
            assert_eq!(Keeping::Common.instead_of(id), None);
        }
    }
}
