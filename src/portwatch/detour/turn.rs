//! The lock of the addresses' agents, for the changes that are possible at one moment.

use std::path::Path;

use crate::address::lock::try_lock;
use crate::log;
use crate::sys::lock::Lock;

/// It is tried for once, when it is first needed, and kept for all changes of the moment: nothing waits for it.
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
