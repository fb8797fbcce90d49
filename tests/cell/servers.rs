//! Real servers in cells.

use crate::node::sh;

mod ended;
mod refused;
mod serving;
mod waiting;

/// A directory that cells see too, for the administrator's own settings of their servers.
fn own_settings() -> &'static str {
    sh("mount -t tmpfs none /opt && mkdir /opt/own");
    "/opt/own"
}
