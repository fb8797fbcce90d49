//! The node's name services in the keeper's care: shown to the cell before its servers start, and again when
//! their directories or sockets are new.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Keeper;
use crate::cell::init::protocol::Order;
use crate::cell::names::{self, Identity};
use crate::log;

/// How old what is known of the node's directories may become while somebody asks for the cell.
const PERIOD: Duration = Duration::from_secs(5);

/// What the cell was shown.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// What, at which place.
    shown: BTreeMap<PathBuf, Identity>,
    /// Tells of new sockets, for which nobody would wait until somebody asks. Where the kernel gives none, they are
    /// found when somebody does.
    changes: Option<Inotify>,
    /// When it was last looked whether these are still the ones.
    looked: Option<Instant>,
    /// The orders to show some.
    orders: Vec<u64>,
}

impl Names {
    /// Readable when a socket may be new.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().map(AsFd::as_fd)
    }

    /// Watches the directories of sockets that are there. One that is watched already is watched once.
    fn watch(&mut self) {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        if self.changes.is_none() {
            self.changes = Inotify::init(flags).ok();
        }
        // One that was just bound is opened to everybody a moment later.
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        let Some(changes) = &self.changes else { return };
        for directory in names::directories() {
            // It may not be there, and then has no sockets.
            let _ = changes.add_watch(directory, flags);
        }
    }

    /// An order was carried out; says whether it was one of these.
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
    /// Shows new sockets, if there may be some.
    pub(crate) fn handle_names(&mut self) {
        let changes = self.names.changes.as_ref();
        // What it is that has changed, a look tells.
        if changes.is_some_and(|changes| changes.read_events().is_ok()) {
            self.names.looked = None;
            self.show_names();
        }
    }

    /// Shows the cell what it has not seen yet of the node's name services, unless that was looked for lately.
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
        // First: what comes after the look is told.
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
