//! A machine's root directory: everything of the host to read, nothing of it to write.
//!
//! An overlay shows the host's root under the lab's common layer, and what the machine writes goes
//! to a directory of its own that outlives a power failure, as a local disk does. /run, /tmp and
//! /dev are new at each start. The machine's /dev has only its own disks, so that it can neither
//! find nor touch those of another one, which hold the same UUIDs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{chdir, pivot_root};

use super::Setup;
use crate::error::{Context, Result};

/// Where agents reach the power switch.
pub const SWITCH: &str = "/run/lab-power.sock";
const LOOP_MAJOR: u64 = 7;
const NONE: Option<&Path> = None;
/// Character devices of the machine: name, major, minor.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Directories under /run that packages expect to find after boot.
const RUN_DIRECTORIES: [(&str, u32); 5] = [
    ("lock", 0o1777),
    ("resource-agents", 0o1755),
    ("ganesha", 0o755),
    ("samba", 0o755),
    ("netns", 0o755),
];

/// Builds the root of the machine and makes it this process's own.
pub fn build(setup: &Setup) -> Result<()> {
    let place = |name: &str| -> Result<PathBuf> {
        let path = setup.place.join(name);
        fs::create_dir_all(&path).context(path.display())?;
        Ok(path)
    };
    let root = place("root")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("make mounts private")?;
    overlay(
        Path::new("/"),
        &setup.layer,
        &place("upper")?,
        &place("work")?,
        &root,
    )?;
    for (i, (dir, device)) in separate_mounts()?.into_iter().enumerate() {
        let layer = setup.layer.join(&dir);
        let upper = place(&format!("upper-{i}-{device}"))?;
        let work = place(&format!("work-{i}-{device}"))?;
        overlay(
            &Path::new("/").join(&dir),
            &layer,
            &upper,
            &work,
            &root.join(&dir),
        )?;
    }
    system(&root)?;
    devices(&root.join("dev"), &setup.disks)?;
    runtime(&root, &setup.switch)?;
    let old = root.join("mnt");
    pivot_root(&root, &old).context("change the root")?;
    chdir("/").context("change to the root")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("leave the old root")
}

fn overlay(lower: &Path, layer: &Path, upper: &Path, work: &Path, at: &Path) -> Result<()> {
    let lowers = match layer.is_dir() {
        true => format!("{}:{}", layer.display(), lower.display()),
        false => lower.display().to_string(),
    };
    let options = format!(
        "lowerdir={lowers},upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    mount(
        Some("lab"),
        at,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context(format!("show {} as {}", lower.display(), at.display()))
}

/// Directories in `/` that hold another file system than `/` itself, such as a separate /usr or
/// /var, with their device numbers.
fn separate_mounts() -> Result<Vec<(String, u64)>> {
    let own = ["proc", "sys", "dev", "run", "tmp", "mnt"];
    let root = fs::metadata("/").context("/")?.dev();
    let mut found = vec![];
    for entry in fs::read_dir("/").context("/")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() && meta.dev() != root && !own.contains(&name.as_str()) => {
                found.push((name, meta.dev()));
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

fn system(root: &Path) -> Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), quiet, NONE).context("mount /proc")?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some("/sys"), &root.join("sys"), NONE, bind, NONE).context("show /sys")
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID;
    mount(Some("lab"), at, Some("tmpfs"), flags, Some(options))
        .context(format!("mount a tmpfs on {}", at.display()))
}

fn devices(dev: &Path, disks: &[(String, u32)]) -> Result<()> {
    tmpfs(dev, "mode=755")?;
    let all = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        mknod(&path, SFlag::S_IFCHR, all, makedev(major, minor)).context(path.display())?;
        // mknod's mode was subject to the umask.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context(path.display())?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).context(format!("link /dev/{name}"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).context(format!("make /dev/{name}"))?;
    }
    tmpfs(&dev.join("shm"), "mode=1777")?;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        MsFlags::MS_NOSUID,
        options,
    )
    .context("mount /dev/pts")?;
    for (disk, number) in disks {
        add_disk(dev, disk, *number)?;
    }
    Ok(())
}

/// Puts loop device `number` into `dev`, under its own name and as the disk.
fn add_disk(dev: &Path, disk: &str, number: u32) -> Result<()> {
    let node = dev.join(format!("loop{number}"));
    let device = makedev(LOOP_MAJOR, number.into());
    let mode = Mode::from_bits_truncate(0o660);
    mknod(&node, SFlag::S_IFBLK, mode, device).context(node.display())?;
    let links = dev.join("disk/lab");
    fs::create_dir_all(&links).context(links.display())?;
    let link = links.join(disk);
    symlink(format!("../../loop{number}"), &link).context(link.display())
}

fn runtime(root: &Path, switch: &Path) -> Result<()> {
    let run = root.join("run");
    tmpfs(&run, "mode=755")?;
    for (name, mode) in RUN_DIRECTORIES {
        let path = run.join(name);
        fs::create_dir(&path).context(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context(path.display())?;
    }
    tmpfs(&root.join("tmp"), "mode=1777")?;
    let socket = root.join(&SWITCH[1..]);
    fs::write(&socket, "").context(socket.display())?;
    mount(Some(switch), &socket, NONE, MsFlags::MS_BIND, NONE).context("show the power switch")
}
