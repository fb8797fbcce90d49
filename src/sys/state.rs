//! Small files under /run by which processes of berth's leave each other word.
//!
//! Where /run is full, what is said of an address that is stopped or moved must still be said. So each
//! directory keeps a spare file, which has its room already: see [`replace`].

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::sys::message;

/// The ending of the names of files that are being written. Readers of directories leave these files out.
const NEW: &str = ".new";
/// The name of the spare file.
const SPARE: &str = ".spare.new";
/// A spare has room for a whole number of these, one more than what it was made beside.
const PAGE: usize = 4096;

/// Writes a file so that readers see the old content or the new one, never a part. Where there is no room
/// for it, the directory's spare file takes it, and becomes one again with the next writing: then the
/// content is followed by blanks, so it has to be of a kind that those mean nothing to, such as JSON.
///
/// # Errors
/// If it can't be written. Nothing has changed then.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let written = write(path, content).or_else(|e| match is_full(&e) {
        true => use_spare(path, content).map_err(|_| e),
        false => Err(e),
    });
    written.map_err(|e| message(e, format_args!("write {}", path.display())))?;
    // Without one, the next writing may fail where there is no room: nothing to say now.
    let _ = keep_spare(&beside(path, SPARE.as_ref()), content.len());
    Ok(())
}

/// Writes a file that only spares work, as [`replace`] does; where there is no room for it, nothing changes and
/// the spare file is left to what matters.
pub(crate) fn note(path: &Path, content: &[u8]) {
    let _ = write(path, content);
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = beside(path, &{
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(NEW);
        name
    });
    let write = || {
        File::create(&new)?.write_all(content)?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

/// Removes a file. Where its directory has no spare file, it becomes that, so that its room is the next one's.
///
/// # Errors
/// `NotFound` if there is none; whatever else the kernel refuses.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let spare = beside(path, SPARE.as_ref());
    match renameat_with(CWD, path, CWD, &spare, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // There is one, or the file system knows nothing of this.
        Err(_) => fs::remove_file(path),
    }
}

/// Whether an error says that there is no room for more.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

fn beside(path: &Path, name: &std::ffi::OsStr) -> PathBuf {
    path.with_file_name(name)
}

/// Writes into the room that the spare file has, and lets it and the old file change places, so that
/// the old one's room is the next spare.
fn use_spare(path: &Path, content: &[u8]) -> io::Result<()> {
    let spare = beside(path, SPARE.as_ref());
    let mut file = claim(&spare, OpenOptions::new().write(true))?;
    let room = usize::try_from(room_of(&file.metadata()?)).unwrap_or(usize::MAX);
    if content.len() > room {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut all = content.to_vec();
    all.resize(room, b' ');
    file.write_all(&all)?;
    match renameat_with(CWD, &spare, CWD, path, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => fs::rename(&spare, path),
        other => Ok(other?),
    }
}

/// The bytes that a file can have without more room: the last page counts as a whole.
fn room_of(file: &Metadata) -> u64 {
    file.len().max(file.blocks() * 512)
}

/// Makes a spare file with room for `length` bytes and some more, unless there is one.
fn keep_spare(spare: &Path, length: usize) -> io::Result<()> {
    let (least, room) = (length.max(1), (length / PAGE + 2) * PAGE);
    let has = |spare: &Metadata| room_of(spare) >= least as u64;
    if fs::metadata(spare).is_ok_and(|spare| has(&spare)) {
        return Ok(());
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let mut file = claim(spare, &options)?;
    if has(&file.metadata()?) {
        return Ok(());
    }
    file.write_all(&vec![b' '; room]).inspect_err(|_| {
        let _ = fs::remove_file(spare);
    })
}

/// Opens a spare file that nobody else writes to meanwhile: several processes write files of one directory. Who
/// has it keeps it for as long as it likes, and may be stopped: it is not waited for.
fn claim(spare: &Path, options: &OpenOptions) -> io::Result<Flock<File>> {
    loop {
        let file = Flock::lock(options.open(spare)?, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, e)| e)?;
        // Whoever had it may have given it another place.
        let (own, there) = (file.metadata()?, fs::metadata(spare));
        if there.is_ok_and(|there| there.ino() == own.ino()) {
            return Ok(file);
        }
    }
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// `NotFound` if there is none; if it is longer, or can't be read.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let read = || {
        // Most are short: read at once.
        let mut content = Vec::with_capacity(PAGE);
        File::open(path)?
            .take(limit + 1)
            .read_to_end(&mut content)?;
        match content.len() as u64 > limit {
            true => Err(io::Error::other("it is too long")),
            false => Ok(content),
        }
    };
    read().map_err(|e| message(e, format_args!("read {}", path.display())))
}

/// Reads a whole file of at most `limit` bytes at a place where others may have put something else: only a plain one,
/// through no link as its last part, and without waiting for anybody.
///
/// # Errors
/// `InvalidInput` if it is no plain file; whatever else the kernel refuses.
pub(crate) fn read_plain(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let read = || {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            let text = "it is no plain file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut content = Vec::new();
        file.take(limit + 1).read_to_end(&mut content)?;
        match content.len() as u64 > limit {
            true => Err(io::Error::other("it is too long")),
            false => Ok(content),
        }
    };
    read().map_err(|e| message(e, format_args!("read {}", path.display())))
}

/// What `read` makes of at most `limit` files of a directory, by their names. Those that are hidden, are being
/// written or can't be read are left out.
pub(crate) fn read_all<T, C: FromIterator<(String, T)>>(
    directory: &Path,
    limit: usize,
    read: impl Fn(&Path) -> io::Result<T>,
) -> C {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !name.starts_with('.') && !name.ends_with(NEW))
        .take(limit)
        .filter_map(|name| Some((name.clone(), read(&directory.join(name)).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_others_may_have_put_there_only_a_plain_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "abc").unwrap();
        assert_eq!(read_plain(&path("file"), 3).unwrap(), b"abc");
        assert!(read_plain(&path("file"), 2).is_err());
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        // Without a writer, opening it would wait for one.
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "fifo", "missing"] {
            assert!(read_plain(&path(name), 3).is_err(), "{name}");
        }
        assert!(read_plain(dir.path(), 3).is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_one_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        replace(&path, b"abc").unwrap();
        replace(&path, b"de").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"de");
        assert!(read(&path, 1).unwrap_err().to_string().contains("too long"));
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        names.sort();
        assert_eq!(names, [SPARE, "state"]);
    }

    #[test]
    fn a_spare_file_that_somebody_keeps_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let spare = dir.path().join(SPARE);
        let file = File::create(&spare).unwrap();
        let _kept = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let path = dir.path().join("state");
        let (say, hear) = std::sync::mpsc::channel();
        let writing = path.clone();
        std::thread::spawn(move || {
            let written = replace(&writing, b"[1]");
            say.send((written, use_spare(&writing, b"[2]"))).unwrap();
        });
        let limit = std::time::Duration::from_secs(20);
        let (written, spared) = hear.recv_timeout(limit).expect("it waits for the spare");
        written.unwrap();
        assert_eq!(spared.unwrap_err().raw_os_error(), Some(libc::EWOULDBLOCK));
        assert_eq!(read(&path, 3).unwrap(), b"[1]");
    }

    #[test]
    fn what_has_no_room_takes_the_spare_files_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        replace(&path, b"[1]").unwrap();
        for content in [&b"[1,2]"[..], b"[1,2,3]", b"[]"] {
            use_spare(&path, content).unwrap();
            // On disk, room is found out late.
            File::open(dir.path().join(SPARE))
                .unwrap()
                .sync_all()
                .unwrap();
            let seen = read(&path, 1 << 16).unwrap();
            assert_eq!(seen.trim_ascii_end(), content);
        }
        assert!(use_spare(&path, &[b'x'; 3 * PAGE]).is_err());
        assert_eq!(read(&path, 1 << 16).unwrap().trim_ascii_end(), b"[]");
        // One that is removed is the next spare.
        remove(&path).unwrap();
        fs::remove_file(dir.path().join(SPARE)).unwrap();
        use_spare(&path, b"[3]").unwrap_err();
        replace(&path, b"[3]").unwrap();
        fs::remove_file(dir.path().join(SPARE)).unwrap();
        remove(&path).unwrap();
        assert_eq!(remove(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        use_spare(&path, b"[4]").unwrap();
        replace(&path, b"[5]").unwrap();
        // A file that was not there yet uses it up.
        let other = dir.path().join("other");
        use_spare(&other, b"[4]").unwrap();
        assert!(use_spare(&other, b"[5]").is_err());
        replace(&other, b"[5]").unwrap();
        assert_eq!(read(&other, 3).unwrap(), b"[5]");
    }
}
