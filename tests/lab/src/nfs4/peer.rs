//! A client that makes single calls: none is repeated, and what the server refuses is told by its number. It tries what
//! an honest client has no reason to, such as handles that are made up.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Failure;
use super::compound::{ANONYMOUS, Compound, Handle, Results, depth};
use super::rpc::{COMPOUND, PORT, Rpc};

/// How long a connection or an answer may take: what is tried is whether they come.
const LIMIT: Duration = Duration::from_secs(30);
/// As much as is asked for of a file that is read.
const READ_SIZE: u32 = 64;
/// Tells this instance of a client from an earlier one.
const VERIFIER: u64 = 1;

/// What came of a call that the server has understood: `nfsstat4`, if not success.
pub type Answer<T> = Result<T, u32>;

/// What a server says of a file: its handle and its file system's identity.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// The file's handle.
    pub handle: Handle,
    /// The value of the attribute `fsid`.
    pub fsid: Vec<u8>,
}

/// Something that a client wants to do with a file or a directory.
#[derive(Debug, Clone, Copy)]
pub enum Attempt<'a> {
    /// Reads its beginning, without having it open.
    Read,
    /// Writes to its beginning, without having it open.
    Write,
    /// Lists it.
    List,
    /// Makes a directory of this name in it.
    Make(&'a str),
    /// Removes what is in it under this name.
    Remove(&'a str),
    /// Gives what is in it under the first name the second one.
    Rename(&'a str, &'a str),
    /// Makes it this user's.
    Own(&'a str),
}

/// A connection to a server on which calls are made in the name of a user.
#[derive(Debug)]
pub struct Peer(Rpc);

impl Peer {
    /// Connects as root, from a port that only root may send from.
    ///
    /// # Errors
    /// If nobody answers there.
    pub fn connect(server: IpAddr) -> Result<Self, Failure> {
        Rpc::connect(SocketAddr::new(server, PORT), LIMIT).map(Self)
    }

    /// Uses this connection, in the name of the user of this number.
    pub fn over(stream: TcpStream, user: u32) -> Self {
        Self(Rpc::over(stream, user))
    }

    /// Looks a file up.
    ///
    /// # Errors
    /// If no answer comes, or it makes no sense.
    pub fn look_up(&mut self, path: &str) -> Result<Answer<Identity>, Failure> {
        self.identify(Compound::default().path(path), 1 + depth(path))
    }

    /// Uses a handle, wherever it comes from.
    ///
    /// # Errors
    /// If no answer comes, or it makes no sense.
    pub fn use_handle(&mut self, handle: &[u8]) -> Result<Answer<Identity>, Failure> {
        self.identify(Compound::default().handle(handle), 1)
    }

    /// Tries something with a handle, wherever it comes from.
    ///
    /// # Errors
    /// If no answer comes, or it makes no sense.
    pub fn attempt(&mut self, handle: &[u8], what: Attempt<'_>) -> Result<Answer<()>, Failure> {
        let at = Compound::default().handle(handle);
        let request = match what {
            Attempt::Read => at.read(0, READ_SIZE),
            Attempt::Write => at.write(&ANONYMOUS, 0, b"x"),
            Attempt::List => at.list(0, 0),
            Attempt::Make(name) => at.make_directory(name),
            Attempt::Remove(name) => at.remove(name),
            Attempt::Rename(old, new) => at.rename(old, new),
            Attempt::Own(user) => at.set_owner(user),
        };
        self.call(&request, |_| Ok(()))
    }

    /// Asks for all kinds of access to a file: those that the user has, as bits.
    ///
    /// # Errors
    /// If no answer comes, or it makes no sense.
    pub fn access(&mut self, path: &str) -> Result<Answer<u32>, Failure> {
        let request = Compound::default().path(path).get_handle().access();
        self.call(&request, |results| {
            results.skip(1 + depth(path))?;
            results.handle()?;
            results.access()
        })
    }

    /// Makes itself known as a client of this name, and confirms that.
    ///
    /// # Errors
    /// If no answer comes, or it makes no sense.
    pub fn register(&mut self, name: &str) -> Result<Answer<()>, Failure> {
        let request = Compound::default().set_client(VERIFIER, name);
        let (client, verifier) = match self.call(&request, |results| results.client())? {
            Ok(both) => both,
            Err(status) => return Ok(Err(status)),
        };
        let request = Compound::default().confirm_client(client, verifier);
        self.call(&request, |_| Ok(()))
    }

    /// What a file is to which `way` leads by so many operations.
    fn identify(&mut self, way: Compound, length: usize) -> Result<Answer<Identity>, Failure> {
        self.call(&way.get_handle().get_fsid(), |results| {
            results.skip(length)?;
            let (handle, fsid) = (results.handle()?, results.fsid()?);
            Ok(Identity { handle, fsid })
        })
    }

    fn call<T>(
        &mut self,
        request: &Compound,
        read: impl FnOnce(&mut Results<'_>) -> Result<T, Failure>,
    ) -> Result<Answer<T>, Failure> {
        let reply = self.0.call(COMPOUND, &request.arguments(), LIMIT)?;
        match Results::answer(&reply)? {
            Ok(mut results) => read(&mut results).map(Ok),
            Err(status) => Ok(Err(status)),
        }
    }
}
