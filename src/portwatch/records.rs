//! The records of the node's VIPs, kept in memory: with hundreds of VIPs it would take longer to read the files than
//! to move the VIPs.

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

/// The records, read again when inotify reports a change.
pub(crate) struct Records {
    runtime: PathBuf,
    changes: Inotify,
    known: Option<BTreeMap<String, Record>>,
    /// Whether a record has changed since [`Self::news`] was last called. Any reading takes inotify's events, so these
    /// alone do not show it.
    has_news: bool,
    /// Whether the directory was removed: inotify reports nothing any more, and the files are read every time.
    blind: bool,
}

impl Records {
    /// Begins to watch the records, and reads none yet.
    ///
    /// # Errors
    /// If the directory can't be made or watched.
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

    /// Whether a record has changed although [`Self::fd`] may not be readable: the records were read since.
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    /// All records as the mover's decisions take them, for the caller that acts on changes: [`Self::has_news`] is false
    /// after that.
    pub(crate) fn news(&mut self) -> Vec<Recorded> {
        let views = self.views();
        self.has_news = false;
        views
    }

    /// Readable when a record has changed.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.changes.as_fd()
    }

    /// All records as the mover's decisions take them. While the caller holds the lock, nobody changes one.
    pub(crate) fn views(&mut self) -> Vec<Recorded> {
        self.all().values().map(view).collect()
    }

    /// All records by their names, as they were last read: no event is taken, so [`Self::fd`] still shows later
    /// changes.
    pub(crate) fn as_read(&self) -> Option<&BTreeMap<String, Record>> {
        self.known.as_ref()
    }

    /// All records by their names, as they are now.
    pub(crate) fn all(&mut self) -> &BTreeMap<String, Record> {
        // The event of a change is there before its maker releases the lock.
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

/// A record as the mover's decisions take it.
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
