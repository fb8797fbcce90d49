//! The way out of a node: the routes and rules by which the packets of a VIP's cell leave, and what makes the port
//! answer.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::super::egress::Egress;
use super::super::{
    Action, BACKUP_METRIC, Element, FIRST_METRIC, FROM_RULE, Incoming, LAST_RULE, LAST_TABLE,
    Object, Route, RouteTarget, Rule, UNREACHABLE_METRIC, WAY_TABLES, anywhere,
};
use super::{Builder, described, number};
use crate::types::IfName;

impl Builder<'_> {
    fn route(
        &mut self,
        table: u32,
        (to, out): (IpNetwork, RouteTarget),
        metric: u32,
        essential: bool,
    ) {
        let route = Route {
            table,
            to,
            metric,
            out,
            announced: false,
        };
        self.add(Object::Route(route), essential);
    }

    /// Adds the way out, and the proxy entry that makes the port answer.
    pub(crate) fn outward(&mut self) {
        let vip = self.request.vip;
        let egresses = self.egresses.clone();
        let chosen = egresses[0];
        let table = self.way(&egresses);
        for (n, egress) in egresses
            .iter()
            .enumerate()
            .filter(|(_, egress)| !egress.detour)
        {
            for (to, out) in self.destinations(egress) {
                let metric = FIRST_METRIC + number(&described(&out), 1 << 28);
                self.route(LAST_TABLE, (to, out), metric, n == 0);
            }
        }
        let rule = Rule::lookup(self.family, LAST_RULE, LAST_TABLE);
        self.require(Object::Rule(rule));
        let rule = Rule {
            family: self.family,
            preference: FROM_RULE,
            from: Some(vip),
            incoming: self.sender(),
            action: Action::Lookup(table),
        };
        let asked = Rule {
            incoming: Incoming::By(IfName::loopback()),
            ..rule.clone()
        };
        let is_general = rule.incoming == Incoming::Any;
        self.require(Object::Rule(rule));
        if !is_general {
            // A firewall's reverse path filter (nft's `fib saddr`, xt_rpfilter) looks up the route to the client as if
            // the node sent from the VIP, which is a look-up for the loopback interface. No forwarded packet comes in
            // by that.
            self.add(Object::Rule(asked), false);
        }
        if chosen.own {
            for (n, egress) in egresses.iter().enumerate() {
                self.source(egress, n == 0);
            }
            self.require(Object::Proxy(chosen.link.name.clone(), vip));
        }
    }

    /// The destinations that a port leads to: its subnet, and what is behind the gateway.
    fn destinations(&self, egress: &Egress<'_>) -> Vec<(IpNetwork, RouteTarget)> {
        let port = &egress.link.name;
        let mut destinations = Vec::new();
        if !egress.detour {
            destinations.push((egress.subnet, RouteTarget::Link(port.clone())));
        }
        destinations.extend(egress.gateway.map(|gateway| {
            let out = RouteTarget::Gateway(port.clone(), gateway);
            (anywhere(self.family), out)
        }));
        destinations
    }

    /// Adds the table of the way out by the first of `egresses`, and returns its number. The others of its subnet are
    /// backups in their order.
    fn way(&mut self, egresses: &[Egress<'_>]) -> u32 {
        let Egress {
            link,
            subnet,
            gateway,
            ..
        } = egresses[0];
        let gateway_or_none = gateway.map_or("None".to_owned(), |ip| format!("Some({ip})"));
        let description = format!("{} {subnet} {gateway_or_none}", link.name);
        let table = WAY_TABLES.start + number(&description, WAY_TABLES.end - WAY_TABLES.start);
        for (n, egress) in (0..).zip(egresses) {
            let metric = match n {
                0 => FIRST_METRIC,
                n => BACKUP_METRIC + n - 1,
            };
            for destination in self.destinations(egress) {
                self.route(table, destination, metric, n == 0);
            }
        }
        if gateway.is_some() {
            let nowhere = (anywhere(self.family), RouteTarget::Unreachable);
            self.route(table, nowhere, UNREACHABLE_METRIC, true);
        }
        table
    }

    /// On a port without an address in the subnet, adds a VIP in whose name the port sends ARP requests: this one,
    /// unless another VIP is that already.
    fn source(&mut self, egress: &Egress<'_>, chosen: bool) {
        let (IpNetwork::V4(subnet), IpAddr::V4(vip)) = (egress.subnet, self.request.vip) else {
            return;
        };
        let port = &egress.link.name;
        if egress
            .link
            .addresses
            .iter()
            .any(|a| egress.subnet.contains(a.ip()))
        {
            return;
        }
        let present = self.seen.objects.iter().find_map(|object| match object {
            Object::Element(Element::Source {
                port: p,
                subnet: s,
                vip,
            }) if p == port && *s == subnet => Some(*vip),
            _ => None,
        });
        let other = present.filter(|p| {
            self.seen
                .objects
                .contains(&Object::Element(Element::Vip((*p).into())))
        });
        self.add(
            Object::Element(Element::Source {
                port: port.clone(),
                subnet,
                vip: other.unwrap_or(vip),
            }),
            chosen,
        );
    }
}
