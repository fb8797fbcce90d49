//! What the kernel refuses for a moment, for want of memory, is no reason to end: the next daemon would not fare
//! better, and VIPs would have nobody meanwhile.

use std::io;
use std::time::{Duration, Instant};

use crate::ocf::log;

/// How long after a failure it is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it may go on before another daemon shall try.
const LIMIT: Duration = Duration::from_secs(30);

/// Trouble with what the daemon reads of the kernel.
#[derive(Debug, Default)]
pub(super) struct Endurance {
    /// Since when, and until when it is left alone.
    trouble: Option<(Instant, Instant)>,
}

impl Endurance {
    /// Whether it may be read.
    pub fn permits(&self, now: Instant) -> bool {
        self.trouble.is_none_or(|(_, until)| until <= now)
    }

    /// Whether it may be read again after trouble: then something was missed.
    pub fn is_over(&self, now: Instant) -> bool {
        self.trouble.is_some() && self.permits(now)
    }

    /// When it may be read again.
    pub fn next(&self) -> Option<Instant> {
        let until = self.trouble.map(|(_, until)| until);
        until.filter(|until| *until > Instant::now())
    }

    /// Takes note of how reading went; says whether there is anything that has been missed before.
    ///
    /// # Errors
    /// The failure, if it has gone on for too long.
    pub fn note(&mut self, result: io::Result<()>, now: Instant) -> io::Result<bool> {
        let Err(e) = result else {
            return Ok(self.trouble.take().is_some());
        };
        let since = match self.trouble {
            Some((since, _)) => since,
            None => {
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
        assert!(!endurance.note(failed(), start + LIMIT - PAUSE).unwrap());
        assert!(endurance.note(Ok(()), start + LIMIT).unwrap());
        assert!(endurance.permits(start + LIMIT) && endurance.next().is_none());
        endurance.note(failed(), start).unwrap();
        endurance.note(failed(), start + LIMIT).unwrap_err();
    }
}
