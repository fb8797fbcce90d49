//! Policy rules: which routing table is looked up for which packets, and what is not routed at all.

use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use nix::errno::Errno;

use super::{Applied, NLM_F_CREATE, NLM_F_EXCL, Socket, decode};
use crate::types::name::LOOPBACK;
use crate::types::{Family, IfName};

/// Which packets a rule is for, by the interface that they come in by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Incoming {
    /// Packets from any interface.
    Any,
    /// Those that come in by the interface of this name, which need not exist (`FRA_IIFNAME`).
    By(IfName),
    /// All but those that this node sends itself (`not iif lo`).
    Forwarded,
}

/// The table number of a rule that looks up the table of the packet's VRF (`FRA_L3MDEV`): `RT_TABLE_UNSPEC`, which no
/// other rule has.
pub const OF_VRF: u32 = 0;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Looks up this table; [`OF_VRF`] is that of the packet's VRF.
    Lookup(u32),
    /// Drops the packet without a notice to the sender.
    Blackhole,
    /// Continues with the rule of this preference, which must be a later one.
    Goto(u32),
    /// Nothing: the rule is the target of a [`Self::Goto`].
    Nothing,
}

/// A policy rule (ip-rule(8), linux/fib_rules.h).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The family it is for.
    pub family: Family,
    /// Its preference: rules with lower ones come first.
    pub preference: u32,
    /// Only packets from this address.
    pub from: Option<IpAddr>,
    /// Only packets that come in like this.
    pub incoming: Incoming,
    /// What it does with them.
    pub action: Action,
    /// The number of its maker: `FRA_PROTOCOL`.
    pub protocol: u8,
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::By(link) => write!(f, " iif {link}"),
            Self::Forwarded => f.write_str(" not iif lo"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(table) => write!(f, " lookup {table}"),
            Self::Blackhole => f.write_str(" blackhole"),
            Self::Goto(preference) => write!(f, " goto {preference}"),
            Self::Nothing => f.write_str(" nop"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.family, self.preference)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        write!(f, "{}{}", self.incoming, self.action)
    }
}

impl Socket {
    /// The rules of `family` that [`Rule`] can express; those with any other selector are left out.
    ///
    /// # Errors
    /// If the kernel can't be asked or isn't understood.
    pub fn rules(&mut self, family: Family) -> io::Result<Vec<Rule>> {
        let mut query = RuleMessage::default();
        query.header.family = family.into();
        let content = RouteNetlinkMessage::GetRule(query);
        self.dump(content, format_args!("list {family} rules"))?
            .iter()
            .map(|m| Ok(read(family, decode(m)?)))
            .filter_map(Result::transpose)
            .collect()
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// If the kernel refuses. That it is there is [`Applied::Already`].
    pub fn add_rule(&mut self, rule: &Rule) -> io::Result<Applied> {
        self.apply(
            RouteNetlinkMessage::NewRule(write(rule)),
            NLM_F_CREATE | NLM_F_EXCL,
            &[Errno::EEXIST],
            format_args!("add {rule}"),
        )
    }

    /// Deletes a rule.
    ///
    /// # Errors
    /// If the kernel refuses. That it is not there is [`Applied::Already`].
    pub fn delete_rule(&mut self, rule: &Rule) -> io::Result<Applied> {
        self.delete(
            RouteNetlinkMessage::DelRule(write(rule)),
            &[Errno::ENOENT],
            format_args!("delete {rule}"),
        )
    }
}

const fn full_length(ip: &IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn write(rule: &Rule) -> RuleMessage {
    let mut content = RuleMessage::default();
    let header = &mut content.header;
    header.family = rule.family.into();
    header.src_len = rule.from.as_ref().map_or(0, full_length);
    let mut attributes = vec![
        RuleAttribute::Priority(rule.preference),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    header.action = match rule.action {
        Action::Lookup(table) => {
            header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
            attributes.push(RuleAttribute::Table(table));
            RuleAction::ToTable
        }
        Action::Blackhole => RuleAction::Blackhole,
        Action::Goto(preference) => {
            attributes.push(RuleAttribute::Goto(preference));
            RuleAction::Goto
        }
        Action::Nothing => RuleAction::Nop,
    };
    match &rule.incoming {
        Incoming::Any => {}
        Incoming::By(link) => attributes.push(RuleAttribute::Iifname(link.to_string())),
        Incoming::Forwarded => {
            // The node's own packets come in by it.
            attributes.push(RuleAttribute::Iifname(LOOPBACK.to_owned()));
            header.flags |= RuleFlags::Invert;
        }
    }
    attributes.extend(rule.from.map(RuleAttribute::Source));
    content.attributes = attributes;
    content
}

fn read(family: Family, content: RouteNetlinkMessage) -> Option<Rule> {
    let RouteNetlinkMessage::NewRule(content) = content else {
        return None;
    };
    let header = content.header;
    let mut rule = Rule {
        family,
        preference: 0,
        from: None,
        incoming: Incoming::Any,
        action: Action::Nothing,
        protocol: 0,
    };
    let (mut table, mut target) = (u32::from(header.table), None);
    for attribute in content.attributes {
        match attribute {
            RuleAttribute::Priority(number) => rule.preference = number,
            RuleAttribute::Table(number) => table = number,
            RuleAttribute::Goto(preference) => target = Some(preference),
            RuleAttribute::Protocol(by) => rule.protocol = by.into(),
            RuleAttribute::Source(ip) => rule.from = Some(ip),
            RuleAttribute::Iifname(link) => {
                rule.incoming = Incoming::By(IfName::of_kernel(link.as_bytes()))
            }
            RuleAttribute::Destination(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::FwMark(_) => return None,
            _ => {}
        }
    }
    if header.flags.contains(RuleFlags::Invert) {
        match &rule.incoming {
            Incoming::By(link) if link == LOOPBACK && rule.from.is_none() => {
                rule.incoming = Incoming::Forwarded;
            }
            _ => return None,
        }
    }
    rule.action = match header.action {
        RuleAction::ToTable => Action::Lookup(table),
        RuleAction::Blackhole => Action::Blackhole,
        RuleAction::Goto => Action::Goto(target?),
        RuleAction::Nop => Action::Nothing,
        _ => return None,
    };
    let whole = header.src_len == rule.from.as_ref().map_or(0, full_length);
    let right = header.family == family.into();
    (right && whole && header.dst_len == 0).then_some(rule)
}
