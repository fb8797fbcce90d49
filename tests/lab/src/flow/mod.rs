//! Traffic that shows how long a virtual address is out of reach: probes every millisecond, and a
//! connection that is never idle. Their other end is an echo inside the virtual server's cell.

mod echo;
mod probe;
mod stream;

pub use echo::{Echo, main as echo_main};
pub use probe::{Gap, Prober};
pub use stream::{Stream, Traffic};
