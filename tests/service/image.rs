//! Images with a file system.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use berth::plan::repair::FsKind;
use berth::sys::command::{Output, command, run};
use lab::loop_device::LoopDevice;

/// How long what must happen may take, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
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
    pub fn attach(&self) -> LoopDevice {
        LoopDevice::on(&self.path()).unwrap()
    }
}
