//! A thread of the test in a cell, with a server's rights: what an attacker has who has taken the server over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use berth::cell::client;
use berth::cell::confine;
use berth::cell::service::{self, ServerSpec};
use berth::types::VserverName;
use nix::sched::{CloneFlags, setns, unshare};

/// Does something in a cell as its NFS server could.
pub fn as_server<T: Send>(vserver: &VserverName, work: impl FnOnce() -> T + Send) -> T {
    let spec = ServerSpec {
        name: vserver.clone(),
        nfs: true,
        smb: false,
        commands: vec![],
        state: "/var/lib/berth".into(),
        lease: ServerSpec::LEASE,
        grace: ServerSpec::GRACE,
        config_dir: None,
        cgroup: Default::default(),
        limits: Default::default(),
        allow_calls: vec![],
    };
    let rights = service::launches(&spec)[0].capabilities;
    in_cell(vserver, || {
        confine::restrict(rights).expect("fewer rights");
        work()
    })
}

/// Does something in a cell with root's full rights, as the host's root may.
pub fn in_cell<T: Send>(vserver: &VserverName, work: impl FnOnce() -> T + Send) -> T {
    let cell = client::find(vserver).expect("an answer").expect("a cell");
    let open = |kind: &str| {
        let path = format!("/proc/{}/ns/{kind}", cell.init_pid);
        File::open(path).expect("a namespace")
    };
    let namespaces = [
        (open("ipc"), CloneFlags::CLONE_NEWIPC),
        (open("net"), CloneFlags::CLONE_NEWNET),
        (open("mnt"), CloneFlags::CLONE_NEWNS),
    ];
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).expect("a directory of its own");
            for (namespace, kind) in &namespaces {
                setns(namespace, *kind).expect("the cell");
            }
            work()
        });
        worker.join().expect("its end")
    })
}

/// A file's handle (`struct file_handle`, open_by_handle_at(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    pub kind: i32,
    pub bytes: Vec<u8>,
}

#[repr(C)]
struct RawHandle {
    length: u32,
    kind: i32,
    bytes: [u8; 128],
}

impl Handle {
    /// That of the file at `path`.
    pub fn of(path: &Path) -> io::Result<Self> {
        let path = std::ffi::CString::new(path.to_str().expect("text")).expect("no NUL");
        let mut raw = RawHandle {
            length: 128,
            kind: 0,
            bytes: [0; 128],
        };
        let mut mount = 0;
        // SAFETY: the path ends with NUL, and both results live through the call and are as large as they say.
        let result = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                path.as_ptr(),
                &raw mut raw,
                &raw mut mount as *mut libc::c_int,
                0,
            )
        };
        match result {
            0 => Ok(Self {
                kind: raw.kind,
                bytes: raw.bytes[..raw.length as usize].to_vec(),
            }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// One that is made up: on ext4 generation 0 fits every file of this number (`ext4_nfs_get_inode`).
    pub fn ext4(inode: u32) -> Self {
        Self {
            kind: 1,
            bytes: [inode, 0].map(u32::to_le_bytes).concat(),
        }
    }

    /// Opens the file through a mount that `directory` lies on.
    pub fn open(&self, directory: &Path, flags: i32) -> io::Result<OwnedFd> {
        let mount = File::open(directory)?;
        self.open_at(mount.as_fd().as_raw_fd(), flags)
    }

    fn open_at(&self, mount: i32, flags: i32) -> io::Result<OwnedFd> {
        let mut raw = RawHandle {
            length: self.bytes.len() as u32,
            kind: self.kind,
            bytes: [0; 128],
        };
        raw.bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
        let flags = flags | libc::O_CLOEXEC;
        // SAFETY: the handle lives through the call and is as long as it says.
        let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw mut raw, flags) };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just given this descriptor to nobody else.
            Ok(fd) if fd >= 0 => Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// From now on the calling thread, and all that it starts, can make no user namespace: as on a node where that is
/// switched off (user.max_user_namespaces).
pub fn forbid_user_namespaces() {
    let unshare = u32::try_from(libc::SYS_unshare).expect("a number");
    let load = |at: usize| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at as u32);
    let give = |value: u32| statement(libc::BPF_RET | libc::BPF_K, value);
    let jump = |kind: u32, value: u32, no: u8| libc::sock_filter {
        jf: no,
        ..statement(libc::BPF_JMP | kind | libc::BPF_K, value)
    };
    let mut filter = [
        load(std::mem::offset_of!(libc::seccomp_data, nr)),
        jump(libc::BPF_JEQ, unshare, 3),
        // The lower half of the first argument, on machines that begin with it.
        load(std::mem::offset_of!(libc::seccomp_data, args)),
        jump(libc::BPF_JSET, libc::CLONE_NEWUSER as u32, 1),
        give(libc::SECCOMP_RET_ERRNO | libc::ENOSPC as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives through the call and is as long as it says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}
