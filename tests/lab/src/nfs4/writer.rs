//! A client at work: it appends numbered records to a file, keeps account of what was acknowledged,
//! and can check afterwards that all of it is there.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;
use crate::error::{Error, Result};

/// Size of a record.
const SIZE: usize = 64;
/// How long one record may take: longer than a failover with a long grace period.
const LIMIT: Duration = Duration::from_secs(120);

/// What to write where.
#[derive(Debug, Clone)]
pub struct Writer {
    /// The server's virtual address.
    pub server: IpAddr,
    /// Name of the client: its identity over restarts of the server.
    pub client: String,
    /// Directory as the server exports it.
    pub directory: String,
    /// Name of the file.
    pub file: String,
    /// Pause between two records.
    pub pause: Duration,
}

/// An acknowledged record.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    /// Its number, from 0.
    pub number: u64,
    /// When the acknowledgement came.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Every record that the server said was on stable storage.
    pub acks: Vec<Ack>,
    /// How often the file was reclaimed from a restarted server, under its old handle.
    pub reclaims: u32,
    /// Why it ended, if not because it was told to.
    pub error: Option<String>,
}

impl Report {
    /// The record that took longest.
    pub fn longest(&self) -> Option<&Ack> {
        self.acks.iter().max_by_key(|ack| ack.took)
    }
}

impl Writer {
    /// Writes until `stop` is set, telling `acknowledged` of each record.
    pub fn run(&self, stop: &AtomicBool, mut acknowledged: impl FnMut(&Ack)) -> Report {
        let mut report = Report::default();
        if let Err(e) = self.work(stop, &mut report, &mut acknowledged) {
            report.error = Some(e.to_string());
        }
        report
    }

    fn work(
        &self,
        stop: &AtomicBool,
        report: &mut Report,
        acknowledged: &mut dyn FnMut(&Ack),
    ) -> Result<()> {
        let mut client = Client::new(self.server, &self.client);
        let mut file = client.open(&self.directory, &self.file, LIMIT)?;
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let begun = Instant::now();
            let written = client.write(&mut file, number * SIZE as u64, &record(number), LIMIT);
            report.reclaims = file.reclaims();
            written?;
            let at = Instant::now();
            let ack = Ack {
                number,
                at,
                took: at - begun,
            };
            acknowledged(&ack);
            report.acks.push(ack);
            thread::sleep(self.pause);
        }
        client.close(file, LIMIT)
    }

    /// Reads the file and counts the records that were acknowledged and are not there.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn missing(&self, report: &Report) -> Result<usize> {
        let mut client = Client::new(self.server, &format!("{} check", self.client));
        let path = format!("{}/{}", self.directory, self.file);
        let content = client.read(&path, LIMIT)?;
        let numbers = report.acks.iter().map(|ack| ack.number);
        Ok(missing(&content, numbers).len())
    }
}

/// Record number `number`.
pub fn record(number: u64) -> [u8; SIZE] {
    // The golden ratio spreads neighbouring numbers over all bits, so that a record that was mixed
    // with another one can't pass for either.
    let mark = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let text = format!("{number:020} {mark:016x} {:-<25}\n", "");
    let mut record = [b'-'; SIZE];
    for (to, from) in record.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    record
}

/// Those of `numbers` whose records are not in `content`.
pub fn missing(content: &[u8], numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    let is_there = |number: u64| {
        let start = usize::try_from(number).ok()?.checked_mul(SIZE)?;
        let found = content.get(start..start + SIZE)?;
        (found == record(number)).then_some(())
    };
    numbers
        .filter(|number| is_there(*number).is_none())
        .collect()
}

/// A line for a person.
impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let longest = self.longest().map_or(0.0, |ack| ack.took.as_secs_f64());
        write!(
            f,
            "{} records acknowledged, longest wait {longest:.3} s, {} reclaims",
            self.acks.len(),
            self.reclaims
        )?;
        self.error
            .as_ref()
            .map_or(Ok(()), |e| write!(f, "; ended by: {e}"))
    }
}

/// Fails if the report tells of an error or of an acknowledged record that is missing.
///
/// # Errors
/// Says which.
pub fn verify(writer: &Writer, report: &Report) -> Result<()> {
    if let Some(e) = &report.error {
        return Err(Error::new(format!("{}: {e}", writer.file)));
    }
    match writer.missing(report)? {
        0 => Ok(()),
        lost => Err(Error::new(format!(
            "{}: {lost} of {} acknowledged records are lost",
            writer.file,
            report.acks.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_mixed_up_records_are_found() {
        let mut content: Vec<u8> = (0..5).flat_map(record).collect();
        assert!(missing(&content, 0..5).is_empty());
        assert_eq!(missing(&content, 0..7), [5, 6]);
        content[SIZE + 30] ^= 1;
        content.truncate(4 * SIZE + 1);
        assert_eq!(missing(&content, 0..5), [1, 4]);
    }
}
