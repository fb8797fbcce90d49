//! The resources that the processes of a control group have used.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Group;

/// What the processes of a group have used since it was made, and what they have waited for. What this kernel does
/// not count, or no controller does, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Time on processors, all of them together (cpu.stat).
    pub(crate) cpu: Duration,
    /// Memory in use now, bytes, cached files among it (memory.current).
    pub(crate) memory: Option<u64>,
    /// The most that was in use at a time, bytes (memory.peak, since Linux 5.19).
    pub(crate) memory_peak: Option<u64>,
    /// Bytes read from and written to block devices (io.stat).
    pub(crate) io: Option<(u64, u64)>,
    /// How long at least one of them waited for a processor, for memory, for a block device
    /// (Documentation/accounting/psi.rst).
    pub(crate) waited: Option<Waited>,
}

/// Time for which at least one process had to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waited {
    /// For a processor (cpu.pressure).
    pub(crate) cpu: Duration,
    /// For memory (memory.pressure).
    pub(crate) memory: Duration,
    /// For block devices (io.pressure).
    pub(crate) io: Duration,
}

impl Usage {
    /// A counter of a group.
    ///
    /// # Errors
    /// `NotFound` if it is not there; `InvalidData` if the kernel's files are not understood.
    pub(crate) fn of(group: &Group) -> io::Result<Self> {
        let stat = group.read("cpu.stat")?;
        let number = |file| Some(group.read(file).ok()?.trim().parse().ok()).flatten();
        let pressure = |file| some_total(&group.read(file).ok()?);
        let waited = || {
            Some(Waited {
                cpu: pressure("cpu.pressure")?,
                memory: pressure("memory.pressure")?,
                io: pressure("io.pressure")?,
            })
        };
        Ok(Self {
            cpu: usage(&stat).ok_or(io::ErrorKind::InvalidData)?,
            memory: number("memory.current"),
            memory_peak: number("memory.peak"),
            io: group.read("io.stat").ok().map(|text| transferred(&text)),
            waited: waited(),
        })
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(f, "{:.1} s of processor time", self.cpu.as_secs_f64())?;
        match (self.memory_peak, self.memory) {
            (Some(peak), _) => write!(f, ", at most {} MiB of memory", mib(peak))?,
            (None, Some(now)) => write!(f, ", {} MiB of memory at its end", mib(now))?,
            (None, None) => {}
        }
        if let Some((read, written)) = self.io {
            let (read, written) = (mib(read), mib(written));
            write!(f, ", {read} MiB read and {written} MiB written")?;
        }
        if let Some(Waited { cpu, memory, io }) = self.waited {
            let [cpu, memory, io] = [cpu, memory, io].map(|waited| waited.as_secs_f64());
            write!(
                f,
                "; it waited {cpu:.1} s for processors, {memory:.1} s for memory, {io:.1} s for disks"
            )?;
        }
        Ok(())
    }
}

/// The time in cpu.stat, which has it in microseconds.
fn usage(stat: &str) -> Option<Duration> {
    let line = stat.lines().find_map(|l| l.strip_prefix("usage_usec "))?;
    line.trim().parse().ok().map(Duration::from_micros)
}

/// Bytes read and written in io.stat: a line a device, `8:16 rbytes=1459200 wbytes=314773504 rios=192 …`.
fn transferred(stat: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = stat.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// The time in the first line of a pressure file, in microseconds:
/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`.
fn some_total(pressure: &str) -> Option<Duration> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    let total = line
        .split_whitespace()
        .find_map(|w| w.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_group_has_used_is_read_from_the_kernels_files() {
        let dir = tempfile::tempdir().unwrap();
        let group = Group::at(dir.path());
        assert!(Usage::of(&group).is_err());
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).unwrap();
        write(
            "cpu.stat",
            "usage_usec 12345678\nuser_usec 1\nsystem_usec 2\n",
        );
        let bare = Usage::of(&group).unwrap();
        assert_eq!(bare.to_string(), "12.3 s of processor time");
        write("memory.current", "1048577\n");
        let now = "12.3 s of processor time, 2 MiB of memory at its end";
        assert_eq!(Usage::of(&group).unwrap().to_string(), now);
        write("memory.peak", "536870912\n");
        write(
            "io.stat",
            "8:0 rbytes=1048576 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:3 rbytes=1 wbytes=3145728 rios=1\n",
        );
        for (file, total) in [("cpu", 1_500_000), ("memory", 0), ("io", 250_000)] {
            let text = format!(
                "some avg10=0.00 avg60=0.10 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
            );
            write(&format!("{file}.pressure"), &text);
        }
        let all = Usage::of(&group).unwrap();
        assert_eq!(all.io, Some((1_048_577, 3_145_728)));
        assert_eq!(
            all.to_string(),
            "12.3 s of processor time, at most 512 MiB of memory, 2 MiB read and 3 MiB written; \
             it waited 1.5 s for processors, 0.0 s for memory, 0.2 s for disks"
        );
        write("cpu.stat", "nonsense\n");
        assert!(Usage::of(&group).is_err());
    }
}
