//! Memory of this process, and of the machine.

/// Gives memory that was freed back to the system. A daemon does so after work that it rarely has,
/// such as the move of hundreds of addresses: otherwise it keeps for ever what it needed then.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer, and touches nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The machine's memory in bytes, if the kernel can tell it (sysinfo(2)).
pub(crate) fn physical() -> Option<u64> {
    let all = nix::sys::sysinfo::sysinfo().ok()?.ram_total();
    (all > 0).then_some(all)
}
