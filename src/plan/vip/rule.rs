//! Policy rules: which table is looked up for whose packets, and whose packets are not forwarded at all.

use std::fmt;
use std::net::IpAddr;

use super::{FROM_RULE, HOST_RULE, LOCAL_TABLE, SHUT_RULE};
use crate::types::name::LOOPBACK;
use crate::types::{Family, IfName};

/// Which packets a rule is for, by the interface that they come in by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Incoming {
    /// Packets from any interface.
    Any,
    /// Those that come in by this interface.
    By(IfName),
    /// All but those that the node sends itself.
    Forwarded,
}

/// What a rule does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    /// Looks up this table.
    Lookup(u32),
    /// Drops them without a notice to the sender, like a node that forwards nothing.
    Blackhole,
    /// Continues with the rule of this preference.
    Goto(u32),
    /// Nothing: the rule is the target of a [`Self::Goto`].
    Nothing,
}

/// A rule of berth's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rule {
    /// The family it is for.
    pub family: Family,
    /// Its preference.
    pub preference: u32,
    /// Only packets from this address.
    pub from: Option<IpAddr>,
    /// Only packets that come in so.
    pub incoming: Incoming,
    /// What it does with them.
    pub action: Action,
}

impl Rule {
    /// The rule of this preference that has `table` looked up for all packets.
    pub(crate) const fn lookup(family: Family, preference: u32, table: u32) -> Self {
        Self {
            family,
            preference,
            from: None,
            incoming: Incoming::Any,
            action: Action::Lookup(table),
        }
    }

    /// The rule that drops forwarded packets that come in like this, unless an earlier rule has led them out.
    pub(crate) const fn shut(family: Family, incoming: Incoming) -> Self {
        Self {
            family,
            preference: SHUT_RULE,
            from: None,
            incoming,
            action: Action::Blackhole,
        }
    }

    /// The rule by which packets that come in like this still reach the node itself.
    pub(crate) const fn host(family: Family, incoming: Incoming) -> Self {
        Self {
            family,
            preference: HOST_RULE,
            from: None,
            incoming,
            action: Action::Lookup(LOCAL_TABLE),
        }
    }

    /// Whether the rule leads a VIP's packets to its way out. The rule for reverse path filters does not.
    pub(crate) fn is_way(&self) -> bool {
        let asked = matches!(&self.incoming, Incoming::By(link) if *link == LOOPBACK);
        self.preference == FROM_RULE && !asked
    }

    /// The table that the rule looks up, if it does.
    pub(crate) const fn table(&self) -> Option<u32> {
        match self.action {
            Action::Lookup(table) => Some(table),
            Action::Blackhole | Action::Goto(_) | Action::Nothing => None,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}", self.preference)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        match &self.incoming {
            Incoming::Any => {}
            Incoming::By(link) => write!(f, " iif {link}")?,
            Incoming::Forwarded => f.write_str(" not iif lo")?,
        }
        match self.action {
            Action::Lookup(table) => write!(f, " lookup {table}"),
            Action::Blackhole => f.write_str(" blackhole"),
            Action::Goto(preference) => write!(f, " goto {preference}"),
            Action::Nothing => f.write_str(" nop"),
        }
    }
}
