//! The events from which the core of a keeper decides.

use super::terms::{Admission, ClientId, Mounted, MounterId};
use crate::cell::init::protocol;
use crate::cell::protocol::{Cause, Request};
use crate::cell::service::Own;
use crate::cell::state::RepairProgress;
use crate::plan::repair::{Decision, Stage};
use crate::types::ResourceId;

/// Something has happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// An agent asks for something.
    Request(ClientId, Box<Request>),
    /// An agent has hung up. What it has asked for goes on.
    ClientGone(ClientId),
    /// The node is going down.
    Shutdown,
    /// The state of the cell's control groups. To be passed again before [`Core::reconcile`](super::Core::reconcile)
    /// whenever it may have changed.
    Groups {
        /// Whether a cell can be started.
        made: bool,
        /// Whether the limits that were last asked for are in force, as far as they can be.
        settled: bool,
        /// Why the limits are not in force, or not all of them.
        missing: Option<String>,
    },
    /// This child that was to mount could not be started.
    NoMounter {
        /// The child.
        mounter: MounterId,
        /// Why not.
        why: String,
    },
    /// A child that mounts has a result, or has failed for this reason. The child may still hold its device until
    /// [`Event::MounterDead`].
    MountEnded {
        /// The child.
        mounter: MounterId,
        /// The child's result. A mount that it has made is kept under the child's number.
        outcome: Result<Mounted, String>,
    },
    /// A child that mounted is dead.
    MounterDead(MounterId),
    /// No repair could be started of the file system of this resource.
    NoRepair {
        /// The resource.
        resource: ResourceId,
        /// Whose fault that is.
        cause: Cause,
        /// Why not.
        why: String,
    },
    /// A repair has begun, or gone on.
    RepairGoesOn {
        /// The resource.
        resource: ResourceId,
        /// The progress of the repair.
        progress: RepairProgress,
    },
    /// A repair has ended.
    RepairEnded {
        /// The resource.
        resource: ResourceId,
        /// The last stage of the repair.
        stage: Stage,
        /// What to do with the file system, or why the repair was broken off and whose fault that is.
        outcome: Result<Decision, (Cause, String)>,
    },
    /// The cell's PID 1 has been started; with its process id on the host.
    CellSpawned(i32),
    /// The cell's PID 1 could not be started.
    NoCell(String),
    /// The cell's network is connected.
    CellConnected,
    /// The cell's network could not be connected.
    NotConnected(String),
    /// The cell's PID 1 has reported something.
    Cell(protocol::Event),
    /// The cell's PID 1 has sent something that is no report.
    CellGarbled(String),
    /// The cell's PID 1 is dead, and all its reports have been passed on.
    CellDead,
    /// PID 1 has not taken the order of this number.
    NotOrdered {
        /// The order.
        number: u64,
        /// Why not.
        why: String,
    },
    /// A change of the rules for connections to the cell has ended.
    Admitted(Admission),
    /// What the admin's own configuration exports.
    Own(Own),
    /// The sentinel is dead, although nobody has dismissed it.
    SentinelDead,
    /// No sentinel could be started.
    NoSentinel(String),
}
