//! VIPs in namespaces of their own: a node, its clients, cells; checked with other programs' eyes.

use crate::network::{Cell, Network, call, serve};

mod claims;
mod firewall;
mod lifecycle;
mod ports;
mod record;
mod traffic;

const VIPS: [&str; 2] = ["10.1.0.50", "2001:db8:1::50"];

/// No difference.
const NONE: (Vec<String>, Vec<String>) = (vec![], vec![]);

/// A server in the cell is reached at `vip` by the client of subnet A.
#[track_caller]
fn assert_served(net: &Network, cell: &Cell, vip: &str) {
    serve(&cell.namespace, vip, 2049, &cell.vserver, 1);
    assert_eq!(
        call(&net.client_a, vip, 2049).as_deref(),
        Some(cell.vserver.as_str()),
        "{vip}"
    );
}
