//! Processes of this node that others have started, found by their names.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::unistd::Uid;

use super::message;
use super::namespace::{is_alive, open_process};

/// A pidfd of the living process called `name` (the kernel keeps 15 bytes of a name) that one of `users` has
/// started and that is in this process's PID namespace: anybody may give a process that name, and a container may
/// have others of it. `None` if there is none.
///
/// # Errors
/// If /proc can't be listed.
pub fn find(name: &str, users: &[Uid]) -> io::Result<Option<OwnedFd>> {
    let read = |e| message(e, "list the processes");
    let own = fs::read_link("/proc/self/ns/pid").map_err(read)?;
    let called = |pid: i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
            && fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| is_of(&status, users))
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

/// Whether a process runs in the name of one of `users` and was started by one: of a set-user-ID program others
/// choose the name. The owner of its directory in /proc says neither.
fn is_of(status: &str, users: &[Uid]) -> bool {
    let mut lines = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    let Some(ids) = lines.next() else {
        return false;
    };
    let mut real_and_effective = ids.split_whitespace().take(2);
    let known = |id: &str| {
        id.parse()
            .is_ok_and(|id| users.contains(&Uid::from_raw(id)))
    };
    !ids.trim().is_empty() && real_and_effective.all(known)
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
        let own = [Uid::from_raw(4_000_000), Uid::current()];
        assert!(find(name, &own).unwrap().is_none());
        let mut child = command(program.to_str().unwrap())
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let found = find(name, &own).unwrap().unwrap();
        assert!(find(name, &own[..1]).unwrap().is_none(), "another's");
        assert!(is_alive(found.as_fd()));
        child.kill().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(found.as_fd()) && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        // It has not been reaped, and is not taken for alive.
        assert!(find(name, &own).unwrap().is_none());
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_of_those_who_run_and_have_started_it() {
        let users = [Uid::from_raw(0), Uid::from_raw(189)];
        let is = |ids: &str| is_of(&format!("Name:\tx\nUid:\t{ids}\nGid:\t0\n"), &users);
        assert!(is("0\t0\t0\t0") && is("189\t189\t189\t189") && is("0\t189\t0\t189"));
        assert!(!is("1000\t1000\t1000\t1000") && !is("1000\t0\t0\t0"));
        assert!(!is("") && !is("x") && !is_of("", &users));
    }
}
