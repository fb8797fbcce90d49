//! The CIB, through Pacemaker's own tools: read, verified, and changed by a patch that only fits the
//! version it was made for.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::element::Element;
use crate::sys::command::{run, run_with_input};
use crate::sys::program::command;

const CIBADMIN: &str = "cibadmin";
const CRM_DIFF: &str = "crm_diff";
const CRM_VERIFY: &str = "crm_verify";

/// cibadmin's exit code for a patch made for an older version (CRM_EX_OLD).
const OLD: i32 = 103;
/// What cibadmin says, with exit code 1, about a patch made for a newer version, or for one of the same
/// number that is not the same (pcmk_err_diff_failed, pcmk_err_diff_resync).
const NOT_FITTING: &str = "update diff failed";

/// A CIB: that of the running cluster, or one in a file.
#[derive(Debug, Clone, Default)]
pub struct Cib {
    /// The file, absolute; `None` for the running cluster.
    pub file: Option<PathBuf>,
}

/// How an attempt to change the CIB ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// It is changed.
    Done,
    /// Somebody changed it since it was read: nothing was done.
    Outdated,
}

impl Cib {
    fn tool(&self, program: &str) -> io::Result<Command> {
        let mut command = command(program)?;
        if let Some(file) = &self.file {
            command.env("CIB_file", file);
        }
        Ok(command)
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Pacemaker does not answer, or what it answers is no CIB.
    pub fn read(&self, deadline: Instant) -> io::Result<Element> {
        let mut query = self.tool(CIBADMIN)?;
        query.arg("--query");
        let text = run(query, deadline)?.check("read the CIB")?.text();
        let cib = Element::parse(&text).map_err(|e| failed("read the CIB", e))?;
        if cib.name != "cib" {
            return Err(failed("read the CIB", format_args!("found <{}>", cib.name)));
        }
        Ok(cib)
    }

    /// Lets Pacemaker judge a configuration before it is loaded.
    ///
    /// # Errors
    /// It breaks the schema or a rule; the text is crm_verify's.
    pub fn verify(&self, cib: &Element, deadline: Instant) -> io::Result<()> {
        // Without the state of the cluster, of which crm_verify would complain too: what is removed
        // still runs.
        let mut alone = cib.clone();
        alone.child_mut("status").children.clear();
        let mut verify = command(CRM_VERIFY)?;
        verify.args(["--verbose", "--xml-pipe"]);
        let output = run_with_input(verify, alone.to_string().as_bytes(), deadline)?;
        let words = String::from_utf8_lossy(&output.stderr);
        let mut errors = words.lines().filter_map(|line| line.split_once("error:"));
        match errors.next() {
            Some((_, error)) => Err(failed("verify the new configuration", error.trim())),
            None if output.status.success() || words.contains("Warnings found") => Ok(()),
            None => output.check("verify the new configuration").map(drop),
        }
    }

    /// Changes the configuration from that in `before`, as it was read, to that in `after`, in one step
    /// or not at all.
    ///
    /// # Errors
    /// A tool fails, or Pacemaker refuses the change for another reason than its age.
    pub fn load(&self, before: &Element, after: &Element, deadline: Instant) -> io::Result<Loaded> {
        let Some(patch) = patch(before, after, deadline)? else {
            return Ok(Loaded::Done);
        };
        let mut cibadmin = self.tool(CIBADMIN)?;
        cibadmin.args(["--patch", "--xml-pipe"]);
        let output = run_with_input(cibadmin, patch.to_string().as_bytes(), deadline)?;
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(OLD) || words.contains(NOT_FITTING) {
            return Ok(Loaded::Outdated);
        }
        output.check("change the CIB").map(|_| Loaded::Done)
    }
}

/// What makes `after` of `before`, in the form of `cibadmin --patch`; `None` if they are the same.
fn patch(before: &Element, after: &Element, deadline: Instant) -> io::Result<Option<Element>> {
    let epoch: u64 = before
        .get("epoch")
        .and_then(|e| e.parse().ok())
        .unwrap_or(0);
    let (mut before, mut after) = (before.clone(), after.clone());
    after.set("epoch", epoch + 1);
    after.set("num_updates", 0);
    for cib in [&mut before, &mut after] {
        cib.child_mut("status").children.clear();
    }
    let (before, after) = (in_memory(&before)?, in_memory(&after)?);
    let mut diff = command(CRM_DIFF)?;
    diff.args([
        "--cib",
        "--original",
        &path_of(&before),
        "--new",
        &path_of(&after),
    ]);
    let output = run(diff, deadline)?;
    match output.status.code() {
        // Like diff(1).
        Some(0) => return Ok(None),
        Some(1) => {}
        _ => {
            output.check("compare the configurations")?;
            return Ok(None);
        }
    }
    let mut patch =
        Element::parse(&output.text()).map_err(|e| failed("read crm_diff's patch", e))?;
    // It is a digest of the whole CIB, of which this is only a part.
    patch.attributes.retain(|(name, _)| name != "digest");
    // The state of the cluster is in the CIB too and changes all the time, which this counts. The patch
    // does not touch it, so it fits as long as the configuration is the same.
    let source = patch.child_mut("version").child_mut("source");
    source.attributes.retain(|(name, _)| name != "num_updates");
    Ok(Some(patch))
}

fn failed(what: &str, why: impl Display) -> io::Error {
    io::Error::other(format!("{what}: {why}"))
}

/// A file without a name, for a tool that wants one: nothing is left behind, whatever happens.
fn in_memory(element: &Element) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("cib", rustix::fs::MemfdFlags::CLOEXEC)?;
    let text = element.to_string();
    let mut left = text.as_bytes();
    while !left.is_empty() {
        let written = rustix::io::write(&fd, left)?;
        left = &left[written..];
    }
    Ok(fd)
}

/// Where another process can open it, from its start.
fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
}
