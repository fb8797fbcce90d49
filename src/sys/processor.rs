//! How busy the node's processors are.

use std::fs::File;
use std::io::{self, Read};
use std::thread;

use crate::sys::message;

/// Longer than the first line of /proc/stat or all of /proc/loadavg can be: the kernel gives as much
/// as it is asked for at once, and the rest is of no interest.
const LENGTH: usize = 256;

/// The times of all processors together since the node was booted, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Work, and what a hypervisor withheld: there is no room left in that either.
    pub(crate) busy: u64,
    /// Nothing, or waiting for a disk. May decrease a little: the kernel says so of the latter.
    pub(crate) idle: u64,
}

/// The processors' times up to now.
///
/// # Errors
/// If /proc/stat can't be read or is not understood.
pub(crate) fn times() -> io::Result<Times> {
    let text = read("/proc/stat")?;
    parse_times(&text).ok_or_else(|| io::Error::other("/proc/stat is not understood"))
}

/// The load of the last minute: how many programs ran or wanted to, a processor, in thousandths.
///
/// # Errors
/// If /proc/loadavg can't be read or is not understood.
pub(crate) fn load() -> io::Result<u64> {
    let text = read("/proc/loadavg")?;
    let load = parse_load(&text);
    let load = load.ok_or_else(|| io::Error::other("/proc/loadavg is not understood"))?;
    let processors = thread::available_parallelism()?.get();
    Ok(load / u64::try_from(processors).unwrap_or(u64::MAX))
}

fn read(path: &str) -> io::Result<String> {
    let mut bytes = [0; LENGTH];
    let length = File::open(path)
        .and_then(|mut file| file.read(&mut bytes))
        .map_err(|e| message(e, format_args!("read {path}")))?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// See proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests' time, which may
/// follow, is part of the first two. Old kernels give less.
fn parse_times(text: &str) -> Option<Times> {
    let (line, _) = text.split_once('\n')?;
    let words = line.strip_prefix("cpu ")?.split_ascii_whitespace();
    let numbers: Vec<u64> = words.map(|w| w.parse().ok()).collect::<Option<_>>()?;
    let of = |fields: &[usize]| {
        let mut values = fields.iter().filter_map(|f| numbers.get(*f));
        values.try_fold(0_u64, |sum, value| sum.checked_add(*value))
    };
    (numbers.len() >= 4).then_some(Times {
        busy: of(&[0, 1, 2, 5, 6, 7])?,
        idle: of(&[3, 4])?,
    })
}

/// The first number, in thousandths.
fn parse_load(text: &str) -> Option<u64> {
    let (whole, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok().filter(|h| *h < 100)?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1000)?.checked_add(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_summed_up_by_what_they_are() {
        let text = "cpu  1 20 300 4000 50000 600000 7000000 80000000 999 999\ncpu0 1 2";
        let times = parse_times(text).unwrap();
        assert_eq!(times.busy, 87_600_321);
        assert_eq!(times.idle, 54_000);
        let old = parse_times("cpu 1 2 3 4\n").unwrap();
        assert_eq!((old.busy, old.idle), (6, 4));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        for text in [
            "",
            "cpu  1 2 3 4 5 6 7 8",
            "cpu0 1 2 3 4\n",
            "cpu  1 2 3\n",
            "cpu  1 2 x 4\n",
            "cpu  1 2 -3 4\n",
            "cpu  1 2 3 99999999999999999999\n",
            "cpu  18446744073709551615 1 0 0\n",
        ] {
            assert_eq!(parse_times(text), None, "{text}");
        }
        for text in ["", "1", "x.10", "1.x", "1.234", "99999999999999999999.00 1"] {
            assert_eq!(parse_load(text), None, "{text}");
        }
    }

    #[test]
    fn a_load_is_in_thousandths() {
        assert_eq!(parse_load("0.07 0.20 0.91 1/312 4711\n"), Some(70));
        assert_eq!(parse_load("12.50 0 0"), Some(12_500));
    }

    #[test]
    fn the_kernel_is_understood() {
        let before = times().unwrap();
        let after = times().unwrap();
        assert!(before.busy > 0 && after.busy >= before.busy);
        load().unwrap();
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,80}", numbers in "cpu [0-9 ]{0,80}\n") {
            parse_times(&text);
            parse_times(&numbers);
            parse_load(&text);
        }
    }
}
