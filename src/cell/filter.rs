//! The filter of system calls (seccomp(2)) for programs in a cell. It is put on before the program is executed, applies
//! to all processes that the program starts, and can't be taken off.
//!
//! Capabilities alone do not keep a server in: in a user namespace of its own, which takes no right to make, it
//! has all of them again, and the kernel's keyrings and AF_VSOCK know nothing of cells.
//!
//! There are two filter programs, of which the stricter verdict counts. One allows all calls that berth knows, and
//! answers others, such as a newer kernel's, as if they did not exist. The other allows the calls that a server may
//! make; the rest are refused by the process with the [`Refusals`], which can report them. For a call of another
//! architecture (i386 on x86-64) the kernel kills the process; numbers of x32 count as unknown.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use crate::sys::message;
use table::{Class, Entry};

mod call;
mod handover;
mod refusals;
mod rules;
mod table;

pub(crate) use call::Call;
pub(crate) use handover::{Sender, handover};
pub(crate) use refusals::Refusals;

/// What the refusing action is compiled as: seccompiler knows none that asks a listener. It is replaced in the
/// finished program, where nothing else returns this.
const MARK: u32 = libc::SECCOMP_RET_TRACE | 0xbe47;

/// `BPF_RET | BPF_K` (linux/filter.h): the instruction that ends a program with an action.
const RETURN: u16 = 0x06;

/// A filter for one program, ready to be put on.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    known: BpfProgram,
    told: BpfProgram,
    silent: BpfProgram,
}

impl Filter {
    /// The filter that lets these calls through beyond what every server may make.
    ///
    /// # Errors
    /// `Unsupported` on an architecture that there is none for.
    pub(crate) fn new(extra: &[Call]) -> io::Result<Self> {
        let allowed = |entry: &Entry| extra.iter().any(|call| call.name() == entry.name());
        let known = table::entries()
            .filter(|entry| match entry.class {
                Class::Absent => allowed(entry),
                Class::Hidden => false,
                _ => true,
            })
            .filter_map(|entry| Some((entry.number?, vec![])))
            .collect();
        let mut judged = BTreeMap::new();
        for entry in table::entries() {
            let Some(number) = entry.number else { continue };
            let rules = match entry.class {
                Class::Allowed => vec![],
                _ if allowed(&entry) => vec![],
                Class::Limited | Class::Confined => {
                    rules::for_call(entry.name()).map_err(unsupported)?
                }
                _ => continue,
            };
            judged.insert(number, rules);
        }
        let refused = compile(judged, SeccompAction::Trace(MARK & libc::SECCOMP_RET_DATA))?;
        let denied = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
        Ok(Self {
            known: compile(known, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?,
            told: ending_with(&refused, libc::SECCOMP_RET_USER_NOTIF),
            silent: ending_with(&refused, denied),
        })
    }

    /// Puts the filter on this process. A refused call fails with EPERM, and is not reported.
    ///
    /// Makes system calls only, so it may be called between fork and exec. `no_new_privs` has to be set.
    ///
    /// # Errors
    /// Whatever the kernel refuses: `ENOSYS` or `EINVAL` if it knows no filters.
    pub(crate) fn install(&self) -> io::Result<()> {
        put_on(&self.silent, 0)?;
        // The error of the program that was put on last wins: an unknown call fails as one that does not exist.
        put_on(&self.known, 0).map(drop)
    }

    /// As [`Filter::install`], but refused calls wait for an answer by way of the returned descriptor, from which
    /// [`Refusals`] are made. `None` if the kernel has no such descriptors, or has one for this process already, as in
    /// some containers: then it is the same as [`Filter::install`].
    ///
    /// # Errors
    /// As [`Filter::install`].
    pub(crate) fn install_told(&self) -> io::Result<Option<OwnedFd>> {
        let listener = match put_on(&self.told, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER) {
            // SAFETY: with this flag the result is a new descriptor, which nobody else has.
            Ok(number) => Some(unsafe { OwnedFd::from_raw_fd(number) }),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => {
                put_on(&self.silent, 0)?;
                None
            }
            Err(e) => return Err(e),
        };
        put_on(&self.known, 0)?;
        Ok(listener)
    }
}

/// Whether the kernel has filters of system calls.
///
/// # Errors
/// What it lacks, in words.
pub(crate) fn check_kernel() -> io::Result<()> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads the number that is pointed to, and changes nothing.
    let asked = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    if asked == 0 {
        return Ok(());
    }
    let what = "the kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)";
    Err(message(io::Error::last_os_error(), what))
}

/// A filter program that allows calls by these rules, and does `otherwise` with the rest. A call with an empty list of
/// rules is allowed with any arguments.
fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(unsupported)?;
    SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)
        .and_then(BpfProgram::try_from)
        .map_err(unsupported)
}

/// The program with this action in the place of [`MARK`].
fn ending_with(program: &BpfProgram, action: u32) -> BpfProgram {
    let mut program = program.clone();
    for instruction in &mut program {
        if instruction.code == RETURN && instruction.k == MARK {
            instruction.k = action;
        }
    }
    program
}

fn unsupported(e: seccompiler::BackendError) -> io::Error {
    let text = format!("make the filter of system calls: {e}");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Puts a filter program on this process. Returns the descriptor's number, if a flag asks for one.
fn put_on(program: &BpfProgram, flags: libc::c_ulong) -> io::Result<i32> {
    let program = libc::sock_fprog {
        // The compiler refuses longer ones than the kernel's limit of 4096.
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel reads the program, which outlives the call and which both crates define as
    // linux/filter.h does, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match result {
        // A descriptor's number, or 0.
        0.. => Ok(result as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
