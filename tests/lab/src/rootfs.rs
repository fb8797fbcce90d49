//! A system's root file system to live in: everything of it to read, nothing of it to write.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::error::{Context, Result};
use crate::system::System;

const NONE: Option<&Path> = None;
/// Directories under /run that packages expect to find after boot.
const RUN_DIRECTORIES: [(&str, u32); 5] = [
    ("lock", 0o1777),
    ("resource-agents", 0o1755),
    ("ganesha", 0o755),
    ("samba", 0o755),
    ("netns", 0o755),
];

/// Keeps the mounts of this process's namespace to itself.
///
/// # Errors
/// If its root directory is no mount point.
pub fn make_private() -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("make mounts private")
}

/// Shows the root of `system` at `place`/root, with `layer` over it, and returns that path. What is
/// written there goes to other directories of `place`.
///
/// # Errors
/// If a mount is refused.
pub fn show(system: &System, layer: Option<&Path>, place: &Path) -> Result<PathBuf> {
    let own = |name: &str| -> Result<PathBuf> {
        let path = place.join(name);
        fs::create_dir_all(&path).context(path.display())?;
        Ok(path)
    };
    let root = own("root")?;
    overlay(system.root(), layer, &own("upper")?, &own("work")?, &root)?;
    for (i, (dir, device)) in separate_mounts(system)?.into_iter().enumerate() {
        let layer = layer.map(|layer| layer.join(&dir));
        let upper = own(&format!("upper-{i}-{device}"))?;
        let work = own(&format!("work-{i}-{device}"))?;
        let lower = system.path(&dir);
        overlay(&lower, layer.as_deref(), &upper, &work, &root.join(&dir))?;
    }
    Ok(root)
}

fn overlay(lower: &Path, layer: Option<&Path>, upper: &Path, work: &Path, at: &Path) -> Result<()> {
    let lowers = match layer.filter(|layer| layer.is_dir()) {
        Some(layer) => format!("{}:{}", layer.display(), lower.display()),
        None => lower.display().to_string(),
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

/// Directories in the system's root that hold another file system than the root itself, such as a
/// separate /usr or /var, with their device numbers.
fn separate_mounts(system: &System) -> Result<Vec<(String, u64)>> {
    let own = ["proc", "sys", "dev", "run", "tmp", "mnt"];
    let root = system.root();
    let device = fs::metadata(root).context(root.display())?.dev();
    let mut found = vec![];
    for entry in fs::read_dir(root).context(root.display())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() && meta.dev() != device && !own.contains(&name.as_str()) => {
                found.push((name, meta.dev()));
            }
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// Mounts what the kernel shows of itself: /proc of the caller's PID namespace, and /sys.
///
/// # Errors
/// If a mount is refused.
pub fn kernel(root: &Path) -> Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), &root.join("proc"), Some("proc"), quiet, NONE).context("mount /proc")?;
    bind(Path::new("/sys"), &root.join("sys"))
}

/// Makes what a system has after its boot: a new /run, with what packages expect in it, a new /tmp, and
/// the table of mounts under its old name, which an image that never booted lacks.
///
/// # Errors
/// If a mount is refused, or the root can't be written.
pub fn runtime(root: &Path) -> Result<()> {
    let run = root.join("run");
    tmpfs(&run, "mode=755")?;
    for (name, mode) in RUN_DIRECTORIES {
        let path = run.join(name);
        fs::create_dir(&path).context(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context(path.display())?;
    }
    match symlink("../proc/self/mounts", root.join("etc/mtab")) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).context("/etc/mtab"),
        _ => {}
    }
    tmpfs(&root.join("tmp"), "mode=1777")
}

/// Mounts a new file system in memory.
///
/// # Errors
/// If that is refused.
pub fn tmpfs(at: &Path, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID;
    mount(Some("lab"), at, Some("tmpfs"), flags, Some(options))
        .context(format!("mount a tmpfs on {}", at.display()))
}

/// Shows `from`, with what is mounted below it, at `at` too.
///
/// # Errors
/// If that is refused.
pub fn bind(from: &Path, at: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), at, NONE, flags, NONE).context(format!(
        "show {} at {}",
        from.display(),
        at.display()
    ))
}

/// Makes `root` the root of this process and of what it starts.
///
/// # Errors
/// If the kernel refuses.
pub fn enter(root: &Path) -> Result<()> {
    let old = root.join("mnt");
    pivot_root(root, &old).context("change the root")?;
    chdir("/").context("change to the root")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("leave the old root")
}
