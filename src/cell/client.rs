//! The agents' side of the conversation with a cell's keeper: finding it, starting it, asking it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cell::protocol::{self, Cause, KEEPER, Reply, Request};
use crate::cell::state::{CellState, MemberState};
use crate::runtime::channel::Channel;
use crate::runtime::daemon::{self, Call};
use crate::runtime::paths::RUNTIME;
use crate::sys::lock::{self, Lock};
use crate::sys::poll::wait_readable;
use crate::sys::{message, namespace};
use crate::types::{ResourceId, VserverName};

/// How long a keeper may take for a reply that it can give at once.
pub(crate) const PROMPT: Duration = Duration::from_secs(5);

/// How long a keeper that was killed may take to die.
const DYING: Duration = Duration::from_millis(500);

/// A cell of this node.
#[derive(Debug)]
pub struct CellInfo {
    /// The process id of its keeper.
    pub(crate) keeper_pid: i32,
    /// The process id of its PID 1 on the host.
    pub init_pid: i32,
    /// Its network namespace.
    pub(crate) netns: OwnedFd,
}

/// Finds the cell of `vserver`; `None` if it has none on this node.
///
/// # Errors
/// If there is a keeper, or something in its place, that does not answer as it should.
pub fn find(vserver: &VserverName) -> io::Result<Option<CellInfo>> {
    find_within(vserver, Instant::now() + PROMPT * 2)
}

/// As [`find`], but waits no longer than until `deadline`.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_within(
    vserver: &VserverName,
    deadline: Instant,
) -> io::Result<Option<CellInfo>> {
    let Some(client) = Client::connect(vserver)? else {
        return Ok(None);
    };
    let keeper_pid = client.keeper;
    match client.ask(&Request::Find, deadline) {
        Ok((Reply::Cell { init, .. }, Some(netns))) => Ok(Some(CellInfo {
            keeper_pid,
            init_pid: init,
            netns,
        })),
        Ok((Reply::NoCell, _)) => Ok(None),
        Ok((reply, _)) => Err(not_this(reply)),
        // The keeper has ended in order at this moment.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// The state of the cell of `vserver`, from its keeper; `None` if there is no keeper. A keeper of a version that does
/// not know this request is asked for the condition of `members`, and the state has nothing else.
///
/// # Errors
/// As [`find`].
pub fn state(
    vserver: &VserverName,
    members: &[ResourceId],
    deadline: Instant,
) -> io::Result<Option<CellState>> {
    let ask = |request: &Request| {
        let Some(client) = Client::connect(vserver)? else {
            return Ok(None);
        };
        match client.ask(request, deadline) {
            Ok((reply, _)) => Ok(Some(reply)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    };
    state_by(ask, vserver, members)
}

/// As [`state`], by means of `ask`, which returns `None` if there is no keeper.
fn state_by(
    ask: impl Fn(&Request) -> io::Result<Option<Reply>>,
    vserver: &VserverName,
    members: &[ResourceId],
) -> io::Result<Option<CellState>> {
    match ask(&Request::State) {
        Ok(Some(Reply::State(state))) => return Ok(Some(*state)),
        Ok(Some(Reply::Refused {
            cause: Cause::Version,
            ..
        })) => {}
        Ok(Some(reply)) => return Err(not_this(reply)),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        Ok(None) => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut state = CellState {
        vserver: vserver.to_string(),
        ..CellState::default()
    };
    for member in members {
        let (condition, init) = match ask(&Request::Status {
            resource: member.clone(),
        })? {
            Some(Reply::Member {
                condition, init, ..
            }) => (Some(condition), init),
            Some(reply) => return Err(not_this(reply)),
            None => return Ok(None),
        };
        state.init = init;
        state.members.push(MemberState {
            resource: member.to_string(),
            condition,
        });
    }
    Ok(Some(state))
}

/// The error for a reply that does not fit the request.
fn not_this(reply: Reply) -> io::Error {
    io::Error::other(match reply {
        Reply::Refused { message, .. } => message,
        _ => "the keeper gave an answer to another question".to_owned(),
    })
}

/// A connection to a keeper.
#[derive(Debug)]
pub struct Client {
    channel: Channel,
    keeper: i32,
    vserver: VserverName,
}

impl Client {
    /// Connects to the keeper of `vserver`; `None` if there is none.
    ///
    /// # Errors
    /// If what listens there is not berth's keeper.
    pub fn connect(vserver: &VserverName) -> io::Result<Option<Self>> {
        let path = protocol::socket(vserver);
        let Some((channel, keeper)) = daemon::connect(&path, KEEPER, "keeper")? else {
            return Ok(None);
        };
        Ok(Some(Self {
            channel,
            keeper,
            vserver: vserver.clone(),
        }))
    }

    /// Connects to the keeper of `vserver`, starting it if there is none.
    ///
    /// # Errors
    /// As [`Client::connect`], and whatever keeps a keeper from starting.
    pub(crate) fn connect_or_start(vserver: &VserverName, deadline: Instant) -> io::Result<Self> {
        if let Some(client) = Self::connect(vserver)? {
            return Ok(client);
        }
        // Several agents may come at once: the first one starts the keeper, for all.
        let _lock = lock(vserver, deadline)?;
        if let Some(client) = Self::connect(vserver)? {
            return Ok(client);
        }
        let call = Call {
            name: KEEPER,
            argument: vserver,
            instance: vserver,
            what: &format!("the keeper of {vserver}"),
        };
        daemon::start(&call, |_| false, deadline)?;
        Self::connect(vserver)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotConnected,
                format!("the keeper of {vserver} ended at once"),
            )
        })
    }

    /// The keeper's process id.
    pub(crate) fn keeper(&self) -> i32 {
        self.keeper
    }

    /// Sends a request, and waits for the reply.
    ///
    /// # Errors
    /// `TimedOut` at `deadline`; `UnexpectedEof` if the keeper ended without an answer; `Unsupported` if it hung up
    /// and lives on.
    pub fn ask(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> io::Result<(Reply, Option<OwnedFd>)> {
        self.ask_with(request, None, deadline)
    }

    /// As [`Client::ask`], with a descriptor, of which the keeper gets a copy.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) fn ask_with(
        &self,
        request: &Request,
        fd: Option<BorrowedFd<'_>>,
        deadline: Instant,
    ) -> io::Result<(Reply, Option<OwnedFd>)> {
        self.send(request, fd)?;
        self.answer(deadline)
    }

    /// Sends a request without waiting for the reply, which [`Client::answer`] does. So several keepers can be asked at
    /// the same time.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) fn send(&self, request: &Request, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let sent = self.channel.send(request, fd);
        sent.map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                self.named(io::ErrorKind::UnexpectedEof.into())
            }
            _ => self.named(e),
        })
    }

    /// Waits for the reply to what was sent. A reply that is there already is returned even after `deadline`.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub(crate) fn answer(&self, deadline: Instant) -> io::Result<(Reply, Option<OwnedFd>)> {
        self.channel.wait(deadline).map_err(|e| self.named(e))
    }

    /// An error with the keeper that it is about.
    fn named(&self, e: io::Error) -> io::Error {
        let vserver = &self.vserver;
        match e.kind() {
            // `UnexpectedEof` would mean that the cell has ended, while it is still there.
            io::ErrorKind::UnexpectedEof if self.has_hung_up() => io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the keeper of {vserver} does not answer this, it may be of another version"
                ),
            ),
            io::ErrorKind::TimedOut => {
                message(e, format_args!("the keeper of {vserver} does not answer"))
            }
            io::ErrorKind::UnexpectedEof => {
                message(e, format_args!("the keeper of {vserver} has ended"))
            }
            _ => message(e, format_args!("ask the keeper of {vserver}")),
        }
    }

    /// Whether the keeper has closed the connection and lives on. A keeper that ends in order has removed its socket
    /// before; a killed one may need a moment to die.
    fn has_hung_up(&self) -> bool {
        let listens = Self::connect(&self.vserver);
        if !listens.is_ok_and(|other| other.is_some_and(|o| o.keeper == self.keeper)) {
            return false;
        }
        match namespace::open_process(self.keeper) {
            Ok(process) => wait_readable(&process, Instant::now() + DYING).is_err(),
            Err(_) => false,
        }
    }

    /// Kills the keeper, and with it the cell, and waits until it has died: until then its socket
    /// takes connections as if it lived.
    pub(crate) fn kill(&self) {
        // If the process can't be opened it has died.
        if let Ok(process) = daemon::open_process(self.keeper, KEEPER) {
            daemon::kill(&process);
        }
    }
}

/// The lock of the keeper of `vserver`.
///
/// # Errors
/// As [`daemon::lock`].
pub(crate) fn lock_keeper(vserver: &VserverName, deadline: Instant) -> io::Result<Lock> {
    let path = protocol::directory(vserver).join("keeper.lock");
    daemon::lock(&path, &format!("keeper of {vserver}"), deadline)
}

/// Makes the directory of all keepers and that of this one. A directory that does not belong to root is not used.
fn make_directory(vserver: &VserverName) -> io::Result<PathBuf> {
    let directory = protocol::directory(vserver);
    daemon::private_directory(Path::new(RUNTIME))?;
    daemon::private_directory(&directory)?;
    Ok(directory)
}

fn lock(vserver: &VserverName, deadline: Instant) -> io::Result<Lock> {
    let path = make_directory(vserver)?.join("lock");
    Lock::take(lock::open(&path)?, deadline)
        .map_err(|e| message(e, format_args!("lock {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Condition;
    use super::*;

    /// A keeper that does not know how to tell its state, and says so in this way.
    fn former(
        says: impl Fn() -> io::Result<Option<Reply>>,
    ) -> impl Fn(&Request) -> io::Result<Option<Reply>> {
        move |request| match request {
            Request::State => says(),
            Request::Status { resource } if resource == "alpha-data" => Ok(Some(Reply::Member {
                condition: Condition::Degraded("repairing 43 %, access blocked".to_owned()),
                device: None,
                init: Some(12),
                inspects: true,
            })),
            Request::Status { .. } => Ok(Some(Reply::Member {
                condition: Condition::Absent,
                device: None,
                init: Some(12),
                inspects: true,
            })),
            other => panic!("asked for {other:?}"),
        }
    }

    #[test]
    fn a_keeper_that_does_not_know_the_question_is_asked_for_its_members() {
        let refuses = || Ok(Some(Reply::refused(Cause::Version, "unknown variant")));
        let hangs_up = || Err(io::ErrorKind::Unsupported.into());
        let ways: [fn() -> io::Result<Option<Reply>>; 2] = [refuses, hangs_up];
        for says in ways {
            let state = state_by(
                former(says),
                &"alpha".into(),
                &["alpha-data".into(), "other".into()],
            );
            let state = state.unwrap().unwrap();
            assert_eq!(state.init, Some(12));
            let degraded = Condition::Degraded("repairing 43 %, access blocked".to_owned());
            assert_eq!(state.condition("alpha-data"), Some(&degraded));
            assert_eq!(state.condition("other"), Some(&Condition::Absent));
            assert_eq!(state.condition("not asked for"), None);
        }
    }

    #[test]
    fn a_keeper_that_refuses_or_has_ended_is_not_asked_again() {
        let refuses = || Ok(Some(Reply::refused(Cause::Failed, "on purpose")));
        let error = state_by(former(refuses), &"alpha".into(), &["alpha-data".into()]).unwrap_err();
        assert_eq!(error.to_string(), "on purpose");
        let is_gone = || Ok(None);
        let state = state_by(former(is_gone), &"alpha".into(), &["alpha-data".into()]);
        assert_eq!(state.unwrap(), None);
        let hangs = || Err(io::ErrorKind::TimedOut.into());
        let error = state_by(former(hangs), &"alpha".into(), &["alpha-data".into()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_keeper_s_state_is_given_as_it_is_told() {
        let told = CellState {
            vserver: "alpha".to_owned(),
            left_out: 3,
            ..CellState::default()
        };
        let says = || Ok(Some(Reply::State(Box::new(told.clone()))));
        let state = state_by(former(says), &"alpha".into(), &["alpha-data".into()]);
        assert_eq!(state.unwrap(), Some(told.clone()));
    }
}
