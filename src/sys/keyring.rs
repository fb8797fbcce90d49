//! The kernel's keyrings (keyrings(7)), which are no part of any namespace that a cell has.

use std::io;

use super::message;

/// keyctl(2)'s operation to join a session keyring (linux/keyctl.h).
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the session keyring that was inherited for a new, empty one. What this process starts has the new one too.
/// Makes system calls only, so it may be called between fork and exec.
///
/// # Errors
/// Whatever the kernel refuses; one without keyrings has nothing to leave.
pub fn leave() -> io::Result<()> {
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: with no name nothing is read of this process's memory.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
    if joined >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Ok(()),
        _ => Err(message(error, "join a new session keyring")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of this process's session keyring; one is made where there is none (`KEYCTL_GET_KEYRING_ID`).
    fn session() -> libc::c_long {
        // SAFETY: these arguments are numbers.
        unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 1) }
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
