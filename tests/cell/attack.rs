//! What a server that was taken over may try is refused at its first step, and said.

use berth::types::VserverName;
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use crate::node::{LIMIT, Node, eventually, inside, sh};

/// The numbers of the calls that the script makes, for the architecture of this test.
const CALLS: [(&str, i64); 18] = [
    ("unshare", libc::SYS_unshare),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("mount", libc::SYS_mount),
    ("fsopen", libc::SYS_fsopen),
    ("setns", libc::SYS_setns),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("socket", libc::SYS_socket),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("seccomp", libc::SYS_seccomp),
];

/// What comes of each attempt, from within any server that runs the script.
const EXPECTED: [(&str, &str); 40] = [
    ("unshare", "EPERM"),
    ("clone", "EPERM"),
    ("clone3", "ENOSYS"),
    ("mount", "EPERM"),
    ("fsopen", "EPERM"),
    ("setns", "EPERM"),
    ("keyctl user", "EPERM"),
    ("keyctl session", "EPERM"),
    ("add_key", "EPERM"),
    ("request_key", "EPERM"),
    ("socket vsock", "EAFNOSUPPORT"),
    ("socket packet", "EAFNOSUPPORT"),
    ("socket algorithms", "EAFNOSUPPORT"),
    ("socket audit", "EAFNOSUPPORT"),
    ("socket netfilter", "EAFNOSUPPORT"),
    ("socket sctp", "EAFNOSUPPORT"),
    ("socket tipc", "EAFNOSUPPORT"),
    ("socket tcp", "succeeds"),
    ("socket udp6", "succeeds"),
    ("socket unix", "succeeds"),
    ("socket routes", "succeeds"),
    ("io_uring_setup", "ENOSYS"),
    ("ptrace", "EPERM"),
    ("process_vm_readv", "EPERM"),
    ("bpf", "EPERM"),
    ("perf_event_open", "EPERM"),
    ("userfaultfd", "EPERM"),
    ("open_by_handle_at", "EPERM"),
    ("listener", "EPERM"),
    ("no such call", "ENOSYS"),
    ("prlimit64", "EPERM"),
    ("memory of PID 1", "EACCES"),
    ("environment of PID 1", "EACCES"),
    ("root of PID 1", "EACCES"),
    ("files of PID 1", "EACCES"),
    ("namespace of PID 1", "EACCES"),
    ("unlink null", "EROFS"),
    ("make fifo", "EROFS"),
    ("rename null", "EXDEV"),
    ("signals", "sent"),
];

/// And on machines that have these ways.
const EXPECTED_ON_X86: [(&str, &str); 2] = [("x32", "ENOSYS"), ("i386", "SIGSYS")];

/// Puts the script where a cell sees it and can't write.
fn put_script() {
    sh("mount -t tmpfs none /opt && mkdir /opt/own");
    let mut calls: Vec<String> = CALLS
        .iter()
        .map(|(name, number)| format!("{name:?}: {number}"))
        .collect();
    calls.push(format!("\"prlimit64\": {}", libc::SYS_prlimit64));
    let text = format!(
        "CALLS = {{{}}}\n{}",
        calls.join(", "),
        include_str!("attack.py")
    );
    fs::write("/opt/own/attack.py", text).expect("a script");
}

/// What came of the attempts, once they are all made.
#[track_caller]
fn outcome(vserver: &VserverName, path: &str) -> BTreeMap<String, String> {
    let read = || inside(vserver, &format!("cat {path}"));
    eventually("the attempts are made", || read().1.ends_with("done\n"));
    let text = read().1;
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

#[track_caller]
fn check(outcome: &BTreeMap<String, String>) {
    let on_x86: &[(&str, &str)] = match cfg!(target_arch = "x86_64") {
        true => &EXPECTED_ON_X86,
        false => &[],
    };
    let expected = EXPECTED.iter().chain(on_x86);
    let wrong: Vec<_> = expected
        .filter(|(name, expected)| outcome.get(*name).is_none_or(|came| came != expected))
        .map(|(name, expected)| (name, expected, outcome.get(*name)))
        .collect();
    assert!(wrong.is_empty(), "attempt, expected, came: {wrong:#?}");
    assert_eq!(outcome["shared memory"], "succeeds");
    assert_eq!(outcome["write null"], "succeeds");
}

#[test]
#[ignore = "needs root"]
fn a_command_is_refused_what_leads_out_of_its_cell_and_the_log_names_it() {
    let node = Node::new("attack");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    put_script();
    let fs = node.fs(&vserver, &device, "/data");
    let servers = node.servers(&vserver, "none").parameter(
        "command",
        "sh -c 'python3 /opt/own/attack.py /data/outcome; sleep 1000'",
    );
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    check(&outcome(&vserver, "/data/outcome"));
    // PID 1 has taken no harm, and goes on.
    servers.run("monitor").expect(0);
    let opened = ["bpf", "ptrace", "open_by_handle_at", "socket"];
    let closed = [
        "unshare", "clone", "mount", "fsopen", "setns", "keyctl", "add_key", "seccomp",
    ];
    eventually("the log names all", || {
        let log = node.logged();
        let mut all = opened.iter().chain(&closed);
        all.all(|call| log.contains(&format!("command 1: refused {call} (process ")))
    });
    let log = node.logged();
    let named = |call: &str| {
        let refused = format!("command 1: refused {call} (process ");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&refused)).collect();
        // Once, however often it is tried in a minute.
        assert_eq!(lines.len(), 1, "{call}: {lines:?}");
        lines[0].to_owned()
    };
    for call in opened {
        assert!(named(call).ends_with(", allow_calls would allow it)"));
    }
    for call in closed {
        assert!(!named(call).contains("allow_calls"));
    }
    for quiet in ["refused clone3", "refused io_uring_setup"] {
        assert!(!log.contains(quiet), "{quiet}");
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn file_servers_are_refused_the_same() {
    let node = Node::new("refuse");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    put_script();
    // As root, with all that smbd itself may.
    let own = "root preexec = python3 /opt/own/attack.py /data/outcome\n";
    fs::write("/opt/own/smb.conf", own).expect("a file of the admin's");
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*")
        .parameter("smb_share", "data");
    let servers = node
        .servers(&vserver, "nfs smb")
        .parameter("config_dir", "/opt/own");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let berth = env!("CARGO_BIN_EXE_berth");
    sh(&format!(
        "(echo secret; echo secret) | {berth} exec {vserver} -- smbpasswd -c /run/berth/smb.conf -s -a root"
    ));
    let list = "smbclient //127.0.0.1/data -U root%secret -c ls";
    eventually("the share is used", || inside(&vserver, list).0);
    check(&outcome(&vserver, "/data/outcome"));
    eventually("the log names a call", || {
        node.logged().contains("smb: refused unshare (process ")
    });
    // Each thread of each server has both parts of the filter.
    let states = "cd /proc && for p in [0-9]*; do case $(cat $p/comm) in *smbd*|*ganesha*) \
                  cat $p/task/*/status | grep -E '^(Name|NoNewPrivs|Seccomp|Seccomp_filters):' ;; esac; done";
    let (_, states) = inside(&vserver, states);
    let threads = states.matches("Name:").count();
    assert!(
        states.contains("ganesha") && states.contains("smbd") && threads > 10,
        "{states}"
    );
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2", "Seccomp_filters:\t2"] {
        assert_eq!(states.matches(line).count(), threads, "{line} in {states}");
    }
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn what_allow_calls_names_is_let_through() {
    let node = Node::new("allow");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    put_script();
    let fs = node.fs(&vserver, &device, "/data");
    let command = "sh -c 'python3 /opt/own/attack.py /data/outcome; sleep 1000'";
    let servers = node
        .servers(&vserver, "none")
        .parameter("command", command)
        .parameter("allow_calls", "open_by_handle_at socket");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let outcome = outcome(&vserver, "/data/outcome");
    // The kernel itself judges it now: there is nothing in the handle.
    assert_eq!(outcome["open_by_handle_at"], "EINVAL");
    assert_eq!(outcome["socket audit"], "succeeds");
    assert_eq!(outcome["unshare"], "EPERM");
    servers.run("stop").expect(0);
    for (value, words) in [
        ("bpf ptrcae", ["ptrcae", "did you mean ptrace?"]),
        ("mount", ["mount", "can't be allowed"]),
    ] {
        let wrong = servers.clone().parameter("allow_calls", value);
        wrong.run("start").expect(6).expect_reason(&words);
        wrong.run("validate-all").expect(6).expect_reason(&words);
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_refused_calls_keeps_nobody_else_waiting() {
    let node = Node::new("flood");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    sh("mount -t tmpfs none /opt");
    let script = format!(
        "import ctypes, os\nfor _ in range(4): os.fork()\nopen(\"/data/begun\", \"w\")\n\
         while True: ctypes.CDLL(None).syscall({})\n",
        libc::SYS_bpf
    );
    fs::write("/opt/flood.py", script).expect("a script");
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("nfs_clients", "*");
    let servers = node
        .servers(&vserver, "nfs")
        .parameter("command", "python3 /opt/flood.py");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    eventually("the flood", || inside(&vserver, "test -e /data/begun").0);
    eventually("it is seen", || node.logged().contains("refused bpf"));
    let begun = Instant::now();
    for _ in 0..5 {
        let deep = servers.clone().variable("OCF_CHECK_LEVEL", "10");
        deep.run("monitor").expect(0);
    }
    assert!(begun.elapsed() < LIMIT);
    assert_eq!(node.logged().matches("refused bpf").count(), 1);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
