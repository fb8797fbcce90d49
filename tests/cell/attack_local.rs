//! An account of the node without privileges tries to get at what a virtual server serves, and at berth's processes.

use berth::sys::command;

use crate::groups::Groups;
use crate::node::Node;

/// Prints each attempt that came off.
const ATTEMPTS: &str = r#"
import ctypes, os, signal, socket, sys
keeper, init, vserver, group = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, what):
    try:
        what()
    except (OSError, PermissionError):
        return
    print(name)

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")

def connect(path):
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(path)

attempt("alive", lambda: os.stat("/proc/%d" % init))
attempt("list /run/berth", lambda: os.listdir("/run/berth"))
attempt("connect to the keeper", lambda: connect("/run/berth/%s/keeper.sock" % vserver))
for pid in (keeper, init):
    for name in ("root", "cwd", "exe", "fd", "environ", "mem", "maps", "ns/mnt"):
        path = "/proc/%d/%s" % (pid, name)
        if name in ("fd",):
            attempt("list " + path, lambda: os.listdir(path))
        elif name in ("environ", "mem", "maps"):
            attempt("open " + path, lambda: open(path).read(1))
        else:
            attempt("follow " + path, lambda: os.readlink(path))
    attempt("signal %d" % pid, lambda: os.kill(pid, signal.SIGTERM))
    attempt("trace %d" % pid, lambda: call(libc.ptrace(16, pid, 0, 0)))
    def enter():
        call(libc.setns(os.pidfd_open(pid), 0x00020000))
    attempt("enter %d" % pid, enter)
if group:
    attempt("join the group", lambda: open(group + "/cgroup.procs", "w").write("0"))
    attempt("end the group", lambda: open(group + "/cgroup.kill", "w").write("1"))
"#;

#[test]
#[ignore = "needs root"]
fn a_local_user_reaches_neither_a_cell_nor_its_keeper() {
    let node = Node::new("local");
    let (vserver, device) = (node.vserver('a'), node.disk("ext4"));
    let fs = node.fs(&vserver, &device, "/data");
    fs.run("start").expect(0);
    let keeper = node.process(&vserver, "berth-keeper");
    let init = node.process(&vserver, "berth-init");
    let group = Groups::of(&vserver).child("cell");
    let group = match group.exists() {
        true => group.path().display().to_string(),
        false => String::new(),
    };
    let arguments = [
        keeper.to_string(),
        init.to_string(),
        vserver.to_string(),
        group,
    ];
    let came_off = |user: &str| {
        let mut python = command::command("/usr/bin/setpriv");
        python.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        python.args(["/usr/bin/python3", "-c", ATTEMPTS]);
        let output = python.args(&arguments).output().expect("python");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(came_off("65534"), "alive\n");
    fs.run("monitor").expect(0);
    fs.run("stop").expect(0);
    node.assert_gone(&vserver, &[&device]);
}
