//! SMB2 NEGOTIATE (MS-SMB2 2.2.3, 2.2.4) over direct TCP.

use std::io::{self, Read, Write};

use super::{read_bounded, wrong};

/// 2.0.2 to 3.0.2. Not 3.1.1, which would want negotiation contexts; every server of it has the others.
const DIALECTS: [u16; 4] = [0x0202, 0x0210, 0x0300, 0x0302];

const MAGIC: [u8; 4] = [0xfe, b'S', b'M', b'B'];
const HEADER: usize = 64;

pub fn ask(peer: &mut (impl Read + Write)) -> io::Result<()> {
    peer.write_all(&request())?;
    let mut length = [0; 4];
    peer.read_exact(&mut length)?;
    // MS-SMB2 2.1: one zero byte and the length in three.
    let [0, rest @ ..] = length else {
        return Err(wrong("no SMB2 answer"));
    };
    let length = rest.iter().fold(0, |n, b| (n << 8) | usize::from(*b));
    judge(&read_bounded(peer, length)?)
}

fn request() -> Vec<u8> {
    const SIGNING_ENABLED: u16 = 1;
    let mut message = vec![0; HEADER];
    message[..4].copy_from_slice(&MAGIC);
    message[4] = HEADER as u8; // StructureSize
    message[14] = 1; // CreditRequest
    for word in [36, DIALECTS.len() as u16, SIGNING_ENABLED, 0] {
        message.extend(u16::to_le_bytes(word));
    }
    message.extend([0; 4 + 16 + 8]); // Capabilities, ClientGuid, ClientStartTime
    message.extend(DIALECTS.into_iter().flat_map(u16::to_le_bytes));
    let mut packet = (message.len() as u32).to_be_bytes().to_vec();
    packet.extend(message);
    packet
}

/// Whether the answer agrees on a dialect.
pub(super) fn judge(answer: &[u8]) -> io::Result<()> {
    const SERVER_TO_REDIR: u32 = 1;
    let cut = || wrong("a cut SMB2 answer");
    let le16 = |at: usize| -> Option<u16> {
        let bytes = answer.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    };
    let le32 = |at: usize| Some(u32::from(le16(at)?) | (u32::from(le16(at + 2)?) << 16));
    if answer.get(..4).ok_or_else(cut)? != MAGIC {
        return Err(wrong("no SMB2 answer"));
    }
    let status = le32(8).ok_or_else(cut)?;
    let command = le16(12).ok_or_else(cut)?;
    let flags = le32(16).ok_or_else(cut)?;
    if command != 0 || flags & SERVER_TO_REDIR == 0 {
        return Err(wrong("no answer to the negotiation"));
    }
    if status != 0 {
        return Err(wrong(format!(
            "the server refuses with status {status:#010x}"
        )));
    }
    let dialect = le16(HEADER + 4).ok_or_else(cut)?;
    if !DIALECTS.contains(&dialect) {
        return Err(wrong(format!("the server chose dialect {dialect:#06x}")));
    }
    Ok(())
}
