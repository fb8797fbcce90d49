//! Policy rules: which routing table is asked, and when.

use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use nix::errno::Errno;

use super::{Applied, Family, NLM_F_CREATE, NLM_F_EXCL, Socket, decode};

/// A rule that has a table looked up, for one source address or for all packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The family it is for.
    pub family: Family,
    /// Its preference: lower ones are asked first.
    pub preference: u32,
    /// Only packets from this address.
    pub from: Option<IpAddr>,
    /// The table looked up.
    pub table: u32,
    /// Who made it: `FRA_PROTOCOL`.
    pub protocol: u8,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}", self.family, self.preference)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}

impl Socket {
    /// The rules of `family` that this type can express and no other selector restricts.
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
    content.header.family = rule.family.into();
    content.header.action = RuleAction::ToTable;
    content.header.table = u8::try_from(rule.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    content.header.src_len = rule.from.as_ref().map_or(0, full_length);
    content.attributes = vec![
        RuleAttribute::Priority(rule.preference),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)),
    ];
    content
        .attributes
        .extend(rule.from.map(RuleAttribute::Source));
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
        table: u32::from(header.table),
        protocol: 0,
    };
    for attribute in content.attributes {
        match attribute {
            RuleAttribute::Priority(number) => rule.preference = number,
            RuleAttribute::Table(number) => rule.table = number,
            RuleAttribute::Protocol(by) => rule.protocol = by.into(),
            RuleAttribute::Source(ip) => rule.from = Some(ip),
            RuleAttribute::Destination(_)
            | RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::FwMark(_) => return None,
            _ => {}
        }
    }
    let whole = header.src_len == rule.from.as_ref().map_or(0, full_length);
    let right = header.family == family.into();
    (right && whole && header.dst_len == 0 && header.action == RuleAction::ToTable).then_some(rule)
}
