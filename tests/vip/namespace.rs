//! Network namespaces for the tests: made without names, gone with their last user, so nothing is
//! left behind by a test that fails.
#![allow(clippy::disallowed_methods)] // tests start ip, nft and ping themselves

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// A network namespace with its loopback interface up.
pub struct Namespace(OwnedFd);

impl Namespace {
    pub fn new() -> Self {
        let fd = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare (are we root?)");
            File::open("/proc/thread-self/ns/net").unwrap()
        })
        .join()
        .unwrap();
        let namespace = Self(fd.into());
        namespace.ip("link set lo up");
        namespace
    }

    /// A program to be run in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let fd = self.0.as_raw_fd();
        let mut command = Command::new(program);
        // SAFETY: setns is a single system call, allowed between fork and exec; the descriptor is
        // open as long as `self` is.
        unsafe {
            command.pre_exec(move || {
                setns(BorrowedFd::borrow_raw(fd), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            });
        }
        command
    }

    pub fn run(&self, line: &str) -> Output {
        self.command("/bin/sh").args(["-c", line]).output().unwrap()
    }

    /// Runs a shell line that has to succeed, and returns what it printed.
    pub fn sh(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(
            out.status.success(),
            "{line}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn ip(&self, arguments: &str) {
        self.sh(&format!("ip {arguments}"));
    }

    /// What `ip -j` says.
    pub fn json(&self, arguments: &str) -> Value {
        let text = self.sh(&format!("ip -j {arguments}"));
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap()
    }

    /// Runs `work` in the namespace, on a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                    work()
                })
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }
}

/// Runs `work` with mounts of its own, which end with it.
pub fn with_own_mounts(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let own = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("unshare (are we root?)");
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            work();
        });
        own.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
}

/// A small tmpfs over a directory, for the caller's mounts.
pub struct SmallRoom(PathBuf);

impl SmallRoom {
    pub fn over(directory: &Path) -> Self {
        let (kind, none) = (Some("tmpfs"), MsFlags::empty());
        mount(kind, directory, kind, none, Some("size=256k,mode=700")).unwrap();
        Self(directory.to_owned())
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for size in [4096, 1] {
            while filler.write_all(&[b'x'; 4096][..size]).is_ok() {}
        }
        assert!(std::fs::write(self.0.join("more"), "x").is_err());
        std::fs::remove_file(self.0.join("more")).unwrap();
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
