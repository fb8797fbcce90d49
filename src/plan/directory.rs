//! The directories of a cell at which a file system may be attached.

use std::fmt;

/// Top-level directories that belong to the cell's own root, `lib` in each of its forms included.
const RESERVED: [&str; 13] = [
    "bin", "boot", "dev", "etc", "opt", "proc", "root", "run", "sbin", "sys", "tmp", "usr", "var",
];

/// Longest directory, in bytes: the kernel takes 4095, an export list and a log line less.
const LENGTH_LIMIT: usize = 255;

/// Why a directory can't hold a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not begin with `/`.
    Relative,
    /// It has `.`, `..`, an empty part, a `/` or a blank at its end, or two blanks in a row; with the correct spelling,
    /// if there is one.
    NotNormal(Option<String>),
    /// It is `/` itself.
    Root,
    /// It is, or lies under, a directory of the cell's own root.
    Reserved(String),
    /// It is longer than 255 bytes.
    TooLong(usize),
    /// It has a character that a server's configuration can't carry.
    Character(char),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative => f.write_str("must be absolute, such as /data"),
            Self::NotNormal(Some(better)) => write!(f, "must be written {better}"),
            Self::NotNormal(None) => f.write_str("must not have .. in it"),
            Self::Root => f.write_str("is the root; use a directory below it, such as /data"),
            Self::Reserved(top) => write!(
                f,
                "is under /{top}, which belongs to the cell's own root; use another, such as /data"
            ),
            Self::TooLong(length) => write!(
                f,
                "is {length} bytes long; the longest allowed is {LENGTH_LIMIT}"
            ),
            Self::Character(c) => write!(
                f,
                "has {c:?} in it; use letters, digits, spaces and any of / . _ - + , @ ="
            ),
        }
    }
}

/// Checks that a file system may be attached at `directory`.
///
/// # Errors
/// The first thing that is wrong with it; its text completes "directory … ".
pub fn check(directory: &str) -> Result<(), Refusal> {
    if !directory.starts_with('/') {
        return Err(Refusal::Relative);
    }
    if directory.len() > LENGTH_LIMIT {
        return Err(Refusal::TooLong(directory.len()));
    }
    // A quote, a backslash, a brace, a `;` or a `%` means something to Ganesha or Samba.
    let plain = |c: char| c.is_alphanumeric() || " /._-+,@=".contains(c);
    if let Some(c) = directory.chars().find(|c| !plain(*c)) {
        return Err(Refusal::Character(c));
    }
    let parts: Vec<&str> = directory
        .split('/')
        .filter(|p| !p.is_empty() && *p != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(Refusal::NotNormal(None));
    }
    let Some(top) = parts.first() else {
        return Err(Refusal::Root);
    };
    let normal = format!("/{}", parts.join("/"));
    // Samba makes one blank of several, and none of those at the end: it would serve another directory.
    let words: Vec<&str> = normal.split(' ').filter(|word| !word.is_empty()).collect();
    let normal = words.join(" ");
    if normal != directory {
        return Err(Refusal::NotNormal(Some(normal)));
    }
    // lib, lib32, lib64, libx32: which of them exist differs between nodes.
    if RESERVED.contains(top) || top.starts_with("lib") {
        return Err(Refusal::Reserved((*top).to_owned()));
    }
    Ok(())
}

/// Whether one of two normal directories is, or lies below, the other.
pub(crate) fn nested(one: &str, other: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(one, other) || below(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_directories_are_allowed() {
        for directory in [
            "/data",
            "/srv/a b",
            "/export/été",
            "/home",
            "/variety",
            "/a.b/-c",
        ] {
            assert_eq!(check(directory), Ok(()), "{directory}");
        }
    }

    #[test]
    fn each_wrong_directory_is_refused_for_its_reason() {
        let long = format!("/{}", "x".repeat(300));
        for (directory, reason) in [
            ("", Refusal::Relative),
            ("data", Refusal::Relative),
            ("/", Refusal::Root),
            ("//", Refusal::Root),
            ("/./", Refusal::Root),
            ("/data/", Refusal::NotNormal(Some("/data".into()))),
            ("/data  ", Refusal::NotNormal(Some("/data".into()))),
            (
                "/my  own data",
                Refusal::NotNormal(Some("/my own data".into())),
            ),
            ("/data//x", Refusal::NotNormal(Some("/data/x".into()))),
            ("/data/./x", Refusal::NotNormal(Some("/data/x".into()))),
            ("/data/..", Refusal::NotNormal(None)),
            ("/../etc", Refusal::NotNormal(None)),
            ("/etc", Refusal::Reserved("etc".into())),
            ("/var/x", Refusal::Reserved("var".into())),
            ("/lib64", Refusal::Reserved("lib64".into())),
            ("/data\n", Refusal::Character('\n')),
            ("/da\"ta", Refusal::Character('"')),
            ("/%u", Refusal::Character('%')),
            (&long, Refusal::TooLong(301)),
        ] {
            assert_eq!(check(directory), Err(reason), "{directory}");
        }
    }

    #[test]
    fn nesting_goes_by_whole_parts() {
        assert!(nested("/data", "/data"));
        assert!(nested("/data/x", "/data"));
        assert!(nested("/data", "/data/x"));
        assert!(!nested("/data", "/database"));
        assert!(!nested("/data/x", "/data/y"));
    }
}
