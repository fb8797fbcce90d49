//! Lines from a server's output, bounded in length and in number.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Longer lines are cut.
const LENGTH_LIMIT: usize = 1000;

/// Lines passed on in one [`PERIOD`]; the rest is counted and dropped.
const RATE_LIMIT: u32 = 200;
const PERIOD: Duration = Duration::from_secs(10);

/// Collects lines from a non-blocking pipe.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    period: Option<Instant>,
    passed: u32,
    dropped: u32,
}

impl Lines {
    /// Reads what there is and hands on each complete line; false at the end of the output.
    pub fn read(&mut self, from: impl AsFd, mut to: impl FnMut(&str)) -> bool {
        let mut buffer = [0; 4096];
        // Bounded, so that a server that never stops writing doesn't stop everything else.
        for _ in 0..16 {
            match rustix::io::read(&from, &mut buffer) {
                Ok(0) => {
                    self.end_line(Instant::now(), &mut to);
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

    fn take(&mut self, bytes: &[u8], now: Instant, to: &mut impl FnMut(&str)) {
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

    fn end_line(&mut self, now: Instant, to: &mut impl FnMut(&str)) {
        if self
            .period
            .is_none_or(|begun| now.duration_since(begun) >= PERIOD)
        {
            if self.dropped > 0 {
                to(&format!("({} more lines)", self.dropped));
            }
            (self.period, self.passed, self.dropped) = (Some(now), 0, 0);
        }
        let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
        self.partial.clear();
        if text.is_empty() {
            return;
        }
        if self.passed < RATE_LIMIT {
            self.passed += 1;
            to(&text);
        } else {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let mut seen = Vec::new();
        for piece in pieces {
            lines.take(piece, now, &mut |l| seen.push(l.to_owned()));
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
        let mut seen = Vec::new();
        for _ in 0..500 {
            lines.take(b"again\n", now, &mut |l| seen.push(l.to_owned()));
        }
        lines.take(b"later\n", now + PERIOD, &mut |l| seen.push(l.to_owned()));
        assert_eq!(seen.len(), RATE_LIMIT as usize + 2);
        assert_eq!(seen[RATE_LIMIT as usize], "(300 more lines)");
    }
}
