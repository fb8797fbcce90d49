//! How much room a node has to route for others, as it publishes it.
//!
//! The room is the unused part of the node, in five steps. The used part is measured regularly and
//! smoothed. Each change of the step costs the cluster a transition. So a step is left only when
//! the room has been beyond the middle of the next one for the whole of a hold, without a break; the new step is
//! the last one whose middle the room is beyond. So there is at most one change in a hold, and while
//! the room varies by less than a step no value comes back.
//!
//! ```text
//!     used   0 %       20 %      40 %      60 %      80 %     100 %
//!            ├────┴────┼────┴────┼────┴────┼────┴────┼────┴────┤
//!     value       40        30        20        10         0
//! ```

use std::time::{Duration, Instant};

use super::choice::assumed_speed;
use super::{Port, Standing};
use crate::types::BitRate;

#[cfg(test)]
mod tests;

/// How long there must be less room before a step is left.
const LESS_AFTER: Duration = Duration::from_secs(30);
/// How long there must be more room before a step is left: a load that comes and goes every minute counts as there.
const MORE_AFTER: Duration = Duration::from_secs(120);
/// The time constant of the smoothing: after this long a measurement still counts for about a third.
const MEMORY: Duration = Duration::from_secs(10);

/// Shares are counted in parts of this.
const WHOLE: u32 = 1_000_000;
/// The width of a step, in the same parts.
const STEP: u32 = WHOLE / 5;
/// The last step: that of an idle node.
const LAST: u32 = 4;
/// The difference in value from one step to the next.
const VALUE: u32 = 10;

/// How much of a thing is used, no more than all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

impl Share {
    /// Nothing.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(0);

    /// `part` of `whole`; nothing of nothing.
    pub(crate) fn of(part: u64, whole: u64) -> Self {
        let share = (u128::from(part) * u128::from(WHOLE)).checked_div(u128::from(whole));
        Self(share.map_or(0, |s| u32::try_from(s).map_or(WHOLE, |s| s.min(WHOLE))))
    }

    /// `load` as a part of the speed of all usable ports; nothing if no port is usable: other attributes keep VIPs away
    /// then.
    pub(crate) fn of_ports(load: BitRate, ports: &[Port]) -> Self {
        let assumed = assumed_speed(ports);
        let usable = ports.iter().filter(|p| p.standing < Standing::Held);
        let speeds = usable.map(|p| p.speed_or(assumed));
        let all: BitRate = speeds.sum();
        Self::of(load.bits(), all.bits())
    }
}

/// Follows how much of a node is used.
#[derive(Debug, Clone)]
pub(crate) struct Spare {
    /// 0: no room, 4: idle.
    step: u32,
    used: u32,
    at: Instant,
    /// The side (true: more room) on which the room has been beyond the middle of the next step, and since when.
    beyond: Option<(bool, Instant)>,
}

impl Spare {
    /// The room of a node of which this much is used.
    pub(crate) fn new(used: Share, now: Instant) -> Self {
        Self {
            step: ((WHOLE - used.0) / STEP).min(LAST),
            used: used.0,
            at: now,
            beyond: None,
        }
    }

    /// Notes how much was used since the last call. Returns whether the value has changed.
    pub(crate) fn observe(&mut self, used: Share, now: Instant) -> bool {
        self.used = smooth(self.used, used.0, now.saturating_duration_since(self.at));
        self.at = now;
        let target = self.target();
        if target == self.step {
            self.beyond = None;
            return false;
        }
        let more = target > self.step;
        let begun = self.beyond.filter(|(side, _)| *side == more);
        let (_, since) = *self.beyond.insert(begun.unwrap_or((more, now)));
        let hold = if more { MORE_AFTER } else { LESS_AFTER };
        let due = now.saturating_duration_since(since) >= hold;
        if due {
            self.step = target;
            self.beyond = None;
        }
        due
    }

    /// The value to publish: from 0 for a node without room to 40 for an idle one.
    pub(crate) fn value(&self) -> u32 {
        self.step * VALUE
    }

    /// The last step whose middle the room is beyond; the present step if the room is not beyond the middle of the
    /// next.
    fn target(&self) -> u32 {
        let over_first = (WHOLE - self.used).saturating_sub(STEP / 2);
        let reached = (over_first / STEP).min(LAST);
        let undercut = over_first.div_ceil(STEP).min(LAST);
        self.step.clamp(reached, undercut)
    }
}

/// The used part as smoothed: `before`, followed by `used` for the time `since`.
fn smooth(before: u32, used: u32, since: Duration) -> u32 {
    let (memory, since) = (MEMORY.as_millis(), since.as_millis());
    let sum = u128::from(before) * memory + u128::from(used).saturating_mul(since);
    let mean = sum / memory.saturating_add(since);
    u32::try_from(mean).unwrap_or(WHOLE)
}
