//! Converts the plan's types to those of netlink and nftables, and back.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::plan::vip::{Action, Element, Incoming, Object, PROTOCOL, Rule};
use crate::sys::netlink::{self, Address, RouteFilter, Scope};
use crate::sys::nft;

pub(crate) fn filter((table, protocol): (Option<u32>, u8)) -> RouteFilter {
    RouteFilter {
        table,
        protocol: Some(protocol),
    }
}

/// An address that berth adds to a link.
pub(crate) fn own(link: u32, ip: IpAddr, scope: Scope) -> Address {
    Address {
        link,
        address: IpNetwork::from(ip),
        scope,
        protocol: PROTOCOL,
        unusable: false,
    }
}

pub(crate) fn rule_of(rule: &Rule) -> netlink::Rule {
    netlink::Rule {
        family: rule.family,
        preference: rule.preference,
        from: rule.from,
        incoming: match &rule.incoming {
            Incoming::Any => netlink::Incoming::Any,
            Incoming::By(link) => netlink::Incoming::By(link.clone()),
            Incoming::Forwarded => netlink::Incoming::Forwarded,
        },
        action: match rule.action {
            Action::Lookup(table) => netlink::Action::Lookup(table),
            Action::Blackhole => netlink::Action::Blackhole,
            Action::Goto(preference) => netlink::Action::Goto(preference),
            Action::Nothing => netlink::Action::Nothing,
        },
        protocol: PROTOCOL,
    }
}

pub(crate) fn rule_from(rule: netlink::Rule) -> Rule {
    Rule {
        family: rule.family,
        preference: rule.preference,
        from: rule.from,
        incoming: match rule.incoming {
            netlink::Incoming::Any => Incoming::Any,
            netlink::Incoming::By(link) => Incoming::By(link),
            netlink::Incoming::Forwarded => Incoming::Forwarded,
        },
        action: match rule.action {
            netlink::Action::Lookup(table) => Action::Lookup(table),
            netlink::Action::Blackhole => Action::Blackhole,
            netlink::Action::Goto(preference) => Action::Goto(preference),
            netlink::Action::Nothing => Action::Nothing,
        },
    }
}

pub(crate) fn element_of(element: &Element) -> nft::Element {
    match element.clone() {
        Element::Port(port) => nft::Element::Port(port),
        Element::ClosedPort(family, port) => nft::Element::ClosedPort(family, port),
        Element::Cell(link) => nft::Element::Cell(link),
        Element::Host(ip) => nft::Element::Host(ip),
        Element::Vip(vip) => nft::Element::Vip(vip),
        Element::CellSource(link, vip) => nft::Element::CellSource(link, vip),
        Element::VipTarget(vip, link) => nft::Element::VipTarget(vip, link),
        Element::NotFrom(port, vip) => nft::Element::NotFrom(port, vip),
        Element::RemoteSource(port, vip, mac) => nft::Element::RemoteSource(port, vip, mac),
        Element::Source { port, subnet, vip } => nft::Element::Source { port, subnet, vip },
    }
}

pub(crate) fn object_of(element: nft::Element) -> Object {
    Object::Element(match element {
        nft::Element::Port(port) => Element::Port(port),
        nft::Element::ClosedPort(family, port) => Element::ClosedPort(family, port),
        nft::Element::Cell(link) => Element::Cell(link),
        nft::Element::Host(ip) => Element::Host(ip),
        nft::Element::Vip(vip) => Element::Vip(vip),
        nft::Element::CellSource(link, vip) => Element::CellSource(link, vip),
        nft::Element::VipTarget(vip, link) => Element::VipTarget(vip, link),
        nft::Element::NotFrom(port, vip) => Element::NotFrom(port, vip),
        nft::Element::RemoteSource(port, vip, mac) => Element::RemoteSource(port, vip, mac),
        nft::Element::Source { port, subnet, vip } => Element::Source { port, subnet, vip },
    })
}
