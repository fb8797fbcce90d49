//! Images with a file system, and loop devices on them that are gone when the test is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth::plan::repair::FsKind;
use berth::sys::command::{Output, command, run};

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Runs a program that must succeed.
pub fn must(program: &str, args: &[&str]) -> Output {
    let mut c = command(program);
    c.args(args);
    run(c, soon()).unwrap().check(program).unwrap()
}

/// An image in a temporary directory.
pub struct Image {
    dir: tempfile::TempDir,
}

impl Image {
    pub fn new(kind: FsKind) -> Self {
        let image = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let file = std::fs::File::create(image.path()).unwrap();
        file.set_len(320 << 20).unwrap();
        let path = image.path();
        let path = path.to_str().unwrap();
        match kind {
            FsKind::Ext4 => must("/usr/sbin/mkfs.ext4", &["-q", path]),
            FsKind::Xfs => must("/usr/sbin/mkfs.xfs", &["-q", path]),
            FsKind::Btrfs => must("/usr/sbin/mkfs.btrfs", &["-q", path]),
        };
        image
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    /// A directory beside the image.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Another loop device on the image, as another node would have it.
    pub fn attach(&self) -> Loop {
        Self::attach_file(&self.path())
    }

    /// A loop device on another file.
    pub fn attach_file(path: &Path) -> Loop {
        let out = must(
            "/usr/sbin/losetup",
            &["--find", "--show", path.to_str().unwrap()],
        );
        Loop(out.text().trim().into())
    }
}

/// A loop device.
pub struct Loop(PathBuf);

impl Loop {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let mut c = command("/usr/sbin/losetup");
        c.arg("--detach").arg(&self.0);
        if let Err(e) = run(c, soon()).and_then(|o| o.check("losetup")) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}
