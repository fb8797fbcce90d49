//! A program of a repair, confined. What it reads from the disk may have been written by an attacker, who may have
//! taken over the program that way.
//!
//! The program has namespaces of its own for mounts, processes, network, IPC and names, no capability, and a limit of
//! memory. Of the machine it has its device, the file that it keeps things in, and programs and libraries to read. PID
//! 1 of its namespace is a process of berth's that waits for it: the kernel spares a PID 1 signals that a program
//! should die of (pid_namespaces(7)).

use std::ffi::CStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::process::{PidfdFlags, Resource, Rlimit};
use rustix::thread::CapabilitySet;

use super::lines::pipe;
use crate::cell::confine::restrict;
use crate::sys::cgroup::set_oom_score;
use crate::sys::{memory, process};
use filter::Filter;
use room::Room;

mod filter;
mod room;

/// The program's rank for the kernel's out-of-memory killer: before all that serves, since a repair can be done again.
const OOM_SCORE: &CStr = c"300";

/// The least limit of the program's address space, in bytes; it is three quarters of the machine's memory if that is
/// more. xfs_repair plans with four fifths of the limit (xfsprogs, repair/xfs_repair.c).
const LEAST_MEMORY: u64 = 512 << 20;

/// What a program is given of the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// The block device, to read and write.
    pub(crate) device: &'a Path,
    /// A file to write, and how long it may become, in bytes.
    pub(crate) kept: Option<(&'a Path, u64)>,
    /// A descriptor that it inherits beside its standard ones.
    pub(crate) inherited: BorrowedFd<'a>,
}

/// A program that runs confined.
#[derive(Debug)]
pub(crate) struct Confined {
    /// PID 1 of the program's namespace: everything in there ends with it.
    child: Child,
    /// The pipe by which PID 1 reports how the program has ended.
    end: fs::File,
}

impl Confined {
    /// Starts `command`, whose standard output and error are pipes.
    ///
    /// # Errors
    /// If the program can't be started, or can't be confined: it does not run then.
    pub(crate) fn start(mut command: Command, given: Given<'_>) -> io::Result<Self> {
        let (end, told) = pipe()?;
        let (why, said) = pipe()?;
        let confinement = Confinement {
            room: Room {
                device: node(given.device),
                kept: given.kept.map(|(path, _)| path.to_owned()),
            },
            device: given.device.to_owned(),
            filter: Filter::new(),
            longest: given.kept.map(|(_, most)| most),
            inherited: given.inherited.as_raw_fd(),
            told,
        };
        let confine = move || {
            // SAFETY: this is between fork and exec. The inherited descriptor is the caller's, who waits for the exec.
            unsafe { confinement.confine() }.inspect_err(|e| {
                // Otherwise only an error number gets through to the parent.
                let _ = rustix::io::write(&said, e.to_string().as_bytes());
            })
        };
        // SAFETY: as of `process::fork`: it takes no lock but the allocator's, and owns the descriptor that it writes
        // to.
        unsafe { command.pre_exec(confine) };
        let child = in_new_processes(|| command.spawn());
        // This closes the writing ends of both pipes.
        drop(command);
        let child = child.map_err(|e| {
            let mut words = String::new();
            let _ = fs::File::from(why).take(1024).read_to_string(&mut words);
            match words.is_empty() {
                true => e,
                // They say more than the number that came with them, which need not be that of the failure.
                false => io::Error::other(format!("confine it: {words}")),
            }
        })?;
        Ok(Self {
            child,
            end: end.into(),
        })
    }

    /// A pidfd that is readable when the program has ended.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn process(&self) -> io::Result<OwnedFd> {
        let pid = rustix::process::Pid::from_child(&self.child);
        Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// The child, if it is still to be reaped.
    pub(crate) fn pid(&mut self) -> Option<Pid> {
        // A child that has ended by now is reaped by this.
        let left = self.child.try_wait().is_ok_and(|status| status.is_none());
        let pid = i32::try_from(self.child.id()).ok()?;
        left.then_some(Pid::from_raw(pid))
    }

    /// How the program has ended, once it has ended with all that it has started.
    ///
    /// # Errors
    /// If what was written could not be flushed to the device.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(of_first) = self.child.try_wait()? else {
            return Ok(None);
        };
        let mut told = [0; 8];
        // If PID 1 was killed, it has reported nothing.
        if self.end.read(&mut told).unwrap_or(0) < told.len() {
            return Ok(Some(of_first));
        }
        let [a, b, c, d, flushed @ ..] = told;
        match i32::from_ne_bytes(flushed) {
            0 => Ok(Some(ExitStatus::from_raw(i32::from_ne_bytes([a, b, c, d])))),
            errno => Err(crate::sys::message(
                io::Error::from_raw_os_error(errno),
                "write out what it has changed",
            )),
        }
    }

    /// Kills the program and all that it has started.
    ///
    /// # Errors
    /// If the program has ended by itself.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }
}

/// The path and number of a device's node, if it exists; if not, the program reports that itself.
fn node(device: &Path) -> Option<(PathBuf, u64)> {
    let found = fs::metadata(device).ok()?;
    let is_device = found.file_type().is_block_device();
    is_device.then(|| (device.to_owned(), found.rdev()))
}

/// Runs `work` with children of this thread born into a PID namespace of their own.
fn in_new_processes<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = fs::File::open("/proc/thread-self/ns/pid")?;
    // This affects children only: this process stays in its own PID namespace.
    unshare(CloneFlags::CLONE_NEWPID)?;
    let result = work();
    if setns(&home, CloneFlags::CLONE_NEWPID).is_err() {
        // Otherwise every later child would be born into a namespace that has ended.
        std::process::abort();
    }
    result
}

/// What is done to a child before it becomes the program.
struct Confinement {
    room: Room,
    device: PathBuf,
    filter: Filter,
    longest: Option<u64>,
    inherited: RawFd,
    told: OwnedFd,
}

impl Confinement {
    /// Gives up whatever the program has no use for, and forks. In the parent, which is PID 1, this does not return; in
    /// the child it does, which is to execute the program.
    ///
    /// # Safety
    /// The calling process has just been forked, and executes a program if this returns: as of `attend`, nothing else
    /// is done in it. `inherited` is open.
    unsafe fn confine(&self) -> io::Result<()> {
        self.limit()?;
        let apart = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        unshare(apart)?;
        self.room.build()?;
        restrict(CapabilitySet::empty())?;
        // For PID 1, too: the program could take it over, so it must have no more rights.
        self.filter.enforce()?;
        rustix::thread::set_name(c"berth-repair")?;
        // SAFETY: this process is the only thread of a fork, so no lock is another one's.
        match unsafe { fork() }? {
            // SAFETY: this one executes nothing, and never returns to what owns its parent's descriptors.
            ForkResult::Parent { child } => unsafe { self.attend(child) },
            ForkResult::Child => {
                // Without that it is not run: whoever has taken it over would have what the keeper has open.
                process::close_on_exec()
                    .map_err(|e| crate::sys::message(e, "keep the keeper's descriptors from it"))?;
                // SAFETY: it is open, as the caller promises, and nobody closes it before the exec.
                let inherited = unsafe { BorrowedFd::borrow_raw(self.inherited) };
                rustix::io::fcntl_setfd(inherited, rustix::io::FdFlags::empty())?;
                Ok(())
            }
        }
    }

    /// Limits how much the program may use of the machine.
    fn limit(&self) -> io::Result<()> {
        // Before the capabilities are given up: this value can be lowered only with them.
        set_oom_score(OOM_SCORE).map_err(|e| crate::sys::message(e, "write oom_score_adj"))?;
        let memory = memory::physical().map(|all| (all / 4 * 3).max(LEAST_MEMORY));
        let limits = [
            (Resource::As, memory),
            // This limits files, not the device. Beyond it a signal kills the program, which must leave no core file
            // either. xfs_repair insists on having no limit.
            (Resource::Fsize, self.longest),
            (Resource::Core, Some(0)),
        ];
        for (resource, most) in limits {
            let Some(most) = most else { continue };
            let most = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            rustix::process::setrlimit(resource, most)?;
        }
        Ok(())
    }

    /// Waits for the program, flushes its device, and reports how the program has ended. Processes that it has left
    /// behind end with this one.
    ///
    /// # Safety
    /// As of [`process::close_all_but`]: this process has been forked to attend to the program and for nothing else.
    unsafe fn attend(&self, program: Pid) -> ! {
        // Among these descriptors is the pipe on which the parent waits for the exec: it must not wait for this
        // process. SAFETY: the caller's promise.
        unsafe { process::close_all_but(&mut [self.told.as_raw_fd()]) };
        let status = loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) if pid == program => break code << 8,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => break signal as i32,
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => process::leave(1),
            }
        };
        let flushed = match fs::File::open(&self.device).and_then(|device| device.sync_all()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => e.raw_os_error().unwrap_or(libc::EIO),
            _ => 0,
        };
        let mut words = [0; 8];
        words[..4].copy_from_slice(&status.to_ne_bytes());
        words[4..].copy_from_slice(&flushed.to_ne_bytes());
        process::leave(i32::from(rustix::io::write(&self.told, &words).is_err()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Stdio;

    use super::*;
    use crate::sys::command::command;

    #[test]
    #[ignore = "needs root"]
    fn a_program_that_can_not_be_confined_is_not_run_and_its_failure_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let stdin = io::stdin();
        let proof = dir.path().join("it-has-run");
        let mut touch = command("/usr/bin/touch");
        touch.arg(&proof);
        touch.stdout(Stdio::null()).stderr(Stdio::null());
        let missing = dir.path().join("not-there");
        let given = Given {
            device: Path::new("/dev/null"),
            kept: Some((&missing, 1)),
            inherited: stdin.as_fd(),
        };
        let error = Confined::start(touch, given).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "no program is missing");
        let why = error.to_string();
        assert!(why.starts_with("confine it: "), "{why}");
        assert_eq!(why.matches("os error").count(), 1, "{why}");
        assert!(!proof.exists());
    }
}
