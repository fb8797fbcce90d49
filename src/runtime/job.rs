//! Work that may block, in a child of its own, so that a keeper, a PID 1 or portwatch never does.
//!
//! All of them are single-threaded, so the child of a fork may go on running ordinary code.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{Channel, Received};
use crate::sys::process;

/// What a job ends with: its result, perhaps with a descriptor.
pub(crate) type Outcome<T> = (T, Option<OwnedFd>);

/// A running job with a result of type `T`. Dropping it does not end it: see [`Job::kill`].
#[derive(Debug)]
pub(crate) struct Job<T> {
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
    /// Whatever the kernel refuses; `Unsupported` in a process with several threads.
    pub(crate) fn spawn(name: &CStr, work: impl FnOnce() -> Outcome<T>) -> io::Result<Self> {
        Self::begin(work, |keep, work| fork(name, keep, work))
    }

    fn begin(
        work: impl FnOnce() -> Outcome<T>,
        fork: impl FnOnce(&[&Channel], &mut dyn FnMut() -> i32) -> io::Result<Pid>,
    ) -> io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let mut work = Some(work);
        let pid = fork(&[&there], &mut || {
            let Some((result, fd)) = work.take().map(|work| work()) else {
                return 1;
            };
            i32::from(there.send(&result, fd.as_ref().map(AsFd::as_fd)).is_err())
        })?;
        Ok(Self {
            pid,
            channel: here,
            result: PhantomData,
        })
    }

    /// As [`Job::spawn`], in the harness of tests, which has threads.
    ///
    /// # Safety
    /// As of [`process::fork`], for `work` and for what sends its result.
    #[cfg(test)]
    pub(crate) unsafe fn spawn_for_test(
        name: &CStr,
        work: impl FnOnce() -> Outcome<T>,
    ) -> io::Result<Self> {
        // SAFETY: the caller's promise.
        Self::begin(work, |keep, work| unsafe {
            fork_anyhow(None, name, keep, work)
        })
    }

    /// The child.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The outcome, once it is there. Afterwards the child only remains to be reaped.
    ///
    /// # Errors
    /// If the child ended without one.
    pub(crate) fn outcome(&self) -> Option<io::Result<Outcome<T>>> {
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

    /// Kills the child, whatever it does.
    pub(crate) fn kill(&self) {
        // A failure means that the child has ended by itself.
        let _ = kill(self.pid, Signal::SIGKILL);
    }
}

/// Whether this process has only one thread.
///
/// # Errors
/// If /proc can't be read.
fn has_one_thread() -> io::Result<bool> {
    Ok(fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Forks a child that runs `work` and exits with its result. The child is called `name`, dies when
/// its parent does, has no signal blocked, and of the open descriptors keeps 0 to 2 and `keep`.
///
/// # Errors
/// Whatever the kernel refuses; `Unsupported` in a process with several threads, whose locks might stay locked in the
/// child for ever.
pub(crate) fn fork(name: &CStr, keep: &[&Channel], work: impl FnOnce() -> i32) -> io::Result<Pid> {
    fork_into(None, name, keep, work)
}

/// As [`fork`], with the child in a control group from its first moment; see [`process::fork_into`].
///
/// # Errors
/// As [`fork`].
pub(crate) fn fork_into(
    group: Option<&OwnedFd>,
    name: &CStr,
    keep: &[&Channel],
    work: impl FnOnce() -> i32,
) -> io::Result<Pid> {
    if !has_one_thread()? {
        let text = "a process with several threads can't begin a job";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    // SAFETY: this is the only thread, as was just seen, so nobody can have started another one since.
    unsafe { fork_anyhow(group, name, keep, work) }
}

/// Runs `work` in a child of the harness of tests, which has threads; the child has one. Says whether it ended well.
///
/// # Safety
/// As of [`process::fork`].
#[cfg(test)]
pub(crate) unsafe fn passes_alone(work: impl FnOnce()) -> bool {
    let done = || {
        work();
        0
    };
    // SAFETY: the caller's promise.
    let pid = unsafe { fork_anyhow(None, c"berth-test", &[], done) }.expect("fork");
    matches!(
        waitpid(pid, None),
        Ok(nix::sys::wait::WaitStatus::Exited(_, 0))
    )
}

/// As [`fork_into`], whatever threads there are.
///
/// # Safety
/// As of [`process::fork`], and of [`process::fork_into`] with a group.
unsafe fn fork_anyhow(
    group: Option<&OwnedFd>,
    name: &CStr,
    keep: &[&Channel],
    work: impl FnOnce() -> i32,
) -> io::Result<Pid> {
    let parent = nix::unistd::getpid();
    let child = || {
        let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
        // The parent may have died before the line above; 0 stands for a parent in another
        // PID namespace.
        let now = nix::unistd::getppid();
        if now != parent && now.as_raw() != 0 {
            return 1;
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
        let _ = rustix::thread::set_name(name);
        let kept = keep.iter().map(|channel| channel.as_fd().as_raw_fd());
        let mut kept: Vec<RawFd> = kept.chain(0..=2).collect();
        // SAFETY: what owns the others is the parent's, of which this is a copy: this child leaves without a
        // destructor of theirs, and `work` has been given what it may use.
        unsafe { process::close_all_but(&mut kept) };
        work()
    };
    match group {
        // SAFETY: the caller's promise.
        Some(group) => unsafe { process::fork_into(group.as_fd(), child) },
        // SAFETY: the caller's promise, and what comes before `work` takes no lock but the allocator's.
        None => unsafe { process::fork(child) },
    }
}

/// Reaps `pid` if it has ended. Returns whether there is nothing left to reap.
pub(crate) fn reap(pid: Pid) -> bool {
    !matches!(
        waitpid(pid, Some(WaitPidFlag::WNOHANG)),
        Ok(nix::sys::wait::WaitStatus::StillAlive)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll::wait_readable;
    use std::time::{Duration, Instant};

    fn finish(job: &Job<u32>) -> io::Result<Outcome<u32>> {
        wait_readable(job, Instant::now() + Duration::from_secs(10)).unwrap();
        let outcome = job.outcome().unwrap();
        waitpid(job.pid(), None).unwrap();
        outcome
    }

    /// One that is forked beside the harness's other threads.
    fn spawn(work: impl FnOnce() -> Outcome<u32>) -> Job<u32> {
        // SAFETY: the work of these tests takes no lock, but for panicking, which waits for nobody: the hook is
        // set by no test of this crate that would go on meanwhile.
        unsafe { Job::spawn_for_test(c"berth-test", work) }.unwrap()
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_hands_back_its_result_and_a_descriptor() {
        let open = || (7, Some(std::fs::File::open("/dev/null").unwrap().into()));
        let (result, fd) = finish(&spawn(open)).unwrap();
        assert!(result == 7 && fd.is_some());
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_that_panics_or_is_killed_has_an_error() {
        assert!(finish(&spawn(|| panic!("on purpose"))).is_err());
        let job = spawn(|| {
            loop {
                nix::unistd::pause();
            }
        });
        job.kill();
        assert!(finish(&job).is_err());
    }

    #[test]
    fn a_process_with_threads_begins_no_job() {
        let (send, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv().is_err());
        let job: io::Result<Job<u32>> = Job::spawn(c"berth-test", || (7, None));
        assert_eq!(job.unwrap_err().kind(), io::ErrorKind::Unsupported);
        drop(send);
        assert!(thread.join().unwrap());
    }
}
