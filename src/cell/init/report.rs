//! How PID 1 reports to its keeper.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use crate::cell::init::protocol::Event;
use crate::log;
use crate::runtime::channel::Channel;
use crate::sys::poll::poll;

/// Has panics of PID 1 reported to the keeper: the host's logs can't be reached from a cell. (A panic of a child shows
/// as an order that has failed.)
pub(crate) fn report_panics(channel: &Channel) {
    let own = std::process::id();
    let Ok(channel) = channel.try_clone() else {
        return;
    };
    std::panic::set_hook(Box::new(move |info| {
        // Children inherit this hook, but not the channel.
        if std::process::id() == own {
            let why = format!("{}: {info}", log::MISTAKE).replace('\n', " ");
            let _ = channel.send(&Event::Broken(why), None);
        }
    }));
}

/// How long PID 1 waits before it tries again to send.
const PAUSE: Duration = Duration::from_millis(10);

/// Reports an event that the keeper must not miss. If the keeper does not read quickly enough, PID 1 waits for it, for
/// up to 5 s.
///
/// # Errors
/// Whatever the kernel refuses, such as when the keeper has gone.
pub(crate) fn report(channel: &Channel, event: &Event) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match channel.send(event, None) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, Some(Instant::now() + PAUSE));
            }
            other => return other,
        }
    }
}
