//! Whose fault it is when nothing answers any more in a whole subnet.
//!
//! One port that hears nothing while another hears is at fault itself. When all ports of a node hear
//! nothing, it may be the node's side of the network, or the targets: then the other nodes are asked.
//! If one of them hears its targets, this node's ports are at fault; if none does, the targets are.

use std::time::{Duration, Instant};

use super::Limits;

/// How often the others are asked again while nothing answers.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
pub struct Witness {
    limits: Limits,
    fault: Fault,
    heard: Instant,
    /// When the others are to be asked.
    ask: Option<Instant>,
}

impl Witness {
    /// Nothing is known yet: until somebody answers, here or there, silence means nothing.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            fault: Fault::Targets,
            heard: now,
            ask: Some(now + limits.silent_after() + limits.interval * 2),
        }
    }

    /// A target has answered through one of this node's ports.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.fault = Fault::Nobody;
        self.ask = None;
    }

    /// Nobody has been asked up to now: the silence says nothing, and counts from now on.
    pub fn resumed(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.heard) >= self.limits.silent_after();
        if self.fault == Fault::Nobody && silent {
            self.fault = Fault::Unknown;
            // When all lose a target at once, each notices within an interval, and tells.
            self.ask = Some(now + self.limits.interval * 2);
        }
    }

    /// Whether the others are to be asked now; once asked, not again before they had time to answer.
    pub fn asks(&mut self, now: Instant) -> bool {
        let due = self.ask.is_some_and(|at| at <= now);
        if due {
            self.ask = Some(now + ASK_AGAIN);
        }
        due
    }

    /// When time alone changes something.
    pub fn next(&self) -> Option<Instant> {
        match self.fault {
            Fault::Nobody => Some(self.heard + self.limits.silent_after()),
            _ => self.ask,
        }
    }

    /// The answer of the others: whether a target answers at one of them.
    pub fn told(&mut self, others_hear: bool) {
        if self.fault != Fault::Nobody {
            self.fault = match others_hear {
                true => Fault::Ports,
                false => Fault::Targets,
            };
        }
    }

    /// What is known.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Whether silence of a port is its own fault.
    pub fn expects(&self) -> bool {
        self.fault != Fault::Targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        interval: Duration::from_millis(200),
        fail_after: 3,
        recover_after: Duration::from_secs(30),
    };

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    /// One that has heard a target, and nothing since.
    fn deaf(start: Instant) -> Witness {
        let mut witness = Witness::new(LIMITS, start);
        witness.heard(start);
        witness.tick(after(start, 549));
        assert_eq!(witness.fault(), Fault::Nobody);
        witness.tick(after(start, 550));
        assert_eq!(witness.fault(), Fault::Unknown);
        witness
    }

    #[test]
    fn silence_is_not_judged_before_the_others_were_asked() {
        let start = Instant::now();
        let mut witness = deaf(start);
        assert!(witness.expects());
        assert!(!witness.asks(after(start, 900)));
        assert!(witness.asks(after(start, 950)));
        assert!(!witness.asks(after(start, 951)), "asked once");
    }

    #[test]
    fn it_is_the_ports_fault_if_another_node_hears_and_the_targets_if_none_does() {
        let start = Instant::now();
        for (others, fault) in [(true, Fault::Ports), (false, Fault::Targets)] {
            let mut witness = deaf(start);
            witness.told(others);
            assert_eq!(witness.fault(), fault);
            assert_eq!(witness.expects(), others);
            // An answer clears everybody at once, and a late word from others changes nothing.
            witness.heard(after(start, 2000));
            witness.told(others);
            assert_eq!(witness.fault(), Fault::Nobody);
        }
    }

    #[test]
    fn as_long_as_nothing_answers_the_others_are_asked_again() {
        let start = Instant::now();
        let mut witness = deaf(start);
        assert!(witness.asks(after(start, 950)));
        witness.told(false);
        let next = witness.next().unwrap();
        assert_eq!(next, after(start, 950) + ASK_AGAIN);
        assert!(witness.asks(next));
    }

    #[test]
    fn at_first_silence_means_nothing_unless_others_hear() {
        let start = Instant::now();
        let mut witness = Witness::new(LIMITS, start);
        assert!(!witness.expects());
        witness.tick(after(start, 10_000));
        assert!(!witness.expects() && witness.asks(after(start, 10_000)));
        witness.told(true);
        assert_eq!(witness.fault(), Fault::Ports);
    }
}
