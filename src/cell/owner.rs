//! Whose a cell is, from outside and without its keeper.

use std::fs;
use std::io;
use std::path::Path;

use super::protocol::KEEPER;
use crate::plan::name;
use crate::sys::mounted::Namespace;
use crate::sys::{message, state};

/// A cell, by its mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Whose it is. Unknown where its PID 1 has ended and was of a version that left no name behind.
    pub vserver: Option<String>,
    /// Whether its PID 1 has ended: whoever is in it came from outside.
    pub ended: bool,
}

/// The file in a cell that names its virtual server. It lies in a file system of the cell's own, so it is there
/// as long as the mount namespace is.
const NAME: &str = "/run/berth/vserver";

/// A name is a few bytes; a longer file is not one of berth's.
const NAME_LIMIT: u64 = 64;

/// Leaves the cell's name behind in it. Called by PID 1.
///
/// # Errors
/// If it can't be written.
pub fn leave_name(vserver: &str) -> io::Result<()> {
    fs::create_dir_all("/run/berth")
        .and_then(|()| fs::write(NAME, vserver))
        .map_err(|e| message(e, format_args!("write {NAME}")))
}

/// Whose cell a mount namespace is that is one.
pub fn cell_of(namespace: &Namespace) -> Cell {
    // PID 1 has the arguments of the keeper that it was forked by.
    let mut processes = namespace.processes.iter();
    if let Some(vserver) = processes.find_map(|process| vserver_by(*process)) {
        return Cell {
            vserver: Some(vserver),
            ended: false,
        };
    }
    let left = |process: &i32| {
        let path = format!("/proc/{process}/root{NAME}");
        let text = state::read(Path::new(&path), NAME_LIMIT).ok()?;
        let text = String::from_utf8(text).ok()?;
        name::vserver(&text).is_ok().then_some(text)
    };
    Cell {
        vserver: namespace.processes.iter().find_map(left),
        ended: true,
    }
}

/// The virtual server whose cell a mount namespace is that is one, if it is known.
pub fn vserver_of(namespace: &Namespace) -> Option<String> {
    cell_of(namespace).vserver
}

/// The virtual server that a process works for: a keeper, a cell's PID 1, or a child of one of them.
pub fn vserver_by(process: i32) -> Option<String> {
    // The arguments lie in the process's memory, which can't be read of one that is stuck in a certain way;
    // the name can.
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    if !name.starts_with("berth-") {
        return None;
    }
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    (words.next()? == KEEPER.as_bytes())
        .then(|| words.next())?
        .and_then(|name| String::from_utf8(name.to_owned()).ok())
}
