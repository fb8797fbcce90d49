//! A machine's control groups: a part of this machine's hierarchy of version 2, whose root it takes for all there is.
//! Where this machine has none, its machines have none either.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::error::{Context, Result};

/// The group below its root that all of a machine's processes begin in: a group that passes controllers on has none
/// itself.
const SYSTEM: &str = "system";

/// Makes the groups of a machine; `None` where there can be none.
pub fn make(lab: &str, machine: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = hierarchy(&table)?.join(format!("berth-lab-{lab}-{machine}"));
    remove(&own);
    fs::create_dir_all(own.join(SYSTEM)).ok()?;
    Some(own)
}

/// Where the cgroup2 file system is mounted: proc_pid_mountinfo(5).
fn hierarchy(table: &str) -> Option<&Path> {
    let mut lines = table.lines().rev();
    let line = lines.find(|line| line.contains(" - cgroup2 "))?;
    line.split(' ').nth(4).map(Path::new)
}

/// Removes the groups of a machine that has died.
pub fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // It is not there, or somebody is still in it: then it is used again.
    let _ = fs::remove_dir(group);
}

/// Moves this process into the groups, which are all that it sees of the hierarchy from then on.
///
/// # Errors
/// If the kernel refuses that.
pub fn enter(group: &Path) -> Result<()> {
    let join = |group: &Path| {
        let path = group.join("cgroup.procs");
        fs::write(&path, "0").context(path.display())
    };
    join(group)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("make a namespace of control groups")?;
    join(&group.join(SYSTEM))
}

/// Mounts the hierarchy below `root`, in place of this machine's.
///
/// # Errors
/// If that is refused.
pub fn show(root: &Path) -> Result<()> {
    let at = root.join("sys/fs/cgroup");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let none = None::<&str>;
    mount(Some("cgroup2"), &at, Some("cgroup2"), flags, none).context("mount cgroup2")
}
