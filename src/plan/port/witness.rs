//! Whose fault it is when nothing answers any more in a whole subnet.
//!
//! One port that hears nothing while another hears is at fault itself. When all ports of a node hear
//! nothing, it may be the node's side of the network, or the targets: then the other nodes are asked.
//! If one of them hears its targets, this node's ports are at fault; if none does, the targets are.
//!
//! Their word is of worth only when they have had the time to notice what was noticed here: if all lose
//! their targets at once, the last one's answers end up to an interval after the first one's, and it
//! takes a while until the others know. So a node tells early that it hears nothing, and asks late:
//! with an interval of 200 ms and a port that has failed after 3 of them, this long after the last answer
//!
//! ```text
//!     200 ms   a question stays without an answer
//!     250 ms   all targets are asked at once: one lost packet, or one dead target, ends here
//!     300 ms   suspicion: it is told that nothing is heard here
//!     550 ms   each port by itself has failed
//!     600 ms   the others are asked, and all targets once more
//! ```
//!
//! and a verdict as soon as they have answered. It is no more than what holds at the moment: while
//! nothing answers, they are asked again, soon at first, since one that was kept waiting may tell late.

use std::time::{Duration, Instant};

use super::Limits;

#[cfg(test)]
mod tests;

/// What a node has noticed, all know after so long: it starts a program, and the cluster carries it.
const NEWS: Duration = Duration::from_millis(100);
/// How often the others are asked again in the end while nothing answers.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Targets answer.
    Nobody,
    /// Nothing answers, and the others have not been heard on it yet.
    Unknown,
    /// Nothing answers here, but at another node.
    Ports,
    /// Nothing answers at any node.
    Targets,
}

/// The judgement on one subnet.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    limits: Limits,
    /// The silence counts from here.
    heard: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Targets answer. If none has until then, all are asked at once.
    Hears { until: Instant },
    /// All have been asked, and may answer until then.
    Tries { until: Instant },
    /// Nothing answers.
    Deaf {
        fault: Fault,
        /// When the others are to be asked.
        ask_at: Instant,
        /// How long it was from the last time to this one; `None` if they have not been asked yet.
        pause: Option<Duration>,
    },
}

impl Witness {
    /// Nothing is known yet: until somebody answers, here or there, silence means nothing.
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        let mut witness = Self {
            limits,
            heard: now,
            stage: Stage::Hears { until: now },
        };
        witness.stage = Stage::Deaf {
            fault: Fault::Targets,
            ask_at: now + witness.suspect_after() + witness.patience(),
            pause: None,
        };
        witness
    }

    /// A target has answered through one of this node's ports.
    pub(crate) fn on_reply(&mut self, now: Instant) {
        self.heard = now;
        let until = now + self.suspect_after().saturating_sub(self.try_time());
        self.stage = Stage::Hears { until };
    }

    /// Nobody has been asked up to now: the silence says nothing, and counts from now on. But whoever
    /// was heard before may be gone since, so that all are asked at once.
    pub(crate) fn resumed(&mut self, now: Instant) {
        self.heard = now;
        let asks = now + self.suspect_after() + self.patience();
        match &mut self.stage {
            Stage::Deaf {
                fault: Fault::Unknown,
                ask_at,
                pause,
            } => (*ask_at, *pause) = (asks, None),
            Stage::Deaf { .. } => {}
            stage => *stage = Stage::Hears { until: now },
        }
    }

    /// Lets time pass. Says whether all targets are to be asked at once.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        match self.stage {
            Stage::Hears { until } if until <= now => {
                let until = now + self.try_time();
                self.stage = Stage::Tries { until };
                true
            }
            Stage::Tries { until } if until <= now => {
                let planned = self.heard + self.suspect_after();
                self.stage = Stage::Deaf {
                    fault: Fault::Unknown,
                    ask_at: planned.max(now) + self.patience(),
                    pause: None,
                };
                false
            }
            _ => false,
        }
    }

    /// Whether the others are to be asked now, and all targets once more: one that has just come back
    /// may have been heard by the others only. Once asked, not again before they had time to answer.
    pub(crate) fn query_due(&mut self, now: Instant) -> bool {
        let first = self.patience();
        match &mut self.stage {
            Stage::Deaf { ask_at, pause, .. } if *ask_at <= now => {
                let next = pause.map_or(first, |p| p.saturating_mul(2));
                let next = next.min(ASK_AGAIN);
                (*ask_at, *pause) = (now + next, Some(next));
                true
            }
            _ => false,
        }
    }

    /// When time alone changes something.
    pub(crate) fn next(&self) -> Instant {
        match self.stage {
            Stage::Hears { until } | Stage::Tries { until } => until,
            Stage::Deaf { ask_at, .. } => ask_at,
        }
    }

    /// The answer of the others, who were asked: whether a target answers at one of them.
    pub(crate) fn on_others(&mut self, others_hear: bool) {
        if let Stage::Deaf {
            fault,
            pause: Some(_),
            ..
        } = &mut self.stage
        {
            *fault = match others_hear {
                true => Fault::Ports,
                false => Fault::Targets,
            };
        }
    }

    /// What is known.
    pub(crate) fn fault(&self) -> Fault {
        match self.stage {
            Stage::Hears { .. } | Stage::Tries { .. } => Fault::Nobody,
            Stage::Deaf { fault, .. } => fault,
        }
    }

    /// Since when nothing has been heard, as long as it is not known whose fault that is.
    pub(crate) fn in_doubt_since(&self) -> Option<Instant> {
        (self.fault() == Fault::Unknown).then_some(self.heard)
    }

    /// Whether silence of a port is its own fault.
    pub(crate) fn expects(&self) -> bool {
        self.fault() != Fault::Targets
    }

    /// How long after the last answer it is suspected that none will come: not before a second
    /// question, and not sooner than it takes to have a verdict when a port fails.
    fn suspect_after(&self) -> Duration {
        let silent = self.limits.silent_after();
        let at_once = self.limits.suspect_after();
        silent.saturating_sub(self.patience()).max(at_once)
    }

    /// How long after a suspicion all others that have reason to share it have told of it.
    fn patience(&self) -> Duration {
        self.limits.interval.saturating_add(NEWS)
    }

    /// How long before a suspicion all targets are asked.
    fn try_time(&self) -> Duration {
        self.limits.interval / 4
    }
}
