# What a program that has taken a server over would try first, each in a child of its own. CALLS has the numbers of
# the system calls. Writes one line for each attempt, "NAME: what came of it", and "done" at the end. None goes on
# when its first step succeeds.
import ctypes, errno, mmap, os, platform, signal, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
out = open(sys.argv[1] + ".new", "w")


def call(name, *arguments):
    number = CALLS[name] if isinstance(name, str) else name
    longs = [a if not isinstance(a, int) else ctypes.c_long(a) for a in arguments]
    longs += [ctypes.c_long(0)] * (6 - len(longs))
    if libc.syscall(ctypes.c_long(number), *longs) >= 0:
        return "succeeds"
    return errno.errorcode[ctypes.get_errno()]


def attempt(name, work):
    near, far = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = work()
        except OSError as e:
            text = errno.errorcode[e.errno]
        os.write(far, str(text).encode())
        os._exit(0)
    os.close(far)
    text = os.read(near, 100).decode()
    os.close(near)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        text = signal.Signals(os.WTERMSIG(status)).name
    out.write(f"{name}: {text}\n")


def i386():
    # mov $20,%eax (getpid); int $0x80; ret
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return "succeeds"


def opened(path, flags=os.O_RDONLY):
    os.open(path, flags)
    return "succeeds"


# All signals that PID 1 of a node could be harmed by.
def signals():
    for number in range(1, 65):
        os.kill(1, number)
    return "sent"


USER, MOUNTS, PIDS = 0x10000000, 0x20000, 0x20000000
buffer = ctypes.create_string_buffer(256)
attempt("unshare", lambda: call("unshare", USER | MOUNTS | PIDS))
attempt("clone", lambda: call("clone", USER | signal.SIGCHLD))
attempt("clone3", lambda: call("clone3", buffer, 64))
attempt("mount", lambda: call("mount", b"proc", b"/tmp", b"proc"))
attempt("fsopen", lambda: call("fsopen", b"proc", 0))
attempt("setns", lambda: call("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0))
# The keyrings of user 0 and of the session; a key is made in one of the process itself at the most.
attempt("keyctl user", lambda: call("keyctl", 11, -4, buffer, 256))
attempt("keyctl session", lambda: call("keyctl", 11, -3, buffer, 256))
attempt("add_key", lambda: call("add_key", b"user", b"x", b"x", 1, -2))
attempt("request_key", lambda: call("request_key", b"user", b"x", None, 0))
for name, family, kind, protocol in [
    ("vsock", 40, 1, 0), ("packet", 17, 3, 0), ("algorithms", 38, 5, 0), ("audit", 16, 3, 9),
    ("netfilter", 16, 3, 12), ("sctp", 2, 1, 132), ("tipc", 30, 1, 0),
]:
    attempt("socket " + name, lambda: call("socket", family, kind, protocol))
for name, family, kind, protocol in [("tcp", 2, 1, 0), ("udp6", 10, 2, 0), ("unix", 1, 1, 0), ("routes", 16, 3, 0)]:
    attempt("socket " + name, lambda: call("socket", family, kind, protocol))
attempt("io_uring_setup", lambda: call("io_uring_setup", 1, buffer))
attempt("ptrace", lambda: call("ptrace", 16, 1, 0, 0))
attempt("process_vm_readv", lambda: call("process_vm_readv", 1, buffer, 1, buffer, 1, 0))
attempt("bpf", lambda: call("bpf", 0, buffer, 64))
attempt("perf_event_open", lambda: call("perf_event_open", buffer, 0, -1, -1, 0))
attempt("userfaultfd", lambda: call("userfaultfd", 1))
attempt("open_by_handle_at", lambda: call("open_by_handle_at", os.open("/usr", os.O_RDONLY), buffer, 0))
attempt("listener", lambda: call("seccomp", 1, 8, buffer))
attempt("no such call", lambda: call(4000))
attempt("prlimit64", lambda: call("prlimit64", 1, 0, buffer, None))
if platform.machine() == "x86_64":
    attempt("x32", lambda: call(0x40000000 | CALLS["unshare"], USER))
    attempt("i386", i386)
attempt("memory of PID 1", lambda: opened("/proc/1/mem", os.O_RDWR))
attempt("environment of PID 1", lambda: opened("/proc/1/environ"))
attempt("root of PID 1", lambda: os.readlink("/proc/1/root"))
attempt("files of PID 1", lambda: opened("/proc/1/fd/0"))
attempt("namespace of PID 1", lambda: opened("/proc/1/ns/mnt"))
attempt("unlink null", lambda: os.unlink("/dev/null"))
attempt("make fifo", lambda: os.mkfifo("/dev/fifo"))
attempt("rename null", lambda: os.rename("/dev/null", "/dev/shm/null"))
attempt("shared memory", lambda: opened("/dev/shm/x", os.O_CREAT | os.O_RDWR))
attempt("write null", lambda: opened("/dev/null", os.O_RDWR))
attempt("signals", signals)
out.write("done\n")
out.close()
os.rename(sys.argv[1] + ".new", sys.argv[1])
