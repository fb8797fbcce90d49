//! Rates of data.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// What is moved in a second: what a port can carry, or what an address moves through it. Sums stay at the highest
/// rate that there is. Messages have it as its bits a second, which is to be told by the name of the field.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(crate) struct BitRate(u64);

impl BitRate {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);

    /// So many megabits (of a million) a second.
    pub(crate) const fn megabits(count: u32) -> Self {
        // 32 bits of millions are less than 64 bits.
        Self(count as u64 * 1_000_000)
    }

    /// So many bytes a second.
    pub(crate) const fn bytes(count: u64) -> Self {
        Self(count.saturating_mul(8))
    }

    /// How many bits a second it is.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// What is left of it without `other`, which may be more.
    #[must_use]
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// How much of `whole` it is, in `parts` of that: 1000 for thousandths. Rounded down, and more than `parts` if it
    /// is more than the whole; `None` of nothing.
    pub(crate) fn share_of(self, whole: Self, parts: u32) -> Option<u128> {
        (u128::from(self.0) * u128::from(parts)).checked_div(u128::from(whole.0))
    }
}

impl Add for BitRate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for BitRate {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for BitRate {
    fn sum<I: Iterator<Item = Self>>(rates: I) -> Self {
        rates.fold(Self::NONE, Self::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_megabits_are_bits() {
        assert_eq!(BitRate::bytes(125_000_000), BitRate::megabits(1000));
        assert_eq!(BitRate::megabits(1000).bits(), 1_000_000_000);
        assert_eq!(BitRate::megabits(u32::MAX).bits(), 4_294_967_295_000_000);
    }

    #[test]
    fn a_share_is_counted_in_the_parts_that_are_asked_for() {
        let (gigabit, load) = (BitRate::megabits(1000), BitRate::bytes(31_250_000));
        assert_eq!(load.share_of(gigabit, 1000), Some(250));
        assert_eq!(load.share_of(gigabit, 1_000_000), Some(250_000));
        assert_eq!(gigabit.share_of(load, 100), Some(400));
        assert_eq!(load.share_of(BitRate::NONE, 100), None);
        let most = BitRate::bytes(u64::MAX);
        assert_eq!(most.share_of(most, u32::MAX), Some(u32::MAX.into()));
    }

    #[test]
    fn sums_and_differences_have_ends() {
        let (most, some) = (BitRate::bytes(u64::MAX), BitRate::megabits(1));
        assert_eq!([most, some].into_iter().sum::<BitRate>(), most);
        assert_eq!(some.without(most), BitRate::NONE);
        assert_eq!((some + some).without(some), some);
    }
}
