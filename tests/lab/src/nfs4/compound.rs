//! Compound requests and their results.

use super::xdr::{Decoder, Encoder};
use super::{Answer, Failure, Status};

/// A file handle, as opaque as the protocol means it to be.
pub type Handle = Vec<u8>;
/// A state identifier.
pub type StateId = [u8; 16];

const HANDLE_LIMIT: usize = 128;
const NAME_LIMIT: usize = 4096;

const ACCESS: u32 = 3;
const CLOSE: u32 = 4;
const CREATE: u32 = 6;
const GETATTR: u32 = 9;
const GETFH: u32 = 10;
const LOOKUP: u32 = 15;
const OPEN: u32 = 18;
const OPEN_CONFIRM: u32 = 20;
const PUTFH: u32 = 22;
const PUTROOTFH: u32 = 24;
const READ: u32 = 25;
const READDIR: u32 = 26;
const REMOVE: u32 = 28;
const RENAME: u32 = 29;
const RENEW: u32 = 30;
const SAVEFH: u32 = 32;
const SETATTR: u32 = 34;
const SETCLIENTID: u32 = 35;
const SETCLIENTID_CONFIRM: u32 = 36;
const WRITE: u32 = 38;

/// The state of a file that nobody has opened: RFC 7530, 9.1.4.3.
pub const ANONYMOUS: StateId = [0; 16];

/// The attribute that tells file systems apart.
const FSID: u32 = 8;
/// The attribute of a file's owner.
const OWNER: u32 = 36;
/// Longer than any attribute that is asked for.
const ATTRIBUTES_LIMIT: usize = 1024;
/// `NF4DIR`
const DIRECTORY: u32 = 2;
/// All that ACCESS can be asked for.
const EVERY_ACCESS: u32 = 0x3f;

/// `FILE_SYNC4`: answered only when the data is on stable storage.
const FILE_SYNC: u32 = 2;
const SHARE_ACCESS_BOTH: u32 = 3;
/// `OPEN4_RESULT_CONFIRM`
const NEEDS_CONFIRMATION: u32 = 2;
/// Replies to READDIR are asked for in this size.
const DIRECTORY_SIZE: u32 = 32 << 10;

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub enum Claim<'a> {
    /// By name in the current directory; made if it isn't there.
    Name(&'a str),
    /// The current file, which was open before the server restarted.
    Previous,
}

/// What an OPEN gave.
#[derive(Debug)]
pub struct Opened {
    /// The open's state.
    pub state: StateId,
    /// It is good only after an OPEN_CONFIRM.
    pub unconfirmed: bool,
}

/// A compound request being put together.
#[derive(Debug, Default)]
pub struct Compound {
    operations: Encoder,
    count: u32,
}

impl Compound {
    fn operation(&mut self, code: u32) -> &mut Encoder {
        self.count += 1;
        self.operations.int(code)
    }

    /// The arguments of the COMPOUND procedure.
    pub fn arguments(&self) -> Vec<u8> {
        let mut all = Encoder::default();
        all.opaque(b"")
            .int(0)
            .int(self.count)
            .fixed(self.operations.bytes());
        all.bytes().to_vec()
    }

    /// Goes to `path` from the root.
    pub fn path(mut self, path: &str) -> Self {
        self.operation(PUTROOTFH);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            self.operation(LOOKUP).opaque(name.as_bytes());
        }
        self
    }

    /// Goes to `handle`.
    pub fn handle(mut self, handle: &[u8]) -> Self {
        self.operation(PUTFH).opaque(handle);
        self
    }

    /// Asks for the current handle.
    pub fn get_handle(mut self) -> Self {
        self.operation(GETFH);
        self
    }

    /// Introduces a client.
    pub fn set_client(mut self, verifier: u64, name: &str) -> Self {
        let arguments = self.operation(SETCLIENTID);
        arguments.long(verifier).opaque(name.as_bytes());
        // A callback address that leads nowhere: delegations are not wanted.
        arguments
            .int(0x4000_0000)
            .opaque(b"tcp")
            .opaque(b"0.0.0.0.0.0")
            .int(0);
        self
    }

    /// Completes the introduction.
    pub fn confirm_client(mut self, client: u64, verifier: u64) -> Self {
        self.operation(SETCLIENTID_CONFIRM)
            .long(client)
            .long(verifier);
        self
    }

    /// Keeps the lease.
    pub fn renew(mut self, client: u64) -> Self {
        self.operation(RENEW).long(client);
        self
    }

    /// Opens for reading and writing, under an owner name that has not been used before.
    pub fn open(mut self, client: u64, owner: &str, claim: Claim<'_>) -> Self {
        let arguments = self.operation(OPEN);
        arguments
            .int(0)
            .int(SHARE_ACCESS_BOTH)
            .int(0)
            .long(client)
            .opaque(owner.as_bytes());
        match claim {
            Claim::Name(name) => {
                // UNCHECKED4, with mode 0644 (attribute 33) for a new file.
                arguments.int(1).int(0).int(2).int(0).int(1 << 1);
                arguments.opaque(&0o644_u32.to_be_bytes());
                arguments.int(0).opaque(name.as_bytes());
            }
            // Not to be made; no delegation was held.
            Claim::Previous => drop(arguments.int(0).int(1).int(0)),
        }
        self
    }

    /// Confirms an owner's first open.
    pub fn confirm_open(mut self, state: &StateId) -> Self {
        self.operation(OPEN_CONFIRM).fixed(state).int(1);
        self
    }

    /// Closes, as the owner's next request after its `used` ones.
    pub fn close(mut self, state: &StateId, used: u32) -> Self {
        self.operation(CLOSE).int(used).fixed(state);
        self
    }

    /// Writes to stable storage.
    pub fn write(mut self, state: &StateId, offset: u64, data: &[u8]) -> Self {
        self.operation(WRITE)
            .fixed(state)
            .long(offset)
            .int(FILE_SYNC)
            .opaque(data);
        self
    }

    /// Reads without an open: the state is the anonymous one.
    pub fn read(mut self, offset: u64, size: u32) -> Self {
        self.operation(READ)
            .fixed(&ANONYMOUS)
            .long(offset)
            .int(size);
        self
    }

    /// Asks for all kinds of access.
    pub fn access(mut self) -> Self {
        self.operation(ACCESS).int(EVERY_ACCESS);
        self
    }

    /// Asks for the identity of the current file system.
    pub fn get_fsid(mut self) -> Self {
        self.operation(GETATTR).int(1).int(1 << FSID);
        self
    }

    /// Makes a directory in the current one.
    pub fn make_directory(mut self, name: &str) -> Self {
        let arguments = self.operation(CREATE).int(DIRECTORY);
        // Without attributes: an empty bitmap, and no values.
        arguments.opaque(name.as_bytes()).int(0).int(0);
        self
    }

    /// Removes what is in the current directory under this name.
    pub fn remove(mut self, name: &str) -> Self {
        self.operation(REMOVE).opaque(name.as_bytes());
        self
    }

    /// Gives what is in the current directory under one name another one.
    pub fn rename(mut self, old: &str, new: &str) -> Self {
        self.operation(SAVEFH);
        let arguments = self.operation(RENAME);
        arguments.opaque(old.as_bytes()).opaque(new.as_bytes());
        self
    }

    /// Makes the current file this user's.
    pub fn set_owner(mut self, user: &str) -> Self {
        let mut value = Encoder::default();
        value.opaque(user.as_bytes());
        let arguments = self.operation(SETATTR).fixed(&ANONYMOUS);
        arguments.int(2).int(0).int(1 << (OWNER - 32));
        arguments.opaque(value.bytes());
        self
    }

    /// Lists the current directory from `cookie` on, names only.
    pub fn list(mut self, cookie: u64, verifier: u64) -> Self {
        let arguments = self.operation(READDIR);
        arguments
            .long(cookie)
            .long(verifier)
            .int(DIRECTORY_SIZE)
            .int(DIRECTORY_SIZE)
            .int(0);
        self
    }
}

/// Number of LOOKUPs to a path.
pub fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

/// Names in a directory, and the cookie and verifier that more of them are asked for with.
pub type Page = (Vec<String>, Option<(u64, u64)>);

/// The results of a compound request, to be read in the order of its operations.
#[derive(Debug)]
pub struct Results<'a>(Decoder<'a>);

impl<'a> Results<'a> {
    /// Results whose operations all succeeded.
    ///
    /// # Errors
    /// The status of the operation that didn't.
    pub fn new(reply: &'a [u8]) -> Result<Self, Failure> {
        Self::answer(reply)?.map_err(|code| Failure::Status(Status::from(code)))
    }

    /// The same, with the status of an operation that did not succeed as the number that the server gave.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn answer(reply: &'a [u8]) -> Result<Answer<Self>, Failure> {
        let mut reply = Decoder::new(reply);
        let status = reply.int()?;
        if status != 0 {
            return Ok(Err(status));
        }
        reply.opaque(1024)?;
        reply.int()?;
        Ok(Ok(Self(reply)))
    }

    /// Passes over operations that say nothing but that they succeeded.
    ///
    /// # Errors
    /// If the message ends before.
    pub fn skip(&mut self, count: usize) -> Result<(), Failure> {
        self.0.fixed(8 * count).map(drop)
    }

    /// Result of [`Compound::get_handle`].
    ///
    /// # Errors
    /// If there is none.
    pub fn handle(&mut self) -> Result<Handle, Failure> {
        self.skip(1)?;
        Ok(self.0.opaque(HANDLE_LIMIT)?.to_vec())
    }

    /// Result of [`Compound::access`]: a bit for each kind of access.
    ///
    /// # Errors
    /// If there is none.
    pub fn access(&mut self) -> Result<u32, Failure> {
        self.skip(1)?;
        // Which of them the server knows of.
        self.0.int()?;
        self.0.int()
    }

    /// Result of [`Compound::get_fsid`].
    ///
    /// # Errors
    /// If there is none.
    pub fn fsid(&mut self) -> Result<Vec<u8>, Failure> {
        self.skip(1)?;
        let words = self.0.int()? as usize;
        self.0.fixed(4_usize.saturating_mul(words))?;
        Ok(self.0.opaque(ATTRIBUTES_LIMIT)?.to_vec())
    }

    /// Result of [`Compound::set_client`]: the client's number and what confirms it.
    ///
    /// # Errors
    /// If there is none.
    pub fn client(&mut self) -> Result<(u64, u64), Failure> {
        self.skip(1)?;
        Ok((self.0.long()?, self.0.long()?))
    }

    /// Result of [`Compound::open`].
    ///
    /// # Errors
    /// If there is none, or a delegation came with it.
    pub fn opened(&mut self) -> Result<Opened, Failure> {
        self.skip(1)?;
        let state = self.0.array()?;
        // What the directory's change attribute was before and after.
        self.0.fixed(20)?;
        let flags = self.0.int()?;
        let set = self.0.int()? as usize;
        self.0.fixed(4_usize.saturating_mul(set))?;
        if self.0.int()? != 0 {
            return Err(Failure::Garbled("a delegation that nobody asked for"));
        }
        let unconfirmed = flags & NEEDS_CONFIRMATION != 0;
        Ok(Opened { state, unconfirmed })
    }

    /// Result of [`Compound::confirm_open`].
    ///
    /// # Errors
    /// If there is none.
    pub fn state(&mut self) -> Result<StateId, Failure> {
        self.skip(1)?;
        self.0.array()
    }

    /// Result of [`Compound::write`]: the number of bytes on stable storage.
    ///
    /// # Errors
    /// If there is none, or they are not on stable storage.
    pub fn written(&mut self) -> Result<u32, Failure> {
        self.skip(1)?;
        let count = self.0.int()?;
        match self.0.int()? {
            FILE_SYNC => Ok(count),
            _ => Err(Failure::Garbled("written, but not to stable storage")),
        }
    }

    /// Result of [`Compound::read`]: the data, and whether the file ends there.
    ///
    /// # Errors
    /// If there is none.
    pub fn data(&mut self) -> Result<(Vec<u8>, bool), Failure> {
        self.skip(1)?;
        let end = self.0.int()? != 0;
        let length = self.0.rest().len();
        Ok((self.0.opaque(length)?.to_vec(), end))
    }

    /// Result of [`Compound::list`].
    ///
    /// # Errors
    /// If there is none.
    pub fn names(&mut self) -> Result<Page, Failure> {
        self.skip(1)?;
        let verifier = self.0.long()?;
        let (mut names, mut cookie) = (vec![], 0);
        while self.0.int()? != 0 {
            cookie = self.0.long()?;
            let name = self.0.opaque(NAME_LIMIT)?;
            names.push(String::from_utf8_lossy(name).into_owned());
            let words = self.0.int()? as usize;
            self.0.fixed(4_usize.saturating_mul(words))?;
            self.0.opaque(NAME_LIMIT)?;
        }
        let end = self.0.int()? != 0 || names.is_empty();
        Ok((names, (!end).then_some((cookie, verifier))))
    }
}
