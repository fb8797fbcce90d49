//! Follows a packet through the rules of a chain, as far as the packet is known. The expressions are those of nf_tables
//! (`linux/netfilter/nf_tables.h`), and matches of iptables inside them.

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;

use super::number;
use crate::sys::netlink::transport::{Attributes, text_of};
use crate::sys::nft::protocol::{NFTA_DATA_VALUE, NFTA_EXPR_DATA, attribute};
use crate::types::Family;

/// How deep chains may lead to chains: the kernel allows 16.
const DEPTH: usize = 16;
/// How many rules are looked at; if a chain takes more, the packet may pass.
const RULES: usize = 20_000;
/// How many elements of a set are looked at; if it has more, anything may be in it.
const ELEMENTS: usize = 4096;
/// The registers of a rule, in bytes.
const REGISTERS: usize = 64;
/// `NF_CT_STATE_UNTRACKED_BIT`: the state that berth's own chain gives VIPs' packets.
const UNTRACKED: u32 = 1 << 6;
/// `XT_CONNTRACK_STATE_UNTRACKED`, and its value in the older match `state`.
const XT_UNTRACKED: u16 = 1 << 8;
const XT_STATE_UNTRACKED: u32 = 1 << 6;
/// `XT_CONNTRACK_STATE`: the match looks at the state.
const XT_STATE: u16 = 1;
const TCP: u8 = 6;
const IFNAMSIZ: usize = 16;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_CONTINUE: i32 = -1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

/// A packet, as far as it is known: a TCP segment of a VIP's.
pub(crate) struct Packet<'a> {
    pub(crate) family: Family,
    pub(crate) iif: (&'a str, u32),
    pub(crate) oif: (&'a str, u32),
}

/// What happens to a packet in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is dropped, whatever else may be in it.
    Dropped,
    /// It is accepted, or may be.
    MayPass,
    /// It reaches the end of the chain.
    Through,
}

/// What rules refer to by name.
pub(crate) trait Names {
    /// A chain's rules, each as the list of its expressions.
    fn rules(&mut self, chain: &str) -> io::Result<Rc<Vec<Vec<u8>>>>;
    /// The shape of a set; `None` if it can't be read.
    fn shape(&mut self, set: &str) -> Option<Shape>;
    /// A set's elements. If the set can't be read, anything may be in it.
    fn set(&mut self, name: &str) -> Rc<Set>;
}

/// What is known of a set without reading its elements, which may be very many and change all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The bytes of a key.
    pub(crate) key: usize,
    /// Whether the set is constant: an anonymous set written in a rule.
    pub(crate) constant: bool,
}

/// The elements of a set, or of a map with their values.
#[derive(Debug, Default)]
pub(crate) struct Set {
    elements: Vec<(Vec<u8>, Option<Verdict>)>,
    /// Whether there are intervals or the like, so that a key may be in the set without being equal to an element.
    inexact: bool,
    /// Whether there are more elements than were read.
    partial: bool,
}

impl Set {
    /// A set that could not be read.
    pub(crate) fn unread() -> Self {
        Self {
            partial: true,
            ..Self::default()
        }
    }

    /// The verdicts that the map's elements stand for.
    fn verdicts(&self) -> Vec<Verdict> {
        let known = self.elements.iter().filter_map(|(_, v)| v.clone());
        known
            .chain(self.partial.then_some(Verdict::Other))
            .collect()
    }

    /// Adds an element as nfnetlink encodes it.
    pub(crate) fn add(&mut self, element: &[u8]) {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const KEY_END: u16 = 10;
        if self.elements.len() >= ELEMENTS {
            self.partial = true;
            return;
        }
        let key = attribute(element, KEY).and_then(|key| attribute(key, NFTA_DATA_VALUE));
        let flags = attribute(element, FLAGS).and_then(number).unwrap_or(0);
        self.inexact |= flags != 0 || key.is_none() || attribute(element, KEY_END).is_some();
        let verdict = attribute(element, DATA).and_then(Verdict::read);
        self.elements
            .push((key.unwrap_or_default().to_vec(), verdict));
    }
}

/// What a rule does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// Any other one, such as queueing to a program, which may let the packet pass.
    Other,
}

impl Verdict {
    fn read(data: &[u8]) -> Option<Self> {
        let verdict = attribute(data, NFTA_DATA_VERDICT)?;
        let code = attribute(verdict, NFTA_VERDICT_CODE)?.try_into().ok()?;
        let code = i32::from_be_bytes(code);
        let chain = || attribute(verdict, NFTA_VERDICT_CHAIN).map(text_of);
        Some(match code {
            NF_DROP => Self::Drop,
            NF_ACCEPT => Self::Accept,
            NFT_JUMP => Self::Jump(chain()?),
            NFT_GOTO => Self::Goto(chain()?),
            NFT_RETURN => Self::Return,
            NFT_CONTINUE => return None,
            _ => Self::Other,
        })
    }
}

/// Whether a packet matches a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Maybe,
    Yes,
}

/// Follows a packet through a chain.
///
/// # Errors
/// If rules can't be read.
pub(crate) fn walk(names: &mut impl Names, chain: &str, packet: &Packet<'_>) -> io::Result<End> {
    let mut left = RULES;
    follow(names, chain, packet, (DEPTH, &mut left))
}

fn follow(
    names: &mut impl Names,
    chain: &str,
    packet: &Packet<'_>,
    (depth, left): (usize, &mut usize),
) -> io::Result<End> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Ok(End::MayPass);
    };
    // Whether the packet may have left the chain by an earlier rule.
    let mut left_it = false;
    for rule in names.rules(chain)?.iter() {
        let Some(fewer) = left.checked_sub(1) else {
            return Ok(End::MayPass);
        };
        *left = fewer;
        let mut state = State::new(packet);
        for (_, expression) in Attributes(rule) {
            state.meet(names, expression);
            if state.matched == Match::No {
                break;
            }
        }
        let sure = state.matched == Match::Yes;
        // A map may lead to any of several verdicts.
        for verdict in state.verdicts() {
            let (end, leaves) = match verdict {
                Verdict::Accept | Verdict::Other => return Ok(End::MayPass),
                Verdict::Drop => (End::Dropped, true),
                Verdict::Return => (End::Through, true),
                Verdict::Jump(next) => (follow(names, &next, packet, (deeper, left))?, false),
                Verdict::Goto(next) => (follow(names, &next, packet, (deeper, left))?, true),
            };
            match end {
                End::MayPass => return Ok(End::MayPass),
                End::Dropped if sure => return Ok(dropped(left_it)),
                End::Through if sure && leaves => return Ok(End::Through),
                End::Through if leaves => left_it = true,
                End::Dropped | End::Through => {}
            }
        }
    }
    Ok(End::Through)
}

/// The end of a packet that a rule drops. If it may have left the chain before, that case is followed instead: it goes
/// on after the chain.
fn dropped(left_it: bool) -> End {
    match left_it {
        true => End::Through,
        false => End::Dropped,
    }
}

/// The state of a rule's evaluation.
struct State<'a> {
    packet: &'a Packet<'a>,
    registers: [Option<u8>; REGISTERS],
    matched: Match,
    verdicts: Vec<Verdict>,
}

impl<'a> State<'a> {
    fn new(packet: &'a Packet<'a>) -> Self {
        Self {
            packet,
            registers: [None; REGISTERS],
            matched: Match::Yes,
            verdicts: Vec::new(),
        }
    }

    /// The verdicts that the rule may lead to, if it matches; if there are several, none is certain.
    fn verdicts(self) -> Vec<Verdict> {
        match self.matched {
            Match::No => Vec::new(),
            Match::Maybe | Match::Yes => self.verdicts,
        }
    }

    fn and(&mut self, matched: Match) {
        self.matched = self.matched.min(matched);
    }

    /// The offset of a register in bytes: 1 to 4 have 16 bytes each; those from 8 on are 4-byte parts of the same.
    fn place(register: Option<u32>) -> Option<usize> {
        let register = usize::try_from(register?).ok()?;
        let at = match register {
            1..=4 => (register - 1) * 16,
            8.. => (register - 8) * 4,
            _ => return None,
        };
        (at < REGISTERS).then_some(at)
    }

    fn store(&mut self, register: Option<u32>, value: Option<&[u8]>) {
        let Some(at) = Self::place(register) else {
            return;
        };
        let room = &mut self.registers[at..];
        // An unknown value may be as long as an IPv6 address.
        let length = value.map_or(16, |value| value.len().next_multiple_of(4));
        for (n, byte) in room.iter_mut().take(length).enumerate() {
            *byte = value.map(|value| value.get(n).copied().unwrap_or(0));
        }
    }

    fn load(&self, register: Option<u32>, length: usize) -> Option<Vec<u8>> {
        let at = Self::place(register)?;
        self.registers
            .get(at..at + length)?
            .iter()
            .copied()
            .collect()
    }

    fn meet(&mut self, names: &mut impl Names, expression: &[u8]) {
        let name = attribute(expression, NFTA_EXPR_NAME).map(text_of);
        let data = attribute(expression, NFTA_EXPR_DATA).unwrap_or_default();
        let word = |kind: u16| attribute(data, kind).and_then(number);
        match name.as_deref().unwrap_or_default() {
            "meta" => self.meta(word(1), word(2)),
            "ct" => self.tracking(word(1), word(2)),
            "immediate" => match attribute(data, 2) {
                Some(value) if word(1) == Some(0) => self.verdicts.extend(Verdict::read(value)),
                value => {
                    let value = value.and_then(|v| attribute(v, NFTA_DATA_VALUE));
                    self.store(word(1), value);
                }
            },
            "bitwise" => self.mask(data),
            "cmp" => self.compare(data),
            "lookup" => self.look_up(names, data),
            "reject" => self.verdicts.push(Verdict::Drop),
            "match" => self.iptables_match(data),
            "target" => match attribute(data, 1).map(text_of).as_deref() {
                Some("REJECT" | "DROP") => self.verdicts.push(Verdict::Drop),
                Some("LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TRACE" | "TCPMSS" | "DSCP") => {}
                // The program that gets the packet may let it pass.
                _ => self.verdicts.push(Verdict::Other),
            },
            "queue" | "synproxy" | "tproxy" => self.verdicts.push(Verdict::Other),
            "payload" if self.is_protocol(data) => self.store(word(1), Some(&[TCP])),
            "counter" | "log" | "notrack" | "last" => {}
            // These load a value that is not known, or limit a rate: the rule may match or not.
            "payload" | "exthdr" | "fib" | "rt" | "socket" | "osf" | "numgen" | "hash"
            | "byteorder" | "xfrm" | "tunnel" | "inner" => {
                self.registers = [None; REGISTERS];
            }
            _ => self.and(Match::Maybe),
        }
    }

    fn meta(&mut self, register: Option<u32>, key: Option<u32>) {
        let name = |name: &str| {
            let mut bytes = name.as_bytes().to_vec();
            bytes.resize(IFNAMSIZ, 0);
            bytes
        };
        let (iif, oif) = (self.packet.iif, self.packet.oif);
        let index = |index: u32| (index != 0).then(|| index.to_ne_bytes().to_vec());
        let value = match key {
            Some(4) => index(iif.1),
            Some(5) => index(oif.1),
            Some(6) => Some(name(iif.0)),
            Some(7) => Some(name(oif.0)),
            Some(15) => Some(vec![match self.packet.family {
                Family::V4 => super::NFPROTO_IPV4,
                Family::V6 => super::NFPROTO_IPV6,
            }]),
            Some(16) => Some(vec![TCP]),
            _ => None,
        };
        // Without a register the expression sets the value instead of loading it.
        self.store(register, value.as_deref());
    }

    /// Whether the loaded field is the packet's transport protocol.
    fn is_protocol(&self, payload: &[u8]) -> bool {
        const NETWORK_HEADER: u32 = 1;
        let word = |kind: u16| attribute(payload, kind).and_then(number);
        let at = match self.packet.family {
            Family::V4 => 9,
            Family::V6 => 6,
        };
        (word(2), word(3), word(4)) == (Some(NETWORK_HEADER), Some(at), Some(1))
    }

    fn tracking(&mut self, register: Option<u32>, key: Option<u32>) {
        match (register, key) {
            (Some(_), Some(0)) => self.store(register, Some(&UNTRACKED.to_ne_bytes())),
            // For an untracked packet any other key ends the rule without a match.
            (Some(_), _) => self.matched = Match::No,
            (None, _) => {}
        }
    }

    fn mask(&mut self, data: &[u8]) {
        let word = |kind: u16| attribute(data, kind).and_then(number);
        let bytes = |kind: u16| attribute(data, kind).and_then(|v| attribute(v, NFTA_DATA_VALUE));
        let value = match (bytes(4), bytes(5), word(6).unwrap_or(0)) {
            (Some(mask), Some(xor), 0) if mask.len() == xor.len() => {
                let value = self.load(word(1), mask.len());
                value.map(|value| {
                    let both = value.iter().zip(mask).zip(xor);
                    both.map(|((v, m), x)| (v & m) ^ x).collect::<Vec<u8>>()
                })
            }
            _ => None,
        };
        self.store(word(2), value.as_deref());
    }

    fn compare(&mut self, data: &[u8]) {
        let word = |kind: u16| attribute(data, kind).and_then(number);
        let with = attribute(data, 3).and_then(|v| attribute(v, NFTA_DATA_VALUE));
        let value = with.and_then(|with| self.load(word(1), with.len()));
        let (Some(with), Some(value)) = (with, value) else {
            return self.and(Match::Maybe);
        };
        self.and(match word(2) {
            Some(0) => is(value == with),
            Some(1) => is(value != with),
            _ => Match::Maybe,
        });
    }

    fn look_up(&mut self, names: &mut impl Names, data: &[u8]) {
        let word = |kind: u16| attribute(data, kind).and_then(number);
        let (map, inverted) = (word(3), word(5).unwrap_or(0) & 1 != 0);
        let name = attribute(data, 1).map(text_of).unwrap_or_default();
        let shape = names.shape(&name);
        let key = shape.and_then(|shape| self.load(word(2), shape.key));
        let wanted = key.is_some() || (map == Some(0) && shape.is_some_and(|s| s.constant));
        let set = match wanted {
            true => names.set(&name),
            false => Rc::new(Set::unread()),
        };
        let found = match key {
            // Nothing is in an empty set, whatever is looked up.
            _ if set.elements.is_empty() && !set.partial => None,
            Some(key) if !set.inexact && !set.partial => {
                set.elements.iter().find(|(k, _)| *k == key)
            }
            _ => {
                self.and(Match::Maybe);
                match map {
                    Some(0) => self.verdicts.extend(set.verdicts()),
                    other => self.store(other, None),
                }
                return;
            }
        };
        self.and(is(found.is_some() != inverted));
        match map {
            Some(0) => self.verdicts.extend(found.and_then(|(_, v)| v.clone())),
            other => self.store(other, None),
        }
    }

    /// A match of iptables: what it demands of connections' states is evaluated, anything else may match or not.
    fn iptables_match(&mut self, data: &[u8]) {
        let name = attribute(data, 1).map(text_of);
        let revision = attribute(data, 2).and_then(number).unwrap_or(0);
        let info = attribute(data, 3).unwrap_or_default();
        let half = |at: usize| {
            let bytes = info.get(at..).and_then(|b| b.first_chunk());
            bytes.map(|b| u16::from_ne_bytes(*b))
        };
        self.and(match name.as_deref() {
            Some("comment") => Match::Yes,
            // `struct xt_conntrack_mtinfo2` and 3: flags, inverted flags and states.
            Some("conntrack") if revision >= 2 => match (half(146), half(148), half(150)) {
                (Some(flags), Some(inverted), Some(states)) if flags & XT_STATE != 0 => {
                    let has = states & XT_UNTRACKED != 0;
                    // The match may demand more than the state.
                    match has != (inverted & XT_STATE != 0) {
                        true if flags == XT_STATE => Match::Yes,
                        true => Match::Maybe,
                        false => Match::No,
                    }
                }
                _ => Match::Maybe,
            },
            Some("state") => match info.first_chunk().map(|b| u32::from_ne_bytes(*b)) {
                Some(states) => is(states & XT_STATE_UNTRACKED != 0),
                None => Match::Maybe,
            },
            _ => Match::Maybe,
        });
    }
}

const fn is(yes: bool) -> Match {
    match yes {
        true => Match::Yes,
        false => Match::No,
    }
}
