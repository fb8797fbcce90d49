//! Patience with the kernel: a call that fails for a moment, for want of memory, is no reason to end. The next daemon
//! would fare no better, and nobody would watch the VIPs meanwhile.

use std::io;
use std::time::{Duration, Instant};

use crate::log;

/// How long after a failure the daemon reads again.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// How long failures may go on before the daemon ends, so that another one is started.
const LIMIT: Duration = Duration::from_secs(30);
/// How long after the end of a pause another failure still belongs to the same trouble: if there was nothing to read
/// meanwhile, no success has shown that the trouble was over.
const CLOSE: Duration = Duration::from_millis(400);

/// Repeated failures to read one source in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Endurance {
    /// Since when reading fails, and until when it is not tried.
    trouble: Option<(Instant, Instant)>,
}

impl Endurance {
    /// Whether the source may be read now.
    pub(crate) fn permits(&self, now: Instant) -> bool {
        self.trouble.is_none_or(|(_, until)| until <= now)
    }

    /// Whether the source may be read again after trouble: what was missed meanwhile has to be made up for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.trouble.is_some() && self.permits(now)
    }

    /// When the source may be read again; `None` if it may be now.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let until = self.trouble.map(|(_, until)| until);
        until.filter(|until| *until > now)
    }

    /// Notes the result of reading. Returns whether this is the first success after trouble: something may have been
    /// missed.
    ///
    /// # Errors
    /// The failure, if failures have gone on for [`LIMIT`].
    pub(crate) fn note(&mut self, result: io::Result<()>, now: Instant) -> io::Result<bool> {
        let Err(e) = result else {
            return Ok(self.trouble.take().is_some());
        };
        let close = |until: Instant| now.saturating_duration_since(until) < CLOSE;
        let since = match self.trouble {
            Some((since, until)) if close(until) => since,
            _ => {
                log::error(format_args!("{e}: trying again"));
                now
            }
        };
        self.trouble = Some((since, now + PAUSE));
        match now.saturating_duration_since(since) < LIMIT {
            true => Ok(false),
            false => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_endured_for_a_while_and_what_was_missed_is_looked_for() {
        let (mut endurance, start) = (Endurance::default(), Instant::now());
        let failed = || Err(io::ErrorKind::OutOfMemory.into());
        assert!(!endurance.note(Ok(()), start).unwrap());
        assert!(!endurance.note(failed(), start).unwrap());
        assert!(!endurance.permits(start) && !endurance.is_over(start));
        assert!(endurance.is_over(start + PAUSE));
        let mut now = start;
        let mut fail_until = |endurance: &mut Endurance, end| {
            while now < end {
                assert!(!endurance.note(failed(), now).unwrap());
                now += PAUSE;
            }
            now
        };
        let now = fail_until(&mut endurance, start + LIMIT);
        assert!(endurance.note(Ok(()), now).unwrap());
        assert!(endurance.permits(now) && endurance.next(now).is_none());
        let now = fail_until(&mut endurance, now + LIMIT);
        endurance.note(failed(), now).unwrap_err();
    }

    #[test]
    fn failures_far_apart_are_no_trouble_that_goes_on() {
        let (mut endurance, start) = (Endurance::default(), Instant::now());
        let failed = || Err(io::ErrorKind::OutOfMemory.into());
        for hours in 0..3 {
            let now = start + Duration::from_secs(hours * 3600);
            assert!(!endurance.note(failed(), now).unwrap());
            assert!(!endurance.permits(now) && endurance.permits(now + PAUSE));
        }
    }
}
