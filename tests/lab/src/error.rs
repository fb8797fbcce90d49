//! The lab's one kind of error: a line for a person.

use std::fmt;

/// What went wrong, as one line that names the action, the object and the cause.
#[derive(Debug)]
pub struct Error(String);

/// The lab's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that says `line`.
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Adds to any error what was being done when it happened.
pub trait Context<T> {
    /// Puts `what` and a colon before the error's own words.
    ///
    /// # Errors
    /// The error this was called on, with `what` before it.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error(format!("{what}: {e}")))
    }
}
