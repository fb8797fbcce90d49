//! Processes: children that go on with this program, and processes that others have started, found by their names.
//!
//! Whoever forks has to uphold something, and so has whoever closes descriptors that it does not own: those functions
//! are unsafe and say what. Whatever else there is to be called in a child is safe.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::unistd::{ForkResult, Pid, Uid};

use super::message;
use super::namespace::{is_alive, open_process};

/// Ends this process at once, and runs nothing of it: no destructor, and no handler of its exit. So a forked child
/// ends, whose buffers, locks and handlers are copies of its parent's.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: _exit takes a number, uses no memory of this process, and does not return.
    unsafe { libc::_exit(code) }
}

/// Forks a child that does `work` and ends with its result, or with 101 if that panics.
///
/// # Errors
/// Whatever the kernel refuses.
///
/// # Safety
/// `work` uses no lock that another thread of this process may hold at this moment: in the child that one would stay
/// locked for ever. Anything will do in a process with one thread; with several `work` makes system calls on memory
/// that is there. The allocator's own lock is an exception, which the C library puts in order in the child.
pub(crate) unsafe fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the caller's promise covers all that the child does.
    let forked = unsafe { nix::unistd::fork() }?;
    Ok(parent_of(forked, work))
}

/// linux/sched.h. What libc has of this name does not fit into its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone(2), `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// As [`fork`], with the child in a control group from its first moment. To move it there afterwards costs some ten
/// milliseconds, for which the kernel waits until no process of the machine is being forked.
///
/// The group must be one in which nobody has been killed by [`Group::kill`](super::cgroup::Group::kill): Linux 6.18,
/// and it seems all since 6.14, kill the child at once there.
///
/// # Errors
/// Whatever the kernel refuses: `Unsupported` where it is kept from the caller, as in some containers.
///
/// # Safety
/// This process has one thread: the C library knows nothing of this fork, and does not put its own locks in order.
pub(crate) unsafe fn fork_into(
    group: BorrowedFd<'_>,
    work: impl FnOnce() -> i32,
) -> io::Result<Pid> {
    let cgroup = u64::try_from(group.as_raw_fd()).map_err(io::Error::other)?;
    let arguments = CloneArguments {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup,
        ..CloneArguments::default()
    };
    // SAFETY: the structure lives through the call and its size is passed along. Without CLONE_VM and without a stack
    // the child goes on with a copy of this process's memory, as that of fork does. What the C library does beside
    // is for processes with several threads, which by the caller's promise this one is not.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<CloneArguments>(),
        )
    };
    let forked = match i32::try_from(pid).map_err(io::Error::other)? {
        0 => ForkResult::Child,
        pid if pid > 0 => ForkResult::Parent {
            child: Pid::from_raw(pid),
        },
        _ => return Err(io::Error::last_os_error()),
    };
    Ok(parent_of(forked, work))
}

/// In the child, does `work` and does not return; in its parent, tells the child.
fn parent_of(forked: ForkResult, work: impl FnOnce() -> i32) -> Pid {
    match forked {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let _end = LeaveOnUnwind;
            leave(work())
        }
    }
}

/// A panic must not unwind into what the parent does next, which the child has a copy of.
struct LeaveOnUnwind;

impl Drop for LeaveOnUnwind {
    fn drop(&mut self) {
        leave(101);
    }
}

/// Closes every descriptor of this process that is not in `keep`, which it sorts. Allocates nothing.
///
/// # Safety
/// Nothing in this process uses or closes one of the others any more, not even a destructor. So it is in a child that
/// has just been forked and does not return to what its parent did, and in a program that has just been executed and
/// has opened none.
pub(crate) unsafe fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep.iter().map(|fd| fd.unsigned_abs()) {
        if first < fd {
            // SAFETY: none of these is kept, and nobody uses the others, as the caller promises.
            unsafe { libc::close_range(first, fd - 1, 0) };
        }
        first = fd + 1;
    }
    // SAFETY: as above.
    unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
}

/// Has every descriptor from 3 on closed when this process executes a program. Until then they all stay open. Makes
/// one system call, so it may be called between fork and exec.
///
/// # Errors
/// If the kernel knows no such thing.
pub(crate) fn close_on_exec() -> io::Result<()> {
    // SAFETY: with this flag nothing is closed, so whoever owns a descriptor finds it open.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as _) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pidfd of the living process called `name` (the kernel keeps 15 bytes of a name) that one of `users` has
/// started and that is in this process's PID namespace: anybody may give a process that name, and a container may
/// have others of it. `None` if there is none.
///
/// # Errors
/// If /proc can't be listed.
pub(crate) fn find(name: &str, users: &[Uid]) -> io::Result<Option<OwnedFd>> {
    let read = |e| message(e, "list the processes");
    let own = fs::read_link("/proc/self/ns/pid").map_err(read)?;
    let called = |pid: i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
            && fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| is_of(&status, users))
    };
    for entry in fs::read_dir("/proc").map_err(read)?.flatten() {
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let Some(pid) = number.filter(|pid| called(*pid)) else {
            continue;
        };
        let Ok(process) = open_process(pid) else {
            continue;
        };
        // Only now the number can't come to mean another process any more.
        let here = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == own);
        if here && called(pid) && is_alive(process.as_fd()) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Whether a process runs in the name of one of `users` and was started by one: of a set-user-ID program others
/// choose the name. The owner of its directory in /proc says neither.
fn is_of(status: &str, users: &[Uid]) -> bool {
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    let Some(ids) = lines.next() else {
        return false;
    };
    let mut real_and_effective = ids.split_whitespace().take(2);
    let known = |id: &str| {
        id.parse()
            .is_ok_and(|id| users.contains(&Uid::from_raw(id)))
    };
    !ids.trim().is_empty() && real_and_effective.all(known)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::sys::command::command;

    /// How a child that does `work` has ended.
    fn end_of(work: impl FnOnce() -> i32) -> nix::sys::wait::WaitStatus {
        // SAFETY: what these tests do in a child takes no lock of another thread's.
        let child = unsafe { fork(work) }.unwrap();
        nix::sys::wait::waitpid(child, None).unwrap()
    }

    #[test]
    fn a_child_ends_with_the_result_of_its_work_and_not_with_its_parents() {
        use nix::sys::wait::WaitStatus;
        assert!(matches!(end_of(|| 7), WaitStatus::Exited(_, 7)));
        // Without a message: the harness would have to take locks for that.
        let unwound = end_of(|| std::panic::resume_unwind(Box::new(())));
        assert!(matches!(unwound, WaitStatus::Exited(_, 101)));
    }

    #[test]
    fn of_all_descriptors_those_stay_open_that_are_kept() {
        let (one, other) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let numbers = [&one, &other].map(AsRawFd::as_raw_fd);
        let is_open = |fd: RawFd| fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
        for keep in [vec![], vec![0, 1], vec![2, 0, 1], vec![0, numbers[1], 1]] {
            let end = end_of(|| {
                let mut kept = keep.clone();
                // SAFETY: this child only looks which are open, and ends.
                unsafe { close_all_but(&mut kept) };
                let all = [0, 1, 2, numbers[0], numbers[1]];
                i32::from(all.iter().any(|fd| is_open(*fd) != keep.contains(fd)))
            });
            assert!(
                matches!(end, nix::sys::wait::WaitStatus::Exited(_, 0)),
                "{keep:?}: {end:?}"
            );
        }
    }

    #[test]
    fn what_is_to_be_closed_at_an_exec_is_open_until_then() {
        let (one, _other) = rustix::pipe::pipe().unwrap();
        let end = end_of(|| {
            let before = rustix::io::fcntl_getfd(&one);
            let marked = close_on_exec().is_ok();
            let after = rustix::io::fcntl_getfd(&one);
            let none = Ok(rustix::io::FdFlags::empty());
            let due = Ok(rustix::io::FdFlags::CLOEXEC);
            i32::from(!marked || before != none || after != due)
        });
        assert!(matches!(end, nix::sys::wait::WaitStatus::Exited(_, 0)));
    }

    #[test]
    fn a_process_is_found_by_its_name_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("berth-t-find-me");
        fs::copy("/bin/sleep", &program).unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        let own = [Uid::from_raw(4_000_000), Uid::current()];
        assert!(find(name, &own).unwrap().is_none());
        let mut child = command(program.to_str().unwrap())
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let found = find(name, &own).unwrap().unwrap();
        assert!(find(name, &own[..1]).unwrap().is_none(), "another's");
        assert!(is_alive(found.as_fd()));
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(found.as_fd()) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        // A process that has ended and was not reaped yet does not count as alive.
        assert!(find(name, &own).unwrap().is_none());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_of_those_who_run_and_have_started_it() {
        let users = [Uid::from_raw(0), Uid::from_raw(189)];
        let is = |ids: &str| is_of(&format!("Name:\tx\nUid:\t{ids}\nGid:\t0\n"), &users);
        assert!(is("0\t0\t0\t0") && is("189\t189\t189\t189") && is("0\t189\t0\t189"));
        assert!(!is("1000\t1000\t1000\t1000") && !is("1000\t0\t0\t0"));
        assert!(!is("") && !is("x") && !is_of("", &users));
    }
}
