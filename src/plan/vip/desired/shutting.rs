//! The policy rules by which a node routes for VIPs only, even without its nftables tables: an administrator may flush
//! those, and `systemctl reload nftables` does.
//!
//! They come after all rules that lead VIPs' packets out, so a packet of a VIP reaches them only if its way out has no
//! route for it.

use super::super::{Action, GO_ON_RULE, Incoming, Object, PASS_RULE, Rule};
use super::{Behind, Builder};
use crate::types::{Family, IfName};

impl Builder<'_> {
    /// Adds rules that drop forwarded packets from the cell and from `ports`, but for VIPs' packets. They are made
    /// before forwarding is switched on there.
    pub(crate) fn shut<'p>(&mut self, ports: impl Iterator<Item = &'p IfName>) {
        self.pass();
        let shut: Vec<&IfName> = ports.filter(|port| !self.is_open(port)).collect();
        // Packets from a VRF's ports are looked up in its own table later, and may be for the node itself.
        let as_a_whole = self.is_all_or_none() && !self.seen.has_vrfs;
        let mut incoming: Vec<Incoming> = match as_a_whole && !shut.is_empty() {
            true => vec![Incoming::Forwarded],
            false => Vec::new(),
        };
        incoming.extend(shut.into_iter().map(|port| Incoming::By(port.clone())));
        for incoming in &incoming {
            let host = Rule::host(self.family, incoming.clone());
            self.add(Object::Rule(host), false);
        }
        if let Behind::Cell(veth) = &self.request.behind {
            incoming.push(Incoming::By(veth.clone()));
        }
        for incoming in incoming {
            // Not essential: a VIP that another version has started is served without the rule.
            self.add(Object::Rule(Rule::shut(self.family, incoming)), false);
        }
    }

    /// Where the VIP's own packets come in: from its cell, or, if another node has the cell, by any port of the subnet
    /// between the two.
    pub(crate) fn sender(&self) -> Incoming {
        match &self.request.behind {
            Behind::Cell(veth) => Incoming::By(veth.clone()),
            Behind::Node(_) => Incoming::Any,
        }
    }

    /// Adds the rules that lead the packets of a VIP without a gateway past those that drop: it reaches other subnets
    /// by the node's own tables.
    fn pass(&mut self) {
        if self
            .egresses
            .first()
            .is_some_and(|egress| egress.gateway.is_some())
        {
            return;
        }
        let target = Rule {
            family: self.family,
            preference: GO_ON_RULE,
            from: None,
            incoming: Incoming::Any,
            action: Action::Nothing,
        };
        let pass = Rule {
            preference: PASS_RULE,
            from: Some(self.request.vip),
            incoming: self.sender(),
            action: Action::Goto(GO_ON_RULE),
            ..target.clone()
        };
        // Essential only if there are rules that drop: another version may have started VIPs without any.
        let drops = self
            .seen
            .rules()
            .any(|rule| (rule.family, rule.action) == (self.family, Action::Blackhole));
        for rule in [target, pass] {
            self.add(Object::Rule(rule), drops);
        }
    }

    /// Whether `port` forwarded packets of the family before berth came.
    pub(crate) fn is_open(&self, port: &str) -> bool {
        let on = |key: &str| self.seen.originally(key).is_some_and(|v| v != 0);
        match self.family {
            Family::V4 => on(&format!("ipv4/conf/{port}/forwarding")),
            Family::V6 => {
                on("ipv6/conf/all/forwarding") || on(&format!("ipv6/conf/{port}/force_forwarding"))
            }
        }
    }

    /// Whether this kernel forwards the family on all interfaces or on none (IPv6, before 6.17).
    fn is_all_or_none(&self) -> bool {
        let own = |key: &String| key.ends_with("/force_forwarding");
        self.family == Family::V6 && !self.seen.settings.keys().any(own)
    }
}
