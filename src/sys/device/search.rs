//! The search for a device by the UUID or the label of its file system.
//!
//! All devices are asked at once. One that does not answer is waited for until the deadline as long as
//! nothing was found. Once one was found, and all but the silent ones have answered, those get a little
//! longer: enough for a slow disk, while an unrelated dead one does not cost every failover the whole time.
//! A silent device may be the twin, or even the original, of the one found. So the device manager's data
//! base, which remembers what it saw when the device still answered, has a say: if it knows the same UUID or
//! label for the silent one, the name is ambiguous.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::read::{Reading, poll_until};
use super::udev::Udev;
use super::{Device, DeviceSpec, STALE_HINT, Unresolved, sysfs};
use crate::sys::superblock::{self, HEAD, Superblock};

/// How many devices are read at once.
const AT_A_TIME: usize = 64;

/// How much longer a silent device is waited for when another one was found.
const GRACE: Duration = Duration::from_secs(1);

/// The result of a search.
#[derive(Debug, Default)]
pub struct Search {
    /// The devices with the UUID or label that are devices of their own.
    pub found: Vec<Device>,
    /// The devices that are part of something: a mirror, a volume group.
    pub(crate) members: Vec<(PathBuf, &'static str)>,
    /// The devices that have not answered.
    pub(crate) silent: Vec<PathBuf>,
}

/// A device's head, or why there is none; `None` if it did not answer.
type Head = (PathBuf, Option<io::Result<Vec<u8>>>);

impl DeviceSpec {
    /// Whether a superblock is the one that is meant; a path means none.
    fn fits(&self, superblock: &Superblock) -> bool {
        match self {
            Self::Path(_) => false,
            Self::Uuid(uuid) => superblock.uuid == *uuid,
            Self::Label(label) => superblock.label == *label,
        }
    }

    /// Looks for all devices that the UUID or label may mean.
    ///
    /// # Errors
    /// If the devices can't be listed.
    pub fn search(&self, deadline: Instant) -> io::Result<Search> {
        let sys = Path::new("/sys");
        let fits = |head: &[u8]| superblock::parse(head).filter(|sb| self.fits(sb));
        let heads = read_heads(
            sysfs::candidates(sys)?,
            deadline,
            &|path| Reading::start(path, 0, HEAD),
            &|head| fits(head).is_some(),
        )?;
        let mut search = Search::default();
        for (path, head) in heads {
            let head = match head {
                None => {
                    search.silent.push(path);
                    continue;
                }
                // A drive without a medium, or dead: not the one in any case.
                Some(Err(_)) => continue,
                Some(Ok(head)) => head,
            };
            let Some(superblock) = fits(&head) else {
                continue;
            };
            let Ok(number) = fs::metadata(&path).map(|m| m.rdev()) else {
                continue;
            };
            let device = Device {
                path,
                number,
                superblock: Some(superblock),
            };
            let member = device
                .tail()
                .and_then(|tail| device.member(&head, tail, deadline));
            match member {
                Ok(None) => search.found.push(device),
                Ok(Some(of)) => search.members.push((device.path, of)),
                // Its beginning could be read and its end not: it is not known to be anybody's part.
                Err(_) => search.found.push(device),
            }
        }
        Ok(search)
    }

    /// The one device of a search.
    pub(crate) fn choose(&self, search: Search) -> Result<Device, Unresolved> {
        let Search {
            mut found,
            members,
            silent,
        } = search;
        if found.len() > 1 {
            let numbers: Vec<u64> = found.iter().map(|d| d.number).collect();
            if let Some(origin) = sysfs::origin(Path::new("/sys"), &numbers) {
                found.swap(0, origin);
                found.truncate(1);
            }
        }
        // Who writes to one of them decides nothing: what registers for fencing, or serves the true one to others
        // for a moment, would have its clone mounted.
        match (&found[..], silent.first(), members.first()) {
            ([one, other, ..], ..) => Err(self.ambiguous(&one.path, &other.path)),
            ([one], ..) => match silent.iter().find(|path| self.is_remembered(path)) {
                Some(silent) => Err(self.ambiguous(&one.path, silent)),
                None => Ok(found.remove(0)),
            },
            ([], Some(path), _) => Err(Unresolved::Silent(format!(
                "{self} not found so far: {} does not answer",
                path.display()
            ))),
            ([], None, Some((path, of))) => Err(Unresolved::Member(format!(
                "{} has {self}, but is {of}{STALE_HINT}",
                path.display()
            ))),
            ([], None, None) => Err(Unresolved::NotFound(format!(
                "no device of this node has {self}"
            ))),
        }
    }

    fn ambiguous(&self, one: &Path, other: &Path) -> Unresolved {
        Unresolved::Ambiguous(format!(
            "{self} is ambiguous: {} and {} have it; name a path",
            one.display(),
            other.display()
        ))
    }

    /// Whether udev once saw the UUID or label on a device that does not answer now.
    fn is_remembered(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|m| self.is_in(&Udev::of(m.rdev())))
    }

    /// Whether an entry of udev's data base has the UUID or label.
    fn is_in(&self, udev: &Udev) -> bool {
        let is = |key: &str, value: &str| {
            let known = udev.property(key);
            known.is_some_and(|known| known.eq_ignore_ascii_case(value))
        };
        match self {
            Self::Path(_) => false,
            Self::Uuid(uuid) => is("ID_FS_UUID", &uuid.to_string()),
            Self::Label(label) => {
                is("ID_FS_LABEL", label) || is("ID_FS_LABEL", &label.replace(' ', "_"))
            }
        }
    }
}

/// Starts to read a device's head.
type Start<'a> = &'a dyn Fn(&Path) -> io::Result<Reading>;

/// Reads the heads of all, some at a time. `fits` tells whether a head is the one looked for.
fn read_heads(
    paths: Vec<PathBuf>,
    deadline: Instant,
    start: Start<'_>,
    fits: &dyn Fn(&[u8]) -> bool,
) -> io::Result<Vec<Head>> {
    let mut waiting = paths.into_iter();
    let mut asked: Vec<(PathBuf, Reading)> = vec![];
    let mut heads = vec![];
    let mut found = false;
    let mut last = Instant::now();
    loop {
        while asked.len() < AT_A_TIME {
            let Some(path) = waiting.next() else { break };
            match start(&path) {
                Ok(reading) => asked.push((path, reading)),
                // Nobody has asked it: it is the one as likely as one that does not answer.
                Err(_) => heads.push((path, None)),
            }
        }
        if asked.is_empty() {
            return Ok(heads);
        }
        let limit = match found && waiting.len() == 0 {
            true => deadline.min(last + GRACE),
            false => deadline,
        };
        let fds: Vec<_> = asked.iter().map(|(_, reading)| reading.as_fd()).collect();
        let ready = poll_until(&fds, limit)?;
        if ready.is_empty() {
            heads.extend(asked.into_iter().map(|(path, _)| (path, None)));
            heads.extend(waiting.map(|path| (path, None)));
            return Ok(heads);
        }
        // From the end, so that what is taken out moves nothing that is still to come.
        for at in ready.into_iter().rev() {
            if asked[at].1.advance()? {
                let (path, reading) = asked.swap_remove(at);
                let head = reading.bytes();
                found |= head.as_ref().is_ok_and(|head| fits(head));
                heads.push((path, Some(head)));
                last = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Start<'static> = &|path| Reading::start(path, 0, HEAD);

    #[test]
    fn udev_s_memory_is_asked_for_the_uuid_and_the_label() {
        let entry = Udev::parse(
            "E:ID_FS_UUID=3d1c1ae4-7f5b-4c1e-8a0b-0123456789ab\nE:ID_FS_LABEL=alpha_data\n",
        );
        let has = |spec: &str| spec.parse::<DeviceSpec>().unwrap().is_in(&entry);
        assert!(has("UUID=3D1C1AE4-7f5b-4c1e-8a0b-0123456789ab"));
        assert!(has("LABEL=alpha data"));
        assert!(!has("UUID=00000000-7f5b-4c1e-8a0b-0123456789ab"));
        assert!(!has("LABEL=alpha"));
        assert!(!has("/dev/sda"));
    }

    #[test]
    fn more_devices_than_are_asked_at_once_are_all_read() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..150)
            .map(|n| {
                let path = dir.path().join(n.to_string());
                fs::write(&path, n.to_string()).unwrap();
                path
            })
            .collect();
        let limit = Instant::now() + Duration::from_secs(60);
        let mut heads = read_heads(paths.clone(), limit, START, &|_| false).unwrap();
        heads.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(heads.len(), paths.len());
        for (path, head) in heads {
            assert_eq!(head.unwrap().unwrap(), fs::read(path).unwrap());
        }
    }

    #[test]
    fn a_silent_device_is_waited_for_until_another_one_is_the_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["other", "wanted"] {
            fs::write(path(name), name).unwrap();
        }
        let start: Start<'_> = &|path| match path.ends_with("silent") {
            true => Reading::stuck(),
            false => Reading::start(path, 0, HEAD),
        };
        let paths = || ["other", "silent", "wanted"].map(path).to_vec();
        let is_silent = |heads: Vec<Head>| {
            let head = heads.into_iter().find(|(at, _)| *at == path("silent"));
            head.is_some_and(|(_, head)| head.is_none())
        };
        // An hour is not waited for.
        let limit = Instant::now() + Duration::from_secs(3600);
        let found = read_heads(paths(), limit, start, &|head| head == b"wanted").unwrap();
        assert!(Instant::now() < limit);
        assert!(is_silent(found));
        // A file system that was not found may be on a device that has not answered.
        let limit = Instant::now() + Duration::from_millis(50);
        let found = read_heads(paths(), limit, start, &|head| head == b"nowhere");
        assert!(Instant::now() >= limit);
        assert!(is_silent(found.unwrap()));
    }
}
