//! The filter of system calls (seccomp(2)) for a program of a repair.
//!
//! The program has no capability left, so this refuses what needs none: user namespaces, in which it would have all
//! capabilities again, sockets, keys, and memory that no limit counts.

use std::io;

use libc::c_long;
use seccompiler::sock_filter;

/// The architecture whose calls are allowed (linux/audit.h): on another one the same numbers mean other calls.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// Offsets in `struct seccomp_data` (linux/seccomp.h): the call, the architecture, and the lower halves of the first
/// two arguments on little-endian machines.
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

/// Requests of ioctl(2) that take CAP_SYS_ADMIN (linux/fs.h): to flush the device's cache, which PID 1 does when the
/// program has ended, and to set the size of its blocks, which only affects speed. xfs_repair gives up if either fails,
/// so both are answered with success.
const FLUSH: u32 = 0x1261;
const SET_BLOCK_SIZE: u32 = 0x4008_1271;

/// The request that inserts input into a terminal (asm-generic/ioctls.h).
const STUFF: u32 = 0x5412;

/// System calls that no program of a repair needs.
const REFUSED: [c_long; 56] = [
    // Mounts.
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
    // Communication with other machines, and with other processes of this one.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_semget,
    // Keys, which belong to a user, not to a namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Memory outside the address space. memfd_create is allowed: xfs_repair puts what it rebuilds into such files.
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    // The kernel itself, and parts of it that are known for vulnerabilities.
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
    /// The filter for a program of a repair.
    pub(crate) fn new() -> Self {
        let refuse = answer(libc::EPERM);
        let mut steps = vec![load(WHOSE)];
        // The machine's own architecture skips the refusal, which all others get.
        steps.extend([
            jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
            give(libc::SECCOMP_RET_KILL_PROCESS),
        ]);
        steps.push(load(NUMBER));
        // The numbers of x32, a second set of the same architecture (asm/unistd.h).
        #[cfg(target_arch = "x86_64")]
        steps.extend(on(libc::BPF_JGE, 0x4000_0000, refuse));
        // clone3 has its flags in memory, where no filter sees them; the C library falls back to clone.
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

    /// Puts the filter in force for this process and its descendants, which can't gain privileges any more.
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

/// The number of a system call: none that the C library knows is negative or beyond 32 bits.
const fn number(call: c_long) -> u32 {
    call as u32
}

/// The answer with this error number; 0 answers success without making the call.
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

/// Skips `yes` steps if the test is true of the loaded value, else `no` steps.
const fn jump(test: u32, value: u32, yes: u8, no: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_K | test, value, yes, no)
}

/// Gives the answer if the test is true of the loaded value.
const fn on(test: u32, value: u32, answer: u32) -> [sock_filter; 2] {
    [jump(test, value, 0, 1), give(answer)]
}

/// Tests of an argument of this call alone; if none answers, the call is allowed.
fn within(call: c_long, argument: u32, tests: &[[sock_filter; 2]]) -> Vec<sock_filter> {
    let mut body = vec![load(argument)];
    body.extend(tests.concat());
    body.push(give(libc::SECCOMP_RET_ALLOW));
    // There are a few tests at the most.
    let over = u8::try_from(body.len()).unwrap_or(u8::MAX);
    body.insert(0, jump(libc::BPF_JEQ, number(call), 0, over));
    body
}
