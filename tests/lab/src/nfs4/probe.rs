//! Watching a server as a client sees it: a listing asked for again and again.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::Client;

/// Gaps between two answers that are shorter than this are none.
const NOISE: Duration = Duration::from_millis(50);

/// What to ask for.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The server's virtual address.
    pub server: IpAddr,
    /// The directory to list.
    pub path: String,
    /// Pause between two questions.
    pub pause: Duration,
}

/// A time without answers.
#[derive(Debug, Clone)]
pub struct Outage {
    /// The last answer before it.
    pub from: Instant,
    /// The first answer after it; `None` if there was none until the end.
    pub until: Option<Instant>,
    /// Why the last attempt failed.
    pub reason: String,
}

impl Outage {
    /// How long it was, up to now if it is not over.
    pub fn length(&self) -> Duration {
        self.until.unwrap_or_else(Instant::now) - self.from
    }
}

impl Probe {
    /// Asks until `stop` is set; returns the outages. Each is told to `seen` when it is over.
    pub fn run(&self, stop: &AtomicBool, mut seen: impl FnMut(&Outage)) -> Vec<Outage> {
        let mut client = Client::new(self.server, "probe").impatient(NOISE);
        let (mut outages, mut last) = (vec![], Instant::now());
        let mut reason = None;
        while !stop.load(Ordering::SeqCst) {
            match client.list(&self.path) {
                Ok(_) => {
                    let now = Instant::now();
                    if now - last > NOISE + self.pause {
                        let reason = reason.take().unwrap_or_else(|| "slow".to_owned());
                        let outage = Outage {
                            from: last,
                            until: Some(now),
                            reason,
                        };
                        seen(&outage);
                        outages.push(outage);
                    }
                    (last, reason) = (now, None);
                }
                Err(e) => reason = Some(e.to_string()),
            }
            thread::sleep(self.pause);
        }
        if let Some(reason) = reason {
            outages.push(Outage {
                from: last,
                until: None,
                reason,
            });
        }
        outages
    }
}
