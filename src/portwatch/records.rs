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
    /// Whether one has changed that whoever acts on changes has not taken note of. The first to read them, who may be
    /// another one, takes the events.
    has_news: bool,
    /// The directory was taken away: changes are not told of any more.
    blind: bool,
}

impl Records {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// If changes can't be watched.
    pub(crate) fn open(runtime: &Path) -> io::Result<Self> {
        let changes = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let directory = record::directory(runtime);
        fs::create_dir_all(&directory)?;
        let news = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        changes.add_watch(&directory, news)?;
        Ok(Self {
            runtime: runtime.to_owned(),
            changes,
            known: None,
            has_news: false,
            blind: false,
        })
    }

    /// Whether one has changed without [`Self::fd`] telling of it, since somebody has read them.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    /// All, as the mover's decisions have them, for whoever acts on changes: what has changed up to now is no news any
    /// more.
    pub(crate) fn news(&mut self) -> Vec<Recorded> {
        let views = self.views();
        self.has_news = false;
        views
    }

    /// What can be read when one has changed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// All, as the mover's decisions have them. Nobody changes one meanwhile, if the caller has the lock.
    pub(crate) fn views(&mut self) -> Vec<Recorded> {
        self.all().values().map(view).collect()
    }

    /// All, by their names, as they were read last. Whether one has changed since can still be waited for.
    pub(crate) fn as_read(&self) -> Option<&BTreeMap<String, Record>> {
        self.known.as_ref()
    }

    /// All, by their names.
    pub(crate) fn all(&mut self) -> &BTreeMap<String, Record> {
        // Events are there before whoever made a change can let the lock go.
        while let Some(events) = self.changes.read_events().ok().filter(|e| !e.is_empty()) {
            let gone = AddWatchFlags::IN_IGNORED;
            self.blind |= events.iter().any(|event| event.mask.contains(gone));
            self.known = None;
            self.has_news = true;
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
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::plan::vip::record::{TransitPath, VipSpec};

    fn record(n: u8, serving: bool) -> Record {
        let spec = VipSpec {
            vserver: "alpha".into(),
            vip: [10, 1, 0, n].into(),
            subnet: None,
            gateway: None,
            ports: None,
            routed: false,
            reroute: true,
        };
        Record {
            spec,
            serving,
            degraded: false,
            role: Role::Home,
            claimed: None,
        }
    }

    #[test]
    fn a_change_is_seen_at_once_and_so_is_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        let vips = |records: &mut Records| {
            let served = records.views().into_iter().filter(Recorded::is_served);
            served.count()
        };
        let write = |n: u8, serving: bool| {
            let name = format!("ip{n}");
            record(n, serving).write(dir.path(), &name).unwrap();
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
    fn a_change_that_somebody_else_has_read_is_news_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = Records::open(dir.path()).unwrap();
        let readable = |records: &Records| {
            let mut fds = [PollFd::new(records.fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        let write = |n: u8| record(n, true).write(dir.path(), "ip1").unwrap();
        assert_eq!(records.news().len(), 0);
        write(1);
        assert!(readable(&records) && !records.has_news());
        // Such as detours, which look at the records for their own ends.
        assert_eq!(records.all().len(), 1);
        assert!(!readable(&records) && records.has_news());
        records.all();
        assert!(records.has_news(), "nobody has acted on it");
        assert_eq!(records.news().len(), 1);
        assert!(!records.has_news());
        write(2);
        records.news();
        assert!(!readable(&records) && !records.has_news());
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
