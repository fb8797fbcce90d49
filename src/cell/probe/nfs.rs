//! NFS version 4 over ONC RPC (RFC 5531) with record marking: the NULL procedure, and a COMPOUND that walks to
//! an export (RFC 7530).

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{ANSWER_LIMIT, read_bounded, wrong};

/// The number of a call that is the only one on its connection.
const XID: u32 = 0x6265_7274;
const LAST_FRAGMENT: u32 = 1 << 31;

/// Procedures (RFC 7530, 15).
const NULL: u32 = 0;
const COMPOUND: u32 = 1;

/// The user and group of nobody, to whom every server maps root as well.
const NOBODY: u32 = 65534;

pub(crate) fn ask(peer: &mut (impl Read + Write)) -> io::Result<()> {
    peer.write_all(&call(XID, NULL, &auth_none(), &[]))?;
    judge(&read_record(peer)?)
}

/// The number of the first call on a connection. A server that takes a call for a repetition, by its number, sender and
/// contents, gives the former answer again, so the numbers of an earlier connection must not be used again.
pub(crate) fn first_number() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(XID, |now| now.as_micros() as u32)
}

/// Walks from the root of the server's tree to `directory`, which is absolute, by call `number`.
pub(crate) fn find(peer: &mut (impl Read + Write), number: u32, directory: &str) -> io::Result<()> {
    peer.write_all(&call(number, COMPOUND, &auth_sys(), &walk(directory)))?;
    judge_walk(&read_record(peer)?, number, directory)
}

/// RFC 5531, 9: a CALL of program 100003, version 4.
fn call(number: u32, procedure: u32, credentials: &[u8], arguments: &[u8]) -> Vec<u8> {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    const NFS: u32 = 100_003;
    let mut body = words(&[number, CALL, RPC_VERSION, NFS, 4, procedure]);
    body.extend_from_slice(credentials);
    body.extend(auth_none());
    body.extend_from_slice(arguments);
    let mut record = words(&[LAST_FRAGMENT | body.len() as u32]);
    record.extend(body);
    record
}

/// No credentials, or no verifier: a flavour, and the length of nothing.
fn auth_none() -> Vec<u8> {
    words(&[0, 0])
}

/// RFC 5531, appendix A: without it an export is not shown.
fn auth_sys() -> Vec<u8> {
    const AUTH_SYS: u32 = 1;
    let body = [words(&[0]), opaque(b"berth"), words(&[NOBODY, NOBODY, 0])].concat();
    [words(&[AUTH_SYS]), opaque(&body)].concat()
}

/// The arguments of a COMPOUND: no tag, minor version 0, the operations.
fn walk(directory: &str) -> Vec<u8> {
    const PUTROOTFH: u32 = 24;
    const LOOKUP: u32 = 15;
    const GETFH: u32 = 10;
    let names = directory.split('/').filter(|name| !name.is_empty());
    let names: Vec<&[u8]> = names.map(str::as_bytes).collect();
    let mut arguments = words(&[0, 0, names.len() as u32 + 2, PUTROOTFH]);
    for name in names {
        arguments.extend(words(&[LOOKUP]));
        arguments.extend(opaque(name));
    }
    arguments.extend(words(&[GETFH]));
    arguments
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Bytes with their length, filled up to a multiple of four (RFC 4506, 4.10).
fn opaque(data: &[u8]) -> Vec<u8> {
    let mut out = words(&[data.len() as u32]);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn read_record(peer: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut record = vec![];
    loop {
        let mut mark = [0; 4];
        peer.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let fragment = read_bounded(peer, (mark & !LAST_FRAGMENT) as usize)?;
        // Empty fragments, one after the other, would keep this loop busy.
        if fragment.is_empty() || record.len() + fragment.len() > ANSWER_LIMIT {
            return Err(wrong("no RPC answer"));
        }
        record.extend(fragment);
        if mark & LAST_FRAGMENT != 0 {
            return Ok(record);
        }
    }
}

/// What is left of a reply that is read word by word.
struct Reply<'a>(std::slice::ChunksExact<'a, u8>);

impl Reply<'_> {
    fn word(&mut self) -> io::Result<u32> {
        let word = self.0.next().ok_or_else(|| wrong("a cut RPC answer"))?;
        Ok(word.iter().fold(0, |n, byte| (n << 8) | u32::from(*byte)))
    }
}

/// Whether the reply says that the procedure ran.
pub(crate) fn judge(reply: &[u8]) -> io::Result<()> {
    accepted(reply, XID).map(|_| ())
}

/// The results of a procedure that ran.
fn accepted(reply: &[u8], number: u32) -> io::Result<Reply<'_>> {
    const REPLY: u32 = 1;
    let mut reply = Reply(reply.chunks_exact(4));
    if (reply.word()?, reply.word()?) != (number, REPLY) {
        return Err(wrong("no answer to the call"));
    }
    if reply.word()? != 0 {
        return Err(wrong("the call was denied"));
    }
    let _flavour = reply.word()?;
    let verifier = reply.word()?;
    for _ in 0..verifier.div_ceil(4) {
        reply.word()?;
    }
    match reply.word()? {
        0 => Ok(reply),
        1 => Err(wrong("the server has no NFS")),
        2 => Err(wrong("the server has no NFS version 4")),
        status => Err(wrong(format!("the call failed with RPC status {status}"))),
    }
}

/// Whether the walk has led to `directory`.
pub(crate) fn judge_walk(reply: &[u8], number: u32, directory: &str) -> io::Result<()> {
    const NOENT: u32 = 2;
    // DELAY, GRACE, RESOURCE.
    const BUSY: [u32; 3] = [10008, 10013, 10018];
    // The admin has switched this minor version off: nobody can ask.
    const MINOR_VERS_MISMATCH: u32 = 10021;
    let not_found = |text: String| Err(io::Error::new(io::ErrorKind::NotFound, text));
    match accepted(reply, number)?.word()? {
        0 | MINOR_VERS_MISMATCH => Ok(()),
        status if BUSY.contains(&status) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("the server is busy: NFS status {status}"),
        )),
        NOENT => not_found(format!("{directory} is not exported")),
        status => not_found(format!("{directory} can't be reached: NFS status {status}")),
    }
}
