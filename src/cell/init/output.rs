//! Lines from a server's output, limited in length and number, and harmless to a terminal.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::cell::last_words::tells_of_trouble;
use crate::text::plain;

/// Longer lines are cut.
const LENGTH_LIMIT: usize = 1000;

/// Lines for the log in one [`PERIOD`]; the rest is counted.
const RATE_LIMIT: u32 = 200;
const PERIOD: Duration = Duration::from_secs(10);
/// How many further lines in a period may pass if they are about trouble.
const TROUBLE: u32 = 50;

/// How many lines, and bytes, may go to the log at once. As much comes back in a day, so at most twice as much passes
/// on any one day.
const DAILY_LINES: u64 = 10_000;
const DAILY_BYTES: u64 = 5 << 20;
const DAY: Duration = Duration::from_secs(86_400);
/// One part in so many of each is reserved for lines about trouble.
const RESERVE: u64 = 4;

/// What has come from a server's output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A line for the log.
    Line(&'a str),
    /// A line beyond the limits: it does not go to the log.
    Beyond(&'a str),
    /// How many lines were beyond the limits before the line that follows.
    Missing(u64),
}

/// Collects lines from a non-blocking pipe.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    period: Option<Instant>,
    passed: u32,
    lines: Allowance<DAILY_LINES>,
    bytes: Allowance<DAILY_BYTES>,
    missing: u64,
}

impl Lines {
    /// Reads what there is and passes each complete line to `to`. Returns false at the end of the output.
    pub(crate) fn read(&mut self, from: impl AsFd, mut to: impl FnMut(Heard<'_>)) -> bool {
        let mut buffer = [0; 4096];
        // Bounded, so that a server that never stops writing doesn't stop everything else.
        for _ in 0..16 {
            match rustix::io::read(&from, &mut buffer) {
                Ok(0) => {
                    self.end_line(Instant::now(), &mut to);
                    if self.missing > 0 {
                        to(Heard::Missing(std::mem::take(&mut self.missing)));
                    }
                    return false;
                }
                Ok(length) => self.take(&buffer[..length], Instant::now(), &mut to),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8], now: Instant, to: &mut impl FnMut(Heard<'_>)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let text = piece.strip_suffix(b"\n").unwrap_or(piece);
            let room = LENGTH_LIMIT.saturating_sub(self.partial.len());
            self.partial
                .extend_from_slice(&text[..text.len().min(room)]);
            if text.len() < piece.len() {
                self.end_line(now, to);
            }
        }
    }

    fn end_line(&mut self, now: Instant, to: &mut impl FnMut(Heard<'_>)) {
        let text = plain(&String::from_utf8_lossy(&self.partial));
        let text = text.trim_end();
        self.partial.clear();
        if text.is_empty() {
            return;
        }
        if !self.passes(text, now) {
            self.missing = self.missing.saturating_add(1);
            return to(Heard::Beyond(text));
        }
        if self.missing > 0 {
            to(Heard::Missing(std::mem::take(&mut self.missing)));
        }
        to(Heard::Line(text));
    }

    /// Whether there is room for a line in the log.
    fn passes(&mut self, text: &str, now: Instant) -> bool {
        if self
            .period
            .is_none_or(|begun| now.duration_since(begun) >= PERIOD)
        {
            (self.period, self.passed) = (Some(now), 0);
        }
        let matters = tells_of_trouble(text);
        let most = RATE_LIMIT + if matters { TROUBLE } else { 0 };
        // The line that says how many are missing counts, too.
        let lines = 1 + u64::from(self.missing > 0);
        let length = text.len() as u64;
        let has_room = self.passed < most
            && self.lines.has(lines, matters, now)
            && self.bytes.has(length, matters, now);
        if has_room {
            self.passed += 1;
            self.lines.left -= lines;
            self.bytes.left -= length;
        }
        has_room
    }
}

/// An allowance of at most `DAILY`, which comes back steadily over a day.
#[derive(Debug)]
struct Allowance<const DAILY: u64> {
    left: u64,
    /// Up to when what has come back is counted.
    since: Option<Instant>,
}

impl<const DAILY: u64> Default for Allowance<DAILY> {
    fn default() -> Self {
        Self {
            left: DAILY,
            since: None,
        }
    }
}

impl<const DAILY: u64> Allowance<DAILY> {
    /// Whether `wanted` is left. The reserve counts only if it `matters`.
    fn has(&mut self, wanted: u64, matters: bool, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.duration_since(since).min(DAY).as_micros();
        let day = DAY.as_micros();
        let back = u64::try_from(elapsed * u128::from(DAILY) / day).unwrap_or(DAILY);
        if back > 0 {
            self.left = DAILY.min(self.left.saturating_add(back));
            // Not up to now: beyond the whole units, part of another one may have come back.
            let counted = u128::from(back) * day / u128::from(DAILY);
            let counted = u64::try_from(counted).map_or(DAY, Duration::from_micros);
            self.since = Some(since + counted.min(now.duration_since(since)));
        }
        let reserved = if matters { 0 } else { DAILY / RESERVE };
        self.left >= wanted + reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(heard: Heard<'_>) -> Option<String> {
        match heard {
            Heard::Line(line) => Some(line.to_owned()),
            Heard::Missing(number) => Some(format!("({number} more lines)")),
            Heard::Beyond(_) => None,
        }
    }

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut seen = Vec::new();
        for piece in pieces {
            lines.take(piece, now, &mut |heard| seen.extend(text(heard)));
        }
        seen
    }

    #[test]
    fn lines_are_joined_from_pieces() {
        assert_eq!(lines(&[b"one\ntw", b"o\n\nthree"]), ["one", "two"]);
    }

    #[test]
    fn a_long_line_is_cut_and_ends_where_it_ended() {
        let long = [b'x'; 3000];
        let seen = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!((seen[0].len(), seen[1].as_str()), (LENGTH_LIMIT, "next"));
    }

    #[test]
    fn a_flood_is_counted_not_passed_on() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let (mut seen, mut all) = (Vec::new(), 0);
        let mut hear = |heard: Heard<'_>| {
            all += usize::from(!matches!(heard, Heard::Missing(_)));
            seen.extend(text(heard));
        };
        for _ in 0..500 {
            lines.take(b"again\n", now, &mut hear);
        }
        lines.take(b"later\n", now + PERIOD, &mut hear);
        assert_eq!((seen.len(), all), (RATE_LIMIT as usize + 2, 501));
        assert_eq!(seen[RATE_LIMIT as usize], "(300 more lines)");
    }

    /// How many lines and bytes a server gets into the log in these days that writes without end.
    fn flood(days: u32, line: &str) -> (u64, u64) {
        let (mut lines, begun) = (Lines::default(), Instant::now());
        let (mut number, mut bytes) = (0, 0);
        for period in 0..8_640 * days {
            let now = begun + PERIOD * period;
            for _ in 0..5 {
                lines.take(line.as_bytes(), now, &mut |heard| {
                    if let Some(text) = text(heard) {
                        number += 1;
                        bytes += text.len() as u64;
                    }
                });
            }
        }
        (number, bytes)
    }

    #[test]
    fn a_server_that_never_stops_fills_no_disk() {
        let (number, bytes) = flood(1, "again and again\n");
        assert!(
            number <= 2 * DAILY_LINES && number > DAILY_LINES,
            "{number}"
        );
        let (second, _) = flood(2, "again and again\n");
        assert!(second - number <= DAILY_LINES + 1, "{second}");
        let long = format!("{}\n", "x".repeat(LENGTH_LIMIT));
        let (_, of_long) = flood(1, &long);
        let most = 2 * DAILY_BYTES + bytes;
        assert!(of_long <= most && of_long > DAILY_BYTES, "{of_long}");
    }

    #[test]
    fn what_tells_of_trouble_comes_through_a_flood() {
        let (mut lines, begun) = (Lines::default(), Instant::now());
        let mut seen = Vec::new();
        for period in 0..4_000 {
            let now = begun + PERIOD * period;
            for _ in 0..5 {
                lines.take(b"chatter\n", now, &mut |heard| seen.extend(text(heard)));
            }
        }
        let trouble = "22/11/2026 18:45:00 : epoch 1 : alpha : ganesha.nfsd-5[main] lookup :FSAL :CRIT :the disk is gone\n";
        let now = begun + PERIOD * 4_000;
        lines.take(trouble.as_bytes(), now, &mut |heard| {
            seen.extend(text(heard))
        });
        assert_eq!(seen.last().map(String::as_str), Some(trouble.trim_end()));
    }

    #[test]
    fn no_line_can_pass_for_two_or_reach_a_terminal() {
        let seen = lines(&[
            b"one\rNov 26 berth-keeper(alpha)[7]: CRIT: forged\n",
            b"\x1b]0;title\x07\x1b[2J\xc2\x9b31m\xe2\x80\xa8next \xe2\x80\xaeback\n",
        ]);
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|l| plain(l) == *l), "{seen:?}");
    }
}
