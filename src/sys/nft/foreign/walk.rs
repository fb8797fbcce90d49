//! Following a chain's rules as far as a packet is known. The expressions are those of nfnetlink
//! (`linux/netfilter/nf_tables.h`), and of iptables' matches in them.

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;

use super::number;
use crate::sys::netlink::wire::{Attributes, text_of};
use crate::sys::nft::protocol::{NFTA_DATA_VALUE, NFTA_EXPR_DATA, attribute};
use crate::types::Family;

/// How deep chains may lead to chains: the kernel allows 16.
const DEPTH: usize = 16;
/// How many rules are looked at; where that is not enough, the packet may pass.
const RULES: usize = 20_000;
/// How many elements of a set are looked at; where that is not enough, any may be in it.
const ELEMENTS: usize = 4096;
/// The registers of a rule, in bytes.
const REGISTERS: usize = 64;
/// `NF_CT_STATE_UNTRACKED_BIT`: what berth's own chain makes of VIPs' packets.
const UNTRACKED: u32 = 1 << 6;
/// `XT_CONNTRACK_STATE_UNTRACKED`, and that of the older match.
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

/// What becomes of it in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is dropped, whatever else it is.
    Dropped,
    /// It is accepted, or may be.
    MayPass,
    /// It leaves the chain by its end.
    Through,
}

/// What rules refer to by name.
pub(crate) trait Names {
    /// A chain's rules, each as the list of its expressions.
    fn rules(&mut self, chain: &str) -> io::Result<Rc<Vec<Vec<u8>>>>;
    /// What a set is like; `None` if that can't be told.
    fn shape(&mut self, set: &str) -> Option<Shape>;
    /// A set's elements. Of what can't be read any may be in it.
    fn set(&mut self, name: &str) -> Rc<Set>;
}

/// What is known of a set without its elements, which may be very many, and change all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The bytes of a key.
    pub(crate) key: usize,
    /// Whether it is part of a rule, as it is written.
    pub(crate) constant: bool,
}

/// A set's elements, or a map's with what they stand for.
#[derive(Debug, Default)]
pub(crate) struct Set {
    elements: Vec<(Vec<u8>, Option<Verdict>)>,
    /// Whether there are intervals or the like, which a key need not be equal to.
    inexact: bool,
    /// Whether there are more.
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

    /// What its elements stand for.
    fn verdicts(&self) -> Vec<Verdict> {
        let known = self.elements.iter().filter_map(|(_, v)| v.clone());
        known
            .chain(self.partial.then_some(Verdict::Other))
            .collect()
    }

    /// Adds an element as nfnetlink has it.
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
    /// Such as queueing: who gets it may let it pass.
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

/// Whether a packet is what a rule asks for.
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
    // Whether it may have left the chain before.
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
        // What a map stands for may be any of several.
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

/// It is dropped, unless it has left the chain and goes on behind it: that is followed as if it had.
fn dropped(left_it: bool) -> End {
    match left_it {
        true => End::Through,
        false => End::Dropped,
    }
}

/// A rule under way.
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

    /// The verdicts that the rule may have, if it matches at all; of several, none is sure.
    fn verdicts(self) -> Vec<Verdict> {
        match self.matched {
            Match::No => Vec::new(),
            Match::Maybe | Match::Yes => self.verdicts,
        }
    }

    fn and(&mut self, matched: Match) {
        self.matched = self.matched.min(matched);
    }

    /// Bytes of a register: 1 to 4 have 16, those from 8 on have 4 of the same.
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
        // What is not known may be as long as an IPv6 address.
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
                // Who gets it may let it pass.
                _ => self.verdicts.push(Verdict::Other),
            },
            "queue" | "synproxy" | "tproxy" => self.verdicts.push(Verdict::Other),
            "payload" if self.is_protocol(data) => self.store(word(1), Some(&[TCP])),
            "counter" | "log" | "notrack" | "last" => {}
            // What loads a register that is not known, and what limits: it depends.
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
        // Without a register it is set, not asked for.
        self.store(register, value.as_deref());
    }

    /// Whether the field that is loaded says what the packet carries.
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
            // Of what is not tracked nothing else is known, and the rule ends there.
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
            // An empty set has nothing in it, whatever is looked for.
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

    /// A match of iptables: what it says of connections' states is known, the rest is not.
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
                    // It may ask for more.
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
