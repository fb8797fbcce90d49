//! `berth exec`: what a program of the administrator's has in a cell, and what it has not.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::Instant;

use berth::cell::{confine, service};
use berth::sys::command::command;
use berth::types::VserverName;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pty::OpenptFlags;
use rustix::termios::{self, Winsize};

use crate::node::{LIMIT, Node, eventually, inside, sh, try_sh};
use crate::thread::in_cell;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// A terminal, as a person has one: the test types at its near end.
struct Person {
    near: fs::File,
    far: OwnedFd,
    seen: String,
}

impl Person {
    fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let near = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::unlockpt(&near).expect("its other end");
        let far = rustix::pty::ioctl_tiocgptpeer(&near, flags).expect("its other end");
        let size = Winsize {
            ws_row: 33,
            ws_col: 77,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        termios::tcsetwinsize(&near, size).expect("a size");
        Self {
            near: near.into(),
            far,
            seen: String::new(),
        }
    }

    /// Runs a shell line as a person who sits there.
    fn run(&self, line: &str) -> Child {
        let end = || Stdio::from(self.far.try_clone().expect("a descriptor"));
        let mut shell = command("/bin/sh");
        shell.args(["-c", line]);
        shell.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both are system calls.
        unsafe {
            shell.pre_exec(|| {
                rustix::process::setsid()?;
                Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?)
            });
        }
        shell.spawn().expect("a shell")
    }

    /// Waits until this is shown.
    #[track_caller]
    fn sees(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.seen.contains(text) {
            let mut fds = [PollFd::new(self.near.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut fds, PollTimeout::from(100_u8)).expect("poll");
            assert!(
                Instant::now() < deadline,
                "{text:?} is not in {:?}",
                self.seen
            );
            let mut piece = [0; 4096];
            if ready > 0 {
                let length = self.near.read(&mut piece).expect("what is shown");
                self.seen += &String::from_utf8_lossy(&piece[..length]);
            }
        }
    }

    fn types(&mut self, keys: &str) {
        self.near.write_all(keys.as_bytes()).expect("keys");
    }
}

#[test]
#[ignore = "needs root"]
fn a_program_has_a_server_s_rights_and_nothing_of_its_caller_s() {
    let node = Node::new("exec");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let exec = |line: &str| {
        try_sh(&format!(
            "exec 7</etc/shadow; {BERTH} exec {vserver} -- {line}"
        ))
    };
    let (_, status) = exec("cat /proc/self/status");
    // Chown, override, read and search, owner, fsetid, setgid, setuid and bind.
    for line in [
        "CapPrm:\t00000000000004df",
        "CapBnd:\t00000000000004df",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let (_, files) = exec("ls /proc/self/fd");
    assert!(!files.contains('7'), "{files}");
    assert_eq!(
        exec("cat /proc/self/oom_score_adj"),
        (true, "0\n".to_owned())
    );
    let (good, text) = exec("unshare --user true");
    assert!(!good && text.contains("berth: refused unshare\n"), "{text}");
    // What has to be done in a cell still can be.
    let (good, text) =
        exec("sh -c 'touch /data/x && chown 1000 /data/x && stat -c %u /data/x && hostname'");
    assert!(good && text == format!("1000\n{vserver}\n"), "{text}");
    let code = |line: &str| sh(&format!("{BERTH} exec {vserver} -- {line} || echo $?"));
    assert_eq!(code("sh -c 'exit 7'"), "7\n");
    assert_eq!(code("sh -c 'kill -9 $$'"), "137\n");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_program_with_full_rights_has_no_more_of_its_caller_s() {
    let node = Node::new("whole");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let exec = |line: &str| {
        try_sh(&format!(
            "exec 7</etc/shadow; {BERTH} exec --privileged {vserver} -- {line}"
        ))
    };
    let (_, status) = exec("cat /proc/self/status");
    let own = sh("grep CapPrm /proc/self/status");
    assert!(
        status.contains(&own) && status.contains("Seccomp:\t0"),
        "{status}"
    );
    assert!(!exec("ls /proc/self/fd").1.contains('7'));
    // KEYCTL_GET_KEYRING_ID of the session's, made where there is none.
    let ask = format!(
        "python3 -c 'import ctypes; print(ctypes.CDLL(None).syscall({}, 0, -3, 1))'",
        libc::SYS_keyctl
    );
    let (good, keyring) = exec(&ask);
    assert!(good && keyring.trim() != sh(&ask).trim(), "{keyring}");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_program_at_a_terminal_has_one_of_its_own() {
    let node = Node::new("tty");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    // Not by its name: in a cell there is no /dev/pts.
    let script = "import fcntl, os\nprint(\"rdev\", os.fstat(0).st_rdev, os.get_terminal_size(), flush=True)\n\
         try: fcntl.ioctl(0, 0x5412, b\"x\")\n\
         except OSError as e: print(\"typing\", e.errno, flush=True)\n\
         print(\"got\", input(), flush=True)";
    sh("mount -t tmpfs none /opt");
    fs::write("/opt/ask.py", script).expect("a script");
    // Not a shell, which may lose a signal while it starts a program; nor Python's own handler, which has it pause for
    // ever when the signal comes just before that.
    let wait = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n\
         print(\"here\", flush=True)\nsignal.pause()\n";
    fs::write("/opt/wait.py", wait).expect("a script");
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let mut person = Person::new();
    let before = termios::tcgetattr(&person.far).expect("settings");
    let number = rustix::fs::fstat(&person.far).expect("a terminal").st_rdev;
    let mut child = person.run(&format!(
        "{BERTH} exec {vserver} -- python3 /opt/ask.py; echo over $?"
    ));
    person.sees("rdev");
    person.sees("columns=77, lines=33");
    person.sees("typing 1\r\n");
    assert!(
        !person.seen.contains(&format!("rdev {number} ")),
        "{}",
        person.seen
    );
    person.sees("berth: refused ioctl");
    person.types("hello\r");
    person.sees("got hello");
    person.sees("over 0");
    child.wait().expect("its end");
    let after = termios::tcgetattr(&person.far).expect("settings");
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    // A key that interrupts reaches the program, and the terminal is as it was again.
    person.seen.clear();
    let mut child = person.run(&format!(
        "{BERTH} exec {vserver} -- python3 /opt/wait.py; echo over $?"
    ));
    person.sees("here");
    person.types("\x03");
    person.sees("over 130");
    child.wait().expect("its end");
    let after = termios::tcgetattr(&person.far).expect("settings");
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

#[test]
#[ignore = "needs root"]
fn a_terminal_that_a_pipe_leads_to_stays_as_it_is() {
    let node = Node::new("pipe");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let script = "import sys\nprint(\"here\", flush=True)\n\
         for line in sys.stdin: print(\"got\", repr(line), flush=True)\n\
         print(\"end\", flush=True)";
    sh("mount -t tmpfs none /opt");
    fs::write("/opt/lines.py", script).expect("a script");
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let mut person = Person::new();
    let settings = |person: &Person| {
        let now = termios::tcgetattr(&person.far).expect("settings");
        format!("{now:?}")
    };
    let before = settings(&person);
    let mut child = person.run(&format!(
        "{BERTH} exec {vserver} -- python3 /opt/lines.py | cat; echo over"
    ));
    person.sees("here");
    assert_eq!(settings(&person), before);
    person.types("hello\r");
    person.sees("got 'hello\\n'\r\n");
    // The last line without its end: it takes two.
    person.types("last\x04");
    person.sees("last");
    person.types("\x04\x04");
    person.sees("got 'last'");
    person.sees("end\r\nover");
    child.wait().expect("its end");
    assert_eq!(settings(&person), before);
    // What is typed is shown once, and what the program says of it.
    assert_eq!(person.seen.matches("hello").count(), 2, "{}", person.seen);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}

/// Opens, as a server could that is taken over, what the processes of a cell have open as standard streams, in every
/// way, and gives it away. Says what of it is on the file system `device`.
fn reach_for_streams(vserver: &VserverName, device: u64) -> Vec<String> {
    in_cell(vserver, || {
        // Those of a `command`, and so of a program of `berth exec`.
        confine::restrict(service::CAPABILITIES).expect("fewer rights");
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let streams =
            processes.flat_map(|entry| [0, 1, 2].map(|n| entry.path().join(format!("fd/{n}"))));
        let reached = streams.filter(|stream| {
            let is_there = fs::metadata(stream).is_ok_and(|found| found.dev() == device);
            if is_there {
                let opened = fs::OpenOptions::new().write(true).open(stream);
                let _ = opened.and_then(|mut file| file.write_all(b"evil"));
                let _ = chown(stream, Some(1000), None);
            }
            is_there
        });
        reached.map(|path| path.display().to_string()).collect()
    })
}

#[test]
#[ignore = "needs root"]
fn a_caller_s_files_are_out_of_reach_of_the_servers() {
    let node = Node::new("files");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    // With a device that is the test's own.
    sh("mount -t tmpfs none /opt && cd /opt && echo asked >in && mknod null c 1 3");
    let number = fs::metadata("/opt/in").expect("it").dev();
    let files = "</opt/in >/opt/out 2>/opt/err";
    for (rights, streams) in [
        ("", files),
        ("--privileged", files),
        ("", "</opt/null >/opt/null 2>&1"),
    ] {
        let mut caller = node.shell(&format!(
            "echo; {BERTH} exec {rights} {vserver} -- sh -c 'cat; echo here; echo there >&2; touch /tmp/here; \
             until test -e /tmp/go; do sleep 0.01; done; rm /tmp/go /tmp/here' {streams}"
        ));
        eventually("it runs", || inside(&vserver, "test -e /tmp/here").0);
        assert_eq!(reach_for_streams(&vserver, number), [""; 0], "{streams}");
        assert!(inside(&vserver, "touch /tmp/go").0);
        assert!(caller.wait().expect("its end").success());
        let seen = sh("cd /opt && cat in out err && stat -c %u in out err null");
        assert_eq!(seen, "asked\nasked\nhere\nthere\n0\n0\n0\n0\n");
    }
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    sh("umount /opt");
}

#[test]
#[ignore = "needs root"]
fn a_caller_s_files_are_read_and_written_whole() {
    let node = Node::new("whole2");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    sh("mount -t tmpfs none /opt && cd /opt && seq 300000 >in && printf '1\n2\n3\n' >lines");
    let run = |line: &str| {
        try_sh(&format!(
            "cd /opt; alias x='{BERTH} exec {vserver} --'\n{line}"
        ))
    };
    assert!(run("x cat <in >out && cmp in out").0);
    // Lines of both stay in their order.
    let both = "x sh -c 'for n in 1 2 3; do echo o$n; echo e$n >&2; done' >out 2>&1; cat out";
    assert_eq!(run(both).1, "o1\ne1\no2\ne2\no3\ne3\n");
    assert!(run("x sh -c 'exit 3' >>out; test $? = 3").0);
    // What is not read is left to the caller.
    let lines = "while read -r line; do x echo got $line; done <lines";
    assert_eq!(run(lines).1, "got 1\ngot 2\ngot 3\n");
    // What is left behind has nobody wait.
    assert!(run("x sh -c 'sleep 1000 & echo over' >out 2>&1; grep over out").0);
    assert!(inside(&vserver, "pkill -x sleep").0);
    let (good, text) = run("x seq 100000 >/dev/full");
    assert!(!good && text.contains("No space left on device"), "{text}");
    let (good, text) = run("x cat </opt");
    assert!(!good && text.contains("Is a directory"), "{text}");
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
    sh("umount /opt");
}

#[test]
#[ignore = "needs root"]
fn a_user_s_password_for_smb_is_typed_at_a_terminal() {
    let node = Node::new("pass");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node
        .fs(&vserver, &device, "/data")
        .parameter("smb_share", "data");
    let servers = node.servers(&vserver, "smb");
    fs.run("start").expect(0);
    servers.run("start").expect(0);
    let mut person = Person::new();
    let mut child = person.run(&format!(
        "{BERTH} exec {vserver} -- smbpasswd -c /run/berth/smb.conf -a root; echo over $?"
    ));
    for _ in 0..2 {
        person.sees("SMB password:");
        person.seen.clear();
        person.types("a secret\r");
    }
    person.sees("over 0");
    assert!(!person.seen.contains("a secret") && !person.seen.contains("refused"));
    child.wait().expect("its end");
    let list = "smbclient //127.0.0.1/data -U 'root%a secret' -c ls";
    assert!(inside(&vserver, list).0);
    servers.run("stop").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
