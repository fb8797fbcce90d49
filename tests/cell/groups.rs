//! Control groups of a node of a test: a part of the machine's hierarchy, mounted where a node has its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::sys::cgroup::{self, Group};
use berth::types::VserverName;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where it is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How long what was killed may take to die.
const DYING: Duration = Duration::from_secs(10);

pub struct Groups {
    /// Its directory, as the machine sees it.
    own: PathBuf,
}

impl Groups {
    /// For the calling thread, which has a mount table of its own; `None` on a machine without control groups of
    /// version 2.
    pub fn new(tag: &str) -> Option<Self> {
        let own = cgroup::mounted().ok()?.join(format!("berth-test-{tag}"));
        Group::at(&own).make().expect("a group");
        let none = None::<&str>;
        mount(Some(&own), MOUNT, none, MsFlags::MS_BIND, none).expect("a mount of it");
        Some(Self { own })
    }

    /// The group that the three of a virtual server are in.
    pub fn of(vserver: &VserverName) -> Group {
        Group::at(MOUNT).child("berth").child(vserver)
    }

    /// Whether nothing is left of a virtual server's groups. Where controllers are passed on, the root takes no process,
    /// and a keeper whose former group is not seen here has nowhere to go: its own stays, without anybody in it.
    pub fn are_gone(vserver: &VserverName) -> bool {
        let all = Self::of(vserver);
        let passes = Group::at(MOUNT).read("cgroup.subtree_control");
        let passes = passes.is_ok_and(|on| !on.trim().is_empty());
        let left = |group: &str| all.child(group).exists();
        let empty = all.is_populated().is_ok_and(|populated| !populated);
        !all.exists() || passes && empty && !left("cell") && !left("repair")
    }

    /// Whether this controller governs what is in the node's groups.
    pub fn have(controller: &str) -> bool {
        let controllers = Group::at(MOUNT).controllers().unwrap_or_default();
        controllers.iter().any(|c| c == controller)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // It is hidden beneath itself, and beneath what a test has put there.
        while !self.own.is_dir() && umount2(MOUNT, MntFlags::MNT_DETACH).is_ok() {}
        let deadline = Instant::now() + DYING;
        while self.own.exists() && Instant::now() < deadline {
            let _ = Group::at(&self.own).kill();
            remove(&self.own);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Removes a group with all below it, as far as they are empty.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
