//! What PID 1 tells its keeper.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use crate::cell::init::protocol::Event;
use crate::log;
use crate::runtime::channel::Channel;
use crate::sys::poll::poll;

/// The logs of the host are out of reach in a cell, so the keeper is told. (It hears of the end of a child whose
/// work was not done, and of what that was.)
pub(crate) fn report_panics(channel: &Channel) {
    let own = std::process::id();
    let Ok(channel) = channel.try_clone() else {
        return;
    };
    std::panic::set_hook(Box::new(move |info| {
        // Children have this hook too, but not the channel.
        if std::process::id() == own {
            let why = format!("{}: {info}", log::MISTAKE).replace('\n', " ");
            let _ = channel.send(&Event::Broken(why), None);
        }
    }));
}

/// How long PID 1 waits for the keeper at a time.
const PAUSE: Duration = Duration::from_millis(10);

/// Reports what the keeper has to know. It reads quickly; should it not, PID 1 waits for it.
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
