//! How the time that Pacemaker gives an action is shared out, above all that of a stop: if a stop fails, the whole node
//! is fenced.
//!
//! Each share is a fraction of the whole time, so none becomes too small as a fraction of a fraction. In 24ths, and for
//! a stop of 60 s:
//! ```text
//!  0   servers, or users of a file system, are asked to end
//!  8   those that still run are killed                          20 s
//! 12   the cell's PID 1 is killed, and with it all in the cell  30 s
//! 16   the keeper has answered                                  40 s
//! 18   a keeper that has not answered is killed, with its cell  45 s
//! 20   the kernel has proven that devices are free: the action
//!      ends by itself, and its exit reason is the best          50 s
//! 22   the watchdog ends the action, and names its step         55 s
//! 24   Pacemaker kills the action, which gives no reason then   60 s
//! ```

use std::time::Duration;

const PARTS: u32 = 24;
const PATIENCE: u32 = 8;
const CELL_KILLED: u32 = 12;
const STOPPED: u32 = 16;
const KEEPER_KILLED: u32 = 18;
const STARTED: u32 = 19;
const END: u32 = 20;
const WATCHDOG: u32 = 22;

/// The time that an action may take, shared out. All times are counted from the beginning of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget(Duration);

impl Budget {
    /// The budget of an action that Pacemaker kills after `timeout`.
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self(timeout)
    }

    /// The budget of the stop whose keeper was told to answer within `limit`.
    pub(crate) fn of_keeper(limit: Duration) -> Self {
        Self(limit.saturating_mul(PARTS) / STOPPED)
    }

    /// How long servers, and users of a file system, have to end when they are asked to.
    pub(crate) fn patience(self) -> Duration {
        self.part(PATIENCE)
    }

    /// As [`Self::patience`], where part of the time is over and the cell is killed after `left`.
    pub(crate) fn patience_within(left: Duration) -> Duration {
        left.saturating_mul(PATIENCE) / CELL_KILLED
    }

    /// When the cell is killed if a stop inside it has not ended.
    pub(crate) fn cell_killed(self) -> Duration {
        self.part(CELL_KILLED)
    }

    /// When the keeper has to answer a stop.
    pub(crate) fn stopped(self) -> Duration {
        self.part(STOPPED)
    }

    /// When the keeper is killed if it has not answered a stop.
    pub(crate) fn keeper_killed(self) -> Duration {
        self.part(KEEPER_KILLED)
    }

    /// When the keeper has to answer anything but a stop.
    pub(crate) fn answered(self) -> Duration {
        self.part(STARTED)
    }

    /// When the action has to end by itself.
    pub(crate) fn end(self) -> Duration {
        self.part(END)
    }

    /// When the watchdog ends the action.
    pub(crate) fn watchdog(self) -> Duration {
        self.part(WATCHDOG)
    }

    fn part(self, parts: u32) -> Duration {
        self.0.saturating_mul(parts) / PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(budget: Budget) -> [Duration; 8] {
        [
            budget.patience(),
            budget.cell_killed(),
            budget.stopped(),
            budget.keeper_killed(),
            budget.answered(),
            budget.end(),
            budget.watchdog(),
            budget.0,
        ]
    }

    #[test]
    fn the_shares_come_one_after_the_other_and_add_up_to_the_whole() {
        for seconds in [1, 20, 60, 600] {
            let shares = shares(Budget::new(Duration::from_secs(seconds)));
            assert!(shares.is_sorted(), "{shares:?}");
            let gaps = shares.windows(2).map(|pair| pair[1] - pair[0]);
            assert_eq!(
                gaps.sum::<Duration>() + shares[0],
                Duration::from_secs(seconds)
            );
        }
        let seconds = shares(Budget::new(Duration::from_secs(60))).map(|share| share.as_secs());
        assert_eq!(seconds, [20, 30, 40, 45, 47, 50, 55, 60]);
    }

    #[test]
    fn the_keeper_shares_out_as_the_agent_does() {
        let agent = Budget::new(Duration::from_secs(60));
        assert_eq!(Budget::of_keeper(agent.stopped()), agent);
        assert_eq!(
            Budget::patience_within(agent.cell_killed()),
            agent.patience()
        );
    }

    /// Of 20 s, which Pacemaker gives an action that nobody gives a time.
    #[test]
    fn each_share_of_a_stop_is_long_enough_for_what_it_is_for() {
        let budget = Budget::new(Duration::from_secs(20));
        // Users are killed, and the kernel writes back what is left, before the cell is.
        assert!(budget.cell_killed() - budget.patience() >= Duration::from_secs(3));
        // A cell is cleared away in milliseconds; its file systems may have much to write.
        assert!(budget.stopped() - budget.cell_killed() >= Duration::from_secs(3));
        assert!(budget.end() - budget.keeper_killed() >= Duration::from_secs(1));
        assert!(budget.0 - budget.watchdog() >= Duration::from_secs(1));
        // What another process says must not panic this one.
        let _ = shares(Budget::of_keeper(Duration::MAX));
    }
}
