//! Memory of this process, and of the machine.

/// Gives memory that was freed back to the system. A daemon does so after work that it rarely has,
/// such as the move of hundreds of addresses: otherwise it keeps for ever what it needed then.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The machine's memory in bytes, if the C library can tell it (sysconf(3)).
pub fn physical() -> Option<u64> {
    // SAFETY: both take an integer and give one, or -1.
    let (pages, size) = unsafe {
        (
            libc::sysconf(libc::_SC_PHYS_PAGES),
            libc::sysconf(libc::_SC_PAGESIZE),
        )
    };
    let number = |n: libc::c_long| u64::try_from(n).ok().filter(|n| *n > 0);
    number(pages)?.checked_mul(number(size)?)
}
