//! The arguments with which a program may make calls that are allowed with some arguments only.
//!
//! A filter sees registers and no memory. If the kernel takes only 32 bits of an argument, so does the rule: otherwise
//! the other bits would be a way around it.

use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// Namespaces that clone(2) makes.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What unshare(2) may part: a thread's directory and its descriptors, which makes no namespace. Samba's threads part
/// from the others' working directory.
const UNSHARED: u64 = (libc::CLONE_FS | libc::CLONE_FILES) as u64;

/// Terminal requests that type for its user, that reach the console, and that load a line discipline.
const TERMINAL: [u64; 3] = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];

/// Execution domains of personality(2), as container engines allow them: Linux of 32 and 64 bits, without and with a
/// version of 2.6 (`UNAME26`), and the question for the present one.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Protocols over IP that are in the kernel: others are modules, loaded for whoever asks.
const PROTOCOLS: [i32; 4] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_MPTCP];

/// The rules for a call of this name, one of which has to fit.
pub(crate) fn for_call(name: &str) -> Result<Vec<SeccompRule>, BackendError> {
    match name {
        "clone" => all([[flags_only(0, !NAMESPACES)?]]),
        "unshare" => all([[flags_only(0, UNSHARED)?]]),
        // A program's own listener would be asked instead of berth's, and could allow a call.
        "seccomp" => all([[flags_only(1, !libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?]]),
        "ioctl" => {
            let other = |request| condition(1, SeccompCmpOp::Ne, request);
            all([TERMINAL
                .into_iter()
                .map(other)
                .collect::<Result<Vec<_>, _>>()?])
        }
        "personality" => PERSONALITIES
            .into_iter()
            .map(|domain| SeccompRule::new(vec![equal(0, domain)?]))
            .collect(),
        // Only its own limits: PID 1 has the same user, and a limit of CPU time would kill it.
        "prlimit64" => all([[equal(0, 0)?]]),
        "socketpair" => all([[family(AF_UNIX)?]]),
        "socket" => sockets(),
        // The table has no other call with rules: nothing is allowed.
        _ => Ok(vec![]),
    }
}

fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = all([[family(AF_UNIX)?]])?;
    // Of netlink's protocols (netlink(7)) only that of addresses and routes.
    rules.extend(all([[
        family(AF_NETLINK)?,
        protocol(libc::NETLINK_ROUTE)?,
    ]])?);
    for (ip, icmp) in [
        (AF_INET, libc::IPPROTO_ICMP),
        (AF_INET6, libc::IPPROTO_ICMPV6),
    ] {
        for number in PROTOCOLS.into_iter().chain([icmp]) {
            rules.extend(all([[family(ip)?, protocol(number)?]])?);
        }
    }
    Ok(rules)
}

fn all(
    rules: impl IntoIterator<Item = impl Into<Vec<SeccompCondition>>>,
) -> Result<Vec<SeccompRule>, BackendError> {
    let rules = rules.into_iter();
    rules.map(|rule| SeccompRule::new(rule.into())).collect()
}

/// Of argument `at`, 64 bits of flags, none but `allowed` is set.
fn flags_only(at: u8, allowed: u64) -> Result<SeccompCondition, BackendError> {
    let none = SeccompCmpOp::MaskedEq(!allowed);
    SeccompCondition::new(at, SeccompCmpArgLen::Qword, none, 0)
}

/// What is said of argument `at`, of 32 bits.
fn condition(at: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(at, SeccompCmpArgLen::Dword, op, value)
}

fn equal(at: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    condition(at, SeccompCmpOp::Eq, value)
}

fn family(number: i32) -> Result<SeccompCondition, BackendError> {
    equal(0, u64::from(number.unsigned_abs()))
}

fn protocol(number: i32) -> Result<SeccompCondition, BackendError> {
    equal(2, u64::from(number.unsigned_abs()))
}
