//! How one port is: a state machine over its carrier, the answers heard through it, and time.
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
//! When no answers can be expected any more, because there are no targets or because the targets
//! themselves are at fault, silence says nothing about the port: Suspect, and what failed only by
//! silence, is Good at once, and that failure is not counted. From then on the carrier alone decides.
//!
//! Time passes in [`Health::tick`] only. So one who was kept waiting can first tell of what happened
//! meanwhile, and a port doesn't fail by a silence that was broken.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// So many failures within [`FLAP_WINDOW`] make a port [`Standing::Degraded`].
pub(crate) const FLAPS: usize = 5;
/// How long a failure is held against a port.
pub(crate) const FLAP_WINDOW: Duration = Duration::from_secs(600);

/// The times that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From probe to probe.
    pub(crate) interval: Duration,
    /// So many silent intervals after its switch has died, a port has failed. Less than 2 is taken
    /// as 2: between two answers there is one interval of silence anyway.
    pub(crate) fail_after: u32,
    /// How long a port must work before it is good again.
    pub(crate) recover_after: Duration,
}

impl Limits {
    pub(crate) fn suspect_after(&self) -> Duration {
        self.interval.saturating_mul(3) / 2
    }

    /// Counts from the last answer, and leaves a quarter of an interval for the move of the VIPs.
    pub(crate) fn silent_after(&self) -> Duration {
        let whole = self.interval.saturating_mul(self.fail_after.max(2));
        whole.saturating_sub(self.interval / 4)
    }
}

/// Why a port has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It has no carrier.
    Carrier,
    /// It has carrier, but no target answers through it.
    Silent,
}

/// What a port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It works.
    Good,
    /// An answer is overdue.
    Suspect,
    /// It doesn't work.
    Failed(Cause),
    /// It works again, and has yet to show that it goes on doing so.
    Held,
}

/// How far a port can be relied on; the better, the smaller.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) enum Standing {
    /// It works.
    Good,
    /// It works, but has failed often of late.
    Degraded,
    /// It may have failed: it keeps what it serves, and is no place to go to.
    Suspect,
    /// It works again, but not long enough.
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
    /// The silence counts from here: the last answer, or when one could first be expected.
    heard: Instant,
    /// Whether it has lost its carrier since it was last good: such a failure is its own.
    lost_carrier: bool,
    /// The latest failures, one more than count, for one of them may be taken back.
    flaps: VecDeque<Instant>,
}

impl Health {
    /// The health of a port that is found at the start: there is no reason yet to mistrust one that
    /// has carrier. Answers are not expected before [`Self::listen`] says so.
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

    /// What the kernel says of its carrier, whether that is news or not.
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

    /// A target has answered through this port.
    pub(crate) fn on_reply(&mut self, now: Instant) {
        // What is still read after the carrier went has come before.
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

    /// Whether answers can be expected at all: not without targets, nor while every node has lost
    /// them, which makes it their fault.
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

    /// A port of its subnet is heard again, after all had been silent from `since` on and before it was
    /// known whose fault that was: if this one has failed by silence meanwhile, it has not, but must be
    /// heard from now on.
    pub(crate) fn absolve(&mut self, since: Instant, now: Instant) {
        let silent = self.state == State::Failed(Cause::Silent) && !self.lost_carrier;
        if silent && self.since > since {
            self.flaps.pop_back();
            self.heard = now;
            self.enter(State::Good, now);
        }
    }

    /// Nobody has probed up to now, because this process or the whole machine stood still: the
    /// silence says nothing, and counts from now on.
    pub(crate) fn resumed(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, now: Instant) {
        // One step after the other: a long wait ends where many short ones do.
        while let Some(at) = self.next().filter(|at| *at <= now) {
            self.step(at);
        }
    }

    /// When time alone will change something.
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.silence_at(), self.held_until(), self.forgiven_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What it does.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How far it can be relied on.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        match self.state {
            State::Good if self.forgiven_at().is_some_and(|at| now < at) => Standing::Degraded,
            State::Good => Standing::Good,
            State::Suspect => Standing::Suspect,
            State::Held => Standing::Held,
            State::Failed(_) => Standing::Failed,
        }
    }

    /// What comes at `at`, as [`Self::next`] has it. Silence goes before the end of a hold-down: a
    /// port that is silent at that moment has not recovered.
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
