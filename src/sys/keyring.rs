//! The kernel's keyrings (keyrings(7)), which are no part of any namespace that a cell has.

use std::io;

/// Leaves the session keyring that was inherited for a new, empty one. What this process starts has the new one too.
/// Makes one system call and allocates nothing, so it may be called between fork and exec.
///
/// # Errors
/// Whatever the kernel refuses, by its number: no words come through from between fork and exec. One without keyrings
/// has nothing to leave.
pub(crate) fn leave() -> io::Result<()> {
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: with no name nothing is read of this process's memory.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    if joined >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::process::CommandExt;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;
    use crate::sys::command::command;

    /// The number of this process's session keyring; one is made where there is none.
    fn session() -> libc::c_long {
        let own = libc::KEY_SPEC_SESSION_KEYRING;
        // SAFETY: these arguments are numbers.
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, own, 1) }
    }

    #[test]
    fn a_refusal_between_fork_and_exec_is_told_by_its_number() {
        let calls = BTreeMap::from([(libc::SYS_keyctl, vec![])]);
        let refuse = SeccompAction::Errno(libc::EDQUOT.unsigned_abs());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(calls, SeccompAction::Allow, refuse, arch).unwrap();
        let filter = BpfProgram::try_from(filter).unwrap();
        let mut program = command("/bin/true");
        let refused = move || {
            seccompiler::apply_filter(&filter).map_err(|_| io::ErrorKind::Other)?;
            leave()
        };
        // SAFETY: as pre_exec wants it, the child makes system calls only.
        unsafe { program.pre_exec(refused) };
        let error = program.spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EDQUOT));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_process_leaves_the_keyring_that_it_came_with() {
        // A session keyring is a thread's own, so the other tests keep theirs.
        let thread = std::thread::spawn(|| {
            let before = session();
            leave().unwrap();
            assert!(before > 0 && session() > 0 && session() != before);
        });
        thread.join().unwrap();
    }
}
