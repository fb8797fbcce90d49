//! The records of the VIPs that the node serves, kept in memory: with hundreds of VIPs it would take
//! longer to read them than to move them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::address::record;
use crate::plan::mover::{Duty, Recorded};
use crate::plan::vip::record::Record;
use crate::plan::vip::record::Role;

/// All of them.
pub(crate) struct Records {
    runtime: PathBuf,
    changes: Inotify,
    known: Option<BTreeMap<String, Record>>,
    /// The directory was taken away: changes are not told of any more.
    blind: bool,
}

impl Records {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// If changes can't be watched.
    pub fn open(runtime: &Path) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let directory = record::directory(runtime);
        fs::create_dir_all(&directory)?;
        let news = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        changes.add_watch(&directory, news)?;
        Ok(Self {
            runtime: runtime.to_owned(),
            changes,
            known: None,
            blind: false,
        })
    }

    /// What can be read when one has changed.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// All, as the mover's decisions have them. Nobody changes one meanwhile, if the caller has the lock.
    pub fn views(&mut self) -> Vec<Recorded> {
        self.all().values().map(view).collect()
    }

    /// All, by their names, as they were read last. Whether one has changed since can still be waited for.
    pub fn as_read(&self) -> Option<&BTreeMap<String, Record>> {
        self.known.as_ref()
    }

    /// All, by their names.
    pub fn all(&mut self) -> &BTreeMap<String, Record> {
        // Events are there before whoever made a change can let the lock go.
        while let Some(events) = self.changes.read_events().ok().filter(|e| !e.is_empty()) {
            let gone = AddWatchFlags::IN_IGNORED;
            self.blind |= events.iter().any(|event| event.mask.contains(gone));
            self.known = None;
        }
        if self.blind {
            self.known = None;
        }
        let read = || Record::read_all(&self.runtime);
        self.known.get_or_insert_with(read)
    }
}

/// A record, as the mover's decisions have it.
fn view(record: &Record) -> Recorded {
    Recorded {
        request: record.request(),
        serving: record.serving,
        duty: match &record.role {
            Role::Home => Duty::Serve,
            Role::Router(_) => Duty::Route,
            Role::Detour(leg) => Duty::Detour {
                known: leg.is_some(),
            },
            Role::Stranded(_) | Role::Ending(_) => Duty::Nothing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::vip::record::{TransitPath, VipSpec};

    #[test]
    fn a_change_is_seen_at_once_and_so_is_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        let vips = |records: &mut Records| {
            let served = records.views().into_iter().filter(Recorded::is_served);
            served.count()
        };
        let write = |n: u8, serving: bool| {
            let spec = VipSpec {
                vserver: "alpha".into(),
                vip: [10, 1, 0, n].into(),
                subnet: None,
                gateway: None,
                ports: None,
                routed: false,
                reroute: true,
            };
            let record = Record {
                spec,
                serving,
                degraded: false,
                role: Role::Home,
                claimed: None,
            };
            record.write(dir.path(), &format!("ip{n}")).unwrap();
        };
        let read = |records: &Records| records.as_read().map(BTreeMap::len);
        assert_eq!(read(&records), None);
        assert_eq!(vips(&mut records), 0);
        write(1, true);
        assert_eq!(read(&records), Some(0), "it is yet to be read");
        write(2, true);
        assert_eq!((vips(&mut records), vips(&mut records)), (2, 2));
        write(2, false);
        assert_eq!(vips(&mut records), 1);
        Record::forget(dir.path(), "ip1");
        assert_eq!(vips(&mut records), 0);
        fs::remove_dir_all(record::directory(dir.path())).unwrap();
        assert_eq!(vips(&mut records), 0);
        fs::create_dir(record::directory(dir.path())).unwrap();
        write(3, true);
        assert_eq!(vips(&mut records), 1);
    }

    #[test]
    fn a_vip_that_this_node_routes_for_has_no_use_for_other_subnets_ports() {
        let spec = VipSpec {
            vserver: "alpha".into(),
            vip: [10, 1, 0, 50].into(),
            subnet: None,
            gateway: None,
            ports: None,
            routed: true,
            reroute: true,
        };
        let way = TransitPath {
            node: "n1".into(),
            subnet: "lab".into(),
            port: "c0".into(),
            address: [10, 2, 0, 1].into(),
            macs: vec![crate::types::Mac([2, 0, 0, 0, 0, 1])],
            own: [10, 2, 0, 2].into(),
        };
        let routed = |role| view(&Record::new(&spec, role)).request.routed;
        assert!(routed(Role::Home));
        // What came in there would not be passed on.
        assert!(!routed(Role::Router(way)));
    }
}
