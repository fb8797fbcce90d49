//! How many connections a virtual server takes.

use serde::{Deserialize, Serialize};

/// How many connections a virtual server takes at once, for each of its protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From all clients together.
    pub connections: u32,
    /// From one address, or of IPv6 from one network of 64 bits, which a single host may have all of.
    pub per_client: u32,
}

impl Limits {
    /// The largest number of connections that can be asked for: Ganesha's `RPC_Max_Connections` takes one million.
    pub const MOST: u32 = 100_000;

    /// How many more than [`Limits::connections`] the servers themselves take. Those from within the cell are not
    /// counted by what keeps the clients' number: by them berth asks whether a server serves, and a full one
    /// must not be taken for a dead one. Samba counts helpers of its own, too.
    const RESERVE: u32 = 100;

    /// How many connections a server itself is to take.
    pub fn of_server(self) -> u32 {
        self.connections.saturating_add(Self::RESERVE)
    }

    /// Whether it is what a message that says nothing of it means.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            per_client: 100,
        }
    }
}
