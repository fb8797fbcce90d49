//! What portwatch's daemon says of its node when it is asked, by the message that the agents use.
//!
//! It is read here as a program of another version would read it: what the tests ask about, and nothing else. That
//! the daemon writes it so is tested on berth's examples of its messages.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use serde::Deserialize;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::wait::{holds, wait_for};

/// Where the daemon listens.
const SOCKET: &str = "/run/berth/portwatch.sock";
/// The question.
const QUESTION: &[u8] = b"\"State\"";
/// The longest message of berth's processes.
const MESSAGE_LIMIT: usize = 1 << 20;
/// The daemon answers at once, but these machines are slow.
const ANSWER_LIMIT: TimeVal = TimeVal::new(5, 0);

/// What a daemon answers.
#[derive(Debug, Deserialize)]
enum Reply {
    State(NodeState),
    /// It is of a version that does not know the question, in its words.
    Refused(serde::de::IgnoredAny),
}

/// What is known of a node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeState {
    /// Its ports, by their names.
    pub ports: BTreeMap<String, PortState>,
    /// Its VIPs, by their resources.
    pub vips: BTreeMap<String, VipState>,
    /// What is known of detours beside those.
    pub detours: Detours,
    /// What is wrong with the ports, in one line.
    pub trouble: Option<String>,
}

/// A port.
#[derive(Debug, Clone, Deserialize)]
pub struct PortState {
    /// How it is.
    pub condition: Condition,
}

/// How a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Condition {
    /// It works.
    Good,
    /// It works, but has failed often of late.
    Flapping,
    /// It doesn't work.
    Failed {
        /// Why.
        why: Failure,
    },
    /// Anything else: it is no port to move to.
    #[serde(other)]
    Other,
}

/// Why a port has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// It has no carrier.
    Carrier,
    /// No target answers through it.
    Silent,
    /// Anything else.
    #[serde(other)]
    Other,
}

impl Condition {
    /// Whether VIPs may move to it.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Good | Self::Flapping)
    }
}

/// A VIP.
#[derive(Debug, Clone, Deserialize)]
pub struct VipState {
    /// Its address.
    pub address: IpAddr,
    /// What the node does for it.
    pub role: Role,
    /// The port that it is served through.
    pub port: Option<String>,
}

/// What a node does for a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Role {
    /// It has the cell, and another node routes.
    Detour {
        /// That node, if it is known.
        router: Option<Hop>,
    },
    /// Anything else.
    #[serde(other)]
    Other,
}

/// A node that routes for this one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hop {
    /// Its name.
    pub node: String,
}

/// What is known of detours.
#[derive(Debug, Clone, Deserialize)]
pub struct Detours {
    /// What other nodes say that they route for this one.
    pub claims: Vec<Claim>,
}

/// That another node says that it routes for a VIP of this one's.
#[derive(Debug, Clone, Deserialize)]
pub struct Claim {
    /// That node.
    pub node: String,
    /// The VIP.
    pub vip: IpAddr,
    /// Why that can't be followed, if so.
    pub refused: Option<String>,
}

impl NodeState {
    /// The port that a VIP is served through.
    pub fn port_of(&self, vip: IpAddr) -> Option<&str> {
        let mut own = self.vips.values().filter(|one| one.address == vip);
        own.find_map(|one| one.port.as_deref())
    }

    /// The node that routes for a VIP of this one's.
    pub fn router_of(&self, vip: IpAddr) -> Option<&str> {
        let mut own = self.vips.values().filter(|one| one.address == vip);
        own.find_map(|one| match &one.role {
            Role::Detour { router: Some(hop) } => Some(hop.node.as_str()),
            _ => None,
        })
    }

    /// Why it does not follow what `node` says of a VIP.
    pub fn refusal_of(&self, node: &str, vip: IpAddr) -> Option<&str> {
        let claims = self.detours.claims.iter();
        let mut of = claims.filter(|claim| claim.node == node && claim.vip == vip);
        of.find_map(|claim| claim.refused.as_deref())
    }
}

/// The program, on a node: asks its daemon, and prints what that answers.
///
/// # Errors
/// If it does not answer.
pub fn main() -> Result<()> {
    let reply = ask()?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}

fn ask() -> Result<Vec<u8>> {
    let what = format!("ask portwatch at {SOCKET}");
    let daemon = open().context(&what)?;
    send(daemon.as_raw_fd(), QUESTION, MsgFlags::MSG_NOSIGNAL).context(&what)?;
    let mut reply = vec![0; MESSAGE_LIMIT];
    let length = loop {
        match recv(daemon.as_raw_fd(), &mut reply, MsgFlags::empty()) {
            Ok(0) => return Err(Error::new("it ended without an answer")).context(&what),
            Ok(length) => break length,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context(&what),
        }
    };
    reply.truncate(length);
    Ok(reply)
}

fn open() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let daemon = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    setsockopt(&daemon, sockopt::ReceiveTimeout, &ANSWER_LIMIT)?;
    connect(daemon.as_raw_fd(), &UnixAddr::new(SOCKET)?)?;
    Ok(daemon)
}

/// Asks the daemon of a node; `None` if it is of an earlier version, which does not know the question.
///
/// # Errors
/// If none runs there.
pub fn known_state(lab: &Lab, node: &str) -> Result<Option<NodeState>> {
    let what = format!("portwatch of {node}");
    let output = lab.exec(node, &["lab", "portwatch"])?.check(&what)?;
    read(&output.stdout).context(what)
}

/// Asks the daemon of a node, which is of this version.
///
/// # Errors
/// If none runs there, or it is of an earlier version.
pub fn state(lab: &Lab, node: &str) -> Result<NodeState> {
    let older = || Error::new(format!("portwatch of {node} does not tell its state"));
    known_state(lab, node)?.ok_or_else(older)
}

fn read(reply: &str) -> Result<Option<NodeState>> {
    match serde_json::from_str(reply).context("read its state")? {
        Reply::State(state) => Ok(Some(state)),
        Reply::Refused(_) => Ok(None),
    }
}

/// Asks the daemon of a node until what it says `is` so; `what` says what is waited for.
///
/// # Errors
/// If it is not so within `limit`.
pub fn wait_until(
    lab: &Lab,
    node: &str,
    what: &str,
    limit: Duration,
    is: impl Fn(&NodeState) -> bool,
) -> Result<()> {
    wait_for(format_args!("{what} by portwatch of {node}"), limit, || {
        let state = state(lab, node)?;
        holds(is(&state), Error::new(format!("{state:?}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLES: &str = include_str!("../../fixtures/formats/portwatch-reply.jsonl");

    #[test]
    fn what_a_daemon_answers_is_understood() {
        let states = EXAMPLES
            .lines()
            .filter(|line| line.starts_with("{\"State\""));
        let states: Vec<NodeState> = states.map(|line| read(line).unwrap().unwrap()).collect();
        let state = &states[0];
        let usable = state.ports.iter().filter(|(_, p)| p.condition.is_usable());
        let usable: Vec<&str> = usable.map(|(name, _)| name.as_str()).collect();
        assert_eq!(usable, ["eth1", "eth5"]);
        let why = Failure::Silent;
        assert_eq!(state.ports["eth2"].condition, Condition::Failed { why });
        let vip = |last: u8| IpAddr::from([10, 1, 0, last]);
        assert_eq!(state.port_of(vip(50)), Some("eth1"));
        assert_eq!(state.port_of(vip(52)), None);
        assert_eq!(state.router_of(vip(54)), Some("n2"));
        assert_eq!(
            (state.router_of(vip(50)), state.router_of(vip(55))),
            (None, None)
        );
        assert_eq!(state.refusal_of("n3", vip(55)), Some("why"));
        assert_eq!(state.refusal_of("n2", vip(54)), None);
        assert_eq!(state.trouble.as_deref(), Some("eth2 silent"));
        let refused = EXAMPLES.lines().find(|line| line.contains("Refused"));
        assert!(read(refused.unwrap()).unwrap().is_none());
        read("\"Noted\"").unwrap_err();
    }
}
