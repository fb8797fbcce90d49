//! The health of one port: a state machine over its carrier, the replies that come in through it, and time.
//!
//! ```text
//!                   1.5 intervals of silence
//!               ┌──────────────────────────────┐
//!               │                              ▼
//!  carrier   ┌──┴───┐                     ┌─────────┐
//!  at start ►│ Good │◄────────────────────┤ Suspect │
//!            └─┬──▲─┘       answer        └────┬────┘
//!              │  │                            │
//!      carrier │  │ recover_after without      │ carrier lost, or silence goes on:
//!        lost  │  │ a loss                     │ fail_after − ¼ intervals of it in all
//!              │ ┌┴─────┐                      │
//!              │ │ Held ├───────────────┐      │
//!              │ └─▲────┘  the same     │      │
//!              │   │                    │      │
//!              │   │ has carrier, and   │      │
//!              │   │ an answer if any   │      │
//!              │   │ can be expected    │      │
//!              │ ┌─┴──────────────────┐ │      │
//!              └►│ Failed             │◄┴──────┘
//!  no carrier   ►│ (Carrier | Silent) │
//!  at start      └────────────────────┘
//! ```
//!
//! When no replies can be expected any more, because there are no targets or because the targets
//! themselves are at fault, silence says nothing about the port: a port that is Suspect, or has failed only by
//! silence, is Good at once, and that failure is not counted. From then on the carrier alone decides.
//!
//! Time passes in [`Health::tick`] only. So a caller that was delayed can first report the replies that came in
//! meanwhile, and a port doesn't fail by a silence that was broken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How many failures within [`FLAP_WINDOW`] make a port [`Standing::Degraded`].
pub(crate) const FLAPS: usize = 5;
/// How long a failure is held against a port.
pub(crate) const FLAP_WINDOW: Duration = Duration::from_secs(600);

/// The time limits by which a port is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The time from one probe to the next.
    pub(crate) interval: Duration,
    /// How many intervals after its switch has died a port has failed. Less than 2 is taken as 2: there is an interval
    /// of silence between two replies anyway.
    pub(crate) fail_after: u32,
    /// How long a port must work before it is good again.
    pub(crate) recover_after: Duration,
}

impl Limits {
    pub(crate) fn suspect_after(&self) -> Duration {
        self.interval.saturating_mul(3) / 2
    }

    /// After how long a silence, counted from the last reply, a port has failed. A quarter of an interval is left for
    /// the move of the VIPs.
    pub(crate) fn silent_after(&self) -> Duration {
        let whole = self.interval.saturating_mul(self.fail_after.max(2));
        whole.saturating_sub(self.interval / 4)
    }
}

/// Why a port has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The port has no carrier.
    Carrier,
    /// The port has carrier, but no target replies through it.
    Silent,
}

/// The state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It works.
    Good,
    /// A reply is overdue.
    Suspect,
    /// It doesn't work.
    Failed(Cause),
    /// It works again, and must go on working for a while before it is good.
    Held,
}

/// How far a port can be relied on; the better standing is the smaller one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum Standing {
    /// It works.
    Good,
    /// It works, but has failed often of late.
    Degraded,
    /// It may have failed: VIPs stay on it, but none moves to it.
    Suspect,
    /// It works again, but not for long enough yet.
    Held,
    /// It doesn't work.
    Failed,
}

/// The health of one port.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    limits: Limits,
    carrier: bool,
    expects: bool,
    state: State,
    /// When the state was entered.
    since: Instant,
    /// From when on silence is counted: the last reply, or when one could first be expected.
    heard: Instant,
    /// Whether the port has lost its carrier since it was last good: that failure can't be the targets' fault.
    lost_carrier: bool,
    /// The times of the latest failures. One more is kept than counts, as one of them may be taken back.
    flaps: VecDeque<Instant>,
}

impl Health {
    /// The health of a port that was just found: good if it has carrier. Replies are not expected before
    /// [`Self::listen`] says so.
    pub(crate) fn new(limits: Limits, carrier: bool, now: Instant) -> Self {
        Self {
            limits,
            carrier,
            expects: false,
            state: match carrier {
                true => State::Good,
                false => State::Failed(Cause::Carrier),
            },
            since: now,
            heard: now,
            lost_carrier: !carrier,
            flaps: VecDeque::with_capacity(FLAPS + 1),
        }
    }

    /// Notes the carrier as the kernel reports it, whether it has changed or not.
    pub(crate) fn link(&mut self, carrier: bool, now: Instant) {
        if carrier == self.carrier {
            return;
        }
        self.carrier = carrier;
        match carrier {
            false => self.fail(Cause::Carrier, now),
            true if self.expects => self.enter(State::Failed(Cause::Silent), now),
            true => self.enter(State::Held, now),
        }
    }

    /// Notes that a target has replied through this port.
    pub(crate) fn on_reply(&mut self, now: Instant) {
        // A reply that is read after the carrier was lost came in before.
        if !self.carrier {
            return;
        }
        self.heard = now;
        match self.state {
            State::Suspect => self.enter(State::Good, now),
            State::Failed(_) => self.enter(State::Held, now),
            State::Good | State::Held => {}
        }
    }

    /// Sets whether replies can be expected: not without targets, nor while all nodes have lost them, since then the
    /// targets are at fault.
    pub(crate) fn listen(&mut self, expects: bool, now: Instant) {
        if expects == self.expects {
            return;
        }
        self.expects = expects;
        if expects {
            self.heard = now;
            return;
        }
        match self.state {
            State::Suspect => self.enter(State::Good, now),
            State::Failed(Cause::Silent) | State::Held if !self.lost_carrier => {
                self.flaps.pop_back();
                self.enter(State::Good, now);
            }
            State::Failed(Cause::Silent) => self.enter(State::Held, now),
            State::Good | State::Failed(Cause::Carrier) | State::Held => {}
        }
    }

    /// Notes that a target has replied through some port of the subnet, after all ports had been silent from `since` on
    /// and before it was known whose fault that was. If this port has failed by silence meanwhile, that failure is
    /// taken back, and its silence counts from now on.
    pub(crate) fn absolve(&mut self, since: Instant, now: Instant) {
        let silent = self.state == State::Failed(Cause::Silent) && !self.lost_carrier;
        if silent && self.since > since {
            self.flaps.pop_back();
            self.heard = now;
            self.enter(State::Good, now);
        }
    }

    /// Notes that no probe was sent up to now, because this process or the whole machine stood still: silence counts
    /// from now on.
    pub(crate) fn resumed(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Takes all transitions that time alone brings up to `now`.
    pub(crate) fn tick(&mut self, now: Instant) {
        // One transition after the other, each at its own time: one long wait has the same result as many short ones.
        while let Some(at) = self.next().filter(|at| *at <= now) {
            self.step(at);
        }
    }

    /// When the next transition is due by time alone.
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.silence_at(), self.held_until(), self.forgiven_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The state of the port.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How far the port can be relied on.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Good if self.forgiven_at().is_some_and(|at| now < at) => Standing::Degraded,
            State::Good => Standing::Good,
            State::Suspect => Standing::Suspect,
            State::Held => Standing::Held,
            State::Failed(_) => Standing::Failed,
        }
    }

    /// Takes the transition that is due at `at`, as [`Self::next`] has it. Silence goes before the end of a hold-down:
    /// a port that is silent at that moment has not recovered.
    fn step(&mut self, at: Instant) {
        if self.silence_at() == Some(at) {
            match self.state {
                State::Good => self.enter(State::Suspect, at),
                _ => self.fail(Cause::Silent, at),
            }
        } else if self.held_until() == Some(at) {
            self.enter(State::Good, at);
        } else {
            self.flaps.pop_front();
        }
    }

    /// When silence will change the state.
    fn silence_at(&self) -> Option<Instant> {
        match self.state {
            _ if !self.expects => None,
            State::Good => self.heard.checked_add(self.limits.suspect_after()),
            State::Suspect | State::Held => self.heard.checked_add(self.limits.silent_after()),
            State::Failed(_) => None,
        }
    }

    /// When a port that works again will be good, if it goes on working.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        match self.state {
            State::Held => self.since.checked_add(self.limits.recover_after),
            _ => None,
        }
    }

    /// When a port that is good will no longer be degraded.
    fn forgiven_at(&self) -> Option<Instant> {
        let counted = self.flaps.len().checked_sub(FLAPS)?;
        match self.state {
            State::Good => self.flaps[counted].checked_add(FLAP_WINDOW),
            _ => None,
        }
    }

    fn fail(&mut self, cause: Cause, now: Instant) {
        self.lost_carrier |= cause == Cause::Carrier;
        if !matches!(self.state, State::Failed(_)) {
            if self.flaps.len() > FLAPS {
                self.flaps.pop_front();
            }
            self.flaps.push_back(now);
        }
        self.enter(State::Failed(cause), now);
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.lost_carrier &= state != State::Good;
        self.state = state;
        self.since = now;
    }
}
