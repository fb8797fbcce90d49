//! Answers to pings, sent at a steady pace, and the gaps in them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lab::{Lab, holds, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A ping that goes on until it is ended.
pub struct Pinging {
    target: String,
    child: Child,
    reader: Option<JoinHandle<u64>>,
    replies: Arc<Mutex<Vec<Reply>>>,
}

/// An answer.
#[derive(Debug, Clone, Copy)]
struct Reply {
    /// Seconds since the epoch.
    at: f64,
    number: u64,
}

/// What became of all of them.
#[derive(Debug, Clone, Copy)]
pub struct Pings {
    pub sent: u64,
    pub answered: u64,
    /// The longest time between two answers that others were missing between.
    pub outage: Duration,
}

impl Pings {
    pub fn lost(&self) -> u64 {
        self.sent - self.answered
    }
}

impl Pinging {
    /// Pings `target` from a machine at this pace; returns when it answers.
    #[track_caller]
    pub fn begin(lab: &Lab, machine: &str, target: &str, pace: Duration) -> Self {
        let pace = pace.as_secs_f64().to_string();
        let spawn = || {
            #[allow(clippy::disallowed_methods)] // one that gets the signal itself
            let mut command = Command::new("ping");
            command.args(["-n", "-D", "-i", &pace, target]);
            command.stdout(Stdio::piped()).spawn()
        };
        let mut child = lab.on_network_of(machine, spawn).unwrap().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let replies = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&replies);
        let reader = thread::spawn(move || {
            let mut sent = 0;
            for line in lines.map_while(Result::ok) {
                if let Some(reply) = reply(&line) {
                    sink.lock().unwrap().push(reply);
                } else if let Some((count, _)) = line.split_once(" packets transmitted") {
                    sent = count.parse().unwrap();
                }
            }
            sent
        });
        let pinging = Self {
            target: format!("{target} at {machine}"),
            child,
            reader: Some(reader),
            replies,
        };
        pinging.wait_for_answers(10, Duration::from_secs(30));
        pinging
    }

    /// How many answers have come.
    pub fn answered(&self) -> usize {
        self.replies.lock().unwrap().len()
    }

    /// Waits for so many further answers.
    #[track_caller]
    pub fn wait_for_answers(&self, count: usize, limit: Duration) {
        let wanted = self.answered() + count;
        wait_for(format!("answers of {}", self.target), limit, || {
            let answered = self.answered();
            holds(answered >= wanted, format!("{answered} of {wanted}"))
        })
        .unwrap();
    }

    /// Ends it. The last one sent may have had no time to be answered, and is not counted then.
    pub fn end(mut self) -> Pings {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let sent: u64 = self.reader.take().unwrap().join().unwrap();
        let replies = self.replies.lock().unwrap();
        let last = replies.last().unwrap().number;
        let gaps = replies
            .windows(2)
            .filter(|pair| pair[1].number > pair[0].number + 1);
        let longest = gaps.map(|pair| pair[1].at - pair[0].at).fold(0.0, f64::max);
        Pings {
            sent: if last + 1 == sent { last } else { sent },
            answered: replies.len() as u64,
            outage: Duration::from_secs_f64(longest),
        }
    }
}

impl Drop for Pinging {
    fn drop(&mut self) {
        // It has ended already, mostly.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `[1700000000.123456] 64 bytes from 10.1.0.50: icmp_seq=7 ttl=63 time=0.1 ms`
fn reply(line: &str) -> Option<Reply> {
    let (at, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (_, numbered) = rest.split_once(" bytes from ")?.1.split_once("icmp_seq=")?;
    // One that came twice was answered once.
    let number = numbered.split(' ').next()?;
    (!line.ends_with("(DUP!)")).then_some(Reply {
        at: at.parse().ok()?,
        number: number.parse().ok()?,
    })
}
