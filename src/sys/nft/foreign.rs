//! Other programs' chains that forwarded packets pass. If a firewall's chain drops VIPs' traffic, an address can't be
//! reached although it is served as it should be, and no rule of berth's can overrule that.
//!
//! The rules of these chains are followed for what is known of the packets: the interfaces that they come in and leave
//! by, that they are TCP, and that their connection is not tracked. A rule that depends on anything else may let some
//! packets pass, and then nothing is reported: only a chain that certainly drops them is.

mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::rc::Rc;

use nix::errno::Errno;

use self::walk::{End, Names, Packet, Set, Shape, walk};
use super::Socket;
use super::elements::{NFPROTO_INET, TABLE, message_type, payload, text};
use super::protocol::{
    GETCHAIN, GETRULE, GETSETELEM, NFPROTO_IPV4, NFPROTO_IPV6, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME,
    NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_HOOK_HOOKNUM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_TABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, attribute,
};
use crate::sys::message;
use crate::sys::netlink::transport::{Attributes, Message, Request, text_of};
use crate::types::Family;

const GETTABLE: u16 = libc::NFT_MSG_GETTABLE as u16;
const GETSET: u16 = libc::NFT_MSG_GETSET as u16;
const TABLE_IS_DORMANT: u32 = 1;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFT_SET_CONSTANT: u32 = libc::NFT_SET_CONSTANT as u32;
const NFTA_ELEMENTS: u16 = 3;
const HOOK_FORWARD: u32 = libc::NF_INET_FORWARD as u32;
const POLICY_DROP: u32 = libc::NF_DROP as u32;

/// Another program's chain that all forwarded packets of its families pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier {
    /// `ip`, `ip6` or `inet`.
    pub(crate) family: &'static str,
    /// Its table.
    pub(crate) table: String,
    /// Its name.
    pub(crate) chain: String,
    drops: bool,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "chain {} of nftables table {} {}",
            self.chain, self.family, self.table
        )
    }
}

/// Two interfaces between which packets of VIPs are forwarded, by their names and indices; the index is 0 for an
/// interface that is still to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passage<'a> {
    /// The addresses' family.
    pub family: Family,
    /// The port at which clients are.
    pub port: (&'a str, u32),
    /// The interface that leads to the cell, or to the node that has it.
    pub inward: (&'a str, u32),
}

impl Barrier {
    fn proto(&self) -> u8 {
        match self.family {
            "ip" => NFPROTO_IPV4,
            "ip6" => NFPROTO_IPV6,
            _ => NFPROTO_INET,
        }
    }

    fn concerns(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.family != "ip6",
            Family::V6 => self.family != "ip",
        }
    }
}

impl Socket {
    /// The chains of other programs that drop packets on one of `passages`, in either direction. Rules of
    /// `iptables-legacy` can't be seen.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn barriers(&mut self, passages: &[Passage<'_>]) -> io::Result<Vec<Barrier>> {
        let chains = self.chains()?;
        self.barriers_among(&foreign(&chains), passages)
    }

    pub(crate) fn chains(&mut self) -> io::Result<Vec<Message>> {
        // The chains of all families.
        self.ask(GETCHAIN, payload(0, &[]), "list the chains of nftables")
    }

    /// As [`Socket::barriers`], of chains that are known already: see [`Socket::survey`].
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn barriers_among(
        &mut self,
        chains: &[Barrier],
        passages: &[Passage<'_>],
    ) -> io::Result<Vec<Barrier>> {
        let mut found = Vec::new();
        for barrier in chains {
            let mut table = Table {
                socket: self,
                proto: barrier.proto(),
                name: text(&barrier.table),
                chains: BTreeMap::new(),
                shapes: BTreeMap::new(),
                sets: BTreeMap::new(),
            };
            let mut drops = false;
            for passage in passages.iter().filter(|p| barrier.concerns(p.family)) {
                for (iif, oif) in [
                    (passage.port, passage.inward),
                    (passage.inward, passage.port),
                ] {
                    let packet = Packet {
                        family: passage.family,
                        iif,
                        oif,
                    };
                    let end = walk(&mut table, &barrier.chain, &packet)?;
                    drops |= match end {
                        End::Dropped => true,
                        End::MayPass => false,
                        End::Through => barrier.drops,
                    };
                }
            }
            if drops && !self.is_dormant(barrier)? {
                found.push(barrier.clone());
            }
        }
        Ok(found)
    }

    fn is_dormant(&mut self, barrier: &Barrier) -> io::Result<bool> {
        let query = payload(barrier.proto(), &[]);
        let tables = self.ask(GETTABLE, query, "list the tables of nftables")?;
        let dormant = |table: &Message| {
            let table = table.payload.get(4..)?;
            let name = attribute(table, NFTA_TABLE_NAME).map(text_of)?;
            let flags = attribute(table, NFTA_TABLE_FLAGS).and_then(number)?;
            (name == barrier.table).then_some(flags & TABLE_IS_DORMANT != 0)
        };
        Ok(tables.iter().find_map(dormant).unwrap_or(false))
    }

    /// The messages that the kernel lists; none if the object has gone meanwhile.
    fn ask(&mut self, verb: u16, query: Vec<u8>, what: &str) -> io::Result<Vec<Message>> {
        let answer = self.transport.dump(message_type(verb), query);
        match answer.map_err(|e| message(e, what))? {
            Ok(found) => Ok(found),
            Err(no) if no.errno == Errno::ENOENT => Ok(Vec::new()),
            Err(no) => Err(no.of(what)),
        }
    }
}

/// Of these chains, those of other programs that forwarded packets pass.
pub(crate) fn foreign(chains: &[Message]) -> Vec<Barrier> {
    let read = |chain: &Message| {
        let family = match *chain.payload.first()? {
            NFPROTO_IPV4 => "ip",
            NFPROTO_IPV6 => "ip6",
            NFPROTO_INET => "inet",
            _ => return None,
        };
        let chain = chain.payload.get(4..)?;
        let hook = attribute(chain, NFTA_CHAIN_HOOK)?;
        let forward = attribute(hook, NFTA_HOOK_HOOKNUM).and_then(number) == Some(HOOK_FORWARD);
        let table = attribute(chain, NFTA_CHAIN_TABLE).map(text_of)?;
        let policy = attribute(chain, NFTA_CHAIN_POLICY).and_then(number);
        (forward && !(family == "inet" && table == TABLE)).then_some(Barrier {
            family,
            table,
            chain: attribute(chain, NFTA_CHAIN_NAME).map(text_of)?,
            drops: policy == Some(POLICY_DROP),
        })
    };
    chains.iter().filter_map(read).collect()
}

/// A table whose chains and sets are read when they are needed.
struct Table<'a> {
    socket: &'a mut Socket,
    proto: u8,
    name: Vec<u8>,
    chains: BTreeMap<String, Rc<Vec<Vec<u8>>>>,
    shapes: BTreeMap<String, Option<Shape>>,
    sets: BTreeMap<String, Rc<Set>>,
}

impl Table<'_> {
    /// The payload that asks for a set by its name.
    fn named(&self, set: &str) -> Vec<u8> {
        payload(
            self.proto,
            &[(NFTA_SET_TABLE, &self.name), (NFTA_SET_NAME, &text(set))],
        )
    }
}

impl Names for Table<'_> {
    fn rules(&mut self, chain: &str) -> io::Result<Rc<Vec<Vec<u8>>>> {
        if let Some(rules) = self.chains.get(chain) {
            return Ok(rules.clone());
        }
        let query = payload(
            self.proto,
            &[
                (NFTA_RULE_TABLE, &self.name),
                (NFTA_RULE_CHAIN, &text(chain)),
            ],
        );
        let found = self.socket.ask(GETRULE, query, "list rules of nftables")?;
        // Older kernels list the rules of the whole table.
        let rule = |rule: &Message| {
            let rule = rule.payload.get(4..)?;
            let own = attribute(rule, NFTA_RULE_CHAIN).map(text_of)? == chain;
            own.then(|| {
                attribute(rule, NFTA_RULE_EXPRESSIONS)
                    .unwrap_or_default()
                    .to_vec()
            })
        };
        let rules: Rc<Vec<Vec<u8>>> = Rc::new(found.iter().filter_map(rule).collect());
        self.chains.insert(chain.to_owned(), rules.clone());
        Ok(rules)
    }

    fn shape(&mut self, set: &str) -> Option<Shape> {
        if let Some(shape) = self.shapes.get(set) {
            return *shape;
        }
        let request = Request {
            kind: message_type(GETSET),
            flags: 0,
            payload: self.named(set),
        };
        let answer = self.socket.transport.query(&request);
        let shape = answer.ok().and_then(Result::ok).flatten().and_then(|set| {
            let set = set.payload.get(4..)?;
            let word = |kind| attribute(set, kind).and_then(number);
            Some(Shape {
                key: word(NFTA_SET_KEY_LEN)?.try_into().ok()?,
                constant: word(NFTA_SET_FLAGS).unwrap_or(0) & NFT_SET_CONSTANT != 0,
            })
        });
        self.shapes.insert(set.to_owned(), shape);
        shape
    }

    fn set(&mut self, name: &str) -> Rc<Set> {
        if let Some(set) = self.sets.get(name) {
            return set.clone();
        }
        let query = self.named(name);
        let found = self.socket.ask(GETSETELEM, query, "list a set of nftables");
        let set = found.map_or_else(|_| Set::unread(), |parts| elements(&parts));
        let set = Rc::new(set);
        self.sets.insert(name.to_owned(), set.clone());
        set
    }
}

/// The set whose elements these messages have.
fn elements(parts: &[Message]) -> Set {
    let mut set = Set::default();
    for part in parts {
        let lists = Attributes(part.payload.get(4..).unwrap_or_default());
        for (_, list) in lists.filter(|(kind, _)| *kind == NFTA_ELEMENTS) {
            Attributes(list).for_each(|(_, element)| set.add(element));
        }
    }
    set
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}
