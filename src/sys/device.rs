//! Block devices: found by path, UUID= or LABEL=, what lies on them, and whether anything on this node
//! holds one.
//!
//! A device behind a dead path can keep a read or an open waiting for minutes, and nothing but SIGKILL ends
//! the wait. So devices are asked in children, one each, that are left behind at the deadline.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::message;
use super::superblock::{self, HEAD, MMP_SIZE, Mmp, Superblock, Uuid};
use crate::plan::holding::Claim;

mod member;
mod read;
mod search;
pub(crate) mod sysfs;
mod twin;
mod udev;
mod usage;

use read::Reading;
pub(crate) use search::Search;
pub(crate) use usage::{Owner, describe};

/// How a device is named in the configuration. In messages it is that text, and is checked again when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceSpec {
    /// An absolute path.
    Path(PathBuf),
    /// `UUID=`: of the file system on it.
    Uuid(Uuid),
    /// `LABEL=`: of the file system on it.
    Label(String),
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Uuid(uuid) => write!(f, "UUID={uuid}"),
            Self::Label(label) => write!(f, "LABEL={label}"),
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(uuid) = s.strip_prefix("UUID=") {
            return uuid.parse().map(Self::Uuid);
        }
        if s.contains(char::is_control) {
            return Err(format!("device {s:?} holds a control character"));
        }
        match s.strip_prefix("LABEL=") {
            Some("") => Err("LABEL= names no label".to_owned()),
            Some(label) => Ok(Self::Label(label.to_owned())),
            None if s.starts_with('/') => Ok(Self::Path(PathBuf::from(s))),
            None => Err(format!(
                "\"{s}\" is no device: an absolute path, UUID=... or LABEL=..."
            )),
        }
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(spec: DeviceSpec) -> Self {
        spec.to_string()
    }
}

/// A block device of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its node, symbolic links resolved.
    pub path: PathBuf,
    /// Its device number (`st_rdev`).
    pub number: u64,
    /// The file system on it, if it is of a kind that berth serves.
    pub superblock: Option<Superblock>,
}

/// How long a device may take to answer if it is asked when the deadline has passed.
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

/// Why a device was not found.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// This node has no such device.
    #[error("{0}")]
    NotFound(String),
    /// What the path names is no block device.
    #[error("{0}")]
    Unfit(String),
    /// Several devices have the UUID or label, or may have.
    #[error("{0}")]
    Ambiguous(String),
    /// It, or one that might be it, did not answer in time.
    #[error("{0}")]
    Silent(String),
    /// The device is a part of something else.
    #[error("{0}")]
    Member(String),
    /// The kernel refused something.
    #[error("{0}")]
    Refused(#[from] io::Error),
}

impl DeviceSpec {
    /// Finds the device and reads what lies on it.
    ///
    /// # Errors
    /// Why not, in one line.
    pub fn resolve(&self, deadline: Instant) -> Result<Device, Unresolved> {
        match self {
            Self::Path(path) => open_path(path, deadline),
            Self::Uuid(_) | Self::Label(_) => self.choose(self.search(deadline)?),
        }
    }
}

fn open_path(path: &Path, deadline: Instant) -> Result<Device, Unresolved> {
    let named = |e: io::Error| message(e, path.display());
    let device = Device::at(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Unresolved::NotFound(e.to_string()),
        io::ErrorKind::InvalidInput => Unresolved::Unfit(e.to_string()),
        _ => e.into(),
    })?;
    let read = || {
        // Both ends at the same time.
        let (head, tail) = (Reading::start(&device.path, 0, HEAD)?, device.tail()?);
        let head = head.finish(deadline)?;
        let of = device.member(&head, tail, deadline)?;
        Ok((head, of))
    };
    let (head, of) = read()
        .map_err(named)
        .map_err(|e: io::Error| match e.kind() {
            io::ErrorKind::TimedOut => Unresolved::Silent(e.to_string()),
            _ => e.into(),
        })?;
    if let Some(of) = of {
        let path = device.path.display();
        return Err(Unresolved::Member(format!("{path} is {of}{STALE_HINT}")));
    }
    Ok(Device {
        superblock: superblock::parse(&head),
        ..device
    })
}

/// What to do about a device that only looks like a part of something.
const STALE_HINT: &str = "; if it is no more, see wipefs";

impl Device {
    /// Reads its superblock anew.
    ///
    /// # Errors
    /// The device's own; `TimedOut` if it did not answer before `deadline`.
    pub(crate) fn read_superblock(&self, deadline: Instant) -> io::Result<Option<Superblock>> {
        let head = Reading::start(&self.path, 0, HEAD)?.finish(deadline)?;
        Ok(superblock::parse(&head))
    }

    /// Reads its multiple-mount protection, past every cache; `None` if it has none.
    ///
    /// # Errors
    /// As [`Device::read_superblock`]; `InvalidData` if the superblock points to what is none.
    pub(crate) fn read_mmp(&self, deadline: Instant) -> io::Result<Option<Mmp>> {
        let Some(place) = self.superblock.as_ref().and_then(|sb| sb.mmp) else {
            return Ok(None);
        };
        let block = Reading::start(&self.path, place.offset, MMP_SIZE)?.finish(deadline)?;
        match Mmp::parse(block, place) {
            Some(mmp) => Ok(Some(mmp)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{}: no multiple-mount protection at byte {}",
                    self.path.display(),
                    place.offset
                ),
            )),
        }
    }

    /// The device at `path`, without what lies on it, which is not asked: its storage may be dead.
    ///
    /// # Errors
    /// `NotFound` if there is none; `InvalidInput` if it is no block device.
    pub fn at(path: &Path) -> io::Result<Self> {
        let named = |e: io::Error| message(e, path.display());
        let real = fs::canonicalize(path).map_err(named)?;
        let meta = fs::metadata(&real).map_err(named)?;
        if !meta.file_type().is_block_device() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no block device", path.display()),
            ));
        }
        Ok(Self {
            path: real,
            number: meta.rdev(),
            superblock: None,
        })
    }

    /// Starts to read the device's end; `None` if it has none.
    fn tail(&self) -> io::Result<Option<Reading>> {
        let (begin, length) = self.end();
        match usize::try_from(length).map_err(io::Error::other)? {
            0 => Ok(None),
            length => Reading::start(&self.path, begin, length).map(Some),
        }
    }

    /// Where its end begins, and how long it is.
    fn end(&self) -> (u64, u64) {
        let size = sysfs::size(Path::new("/sys"), self.number).unwrap_or_default();
        let begin = size.saturating_sub(member::TAIL);
        (begin, size - begin)
    }

    /// What the device is a part of, in words, by its two ends and by udev; `None` if it is its own.
    fn member(
        &self,
        head: &[u8],
        tail: Option<Reading>,
        deadline: Instant,
    ) -> io::Result<Option<&'static str>> {
        let tail = match tail {
            Some(reading) => reading.finish(deadline)?,
            None => vec![],
        };
        let (begin, length) = self.end();
        let by_content = member::member(head, &tail, begin + length);
        Ok(by_content.or_else(|| {
            let is_path = udev::Udev::of(self.number).is_path();
            is_path.then_some("a path of a multipath device")
        }))
    }

    /// Tries to claim the device by an exclusive open, which knows of mounts in every namespace, and gives
    /// the claim up again. It has a moment to answer even if `deadline` is near. Where it can be claimed, nothing
    /// of what this node has written to it is left to be written, and nothing that was read before is remembered.
    pub fn claim(&self, deadline: Instant) -> Claim {
        // An error of this process alone says nothing about the device.
        const OWN: [i32; 6] = [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::EACCES,
            libc::EPERM,
            libc::EINTR,
        ];
        let limit = deadline.max(Instant::now() + ANSWER_LIMIT);
        match read::claim(&self.path, limit) {
            Ok(Ok(())) => Claim::Free,
            // Nobody has it, and the kernel has given up what could not be written: nothing of it can
            // reach the medium any more.
            Ok(Err(_)) => Claim::Free,
            Err(e) if e.kind() == io::ErrorKind::TimedOut => Claim::Silent,
            Err(e) => match e.raw_os_error() {
                Some(libc::EBUSY) => Claim::Busy,
                Some(errno) if !OWN.contains(&errno) => Claim::Unusable(e.to_string()),
                _ => Claim::Unasked(e.to_string()),
            },
        }
    }

    /// Waits until nobody on this node holds the device, and nothing is left to be written to it. `owner`
    /// tells whose a cell is, for the error.
    ///
    /// # Errors
    /// `TimedOut`, with who holds it, at `deadline`; the device's own if it can't be opened.
    pub fn wait_free(&self, deadline: Instant, owner: Owner<'_>) -> io::Result<()> {
        let mut pause = Pause::default();
        loop {
            let holder = match self.claim(deadline) {
                Claim::Free => return Ok(()),
                Claim::Busy => None,
                Claim::Silent => Some("it does not answer".to_owned()),
                Claim::Unasked(why) => Some(format!("it can't be asked: {why}")),
                Claim::Unusable(why) => {
                    let text = format!("open {}: {why}", self.path.display());
                    return Err(io::Error::other(text));
                }
            };
            if !pause.until(deadline) {
                let holder = match holder {
                    Some(holder) => holder,
                    None => self.seen(&[], owner)?.describe(),
                };
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} is still held: {holder}", self.path.display()),
                ));
            }
        }
    }
}

/// The pause between two looks at a claim, of whose end the kernel does not tell: ever longer.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    /// Sleeps; `false` at once if there is no time left before `deadline`.
    pub(crate) fn until(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(self.0.min(left));
        self.0 = (self.0 * 2).min(Duration::from_millis(50));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_back_as_shown() {
        for text in [
            "/dev/vg0/alpha",
            "UUID=3d1c1ae4-7f5b-4c1e-8a0b-0123456789ab",
            "LABEL=alpha data",
        ] {
            assert_eq!(text.parse::<DeviceSpec>().unwrap().to_string(), text);
        }
        for wrong in ["", "sda", "UUID=7", "LABEL=", "LABEL=a\nb", "/dev/\n"] {
            assert!(wrong.parse::<DeviceSpec>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_missing_path_and_a_plain_file_are_told_apart() {
        let soon = Instant::now() + Duration::from_secs(10);
        let missing = DeviceSpec::Path("/dev/none-such".into()).resolve(soon);
        assert!(
            matches!(missing, Err(Unresolved::NotFound(_))),
            "{missing:?}"
        );
        let file = DeviceSpec::Path("/etc/passwd".into()).resolve(soon);
        assert!(matches!(file, Err(Unresolved::Unfit(_))), "{file:?}");
    }
}
