//! File systems through the new mount API, and the mount table.
//!
//! A file system is created as a *detached* mount: a file descriptor that belongs to no mount
//! table. It shows up in the mount namespace in which it is attached, and in no other.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

mod create;
mod names;
mod options;
mod words;

pub(crate) use crate::sys::mount::options::{Options, WrittenOptions};
pub(crate) use create::{Failure, Step, create};
pub(crate) use names::kernel_name;

/// How much a tmpfs holds. Its files take room in the kernel's memory besides their content, some 1 KiB each: without
/// a limit of their own as many as there is memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of content.
    pub(crate) bytes: u64,
    /// Files, directories and links, its root among them.
    pub(crate) inodes: u64,
}

/// A detached tmpfs with this much room, its root directory with permissions `mode`, without device
/// nodes and set-user-ID.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn create_tmpfs(room: Room, mode: u32) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    tmpfs(room, mode, flags).map_err(|e| named(e, "create a tmpfs"))
}

/// A detached tmpfs in which device nodes work, for a /dev.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn create_device_directory(room: Room) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    tmpfs(room, 0o755, flags).map_err(|e| named(e, "create a tmpfs for devices"))
}

fn tmpfs(room: Room, mode: u32, flags: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "berth")?;
    fsconfig_set_string(&context, "size", room.bytes.to_string().as_str())?;
    fsconfig_set_string(&context, "nr_inodes", room.inodes.to_string().as_str())?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}").as_str())?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A detached `proc` of the caller's PID namespace that shows processes and nothing else of the
/// machine (`subset=pid`).
///
/// # Errors
/// Whatever the kernel refuses; it knows `subset=pid` since Linux 5.8.
pub(crate) fn create_proc() -> io::Result<OwnedFd> {
    let make = || -> rustix::io::Result<OwnedFd> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "proc")?;
        fsconfig_set_string(&context, "subset", "pid")?;
        fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    make().map_err(|e| named(e, "create a proc file system"))
}

/// A detached copy of the mount that `path` (under `directory`) lies on, rooted at `path`, without
/// the mounts below it.
///
/// # Errors
/// Whatever the kernel refuses, with the path.
pub fn clone_tree(directory: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(directory, path, flags)
        .map_err(|e| named(e, format_args!("copy the mount of {}", path.display())))
}

/// Makes the one mount that `mount` is the root of read-only, without device nodes and set-user-ID.
/// Other mounts of the same file system keep what they are.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn set_read_only(mount: impl AsFd) -> io::Result<()> {
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set_attributes(
        mount.as_fd(),
        libc::AT_EMPTY_PATH,
        u64::from(flags.bits()),
        0,
    )
    .map_err(|e| crate::sys::message(e, "make a mount read-only"))
}

/// Makes the one mount that `mount` is the root of read-only. Its device nodes go on working, and take what is
/// written to them.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn freeze(mount: impl AsFd) -> io::Result<()> {
    let flags = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    set_attributes(mount.as_fd(), libc::AT_EMPTY_PATH, flags, 0)
        .map_err(|e| crate::sys::message(e, "make a mount read-only"))
}

/// A detached copy of what is seen at `path`, with the mounts below it, read-only, without device nodes and
/// set-user-ID.
///
/// # Errors
/// Whatever the kernel refuses, with the path.
pub(crate) fn view(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)
        .map_err(|e| named(e, format_args!("copy the mounts at {}", path.display())))?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let all = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    set_attributes(tree.as_fd(), all, u64::from(flags.bits()), 0)
        .map_err(|e| crate::sys::message(e, format_args!("make {} read-only", path.display())))?;
    Ok(tree)
}

/// Shows the files of a detached mount as owned by whom the user namespace `owners` maps their owners
/// to. Whose owner it does not map belong to nobody, and root's capabilities don't reach them.
///
/// # Errors
/// Whatever the kernel refuses; not every file system can do this.
pub(crate) fn set_owners(mount: impl AsFd, owners: impl AsFd) -> io::Result<()> {
    let namespace = u64::try_from(owners.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    set_attributes(
        mount.as_fd(),
        libc::AT_EMPTY_PATH,
        libc::MOUNT_ATTR_IDMAP,
        namespace,
    )
    .map_err(|e| crate::sys::message(e, "map the owners of a mount"))
}

/// Whether the file system of the file that `file` stands for gives handles to its files (name_to_handle_at(2)). By
/// one of those, with CAP_DAC_READ_SEARCH, any file of the file system can be reached through any mount of it, also
/// one that shows a single directory.
///
/// # Errors
/// Whatever else the kernel refuses.
pub fn gives_handles(file: impl AsFd) -> io::Result<bool> {
    // As `struct file_handle` begins: it asks how long the handle is, which is all that is to be known.
    #[repr(C)]
    struct Head {
        bytes: u32,
        kind: i32,
    }
    let mut head = Head { bytes: 0, kind: 0 };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the path is a NUL-terminated constant; both results live through the call, and the kernel writes no
    // handle behind `head`, as that has room for none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            &raw mut head,
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    };
    let error = io::Error::last_os_error();
    match (result, error.raw_os_error()) {
        (0, _) | (_, Some(libc::EOVERFLOW)) => Ok(true),
        (_, Some(libc::EOPNOTSUPP)) => Ok(false),
        _ => Err(crate::sys::message(error, "ask for a file's handle")),
    }
}

fn set_attributes(
    mount: BorrowedFd<'_>,
    which: i32,
    attr_set: u64,
    userns_fd: u64,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set,
        attr_clr: 0,
        propagation: 0,
        userns_fd,
    };
    // SAFETY: the path is a NUL-terminated constant and the structure lives through the call; its
    // size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            which,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Attaches the detached `mount` at `path` under `directory`, in the caller's mount namespace.
///
/// # Errors
/// Whatever the kernel refuses, with the path.
pub fn attach(mount: impl AsFd, directory: impl AsFd, path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", directory, path, flags)
        .map_err(|e| named(e, format_args!("attach a mount at {}", path.display())))
}

/// Unmounts what is mounted at `path`, without following a symbolic link there. Waits until
/// everything is written.
///
/// # Errors
/// `ResourceBusy` while something is open there; `InvalidInput` if nothing is mounted.
pub(crate) fn detach(path: &Path) -> io::Result<()> {
    unmount(path, UnmountFlags::NOFOLLOW)
        .map_err(|e| named(e, format_args!("unmount {}", path.display())))
}

/// Opens a directory as a handle to work below it.
///
/// # Errors
/// Whatever the kernel refuses, with the path.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH,
        Mode::empty(),
    )
    .map_err(|e| named(e, format_args!("open directory {}", path.display())))
}

/// Makes a node of the block device `number` (as [`rustix::fs::Stat::st_rdev`]) at `path` under `directory`, for its
/// owner alone.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn make_block_node(directory: impl AsFd, path: &Path, number: u64) -> io::Result<()> {
    let kind = rustix::fs::FileType::BlockDevice;
    rustix::fs::mknodat(&directory, path, kind, Mode::from_raw_mode(0o600), number)
        .map_err(|e| named(e, format_args!("make device node {}", path.display())))
}

/// Makes a character device node under `directory`.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn make_node(
    directory: impl AsFd,
    name: &str,
    major: u32,
    minor: u32,
) -> io::Result<()> {
    let path = CString::new(name)?;
    rustix::fs::mknodat(
        &directory,
        path.as_c_str(),
        rustix::fs::FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        rustix::fs::makedev(major, minor),
    )
    // The caller's umask took bits away.
    .and_then(|()| {
        rustix::fs::chmodat(
            &directory,
            path.as_c_str(),
            Mode::from_raw_mode(0o666),
            rustix::fs::AtFlags::empty(),
        )
    })
    .map_err(|e| named(e, format_args!("make device node {name}")))
}

fn named(errno: Errno, what: impl fmt::Display) -> io::Error {
    crate::sys::message(errno.into(), what)
}
