//! Errors of agents: what has failed, whose fault it is, and why, in one line.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// Whose fault an error is; together with the action it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// A parameter is wrong, on every node alike.
    Config,
    /// This node lacks what the parameters name: a device, a port, a subnet.
    Host,
    /// A program or kernel feature is not installed.
    Missing,
    /// Anything else: it was tried and did not work.
    Failed,
    /// The action is not one of this agent's.
    Unimplemented,
}

impl Fault {
    /// Every fault there is.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 5] = [
        Self::Config,
        Self::Host,
        Self::Missing,
        Self::Failed,
        Self::Unimplemented,
    ];
}

/// An error of an action: a fault and one line that names verb, object and value.
///
/// Its `Display` is the whole line, the cause included.
#[derive(Debug)]
pub struct Error {
    fault: Fault,
    message: String,
    cause: Option<io::Error>,
}

impl Error {
    /// An error with the fault `fault`.
    pub(crate) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            cause: None,
        }
    }

    /// A parameter is wrong on every node.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Fault::Config, message)
    }

    /// This node lacks something that the parameters name.
    pub(crate) fn host(message: impl Into<String>) -> Self {
        Self::new(Fault::Host, message)
    }

    /// A program or a kernel feature is not installed.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Fault::Missing, message)
    }

    /// It was tried, and has failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Fault::Failed, message)
    }

    /// Not an action of this agent.
    pub(crate) fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Fault::Unimplemented, message)
    }

    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        self.fault
    }

    /// The same error with what was being done in front: `context: message`.
    #[must_use]
    pub(crate) fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = if self.message.is_empty() {
            context.to_string()
        } else {
            format!("{context}: {}", self.message)
        };
        self
    }

    /// The same error with the I/O error that caused it.
    #[must_use]
    pub(crate) fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.cause {
            Some(cause) if self.message.is_empty() => write!(f, "{cause}"),
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    /// What lies below the cause: the cause itself is part of the text.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_ref().and_then(StdError::source)
    }
}

impl From<io::Error> for Error {
    fn from(cause: io::Error) -> Self {
        Self::failed("").because(cause)
    }
}

/// Says on the way up what was being done.
pub(crate) trait Explain<T> {
    /// Puts `context` in front of an error.
    ///
    /// # Errors
    /// The same error, explained.
    fn context(self, context: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Explain<T> for Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|e| e.into().context(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enoent() -> io::Error {
        io::Error::from_raw_os_error(2)
    }

    #[test]
    fn the_line_has_context_and_cause() {
        let e: Result<(), Error> = Err(enoent()).context("open /dev/x").context("start");
        let e = e.unwrap_err();
        assert_eq!(
            e.to_string(),
            "start: open /dev/x: No such file or directory (os error 2)"
        );
        assert_eq!(e.fault(), Fault::Failed);
    }

    #[test]
    fn a_bare_io_error_speaks_for_itself() {
        let e = Error::from(enoent());
        assert_eq!(e.to_string(), "No such file or directory (os error 2)");
    }
}
