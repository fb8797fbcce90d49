//! Shows the cell the node's name services: before its servers start, and again when their directories or sockets are
//! replaced.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Keeper;
use crate::cell::init::protocol::Order;
use crate::cell::names::{self, Identity};
use crate::log;

/// How often the node's directories are looked at while agents ask for the cell.
const PERIOD: Duration = Duration::from_secs(5);

/// The name services that the cell was shown.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The file that the cell was shown at each path.
    shown: BTreeMap<PathBuf, Identity>,
    /// Reports new sockets, which can't wait until an agent asks for the cell. If the kernel has no inotify to spare,
    /// they are found when one asks.
    changes: Option<Inotify>,
    /// When the node's directories were last looked at.
    looked: Option<Instant>,
    /// The numbers of orders to PID 1 to show something.
    orders: Vec<u64>,
}

impl Names {
    /// Readable when a socket may be new.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    /// Watches the directories of sockets, as far as they exist. The kernel watches each directory once.
    fn watch(&mut self) {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        if self.changes.is_none() {
            self.changes = Inotify::init(flags).ok();
        }
        // A socket that was just bound gets its permissions a moment later.
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        let Some(changes) = &self.changes else { return };
        for directory in names::directories() {
            // If the directory does not exist, it has no sockets.
            let _ = changes.add_watch(directory, flags);
        }
    }

    /// Notes that an order was carried out. Returns whether it was one of these.
    pub(crate) fn done<T>(&mut self, number: u64, result: &Result<T, String>) -> bool {
        let Some(at) = self.orders.iter().position(|order| *order == number) else {
            return false;
        };
        self.orders.swap_remove(at);
        if let Err(why) = result {
            log::warn(format_args!("show the node's name services: {why}"));
        }
        true
    }
}

impl Keeper {
    /// Shows the cell new sockets, if inotify reports any.
    pub(crate) fn handle_names(&mut self) {
        let changes = self.names.changes.as_ref();
        // The events need not be told apart: all directories are looked at.
        if changes.is_some_and(|changes| changes.read_events().is_ok()) {
            self.names.looked = None;
            self.show_names();
        }
    }

    /// Shows the cell the node's name services that it was not shown yet, unless they were looked at lately.
    pub(crate) fn show_names(&mut self) {
        let now = Instant::now();
        let Some(cell) = self.cell.as_ref().filter(|_| self.core.takes_orders()) else {
            return;
        };
        let looked = self.names.looked;
        if looked.is_some_and(|looked| now.duration_since(looked) < PERIOD) {
            return;
        }
        self.names.looked = Some(now);
        // Watched first: inotify reports what comes after the look.
        self.names.watch();
        for answer in names::answers() {
            if self.names.shown.get(&answer.path) == Some(&answer.identity) {
                continue;
            }
            let given = answer.view().and_then(|view| {
                let (number, directory) = (self.core.order_number(), answer.path.clone());
                cell.offer(number, Order::Show { directory }, Some(view.as_fd()))?;
                Ok(number)
            });
            self.names.shown.insert(answer.path, answer.identity);
            match given {
                Ok(order) => self.names.orders.push(order),
                Err(e) => log::warn(e),
            }
        }
    }
}
