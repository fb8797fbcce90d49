//! Small files under /run by which processes of berth's leave each other word.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::sys::message;

/// Writes a file so that readers see the old content or the new one, never a part.
///
/// # Errors
/// If it can't be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let write = || {
        let mut new = path.file_name().unwrap_or_default().to_owned();
        new.push(".new");
        let new = path.with_file_name(new);
        File::create(&new)?.write_all(content)?;
        fs::rename(&new, path)
    };
    write().map_err(|e| message(e, format_args!("write {}", path.display())))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// `NotFound` if there is none; if it is longer, or can't be read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let read = || {
        let mut content = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_one_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        replace(&path, b"abc").unwrap();
        replace(&path, b"de").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"de");
        assert!(read(&path, 1).unwrap_err().to_string().contains("too long"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
