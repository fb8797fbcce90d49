//! The socket that agents connect to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::channel::Channel;
use crate::log;

/// How long no connection is accepted after a failure, for want of descriptors or memory.
const PAUSE: Duration = Duration::from_secs(1);

/// A socket that agents connect to. An agent for which there is no room waits in the kernel's queue: to hang up on it
/// would tell it that the daemon has ended.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    limit: usize,
    /// Until when no connection is accepted.
    pause: Option<Instant>,
}

impl Listener {
    /// A listener at `socket` for `limit` agents at a time.
    pub(crate) fn new(socket: OwnedFd, limit: usize) -> Self {
        Self {
            socket,
            limit,
            pause: None,
        }
    }

    /// The descriptor to poll for input, with `clients` agents connected; `None` while there is no room for more, or
    /// during a pause.
    pub(crate) fn fd(&self, clients: usize, now: Instant) -> Option<BorrowedFd<'_>> {
        (clients < self.limit && self.next(now).is_none()).then(|| self.socket.as_fd())
    }

    /// When a pause ends.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.pause.filter(|until| *until > now)
    }

    /// Accepts new connections, with `clients` agents connected already; only those of root's processes.
    pub(crate) fn accept(&mut self, clients: usize, now: Instant) -> Vec<Channel> {
        let mut accepted = Vec::new();
        if self.next(now).is_some() {
            return accepted;
        }
        self.pause = None;
        while clients + accepted.len() < self.limit {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match rustix::net::accept_with(&self.socket, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(e) => {
                    log::error(format_args!("accept a connection: {}", io::Error::from(e)));
                    self.pause = Some(now + PAUSE);
                    break;
                }
            };
            match Channel::new(socket).and_then(|c| Ok((c.peer()?, c))) {
                Ok(((_, 0), channel)) => accepted.push(channel),
                Ok(((pid, user), _)) => {
                    log::warn(format_args!(
                        "refused process {pid} of user {user}: not root"
                    ));
                }
                Err(e) => log::warn(format_args!("accept a connection: {e}")),
            }
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;
    use crate::runtime::{daemon, job};
    use crate::sys::poll::wait_readable;

    fn listener(dir: &Path, limit: usize) -> Listener {
        Listener::new(daemon::listen(&dir.join("sock")).unwrap(), limit)
    }

    fn waits(listener: &Listener, clients: usize) -> bool {
        let now = Instant::now();
        listener
            .fd(clients, now)
            .is_some_and(|fd| wait_readable(&fd, now).is_ok())
    }

    #[test]
    #[ignore = "needs root"]
    fn who_there_is_no_room_for_is_taken_when_another_one_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let mut listener = listener(dir.path(), 2);
        let connect = || Channel::connect(&dir.path().join("sock")).unwrap();
        let _agents = [connect(), connect(), connect()];
        let mut clients = listener.accept(0, Instant::now());
        assert_eq!(clients.len(), 2);
        assert!(!waits(&listener, 2) && listener.accept(2, Instant::now()).is_empty());
        clients.pop();
        assert!(waits(&listener, 1));
        assert_eq!(listener.accept(1, Instant::now()).len(), 1);
        assert!(!waits(&listener, 1), "that was the last one");
    }

    /// The limit of descriptors is the process's: the harness has others that need some.
    fn without_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let mut listener = listener(dir.path(), 8);
        let _agent = Channel::connect(&dir.path().join("sock")).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
        let now = Instant::now();
        assert!(listener.accept(0, now).is_empty());
        // There is somebody, but nothing to spin on.
        assert!(listener.fd(0, now).is_none() && listener.next(now) == Some(now + PAUSE));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        assert!(listener.accept(0, now).is_empty());
        let now = now + PAUSE;
        assert!(listener.fd(0, now).is_some() && listener.next(now).is_none());
        assert_eq!(listener.accept(0, now).len(), 1);
        assert!(listener.fd(1, now).is_some() && listener.next(now).is_none());
    }

    #[test]
    #[ignore = "needs root"]
    fn without_descriptors_it_is_left_alone_for_a_while() {
        // SAFETY: no other test takes a lock that this work takes.
        assert!(unsafe { job::passes_alone(without_descriptors) });
    }
}
