//! The rules by which a node routes for VIPs only, whatever becomes of its nftables tables: anybody may flush those,
//! and `systemctl reload nftables` begins with it.
//!
//! They come after all rules that lead VIPs' packets, so no packet of a VIP is compared with them but one that its
//! way out knows no route for.

use super::super::{Action, GO_ON_RULE, Incoming, Object, PASS_RULE, Rule};
use super::{Behind, Builder};
use crate::types::Family;

impl Builder<'_> {
    /// Has nothing forwarded that comes from the cell or in by `ports`, but VIPs' packets. To be made before
    /// anything is forwarded there.
    pub(crate) fn shut<'p>(&mut self, ports: impl Iterator<Item = &'p str>) {
        self.pass();
        let shut: Vec<&str> = ports.filter(|port| !self.is_open(port)).collect();
        // What comes in by a VRF's ports has its own table looked up later, and may be for the node itself.
        let as_a_whole = self.is_all_or_none() && !self.seen.has_vrfs;
        let mut incoming: Vec<Incoming> = match as_a_whole && !shut.is_empty() {
            true => vec![Incoming::Forwarded],
            false => Vec::new(),
        };
        incoming.extend(shut.into_iter().map(|port| Incoming::By(port.to_owned())));
        for incoming in &incoming {
            let host = Rule::host(self.family, incoming.clone());
            self.add(Object::Rule(host), false);
        }
        if let Behind::Cell(veth) = &self.request.behind {
            incoming.push(Incoming::By(veth.clone()));
        }
        for incoming in incoming {
            // What runs was made without it by another version, and is served all the same.
            self.add(Object::Rule(Rule::shut(self.family, incoming)), false);
        }
    }

    /// Where a VIP's own packets come in: from its cell. Those of another node's may come in by any port of the
    /// subnet between the two.
    pub(crate) fn sender(&self) -> Incoming {
        match &self.request.behind {
            Behind::Cell(veth) => Incoming::By(veth.clone()),
            Behind::Node(_) => Incoming::Any,
        }
    }

    /// A VIP without a gateway reaches other subnets by the node's own tables: it gets past the rules that drop
    /// the rest.
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
        // Nothing is dropped on a node that another version has brought into service.
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
