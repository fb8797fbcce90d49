//! Whose fault it is when no target replies any more in a whole subnet.
//!
//! A port that gets no reply while another port of the node does is at fault itself. When no port of a node gets a
//! reply, the node's side of the network may be at fault, or the targets: then the other nodes' attributes are queried.
//! If targets reply to one of them, this node's ports are at fault; if to none, the targets are.
//!
//! The other nodes' values count only when those nodes have had the time to notice the same: if all nodes lose
//! their targets at once, the last one's replies end up to an interval after the first one's, and it
//! takes a while until an attribute arrives. So a node publishes early that no target replies, and queries late:
//! with an interval of 200 ms and a port that has failed after 3 of them, this long after the last reply
//!
//! ```text
//!     200 ms   a probe stays without a reply
//!     250 ms   all targets are probed at once: if only a packet was lost or one target is dead, that ends it
//!     300 ms   suspicion: the node publishes that no target replies
//!     550 ms   each port by itself has failed
//!     600 ms   the others' attributes are queried, and all targets are probed once more
//! ```
//!
//! and a verdict as soon as the query is answered. The verdict holds for the moment only: while no target
//! replies, the attributes are queried again, soon at first, since a node that was kept waiting may publish late.

use std::time::{Duration, Instant};

use super::Limits;

#[cfg(test)]
mod tests;

/// How long it takes until all nodes know what one publishes: it starts a program, and the cluster passes the value on.
const NEWS: Duration = Duration::from_millis(100);
/// How often the others' attributes are queried in the end, while no target replies.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody's: targets reply.
    Nobody,
    /// No target replies, and it is not known yet whether any replies to another node.
    Unknown,
    /// The ports': no target replies here, but one replies to another node.
    Ports,
    /// The targets': none replies to any node.
    Targets,
}

/// The judgement on one subnet.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    limits: Limits,
    /// From when on silence is counted.
    heard: Instant,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Targets reply. If none has replied by `until`, all are probed at once.
    Hears { until: Instant },
    /// All targets have been probed, and may reply until `until`.
    Tries { until: Instant },
    /// No target replies.
    Deaf {
        fault: Fault,
        /// When the others' attributes are to be queried.
        ask_at: Instant,
        /// The time between the last query and the next one; `None` if there was no query yet.
        pause: Option<Duration>,
    },
}

impl Witness {
    /// A witness that knows nothing yet: before a target has replied, here or to another node, silence means nothing.
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

    /// Notes that a target has replied through one of this node's ports.
    pub(crate) fn on_reply(&mut self, now: Instant) {
        self.heard = now;
        let until = now + self.suspect_after().saturating_sub(self.try_time());
        self.stage = Stage::Hears { until };
    }

    /// Notes that no probe was sent up to now: silence counts from now on. The target that replied last may have gone
    /// meanwhile, so all targets are probed at once.
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

    /// Notes the time. Returns whether all targets are to be probed at once.
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

    /// Whether the others' attributes are to be queried now, and all targets to be probed once more: one that has just
    /// come back may have replied to other nodes only. After a query it is false until the others had time to publish.
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

    /// When anything is due by time alone.
    pub(crate) fn next(&self) -> Instant {
        match self.stage {
            Stage::Hears { until } | Stage::Tries { until } => until,
            Stage::Deaf { ask_at, .. } => ask_at,
        }
    }

    /// Notes the others' answer to the query: whether a target replies to one of them.
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

    /// Since when no target has replied, as long as it is not known whose fault that is.
    pub(crate) fn in_doubt_since(&self) -> Option<Instant> {
        (self.fault() == Fault::Unknown).then_some(self.heard)
    }

    /// Whether a port that gets no reply is at fault: replies can be expected.
    pub(crate) fn expects(&self) -> bool {
        self.fault() != Fault::Targets
    }

    /// How long after the last reply the node suspects that none will come: after a second probe at the earliest, and
    /// no sooner than needed for a verdict by the time that a port fails.
    fn suspect_after(&self) -> Duration {
        let silent = self.limits.silent_after();
        let at_once = self.limits.suspect_after();
        silent.saturating_sub(self.patience()).max(at_once)
    }

    /// How long after the suspicion the other nodes that have reason to share it have published it.
    fn patience(&self) -> Duration {
        self.limits.interval.saturating_add(NEWS)
    }

    /// How long before the suspicion all targets are probed.
    fn try_time(&self) -> Duration {
        self.limits.interval / 4
    }
}
