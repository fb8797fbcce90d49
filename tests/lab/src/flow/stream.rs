//! A TCP connection that is never idle: it writes all the time and reads its own bytes back.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::wait::{holds, wait_for};

/// The bytes repeat themselves with a period that fits no segment size, so that lost or doubled ones
/// are seen.
const PERIOD: usize = 251;
const CHUNK: usize = 1 << 14;
/// Bytes a second: always something under way, and time left for others on a small machine.
static RATE: libc::c_uint = 20_000_000;

/// What has come of it.
#[derive(Debug, Clone, Default)]
pub struct Traffic {
    /// Bytes that came back.
    pub bytes: u64,
    /// The longest time without any.
    pub stall: Duration,
    /// Why it is broken, if it is.
    pub broken: Option<String>,
}

/// A connection, closed when dropped.
#[derive(Debug)]
pub struct Stream {
    traffic: Arc<Mutex<Traffic>>,
    stop: Arc<AtomicBool>,
    socket: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Connects `machine` to an echo and begins.
    ///
    /// # Errors
    /// If no connection comes about.
    pub fn start(lab: &Lab, machine: &str, to: SocketAddr) -> Result<Self> {
        let socket = lab
            .on_network_of(machine, || TcpStream::connect(to))?
            .context(format_args!("connect to {to}"))?;
        pace(&socket).context("set the rate of a connection")?;
        let copy = || socket.try_clone().context("copy a connection");
        let (mut output, mut input) = (copy()?, copy()?);
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (writing, reading) = (Arc::clone(&traffic), Arc::clone(&traffic));
        let (until, end) = (Arc::clone(&stop), Arc::clone(&stop));
        let note = |traffic: &Mutex<Traffic>, stop: &AtomicBool, result: io::Result<()>| {
            if let Err(e) = result {
                if !stop.load(Ordering::SeqCst) {
                    lock(traffic).broken.get_or_insert(e.to_string());
                }
            }
        };
        let threads = vec![
            thread::spawn(move || note(&writing, &until, write(&mut output, &until))),
            thread::spawn(move || note(&reading, &end, read(&mut input, &reading))),
        ];
        Ok(Self {
            traffic,
            stop,
            socket,
            threads,
        })
    }

    /// What has come of it since the last call, or the start.
    pub fn take(&self) -> Traffic {
        let mut traffic = lock(&self.traffic);
        let taken = traffic.clone();
        traffic.stall = Duration::ZERO;
        taken
    }

    /// Waits until it has moved more bytes.
    ///
    /// # Errors
    /// If it is broken, or moves none within `limit`.
    pub fn wait_for_progress(&self, limit: Duration) -> Result<()> {
        let before = lock(&self.traffic).bytes;
        wait_for("the connection to move on", limit, || {
            let traffic = lock(&self.traffic).clone();
            let still = traffic.broken.as_deref().unwrap_or("it stands still");
            holds(traffic.bytes > before, Error::new(still))
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // One that is broken is shut down already.
        let _ = self.socket.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(traffic: &Mutex<Traffic>) -> MutexGuard<'_, Traffic> {
    traffic.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pace(socket: &TcpStream) -> io::Result<()> {
    // SAFETY: the value is valid for the length given, and only read.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const RATE).cast(),
            size_of_val(&RATE) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A chunk of bytes from each place of the period.
fn pattern() -> Vec<u8> {
    (0..CHUNK + PERIOD).map(|n| (n % PERIOD) as u8).collect()
}

fn write(socket: &mut TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let (pattern, mut at) = (pattern(), 0);
    while !stop.load(Ordering::SeqCst) {
        let written = socket.write(&pattern[at..at + CHUNK])?;
        at = (at + written) % PERIOD;
    }
    Ok(())
}

fn read(socket: &mut TcpStream, traffic: &Mutex<Traffic>) -> io::Result<()> {
    let (pattern, mut at) = (pattern(), 0);
    let (mut buffer, mut last) = (vec![0; CHUNK], Instant::now());
    loop {
        let length = socket.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("closed by the other end"));
        }
        if buffer[..length] != pattern[at..at + length] {
            return Err(io::Error::other("other bytes came back than were sent"));
        }
        at = (at + length) % PERIOD;
        let now = Instant::now();
        let mut traffic = lock(traffic);
        traffic.bytes += length as u64;
        traffic.stall = traffic.stall.max(now - last);
        last = now;
    }
}
