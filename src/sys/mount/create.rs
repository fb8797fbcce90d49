//! A file system's superblock, created and mounted without a place.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, fsconfig_create, fsconfig_create_exclusive, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::Options;
use super::names::Names;
use super::words::KernelLog;
use crate::plan::repair::FsKind;
use crate::sys::device::Device;

/// The step at which a mount has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The kernel does not know this type of file system.
    Kernel,
    /// The kernel has refused an option; nothing was read from the device.
    Option,
    /// The device was read, or was to be.
    Mount,
}

/// Why a file system could not be mounted.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {what}: {reason}", reason = self.in_full())]
pub(crate) struct Failure {
    /// The kernel's error number.
    pub(crate) errno: i32,
    /// The step that has failed.
    pub(crate) step: Step,
    /// The messages of the file system and of the kernel's log about it, the cause first.
    pub(crate) words: Vec<String>,
    place: String,
    what: String,
}

impl Failure {
    /// The reason in the kernel's words, in short: what it said first, or its error number's text where it
    /// said nothing. All of it is what this failure is shown as.
    pub(crate) fn said(&self) -> String {
        let first = self.words.first().cloned();
        first.unwrap_or_else(|| io::Error::from_raw_os_error(self.errno).to_string())
    }

    fn in_full(&self) -> String {
        let errno = io::Error::from_raw_os_error(self.errno);
        match self.words.as_slice() {
            [] => errno.to_string(),
            words => format!("{errno}: {}", words.join("; ")),
        }
    }
}

/// Creates a detached mount of the file system on `device`, without device nodes and set-user-ID.
///
/// This replays a journal and can wait long for the device: it is to be called where waiting does
/// no harm. A superblock that is in use already, here or in another namespace, is never shared.
///
/// # Errors
/// The step that failed.
pub(crate) fn create(kind: FsKind, device: &Device, options: &Options) -> Result<OwnedFd, Failure> {
    let log = KernelLog::from_now();
    let place = format!("{kind} on {}", device.path.display());
    let failure = |errno: Errno, step, what: String, words| Failure {
        errno: errno.raw_os_error(),
        step,
        words,
        place: place.clone(),
        what,
    };
    let context = fsopen(kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| {
        failure(
            e,
            Step::Kernel,
            format!("this kernel has no {kind}"),
            vec![],
        )
    })?;
    let refuse = |what: String| {
        let context = &context;
        let failure = &failure;
        move |e| failure(e, Step::Option, what.clone(), read_log(context))
    };
    fsconfig_set_string(&context, "source", &device.path)
        .map_err(refuse("set the source".to_owned()))?;
    if options.read_only {
        fsconfig_set_flag(&context, "ro").map_err(refuse("option \"ro\"".to_owned()))?;
    }
    for (key, value) in options.for_kernel(kind) {
        match value {
            Some(value) => fsconfig_set_string(&context, key, value),
            None => fsconfig_set_flag(&context, key),
        }
        .map_err(refuse(format!("option {key:?}")))?;
    }
    match fsconfig_create_exclusive(&context) {
        // Kernels before 6.6 know no exclusive creation; the caller has opened the device with
        // O_EXCL before, which leaves only the moment in between.
        Err(Errno::OPNOTSUPP) => fsconfig_create(&context),
        other => other,
    }
    .and_then(|()| {
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            options.attributes(),
        )
    })
    .map_err(|e| {
        let mut words = read_log(&context);
        if let Some(names) = Names::of(device.number) {
            words.extend(log.about(&names));
        }
        failure(e, Step::Mount, "mount".to_owned(), words)
    })
}

/// The messages that a file system left in its context: errors, then warnings, then the rest. Each
/// begins with a letter for its severity.
fn read_log(context: &OwnedFd) -> Vec<String> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut buffer = [0; 1024];
    // The kernel keeps eight messages; each read returns one, then ENODATA.
    while words.len() < 8 {
        let Ok(length) = rustix::io::read(context, &mut buffer) else {
            break;
        };
        let line = String::from_utf8_lossy(&buffer[..length]);
        let (severity, text) = line.trim().split_once(' ').unwrap_or(("i", line.trim()));
        let rank = ["e", "w"].iter().position(|s| *s == severity);
        words.push((rank.unwrap_or(2), text.to_owned()));
    }
    words.sort_by_key(|(rank, _)| *rank);
    words.into_iter().map(|(_, text)| text).collect()
}
