//! A small, honest NFSv4.0 client (RFC 7530): it keeps its file handles and its client identity over
//! a failover, reclaims what it had open, waits through a grace period, and believes nothing that the
//! server has not answered.

mod client;
mod compound;
mod peer;
mod port;
mod probe;
mod rpc;
mod writer;
mod xdr;

use std::fmt;
use std::io;

pub use client::{Client, File};
pub use peer::{Answer, Attempt, Identity, Peer};
pub use port::connect;
pub use probe::{Outage, Probe};
pub use writer::{Ack, Report, Writer, record, verify};

/// Why something could not be done.
#[derive(Debug)]
pub enum Failure {
    /// The server could not be reached or did not answer.
    Connection(io::Error),
    /// The server answered with this error.
    Status(Status),
    /// What the server said makes no sense.
    Garbled(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(e) => write!(f, "no answer: {e}"),
            Self::Status(status) => write!(f, "{status:?}"),
            Self::Garbled(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

/// `nfsstat4`: the errors that mean something to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// NFS4ERR_NOENT
    NoEntry,
    /// NFS4ERR_STALE: the handle is worth nothing any more.
    StaleHandle,
    /// NFS4ERR_DELAY
    Delay,
    /// NFS4ERR_GRACE
    Grace,
    /// NFS4ERR_STALE_CLIENTID, NFS4ERR_EXPIRED: the server has forgotten the client, or given up on
    /// it.
    StaleClient,
    /// NFS4ERR_STALE_STATEID, NFS4ERR_BAD_STATEID
    StaleState,
    /// NFS4ERR_NO_GRACE, NFS4ERR_RECLAIM_BAD: too late to reclaim.
    NoReclaim,
    /// Any other.
    Other(u32),
}

impl From<u32> for Status {
    fn from(code: u32) -> Self {
        match code {
            2 => Self::NoEntry,
            70 => Self::StaleHandle,
            10_008 => Self::Delay,
            10_013 => Self::Grace,
            10_011 | 10_022 => Self::StaleClient,
            10_023 | 10_025 => Self::StaleState,
            10_033 | 10_034 => Self::NoReclaim,
            other => Self::Other(other),
        }
    }
}
