//! The NULL procedure of NFS version 4 over ONC RPC (RFC 5531) with record marking.

use std::io::{self, Read, Write};

use super::{ANSWER_LIMIT, read_bounded, wrong};

const XID: u32 = 0x6265_7274;
const LAST_FRAGMENT: u32 = 1 << 31;

pub fn ask(peer: &mut (impl Read + Write)) -> io::Result<()> {
    peer.write_all(&call())?;
    judge(&read_record(peer)?)
}

/// RFC 5531, 9: CALL of program 100003, version 4, procedure 0, without credentials.
fn call() -> Vec<u8> {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    const NFS: u32 = 100_003;
    const AUTH_NONE: [u32; 2] = [0, 0]; // flavour, length of nothing
    let body = [XID, CALL, RPC_VERSION, NFS, 4, 0];
    let words = body.into_iter().chain(AUTH_NONE).chain(AUTH_NONE);
    let body: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
    let mut record = (LAST_FRAGMENT | body.len() as u32).to_be_bytes().to_vec();
    record.extend(body);
    record
}

fn read_record(peer: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut record = vec![];
    loop {
        let mut mark = [0; 4];
        peer.read_exact(&mut mark)?;
        let mark = u32::from_be_bytes(mark);
        let fragment = read_bounded(peer, (mark & !LAST_FRAGMENT) as usize)?;
        // Fragments of nothing, one after the other, would keep this loop busy.
        if fragment.is_empty() || record.len() + fragment.len() > ANSWER_LIMIT {
            return Err(wrong("no RPC answer"));
        }
        record.extend(fragment);
        if mark & LAST_FRAGMENT != 0 {
            return Ok(record);
        }
    }
}

/// Whether the reply says that the procedure ran.
pub(super) fn judge(reply: &[u8]) -> io::Result<()> {
    const REPLY: u32 = 1;
    let mut words = reply
        .chunks_exact(4)
        .map(|w| w.iter().fold(0u32, |n, b| (n << 8) | u32::from(*b)));
    let mut next = || words.next().ok_or_else(|| wrong("a cut RPC answer"));
    if (next()?, next()?) != (XID, REPLY) {
        return Err(wrong("no answer to the call"));
    }
    if next()? != 0 {
        return Err(wrong("the call was denied"));
    }
    let _flavour = next()?;
    let verifier = next()?;
    for _ in 0..verifier.div_ceil(4) {
        next()?;
    }
    match next()? {
        0 => Ok(()),
        1 => Err(wrong("the server has no NFS")),
        2 => Err(wrong("the server has no NFS version 4")),
        status => Err(wrong(format!("the call failed with RPC status {status}"))),
    }
}
