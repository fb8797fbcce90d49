//! File systems through the new mount API, and the mount table.
//!
//! A file system is created as a *detached* mount: a file descriptor that belongs to no mount
//! table. It shows up in the mount namespace in which it is attached, and in no other.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_create_exclusive, fsconfig_set_flag, fsconfig_set_string, fsmount,
    fsopen, move_mount, open_tree, unmount,
};

/// What is read of a mount table; a larger one is refused rather than half read.
const TABLE_LIMIT: u64 = 16 << 20;

/// Mount options, parsed from the usual comma-separated form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Neither the file system nor the mount accepts writes.
    pub read_only: bool,
    no_exec: bool,
    atime: Atime,
    no_dir_atime: bool,
    specific: Vec<(String, Option<String>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Atime {
    #[default]
    Relative,
    Never,
    Strict,
}

/// An option that a cell's file system cannot have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option:?}: {why}")]
pub struct BadOption {
    option: String,
    why: &'static str,
}

impl Options {
    /// Parses `noatime,discard,data=journal`. Device nodes and set-user-ID programs are never
    /// honoured on a cell's file system, so `dev` and `suid` are refused; what is not known here is
    /// handed to the file system, which judges it when it is mounted.
    ///
    /// # Errors
    /// [`BadOption`] for an option that contradicts what a cell is, or that is none.
    pub fn parse(text: &str) -> Result<Self, BadOption> {
        let mut options = Self::default();
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            options.add(word).map_err(|why| BadOption {
                option: word.to_owned(),
                why,
            })?;
        }
        Ok(options)
    }

    fn add(&mut self, word: &str) -> Result<(), &'static str> {
        match word {
            "defaults" | "nodev" | "nosuid" | "auto" | "noauto" | "nofail" | "_netdev" => {}
            "rw" => self.read_only = false,
            "ro" => self.read_only = true,
            "exec" => self.no_exec = false,
            "noexec" => self.no_exec = true,
            "noatime" => self.atime = Atime::Never,
            "relatime" => self.atime = Atime::Relative,
            "strictatime" => self.atime = Atime::Strict,
            "nodiratime" => self.no_dir_atime = true,
            "diratime" => self.no_dir_atime = false,
            "dev" | "suid" => {
                return Err("device nodes and set-user-ID programs are never honoured in a cell");
            }
            "bind" | "rbind" | "move" | "remount" | "loop" | "user" | "users" | "owner"
            | "group" => {
                return Err("not an option of a file system");
            }
            other if other.starts_with("loop=") => return Err("not an option of a file system"),
            other
                if other
                    .bytes()
                    .any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) =>
            {
                return Err("contains a blank; options are separated by commas");
            }
            other => match other.split_once('=') {
                Some(("", _)) => return Err("has no name"),
                Some((key, value)) => self.specific.push((key.to_owned(), Some(value.to_owned()))),
                None => self.specific.push((other.to_owned(), None)),
            },
        }
        Ok(())
    }

    fn attributes(&self) -> MountAttrFlags {
        let mut flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, self.read_only);
        flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        flags.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, self.no_dir_atime);
        flags
            | match self.atime {
                Atime::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
                Atime::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
                Atime::Strict => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            }
    }
}

/// Why a file system could not be mounted.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kernel's error number.
    pub errno: i32,
    /// Whether it was an option that the file system does not know or take.
    pub by_option: bool,
    /// What was tried, the kernel's reason, and what the file system itself said about it.
    pub message: String,
}

/// Creates a detached mount of the file system on `device`, without device nodes and set-user-ID.
///
/// This replays a journal and can wait long for the device: it is to be called where waiting does
/// no harm. A superblock that is in use already, here or in another namespace, is never shared.
///
/// # Errors
/// The step that failed.
pub fn create(fstype: &str, device: &Path, options: &Options) -> Result<OwnedFd, Failure> {
    let place = format!("{fstype} on {}", device.display());
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| Failure {
        errno: errno.raw_os_error(),
        by_option: false,
        message: format!(
            "{place}: this kernel has no {fstype}: {}",
            io::Error::from(errno)
        ),
    })?;
    let fail = |errno: Errno, by_option: bool, what: &str| {
        let said = read_log(&context);
        let separator = if said.is_empty() { "" } else { ": " };
        Failure {
            errno: errno.raw_os_error(),
            by_option,
            message: format!(
                "{place}: {what}: {}{separator}{said}",
                io::Error::from(errno)
            ),
        }
    };
    fsconfig_set_string(&context, "source", device)
        .map_err(|e| fail(e, false, "set the source"))?;
    if options.read_only {
        fsconfig_set_flag(&context, "ro").map_err(|e| fail(e, true, "option \"ro\""))?;
    }
    for (key, value) in &options.specific {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .map_err(|e| fail(e, true, &format!("option {key:?}")))?;
    }
    match fsconfig_create_exclusive(&context) {
        // Kernels before 6.6 know no exclusive creation; the caller has opened the device with
        // O_EXCL before, which leaves only the moment in between.
        Err(Errno::OPNOTSUPP) => fsconfig_create(&context),
        other => other,
    }
    .and_then(|()| {
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            options.attributes(),
        )
    })
    .map_err(|e| fail(e, false, "mount"))
}

/// The messages that a file system left in its context, joined, without their severity letter.
fn read_log(context: &OwnedFd) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut buffer = [0; 1024];
    // The kernel keeps eight messages; each read returns one, then ENODATA.
    while words.len() < 8 {
        let Ok(length) = rustix::io::read(context, &mut buffer) else {
            break;
        };
        let line = String::from_utf8_lossy(&buffer[..length]);
        let line = line.trim();
        words.push(
            line.split_once(' ')
                .map_or(line, |(_, rest)| rest)
                .to_owned(),
        );
    }
    words.join("; ")
}

/// A detached tmpfs of at most `size` bytes, its root directory with permissions `mode`, without
/// device nodes and set-user-ID.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn create_tmpfs(size: u64, mode: u32) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    tmpfs(size, mode, flags).map_err(|e| named(e, "create a tmpfs"))
}

/// A detached tmpfs in which device nodes work, for a /dev.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn create_device_directory(size: u64) -> io::Result<OwnedFd> {
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    tmpfs(size, 0o755, flags).map_err(|e| named(e, "create a tmpfs for devices"))
}

fn tmpfs(size: u64, mode: u32, flags: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "berth")?;
    fsconfig_set_string(&context, "size", size.to_string().as_str())?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}").as_str())?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// A detached `proc` of the caller's PID namespace that shows processes and nothing else of the
/// machine (`subset=pid`).
///
/// # Errors
/// Whatever the kernel refuses; it knows `subset=pid` since Linux 5.8.
pub fn create_proc() -> io::Result<OwnedFd> {
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
pub fn set_read_only(mount: impl AsFd) -> io::Result<()> {
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set_attributes(mount.as_fd(), u64::from(flags.bits()), 0)
        .map_err(|e| crate::sys::message(e, "make a mount read-only"))
}

/// Shows the files of a detached mount as owned by whom the user namespace `owners` maps their owners
/// to. Whose owner it does not map belong to nobody, and root's capabilities don't reach them.
///
/// # Errors
/// Whatever the kernel refuses; not every file system can do this.
pub fn set_owners(mount: impl AsFd, owners: impl AsFd) -> io::Result<()> {
    let namespace = u64::try_from(owners.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    set_attributes(mount.as_fd(), libc::MOUNT_ATTR_IDMAP, namespace)
        .map_err(|e| crate::sys::message(e, "map the owners of a mount"))
}

fn set_attributes(mount: BorrowedFd<'_>, attr_set: u64, userns_fd: u64) -> io::Result<()> {
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
            libc::AT_EMPTY_PATH,
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
pub fn detach(path: &Path) -> io::Result<()> {
    unmount(path, UnmountFlags::NOFOLLOW)
        .map_err(|e| named(e, format_args!("unmount {}", path.display())))
}

/// Opens a directory as a handle to work below it.
///
/// # Errors
/// Whatever the kernel refuses, with the path.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH,
        Mode::empty(),
    )
    .map_err(|e| named(e, format_args!("open directory {}", path.display())))
}

/// One line of a mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Device number of the file system, as `stat` shows it: major, minor.
    pub device: (u32, u32),
    /// Which directory of the file system is the root of this mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of this mount, comma-separated.
    pub options: String,
    /// Type of the file system.
    pub fstype: String,
    /// What was mounted; for disk file systems the device's path.
    pub source: String,
    /// Options of the file system, comma-separated.
    pub super_options: String,
}

impl Entry {
    /// Whether the file system itself, not only this mount, refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.super_options.split(',').any(|o| o == "ro")
    }
}

/// Reads the mount table at `path`, for instance `/proc/self/mountinfo`.
///
/// # Errors
/// What reading gives; `InvalidData` for a line that is not a mount table's.
pub fn read_table(path: &Path) -> io::Result<Vec<Entry>> {
    use io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?
        .take(TABLE_LIMIT + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > TABLE_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: too large", path.display()),
        ));
    }
    String::from_utf8_lossy(&text)
        .lines()
        .map(|line| {
            parse_entry(line).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {line:?}", path.display()),
                )
            })
        })
        .collect()
}

/// A line as proc_pid_mountinfo(5) gives it:
/// `36 35 98:0 /root /target rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`.
fn parse_entry(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let (major, minor) = words.nth(2)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = PathBuf::from(unescape(words.next()?));
    let target = PathBuf::from(unescape(words.next()?));
    let options = words.next()?.to_owned();
    words.find(|w| *w == "-")?;
    Some(Entry {
        device,
        root,
        target,
        options,
        fstype: words.next()?.to_owned(),
        source: unescape(words.next()?),
        super_options: words.next()?.to_owned(),
    })
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn unescape(word: &str) -> String {
    let mut text = Vec::with_capacity(word.len());
    let mut bytes = word.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let code = (first == b'\\')
            .then(|| rest.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        text.push(code.unwrap_or(first));
        bytes = if code.is_some() { &rest[3..] } else { rest };
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Makes a character device node under `directory`.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn make_node(directory: impl AsFd, name: &str, major: u32, minor: u32) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_options_become_mount_attributes() {
        let options = Options::parse("defaults, ro,noatime,noexec").unwrap();
        assert!(options.read_only && options.specific.is_empty());
        assert!(options.attributes().contains(
            MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOATIME
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOSUID
        ));
    }

    #[test]
    fn unknown_options_are_left_to_the_file_system() {
        let options = Options::parse("discard,data=journal").unwrap();
        assert_eq!(
            options.specific,
            [
                ("discard".into(), None),
                ("data".into(), Some("journal".into()))
            ]
        );
    }

    #[test]
    fn options_that_break_a_cell_are_refused_by_name() {
        for bad in ["dev", "suid", "bind", "loop=/dev/loop0", "=x", "a b"] {
            let error = Options::parse(&format!("noatime,{bad}")).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_mount_table_line_is_read() {
        let line = r"36 35 98:0 /a\040b /mnt/x\134y rw,noatime shared:1 master:2 - ext4 /dev/root ro,errors=continue";
        let entry = parse_entry(line).unwrap();
        assert_eq!(entry.device, (98, 0));
        assert_eq!(entry.root, Path::new("/a b"));
        assert_eq!(entry.target, Path::new(r"/mnt/x\y"));
        assert_eq!(
            (entry.fstype.as_str(), entry.source.as_str()),
            ("ext4", "/dev/root")
        );
        assert!(entry.is_read_only());
    }

    #[test]
    fn a_broken_line_is_no_entry() {
        for line in [
            "",
            "36 35 98 / / rw - ext4 x rw",
            "36 35 98:0 / / rw ext4 x rw",
        ] {
            assert_eq!(parse_entry(line), None, "{line:?}");
        }
    }

    #[test]
    fn this_machine_s_table_is_read_whole() {
        let table = read_table(Path::new("/proc/self/mountinfo")).unwrap();
        assert!(table.iter().any(|e| e.target == Path::new("/")));
    }
}
