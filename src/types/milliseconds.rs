//! Times as messages have them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long something takes or has taken, in thousandths of a second, rounded down. Whether it is over
/// or yet to come is told by the name of the field.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(crate) struct Milliseconds(pub(crate) u64);

impl Milliseconds {
    /// From `from` to `to`; nothing if that is the other way round.
    pub(crate) fn between(from: Instant, to: Instant) -> Self {
        to.saturating_duration_since(from).into()
    }
}

impl From<Duration> for Milliseconds {
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_one_way_and_has_an_end() {
        let (now, later) = (Instant::now(), Duration::from_micros(1_999_999));
        assert_eq!(
            Milliseconds::between(now, now + later),
            Milliseconds(1999),
            "rounded down"
        );
        assert_eq!(Milliseconds::between(now + later, now), Milliseconds(0));
        assert_eq!(Milliseconds::from(Duration::MAX), Milliseconds(u64::MAX));
    }
}
