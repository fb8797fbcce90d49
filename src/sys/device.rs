//! Block devices: found by path, UUID= or LABEL=, what lies on them, and whether anything on this node
//! holds one.
//!
//! A device behind a dead path can keep a read waiting for minutes, and nothing but SIGKILL ends the
//! wait. So devices are read in children, one each, that are left behind at the deadline.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::superblock::{self, HEAD, MMP_SIZE, Mmp, Superblock, Uuid};

mod read;

use read::Reading;

/// How a device is named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl DeviceSpec {
    /// Finds the device and reads what lies on it.
    ///
    /// # Errors
    /// `NotFound` if this node has no such device; `InvalidInput` if a path is no block device, or a
    /// UUID or label is that of several; `TimedOut` if it, or one that might be it, did not answer
    /// before `deadline`.
    pub fn resolve(&self, deadline: Instant) -> io::Result<Device> {
        match self {
            Self::Path(path) => open_path(path, deadline),
            Self::Uuid(uuid) => self.search(deadline, |sb| sb.uuid == *uuid),
            Self::Label(label) => self.search(deadline, |sb| sb.label == *label),
        }
    }

    fn search(
        &self,
        deadline: Instant,
        wanted: impl Fn(&Superblock) -> bool,
    ) -> io::Result<Device> {
        let (mut found, mut silent) = (vec![], vec![]);
        for (path, head) in read_heads(candidates(Path::new("/sys/class/block"))?, deadline) {
            match head {
                Ok(head) => match superblock::parse(&head) {
                    Some(sb) if wanted(&sb) => found.push((path, sb)),
                    _ => {}
                },
                Err(e) if e.kind() == io::ErrorKind::TimedOut => silent.push(path),
                // A drive without a medium, or dead: not the one in any case.
                Err(_) => {}
            }
        }
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some((path, superblock)), None) => {
                let number = fs::metadata(&path)?.rdev();
                Ok(Device {
                    path,
                    number,
                    superblock: Some(superblock),
                })
            }
            (Some((one, _)), Some((other, _))) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{self} is ambiguous: both {} and {} have it; name the device by its path",
                    one.display(),
                    other.display()
                ),
            )),
            (None, _) => match silent.first() {
                Some(path) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "{self} not found so far: {} does not answer",
                        path.display()
                    ),
                )),
                None => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no device of this node has {self}"),
                )),
            },
        }
    }
}

fn open_path(path: &Path, deadline: Instant) -> io::Result<Device> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let real = fs::canonicalize(path).map_err(named)?;
    let meta = fs::metadata(&real).map_err(named)?;
    if !meta.file_type().is_block_device() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is no block device", path.display()),
        ));
    }
    let head = Reading::start(&real, 0, HEAD)
        .and_then(|r| r.finish(deadline))
        .map_err(named)?;
    Ok(Device {
        path: real,
        number: meta.rdev(),
        superblock: superblock::parse(&head),
    })
}

/// Devices on which a file system may lie. Not those that something is built on: a path of a
/// multipath device or half of a mirror shows the same superblock as the whole.
fn candidates(class: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![];
    for entry in fs::read_dir(class)? {
        let entry = entry?;
        let dir = entry.path();
        let says = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let empty = says("size").trim() == "0";
        let hidden = says("hidden").trim() == "1";
        let held = fs::read_dir(dir.join("holders")).is_ok_and(|mut h| h.next().is_some());
        if !empty && !hidden && !held {
            // sysfs writes '!' for the '/' in names such as cciss/c0d0.
            let name = entry.file_name().to_string_lossy().replace('!', "/");
            paths.push(Path::new("/dev").join(name));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Reads the heads of all, some at a time, all of them until `deadline`.
fn read_heads(paths: Vec<PathBuf>, deadline: Instant) -> Vec<(PathBuf, io::Result<Vec<u8>>)> {
    const AT_A_TIME: usize = 32;
    let mut heads = Vec::with_capacity(paths.len());
    for chunk in paths.chunks(AT_A_TIME) {
        let readings: Vec<_> = chunk
            .iter()
            .map(|path| Reading::start(path, 0, HEAD))
            .collect();
        for (path, reading) in chunk.iter().zip(readings) {
            heads.push((path.clone(), reading.and_then(|r| r.finish(deadline))));
        }
    }
    heads
}

impl Device {
    /// Reads its superblock anew.
    ///
    /// # Errors
    /// The device's own; `TimedOut` if it did not answer before `deadline`.
    pub fn read_superblock(&self, deadline: Instant) -> io::Result<Option<Superblock>> {
        let head = Reading::start(&self.path, 0, HEAD)?.finish(deadline)?;
        Ok(superblock::parse(&head))
    }

    /// Reads its multiple-mount protection, past every cache; `None` if it has none.
    ///
    /// # Errors
    /// As [`Device::read_superblock`]; `InvalidData` if the superblock points to what is none.
    pub fn read_mmp(&self, deadline: Instant) -> io::Result<Option<Mmp>> {
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

    /// Who holds the device, in words; `None` if nobody on this node does. The kernel is asked, by an
    /// exclusive open: it knows of mounts in every namespace.
    ///
    /// # Errors
    /// Those of the open, except "busy".
    pub fn holder(&self) -> io::Result<Option<String>> {
        let exclusive = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_NONBLOCK)
            .open(&self.path);
        match exclusive {
            Ok(_) => Ok(None),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(Some(self.describe_holder())),
            Err(e) => Err(io::Error::new(
                e.kind(),
                format!("open {}: {e}", self.path.display()),
            )),
        }
    }

    fn describe_holder(&self) -> String {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let number = format!("{}:{}", libc::major(self.number), libc::minor(self.number));
        if let Some(place) = mounted_at(&mounts, &number, &self.path) {
            return format!("mounted at {place}");
        }
        if swaps
            .lines()
            .any(|l| l.split(' ').next() == self.path.to_str())
        {
            return "in use as swap".to_owned();
        }
        let holders = format!("/sys/dev/block/{number}/holders");
        match fs::read_dir(holders).map(|mut d| d.next()) {
            Ok(Some(Ok(holder))) => {
                format!("part of {}", holder.file_name().to_string_lossy())
            }
            _ => "mounted in another namespace (a cell or a container) or open exclusively"
                .to_owned(),
        }
    }

    /// Waits until nobody on this node holds the device.
    ///
    /// # Errors
    /// `TimedOut`, with who holds it, at `deadline`; those of [`Device::holder`].
    pub fn wait_free(&self, deadline: Instant) -> io::Result<()> {
        // The kernel announces no end of a claim, so it is asked again and again, ever less often.
        let mut pause = Duration::from_millis(1);
        while let Some(holder) = self.holder()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} is still held: {holder}", self.path.display()),
                ));
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Where a mount table (proc(5), mountinfo) shows the device as mounted. btrfs shows a number of its
/// own there, so the source counts too.
fn mounted_at<'a>(mountinfo: &'a str, number: &str, path: &Path) -> Option<&'a str> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(2);
        let (seen, place) = (front.next()?, front.nth(1)?);
        let source = back.split(' ').nth(1)?;
        (seen == number || Path::new(source) == path).then_some(place)
    })
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
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = DeviceSpec::Path("/etc/passwd".into()).resolve(soon);
        assert_eq!(file.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn only_devices_that_nothing_is_built_on_are_searched() {
        let class = tempfile::tempdir().unwrap();
        for (name, size, holder) in [
            ("sda", "100", Some("dm-0")),
            ("dm-0", "100", None),
            ("loop0", "0", None),
            ("cciss!c0d0", "8", None),
        ] {
            let dir = class.path().join(name);
            fs::create_dir_all(dir.join("holders")).unwrap();
            fs::write(dir.join("size"), format!("{size}\n")).unwrap();
            if let Some(holder) = holder {
                fs::write(dir.join("holders").join(holder), "").unwrap();
            }
        }
        let paths = candidates(class.path()).unwrap();
        assert_eq!(
            paths,
            [Path::new("/dev/cciss/c0d0"), Path::new("/dev/dm-0")]
        );
    }

    #[test]
    fn a_mount_is_found_by_number_and_by_source() {
        let table = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            30 22 0:40 / /srv/data rw - btrfs /dev/sdb rw,space_cache\n\
            short line\n";
        let find = |number, path| mounted_at(table, number, Path::new(path));
        assert_eq!(find("8:1", "/dev/x"), Some("/"));
        assert_eq!(find("8:16", "/dev/sdb"), Some("/srv/data"));
        assert_eq!(find("8:32", "/dev/sdc"), None);
    }
}
