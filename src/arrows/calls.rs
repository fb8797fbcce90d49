//! Reads which crate the kernel and the C library are called through, and holds that against what lib.rs lists.

use std::collections::BTreeSet;

use super::{expand, sources};

/// What the head of lib.rs lists after this word.
fn listed(word: &str) -> BTreeSet<String> {
    let text = include_str!("../lib.rs");
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! ")?.split_once(" for "));
    let mine = lines.filter(|(first, _)| first.trim() == word);
    mine.flat_map(|(_, rest)| rest.split_whitespace().map(str::to_owned))
        .collect()
}

/// The paths behind `nix::` in `code`.
fn paths_of_nix(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, start) in code.match_indices("nix::") {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
            let rest = &code[at + start.len()..];
            expand(&[], &mut rest.chars().peekable(), &mut found);
        }
    }
    found.into_iter().map(|path| path.join("::")).collect()
}

/// The functions of libc's that `code` calls.
fn calls_of_libc(code: &str) -> Vec<String> {
    let names = code.split("libc::").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        rest[end..].starts_with('(').then(|| rest[..end].to_owned())
    });
    names.collect()
}

#[test]
fn nix_is_used_for_what_is_listed() {
    let listed = listed("nix");
    let (mut used, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (module, code) in sources() {
        for path in paths_of_nix(&code) {
            let is_path = |entry: &&String| {
                let rest = path.strip_prefix(entry.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            match listed.iter().find(is_path) {
                Some(entry) => drop(used.insert(entry.clone())),
                None => drop(others.insert(format!("nix::{path} in {}", module.join("::")))),
            }
        }
    }
    assert!(others.is_empty(), "not in the head of lib.rs: {others:#?}");
    assert_eq!(used, listed);
}

#[test]
fn libc_is_called_for_what_is_listed() {
    let sources = sources();
    let used: BTreeSet<String> = sources.values().flat_map(|c| calls_of_libc(c)).collect();
    assert_eq!(used, listed("libc"));
}

#[test]
fn every_unsafe_function_says_what_its_callers_uphold() {
    let mut seen = 0;
    for entry in walk() {
        let text = std::fs::read_to_string(&entry).unwrap();
        let mut head: Vec<&str> = Vec::new();
        for line in text.lines().map(str::trim_start) {
            let is_head = line.starts_with("///") || line.starts_with("#[");
            if is_head || line.starts_with("unsafe impl ") {
                head.push(line);
            } else if line.contains("unsafe fn ") && !line.starts_with("//") {
                // One of a trait has its contract there.
                let says = |line: &&str| *line == "/// # Safety" || line.starts_with("unsafe impl");
                assert!(head.iter().any(says), "{line} in {}", entry.display());
                seen += 1;
                head.clear();
            } else {
                head.clear();
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

/// All files of the library, those of tests too.
fn walk() -> Vec<std::path::PathBuf> {
    let mut left = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = Vec::new();
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.file_name().is_some_and(|name| name != "calls.rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn calls_are_found_in_code() {
    let code = "use nix::sys::{wait::{waitpid, WaitStatus}, signal}; fn f() { rustix::io::read(); nix::unistd::fork(); }";
    let expected = [
        "sys::wait::waitpid",
        "sys::wait::WaitStatus",
        "sys::signal",
        "unistd::fork",
    ];
    assert_eq!(paths_of_nix(code), expected);
    let code = "let x: libc::c_int = libc::ioctl(fd, libc::EIO as libc::c_int); g(libc::close_range(1, 2, 3))";
    assert_eq!(calls_of_libc(code), ["ioctl", "close_range"]);
}
