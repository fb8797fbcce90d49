//! Datagrams every millisecond, and which of them were answered.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::wait::wait_for;

/// From probe to probe.
const PERIOD: Duration = Duration::from_millis(1);
/// How far back the begin of a gap is looked for.
const MEMORY: Duration = Duration::from_secs(60);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_millis(100);

/// A time without answers.
#[derive(Debug, Clone, Copy)]
pub struct Gap {
    /// When the first probe was sent that was not answered.
    pub from: Instant,
    /// When the first one after it was sent that was answered.
    pub until: Option<Instant>,
    /// How many were not answered.
    pub lost: usize,
}

impl Gap {
    /// How long it was, or is by now.
    pub fn length(&self) -> Duration {
        let until = self.until.unwrap_or_else(Instant::now);
        until.saturating_duration_since(self.from)
    }

    /// How much of it came after `event`.
    pub fn after(&self, event: Instant) -> Duration {
        let until = self.until.unwrap_or_else(Instant::now);
        until.saturating_duration_since(self.from.max(event))
    }
}

/// Every probe by its number: when it was sent, when it was answered.
type Probes = Vec<(Instant, Option<Instant>)>;

/// A client that probes until it is dropped.
#[derive(Debug)]
pub struct Prober {
    probes: Arc<Mutex<Probes>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    /// Begins to probe an echo from `machine`.
    ///
    /// # Errors
    /// If the machine has no power or no way there.
    pub fn start(lab: &Lab, machine: &str, to: SocketAddr) -> Result<Self> {
        let socket = lab
            .on_network_of(machine, || socket(to))?
            .context(format_args!("a socket to {to}"))?;
        socket
            .set_read_timeout(Some(PATIENCE))
            .context("set a time-out")?;
        let receiver = socket.try_clone().context("clone a socket")?;
        let probes = Arc::new(Mutex::new(Probes::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, until) = (Arc::clone(&probes), Arc::clone(&stop));
        let (answered, end) = (Arc::clone(&probes), Arc::clone(&stop));
        Ok(Self {
            probes,
            stop,
            threads: vec![
                thread::spawn(move || send(&socket, &sent, &until)),
                thread::spawn(move || receive(&receiver, &answered, &end)),
            ],
        })
    }

    /// The gaps that were not over at `since`, in their order. A probe that may still be answered
    /// makes none.
    pub fn gaps(&self, since: Instant) -> Vec<Gap> {
        let probes = lock(&self.probes);
        let late = probes.partition_point(|(sent, _)| *sent + MEMORY < since);
        gaps(&probes[late..], since, Instant::now())
    }

    /// The longest of them, none at all as one of no length.
    pub fn longest(&self, since: Instant) -> Duration {
        let gaps = self.gaps(since);
        gaps.iter().map(Gap::length).max().unwrap_or_default()
    }

    /// Waits until a probe that was sent after `since` is answered.
    ///
    /// # Errors
    /// If none is within `limit`.
    pub fn wait_for_answer(&self, since: Instant, limit: Duration) -> Result<Instant> {
        wait_for("an answered probe", limit, || {
            let probes = lock(&self.probes);
            let mut late = probes.iter().rev().take_while(|(sent, _)| *sent > since);
            let answered = late.find(|(_, answered)| answered.is_some());
            answered
                .map(|(sent, _)| *sent)
                .ok_or_else(|| Error::new("no answer"))
        })
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // What one of them panicked with has been printed.
            let _ = thread.join();
        }
    }
}

/// A socket that talks to `to` only.
pub(super) fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket)
}

fn lock(probes: &Mutex<Probes>) -> MutexGuard<'_, Probes> {
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(socket: &UdpSocket, probes: &Mutex<Probes>, stop: &AtomicBool) {
    let mut next = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let number = {
            let mut probes = lock(probes);
            probes.push((Instant::now(), None));
            probes.len() - 1
        };
        // What can't be sent is not answered.
        let _ = socket.send(&number.to_le_bytes());
        next = (next + PERIOD).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn receive(socket: &UdpSocket, probes: &Mutex<Probes>, stop: &AtomicBool) {
    let mut number = [0; size_of::<usize>()];
    while !stop.load(Ordering::SeqCst) {
        let received = socket.recv(&mut number);
        if received.ok() != Some(number.len()) {
            continue;
        }
        if let Some((_, answered)) = lock(probes).get_mut(usize::from_le_bytes(number)) {
            answered.get_or_insert_with(Instant::now);
        }
    }
}

fn gaps(probes: &[(Instant, Option<Instant>)], since: Instant, now: Instant) -> Vec<Gap> {
    let mut gaps: Vec<Gap> = Vec::new();
    let mut open: Option<Gap> = None;
    for (sent, answered) in probes {
        let in_time = answered.is_some_and(|at| at.saturating_duration_since(*sent) <= PATIENCE);
        if in_time {
            gaps.extend(open.take().map(|gap| Gap {
                until: Some(*sent),
                ..gap
            }));
        } else if open.is_some() || answered.is_some() || *sent + PATIENCE < now {
            let gap = open.get_or_insert(Gap {
                from: *sent,
                until: None,
                lost: 0,
            });
            gap.lost += 1;
        }
    }
    gaps.extend(open);
    gaps.retain(|gap| gap.until.is_none_or(|until| until > since));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_reaches_from_the_first_lost_probe_to_the_next_answered_one() {
        let start = Instant::now();
        let at = |n: u64| start + Duration::from_millis(n);
        let lost = [3, 4, 8];
        let mut probes: Probes = (0..10)
            .map(|n| (at(n), (!lost.contains(&n)).then(|| at(n))))
            .collect();
        // An answer that comes too late is none.
        probes[6].1 = Some(at(6) + PATIENCE * 2);
        let late = at(1000);
        let found = gaps(&probes, start, late);
        let shown: Vec<(Instant, Option<Instant>, usize)> =
            found.iter().map(|g| (g.from, g.until, g.lost)).collect();
        let wanted = [(3, 5, 2), (6, 7, 1), (8, 9, 1)];
        assert_eq!(shown, wanted.map(|(f, u, l)| (at(f), Some(at(u)), l)));
        assert_eq!(found[0].length(), Duration::from_millis(2));
        assert_eq!(found[0].after(at(4)), Duration::from_millis(1));
        assert_eq!(gaps(&probes, at(7), late).len(), 1);
        // What may still be answered is not lost yet.
        assert_eq!(gaps(&probes[..9], at(7), at(9)).len(), 0);
        assert_eq!(gaps(&probes[..9], at(7), late)[0].until, None);
    }
}
