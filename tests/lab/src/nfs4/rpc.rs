//! ONC RPC (RFC 5531) over one TCP connection, with short limits: the lab measures how soon a server
//! answers again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Failure;
use super::port;
use super::xdr::{Decoder, Encoder};

/// Where NFS servers are.
pub const PORT: u16 = 2049;
/// The COMPOUND procedure.
pub const COMPOUND: u32 = 1;

const PROGRAM: u32 = 100_003;
const VERSION: u32 = 4;
const AUTH_SYS: u32 = 1;
const REPLY_LIMIT: usize = 4 << 20;
const LAST_FRAGMENT: u32 = 1 << 31;

/// A connection to an NFS server.
#[derive(Debug)]
pub struct Rpc {
    stream: TcpStream,
    /// In whose name the calls are made.
    user: u32,
    xid: u32,
}

impl Rpc {
    /// Connects.
    ///
    /// # Errors
    /// If it doesn't answer within `limit`.
    pub fn connect(address: SocketAddr, limit: Duration) -> Result<Self, Failure> {
        let stream = port::connect(address, limit)?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream, 0))
    }

    /// Calls over this connection, in the name of a user and of the group of the same number.
    pub fn over(stream: TcpStream, user: u32) -> Self {
        Self {
            stream,
            user,
            xid: 0,
        }
    }

    /// Calls a procedure and returns its result. After an error the connection is of no more use.
    ///
    /// # Errors
    /// If the server doesn't answer within `limit`, or refuses the call.
    pub fn call(
        &mut self,
        procedure: u32,
        arguments: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + limit;
        self.xid = self.xid.wrapping_add(1);
        let mut call = Encoder::default();
        call.int(self.xid)
            .int(0)
            .int(2)
            .int(PROGRAM)
            .int(VERSION)
            .int(procedure);
        // Credentials: stamp, machine name, user, group, no further groups. Then no verifier.
        let mut user = Encoder::default();
        user.int(0).opaque(b"lab").int(self.user).int(self.user);
        user.int(0);
        call.int(AUTH_SYS).opaque(user.bytes()).int(0).int(0);
        call.fixed(arguments);
        let length = u32::try_from(call.bytes().len()).unwrap_or(u32::MAX) | LAST_FRAGMENT;
        let mut record = length.to_be_bytes().to_vec();
        record.extend(call.bytes());
        self.stream.set_write_timeout(Some(limit))?;
        self.stream.write_all(&record)?;
        loop {
            let reply = self.receive(deadline)?;
            if let Some(result) = self.result(&reply)? {
                return Ok(result);
            }
        }
    }

    /// What the reply says; nothing if it belongs to an earlier call.
    fn result(&self, reply: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let mut reply = Decoder::new(reply);
        if reply.int()? != self.xid {
            return Ok(None);
        }
        let (kind, accepted) = (reply.int()?, reply.int()?);
        if (kind, accepted) != (1, 0) {
            return Err(Failure::Garbled("the server denied the call"));
        }
        // The server's verifier.
        reply.int()?;
        reply.opaque(400)?;
        match reply.int()? {
            0 => Ok(Some(reply.rest().to_vec())),
            _ => Err(Failure::Garbled("the server does not know the call")),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Vec<u8>, Failure> {
        let mut reply = vec![];
        loop {
            let mut mark = [0; 4];
            self.fill(&mut mark, deadline)?;
            let mark = u32::from_be_bytes(mark);
            let length = (mark & !LAST_FRAGMENT) as usize;
            if reply.len() + length > REPLY_LIMIT {
                return Err(Failure::Garbled("reply longer than allowed"));
            }
            let start = reply.len();
            reply.resize(start + length, 0);
            self.fill(&mut reply[start..], deadline)?;
            if mark & LAST_FRAGMENT != 0 {
                return Ok(reply);
            }
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8], deadline: Instant) -> Result<(), Failure> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(n) => buffer = &mut buffer[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
