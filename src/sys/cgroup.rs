//! Control groups of version 2 by their files: who is in one, what it may use, how it is ended. See
//! Documentation/admin-guide/cgroup-v2.rst of the kernel.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};

use super::{message, mount, namespace, state};
use crate::sys::mountinfo;

mod events;
mod usage;

pub(crate) use events::Events;
pub(crate) use usage::Usage;

/// A group's file is a few lines, but for that which lists its processes.
const FILE_LIMIT: u64 = 64 << 10;

/// The kernel has at most 4,194,304 processes, each with up to 7 digits and the end of its line.
const PROCESSES_LIMIT: u64 = 32 << 20;

/// Between two looks at a group whose processes are dying.
const DYING_PAUSE: Duration = Duration::from_millis(2);

/// Where the cgroup2 file system is mounted, as this process sees it; the one that was mounted last of several.
/// What is mounted there may be a part of it, as in a container.
///
/// # Errors
/// `NotFound` if there is none, or it is hidden beneath another mount.
pub fn mounted() -> io::Result<PathBuf> {
    let table = mountinfo::read_table(Path::new("/proc/thread-self/mountinfo"))?;
    let mut entries = table.into_iter().rev();
    let found = entries
        .find(|e| e.fstype == "cgroup2" && mountinfo::id_of(&e.target).is_ok_and(|id| id == e.id));
    found.map(|entry| entry.target).ok_or_else(|| {
        let text = "no cgroup v2 file system is mounted";
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// The group that a process is in, by its path below the root of this process's cgroup namespace; `None` on
/// systems without version 2.
///
/// # Errors
/// `NotFound` if there is no such process.
pub fn of_process(process: i32) -> io::Result<Option<PathBuf>> {
    let path = format!("/proc/{process}/cgroup");
    let text = state::read(path.as_ref(), FILE_LIMIT)?;
    let text = String::from_utf8_lossy(&text);
    // proc_pid_cgroup(5): hierarchy 0 is that of version 2.
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(path.map(PathBuf::from))
}

/// Which of these controllers are bound to hierarchies of version 1, where version 2 can't have them, on the whole
/// machine.
///
/// # Errors
/// If /proc/cgroups can't be read.
pub(crate) fn bound_to_version_1<'a>(controllers: &[&'a str]) -> io::Result<Vec<&'a str>> {
    let text = state::read("/proc/cgroups".as_ref(), FILE_LIMIT)?;
    Ok(bound(&String::from_utf8_lossy(&text), controllers))
}

/// See cgroups(7), /proc/cgroups: a line has a controller's name and the number of its hierarchy, which is 0 for
/// version 2 and for none.
fn bound<'a>(table: &str, controllers: &[&'a str]) -> Vec<&'a str> {
    let is_bound = |controller: &str| {
        // Version 1 has another name for it.
        let name = if controller == "io" {
            "blkio"
        } else {
            controller
        };
        table.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next().is_some_and(|number| number != "0")
        })
    };
    let bound = controllers.iter().filter(|c| is_bound(c));
    bound.copied().collect()
}

/// A control group, which may not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// The group whose directory this is.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The group of this name below it.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes it, unless it is there.
    ///
    /// # Errors
    /// Whatever the kernel refuses: `ReadOnlyFilesystem`, `PermissionDenied`.
    pub fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(message(e, format_args!("make {}", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// `ResourceBusy` while it has a process or a group below it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(message(e, format_args!("remove {}", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    /// The content of one of the group's files.
    ///
    /// # Errors
    /// `NotFound` if it has no such file: mostly because a controller is not enabled.
    pub fn read(&self, file: &str) -> io::Result<String> {
        let content = state::read(&self.path.join(file), FILE_LIMIT)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// As [`Group::read`], and whatever the kernel refuses.
    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let path = self.path.join(file);
        // These files are the kernel's: one that is not there is not made.
        let written = fs::OpenOptions::new().write(true).open(&path);
        written
            .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|e| message(e, format_args!("write {text} to {}", path.display())))
    }

    /// The processes in it, not in groups below it. One of another PID namespace is not among them.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let content = state::read(&self.path.join("cgroup.procs"), PROCESSES_LIMIT)?;
        let text = String::from_utf8_lossy(&content);
        let numbers = text.lines().filter_map(|line| line.parse().ok());
        Ok(numbers.filter(|pid| *pid > 0).collect())
    }

    /// Moves a process into it, with all its threads.
    ///
    /// # Errors
    /// `ResourceBusy` if it passes controllers on to groups below it; whatever else the kernel refuses.
    pub(crate) fn take(&self, process: i32) -> io::Result<()> {
        self.write("cgroup.procs", &process.to_string())
    }

    /// Whether a living process is in it or in a group below it.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn is_populated(&self) -> io::Result<bool> {
        let events = self.read("cgroup.events")?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    /// The controllers that it can pass on.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn controllers(&self) -> io::Result<Vec<String>> {
        let text = self.read("cgroup.controllers")?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Has the groups below it governed by a controller.
    ///
    /// # Errors
    /// `NotFound` if it has no such controller; `ResourceBusy` if it has a process of its own.
    pub(crate) fn enable(&self, controller: &str) -> io::Result<()> {
        self.write("cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Kills every process in it and below it. They are dying when this returns, not dead: see [`Group::end`].
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub fn kill(&self) -> io::Result<()> {
        match self.write("cgroup.kill", "1") {
            // Before Linux 5.14. It may have new processes meanwhile: whoever waits for the end kills again.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                for process in self.processes()? {
                    if let Ok(process) = namespace::open_process(process) {
                        // A process that has ended meanwhile is no failure.
                        let _ = namespace::kill(process.as_fd());
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Kills every process in it and waits, for `limit` at most, until all are dead. One that is not there has
    /// none.
    ///
    /// # Errors
    /// `TimedOut` if a process does not die: it waits in the kernel, mostly for a disk.
    pub(crate) fn end(&self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        while self.exists() && self.is_populated().unwrap_or(false) {
            if Instant::now() >= deadline {
                let text = format!("a process in {} does not die", self.path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            self.kill()?;
            thread::sleep(DYING_PAUSE);
        }
        Ok(())
    }

    /// A handle by which a process can be born into it: see [`fork_into`](super::process::fork_into).
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        mount::open_directory(&self.path)
    }

    /// A way into it.
    ///
    /// # Errors
    /// `NotFound` if it is not there.
    pub(crate) fn entrance(&self) -> io::Result<Entrance> {
        let path = self.path.join("cgroup.procs");
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .map(Entrance)
            .map_err(|e| message(e.into(), format_args!("open {}", path.display())))
    }
}

/// A way into a group that a child can take between fork and exec.
#[derive(Debug)]
pub(crate) struct Entrance(OwnedFd);

impl Entrance {
    /// Moves the calling process into the group. Makes one system call and allocates nothing.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn enter(&self) -> io::Result<()> {
        // 0 stands for whoever writes it.
        rustix::io::write(&self.0, b"0")?;
        Ok(())
    }
}

/// Sets how the kernel's out-of-memory killer likes this process, -1000 to 1000: proc_pid_oom_score_adj(5). Whoever
/// may do anything may lower it, anybody may raise it. Makes system calls only and allocates nothing, so it may be
/// called between fork and exec.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_RESOURCE, if it is lower than what a process with that has set before.
pub fn set_oom_score(score: &CStr) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, score.to_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_of_version_1_are_known_by_their_hierarchies() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\ncpu\t1\t1\t1\n\
                     blkio\t7\t1\t1\nmemory\t0\t90\t1\npids\t8\t1\t1\n";
        let wanted = ["memory", "pids", "cpu", "io"];
        assert_eq!(bound(table, &wanted), ["pids", "cpu", "io"]);
        assert!(bound("", &wanted).is_empty());
    }

    #[test]
    fn a_group_that_is_not_there_has_no_processes_to_end_and_no_files_to_write() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::at(dir.path()).child("none");
        group.end(Duration::ZERO).unwrap();
        group.remove().unwrap();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(group.write("pids.max", "1")), io::ErrorKind::NotFound);
        group.make().unwrap();
        group.make().unwrap();
        assert_eq!(kind(group.write("pids.max", "1")), io::ErrorKind::NotFound);
    }
}
