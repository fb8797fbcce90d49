//! The protocol between a keeper and the PID 1 of its cell.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cell::refused::Refused;
use crate::cell::service::{Export, ServerSpec};

/// An order from the keeper. Each order is answered by one [`Event::Done`] with its number.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Numbered {
    /// Chosen by the keeper, never used twice.
    pub(crate) number: u64,
    /// What to do.
    pub(crate) order: Order,
}

/// What PID 1 can be told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Attach the mount whose descriptor comes along.
    Attach {
        /// Where to attach it.
        directory: PathBuf,
    },
    /// Show a directory of the node in which a name service answers; a mount of it comes along: see
    /// [`crate::cell::names`].
    Show {
        /// Where to attach it.
        directory: PathBuf,
    },
    /// Unmount everything of the file system at this directory, and end the processes that still use it.
    Detach {
        /// Where it is attached.
        directory: PathBuf,
        /// How long its users have to end by themselves, and then again after they were killed.
        patience: Duration,
    },
    /// Show the directory `.berth` of the home file system at
    /// [`STATE_DIRECTORY`](super::root::STATE_DIRECTORY).
    Prepare {
        /// Where the home file system is attached.
        home: PathBuf,
    },
    /// Write the servers' configuration.
    Configure {
        /// The servers.
        spec: ServerSpec,
        /// What they export.
        exports: Vec<Export>,
    },
    /// Start a server; done when the server answers.
    Launch {
        /// The servers.
        spec: ServerSpec,
        /// Which of them.
        server: String,
    },
    /// Have a server read its configuration again, by a signal. Done when the server's output says that it has, or
    /// after a few seconds if it does not say so.
    Reload {
        /// The server's name.
        server: String,
        /// The signal's number.
        signal: i32,
    },
    /// Ask the servers for each export, to find out which they do not serve.
    Inspect {
        /// The servers.
        spec: ServerSpec,
        /// What they export.
        exports: Vec<Export>,
        /// How long they have to take up exports that are new to them.
        patience: Duration,
    },
    /// Run a program to its end, with a server's rights.
    Run {
        /// The server's name.
        server: String,
        /// The program's name and its arguments.
        argv: Vec<String>,
        /// The program is killed after this time.
        limit: Duration,
    },
    /// End all servers and the processes that they have left behind.
    Halt {
        /// Each server is killed after its own patience, and after this time at the latest.
        patience: Duration,
    },
}

/// A report of PID 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The namespaces are there: the network can be connected.
    Separate,
    /// The root is built: orders are taken.
    Ready,
    /// The cell can't be built; PID 1 ends.
    Broken(String),
    /// An order has been carried out, or could not be.
    Done {
        /// Its number.
        number: u64,
        /// What is not served, if the order was to find that out; or, in one line, why the order could not be carried
        /// out.
        result: Result<Vec<Refused>, String>,
    },
    /// A server has ended without being told to.
    Died {
        /// Its name.
        server: String,
        /// Its exit code or signal.
        how: String,
    },
    /// A server was refused a system call.
    Refused {
        /// Its name.
        server: String,
        /// The system call and the process that made it.
        what: String,
    },
    /// Something that needs attention and hinders nothing, in one line.
    Warned(String),
    /// A server has written a line.
    Said {
        /// Its name.
        server: String,
        /// The line.
        line: String,
    },
}
