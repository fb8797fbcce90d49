//! The handle of one `vip` resource, on which the actions are methods.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::kernel::Kernel;
use super::lock::lock;
use crate::ocf::Error;
use crate::runtime::paths::RUNTIME;
use crate::sys::lock::Lock;

/// One `vip` resource, during one action.
#[derive(Debug)]
pub struct Service<'a> {
    pub(crate) instance: &'a str,
    pub(crate) deadline: Instant,
    pub(crate) runtime: PathBuf,
}

impl<'a> Service<'a> {
    /// The resource called `instance`, whose action must end by `deadline`.
    pub fn new(instance: &'a str, deadline: Instant) -> Self {
        Self {
            instance,
            deadline,
            runtime: RUNTIME.into(),
        }
    }

    /// The same resource with its files in another directory than /run/berth.
    #[must_use]
    pub fn in_directory(mut self, runtime: &Path) -> Self {
        runtime.clone_into(&mut self.runtime);
        self
    }

    pub(crate) fn kernel(&self, cell: Option<BorrowedFd<'_>>) -> io::Result<Kernel> {
        Kernel::open(cell, &self.runtime)
    }

    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        Ok(lock(&self.runtime, self.deadline)?)
    }
}
