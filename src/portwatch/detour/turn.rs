//! The lock of the addresses' agents, for the changes of one turn of the daemon's loop.

use std::path::Path;

use crate::address::lock::try_lock;
use crate::log;
use crate::sys::lock::Lock;

/// The lock as one turn has it: tried once, when it is first needed, and held for all changes of the turn. The daemon
/// never waits for it.
#[derive(Debug)]
pub(crate) struct Turn<'r> {
    runtime: &'r Path,
    lock: Option<Option<Lock>>,
}

impl<'r> Turn<'r> {
    pub(crate) fn new(runtime: &'r Path) -> Self {
        Self {
            runtime,
            lock: None,
        }
    }

    /// The lock; `None` if somebody else has it.
    pub(crate) fn lock(&mut self) -> Option<&Lock> {
        let runtime = self.runtime;
        let lock = self.lock.get_or_insert_with(|| {
            try_lock(runtime).unwrap_or_else(|e| {
                log::warn(e);
                None
            })
        });
        lock.as_ref()
    }
}
