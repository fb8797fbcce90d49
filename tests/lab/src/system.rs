//! The system whose programs machines run: this machine's own, or the root file system of another one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// Programs without which a system has no cluster, and the Debian packages they come from.
const NEEDED: [(&str, &str); 4] = [
    ("usr/sbin/corosync", "corosync"),
    ("usr/sbin/pacemakerd", "pacemaker"),
    ("usr/sbin/crm_mon", "pacemaker-cli-utils"),
    ("usr/share/pacemaker", "pacemaker"),
];

/// Directories that every root file system has.
const ROOT: [&str; 6] = ["bin", "etc", "lib", "sbin", "usr/bin", "var/lib"];

/// Directories that a machine mounts something on.
const MOUNT_POINTS: [&str; 6] = ["dev", "mnt", "proc", "run", "sys", "tmp"];

/// A system, by the directory of its root file system. Machines never write to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct System(PathBuf);

impl Default for System {
    /// This machine's own.
    fn default() -> Self {
        Self::at("/")
    }
}

impl System {
    /// That of the root file system in `directory`.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        // Fails where there is no current directory, and then it is no directory either.
        Self(std::path::absolute(&directory).unwrap_or(directory))
    }

    /// Its root directory.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Whether it is this machine's own.
    pub fn is_own(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where this machine finds what the system calls `/name`.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Refuses a directory that machines could not be started from.
    ///
    /// # Errors
    /// Names what it lacks.
    pub fn check(&self) -> Result<()> {
        self.check_root()?;
        for (name, package) in NEEDED {
            if !self.path(name).exists() {
                let path = self.path(name);
                return Err(Error::new(format!(
                    "{} is missing; package: {package}",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Refuses a directory that is no root file system.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn check_root(&self) -> Result<()> {
        let root = self.0.display();
        // An overlay's options are separated by these.
        if root.to_string().contains([',', ':', '\\']) {
            return Err(Error::new(format!(
                "root {root}: must be a path without comma, colon and backslash"
            )));
        }
        let all = ROOT.iter().chain(&MOUNT_POINTS);
        let missing = all.map(|name| self.path(name)).find(|path| !path.is_dir());
        missing.map_or(Ok(()), |path| {
            Err(Error::new(format!(
                "root {root}: is no root file system: there is no directory {}",
                path.display()
            )))
        })
    }

    /// Keeps an image from being made anew as long as the value lives. None of this for a system that no
    /// `packaging/lab-image` has made.
    ///
    /// # Errors
    /// If it is being made anew.
    pub fn hold(&self) -> Result<Option<Flock<File>>> {
        let Ok(stamp) = File::open(self.path("etc/lab-image")) else {
            return Ok(None);
        };
        let locked = Flock::lock(stamp, FlockArg::LockSharedNonblock);
        locked.map(Some).map_err(|(_, e)| {
            Error::new(format!(
                "root {}: is being made anew: {e}",
                self.0.display()
            ))
        })
    }

    /// The newest schema of its Pacemaker for a CIB, such as `pacemaker-3.9`: what a new cluster begins
    /// with.
    ///
    /// # Errors
    /// If it has none.
    pub fn newest_schema(&self) -> Result<String> {
        let directory = self.path("usr/share/pacemaker");
        let entries = fs::read_dir(&directory).context(directory.display())?;
        let names = entries
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned());
        let versions = names.filter_map(|name| schema_version(&name));
        let newest = versions
            .max()
            .ok_or_else(|| Error::new(format!("{}: no schema of a CIB", directory.display())))?;
        Ok(format!("pacemaker-{}.{}", newest.0, newest.1))
    }
}

/// Of `pacemaker-3.9.rng`: 3 and 9.
fn schema_version(name: &str) -> Option<(u32, u32)> {
    let version = name.strip_prefix("pacemaker-")?.strip_suffix(".rng")?;
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_schemas_of_whole_cibs_count() {
        assert_eq!(schema_version("pacemaker-3.10.rng"), Some((3, 10)));
        for name in ["pacemaker-next.rng", "resources-4.0.rng", "pacemaker.rng"] {
            assert_eq!(schema_version(name), None, "{name}");
        }
        assert!((3, 10) > (3, 9));
    }

    #[test]
    fn what_is_no_root_file_system_is_refused() {
        for (directory, words) in [
            ("/proc", "is no root file system"),
            ("/no/such/place", "is no root file system"),
            ("src", "/src: is no root file system"),
            ("/tmp/a:b", "without comma, colon"),
        ] {
            let error = System::at(directory).check().unwrap_err().to_string();
            assert!(error.contains(words), "{directory}: {error}");
        }
    }
}
