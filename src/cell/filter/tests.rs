use std::collections::BTreeMap;

use super::*;

/// What a filter makes of a call: the program run as the kernel runs it (linux/filter.h).
fn run(program: &BpfProgram, arch: u32, number: i64, arguments: [u64; 6]) -> u32 {
    let mut data = vec![];
    data.extend((number as i32).to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    arguments
        .iter()
        .for_each(|argument| data.extend(argument.to_ne_bytes()));
    let (mut a, mut at) = (0_u32, 0_usize);
    loop {
        let step = &program[at];
        let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
        at += 1;
        match step.code {
            0x20 => {
                let from = step.k as usize;
                a = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => a &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(a == step.k),
            0x25 => at += jump(a > step.k),
            0x35 => at += jump(a >= step.k),
            0x06 => return step.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;
/// i386, to the kernel (linux/audit.h).
const I386: u32 = 0x4000_0003;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
    Unknown,
    Killed,
}

fn verdict_on(filter: &Filter, arch: u32, number: i64, arguments: [u64; 6]) -> Verdict {
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    match run(&filter.known, arch, number, arguments) {
        libc::SECCOMP_RET_ALLOW => match run(&filter.told, arch, number, arguments) {
            libc::SECCOMP_RET_ALLOW => Verdict::Allowed,
            libc::SECCOMP_RET_USER_NOTIF => Verdict::Refused,
            other => panic!("{other:#x}"),
        },
        libc::SECCOMP_RET_KILL_PROCESS => Verdict::Killed,
        other if other == unknown => Verdict::Unknown,
        other => panic!("{other:#x}"),
    }
}

fn verdict(filter: &Filter, name: &str, arguments: &[u64]) -> Verdict {
    let number = table::find(name).and_then(|entry| entry.number);
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    verdict_on(filter, ARCH, number.unwrap(), all)
}

fn filter(extra: &[&str]) -> Filter {
    let extra: Vec<Call> = extra.iter().map(|name| name.parse().unwrap()).collect();
    Filter::new(&extra).unwrap()
}

#[test]
fn what_leads_out_of_a_cell_is_refused() {
    let filter = filter(&[]);
    for name in [
        "setns",
        "mount",
        "umount2",
        "fsopen",
        "fsmount",
        "fsconfig",
        "fspick",
        "move_mount",
        "open_tree",
        "open_tree_attr",
        "mount_setattr",
        "pivot_root",
        "chroot",
        "add_key",
        "keyctl",
        "request_key",
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "kexec_load",
        "kexec_file_load",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "pidfd_getfd",
        "init_module",
        "finit_module",
        "delete_module",
        "open_by_handle_at",
        "name_to_handle_at",
        "fanotify_init",
        "swapon",
        "swapoff",
        "reboot",
        "acct",
        "syslog",
        "sethostname",
        "settimeofday",
        "clock_settime",
    ] {
        assert_eq!(verdict(&filter, name, &[]), Verdict::Refused, "{name}");
    }
    for name in [
        "clone3",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "quotactl",
        "quotactl_fd",
    ] {
        assert_eq!(verdict(&filter, name, &[]), Verdict::Unknown, "{name}");
    }
    // Above any that there is; x32's table; and i386's, in which this is exit(2).
    assert_eq!(verdict_on(&filter, ARCH, 5000, [0; 6]), Verdict::Unknown);
    let x32 = 0x4000_0000 | libc::SYS_getpid;
    assert_eq!(verdict_on(&filter, ARCH, x32, [0; 6]), Verdict::Unknown);
    assert_eq!(verdict_on(&filter, ARCH, -1, [0; 6]), Verdict::Unknown);
    assert_eq!(verdict_on(&filter, I386, 1, [0; 6]), Verdict::Killed);
}

#[test]
fn arguments_decide_where_they_should() {
    let filter = filter(&[]);
    let allowed = |name: &str, arguments: &[u64]| {
        let verdict = verdict(&filter, name, arguments);
        assert!(
            matches!(verdict, Verdict::Allowed | Verdict::Refused),
            "{name}: {verdict:?}"
        );
        verdict == Verdict::Allowed
    };
    let namespaces: [u64; 8] = [
        0x2_0000,
        0x0200_0000,
        0x0400_0000,
        0x0800_0000,
        0x1000_0000,
        0x2000_0000,
        0x4000_0000,
        0x80,
    ];
    // A thread's and a child's.
    assert!(allowed("clone", &[0x3d_0f00]) && allowed("clone", &[0x0120_0011]));
    assert!(
        allowed("unshare", &[0x200]) && allowed("unshare", &[0x600]) && allowed("unshare", &[0])
    );
    for flag in namespaces {
        assert!(
            !allowed("unshare", &[flag]) && !allowed("unshare", &[flag | 0x200]),
            "{flag:#x}"
        );
        // In clone, 0x80 is a part of the signal's number.
        assert!(
            flag == 0x80 || !allowed("clone", &[flag | 0x11]),
            "{flag:#x}"
        );
    }
    let high = 1 << 32;
    for (family, protocol, good) in [
        (1, 0, true),
        (2, 0, true),
        (2, 6, true),
        (2, 17, true),
        (2, 1, true),
        (2, 262, true),
        (10, 0, true),
        (10, 58, true),
        (16, 0, true),
        (2 | high, 6 | high, true),
        // SCTP, DCCP, raw; other netlinks; AX.25, AF_PACKET, RDS, CAN, TIPC, AF_ALG, VSOCK, XDP.
        (2, 132, false),
        (2, 33, false),
        (2, 255, false),
        (10, 132, false),
        (16, 9, false),
        (16, 12, false),
        (16, 16, false),
        (3, 0, false),
        (17, 0, false),
        (21, 0, false),
        (29, 0, false),
        (30, 0, false),
        (38, 0, false),
        (40, 0, false),
        (44, 0, false),
        (40 | high, 0, false),
    ] {
        assert_eq!(
            allowed("socket", &[family, 1, protocol]),
            good,
            "{family} {protocol}"
        );
    }
    assert!(allowed("socketpair", &[1]) && !allowed("socketpair", &[30]));
    for (request, good) in [
        (0x5401, true),
        (0x5413, true),
        (0x8910, true),
        (0x5412, false),
        (0x541c, false),
        (0x5423, false),
        (0x5412 | high, false),
    ] {
        assert_eq!(allowed("ioctl", &[0, request]), good, "{request:#x}");
    }
    for (domain, good) in [
        (0, true),
        (0xffff_ffff, true),
        (0x004_0000, false),
        (0x040_0000, false),
        (2, false),
    ] {
        assert_eq!(allowed("personality", &[domain]), good, "{domain:#x}");
    }
    assert!(allowed("prlimit64", &[0, 7]) && !allowed("prlimit64", &[1, 0]));
    // Strict and filter mode, which take rights; not with a listener of its own.
    assert!(
        allowed("seccomp", &[0, 0]) && allowed("seccomp", &[1, 1]) && allowed("seccomp", &[2, 0])
    );
    assert!(!allowed("seccomp", &[1, 8]) && !allowed("seccomp", &[1, 9]));
}

#[test]
fn what_is_allowed_by_name_is_let_through_and_nothing_else() {
    let (plain, more) = (
        filter(&[]),
        filter(&["bpf", "io_uring_setup", "socket", "open_by_handle_at"]),
    );
    let opened: BTreeMap<&str, Verdict> = table::entries()
        .filter(|entry| entry.number.is_some())
        .map(|entry| (entry.name(), verdict(&more, entry.name(), &[40])))
        .filter(|(name, now)| verdict(&plain, name, &[40]) != *now)
        .collect();
    let expected = ["bpf", "io_uring_setup", "open_by_handle_at", "socket"];
    assert_eq!(opened, expected.map(|name| (name, Verdict::Allowed)).into());
}

// Recorded where all of these calls exist.
#[cfg(target_arch = "x86_64")]
#[test]
fn what_the_servers_were_seen_to_call_is_let_through() {
    let recorded = include_str!("../../../tests/fixtures/calls.txt");
    let nfs = ["open_by_handle_at", "name_to_handle_at"];
    let mut servers = 0;
    for line in recorded.lines().filter(|line| !line.starts_with('#')) {
        let (server, calls) = line.split_once(": ").unwrap();
        let filter = filter(if server == "nfs" { &nfs } else { &[] });
        // With the arguments that were seen of those that depend on them.
        let seen: &[(&str, &[&[u64]])] = &[
            (
                "socket",
                &[&[1, 1, 0], &[2, 2, 0], &[2, 1, 6], &[10, 1, 6], &[16, 3, 0]],
            ),
            ("clone", &[&[0x3d_0f00], &[0x0120_0011]]),
            ("unshare", &[&[0x200]]),
            ("socketpair", &[&[1, 1, 0]]),
            (
                "ioctl",
                &[
                    &[0, 0x5401],
                    &[0, 0x5413],
                    &[0, 0x541b],
                    &[0, 0x8933],
                    &[0, 0x8946],
                    &[0, 0x4004_9409],
                ],
            ),
        ];
        for call in calls.split(' ') {
            let arguments = seen.iter().find(|(name, _)| *name == call);
            for arguments in arguments.map_or(&[&[] as &[u64]] as &[_], |(_, all)| all) {
                let verdict = verdict(&filter, call, arguments);
                // The C library makes do with clone, and Samba without quotas.
                let expected = match call {
                    "clone3" | "quotactl" => Verdict::Unknown,
                    _ => Verdict::Allowed,
                };
                assert_eq!(verdict, expected, "{server}: {call} {arguments:x?}");
            }
        }
        servers += 1;
    }
    assert_eq!(servers, 6);
}

/// Makes a call without arguments that fails: its error.
fn error_of(number: i64) -> Option<i32> {
    // SAFETY: no call that is made like this here does anything without arguments.
    match unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) } {
        -1 => io::Error::last_os_error().raw_os_error(),
        _ => None,
    }
}

#[test]
#[ignore = "needs root"]
fn a_kernel_without_filters_is_told_of_and_nothing_runs_without_one() {
    let work = || {
        let none = BTreeMap::from([(libc::SYS_seccomp, vec![])]);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        let kernel = SeccompFilter::new(none, SeccompAction::Allow, missing, arch).unwrap();
        check_kernel().unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(kernel).unwrap()).unwrap();
        let why = check_kernel().unwrap_err().to_string();
        assert!(why.starts_with("the kernel has no filters of system calls"));
        assert!(filter(&[]).install().is_err() && filter(&[]).install_told().is_err());
    };
    // SAFETY: it takes no lock but the allocator's.
    assert!(unsafe { crate::runtime::job::passes_alone(work) });
}

#[test]
#[ignore = "needs root"]
fn where_nobody_can_be_told_the_calls_are_refused_all_the_same() {
    let work = || {
        rustix::thread::set_no_new_privs(true).unwrap();
        // As in a container whose engine has a listener of its own.
        let all = vec![end(libc::SECCOMP_RET_ALLOW)];
        put_on(&all, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).unwrap();
        assert!(filter(&[]).install_told().unwrap().is_none());
        assert_eq!(error_of(libc::SYS_bpf), Some(libc::EPERM));
        assert_eq!(error_of(libc::SYS_io_uring_setup), Some(libc::ENOSYS));
        assert_eq!(error_of(libc::SYS_getppid), None);
    };
    // SAFETY: it takes no lock but the allocator's.
    assert!(unsafe { crate::runtime::job::passes_alone(work) });
}

fn end(action: u32) -> seccompiler::sock_filter {
    seccompiler::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: action,
    }
}
