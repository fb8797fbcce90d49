//! The client: one server, one identity, connections and states that come and go.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::compound::{Claim, Compound, Handle, Results, StateId, depth};
use super::rpc::{COMPOUND, PORT, Rpc};
use super::{Failure, Status};
use crate::error::{Error, Result};

/// How long a connection may take to come about: on the lab's networks it takes microseconds, unless
/// nobody is there.
const CONNECT_LIMIT: Duration = Duration::from_millis(100);
/// How long an answer may take before the connection is given up and another one made.
const CALL_LIMIT: Duration = Duration::from_millis(500);
/// Pause after the server said "later".
const LATER: Duration = Duration::from_millis(20);
/// Pause after a connection failed or a state turned out to be worth nothing.
const AGAIN: Duration = Duration::from_millis(5);
const READ_SIZE: u32 = 256 << 10;

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    server: SocketAddr,
    name: String,
    /// Tells this instance of the client from an earlier one of the same name.
    verifier: u64,
    connection: Option<Rpc>,
    /// How long a connection, and how long an answer may take.
    limits: (Duration, Duration),
    /// The number the server knows it by.
    number: Option<u64>,
    owners: u32,
}

/// A file being held open, whatever becomes of the server.
#[derive(Debug)]
pub struct File {
    directory: String,
    name: String,
    handle: Handle,
    open: Option<Open>,
    reclaims: u32,
}

#[derive(Debug)]
struct Open {
    client: u64,
    state: StateId,
    /// Requests of its owner up to now.
    used: u32,
}

impl File {
    /// The handle, which must survive every failover.
    pub fn handle(&self) -> &[u8] {
        &self.handle
    }

    /// How often it was opened again after the server had forgotten it.
    pub fn reclaims(&self) -> u32 {
        self.reclaims
    }
}

impl Client {
    /// A client called `name` of the server at `server`. Nothing is sent yet.
    pub fn new(server: IpAddr, name: &str) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            server: SocketAddr::new(server, PORT),
            name: name.to_owned(),
            verifier: u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX),
            connection: None,
            limits: (CONNECT_LIMIT, CALL_LIMIT),
            number: None,
            owners: 0,
        }
    }

    /// The same client, which gives up on a connection or an answer after `limit`: for seeing when
    /// a server is there again, at the price of a new connection when it is only slow.
    #[must_use]
    pub fn impatient(self, limit: Duration) -> Self {
        Self {
            limits: (limit, limit),
            ..self
        }
    }

    /// Opens a file for reading and writing, and makes it if it isn't there.
    ///
    /// # Errors
    /// If it is not open after `limit`, or can never be.
    pub fn open(&mut self, directory: &str, name: &str, limit: Duration) -> Result<File> {
        let mut file = File {
            directory: directory.to_owned(),
            name: name.to_owned(),
            handle: vec![],
            open: None,
            reclaims: 0,
        };
        self.persist("open", limit, |client| {
            let number = client.number()?;
            let (handle, open) = client.open_by_name(number, &file.directory, &file.name)?;
            (file.handle, file.open) = (handle, Some(open));
            Ok(())
        })?;
        Ok(file)
    }

    /// Writes, and returns when the server has said that it is on stable storage.
    ///
    /// # Errors
    /// If it is not after `limit`, or can never be.
    pub fn write(&mut self, file: &mut File, at: u64, data: &[u8], limit: Duration) -> Result<()> {
        self.persist("write", limit, |client| {
            let state = client.state(file)?;
            let request = Compound::default()
                .handle(&file.handle)
                .write(&state, at, data);
            let written = client.call(&request).and_then(|reply| {
                let mut results = Results::new(&reply)?;
                results.skip(1)?;
                results.written()
            });
            match written {
                Ok(count) if count as usize == data.len() => Ok(()),
                Ok(_) => Err(Failure::Garbled("the server wrote a part of it only")),
                Err(e) => {
                    if matches!(e, Failure::Status(Status::StaleState | Status::StaleClient)) {
                        file.open = None;
                    }
                    Err(e)
                }
            }
        })
    }

    /// Closes a file. A server that no longer knows it has closed it already.
    ///
    /// # Errors
    /// If the server does not answer within `limit`.
    pub fn close(&mut self, file: File, limit: Duration) -> Result<()> {
        self.persist("close", limit, |client| {
            let Some(open) = &file.open else {
                return Ok(());
            };
            let request = Compound::default()
                .handle(&file.handle)
                .close(&open.state, open.used);
            match client
                .call(&request)
                .and_then(|reply| Results::new(&reply).map(drop))
            {
                Err(Failure::Status(Status::StaleState | Status::StaleClient)) => Ok(()),
                other => other,
            }
        })
    }

    /// Keeps the lease of what is open.
    ///
    /// # Errors
    /// If the server does not answer, or knows no lease.
    pub fn renew(&mut self) -> Result<(), Failure> {
        let number = self.number()?;
        let reply = self.call(&Compound::default().renew(number))?;
        Results::new(&reply).map(drop)
    }

    /// The whole of a file.
    ///
    /// # Errors
    /// If it can't be read within `limit`.
    pub fn read(&mut self, path: &str, limit: Duration) -> Result<Vec<u8>> {
        let mut all = vec![];
        self.persist("read", limit, |client| {
            loop {
                let request = Compound::default()
                    .path(path)
                    .read(all.len() as u64, READ_SIZE);
                let reply = client.call(&request)?;
                let mut results = Results::new(&reply)?;
                results.skip(1 + depth(path))?;
                let (data, end) = results.data()?;
                all.extend(data);
                if end {
                    return Ok(());
                }
            }
        })?;
        Ok(all)
    }

    /// The names in a directory, asked for once: no attempt is repeated.
    ///
    /// # Errors
    /// If the server does not answer, or with an error.
    pub fn list(&mut self, path: &str) -> Result<Vec<String>, Failure> {
        let (mut all, mut next) = (vec![], Some((0, 0)));
        while let Some((cookie, verifier)) = next {
            let reply = self.call(&Compound::default().path(path).list(cookie, verifier))?;
            let mut results = Results::new(&reply)?;
            results.skip(1 + depth(path))?;
            let (names, more) = results.names()?;
            all.extend(names);
            next = more;
        }
        Ok(all)
    }

    /// Tries until it is done, the limit is over, or it can never be done.
    fn persist<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let failure = match attempt(self) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let pause = match failure {
                Failure::Connection(_) => AGAIN,
                Failure::Status(Status::Grace | Status::Delay) => LATER,
                Failure::Status(Status::StaleClient) => {
                    self.number = None;
                    AGAIN
                }
                Failure::Status(Status::StaleState) => AGAIN,
                _ => return Err(Error::new(format!("{what} at {}: {failure}", self.server))),
            };
            if Instant::now() >= deadline {
                let seconds = limit.as_secs_f64();
                return Err(Error::new(format!(
                    "{what} at {}: not done after {seconds:.0} s: {failure}",
                    self.server
                )));
            }
            thread::sleep(pause);
        }
    }

    /// The number the server knows this client by, introducing it if need be.
    fn number(&mut self) -> Result<u64, Failure> {
        if let Some(number) = self.number {
            return Ok(number);
        }
        let reply = self.call(&Compound::default().set_client(self.verifier, &self.name))?;
        let (number, confirm) = Results::new(&reply)?.client()?;
        let reply = self.call(&Compound::default().confirm_client(number, confirm))?;
        Results::new(&reply)?;
        self.number = Some(number);
        Ok(number)
    }

    /// The state to write with: the one there is, or one reclaimed from a server that has restarted,
    /// or, where it is too late for that, a new one for the same handle.
    fn state(&mut self, file: &mut File) -> Result<StateId, Failure> {
        let number = self.number()?;
        if let Some(open) = file.open.as_ref().filter(|open| open.client == number) {
            return Ok(open.state);
        }
        let open = match self.reclaim(number, &file.handle) {
            Err(Failure::Status(Status::NoReclaim)) => {
                let (handle, open) = self.open_by_name(number, &file.directory, &file.name)?;
                if handle != file.handle {
                    return Err(Failure::Garbled("the file has another handle than before"));
                }
                open
            }
            other => other?,
        };
        file.reclaims += 1;
        let state = open.state;
        file.open = Some(open);
        Ok(state)
    }

    fn open_by_name(
        &mut self,
        number: u64,
        directory: &str,
        name: &str,
    ) -> Result<(Handle, Open), Failure> {
        let owner = self.owner();
        let request = Compound::default()
            .path(directory)
            .open(number, &owner, Claim::Name(name))
            .get_handle();
        let reply = self.call(&request)?;
        let mut results = Results::new(&reply)?;
        results.skip(1 + depth(directory))?;
        let opened = results.opened()?;
        let handle = results.handle()?;
        let open = self.confirm(number, &handle, opened)?;
        Ok((handle, open))
    }

    fn reclaim(&mut self, number: u64, handle: &Handle) -> Result<Open, Failure> {
        let owner = self.owner();
        let request = Compound::default()
            .handle(handle)
            .open(number, &owner, Claim::Previous);
        let reply = self.call(&request)?;
        let mut results = Results::new(&reply)?;
        results.skip(1)?;
        let opened = results.opened()?;
        self.confirm(number, handle, opened)
    }

    fn confirm(
        &mut self,
        client: u64,
        handle: &Handle,
        opened: super::compound::Opened,
    ) -> Result<Open, Failure> {
        let (mut state, mut used) = (opened.state, 1);
        if opened.unconfirmed {
            let reply = self.call(&Compound::default().handle(handle).confirm_open(&state))?;
            let mut results = Results::new(&reply)?;
            results.skip(1)?;
            (state, used) = (results.state()?, 2);
        }
        Ok(Open {
            client,
            state,
            used,
        })
    }

    /// A name for an open's owner that was not used before, so that no sequence goes on across
    /// restarts of the server.
    fn owner(&mut self) -> String {
        self.owners += 1;
        format!("{} {}", self.name, self.owners)
    }

    fn call(&mut self, request: &Compound) -> Result<Vec<u8>, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Rpc::connect(self.server, self.limits.0)?,
        };
        let reply = connection.call(COMPOUND, &request.arguments(), self.limits.1)?;
        self.connection = Some(connection);
        Ok(reply)
    }
}
