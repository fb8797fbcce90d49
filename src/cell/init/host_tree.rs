//! Directory trees of the host as a cell sees them: read-only, and such that nobody in the cell can read files through
//! them that are not readable by everybody.
//!
//! Some servers have root's rights over files, and may open files by handle (CAP_DAC_READ_SEARCH), which NFS needs. A
//! handle leads to any file of the file system, even outside the tree that is shown. So files are shown as owned by
//! nobody, and root's rights do not reach them. If that can't be done, the file system must at least give no handles.

use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;

use crate::log;
use crate::sys::mountinfo;
use crate::sys::{message, mount};

/// How a tree can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// With all files owned by nobody: files that not everybody may read stay closed, inside the tree and outside.
    Nobodys,
    /// As it is: files outside the tree can't be reached, but inside it root's rights hold.
    AsIs,
    /// Not at all: every file on its file system could be reached through it.
    Never,
}

/// Decides how a tree is shown, by whether its owners could be hidden and whether its file system gives handles.
const fn decide(hidden: bool, gives_handles: bool) -> Shown {
    match (hidden, gives_handles) {
        (true, _) => Shown::Nobodys,
        (false, false) => Shown::AsIs,
        (false, true) => Shown::Never,
    }
}

/// The trees of a cell that is being built.
#[derive(Debug)]
pub(crate) struct HostTrees<'a> {
    nobodies: Result<&'a OwnedFd, &'a io::Error>,
    /// The trees that are shown as they are, and why the first of them is.
    as_is: Vec<String>,
    why: Option<String>,
}

impl<'a> HostTrees<'a> {
    /// No trees yet. `nobodies` is the namespace of [`Owners::Hidden`](super::owners::Owners::Hidden), or why there is
    /// none.
    pub(crate) fn new(nobodies: Result<&'a OwnedFd, &'a io::Error>) -> Self {
        Self {
            nobodies,
            as_is: Vec::new(),
            why: None,
        }
    }

    /// A view of the host's directory `path`, without what is mounted below it.
    ///
    /// # Errors
    /// If the directory can't be shown without showing more than it; or whatever the kernel refuses. Names the
    /// directory.
    pub(crate) fn view(&mut self, path: &Path) -> io::Result<OwnedFd> {
        let view = mount::clone_tree(CWD, path)?;
        let hidden = self
            .nobodies
            .map_err(ToString::to_string)
            .and_then(|nobodies| mount::set_owners(&view, nobodies).map_err(|e| e.to_string()));
        let gives_handles = match hidden {
            Ok(()) => true,
            Err(_) => mount::gives_handles(&view).map_err(|e| message(e, path.display()))?,
        };
        match (decide(hidden.is_ok(), gives_handles), hidden) {
            (Shown::AsIs, Err(why)) => {
                self.as_is
                    .push(format!("{} ({})", path.display(), type_at(path)));
                self.why.get_or_insert(why);
            }
            (Shown::Never, Err(why)) => {
                return Err(io::Error::other(refusal(path, &type_at(path), &why)));
            }
            _ => {}
        }
        mount::set_read_only(&view)?;
        Ok(view)
    }

    /// Logs, in one line, the trees whose owners could not be hidden.
    pub(crate) fn warn(&self) {
        let Some(why) = &self.why else { return };
        log::warn(format_args!(
            "the servers can read what is root's alone in the node's {}: {why}",
            self.as_is.join(", ")
        ));
    }
}

/// Why a directory can't be shown: short enough for an exit reason.
fn refusal(path: &Path, fstype: &str, why: impl Display) -> String {
    format!(
        "{} ({fstype}) can't be shown, as file handles lead out of it: {why}",
        path.display()
    )
}

/// The type of the file system that `path` is on, by the mount table.
fn type_at(path: &Path) -> String {
    let find = || -> io::Result<Option<String>> {
        let id = mountinfo::id_of(path)?;
        let table = mountinfo::read_table(Path::new("/proc/self/mountinfo"))?;
        Ok(table.into_iter().find(|e| e.id == id).map(|e| e.fstype))
    };
    let found = find().ok().flatten();
    found.unwrap_or_else(|| "a file system of unknown type".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_shown_so_that_nothing_beyond_it_is_reached() {
        assert_eq!(decide(true, true), Shown::Nobodys);
        assert_eq!(decide(true, false), Shown::Nobodys);
        assert_eq!(decide(false, false), Shown::AsIs);
        assert_eq!(decide(false, true), Shown::Never);
    }

    #[test]
    fn a_tree_that_can_t_be_shown_is_named_with_its_file_system() {
        let text = refusal(Path::new("/usr"), &type_at(Path::new("/proc")), "not here");
        let begin = "/usr (proc) can't be shown, ";
        assert!(
            text.starts_with(begin) && text.ends_with(": not here"),
            "{text}"
        );
    }
}
