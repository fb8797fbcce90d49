//! A program that repairs, in the hands of whoever has made the file system that it reads: what it can't do.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use berth::cell::state::VolumePhase;

use crate::disk::mark_damaged;
use crate::node::{Node, await_good, eventually, monitor, sh};

/// What stands in for e2fsck: each attempt says a line of what came of it. Arguments: what it is to reach for.
const ATTACKER: &str = r#"#!/usr/bin/python3
import ctypes, errno, mmap, os, socket, sys
TCP, KEEPER, SECRET, NUMBER = "@TCP@", @KEEPER@, "@SECRET@", @NUMBER@
libc = ctypes.CDLL(None, use_errno=True)
device, kept = sys.argv[-1], sys.argv[sys.argv.index("-z") + 1]

def attempt(name, what):
    try:
        print(name + ": done", what(), flush=True)
    except OSError as e:
        print(name + ": refused", errno.errorcode[e.errno], flush=True)
    except MemoryError:
        print(name + ": refused ENOMEM", flush=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def open_for(path, flags):
    os.close(os.open(path, flags))

def create_in(directory):
    os.close(os.open(directory, os.O_WRONLY | os.O_TMPFILE, 0o600))

def node(path):
    os.mknod(path, 0o600 | 0o060000, NUMBER)
    open_for(path, os.O_RDONLY)

def reach(family, address):
    s = socket.socket(family)
    s.settimeout(5)
    s.connect(address)

def allocate():
    held = []
    while True:
        held.append(mmap.mmap(-1, 1 << 28, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        if len(held) << 28 > @MEMORY@:
            return "more than the machine has"

attempt("shadow", lambda: open_for("/etc/shadow", os.O_RDONLY))
attempt("secret", lambda: open_for(SECRET, os.O_RDONLY))
attempt("disk by its path", lambda: open_for("@DISK@", os.O_RDONLY))
for place in ["/tmp/disk", "/run/disk", os.path.dirname(kept) + "/disk"]:
    attempt("disk at " + place, lambda: node(place))
attempt("tcp", lambda: reach(socket.AF_INET, ("127.0.0.1", int(TCP))))
attempt("abstract", lambda: reach(socket.AF_UNIX, "\0@NAME@"))
attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
attempt("keeper", lambda: os.kill(KEEPER, 0))
for place in ["/", "/usr", "/etc", "/tmp", "/run", "/dev", os.path.dirname(kept)]:
    attempt("file in " + place, lambda: create_in(place))
attempt("log", lambda: open_for(os.path.dirname(kept) + "/log", os.O_RDWR))
attempt("unlink", lambda: os.unlink(kept))
attempt("core_pattern", lambda: open_for("/proc/sys/kernel/core_pattern", os.O_WRONLY))
attempt("sysfs", lambda: os.listdir("/sys/block"))
attempt("mount", lambda: call("mount", b"x", b"/usr/games", b"tmpfs", 0, None))
attempt("remount", lambda: call("mount", b"x", b"/usr", None, 32 | 4096, None))
attempt("user namespace", lambda: call("unshare", 0x10000000))
attempt("user namespace by clone", lambda: call("syscall", @CLONE@, 0x10000000 | 17, 0, 0, 0, 0))
attempt("priority", lambda: os.nice(-5))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))
with open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
    attempt("oom", lambda: score.write(b"-500"))
attempt("keys", lambda: call("syscall", @KEYCTL@, 11, -4, 0, 0))
attempt("memory", allocate)
attempt("trace", lambda: call("syscall", @PTRACE@, 0, 0, 0, 0))
own = os.open(device, os.O_RDWR | os.O_EXCL)
attempt("device", lambda: (os.pwrite(own, b"repaired", 512), os.fsync(own)))
attempt("kept", lambda: open(kept, "w").write("kept"))
print("score", open("/proc/self/oom_score_adj").read().strip(), flush=True)
print("processes", [p for p in os.listdir("/proc") if p.isdigit()], flush=True)
print("etc", sorted(os.listdir("/etc")), flush=True)
os.close(own)
told = sys.argv[sys.argv.index("-C") + 1]
open_now = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)]
print("open beside the progress", sorted(fd for fd in open_now if fd != told), flush=True)
for line in open("/proc/self/status"):
    if line.startswith(("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp:")):
        print(line.replace("\t", " ").strip(), flush=True)
"#;

/// The log of the one repair that there was.
fn log() -> String {
    sh("cat /var/lib/berth/repair/*/*/log")
}

#[test]
#[ignore = "needs root"]
fn a_program_that_a_file_system_has_taken_over_reaches_nothing_but_its_device() {
    let node = Node::new("taken");
    let vserver = node.vserver('a');
    let (device, other) = (node.disk("ext4"), node.disk("ext4"));
    mark_damaged(&device);
    // Somebody whose keeper there is already.
    let first = node.fs(&vserver, &other, "/first");
    first.run("start").expect(0);
    let keeper = node.process(&vserver, "berth-keeper");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let name = SocketAddr::from_abstract_name(vserver.as_str()).expect("a name");
    let _abstract = UnixListener::bind_addr(&name).expect("a listener");
    fs::write("/run/secret", "secret").expect("a secret");
    let number = sh(&format!("stat -c '%Hr %Lr' {other}"));
    let (major, minor) = number.trim().split_once(' ').expect("two numbers");
    let memory = sh("awk '/^MemTotal/ {print $2 * 1024}' /proc/meminfo");
    let port = tcp.local_addr().expect("its address").port();
    let attacker = [
        ("@TCP@", port.to_string()),
        ("@KEEPER@", keeper.to_string()),
        ("@SECRET@", "/run/secret".to_owned()),
        ("@NUMBER@", format!("os.makedev({major}, {minor})")),
        ("@DISK@", other.clone()),
        ("@NAME@", vserver.to_string()),
        ("@MEMORY@", memory.trim().to_owned()),
        ("@CLONE@", libc::SYS_clone.to_string()),
        ("@KEYCTL@", libc::SYS_keyctl.to_string()),
        ("@PTRACE@", libc::SYS_ptrace.to_string()),
    ]
    .into_iter()
    .fold(ATTACKER.to_owned(), |text, (what, with)| {
        text.replace(what, &with)
    });
    node.put_in_place("/usr/sbin/e2fsck", &attacker);
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    await_good("its repair has ended", &fs);
    let log = log();
    let mut attempts = 0;
    for line in log
        .lines()
        .filter(|l| l.contains(": refused ") || l.contains(": done "))
    {
        let wanted = ["device: done", "kept: done"];
        let is_well = wanted.iter().any(|w| line.starts_with(w)) || line.contains(": refused ");
        assert!(is_well, "{line}\n{log}");
        attempts += 1;
    }
    assert_eq!(attempts, 33, "{log}");
    assert!(!log.contains("Traceback"), "{log}");
    for line in [
        "score 300",
        "CapEff: 0000000000000000",
        "CapPrm: 0000000000000000",
        "CapBnd: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "processes ['1', '2']",
        "open beside the progress ['0', '1', '2']",
    ] {
        assert!(log.lines().any(|l| l == line), "{line}\n{log}");
    }
    assert_eq!(
        sh(&format!(
            "dd if={device} bs=512 skip=1 count=1 status=none | head -c 8"
        )),
        "repaired"
    );
    assert!(Path::new(&format!("/proc/{keeper}")).exists());
    fs.run("stop").expect(0);
    first.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device, &other]);
}

/// What stands in for e2fsck: it leaves a child behind that has the device, in a session of its own. `@REST@` is what
/// it does then.
const LEAVES_A_CHILD: &str = r#"#!/usr/bin/python3
import os, sys, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    device = os.open(sys.argv[-1], os.O_RDWR | os.O_EXCL)
    os.write(writer, b"x")
    time.sleep(600)
os.read(reader, 1)
print("the child has it", flush=True)
@REST@
"#;

#[test]
#[ignore = "needs root"]
fn nothing_is_left_of_a_repair_that_has_ended_or_is_ended() {
    let node = Node::new("left");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    for (rest, ends) in [("sys.exit(0)", true), ("time.sleep(600)", false)] {
        mark_damaged(&device);
        node.put_in_place("/usr/sbin/e2fsck", &LEAVES_A_CHILD.replace("@REST@", rest));
        fs.run("start").expect(0);
        eventually("the child has the device", || {
            log().contains("the child has it")
        });
        if ends {
            // The mount claims it, as the child did.
            await_good("it is in service", &fs);
        }
        fs.run("stop").expect(0);
        node.assert_gone(&vserver, &[&device]);
        sh("umount /usr/sbin/e2fsck && rm -r /var/lib/berth/repair/*");
    }
}

/// Children of this process that have ended and were not reaped.
fn unreaped(parent: i32) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let dead = format!(") Z {parent} ");
    stats.filter(|stat| stat.contains(&dead)).collect()
}

#[test]
#[ignore = "needs root"]
fn a_repair_that_is_ended_leaves_no_child_of_the_keeper_s() {
    let node = Node::new("reap");
    let vserver = node.vserver('a');
    let (good, bad) = (node.disk("ext4"), node.disk("ext4"));
    mark_damaged(&bad);
    node.slow_down("/usr/sbin/e2fsck", 600.0);
    let (one, two) = (
        node.fs(&vserver, &good, "/data"),
        node.fs(&vserver, &bad, "/more"),
    );
    one.run("start").expect(0);
    two.run("start").expect(0);
    let is_repaired = |phase: &VolumePhase| matches!(phase, VolumePhase::Repairing(_));
    node.await_phase(&vserver, "/more", is_repaired);
    monitor(&two).run("monitor").expect(190);
    let keeper = node.process(&vserver, "berth-keeper");
    two.run("stop").expect(0);
    eventually("its child was reaped", || unreaped(keeper).is_empty());
    one.run("monitor").expect(0);
    one.run("stop").expect(0);
    node.assert_gone(&vserver, &[&good, &bad]);
}
