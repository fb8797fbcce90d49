//! What happens to a keeper: all that its decisions are made from.

use super::terms::{Admission, ClientId, Mounted, MounterId};
use crate::cell::init::protocol;
use crate::cell::protocol::{Cause, Request};
use crate::cell::service::Own;
use crate::cell::state::RepairProgress;
use crate::plan::repair::{Decision, Stage};

/// Something has happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// An agent asks for something.
    Request(ClientId, Box<Request>),
    /// An agent has hung up. What it began goes on without it.
    ClientGone(ClientId),
    /// The node is going down.
    Shutdown,
    /// How the cell's control groups stand. To be told again before
    /// [`Core::reconcile`](super::Core::reconcile) whenever that may have changed.
    Groups {
        /// Whether a cell can be begun.
        made: bool,
        /// Whether the limits that were asked for last are in force, as far as they can be.
        settled: bool,
        /// Why they are not in force, or not all of them.
        missing: Option<String>,
    },
    /// This child that was to mount could not be started.
    NoMounter {
        /// The child.
        mounter: MounterId,
        /// Why not.
        why: String,
    },
    /// A child that mounts has come to this, or to nothing, for this reason. It is still to be waited for: see
    /// [`Event::MounterDead`].
    MountEnded {
        /// The child.
        mounter: MounterId,
        /// What it has come to. A mount that comes along is kept, under its number.
        outcome: Result<Mounted, String>,
    },
    /// A child that mounted is dead.
    MounterDead(MounterId),
    /// No repair could be started of the file system of this resource.
    NoRepair {
        /// The resource.
        resource: String,
        /// Whose fault that is.
        cause: Cause,
        /// Why not.
        why: String,
    },
    /// A repair has begun, or gone on.
    RepairGoesOn {
        /// The resource.
        resource: String,
        /// How far it is.
        progress: RepairProgress,
    },
    /// A repair has ended.
    RepairEnded {
        /// The resource.
        resource: String,
        /// Its last stage.
        stage: Stage,
        /// What to do with the file system, or why the repair broke off and whose fault that is.
        outcome: Result<Decision, (Cause, String)>,
    },
    /// The cell's PID 1 has been started; this is its number on the host.
    CellSpawned(i32),
    /// The cell's PID 1 could not be started.
    NoCell(String),
    /// The cell's network is connected.
    CellConnected,
    /// The cell's network could not be connected.
    NotConnected(String),
    /// The cell's PID 1 has reported something.
    Cell(protocol::Event),
    /// The cell's PID 1 has said what nobody understands.
    CellGarbled(String),
    /// The cell's PID 1 is dead, and everything that it has reported is told.
    CellDead,
    /// PID 1 has not taken the order of this number.
    NotOrdered {
        /// The order.
        number: u64,
        /// Why not.
        why: String,
    },
    /// A change of what the cell's network lets in has come to an end.
    Admitted(Admission),
    /// This is what the admin's own configuration serves.
    Own(Own),
    /// The sentinel is dead, although nobody has dismissed it.
    SentinelDead,
    /// No sentinel could be started.
    NoSentinel(String),
}
