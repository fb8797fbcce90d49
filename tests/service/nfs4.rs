//! As much of an NFSv4.0 client (RFC 7530) as shows a file handle, and tries one that is made up. Each test file uses
//! its own part of this.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::time::Duration;

use berth::sys::reserved_port;

const PUTFH: u32 = 22;
const PUTROOTFH: u32 = 24;
const LOOKUP: u32 = 15;
const GETFH: u32 = 10;
const GETATTR: u32 = 9;
const FATTR4_FSID: u32 = 8;
const FATTR4_OWNER: u32 = 36;
/// That of a file that nobody has opened: RFC 7530, 9.1.4.3.
const ANONYMOUS: [u32; 4] = [0; 4];

/// What a server says of a file: its handle and its file system's identity.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub handle: Vec<u8>,
    pub fsid: Vec<u8>,
}

/// Looks `path` up on the server at this host.
pub fn look_up(path: &str) -> Result<Identity, u32> {
    let mut ops = vec![words(&[PUTROOTFH])];
    for part in path.split('/').filter(|p| !p.is_empty()) {
        ops.push([words(&[LOOKUP]), opaque(part.as_bytes())].concat());
    }
    identify(ops)
}

/// Uses a handle that was got before.
pub fn use_handle(handle: &[u8]) -> Result<Identity, u32> {
    identify(vec![[words(&[PUTFH]), opaque(handle)].concat()])
}

/// Something that a client wants to do with a file or a directory.
#[derive(Debug, Clone, Copy)]
pub enum Attempt<'a> {
    Read,
    Write,
    List,
    /// Makes a directory of this name in it.
    Make(&'a str),
    Remove(&'a str),
    /// Gives what is in it under the first name the second one.
    Rename(&'a str, &'a str),
    /// Makes it this user's.
    Own(&'a str),
}

/// Tries something as root, with a handle wherever it comes from; gives the status.
pub fn attempt(handle: &[u8], what: Attempt<'_>) -> u32 {
    let name = |name: &str| opaque(name.as_bytes());
    let put = [words(&[PUTFH]), opaque(handle)].concat();
    let ops = match what {
        Attempt::Read => vec![[words(&[25]), words(&ANONYMOUS), words(&[0, 0, 64])].concat()],
        Attempt::Write => vec![
            [
                words(&[38]),
                words(&ANONYMOUS),
                words(&[0, 0, 2]),
                name("x"),
            ]
            .concat(),
        ],
        Attempt::List => vec![words(&[26, 0, 0, 0, 0, 4096, 4096, 0])],
        Attempt::Make(new) => vec![[words(&[6, 2]), name(new), words(&[0, 0])].concat()],
        Attempt::Remove(old) => vec![[words(&[28]), name(old)].concat()],
        Attempt::Rename(old, new) => {
            vec![words(&[32]), [words(&[29]), name(old), name(new)].concat()]
        }
        Attempt::Own(user) => {
            let bitmap = words(&[2, 0, 1 << (FATTR4_OWNER - 32)]);
            let owner = opaque(&name(user));
            vec![[words(&[34]), words(&ANONYMOUS), bitmap, owner].concat()]
        }
    };
    compound(&[vec![put], ops].concat()).word()
}

fn identify(mut ops: Vec<Vec<u8>>) -> Result<Identity, u32> {
    let before = ops.len();
    ops.push(words(&[GETFH]));
    ops.push(words(&[GETATTR, 1, 1 << FATTR4_FSID]));
    let mut reply = compound(&ops);
    let status = reply.word();
    if status != 0 {
        return Err(status);
    }
    reply.opaque(); // tag
    reply.word(); // number of results
    for _ in 0..before + 1 {
        reply.word(); // operation
        reply.word(); // its status
    }
    let handle = reply.opaque();
    for _ in 0..4 {
        reply.word(); // operation, status, bitmap of one word
    }
    let fsid = reply.opaque();
    Ok(Identity { handle, fsid })
}

fn compound(ops: &[Vec<u8>]) -> Reply {
    let auth_sys = [words(&[0]), opaque(b"test"), words(&[0, 0, 0])].concat();
    let mut call = words(&[7, 0, 2, 100_003, 4, 1, 1]);
    call.extend(opaque(&auth_sys));
    call.extend(words(&[0, 0, 0, 0, ops.len() as u32]));
    call.extend(ops.concat());
    let server = ([127, 0, 0, 1], 2049).into();
    let mut stream = reserved_port::connect(server, Duration::from_secs(30)).expect("a server");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a limit");
    let mark = (1 << 31) | call.len() as u32;
    stream.write_all(&words(&[mark])).expect("a call");
    stream.write_all(&call).expect("a call");
    let mut mark = [0; 4];
    stream.read_exact(&mut mark).expect("a reply");
    let mut data = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
    stream.read_exact(&mut data).expect("a reply");
    // xid, REPLY, accepted, verifier (flavour, nothing), success.
    assert_eq!(data[..24], words(&[7, 1, 0, 0, 0, 0]));
    Reply(data.split_off(24))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

fn opaque(data: &[u8]) -> Vec<u8> {
    let mut out = words(&[data.len() as u32]);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

struct Reply(Vec<u8>);

impl Reply {
    fn word(&mut self) -> u32 {
        let rest = self.0.split_off(4);
        let word = std::mem::replace(&mut self.0, rest);
        u32::from_be_bytes(word.try_into().expect("a word"))
    }

    fn opaque(&mut self) -> Vec<u8> {
        let len = self.word() as usize;
        let rest = self.0.split_off(len.next_multiple_of(4));
        let mut data = std::mem::replace(&mut self.0, rest);
        data.truncate(len);
        data
    }
}
