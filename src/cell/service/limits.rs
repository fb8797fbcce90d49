//! How many connections a virtual server takes.

use serde::{Deserialize, Serialize};

use crate::spec::vserver::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CLIENT};

/// How many connections a virtual server takes at once, for each of its protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From all clients together.
    pub(crate) connections: u32,
    /// From one address, or of IPv6 from one network of 64 bits, which a single host may have all of.
    pub(crate) per_client: u32,
}

impl Limits {
    /// How many more than [`Limits::connections`] the servers themselves take. Those from within the cell are not
    /// counted by what keeps the clients' number: by them berth asks whether a server serves, and a full one
    /// must not be taken for a dead one. Samba counts helpers of its own, too.
    const RESERVE: u32 = 100;

    /// How many connections a server itself is to take.
    pub(crate) fn of_server(self) -> u32 {
        self.connections.saturating_add(Self::RESERVE)
    }

    /// Whether it is what a message that says nothing of it means.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS.content.default,
            per_client: MAX_CONNECTIONS_PER_CLIENT.content.default,
        }
    }
}
