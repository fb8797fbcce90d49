//! The notation of times.

use std::time::Duration;

use super::Integer;

/// Times of a range, of which one is the default; each as [`duration`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// The shortest.
    pub(crate) least: &'static str,
    /// The longest.
    pub(crate) most: &'static str,
    /// The one that is taken when none is set.
    pub(crate) default: &'static str,
}

impl Time {
    /// From the shortest to the longest.
    ///
    /// # Panics
    /// If one of them is no time, or they are out of order: the build fails where it makes a constant.
    pub(crate) const fn new(
        (least, most): (&'static str, &'static str),
        default: &'static str,
    ) -> Self {
        match (
            milliseconds(least),
            milliseconds(default),
            milliseconds(most),
        ) {
            (Some(a), Some(b), Some(c)) if a <= b && b <= c => Self {
                least,
                most,
                default,
            },
            _ => panic!("no range of times with its default"),
        }
    }

    /// The same range and default in whole seconds, for who has them as a number.
    ///
    /// # Panics
    /// If one of them is too long for that: the build fails where it makes a constant.
    pub(crate) const fn seconds(self) -> Integer {
        Integer {
            least: seconds(self.least),
            most: seconds(self.most),
            default: seconds(self.default),
        }
    }

    /// The time that `value` says, if it is in the range.
    pub(crate) fn parse(self, value: &str) -> Option<Duration> {
        let time = duration(value)?;
        let range = duration(self.least)?..=duration(self.most)?;
        range.contains(&time).then_some(time)
    }
}

const fn seconds(text: &str) -> u32 {
    match milliseconds(text) {
        Some(time) if time % 1000 == 0 && time / 1000 <= u32::MAX as u64 => (time / 1000) as u32,
        _ => panic!("no whole seconds"),
    }
}

/// A time such as `200ms`, `30s`, `5m`, `1h`; seconds without a unit, as Pacemaker has it.
pub(crate) const fn duration(text: &str) -> Option<Duration> {
    match milliseconds(text) {
        Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
        None => None,
    }
}

const fn milliseconds(text: &str) -> Option<u64> {
    let text = text.as_bytes();
    let mut digits = 0;
    while digits < text.len() && text[digits].is_ascii_digit() {
        digits += 1;
    }
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        b"ms" => 1,
        b"" | b"s" => 1000,
        b"m" | b"min" => 60_000,
        b"h" => 3_600_000,
        _ => return None,
    };
    match whole(number) {
        // 32 bits of hours are far less than 64 bits of milliseconds.
        Some(number) => Some(number as u64 * unit),
        None => None,
    }
}

/// A whole number of nothing but digits, where a constant is made.
pub(crate) const fn whole(mut digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    let mut number: u32 = 0;
    while let [digit, rest @ ..] = digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let Some(shifted) = number.checked_mul(10) else {
            return None;
        };
        let Some(sum) = shifted.checked_add((*digit - b'0') as u32) else {
            return None;
        };
        (number, digits) = (sum, rest);
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, milliseconds) in [
            ("200ms", 200),
            ("30s", 30_000),
            ("30", 30_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("1h", 3_600_000),
            ("007s", 7_000),
            ("4294967295h", 4_294_967_295 * 3_600_000),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(duration(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "ms",
            "s",
            "+1s",
            "-1s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1d",
            "1S",
            "4294967296ms",
            "\u{661}s",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_has_its_ends() {
        let time = Time::new(("20ms", "10s"), "200ms");
        for good in ["20ms", "0020ms", "1", "10s", "10000ms"] {
            assert_eq!(time.parse(good), duration(good), "{good}");
        }
        for bad in ["19ms", "0", "10001ms", "11s", "1m", "soon"] {
            assert_eq!(time.parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_those_of_the_standard_library(text in "[0-9]{0,12}|\\PC{0,4}") {
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            let expected = text.parse::<u32>().ok().filter(|_| plain);
            prop_assert_eq!(whole(text.as_bytes()), expected);
        }

        #[test]
        fn no_text_is_too_odd(text in "\\PC{0,12}|[0-9]{1,12}(ms|s|m|min|h)?") {
            let _ = duration(&text);
        }
    }
}
