//! What went wrong, whose fault it is, and in one line why.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::state::State;

/// Whose fault an error is; together with the action it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A parameter is wrong, on every node alike.
    Config,
    /// This node lacks what the parameters name: a device, a port, a subnet.
    Host,
    /// A program or kernel feature is not installed.
    Missing,
    /// The agent was refused permission.
    Denied,
    /// Anything else: it was tried and did not work.
    Failed,
    /// The action is not one of this agent's.
    Unimplemented,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Self; 6] = [
        Self::Config,
        Self::Host,
        Self::Missing,
        Self::Denied,
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
    pub fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            cause: None,
        }
    }

    /// A parameter is wrong on every node.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Fault::Config, message)
    }

    /// This node lacks something that the parameters name.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(Fault::Host, message)
    }

    /// A program or a kernel feature is not installed.
    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Fault::Missing, message)
    }

    /// Permission was refused.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Fault::Denied, message)
    }

    /// It was tried and did not work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Fault::Failed, message)
    }

    /// Not an action of this agent.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Fault::Unimplemented, message)
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The kind of the I/O error behind it, if there is one.
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.cause.as_ref().map(io::Error::kind)
    }

    /// The same error with what was being done in front: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = if self.message.is_empty() {
            context.to_string()
        } else {
            format!("{context}: {}", self.message)
        };
        self
    }

    /// The same error with the I/O error that caused it.
    #[must_use]
    pub fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    /// The same error, judged to be of another fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
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
pub trait Explain<T> {
    /// Puts `context` in front of an error.
    ///
    /// # Errors
    /// The same error, explained.
    fn context(self, context: impl fmt::Display) -> Result<T, Error>;

    /// As [`Explain::context`], and gives the error the fault `fault`.
    ///
    /// # Errors
    /// The same error, explained and judged.
    fn blame(self, fault: Fault, context: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Explain<T> for Result<T, E> {
    fn context(self, context: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|e| e.into().context(context))
    }

    fn blame(self, fault: Fault, context: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|e| e.into().context(context).with_fault(fault))
    }
}

/// The errors of steps that are all tried whatever happens, as in `stop`.
#[derive(Debug, Default)]
pub struct ErrorList(Vec<Error>);

impl ErrorList {
    /// Keeps the error of one step, if it has one, and gives what the step yielded.
    pub fn note<T>(&mut self, step: Result<T, impl Into<Error>>) -> Option<T> {
        step.map_err(|e| self.0.push(e.into())).ok()
    }

    /// Whether every step went well.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `state` if no step failed.
    ///
    /// # Errors
    /// The first error, with the number of those that followed it.
    pub fn into_result(mut self, state: State) -> Result<State, Error> {
        if self.0.is_empty() {
            return Ok(state);
        }
        let mut first = self.0.remove(0);
        if !self.0.is_empty() {
            let rest: Vec<_> = self.0.iter().map(ToString::to_string).collect();
            first = Error::new(first.fault, format!("{first}; then {}", rest.join("; ")));
        }
        Err(first)
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
        assert_eq!(e.io_kind(), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_bare_io_error_speaks_for_itself() {
        let e = Error::from(enoent());
        assert_eq!(e.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn blame_sets_the_fault() {
        let e = Err::<(), _>(enoent()).blame(Fault::Host, "open /dev/x");
        assert_eq!(e.unwrap_err().fault(), Fault::Host);
    }

    #[test]
    fn a_list_keeps_every_error_and_the_first_ones_fault() {
        let mut list = ErrorList::default();
        assert_eq!(list.note(Ok::<_, Error>(7)), Some(7));
        assert!(list.is_empty());
        list.note::<()>(Err(Error::denied("kill 1: refused")));
        list.note::<()>(Err(Error::failed("umount /data: busy")));
        let e = list.into_result(State::Stopped).unwrap_err();
        assert_eq!(e.fault(), Fault::Denied);
        assert_eq!(e.to_string(), "kill 1: refused; then umount /data: busy");
        assert!(ErrorList::default().into_result(State::Stopped).is_ok());
    }
}
