//! The CIB, through Pacemaker's own tools: read, verified, and changed by a patch that only applies to the
//! version for which it was made.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::element::Element;
use super::patch::{Loaded, Patch, Target, Version};
use super::tool::command;
use crate::sys::command::{Output, run, run_with_input};

const CIBADMIN: &str = "cibadmin";
const CRM_DIFF: &str = "crm_diff";
const CRM_VERIFY: &str = "crm_verify";

/// crm_verify's exit code for errors and for mere warnings (CRM_EX_CONFIG).
const CONFIG: i32 = 78;
/// How long a patch that has to fit the cluster's state is tried.
const PATCH_PATIENCE: Duration = Duration::from_secs(20);

/// A CIB: that of the running cluster, or one in a file.
#[derive(Debug, Clone, Default)]
pub struct Cib {
    /// The file, absolute; `None` for the running cluster.
    pub(crate) file: Option<PathBuf>,
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
    pub(crate) fn read(&self, deadline: Instant) -> io::Result<Element> {
        let mut query = self.tool(CIBADMIN)?;
        query.arg("--query");
        self.answer(query, deadline)
    }

    fn answer(&self, query: Command, deadline: Instant) -> io::Result<Element> {
        let text = run(query, deadline)?.check("read the CIB")?.text();
        let cib = Element::parse(&text).map_err(|e| failed("read the CIB", e))?;
        if cib.name != "cib" {
            return Err(failed("read the CIB", format_args!("found <{}>", cib.name)));
        }
        Ok(cib)
    }

    /// Has Pacemaker verify a configuration before it is loaded.
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
        judged(output)
    }

    /// Changes the configuration from the one in `before`, as it was read, to the one in `after`, in one step or not at
    /// all.
    ///
    /// # Errors
    /// A tool fails, or Pacemaker refuses the change for another reason than its age.
    pub(crate) fn load(
        &self,
        before: &Element,
        after: &Element,
        deadline: Instant,
    ) -> io::Result<Loaded> {
        let Some(patch) = patch(before, after, deadline)? else {
            return Ok(Loaded::Done);
        };
        let mut reached = Reached {
            cib: self,
            deadline,
        };
        patch.load(&mut reached, PATCH_PATIENCE)
    }
}

/// A CIB to which patches are sent until `deadline`.
struct Reached<'c> {
    cib: &'c Cib,
    deadline: Instant,
}

impl Target for Reached<'_> {
    fn version(&mut self) -> io::Result<Version> {
        let mut query = self.cib.tool(CIBADMIN)?;
        query.args(["--query", "--no-children"]);
        self.cib
            .answer(query, self.deadline)
            .map(|cib| Version::of(&cib))
    }

    fn send(&mut self, patch: &Element) -> io::Result<Output> {
        let mut cibadmin = self.cib.tool(CIBADMIN)?;
        cibadmin.args(["--patch", "--xml-pipe"]);
        run_with_input(cibadmin, patch.to_string().as_bytes(), self.deadline)
    }
}

/// The verdict in crm_verify's output. Its exit code is the same for errors and for warnings, and its last line differs
/// between releases; each finding begins with its severity.
fn judged(output: Output) -> io::Result<()> {
    const WHAT: &str = "verify the new configuration";
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let mut lines = words.lines().map(str::trim).filter(|l| !l.is_empty());
    let first = lines.clone().next().unwrap_or_default();
    let error = lines.find_map(|line| Some(line.split_once("error:")?.1.trim()));
    match (error, output.status.code()) {
        // What the schema has to say stands before it, without a severity.
        (Some(error), _) if !first.contains("error:") => {
            Err(failed(WHAT, format_args!("{error}: {first}")))
        }
        (Some(error), _) => Err(failed(WHAT, error)),
        (None, Some(CONFIG)) => Ok(()),
        (None, _) => output.check(WHAT).map(drop),
    }
}

/// The patch that turns `before` into `after`; `None` if they are the same.
fn patch(before: &Element, after: &Element, deadline: Instant) -> io::Result<Option<Patch>> {
    let version = Version::of(before);
    let (mut before, mut after) = (before.clone(), after.clone());
    after.set("epoch", version.next_epoch());
    after.set("num_updates", 0);
    // The state of the cluster is in the CIB too; a patch does not touch it.
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
    let patch = Element::parse(&output.text()).map_err(|e| failed("read crm_diff's patch", e))?;
    Ok(Some(Patch::new(version, patch)))
}

fn failed(what: &str, why: impl Display) -> io::Error {
    io::Error::other(format!("{what}: {why}"))
}

/// A file in memory for a tool that wants a file: nothing is left behind, whatever happens.
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

/// The path by which another process can open this descriptor's file.
fn path_of(fd: &OwnedFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: i32, words: &str) -> Result<(), String> {
        judged(Output::recorded(code, "", words)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_configuration_with_mere_warnings_may_be_loaded() {
        for words in [
            // 2.1.5, where the warnings themselves are only told when asked twice.
            "crm_verify: Warnings found during check: config may not be valid\n",
            "(unpack_config) \twarning: Support for stonith-action of 'poweroff' is deprecated\n\
             crm_verify: Warnings found during check: config may not be valid\n",
            // 3.0.0
            "warning: Node n1 is unclean but cannot be fenced\nConfiguration invalid (with warnings)\n",
            // 3.0.2
            "warning: Support for legacy name 'stonith-enabled' for cluster option 'fencing-enabled' is deprecated\n\
             Configuration may need attention\n",
        ] {
            assert_eq!(verdict(78, words), Ok(()), "{words}");
        }
        let blind = "(unpack_config) \twarning: Blind faith: not fencing unseen nodes\n";
        assert_eq!(verdict(0, blind), Ok(()));
    }

    #[test]
    fn one_with_errors_may_not_and_the_first_one_is_told() {
        let bogus = "Resetting 'requires' for a to 'fencing' because 'bogus' is not valid";
        for words in [
            format!(
                "(unpack_requires) \terror: {bogus}\ncrm_verify: Errors found during check: config not valid\n"
            ),
            format!(
                "error: {bogus}\nerror: CIB did not pass schema validation\nConfiguration invalid (with errors)\n"
            ),
            format!("error: {bogus}\nConfiguration invalid\n"),
        ] {
            let expected = format!("verify the new configuration: {bogus}");
            assert_eq!(verdict(78, &words), Err(expected));
        }
        let unknown = "IDREF attribute then references an unknown ID \"nix\"";
        for words in [
            format!(
                "element rsc_order: validity error : {unknown}\n(main) \terror: CIB did not pass schema validation\n"
            ),
            format!(
                "{unknown}\n\nerror: CIB did not pass schema validation\nConfiguration invalid (with errors)\n"
            ),
        ] {
            let error = verdict(78, &words).unwrap_err();
            let begin = "verify the new configuration: CIB did not pass schema validation: ";
            assert!(
                error.starts_with(begin) && error.ends_with(unknown),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tool_that_fails_is_no_verdict() {
        let error = verdict(105, "crm_verify: no such file\n").unwrap_err();
        assert!(error.contains("exit code 105"), "{error}");
    }
}
