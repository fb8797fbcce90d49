//! The control groups of a cell, outside of the one of Pacemaker's service: `keeper` for the keeper and its children,
//! `cell` for all processes in the cell, with its limits, and `repair` for programs that repair its file systems.
//!
//! On a node with systemd, systemd makes the group that these three are in, a scope in berth's slice; on others that
//! group is directly below the root of the hierarchy. A group that passes controllers on must not have processes
//! itself.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::log;
use crate::sys::cgroup::{self, Entrance, Group};
use crate::types::VserverName;

pub(crate) mod limits;
mod systemd;

pub(crate) use limits::Limits;

/// The controllers that the limits need.
pub(crate) const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

/// How long the processes of a former cell may take to die.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(2);

/// How long systemd may take to make a scope. It takes some milliseconds, and more on a node that is busy because it
/// takes over what another one had, which is when limits matter most.
const SCOPE_LIMIT: Duration = Duration::from_secs(15);

/// How long a scope that is empty may take to go.
const SCOPE_PAUSE: Duration = Duration::from_millis(20);

/// How many times processes are moved out of a group in which others may be born meanwhile.
const MOVES: u32 = 16;

/// How long groups may take to become empty, and how often their removal is tried: a process that is ending stays in
/// its group until it has ended.
const REMOVE_LIMIT: Duration = Duration::from_millis(500);
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// The paths of a cell's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The root of the hierarchy, as far as this process sees it.
    root: Group,
    /// The group of all cells.
    parent: Group,
    /// The group that the three groups are in.
    base: Group,
    /// The name of the scope, if systemd makes that group.
    scope: Option<String>,
}

impl Groups {
    /// Where the groups of `vserver`'s cell are, or would be.
    ///
    /// # Errors
    /// `NotFound` if this node has no control groups of version 2.
    pub(crate) fn of(vserver: &VserverName) -> io::Result<Self> {
        let root = Group::at(cgroup::mounted()?);
        let scope = systemd::is_running().then(|| systemd::scope(vserver));
        let (parent, name) = match &scope {
            Some(scope) => (systemd::SLICE, scope.as_str()),
            None => ("berth", vserver.as_str()),
        };
        let parent = root.child(parent);
        let base = parent.child(name);
        Ok(Self {
            root,
            parent,
            base,
            scope,
        })
    }

    /// The group of the keeper.
    fn keeper(&self) -> Group {
        self.base.child("keeper")
    }

    /// The group of all that runs in the cell.
    pub(crate) fn cell(&self) -> Group {
        self.base.child("cell")
    }

    /// The group of what mends the cell's file systems.
    pub(crate) fn repair(&self) -> Group {
        self.base.child("repair")
    }

    /// Makes the groups for the keeper with this process id, and kills processes that a former cell has left in them.
    /// Returns whether the cell's group is a new one: see [`fork_into`](crate::sys::process::fork_into). Blocks.
    ///
    /// # Errors
    /// What keeps the cell from having groups, in one line.
    pub(crate) fn make(&self, vserver: &VserverName, keeper: i32) -> io::Result<bool> {
        if let Err(e) = self.end() {
            // A process that hangs in the kernel is no reason to do without the group, nor to wait for ever.
            log::warn(e);
        }
        match &self.scope {
            Some(scope) => self.enter_scope(scope, vserver, keeper)?,
            None => {
                self.parent.make()?;
                self.base.make()?;
            }
        }
        let is_new = self.cell().remove().is_ok();
        for group in [self.keeper(), self.cell(), self.repair()] {
            group.make()?;
        }
        Ok(is_new)
    }

    /// Has systemd make a scope for the keeper, or move the keeper into the scope that is there: a process that tidies
    /// up after a former keeper keeps its scope for some seconds.
    fn enter_scope(&self, scope: &str, vserver: &VserverName, keeper: i32) -> io::Result<()> {
        let deadline = Instant::now() + SCOPE_LIMIT;
        loop {
            if self.base.exists() {
                // Not by writing to the group: systemd may have found it empty just before. It would take away what is
                // below it, and keep the name for ever.
                let below = match self.keeper().exists() {
                    true => "/keeper",
                    false => "",
                };
                match systemd::join_scope(scope, below, keeper, deadline) {
                    Ok(()) => return Ok(()),
                    // It is not active any more.
                    Err(e) => log::debug(e),
                }
            }
            match systemd::make_scope(scope, vserver, keeper, deadline) {
                // One that is empty is about to go.
                Err(e) if systemd::is_taken(&e) && Instant::now() < deadline => {
                    thread::sleep(SCOPE_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Moves the keeper's processes to their group and puts the limits of the other two in force. Returns the
    /// controllers that this node lacks. Blocks, as the kernel takes its time to move a process.
    ///
    /// # Errors
    /// What the kernel refuses, in one line.
    pub(crate) fn apply(&self, processes: &[i32], limits: &Limits) -> io::Result<Vec<String>> {
        let keeper = self.keeper();
        for process in processes {
            match keeper.take(*process) {
                // The process has ended meanwhile.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
        // A group that passes controllers on has no process itself.
        for _ in 0..MOVES {
            let left = self.base.processes()?;
            if left.is_empty() {
                break;
            }
            for process in left {
                let _ = keeper.take(process);
            }
        }
        let mut missing = Vec::new();
        for controller in CONTROLLERS {
            if let Err(e) = self.enable(controller) {
                log::debug(e);
                missing.push(controller.to_owned());
            }
        }
        limits.apply(&self.cell())?;
        // A cell must not swap: that would keep the node's own disk busy. A repair may: better slow than not at all.
        forgive_missing(self.cell().write("memory.swap.max", "0"))?;
        Limits::default().apply(&self.repair())?;
        // The weight protects others the least: without it the limits are in force all the same.
        if let Err(e) = self.weigh(limits) {
            log::warn(e);
        }
        Ok(missing)
    }

    /// Sets the cell's weight among all cells. It is set on the group that the three groups are in, since groups
    /// compete with their siblings only. The weight of a scope is set by systemd.
    fn weigh(&self, limits: &Limits) -> io::Result<()> {
        match &self.scope {
            None => limits.weigh(&self.base),
            Some(_) if limits.weights_are(&self.base) => Ok(()),
            Some(scope) => systemd::weigh(scope, limits, Instant::now() + SCOPE_LIMIT),
        }
    }

    /// Enables a controller for the three groups. systemd has enabled all that there are for a scope.
    fn enable(&self, controller: &str) -> io::Result<()> {
        if self.scope.is_none() {
            self.root.enable(controller)?;
            self.parent.enable(controller)?;
        }
        self.base.enable(controller)
    }

    /// Kills all processes of the cell and of its repairs, and waits until they are dead.
    fn end(&self) -> io::Result<()> {
        for group in [self.cell(), self.repair()] {
            group.end(LEFTOVER_LIMIT)?;
        }
        Ok(())
    }

    /// Removes the groups, as far as they are empty. systemd removes a scope itself. Otherwise `empty` moves processes
    /// out of the keeper's group before each try, and returns whether another try makes sense.
    fn remove(&self, mut empty: impl FnMut() -> bool) {
        let (cell, repair) = (self.cell(), self.repair());
        if self.scope.is_some() {
            let _ = (cell.remove(), repair.remove());
            return;
        }
        let deadline = Instant::now() + REMOVE_LIMIT;
        loop {
            let more = empty();
            for group in [&cell, &repair, &self.keeper(), &self.base, &self.parent] {
                let _ = group.remove();
            }
            // One that is just ending is not moved out any more, and keeps its group until it has ended.
            if !more || !self.base.exists() || Instant::now() >= deadline {
                return;
            }
            thread::sleep(REMOVE_PAUSE);
        }
    }

    /// Kills what is left in the groups and removes them when the keeper is about to end. The keeper, and a process
    /// that tidies up after it, go back to the group that it came `from`, or to the root if that can't be seen.
    pub(crate) fn leave(&self, from: &Path) {
        if let Err(e) = self.end() {
            log::warn(e);
        }
        let from = from.strip_prefix("/").unwrap_or(from);
        let from = Group::at(self.root.path().join(from));
        let to = if from.exists() { &from } else { &self.root };
        self.remove(|| {
            let left = self.keeper().processes().unwrap_or_default();
            // All or none of them are let in.
            left.into_iter().all(|process| match to.take(process) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => false,
                Err(e) => {
                    log::debug(e);
                    true
                }
                Ok(()) => true,
            })
        });
    }
}

/// Kills what is left in the groups of a cell whose keeper has died, and removes them. The caller must hold the
/// keeper's lock.
pub(crate) fn clear(vserver: &VserverName) {
    let Ok(place) = Groups::of(vserver) else {
        // Without control groups there is nothing in them.
        return;
    };
    if let Err(e) = place.end() {
        log::warn(e);
    }
    // It may have let its lock go, and not its group yet. Who goes on to live there keeps it.
    let is_left = || {
        let processes = place.keeper().processes();
        processes.is_ok_and(|living| living.is_empty())
    };
    place.remove(is_left);
}

/// A descriptor by which processes can join the group of the cell of `vserver`; `None` if the cell has no group that
/// this process can see.
pub(crate) fn entrance(vserver: &VserverName) -> Option<Entrance> {
    Groups::of(vserver).ok()?.cell().entrance().ok()
}

/// How many processes below its limit a cell already counts as full: servers have helpers that come and go.
const SPARE: u64 = 8;

/// The processes of a cell against its limit. To be taken before trying something that may need a new process.
#[derive(Debug)]
pub(crate) struct Processes {
    cell: Group,
    /// How often the limit had prevented a new process when this was taken.
    refused: Option<u64>,
}

impl Processes {
    /// The processes of the cell of `vserver`; `None` if the cell has no group.
    pub(crate) fn of(vserver: &VserverName) -> Option<Self> {
        Some(Self::within(Groups::of(vserver).ok()?.cell()))
    }

    fn within(cell: Group) -> Self {
        let refused = refused_processes(&cell);
        Self { cell, refused }
    }

    /// Whether the limit has prevented a new process since then, or is about to.
    pub(crate) fn are_all(&self) -> bool {
        let number = |file: &str| self.cell.read(file).ok()?.trim().parse::<u64>().ok();
        // Without a limit it says "max".
        let full = match (number("pids.current"), number("pids.max")) {
            (Some(current), Some(max)) => current.saturating_add(SPARE) >= max,
            _ => false,
        };
        full || refused_processes(&self.cell) > self.refused
    }
}

/// `max` of pids.events: how often the limit has prevented a new process.
fn refused_processes(cell: &Group) -> Option<u64> {
    let events = cell.read("pids.events").ok()?;
    let mut lines = events.lines();
    lines.find_map(|line| line.strip_prefix("max ")?.parse().ok())
}

/// The message that not all limits are in force because the node lacks these controllers.
pub(crate) fn why_missing(controllers: &[String]) -> String {
    let names: Vec<&str> = controllers.iter().map(String::as_str).collect();
    let bound = cgroup::bound_to_version_1(&names).unwrap_or_default();
    let (names, why) = match bound.is_empty() {
        true => (&names, "not there, or not passed on to where berth runs"),
        false => (
            &bound,
            "bound to cgroup v1 (boot with systemd.unified_cgroup_hierarchy=1)",
        ),
    };
    let (s, are) = if names.len() > 1 {
        ("s", "are")
    } else {
        ("", "is")
    };
    let list = match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    };
    format!("this node's {list} controller{s} {are} {why}")
}

/// Why limits would not be in force on this node, as far as it can be told without a cell.
pub(crate) fn shortfall() -> Option<String> {
    let have = cgroup::mounted().and_then(|root| Group::at(root).controllers());
    match have {
        Err(e) => Some(e.to_string()),
        Ok(have) => {
            let missing = CONTROLLERS.iter().filter(|c| !have.iter().any(|h| h == *c));
            let missing: Vec<String> = missing.map(|c| (*c).to_owned()).collect();
            (!missing.is_empty()).then(|| why_missing(&missing))
        }
    }
}

/// Ignores that a file does not exist, as the files of a controller that is not enabled.
fn forgive_missing(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A directory that looks like a group with these files, as long as it is there.
    fn group(files: &[(&str, &str)]) -> (TempDir, Group) {
        let directory = tempfile::tempdir().unwrap();
        for (file, text) in files {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        let group = Group::at(directory.path());
        (directory, group)
    }

    #[test]
    fn a_cell_has_all_its_processes_at_its_limit_and_when_one_was_refused() {
        for (current, max, full) in [
            ("10", "64", false),
            ("56", "64", true),
            ("64", "64", true),
            ("64", "max", false),
        ] {
            let files = [
                ("pids.current", current),
                ("pids.max", max),
                ("pids.events", "max 3\n"),
            ];
            let (_directory, cell) = group(&files);
            let processes = Processes::within(cell.clone());
            assert_eq!(processes.are_all(), full, "{current} of {max}");
            std::fs::write(cell.path().join("pids.events"), "max 4\n").unwrap();
            assert!(processes.are_all(), "{current} of {max}, and one refused");
        }
        let none = Group::at("/no/such/group");
        assert!(!Processes::within(none).are_all());
    }

    #[test]
    fn what_refuses_a_weight_leaves_the_limits_in_force() {
        let (_directory, root) = group(&[("cgroup.procs", ""), ("cgroup.subtree_control", "")]);
        for group in ["cell", "repair"].map(|name| root.child(name)) {
            group.make().unwrap();
            for file in ["memory.max", "memory.swap.max"] {
                std::fs::write(group.path().join(file), "").unwrap();
            }
        }
        let place = Groups {
            root: root.clone(),
            parent: root.clone(),
            base: root.clone(),
            scope: Some("berth-no-such-scope.scope".to_owned()),
        };
        let limits = Limits {
            memory_max: "1G".parse().unwrap(),
            cpu_weight: 50.try_into().unwrap(),
            ..Limits::default()
        };
        assert!(place.weigh(&limits).is_err());
        assert!(place.apply(&[], &limits).unwrap().is_empty());
        let limit = |file: &str| place.cell().read(file).unwrap();
        assert_eq!(limit("memory.max"), (1_u64 << 30).to_string());
        assert_eq!(limit("memory.swap.max"), "0");
    }

    #[test]
    fn which_controllers_are_missing_is_said_in_words() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            why_missing(&names)
        };
        assert_eq!(
            of(&["hugetlb-x"]),
            "this node's hugetlb-x controller is not there, or not passed on to where berth runs"
        );
        assert_eq!(
            of(&["a", "b", "c"]),
            "this node's a, b and c controllers are not there, or not passed on to where berth runs"
        );
    }
}
