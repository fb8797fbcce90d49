//! The limits of what a cell may use of its node. Each value is checked when it is made, also when it comes from
//! another process.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::vserver::{CPU_WEIGHT, PIDS_MAX};
use crate::spec::{Integer, Parameter};
use crate::sys::cgroup::Group;
use crate::sys::memory;

/// The least memory with which a server starts, in bytes.
const LEAST_MEMORY: u64 = 128 << 20;

/// How many processes and threads servers have besides one for each connection: some 300 threads of NFS-Ganesha, and
/// Samba's helpers.
const SERVERS_OWN: u32 = 500;

/// The most memory that the processes of a cell may have, together with what they have cached of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum MemoryMax {
    /// Bytes, in units of a KiB, MiB, GiB or TiB as it was written.
    Amount(u64, Unit),
    /// Percent of what the node has.
    Percent(u8),
}

/// A unit of memory, a power of 1,024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// 1,024 bytes.
    K,
    /// 1,024 K.
    M,
    /// 1,024 M.
    G,
    /// 1,024 G.
    T,
}

impl Unit {
    const ALL: [(char, Self, u32); 4] = [
        ('K', Self::K, 10),
        ('M', Self::M, 20),
        ('G', Self::G, 30),
        ('T', Self::T, 40),
    ];
}

impl Default for MemoryMax {
    /// A single cell must not take the node's last memory, which the cluster stack needs. All cells together may be
    /// allowed more than there is: a node may have to run another node's virtual servers, too, and most of a file
    /// server's memory is cache that can be dropped.
    fn default() -> Self {
        Self::Percent(80)
    }
}

impl FromStr for MemoryMax {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let no_amount = || format!("\"{s}\" is no amount of memory: 4G, 512M or 50%");
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse::<u64>()
                .ok()
                .filter(|_| plain)
                .ok_or_else(no_amount)
        };
        if let Some(percent) = s.strip_suffix('%') {
            return match number(percent)? {
                0 => Err(format!("\"{s}\" is nothing: 1% to 100%")),
                percent @ 1..=100 => u8::try_from(percent)
                    .map(Self::Percent)
                    .map_err(|_| no_amount()),
                _ => Err(format!("\"{s}\" is more than there is: 1% to 100%")),
            };
        }
        let mut units = Unit::ALL.into_iter();
        let Some((unit, shift)) =
            units.find_map(|(c, unit, n)| s.ends_with(c).then_some((unit, n)))
        else {
            return Err(match number(s)? {
                0 => format!("\"{s}\" is nothing: 4G, 512M or 50%"),
                bytes => format!("\"{s}\" is {bytes} bytes: say {bytes}G or {bytes}M"),
            });
        };
        let count = number(&s[..s.len() - 1])?;
        // The kernel counts in signed numbers.
        let bytes = count
            .checked_mul(1 << shift)
            .filter(|b| i64::try_from(*b).is_ok());
        match bytes.ok_or_else(no_amount)? {
            bytes if bytes < LEAST_MEMORY => Err(format!(
                "\"{s}\" is too little for a server to start: 128M or more"
            )),
            _ => Ok(Self::Amount(count, unit)),
        }
    }
}

impl fmt::Display for MemoryMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(count, unit) => write!(f, "{count}{unit:?}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl TryFrom<String> for MemoryMax {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl From<MemoryMax> for String {
    fn from(value: MemoryMax) -> Self {
        value.to_string()
    }
}

impl MemoryMax {
    /// The limit in bytes, on a node with `total` bytes of memory; at least what a server needs.
    pub(crate) fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Amount(count, unit) => {
                let shifts = Unit::ALL.into_iter();
                let shift = shifts.filter(|(_, u, _)| *u == unit).map(|(_, _, n)| n);
                // It was seen to fit when it was made.
                shift.fold(count, |count, n| count.saturating_mul(1 << n))
            }
            Self::Percent(percent) => (total / 100 * u64::from(percent)).max(LEAST_MEMORY),
        }
    }
}

/// The most processes and threads that a cell may have at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct PidsMax(u32);

impl Default for PidsMax {
    /// Samba has a process for each client; NFS-Ganesha has some 300 threads in all.
    fn default() -> Self {
        Self(PIDS_MAX.content.default)
    }
}

impl TryFrom<u32> for PidsMax {
    type Error = String;

    fn try_from(count: u32) -> Result<Self, String> {
        checked(&PIDS_MAX, count).map(Self)
    }
}

impl From<PidsMax> for u32 {
    fn from(value: PidsMax) -> Self {
        value.0
    }
}

/// The number, if the parameter may have it.
fn checked(parameter: &Parameter<Integer>, number: u32) -> Result<u32, String> {
    let Integer { least, most, .. } = parameter.content;
    match parameter.content.range().contains(&number) {
        true => Ok(number),
        false => Err(format!(
            "\"{number}\" is not a whole number from {least} to {most}"
        )),
    }
}

/// How much of the processors, or of a block device, a cell gets beside others that want it too: twice as much with
/// twice the weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct Weight(u32);

impl Default for Weight {
    /// The kernel's own.
    fn default() -> Self {
        Self(CPU_WEIGHT.content.default)
    }
}

impl TryFrom<u32> for Weight {
    type Error = String;

    fn try_from(weight: u32) -> Result<Self, String> {
        // That of the disks has the same range.
        checked(&CPU_WEIGHT, weight).map(Self)
    }
}

impl From<Weight> for u32 {
    fn from(value: Weight) -> Self {
        value.0
    }
}

/// All that a cell may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory.
    pub(crate) memory_max: MemoryMax,
    /// Processes and threads.
    pub(crate) pids_max: PidsMax,
    /// Processors.
    pub(crate) cpu_weight: Weight,
    /// Block devices.
    pub(crate) io_weight: Weight,
}

impl Limits {
    /// Whether nobody has asked for anything else.
    pub(crate) fn are_default(&self) -> bool {
        *self == Self::default()
    }

    /// Sets these limits for a group, as far as the kernel has the controllers. This may have to wait while the kernel
    /// reclaims memory.
    ///
    /// # Errors
    /// What the kernel refuses of it, in one line.
    pub(crate) fn apply(&self, group: &Group) -> io::Result<()> {
        let memory = self.memory_max.bytes(node_memory()?).to_string();
        let pids = self.pids_max.0.to_string();
        // memory.high is not set: a process that is slowed down by it instead of being killed may never answer again.
        // Nor is memory.oom.group: to kill one process of Samba costs one client only.
        for (file, text) in [("memory.max", &memory), ("pids.max", &pids)] {
            super::forgive_missing(group.write(file, text))?;
        }
        Ok(())
    }

    /// Gives a group these weights among its siblings.
    ///
    /// # Errors
    /// As [`Limits::apply`].
    pub(crate) fn weigh(&self, group: &Group) -> io::Result<()> {
        let io = self.io_weight.0;
        for (file, text) in [
            ("cpu.weight", &self.cpu_weight.0.to_string()),
            ("io.weight", &io.to_string()),
            // That of disks whose scheduler is BFQ, which takes 1 to 1000.
            ("io.bfq.weight", &bfq(io).to_string()),
        ] {
            super::forgive_missing(group.write(file, text))?;
        }
        Ok(())
    }

    /// Whether a group has these weights, as far as this kernel has any.
    pub(crate) fn weights_are(&self, group: &Group) -> bool {
        let is = |file: &str, weight: u32| match group.read(file) {
            // io.weight begins with "default" where single disks may have another one.
            Ok(text) => text.split_whitespace().any(|w| w == weight.to_string()),
            Err(_) => weight == Weight::default().0,
        };
        is("cpu.weight", self.cpu_weight.0) && is("io.weight", self.io_weight.0)
    }

    /// Why so many SMB connections can't be served, in one line: Samba has a process for each.
    pub(crate) fn too_few_processes(&self, connections: u32) -> Option<String> {
        let wanted = connections.saturating_add(SERVERS_OWN);
        let has = self.pids_max.0;
        (has < wanted).then(|| {
            format!(
                "pids_max = {has} is too little for max_connections = {connections} over SMB, which takes a process \
                 for each: {wanted} or more"
            )
        })
    }

    /// The limits that exceed what this node has, each as one line.
    ///
    /// # Errors
    /// If the node's own limits can't be read.
    pub(crate) fn beyond_node(&self) -> io::Result<Vec<String>> {
        let total = node_memory()?;
        let pids = crate::sys::state::read("/proc/sys/kernel/pid_max".as_ref(), 64)?;
        let pids = String::from_utf8_lossy(&pids).trim().parse();
        let mut lines = Vec::new();
        if self.memory_max.bytes(total) > total {
            let (wanted, mib) = (self.memory_max, total >> 20);
            lines.push(format!(
                "memory_max = {wanted} is more than this node has, which is {mib}M"
            ));
        }
        if pids.is_ok_and(|most: u32| self.pids_max.0 > most) {
            let wanted = self.pids_max.0;
            lines.push(format!(
                "pids_max = {wanted} is more than this node can have (kernel.pid_max)"
            ));
        }
        Ok(lines)
    }
}

/// Bytes.
fn node_memory() -> io::Result<u64> {
    memory::physical().ok_or_else(|| io::Error::other("how much memory this node has is not known"))
}

/// A weight as BFQ takes it: the same up to the middle, and less steep above, as systemd does it.
fn bfq(weight: u32) -> u32 {
    match weight {
        ..=100 => weight,
        more => 100 + (more - 100) * 900 / 9900,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::vserver::{IO_WEIGHT, MEMORY_MAX};

    #[test]
    fn the_usual_limits_are_the_agents_defaults() {
        let memory = MEMORY_MAX.default.map(str::parse);
        assert_eq!(memory, Some(Ok(MemoryMax::default())));
        // There is one type of weight.
        assert_eq!(CPU_WEIGHT.content, IO_WEIGHT.content);
    }

    #[test]
    fn amounts_of_memory_are_taken_with_their_unit_or_in_percent() {
        let total = 8 << 30;
        for (text, bytes) in [
            ("4G", 4 << 30),
            ("128M", 128 << 20),
            ("131072K", 128 << 20),
            ("2T", 2 << 40),
            ("50%", total / 2 / 100 * 100),
            ("100%", total),
            ("1%", LEAST_MEMORY),
        ] {
            let memory: MemoryMax = text.parse().unwrap();
            let close = memory.bytes(total).abs_diff(bytes) < 100;
            assert!(close, "{text}: {}", memory.bytes(total));
            assert_eq!(memory.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for (text, why) in [
            ("", "\"\" is no amount of memory: 4G, 512M or 50%"),
            ("4", "\"4\" is 4 bytes: say 4G or 4M"),
            ("0", "\"0\" is nothing: 4G, 512M or 50%"),
            (
                "0G",
                "\"0G\" is too little for a server to start: 128M or more",
            ),
            (
                "127M",
                "\"127M\" is too little for a server to start: 128M or more",
            ),
            ("-4G", "\"-4G\" is no amount of memory: 4G, 512M or 50%"),
            ("+4G", "\"+4G\" is no amount of memory: 4G, 512M or 50%"),
            ("4 G", "\"4 G\" is no amount of memory: 4G, 512M or 50%"),
            ("4g", "\"4g\" is no amount of memory: 4G, 512M or 50%"),
            ("4GB", "\"4GB\" is no amount of memory: 4G, 512M or 50%"),
            ("G", "\"G\" is no amount of memory: 4G, 512M or 50%"),
            (
                "9999999999T",
                "\"9999999999T\" is no amount of memory: 4G, 512M or 50%",
            ),
            ("0%", "\"0%\" is nothing: 1% to 100%"),
            ("101%", "\"101%\" is more than there is: 1% to 100%"),
            ("4.5G", "\"4.5G\" is no amount of memory: 4G, 512M or 50%"),
            ("max", "\"max\" is no amount of memory: 4G, 512M or 50%"),
        ] {
            assert_eq!(text.parse::<MemoryMax>().unwrap_err(), why);
        }
        for wrong in [0, 63, PIDS_MAX.content.most + 1] {
            assert!(PidsMax::try_from(wrong).is_err(), "{wrong}");
        }
        for wrong in [0, 10_001] {
            assert!(Weight::try_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_from_another_process_are_checked_too() {
        let good = "{\"memory_max\":\"4G\",\"pids_max\":64,\"cpu_weight\":1,\"io_weight\":10000}";
        let limits: Limits = serde_json::from_str(good).unwrap();
        assert_eq!(serde_json::to_string(&limits).unwrap(), good);
        for (is, wrong) in [
            ("4G", "4"),
            ("64", "63"),
            (":1,", ":0,"),
            ("10000", "10001"),
        ] {
            let text = good.replacen(is, wrong, 1);
            assert!(serde_json::from_str::<Limits>(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_beyond_the_node_is_named() {
        let mut limits = Limits::default();
        assert!(limits.beyond_node().unwrap().is_empty());
        limits.memory_max = "900T".parse().unwrap();
        let lines = limits.beyond_node().unwrap();
        let begin = "memory_max = 900T is more than this node has, which is ";
        assert!(lines.len() == 1 && lines[0].starts_with(begin), "{lines:?}");
    }

    #[test]
    fn a_process_for_each_connection_and_what_servers_have_of_their_own_must_fit() {
        let of = |pids: u32| Limits {
            pids_max: pids.try_into().unwrap(),
            ..Limits::default()
        };
        assert_eq!(Limits::default().too_few_processes(1000), None);
        assert_eq!(of(1500).too_few_processes(1000), None);
        let line = "pids_max = 1499 is too little for max_connections = 1000 over SMB, which takes a process for \
                    each: 1500 or more";
        assert_eq!(of(1499).too_few_processes(1000).as_deref(), Some(line));
    }

    #[test]
    fn weights_are_bfqs_where_that_schedules() {
        assert_eq!([1, 100, 200, 10_000].map(bfq), [1, 100, 109, 1000]);
    }
}
