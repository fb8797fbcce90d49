//! What draws resources to nodes and keeps them there, in points, and how much that can come to.
//!
//! The values are those of a configuration that was tried case by case: change one only together with the
//! simulation that shows why.

use super::file::{Filesystem, OnSubnetLoss, Vip, Vserver};

/// A node without a good port, or without home's storage, is worse than any with it, but it is not
/// forbidden: if every node is so, nothing stops. Two of these and all the small ones stay below [`LIMIT`].
pub(crate) const VITAL: u32 = 400_000;
/// What a data file system's storage or a migrating address's subnet adds.
pub(crate) const USEFUL: u32 = 1_000;
/// What draws an address to a node that has its subnet; more than the pull of its virtual server.
pub(crate) const SUBNET: u32 = 10_000;
/// What keeps a virtual server where it is.
pub(crate) const SERVER_STICKINESS: u32 = 100;
/// The pull of a virtual server on its addresses. A failed address pushes its server away by as much,
/// so it is no more than the server's stickiness.
pub(crate) const PULL: u32 = SERVER_STICKINESS;
/// What keeps a file system where it is, beside its server's.
pub(crate) const FILESYSTEM_STICKINESS: u32 = 1;
/// What makes a node that is known to have the subnet a better router than one of which nothing is
/// known: more than the stickiness, so that such a one is left for it. With all the room it is less than
/// the pull home, where nothing may be known either.
pub(crate) const KNOWN: u32 = 55;
/// What keeps a rerouted address on its router: more than the room of two nodes can differ by
/// ([`Attribute::Spare`](crate::plan::attribute::Attribute::Spare)), and with that still less than the pull home.
pub(crate) const ROUTER_STICKINESS: u32 = 50;
/// The most that a placement says of a node.
const PULSE: u32 = 200;

/// From this sum on Pacemaker saturates, and preferences are lost.
pub(crate) const LIMIT: u64 = 1_000_000;

/// The most that the rules and stickinesses of a virtual server can add up to on one node.
pub(crate) fn sum(vserver: &Vserver) -> u64 {
    let unit = |f: &Filesystem| f.unit.as_ref().map(|u| u.value.clone());
    let home = vserver.home().and_then(unit);
    let elsewhere = |f: &&Filesystem| unit(f).is_some() && unit(f) != home;
    let migrate = |v: &&Vip| v.on_subnet_loss == OnSubnetLoss::Migrate;
    let preferences = [
        // Its ports, and home's storage.
        (2, VITAL),
        (1, PULSE),
        (1, SERVER_STICKINESS),
        (vserver.filesystems.len(), FILESYSTEM_STICKINESS),
        (vserver.filesystems.iter().filter(elsewhere).count(), USEFUL),
        (vserver.vips.iter().filter(migrate).count(), USEFUL),
    ];
    let points = preferences.map(|(times, score)| times as u64 * u64::from(score));
    points.iter().sum()
}
