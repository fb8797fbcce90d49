//! Who uses a block device on this node, as far as the kernel shows it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Device, sysfs};
use crate::plan::holding::Use;
use crate::sys::mounted::{self, Block, Namespace};

/// The kernel's own tree.
const SYS: &str = "/sys";

/// The virtual server of a cell, as its PID 1 names it; `None` if no process is left in the cell.
pub(crate) type Owner<'a> = &'a dyn Fn(&Namespace) -> Option<String>;

impl Device {
    /// The use of the device, as far as it can be seen. `own` are the virtual servers whose cell counts as the
    /// resource's own; `owner` finds the virtual server of a cell.
    ///
    /// # Errors
    /// If the mount tables can't be read.
    pub fn seen(&self, own: &[&str], owner: Owner<'_>) -> io::Result<Use> {
        let namespaces = mounted::namespaces()?;
        Ok(self.seen_in(&namespaces, own, owner))
    }

    /// As [`Device::seen`], from mount tables that were read already.
    pub(crate) fn seen_in(&self, namespaces: &[Namespace], own: &[&str], owner: Owner<'_>) -> Use {
        let sys = Path::new(SYS);
        let mut seen = Use {
            built_on: self.swap().or_else(|| self.part_of()),
            file_system: sysfs::has_file_system(sys, &self.kernel_name()),
            ..Use::default()
        };
        let block = self.block();
        for namespace in namespaces {
            let Some(entry) = namespace.mounts_of(&block).next() else {
                continue;
            };
            let place = entry.target.display();
            let process = namespace.processes.first().copied().unwrap_or_default();
            if !namespace.is_cell() {
                let text = match is_here(process) {
                    true => format!("mounted at {place}"),
                    false => format!("mounted at {place} of process {}", describe(process)),
                };
                seen.mounted.get_or_insert(text);
                continue;
            }
            match owner(namespace) {
                Some(vserver) if !own.contains(&vserver.as_str()) => {
                    let text = format!("mounted at {place} in the cell of {vserver}");
                    seen.other_cell.get_or_insert(text);
                }
                Some(vserver) => {
                    let who = describe(process);
                    let text = format!("mounted at {place} in the cell of {vserver}, by {who}");
                    seen.cell.get_or_insert(text);
                }
                None => {
                    let who = describe(process);
                    let text = format!("mounted at {place} in an unknown cell, by {who}");
                    seen.cell.get_or_insert(text);
                }
            }
        }
        let nobody = seen.cell.is_none() && seen.other_cell.is_none() && seen.mounted.is_none();
        if nobody && seen.built_on.is_none() {
            let opener = self.opener(namespaces, false);
            seen.open = opener.map(|process| format!("open by process {process}"));
        }
        seen
    }

    /// As it is looked for in mount tables.
    pub(crate) fn block(&self) -> Block<'_> {
        Block {
            number: self.number,
            path: &self.path,
        }
    }

    /// The kernel's name for it; of one that has vanished, its node's.
    pub(crate) fn kernel_name(&self) -> String {
        sysfs::kernel_name(Path::new(SYS), self.number).unwrap_or_else(|| {
            let name = self.path.strip_prefix("/dev").unwrap_or(&self.path);
            name.to_string_lossy().into_owned()
        })
    }

    /// What the device is part of, in words, by the kernel; `None` if nothing is built on it.
    pub(crate) fn part_of(&self) -> Option<String> {
        sysfs::part_of(Path::new(SYS), self.number)
    }

    fn swap(&self) -> Option<String> {
        let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
        let mut names = swaps.lines().filter_map(|l| l.split(' ').next());
        let path = self.path.to_str();
        names
            .any(|name| Some(name) == path)
            .then(|| "in use as swap".to_owned())
    }

    /// A process that has it open for writing, in words: the disks of virtual machines are told by it, which
    /// claim nothing. Not this process, and none in a cell, where there are no block devices.
    pub fn writer(&self, namespaces: &[Namespace]) -> Option<String> {
        self.opener(namespaces, true)
    }

    /// A process that has it open, for writing if `writing`, as for [`Device::writer`].
    fn opener(&self, namespaces: &[Namespace], writing: bool) -> Option<String> {
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        let outside = namespaces.iter().filter(|n| !n.is_cell());
        let mut processes = outside.flat_map(|n| &n.processes);
        let has_it = |process: &&i32| {
            let fds = fs::read_dir(format!("/proc/{process}/fd"));
            let mut fds = fds.into_iter().flatten().flatten();
            **process != me && fds.any(|fd| self.is_open(&fd.path(), writing))
        };
        processes.find(has_it).map(|process| describe(*process))
    }

    fn is_open(&self, fd: &Path, writing: bool) -> bool {
        // Only what is called like a device is looked at: a file may lie on a server that does not answer.
        let is_named = fs::read_link(fd).is_ok_and(|to| to.starts_with("/dev") || to == self.path);
        let is_it = || {
            fs::metadata(fd)
                .is_ok_and(|m| m.file_type().is_block_device() && m.rdev() == self.number)
        };
        is_named && is_it() && (!writing || is_for_writing(fd))
    }
}

/// Whether the descriptor `/proc/PID/fd/N` is open for writing.
fn is_for_writing(fd: &Path) -> bool {
    let info = fd
        .parent()
        .and_then(Path::parent)
        .zip(fd.file_name())
        .and_then(|(process, n)| fs::read_to_string(process.join("fdinfo").join(n)).ok());
    let flags = info
        .as_deref()
        .and_then(|i| i.lines().find_map(|l| l.strip_prefix("flags:")))
        .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Whether a process is in the caller's mount namespace.
pub(crate) fn is_here(process: i32) -> bool {
    let of = |task: &str| fs::metadata(format!("/proc/{task}/ns/mnt")).map(|m| m.ino());
    matches!((of("thread-self"), of(&process.to_string())), (Ok(a), Ok(b)) if a == b)
}

/// A process by its number and name.
pub(crate) fn describe(process: i32) -> String {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    match name.trim() {
        "" => process.to_string(),
        name => format!("{process} ({name})"),
    }
}
