//! The plan's steps, carried out.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use super::{Kernel, WHOLE};
use crate::address::settings::stops_ipv6;
use crate::address::terms::{element_of, own, rule_of};
use crate::cell::network::{INSIDE, default_route};
use crate::log;
use crate::plan::vip::{
    ANNOUNCED_PROTOCOL, Element, Object, PLACEHOLDER, PROTOCOL, Route, RouteTarget, Step,
};
use crate::sys::netlink::{self, Applied, Proxy, Scope, Socket, Via};
use crate::types::Family;

impl Kernel {
    /// Carries out `steps` in their order; consecutive steps on nftables sets are one transaction. `failed` gets the
    /// error of each step that fails, and decides whether to go on.
    pub(crate) fn apply(
        &mut self,
        steps: &[Step],
        deadline: Instant,
        mut failed: impl FnMut(io::Error) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut rest = steps;
        while let [first, ..] = rest {
            let elements: Vec<Change<'_>> = rest.iter().map_while(Change::of).collect();
            let (now, later) = rest.split_at(elements.len().max(1));
            let result = match elements.is_empty() {
                true => self.step(first, deadline),
                false => self.change_elements(&elements),
            };
            for step in now {
                log::debug(step);
            }
            result.or_else(&mut failed)?;
            rest = later;
        }
        Ok(())
    }

    fn change_elements(&mut self, changes: &[Change<'_>]) -> io::Result<()> {
        let (mut add, mut delete) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Add(element) => add.push(element_of(element)),
                Change::Remove(element) => delete.push(element_of(element)),
            }
        }
        self.nft.change(&delete, &add)
    }

    fn step(&mut self, step: &Step, deadline: Instant) -> io::Result<()> {
        let done = match step {
            Step::Add(object) => self.add(object, deadline),
            Step::Remove(object) => self.remove(object).map(|_| ()),
            Step::Set(key, value) => self.record.change(key, *value),
            Step::Restore(key) => self.record.restore(key),
        };
        if let Some(e) = self.record.unsaved().filter(|_| !self.forgetful) {
            log::warn(format_args!(
                "{e}: some of the node's settings will not be put back"
            ));
            self.forgetful = true;
        }
        done
    }

    fn add(&mut self, object: &Object, deadline: Instant) -> io::Result<()> {
        match object {
            Object::Tables => self.nft.create(stops_ipv6(&self.record)?, deadline),
            Object::Placeholder(port) => {
                let link = self.link(port)?.index;
                let address = own(link, PLACEHOLDER.into(), Scope::Host);
                self.route.add_address(&address).map(|_| ())
            }
            Object::Address(vip) => {
                let (cell, link) = self.inside()?;
                cell.add_address(&own(link, *vip, Scope::Universe))
                    .map(|_| ())
            }
            Object::CellRoute(family) => {
                let (cell, link) = self.inside()?;
                let ipv6 = *family == Family::V6;
                cell.add_route(&default_route(link, ipv6)).map(|_| ())
            }
            Object::Route(route) => {
                let route = self.route_of(route)?;
                self.route.replace_route(&route)
            }
            Object::Rule(rule) => self.route.add_rule(&rule_of(rule)).map(|_| ()),
            Object::Proxy(port, vip) => {
                let proxy = self.proxy_of(port, *vip)?;
                self.route.add_proxy(&proxy)
            }
            Object::Element(element) => self.change_elements(&[Change::Add(element)]),
        }
    }

    fn remove(&mut self, object: &Object) -> io::Result<Applied> {
        match object {
            Object::Tables => {
                // If the note stays it does no harm: its generation does not come back.
                let _ = fs::remove_file(self.runtime.join(WHOLE));
                self.nft.delete().map(|()| Applied::Changed)
            }
            Object::Placeholder(port) => {
                let link = self.link(port)?.index;
                let address = own(link, PLACEHOLDER.into(), Scope::Host);
                self.route.delete_address(&address)
            }
            Object::Address(vip) => {
                let (cell, link) = self.inside()?;
                cell.delete_address(&own(link, *vip, Scope::Universe))
            }
            Object::Route(route) => {
                let route = self.route_of(route)?;
                self.route.delete_route(&route)
            }
            Object::Rule(rule) => self.route.delete_rule(&rule_of(rule)),
            Object::Proxy(port, vip) => {
                let proxy = self.proxy_of(port, *vip)?;
                self.route.delete_proxy(&proxy)
            }
            Object::CellRoute(family) => {
                let (cell, link) = self.inside()?;
                let ipv6 = *family == Family::V6;
                cell.delete_route(&default_route(link, ipv6))
            }
            Object::Element(element) => self
                .change_elements(&[Change::Remove(element)])
                .map(|()| Applied::Changed),
        }
    }

    /// The socket in the cell's network namespace, and the index of the cell's interface.
    fn inside(&mut self) -> io::Result<(&mut Socket, u32)> {
        let gone = || io::Error::other(format!("there is no interface {INSIDE} in the cell"));
        let cell = self.cell.as_mut().ok_or_else(gone)?;
        let link = cell.link(INSIDE)?.ok_or_else(gone)?;
        Ok((cell, link.index))
    }

    fn route_of(&self, route: &Route) -> io::Result<netlink::Route> {
        let via = match &route.out {
            RouteTarget::Link(link) => Via::Link(self.link(link)?.index),
            RouteTarget::Gateway(link, gateway) => Via::Gateway {
                link: self.link(link)?.index,
                gateway: *gateway,
                // A port without an IPv4 address has no route to the gateway: it is declared reachable on the link.
                onlink: gateway.is_ipv4(),
            },
            RouteTarget::Unreachable => Via::Unreachable,
        };
        Ok(netlink::Route {
            destination: route.to,
            via,
            table: route.table,
            metric: route.metric,
            protocol: match route.announced {
                true => ANNOUNCED_PROTOCOL,
                false => PROTOCOL,
            },
            rto_min: None,
        })
    }

    fn proxy_of(&self, port: &str, vip: IpAddr) -> io::Result<Proxy> {
        Ok(Proxy {
            link: self.link(port)?.index,
            address: vip,
            protocol: PROTOCOL,
        })
    }
}

/// A change to an nftables set.
enum Change<'a> {
    Add(&'a Element),
    Remove(&'a Element),
}

impl<'a> Change<'a> {
    /// The step as a change to a set, if it is one.
    const fn of(step: &'a Step) -> Option<Self> {
        match step {
            Step::Add(Object::Element(element)) => Some(Self::Add(element)),
            Step::Remove(Object::Element(element)) => Some(Self::Remove(element)),
            Step::Add(_) | Step::Remove(_) | Step::Set(..) | Step::Restore(_) => None,
        }
    }
}
