//! SMB 2 and 3 over direct TCP (MS-SMB2), as far as shows whether a share is there: a NEGOTIATE, and where a
//! share is asked for an anonymous session and a TREE_CONNECT, which is denied, but not for want of a share.

use std::io::{self, Read, Write};

use super::{read_bounded, wrong};

/// 2.0.2 to 3.0.2. Not 3.1.1, which would want negotiation contexts; every server of it has the others, unless
/// its admin wants no other.
const DIALECTS: [u16; 4] = [0x0202, 0x0210, 0x0300, 0x0302];

const MAGIC: [u8; 4] = [0xfe, b'S', b'M', b'B'];
const HEADER: usize = 64;
const SIGNING_ENABLED: u8 = 1;

/// Commands (MS-SMB2 2.2.1.2).
const NEGOTIATE: u16 = 0;
const SESSION_SETUP: u16 = 1;
const TREE_CONNECT: u16 = 3;

/// Statuses (MS-ERREF 2.3.1).
const SUCCESS: u32 = 0;
const MORE_PROCESSING_REQUIRED: u32 = 0xc000_0016;
const NOT_SUPPORTED: u32 = 0xc000_00bb;
const BAD_NETWORK_NAME: u32 = 0xc000_00cc;

/// Whether a server that is alive speaks one of [`DIALECTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    /// It does.
    Yes,
    /// It says that it wants another one.
    No,
}

pub(crate) fn ask(peer: &mut (impl Read + Write)) -> io::Result<()> {
    negotiate(peer).map(|_| ())
}

/// A session of nobody's.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    /// The number of its next message.
    next: u64,
}

/// Begins a session; `None` if the server lets nobody ask for shares in this way.
pub(crate) fn open(peer: &mut (impl Read + Write)) -> io::Result<Option<Session>> {
    match negotiate(peer)? {
        Agreed::Yes => log_on(peer),
        Agreed::No => Ok(None),
    }
}

impl Session {
    /// Connects to the share `name`. Each answer allows one more message (MS-SMB2 3.2.5.1.4).
    pub(crate) fn find(&mut self, peer: &mut (impl Read + Write), name: &str) -> io::Result<()> {
        send(peer, TREE_CONNECT, self.next, self.id, &tree_connect(name))?;
        self.next += 1;
        judge_tree(&receive(peer)?, name)
    }
}

fn negotiate(peer: &mut (impl Read + Write)) -> io::Result<Agreed> {
    let mut body = Vec::new();
    for word in [36, DIALECTS.len() as u16, SIGNING_ENABLED.into(), 0] {
        body.extend(u16::to_le_bytes(word));
    }
    body.extend([0; 4 + 16 + 8]); // Capabilities, ClientGuid, ClientStartTime
    body.extend(DIALECTS.into_iter().flat_map(u16::to_le_bytes));
    send(peer, NEGOTIATE, 0, 0, &body)?;
    judge(&receive(peer)?)
}

/// An anonymous session (MS-NLMP 3.2.5.1.2); `None` if the server wants none, which is its right.
fn log_on(peer: &mut (impl Read + Write)) -> io::Result<Option<Session>> {
    send(peer, SESSION_SETUP, 1, 0, &session_setup(&ntlm_negotiate()))?;
    let challenge = receive(peer)?;
    let Answer {
        status, session, ..
    } = Answer::parse(&challenge, SESSION_SETUP)?;
    if status != MORE_PROCESSING_REQUIRED {
        return Ok(None);
    }
    let token = ntlm_authenticate();
    send(peer, SESSION_SETUP, 2, session, &session_setup(&token))?;
    let outcome = receive(peer)?;
    let Answer { status, .. } = Answer::parse(&outcome, SESSION_SETUP)?;
    let session = Session {
        id: session,
        next: 3,
    };
    Ok((status == SUCCESS).then_some(session))
}

fn send(
    peer: &mut impl Write,
    command: u16,
    number: u64,
    session: u64,
    body: &[u8],
) -> io::Result<()> {
    let mut message = vec![0; HEADER];
    message[..4].copy_from_slice(&MAGIC);
    message[4] = HEADER as u8; // StructureSize
    message[12..14].copy_from_slice(&command.to_le_bytes());
    message[14] = 1; // CreditRequest
    message[24..32].copy_from_slice(&number.to_le_bytes()); // MessageId
    message[40..48].copy_from_slice(&session.to_le_bytes());
    message.extend(body);
    let mut packet = (message.len() as u32).to_be_bytes().to_vec();
    packet.extend(message);
    peer.write_all(&packet)
}

fn receive(peer: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    peer.read_exact(&mut length)?;
    // MS-SMB2 2.1: one zero byte and the length in three.
    let [0, rest @ ..] = length else {
        return Err(wrong("no SMB2 answer"));
    };
    let length = rest.iter().fold(0, |n, b| (n << 8) | usize::from(*b));
    read_bounded(peer, length)
}

/// MS-SMB2 2.2.5.
fn session_setup(token: &[u8]) -> Vec<u8> {
    const FIXED: u16 = 24;
    let mut body = vec![25, 0, 0, SIGNING_ENABLED];
    body.extend([0; 4 + 4]); // Capabilities, Channel
    body.extend((HEADER as u16 + FIXED).to_le_bytes());
    body.extend((token.len() as u16).to_le_bytes());
    body.extend([0; 8]); // PreviousSessionId
    body.extend(token);
    body
}

/// MS-SMB2 2.2.9. The server does not look at its own name in the path.
fn tree_connect(share: &str) -> Vec<u8> {
    const FIXED: u16 = 8;
    let path: Vec<u16> = format!("\\\\localhost\\{share}").encode_utf16().collect();
    let mut body = Vec::new();
    for word in [9, 0, HEADER as u16 + FIXED, path.len() as u16 * 2] {
        body.extend(u16::to_le_bytes(word));
    }
    body.extend(path.into_iter().flat_map(u16::to_le_bytes));
    body
}

/// MS-NLMP 2.2.2.5: Unicode, NTLM, always sign, extended session security.
const NTLM_FLAGS: u32 = 0x0008_8201;

/// MS-NLMP 2.2.1.1, with neither domain nor workstation.
fn ntlm_negotiate() -> Vec<u8> {
    let mut token = b"NTLMSSP\0".to_vec();
    token.extend(1u32.to_le_bytes());
    token.extend(NTLM_FLAGS.to_le_bytes());
    token.extend([0; 8 + 8]);
    token
}

/// MS-NLMP 2.2.1.3, of nobody: the whole of it is one zero byte as the LM response.
fn ntlm_authenticate() -> Vec<u8> {
    const ANONYMOUS: u32 = 0x0800;
    const PAYLOAD: u32 = 64;
    let mut token = b"NTLMSSP\0".to_vec();
    token.extend(3u32.to_le_bytes());
    // LM response, NT response, domain, user, workstation, session key.
    for length in [1u16, 0, 0, 0, 0, 0] {
        token.extend(length.to_le_bytes());
        token.extend(length.to_le_bytes());
        token.extend(PAYLOAD.to_le_bytes());
    }
    token.extend((NTLM_FLAGS | ANONYMOUS).to_le_bytes());
    token.push(0);
    token
}

/// What matters of an answer (MS-SMB2 2.2.1.2).
struct Answer<'a> {
    status: u32,
    session: u64,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn parse(answer: &'a [u8], to: u16) -> io::Result<Self> {
        const SERVER_TO_REDIR: u32 = 1;
        if answer.get(..4).ok_or_else(cut)? != MAGIC {
            return Err(wrong("no SMB2 answer"));
        }
        let Some((header, body)) = answer.split_at_checked(HEADER) else {
            return Err(cut());
        };
        let le32 = |at: usize| u32::from(le16(header, at)) | u32::from(le16(header, at + 2)) << 16;
        if le16(header, 12) != to || le32(16) & SERVER_TO_REDIR == 0 {
            return Err(wrong("no answer to the request"));
        }
        Ok(Self {
            status: le32(8),
            session: u64::from(le32(40)) | u64::from(le32(44)) << 32,
            body,
        })
    }
}

fn cut() -> io::Error {
    wrong("a cut SMB2 answer")
}

fn refusal(status: u32) -> io::Error {
    wrong(format!("the server refuses with status {status:#010x}"))
}

/// Two bytes of a header, which is long enough.
fn le16(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

/// Whether the answer agrees on a dialect.
pub(crate) fn judge(answer: &[u8]) -> io::Result<Agreed> {
    let answer = Answer::parse(answer, NEGOTIATE)?;
    match answer.status {
        SUCCESS => {}
        NOT_SUPPORTED => return Ok(Agreed::No),
        status => return Err(refusal(status)),
    }
    let dialect = answer.body.get(4..6).ok_or_else(cut)?;
    let dialect = le16(dialect, 0);
    if !DIALECTS.contains(&dialect) {
        return Err(wrong(format!("the server chose dialect {dialect:#06x}")));
    }
    Ok(Agreed::Yes)
}

/// Whether the answer to a TREE_CONNECT says anything but that there is no such share: nobody may be refused
/// for many reasons.
pub(crate) fn judge_tree(answer: &[u8], share: &str) -> io::Result<()> {
    match Answer::parse(answer, TREE_CONNECT)?.status {
        BAD_NETWORK_NAME => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no share {share}"),
        )),
        _ => Ok(()),
    }
}
