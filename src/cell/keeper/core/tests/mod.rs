//! The keeper's decisions, in a world that is made of values.

mod cell;
mod property;
mod pure;
mod servers;
mod state;
mod stops;
mod volumes;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::cell::cgroup::Limits;
use crate::cell::init::protocol::{self, Order};
use crate::cell::protocol::{Condition, Exported, Request, VolumeSpec};
use crate::cell::service::{ServerSpec, SmbShare};
use crate::cell::state::{
    CellPhase, CellState, Defect, Examined, RepairProgress, ServersState, VolumePhase, VolumeState,
};
use crate::plan::repair::{Decision, FsKind, Policy, Stage};
use crate::runtime::channel::MESSAGE_LIMIT;
use crate::sys::device::DeviceSpec;
use world::World;

/// How long an answer may take, if nothing else is said: of a stop that is 16 of 24 parts, and the cell is killed
/// after 12.
const BUDGET: Duration = Duration::from_secs(40);

/// When the cell is killed for a stop that has [`BUDGET`].
const CELL_KILLED: Duration = Duration::from_secs(30);

fn member(resource: &str) -> Member {
    Member {
        resource: resource.into(),
        node: Some("node1".into()),
    }
}

fn directory(resource: &str) -> PathBuf {
    PathBuf::from(format!("/srv/{resource}"))
}

fn exported(resource: &str) -> Exported {
    Exported {
        nfs: None,
        smb: Some(SmbShare {
            name: resource.parse().unwrap(),
            users: vec![],
            read_only: false,
        }),
    }
}

fn volume(resource: &str) -> VolumeSpec {
    VolumeSpec {
        device: DeviceSpec::Path(format!("/dev/{resource}").into()),
        directory: directory(resource),
        fstype: None,
        options: String::new().try_into().unwrap(),
        repair: Policy::Preen,
        export: Exported::default(),
    }
}

fn attach(resource: &str) -> Request {
    Request::Attach {
        member: member(resource),
        volume: volume(resource),
        budget: BUDGET,
    }
}

fn detach(resource: &str) -> Request {
    Request::Detach {
        resource: resource.into(),
        budget: BUDGET,
    }
}

fn status(resource: &str) -> Request {
    Request::Status {
        resource: resource.into(),
    }
}

fn spec() -> ServerSpec {
    ServerSpec {
        name: "alpha".into(),
        nfs: false,
        smb: true,
        commands: vec![],
        state: PathBuf::from("/state"),
        lease: ServerSpec::LEASE,
        grace: ServerSpec::GRACE,
        config_dir: None,
        cgroup: Limits::default(),
        limits: Default::default(),
        allow_calls: vec![],
    }
}

fn serve(home: Option<&str>) -> Request {
    Request::Serve {
        member: member("alpha"),
        spec: spec(),
        home: home.map(directory),
        budget: BUDGET,
    }
}

fn export(resource: &str) -> Request {
    Request::Export {
        resource: resource.into(),
        export: exported(resource),
        budget: BUDGET,
    }
}

fn unserve() -> Request {
    Request::Unserve {
        resource: "alpha".into(),
        patience: Duration::from_secs(60),
        budget: BUDGET,
    }
}

fn found(resource: &str) -> Mounted {
    Mounted::Done(Found {
        path: PathBuf::from(format!("/dev/{resource}")),
        kind: FsKind::Ext4,
        xfs: None,
    })
}

fn damaged(resource: &str) -> Mounted {
    Mounted::Unsound {
        path: PathBuf::from(format!("/dev/{resource}")),
        kind: FsKind::Ext4,
        mmp: false,
        defect: Defect::Noted,
    }
}

/// How the member is that a reply tells of.
fn condition(reply: &Reply) -> &Condition {
    match reply {
        Reply::Member { condition, .. } => condition,
        other => panic!("no member: {other:?}"),
    }
}

/// What a refusal says.
fn refusal(reply: &Reply) -> (Cause, &str) {
    match reply {
        Reply::Refused { cause, message } => (*cause, message),
        other => panic!("not refused: {other:?}"),
    }
}
