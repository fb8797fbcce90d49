//! Policy rules: which table is asked for whose packets, and whose are not forwarded at all.

use std::fmt;
use std::net::IpAddr;

use super::{FROM_RULE, HOST_RULE, LOCAL_TABLE, SHUT_RULE};
use crate::types::Family;

/// What the node's own packets come in by, as rules have it.
pub(crate) const LOOPBACK: &str = "lo";

/// Which packets a rule is for, by where they come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Incoming {
    /// Wherever.
    Any,
    /// Those that come in by this interface.
    By(String),
    /// All but those that the node sends itself.
    Forwarded,
}

/// What a rule does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Action {
    /// Has this table looked up.
    Lookup(u32),
    /// Drops them, and tells nobody, as a node does that forwards nothing.
    Blackhole,
    /// Goes on with the rule of this preference.
    Goto(u32),
    /// Nothing: it is there to be gone on with.
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

    /// The rule by which nothing is forwarded that comes in so, unless an earlier one has sent it on its way.
    pub(crate) const fn shut(family: Family, incoming: Incoming) -> Self {
        Self {
            family,
            preference: SHUT_RULE,
            from: None,
            incoming,
            action: Action::Blackhole,
        }
    }

    /// The rule by which the node goes on to be reached itself by what comes in so.
    pub(crate) const fn host(family: Family, incoming: Incoming) -> Self {
        Self {
            family,
            preference: HOST_RULE,
            from: None,
            incoming,
            action: Action::Lookup(LOCAL_TABLE),
        }
    }

    /// Whether it leads a VIP's packets to its way out, and is not only asked where they would come from.
    pub(crate) fn is_way(&self) -> bool {
        let asked = matches!(&self.incoming, Incoming::By(link) if link == LOOPBACK);
        self.preference == FROM_RULE && !asked
    }

    /// The table that it has looked up.
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
