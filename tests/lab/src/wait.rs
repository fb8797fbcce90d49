//! Waiting for a condition, always with a limit, never without saying for what.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const PAUSE: Duration = Duration::from_millis(10);

/// Calls `look` until it gives a value, and returns that.
///
/// # Errors
/// If there is none after `limit`: what was waited for, and the last thing `look` said instead.
pub fn wait_for<T, E: fmt::Display>(
    what: impl fmt::Display,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                return Err(Error::new(format!(
                    "waited {:.1} s for {what} in vain; last seen: {seen}",
                    limit.as_secs_f64()
                )));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// `Ok` if `true`, else `otherwise`: the shape [`wait_for`] asks for.
///
/// # Errors
/// `otherwise`, if `condition` is false.
pub fn holds<E>(condition: bool, otherwise: E) -> Result<(), E> {
    if condition { Ok(()) } else { Err(otherwise) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vain_wait_says_what_for_and_what_was_seen() {
        let error = wait_for("tea", Duration::from_millis(1), || Err::<(), _>("coffee"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "waited 0.0 s for tea in vain; last seen: coffee"
        );
    }

    #[test]
    fn the_value_is_returned_once_it_is_there() {
        let mut calls = 0;
        let value = wait_for("three", Duration::from_secs(5), || {
            calls += 1;
            if calls < 3 { Err(calls) } else { Ok(calls) }
        });
        assert_eq!(value.unwrap(), 3);
    }
}
