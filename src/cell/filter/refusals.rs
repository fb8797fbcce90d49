//! Answers the calls that a filter refuses, and reports them.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::table;

/// Calls answered in one turn, so that a program that never stops making them doesn't stop everything else, and in
/// one [`PERIOD`]: after these it waits for its answer until the next one.
const TURN_LIMIT: u32 = 64;
const PERIOD_LIMIT: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(1);

/// How long after a report of a call the same call is not reported again.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A call that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its name.
    pub(crate) call: &'static str,
    /// The process that made it, in the PID namespace of the process that answers; 0 if it can't be seen there.
    pub(crate) process: u32,
    /// Whether `allow_calls` may name it.
    pub(crate) is_open: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, process, .. } = self;
        match self.is_open {
            true => write!(
                f,
                "refused {call} (process {process}, allow_calls would allow it)"
            ),
            false => write!(f, "refused {call} (process {process})"),
        }
    }
}

/// The calls that a filter refuses. When this is dropped, calls that wait and all later ones fail with ENOSYS.
#[derive(Debug)]
pub(crate) struct Refusals {
    fd: OwnedFd,
    pace: Pace,
    /// When each call was last reported, by its number. Only numbers in the table get here.
    told: BTreeMap<i64, Instant>,
}

impl Refusals {
    /// The refused calls that come by a filter's descriptor.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd,
            pace: Pace::default(),
            told: BTreeMap::new(),
        }
    }

    /// Readable when a call waits for its answer; `None` while calls have to wait, until [`Refusals::waits_until`].
    pub(crate) fn fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.pace
            .waits_until(now)
            .is_none()
            .then(|| self.fd.as_fd())
    }

    /// Until when calls have to wait because there were too many, if they have to.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.pace.waits_until(now)
    }

    /// Answers the calls that wait, and reports those that were not reported lately. Returns false when no process has
    /// the filter any more.
    pub(crate) fn answer(&mut self, now: Instant, mut tell: impl FnMut(Refusal)) -> bool {
        while self.pace.has_room(now) {
            // Checked before each call: to receive would block if there is none.
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(1..) => {}
                _ => break,
            }
            let events = fds[0].revents().unwrap_or(PollFlags::empty());
            if !events.contains(PollFlags::POLLIN) {
                return !events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
            }
            self.pace.count();
            let Some((number, process)) = self.refuse() else {
                continue;
            };
            let due = |last: &Instant| now.duration_since(*last) >= TOLD_AGAIN;
            if self.told.get(&number).is_none_or(due) {
                self.told.insert(number, now);
                // All others are unknown to the filter's first part, which does not ask.
                if let Some(entry) = table::by_number(number) {
                    tell(Refusal {
                        call: entry.name(),
                        process,
                        is_open: entry.class.is_open(),
                    });
                }
            }
        }
        self.pace.end_turn();
        true
    }

    /// Receives one call and makes it fail. Returns its number and the process that made it; `None` if that process has
    /// gone meanwhile.
    fn refuse(&self) -> Option<(i64, u32)> {
        // SAFETY: all of its fields are numbers, for which 0 is a value.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel writes one of this type, which the request's number says the size of.
        if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } != 0 {
            return None;
        }
        let number = i64::from(call.data.nr);
        let answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: -errno(number),
            flags: 0,
        };
        // SAFETY: the kernel reads one of this type.
        unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
        Some((number, call.pid))
    }
}

/// The error of a refused call. For a socket it is the one that programs expect that try several families.
fn errno(number: i64) -> i32 {
    match number {
        libc::SYS_socket | libc::SYS_socketpair => libc::EAFNOSUPPORT,
        _ => libc::EPERM,
    }
}

/// Limits how many calls are answered in a turn and in a [`PERIOD`].
#[derive(Debug, Default)]
struct Pace {
    begun: Option<Instant>,
    in_period: u32,
    in_turn: u32,
}

impl Pace {
    /// Whether one more may be answered now.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.begun.is_none_or(|begun| now >= begun + PERIOD) {
            (self.begun, self.in_period) = (Some(now), 0);
        }
        self.in_turn < TURN_LIMIT && self.in_period < PERIOD_LIMIT
    }

    fn count(&mut self) {
        self.in_turn += 1;
        self.in_period += 1;
    }

    fn end_turn(&mut self) {
        self.in_turn = 0;
    }

    fn waits_until(&self, now: Instant) -> Option<Instant> {
        let until = self.begun? + PERIOD;
        (self.in_period >= PERIOD_LIMIT && now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_answered_at_a_bounded_pace() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let turn = |pace: &mut Pace, now| {
            let mut answered = 0;
            while pace.has_room(now) {
                pace.count();
                answered += 1;
            }
            pace.end_turn();
            answered
        };
        assert_eq!(turn(&mut pace, now), TURN_LIMIT);
        assert_eq!(pace.waits_until(now), None);
        let rest: u32 = (0..100).map(|_| turn(&mut pace, now)).sum();
        assert_eq!(rest, PERIOD_LIMIT - TURN_LIMIT);
        assert_eq!(pace.waits_until(now), Some(now + PERIOD));
        let later = now + PERIOD;
        assert_eq!(
            (pace.waits_until(later), turn(&mut pace, later)),
            (None, TURN_LIMIT)
        );
    }

    #[test]
    fn a_refusal_says_what_can_be_done() {
        let refusal = |call, is_open| Refusal {
            call,
            process: 17,
            is_open,
        };
        assert_eq!(
            refusal("bpf", true).to_string(),
            "refused bpf (process 17, allow_calls would allow it)"
        );
        assert_eq!(
            refusal("unshare", false).to_string(),
            "refused unshare (process 17)"
        );
    }
}
