//! The records of the file systems that this node's resources have attached: the number of each one's device. By the
//! time of a stop, the name in the parameters may lead nowhere, or to another device. The records are under /run: a
//! reboot deletes them along with the mounts.
//!
//! Beside them there is a lock for each device number. A process that is about to mount a device holds it until the
//! kernel has the file system mounted: kernels before 6.6 let two that mount at the same time share one file system.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use serde::{Deserialize, Serialize};

use crate::runtime::daemon;
use crate::runtime::paths::RUNTIME;
use crate::sys::device::{Device, Pause, sysfs};
use crate::sys::mounted::{Block, Namespace};
use crate::sys::superblock::Uuid;
use crate::sys::{message, state};
use crate::types::VserverName;

/// The directory of the records and of the lock; no virtual server has such a name.
const DIRECTORY: &str = "device.d";
/// The file in it that the locks are on.
const LOCK: &str = ".lock";
/// A record is a few hundred bytes; a longer file is not one of berth's.
const LIMIT: u64 = 1 << 16;
/// More file systems than a node can have.
const RECORDS: usize = 4096;

/// What has become of the device of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// It is there, and can be examined.
    There(Device),
    /// No device node leads to it any more. A file system may still be mounted from it; the path is only a name.
    Vanished(Device),
    /// This other device has its number now. Drivers reuse a number only when nobody has the former device open any
    /// more.
    Replaced(Device),
}

/// A record: what a resource has attached, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// The virtual server in whose cell it is.
    pub(crate) vserver: VserverName,
    /// The device's number (`st_rdev`).
    pub(crate) number: u64,
    /// The kernel's sequence number, which tells it from another device that gets the same number later.
    #[serde(default)]
    pub(crate) sequence: Option<u64>,
    /// The path of the device node, as it was found.
    pub(crate) path: PathBuf,
    /// The UUID of the file system on it.
    #[serde(default)]
    pub(crate) uuid: Option<Uuid>,
}

fn directory(runtime: &Path) -> PathBuf {
    runtime.join(DIRECTORY)
}

fn file(runtime: &Path, resource: &str) -> PathBuf {
    // Resource ids have no slashes, but nothing here relies on it.
    directory(runtime).join(resource.replace('/', "_"))
}

/// Where the records are on a node.
pub(crate) fn runtime() -> &'static Path {
    Path::new(RUNTIME)
}

impl Attachment {
    /// The record of a device that is about to be attached in a cell.
    pub(crate) fn new(vserver: &VserverName, device: &Device) -> Self {
        Self {
            vserver: vserver.clone(),
            number: device.number,
            sequence: sysfs::sequence(Path::new("/sys"), device.number),
            path: device.path.clone(),
            uuid: device.superblock.as_ref().map(|sb| sb.uuid),
        }
    }

    /// What has become of the device. The file system on it is not read.
    pub(crate) fn find(&self) -> Whereabouts {
        let sys = Path::new("/sys");
        let device = |path: PathBuf| Device {
            path,
            number: self.number,
            superblock: None,
        };
        let now = sysfs::sequence(sys, self.number);
        let is_other = self.sequence.is_some() && now.is_some() && self.sequence != now;
        let name = sysfs::kernel_name(sys, self.number).map(|name| Path::new("/dev").join(name));
        let mut paths = std::iter::once(self.path.clone()).chain(name);
        let leads = |path: &PathBuf| Device::at(path).is_ok_and(|d| d.number == self.number);
        match paths.find(leads) {
            Some(path) if is_other => Whereabouts::Replaced(device(path)),
            Some(path) => Whereabouts::There(device(path)),
            None => Whereabouts::Vanished(device(self.path.clone())),
        }
    }

    /// Whether its device is mounted in a namespace.
    pub(crate) fn is_in(&self, namespace: &Namespace) -> bool {
        let block = Block {
            number: self.number,
            path: &self.path,
        };
        namespace.mounts_of(&block).next().is_some()
    }

    /// Writes the record of a resource. The file is replaced: readers see the old record or the new one.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn write(&self, runtime: &Path, resource: &str) -> io::Result<()> {
        daemon::private_directory(&directory(runtime))?;
        state::replace(&file(runtime, resource), &serde_json::to_vec(self)?)
    }

    /// The record of a resource; `None` if it has none.
    ///
    /// # Errors
    /// If the record can't be read.
    pub(crate) fn read(runtime: &Path, resource: &str) -> io::Result<Option<Self>> {
        match read(&file(runtime, resource)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// The records of all resources, with the resources' names. A record that can't be read is left out.
    pub(crate) fn read_all(runtime: &Path) -> Vec<(String, Self)> {
        state::read_all(&directory(runtime), RECORDS, read)
    }

    /// Deletes the record of a resource, if there is one.
    ///
    /// # Errors
    /// If the file can't be removed.
    pub(crate) fn forget(runtime: &Path, resource: &str) -> io::Result<()> {
        let path = file(runtime, resource);
        match state::remove(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(message(e, format_args!("remove {}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

fn read(path: &Path) -> io::Result<Attachment> {
    let content = state::read(path, LIMIT)?;
    serde_json::from_slice(&content).map_err(|e| message(e.into(), path.display()))
}

/// The locks on device numbers. They are the process's, and end with it at the latest.
///
/// These are record locks (fcntl(2)), for which the kernel knows the holder. A process loses all of them when it closes
/// any descriptor of their file, so it opens the file once.
///
/// If there is no room for the file, the directory is locked as a whole. A process with record locks holds the
/// directory's lock shared meanwhile, so that the two ways exclude each other.
#[derive(Debug)]
pub struct Locks {
    _directory: Flock<File>,
    /// `None`: the directory's lock is all there is.
    file: Option<File>,
}

/// The result of taking a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// The lock is taken.
    Had,
    /// The process with this id holds it.
    By(i32),
}

impl Locks {
    /// The number of the lock under which records are compared and written; no device has it.
    pub(crate) const RECORDS: u64 = 0;

    /// Opens the locks. If a process has locked the whole directory for want of room, waits for it until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` if that process still holds the lock; or whatever the kernel refuses.
    pub fn open(runtime: &Path, deadline: Instant) -> io::Result<Self> {
        let path = directory(runtime).join(LOCK);
        let made = daemon::private_directory(&directory(runtime)).and_then(|()| {
            let mut options = File::options();
            options.create(true).truncate(false).write(true).open(&path)
        });
        let (file, how) = match made {
            Ok(file) => (Some(file), FlockArg::LockSharedNonblock),
            Err(e) if state::is_full(&e) => (None, FlockArg::LockExclusiveNonblock),
            Err(e) => return Err(message(e, format_args!("open {}", path.display()))),
        };
        let opened = File::open(directory(runtime)).or_else(|_| File::open(runtime));
        let what = || format!("lock {}", directory(runtime).display());
        let mut whole = opened.map_err(|e| message(e, what()))?;
        let mut pause = Pause::default();
        loop {
            whole = match Flock::lock(whole, how) {
                Ok(lock) => {
                    return Ok(Self {
                        _directory: lock,
                        file,
                    });
                }
                Err((whole, Errno::EWOULDBLOCK | Errno::EINTR)) if pause.until(deadline) => whole,
                Err((_, Errno::EWOULDBLOCK)) => {
                    let text = format!("{}: another one still holds it", what());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err((_, e)) => return Err(message(e.into(), what())),
            };
        }
    }

    /// Locks the device of this number, without waiting.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn take(&self, number: u64) -> io::Result<Locked> {
        let Some(file) = &self.file else {
            return Ok(Locked::Had);
        };
        loop {
            match set(file, number, libc::F_WRLCK) {
                Ok(()) => return Ok(Locked::Had),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(e) => return Err(message(e.into(), "lock a device")),
            }
            let mut lock = range(number, libc::F_WRLCK)?;
            fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
            // A lock without an owner was released at this moment.
            if libc::c_int::from(lock.l_type) != libc::F_UNLCK {
                return Ok(Locked::By(lock.l_pid));
            }
        }
    }

    /// Releases a lock.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn release(&self, number: u64) -> io::Result<()> {
        match &self.file {
            Some(file) => {
                set(file, number, libc::F_UNLCK).map_err(|e| message(e.into(), "unlock a device"))
            }
            None => Ok(()),
        }
    }
}

fn set(file: &File, number: u64, kind: libc::c_int) -> nix::Result<()> {
    let lock = range(number, kind).map_err(|_| Errno::EOVERFLOW)?;
    fcntl(file, FcntlArg::F_SETLK(&lock)).map(drop)
}

/// The byte of the lock's file that stands for a device.
fn range(number: u64, kind: libc::c_int) -> io::Result<libc::flock> {
    Ok(libc::flock {
        l_type: libc::c_short::try_from(kind).map_err(io::Error::other)?,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::try_from(number).map_err(io::Error::other)?,
        l_len: 1,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::formats;

    fn record(vserver: &str) -> Attachment {
        Attachment {
            vserver: vserver.into(),
            number: libc::makedev(240, 77),
            sequence: None,
            path: PathBuf::from("/dev/none-such"),
            uuid: None,
        }
    }

    #[test]
    fn records_of_all_versions_are_read() {
        formats::check(
            "attachment.jsonl",
            &["bare", "whole"],
            |record: &Attachment| match (record.sequence, record.uuid) {
                (None, None) => "bare",
                _ => "whole",
            },
        );
    }

    #[test]
    fn a_record_is_read_back_until_it_is_forgotten() {
        let runtime = tempfile::tempdir().unwrap();
        let runtime = runtime.path();
        assert_eq!(Attachment::read(runtime, "a-data").unwrap(), None);
        record("alpha").write(runtime, "a-data").unwrap();
        record("beta").write(runtime, "b/data").unwrap();
        let found = Attachment::read(runtime, "a-data").unwrap();
        assert_eq!(found, Some(record("alpha")));
        fs::write(directory(runtime).join("torn"), "{").unwrap();
        assert!(Attachment::read(runtime, "torn").is_err());
        let mut all = Attachment::read_all(runtime);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a-data", "b_data"]);
        Attachment::forget(runtime, "a-data").unwrap();
        Attachment::forget(runtime, "a-data").unwrap();
        assert_eq!(Attachment::read(runtime, "a-data").unwrap(), None);
    }

    #[test]
    fn a_device_that_has_vanished_is_looked_for_no_more() {
        let gone = record("alpha").find();
        assert!(
            matches!(&gone, Whereabouts::Vanished(d) if d.number == libc::makedev(240, 77)),
            "{gone:?}"
        );
    }

    #[test]
    fn a_locked_device_is_told_by_who_has_it_and_others_are_free() {
        let runtime = tempfile::tempdir().unwrap();
        let locks = Locks::open(runtime.path(), Instant::now()).unwrap();
        assert_eq!(locks.take(7).unwrap(), Locked::Had);
        let path = directory(runtime.path()).join(LOCK);
        let file = File::options().write(true).open(path).unwrap();
        let ranges = [7, 8].map(|n| range(n, libc::F_WRLCK).unwrap());
        // Locks by record are a process's: only another one is kept out.
        let take = || {
            let taken = ranges.map(|r| fcntl(&file, FcntlArg::F_SETLK(&r)).is_ok());
            i32::from(taken[0]) + 2 * i32::from(taken[1])
        };
        // SAFETY: the child makes system calls on memory that it has already.
        let child = unsafe { crate::sys::process::fork(take) }.unwrap();
        let end = nix::sys::wait::waitpid(child, None).unwrap();
        assert_eq!(end, nix::sys::wait::WaitStatus::Exited(child, 2));
    }
}
