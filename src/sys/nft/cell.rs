//! The filter of one cell: an nftables table of its own, which nobody but the process that made it can change, and
//! which goes when that process ends.
//!
//! Table `berth` belongs to all VIPs of the node, and an administrator may flush it. Without this table a cell could
//! then reach the node's own ports until table `berth` is made again, and always while the cell has no VIP. A table
//! with the kernel's flag `owner` (since 5.12) belongs to the netlink socket that made it: `nft flush ruleset` leaves
//! it alone.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::Socket;
use super::elements::{
    NFPROTO_INET, NLA_F_NESTED, NLM_F_CREATE, attribute, message_type, payload, text,
};
use super::expression::{Compare, Expressions, Verdict};
use super::protocol::{
    DELTABLE, NEWCHAIN, NEWRULE, NEWTABLE, NFPROTO_IPV4, NFPROTO_IPV6, NFTA_CHAIN_HOOK,
    NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_HOOK_HOOKNUM,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME,
};
use crate::sys::netlink::transport::{Refusal, Request};

/// The prefix of the names of cells' tables.
pub(crate) const CELL_TABLES: &str = "berth-cell-";

const TABLE_OWNED: u32 = 2;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
const NLM_F_APPEND: u16 = libc::NLM_F_APPEND as u16;
const HOOK_INPUT: u32 = libc::NF_INET_LOCAL_IN as u32;
/// The chain's priority: before the chains of firewalls, which mostly have 0, so that they need not count or log what
/// is dropped here.
const PRIORITY: i32 = -10;
const POLICY_ACCEPT: u32 = libc::NF_ACCEPT as u32;
const CHAIN: &str = "input";

const TCP: u8 = libc::IPPROTO_TCP as u8;
const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
/// The offset of the flags in a TCP header (RFC 9293), and two of the flags.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Echo replies, destination unreachable, time exceeded, parameter problem (RFC 792).
const ICMP_ANSWERS: [u8; 4] = [0, 3, 11, 12];
/// The same, and packet too big (RFC 4443).
const ICMPV6_ANSWERS: [u8; 5] = [129, 1, 2, 3, 4];

/// The filter on what a cell may send to the node itself: only answers, and only from addresses that are reached by the
/// cell's interface. It is in force as long as this value lives, and is made before the interface.
pub struct CellFilter {
    socket: Socket,
    table: String,
    owned: bool,
}

impl CellFilter {
    /// Makes the filter for the cell of `vserver` behind the host end `link` of its veth, in the calling thread's
    /// network namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(vserver: &str, link: &str) -> io::Result<Self> {
        let mut filter = Self {
            socket: Socket::new()?,
            table: format!("{CELL_TABLES}{vserver}"),
            owned: true,
        };
        // The kernel may be older than the flag `owner`, or can't look up routes in this chain.
        for (owned, forged) in [(true, true), (true, false), (false, true), (false, false)] {
            filter.owned = owned;
            match filter.make_anew(link, forged)? {
                Ok(()) => return Ok(filter),
                Err(no)
                    if [Errno::EOPNOTSUPP, Errno::EINVAL, Errno::ENOENT].contains(&no.errno)
                        && (owned || forged) => {}
                Err(no) => return Err(no.of(filter.what("create"))),
            }
        }
        Err(io::Error::other(filter.what("create")))
    }

    /// Whether the table has the flag `owner`: nobody else can change it.
    pub fn is_owned(&self) -> bool {
        self.owned
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} nftables table {}", self.table)
    }

    fn delete(&mut self) -> io::Result<Result<(), Refusal>> {
        let request = Request {
            kind: message_type(DELTABLE),
            flags: 0,
            payload: payload(NFPROTO_INET, &[(NFTA_TABLE_NAME, &text(&self.table))]),
        };
        let done = self.socket.transaction(&[request])?;
        Ok(done.map_err(|(_, no)| no))
    }

    /// Makes the table, and replaces one that an earlier keeper has left. That one is deleted only if making fails: to
    /// delete a table that is not there costs the kernel 10 ms.
    fn make_anew(&mut self, link: &str, forged: bool) -> io::Result<Result<(), Refusal>> {
        match self.make(link, forged)? {
            // A table without an owner outlives the process that made it.
            Err(no) if no.errno == Errno::EEXIST => match self.delete()? {
                Err(no) if no.errno != Errno::ENOENT => return Err(no.of(self.what("delete"))),
                _ => {}
            },
            // The table's owner is another process: an earlier keeper that the kernel still clears away.
            Err(no) if no.errno == Errno::EPERM => {
                self.table = format!("{}-{}", self.table, std::process::id());
            }
            made => return Ok(made),
        }
        self.make(link, forged)
    }

    fn make(&mut self, link: &str, forged: bool) -> io::Result<Result<(), Refusal>> {
        let table = text(&self.table);
        let flags = if self.owned { TABLE_OWNED } else { 0 };
        let hook = [
            attribute(NFTA_HOOK_HOOKNUM, &HOOK_INPUT.to_be_bytes()),
            attribute(NFTA_HOOK_PRIORITY, &PRIORITY.to_be_bytes()),
        ]
        .concat();
        let request = |verb, flags, attributes: &[(u16, &[u8])]| Request {
            kind: message_type(verb),
            flags: NLM_F_CREATE | flags,
            payload: payload(NFPROTO_INET, attributes),
        };
        let mut requests = vec![
            request(
                NEWTABLE,
                NLM_F_EXCL,
                &[
                    (NFTA_TABLE_NAME, &table),
                    (NFTA_TABLE_FLAGS, &u32::to_be_bytes(flags)),
                ],
            ),
            request(
                NEWCHAIN,
                NLM_F_EXCL,
                &[
                    (NFTA_CHAIN_TABLE, &table),
                    (NFTA_CHAIN_NAME, &text(CHAIN)),
                    (NFTA_CHAIN_HOOK | NLA_F_NESTED, &hook),
                    (NFTA_CHAIN_POLICY, &POLICY_ACCEPT.to_be_bytes()),
                    (NFTA_CHAIN_TYPE, &text("filter")),
                ],
            ),
        ];
        requests.extend(rules(link, forged).iter().map(|rule| {
            let attributes: [(u16, &[u8]); 3] = [
                (NFTA_RULE_TABLE, &table),
                (NFTA_RULE_CHAIN, &text(CHAIN)),
                (NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, rule.bytes()),
            ];
            request(NEWRULE, NLM_F_APPEND, &attributes)
        }));
        let made = self.socket.transaction(&requests)?;
        Ok(made.map_err(|(_, no)| no))
    }
}

impl fmt::Debug for CellFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nftables table {}", self.table)
    }
}

impl Drop for CellFilter {
    fn drop(&mut self) {
        if !self.owned {
            // If the table stays, it applies to nothing without its cell.
            let _ = self.delete();
        }
    }
}

/// The rules that chain `input` of table `berth` has for all cells; and, if `forged`, one that drops packets from an
/// address that is none of the cell's VIPs: only these have routes by its interface.
fn rules(link: &str, forged: bool) -> Vec<Expressions> {
    let rule = Expressions::default;
    let accept = |rule: Expressions| rule.verdict(Verdict::Accept);
    let drop = |rule: Expressions| rule.verdict(Verdict::Drop);
    let mut rules = vec![accept(rule().incoming(Compare::IsNot, link))];
    if forged {
        rules.push(drop(rule().forged()));
    }
    let opens = |rule: Expressions| rule.byte(TCP_FLAGS, SYN | ACK, Compare::IsNot, SYN);
    rules.push(accept(opens(rule().protocol(TCP))));
    for (family, protocol, answers) in [
        (NFPROTO_IPV4, ICMP, &ICMP_ANSWERS[..]),
        (NFPROTO_IPV6, ICMPV6, &ICMPV6_ANSWERS),
    ] {
        rules.extend(answers.iter().map(|answer| {
            let rule = rule().family(family).protocol(protocol);
            accept(rule.byte(0, u8::MAX, Compare::Is, *answer))
        }));
    }
    rules.push(drop(rule()));
    rules
}
