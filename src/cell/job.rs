//! Work that may block, in a child of its own, so that a keeper or a PID 1 never does.
//!
//! Both are single-threaded, so the child of a fork may go on running ordinary code.

use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, Received};

/// What a job ends with: its result, perhaps with a descriptor.
pub type Outcome<T> = (T, Option<OwnedFd>);

/// A running job with a result of type `T`. Dropping it does not end it: see [`Job::kill`].
#[derive(Debug)]
pub struct Job<T> {
    pid: Pid,
    channel: Channel,
    result: PhantomData<T>,
}

impl<T> AsFd for Job<T> {
    /// Readable when the outcome is there.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl<T: Serialize + DeserializeOwned> Job<T> {
    /// Starts `work` in a child named `name`, which dies with this process.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub fn spawn(name: &CStr, work: impl FnOnce() -> Outcome<T>) -> io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let pid = fork(name, &[&there], || {
            let (result, fd) = work();
            i32::from(there.send(&result, fd.as_ref().map(AsFd::as_fd)).is_err())
        })?;
        Ok(Self {
            pid,
            channel: here,
            result: PhantomData,
        })
    }

    /// The child.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The outcome, once it is there. Afterwards the child only remains to be reaped.
    ///
    /// # Errors
    /// If the child ended without one.
    pub fn outcome(&self) -> Option<io::Result<Outcome<T>>> {
        match self.channel.receive() {
            Ok(Received::Nothing) => None,
            Ok(Received::Message(result, fd)) => Some(Ok((result, fd))),
            Ok(Received::Closed) => {
                let text = "ended before its work was done";
                Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)))
            }
            Err(e) => Some(Err(e)),
        }
    }

    /// Ends the child, whatever it does.
    pub fn kill(&self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

/// Forks a child that runs `work` and exits with its result. The child is called `name`, dies when
/// its parent does, has no signal blocked, and of the open descriptors keeps 0 to 2 and `keep`.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn fork(name: &CStr, keep: &[&Channel], work: impl FnOnce() -> i32) -> io::Result<Pid> {
    let parent = nix::unistd::getpid();
    // SAFETY: the process has one thread, so the child finds every lock as the parent left it.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _exit = ExitOnUnwind;
            let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
            // The parent may have died before the line above; 0 stands for a parent in another
            // PID namespace.
            let now = nix::unistd::getppid();
            if now != parent && now.as_raw() != 0 {
                exit(1);
            }
            let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
            let _ = rustix::thread::set_name(name);
            close_others(keep.iter().map(|c| c.as_fd().as_raw_fd()).collect());
            exit(work())
        }
    }
}

/// Reaps `pid` if it has ended; says whether there is nothing left to reap.
pub fn reap(pid: Pid) -> bool {
    !matches!(
        waitpid(pid, Some(WaitPidFlag::WNOHANG)),
        Ok(nix::sys::wait::WaitStatus::StillAlive)
    )
}

/// A panic must not unwind into the parent's loop, which the child has a copy of.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit(101);
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit never returns and runs nothing of this process, which is what a forked child
    // wants: its parent's buffers and handlers are not its own.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from 3 on that is not in `keep`.
pub fn close_others(mut keep: Vec<RawFd>) {
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        close_range(first, fd - 1);
        first = fd + 1;
    }
    close_range(first, RawFd::MAX);
}

fn close_range(first: RawFd, last: RawFd) {
    if first <= last {
        // SAFETY: descriptors are closed whose owners are never dropped in this process: it either
        // has just been forked and leaves by _exit, or has just been executed and owns none.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::channel::wait_readable;
    use std::time::{Duration, Instant};

    fn finish(job: &Job<u32>) -> io::Result<Outcome<u32>> {
        wait_readable(job, Instant::now() + Duration::from_secs(10)).unwrap();
        let outcome = job.outcome().unwrap();
        waitpid(job.pid(), None).unwrap();
        outcome
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_hands_back_its_result_and_a_descriptor() {
        let open = || (7, Some(std::fs::File::open("/dev/null").unwrap().into()));
        let job = Job::spawn(c"berth-test", open).unwrap();
        let (result, fd) = finish(&job).unwrap();
        assert!(result == 7 && fd.is_some());
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_that_panics_or_is_killed_has_an_error() {
        let job = Job::spawn(c"berth-test", || panic!("on purpose")).unwrap();
        assert!(finish(&job).is_err());
        let job = Job::spawn(c"berth-test", || {
            loop {
                nix::unistd::pause();
            }
        })
        .unwrap();
        job.kill();
        assert!(finish(&job).is_err());
    }
}
