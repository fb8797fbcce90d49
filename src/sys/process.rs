//! Processes of this node that others have started, found by their names.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::message;
use super::namespace::{is_alive, open_process};

/// A pidfd of the living process called `name` (the kernel keeps 15 bytes of a name) that is in this
/// process's PID namespace: a container may have others of that name. `None` if there is none.
///
/// # Errors
/// If /proc can't be listed.
pub fn find(name: &str) -> io::Result<Option<OwnedFd>> {
    let read = |e| message(e, "list the processes");
    let own = fs::read_link("/proc/self/ns/pid").map_err(read)?;
    let called = |pid: i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    };
    for entry in fs::read_dir("/proc").map_err(read)?.flatten() {
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let Some(pid) = number.filter(|pid| called(*pid)) else {
            continue;
        };
        let Ok(process) = open_process(pid) else {
            continue;
        };
        // Only now the number can't come to mean another process any more.
        let here = fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|ns| ns == own);
        if here && called(pid) && is_alive(process.as_fd()) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::sys::command::command;

    #[test]
    fn a_process_is_found_by_its_name_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("berth-t-find-me");
        fs::copy("/bin/sleep", &program).unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        assert!(find(name).unwrap().is_none());
        let mut child = command(program.to_str().unwrap())
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let found = find(name).unwrap().unwrap();
        assert!(is_alive(found.as_fd()));
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(found.as_fd()) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        // It has not been reaped, and is not taken for alive.
        assert!(find(name).unwrap().is_none());
        child.wait().unwrap();
    }
}
