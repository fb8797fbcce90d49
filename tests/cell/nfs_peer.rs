//! As much of an NFSv4.0 client (RFC 7530) as can ask who it is taken for, and leave records of clients behind.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const GETFH: u32 = 10;
const ACCESS: u32 = 3;
const LOOKUP: u32 = 15;
const PUTROOTFH: u32 = 24;
const SETCLIENTID: u32 = 35;
const SETCLIENTID_CONFIRM: u32 = 36;

/// The number and the verifier of a client that is to confirm them.
pub type Announced = ([u8; 8], [u8; 8]);

/// A connection to a server on which calls are made in the name of a user.
pub struct Peer {
    stream: TcpStream,
    user: u32,
    number: u32,
}

impl Peer {
    pub fn new(stream: TcpStream, user: u32) -> Self {
        let limit = Some(Duration::from_secs(30));
        stream.set_read_timeout(limit).expect("a socket");
        Self {
            stream,
            user,
            number: 0,
        }
    }

    /// Asks for all kinds of access to a file: those that it has, as bits, or the NFS status.
    pub fn access(&mut self, path: &str) -> io::Result<Result<u32, u32>> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let mut operations = words(&[PUTROOTFH]);
        for name in &names {
            operations.extend([words(&[LOOKUP]), opaque(name.as_bytes())].concat());
        }
        operations.extend(words(&[GETFH, ACCESS, 0x3f]));
        let count = u32::try_from(names.len()).expect("few") + 3;
        let mut reply = self.compound(count, &operations)?;
        if reply.status != 0 {
            return Ok(Err(reply.status));
        }
        // PUTROOTFH, and each LOOKUP: operation and status.
        reply.skip(2 * 4 * (names.len() + 1) + 2 * 4);
        reply.opaque();
        // ACCESS: operation, status, what is supported.
        reply.skip(3 * 4);
        Ok(Ok(reply.word()))
    }

    /// Makes itself known as a client of this name, and confirms that: the NFS status of what was refused.
    pub fn register(&mut self, name: &str) -> io::Result<Result<(), u32>> {
        let (client, verifier) = match self.announce(name)? {
            Ok(both) => both,
            Err(status) => return Ok(Err(status)),
        };
        self.confirm(client, verifier)
    }

    /// The first half of that: the number and the verifier that are to be confirmed.
    pub fn announce(&mut self, name: &str) -> io::Result<Result<Announced, u32>> {
        let mut operation = words(&[SETCLIENTID, 1, 2]);
        operation.extend(opaque(name.as_bytes()));
        operation.extend(words(&[0x4000_0000]));
        operation.extend([opaque(b"tcp"), opaque(b"0.0.0.0.0.0"), words(&[1])].concat());
        let mut reply = self.compound(1, &operation)?;
        if reply.status != 0 {
            return Ok(Err(reply.status));
        }
        reply.skip(2 * 4);
        Ok(Ok((reply.eight(), reply.eight())))
    }

    /// The second half.
    pub fn confirm(&mut self, client: [u8; 8], verifier: [u8; 8]) -> io::Result<Result<(), u32>> {
        let operation = [&words(&[SETCLIENTID_CONFIRM])[..], &client, &verifier].concat();
        let status = self.compound(1, &operation)?.status;
        Ok(if status == 0 { Ok(()) } else { Err(status) })
    }

    fn compound(&mut self, count: u32, operations: &[u8]) -> io::Result<Reply> {
        self.number += 1;
        let user = self.user;
        let auth_sys = [words(&[0]), opaque(b"test"), words(&[user, user, 0])].concat();
        // CALL, RPC version 2, NFS version 4, COMPOUND, AUTH_SYS.
        let mut call = words(&[self.number, 0, 2, 100_003, 4, 1, 1]);
        call.extend(opaque(&auth_sys));
        // No verifier, no tag, minor version 0.
        call.extend(words(&[0, 0, 0, 0, count]));
        call.extend(operations);
        let length = u32::try_from(call.len()).expect("a short call");
        let record = [words(&[(1 << 31) | length]), call].concat();
        self.stream.write_all(&record)?;
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark)?;
        let mut data = vec![0; (u32::from_be_bytes(mark) & 0xffff) as usize];
        self.stream.read_exact(&mut data)?;
        assert_eq!(data[..24], words(&[self.number, 1, 0, 0, 0, 0]));
        let mut reply = Reply {
            status: 0,
            rest: data.split_off(24),
        };
        reply.status = reply.word();
        reply.opaque();
        reply.word();
        Ok(reply)
    }
}

struct Reply {
    status: u32,
    rest: Vec<u8>,
}

impl Reply {
    fn skip(&mut self, bytes: usize) {
        self.rest.drain(..bytes);
    }

    fn word(&mut self) -> u32 {
        let word: Vec<u8> = self.rest.drain(..4).collect();
        word.iter().fold(0, |n, byte| (n << 8) | u32::from(*byte))
    }

    fn eight(&mut self) -> [u8; 8] {
        let eight: Vec<u8> = self.rest.drain(..8).collect();
        eight.try_into().expect("eight bytes")
    }

    fn opaque(&mut self) {
        let length = self.word() as usize;
        self.skip(length.next_multiple_of(4));
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn opaque(data: &[u8]) -> Vec<u8> {
    let mut out = words(&[u32::try_from(data.len()).expect("short")]);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
