//! The state of a resource that an action returns.

/// The state of a resource after an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Proven to be cleanly stopped: nothing of it is left on this node.
    Stopped,
    /// In service.
    Running,
    /// In service, with this restriction; it becomes the exit reason.
    Degraded(String),
    /// Neither in service nor cleanly stopped, for this reason.
    Failed(String),
}
