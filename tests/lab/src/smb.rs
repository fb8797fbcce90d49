//! An SMB client at work, through smbclient: it puts numbered files, keeps account of those whose
//! transfer succeeded, and can check afterwards that all of them are there.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::Lab;
use crate::error::{Error, Result};
use crate::nfs4::{Ack, Report, record};
use crate::process::run;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long one file may take, with all attempts.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause after an attempt failed.
const AGAIN: Duration = Duration::from_millis(20);
/// Files read in one session of smbclient when checking.
const BATCH: usize = 100;

/// What to put where.
#[derive(Debug, Clone)]
pub struct SmbWriter {
    /// The machine to work on.
    pub machine: String,
    /// The server's virtual address.
    pub server: IpAddr,
    /// Name of the share.
    pub share: String,
    /// `user%password`; nothing for a guest.
    pub user: Option<String>,
    /// What the files' names begin with.
    pub prefix: String,
    /// Pause between two files.
    pub pause: Duration,
}

impl SmbWriter {
    /// Puts files until `stop` is set, telling `acknowledged` of each.
    pub fn run(&self, lab: &Lab, stop: &AtomicBool, mut acknowledged: impl FnMut(&Ack)) -> Report {
        let mut report = Report::default();
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let begun = Instant::now();
            if let Err(e) = self.put(lab, number) {
                report.error = Some(e.to_string());
                break;
            }
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
        report
    }

    fn put(&self, lab: &Lab, number: u64) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        let order = format!("put /dev/stdin {}{number}", self.prefix);
        let content = String::from_utf8_lossy(&record(number)).into_owned();
        loop {
            let attempt = self
                .session(lab, &order, &content)
                .and_then(|output| output.check("smbclient"));
            match attempt {
                Ok(_) => return Ok(()),
                Err(e) if Instant::now() >= deadline => {
                    let name = format!("{}{number}", self.prefix);
                    return Err(Error::new(format!("put {name}: not done in time: {e}")));
                }
                Err(_) => thread::sleep(AGAIN),
            }
        }
    }

    /// The acknowledged files that are not there, or not with their content.
    ///
    /// # Errors
    /// If the share can't be read at all.
    pub fn missing(&self, lab: &Lab, report: &Report) -> Result<usize> {
        let numbers: Vec<u64> = report.acks.iter().map(|ack| ack.number).collect();
        let mut lost = 0;
        for batch in numbers.chunks(BATCH) {
            let get = |number: &u64| format!("get {}{number} -", self.prefix);
            let order = batch.iter().map(get).collect::<Vec<_>>().join("; ");
            let output = self.session(lab, &order, "")?;
            let is_lost = |number: &&u64| {
                let wanted = record(**number);
                !output
                    .stdout
                    .contains(String::from_utf8_lossy(&wanted).as_ref())
            };
            lost += batch.iter().filter(is_lost).count();
        }
        Ok(lost)
    }

    fn session(&self, lab: &Lab, order: &str, input: &str) -> Result<crate::Output> {
        let share = format!("//{}/{}", self.server, self.share);
        let mut words = vec!["smbclient", &share, "-t", "2", "-c", order];
        match &self.user {
            Some(user) => words.extend(["-U", user]),
            None => words.push("-N"),
        }
        run(lab.command(&self.machine, &words)?, input, ATTEMPT)
    }
}
