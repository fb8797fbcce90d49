//! Clients at work on a lab's virtual servers, over NFS or SMB, and the account they keep.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::nfs4::{Ack, Report, Writer};
use crate::smb::SmbWriter;
use crate::wait::wait_for;

/// Pause between two writes.
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(60);

/// A client at work.
#[derive(Debug)]
pub struct Worker {
    machine: &'static str,
    kind: Kind,
    acknowledged: AtomicU64,
}

#[derive(Debug)]
enum Kind {
    Nfs(Writer),
    Smb(SmbWriter),
}

impl Worker {
    /// One that appends records to a file of its own in `directory`.
    ///
    /// # Errors
    /// If `server` is no address.
    pub fn nfs(machine: &'static str, server: &str, directory: &str) -> Result<Self> {
        let server = address(server)?;
        let writer = Writer {
            server,
            client: format!("{machine} {server}"),
            directory: directory.to_owned(),
            file: format!("records-of-{machine}"),
            pause: PAUSE,
        };
        Ok(Self::new(machine, Kind::Nfs(writer)))
    }

    /// One that puts files into `share`, as a guest.
    ///
    /// # Errors
    /// If `server` is no address.
    pub fn smb(machine: &'static str, server: &str, share: &str) -> Result<Self> {
        let writer = SmbWriter {
            machine: machine.to_owned(),
            server: address(server)?,
            share: share.to_owned(),
            user: None,
            prefix: format!("file-of-{machine}-"),
            pause: PAUSE,
        };
        Ok(Self::new(machine, Kind::Smb(writer)))
    }

    fn new(machine: &'static str, kind: Kind) -> Self {
        Self {
            machine,
            kind,
            acknowledged: AtomicU64::new(0),
        }
    }

    /// Where it works.
    pub fn machine(&self) -> &str {
        self.machine
    }

    /// What it uses: protocol, address, directory or share.
    pub fn target(&self) -> String {
        match &self.kind {
            Kind::Nfs(w) => format!("NFS  {}:{}", w.server, w.directory),
            Kind::Smb(w) => format!("SMB  //{}/{}", w.server, w.share),
        }
    }

    /// How many of its writes were acknowledged up to now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// How many acknowledged writes are not there.
    ///
    /// # Errors
    /// If that can't be read.
    pub fn lost(&self, lab: &Lab, report: &Report) -> Result<usize> {
        match &self.kind {
            Kind::Nfs(writer) => lab.on_network_of(self.machine, || writer.missing(report))?,
            Kind::Smb(writer) => writer.missing(lab, report),
        }
    }

    fn work(&self, lab: &Lab, stop: &AtomicBool) -> Result<Report> {
        let note = |_: &Ack| {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        };
        match &self.kind {
            Kind::Nfs(writer) => lab.on_network_of(self.machine, || writer.run(stop, note)),
            Kind::Smb(writer) => Ok(writer.run(lab, stop, note)),
        }
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().context(text)
}

/// Sends the clients home when dropped: also when what they worked for has panicked.
struct AtEnd<'s>(&'s AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets the clients work while `during` runs; returns what it returned, and their reports.
///
/// # Errors
/// That of `during`, or that of a client whose machine has no power.
pub fn at_work<T>(
    lab: &Lab,
    workers: &[Worker],
    during: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Report>)> {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let begin = |worker| scope.spawn(move || Worker::work(worker, lab, stop));
        let working: Vec<_> = workers.iter().map(begin).collect();
        let end = AtEnd(stop);
        let done = during();
        drop(end);
        let reports: Result<Vec<Report>> = working
            .into_iter()
            .map(|w| {
                w.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        let reports = reports?;
        match done {
            Ok(value) => Ok((value, reports)),
            Err(e) => Err(Error::new(format!("{e}{}", given_up(workers, &reports)))),
        }
    })
}

/// What made clients give up.
fn given_up(workers: &[Worker], reports: &[Report]) -> String {
    let all = workers.iter().zip(reports);
    let errors = all.filter_map(|(w, r)| Some((w.target(), r.error.as_ref()?)));
    let errors: Vec<String> = errors
        .map(|(target, e)| format!("; {target}: {e}"))
        .collect();
    errors.concat()
}

/// How far each client is.
pub fn counts(workers: &[Worker]) -> Vec<u64> {
    workers.iter().map(Worker::acknowledged).collect()
}

/// Waits until each client has had `more` acknowledgements after `before`; `looking` is called now and
/// then meanwhile.
///
/// # Errors
/// Names a client that has not, a minute later.
pub fn wait_for_work(
    workers: &[Worker],
    before: &[u64],
    more: u64,
    mut looking: impl FnMut(),
) -> Result<()> {
    wait_for("every client to write", LIMIT, || {
        looking();
        let behind = workers
            .iter()
            .zip(before)
            .find(|(w, before)| w.acknowledged() < **before + more);
        behind.map_or(Ok(()), |(w, _)| Err(w.target()))
    })
}
