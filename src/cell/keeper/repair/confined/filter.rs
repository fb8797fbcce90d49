//! What the kernel answers a program of a repair: a filter of system calls (seccomp(2)).
//!
//! No capability is left to the program, so this is about what needs none: namespaces of users, in which it would
//! have all of them again, sockets, keys, and memory that no limit counts.

use std::io;

use libc::c_long;
use seccompiler::sock_filter;

/// The architecture whose calls are let through (linux/audit.h): another one's numbers mean other calls.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Places in `struct seccomp_data` (linux/seccomp.h): the call, the architecture, and the lower halves of the first
/// two arguments, on machines that begin with it.
const NUMBER: u32 = 0;
const WHOSE: u32 = 4;
const FIRST: u32 = 16;
const SECOND: u32 = 24;

/// Flags of clone(2) that make a namespace.
const NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// Requests of ioctl(2) that take CAP_SYS_ADMIN (linux/fs.h): to flush the device's cache, which is done in the
/// program's stead when it has ended, and to set the size of its blocks, which is about speed. xfs_repair gives up
/// where it is refused either.
const FLUSH: u32 = 0x1261;
const SET_BLOCK_SIZE: u32 = 0x4008_1271;

/// The request that puts words into a terminal (asm-generic/ioctls.h).
const STUFF: u32 = 0x5412;

/// Calls that no program of a repair has a use for.
const REFUSED: [c_long; 56] = [
    // The tree of files.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // Namespaces and other processes.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Other machines, and other processes of this one.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_semget,
    // Keys, which belong to a user, not to a namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Memory beside the address space. Not memfd_create: xfs_repair puts what it rebuilds into such files.
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    // The kernel itself, and parts of it that are known for their holes.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// A filter, ready to be put into force.
#[derive(Debug)]
pub(crate) struct Filter(Vec<sock_filter>);

impl Filter {
    /// The one for a program of a repair.
    pub(crate) fn new() -> Self {
        let refuse = answer(libc::EPERM);
        let mut steps = vec![load(WHOSE)];
        // Its own goes on, over the answer to all others.
        steps.extend([
            jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
            give(libc::SECCOMP_RET_KILL_PROCESS),
        ]);
        steps.push(load(NUMBER));
        // The numbers of x32, a second set of the same architecture (asm/unistd.h).
        #[cfg(target_arch = "x86_64")]
        steps.extend(on(libc::BPF_JGE, 0x4000_0000, refuse));
        // Its flags lie in memory, where no filter sees them; the C library makes do with clone.
        steps.extend(on(
            libc::BPF_JEQ,
            number(libc::SYS_clone3),
            answer(libc::ENOSYS),
        ));
        for call in REFUSED {
            steps.extend(on(libc::BPF_JEQ, number(call), refuse));
        }
        let flags = on(libc::BPF_JSET, NAMESPACES, refuse);
        steps.extend(within(libc::SYS_clone, FIRST, &[flags]));
        let requests = [
            on(libc::BPF_JEQ, FLUSH, answer(0)),
            on(libc::BPF_JEQ, SET_BLOCK_SIZE, answer(0)),
            on(libc::BPF_JEQ, STUFF, refuse),
        ];
        steps.extend(within(libc::SYS_ioctl, SECOND, &requests));
        steps.push(give(libc::SECCOMP_RET_ALLOW));
        Self(steps)
    }

    /// Puts it into force, for this process and all that come of it, which get no new rights any more.
    ///
    /// # Errors
    /// If the kernel has no such filters.
    pub(crate) fn enforce(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.0).map_err(|e| match e {
            seccompiler::Error::Prctl(e) | seccompiler::Error::Seccomp(e) => e,
            e => io::Error::other(e),
        })
    }
}

/// Of the numbers that the C library knows none is negative or beyond 32 bits.
const fn number(call: c_long) -> u32 {
    call as u32
}

/// The answer with this error number, or 0 for a call that is taken for done.
const fn answer(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

const fn load(place: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, place, 0, 0)
}

const fn give(answer: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, answer, 0, 0)
}

/// Goes over `yes` steps if the test is true of what was loaded, else over `no`.
const fn jump(test: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_K | test, value, yes, no)
}

/// Answers where the test is true of what was loaded.
const fn on(test: u32, value: u32, answer: u32) -> [sock_filter; 2] {
    [jump(test, value, 0, 1), give(answer)]
}

/// For this call alone: tests of an argument, then leave.
fn within(call: c_long, argument: u32, tests: &[[sock_filter; 2]]) -> Vec<sock_filter> {
    let mut body = vec![load(argument)];
    body.extend(tests.concat());
    body.push(give(libc::SECCOMP_RET_ALLOW));
    // There are a few tests at the most.
    let over = u8::try_from(body.len()).unwrap_or(u8::MAX);
    body.insert(0, jump(libc::BPF_JEQ, number(call), 0, over));
    body
}
