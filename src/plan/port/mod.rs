//! Which ports of a node are good, and which VIPs are served through which.
//!
//! [`Health`] makes one port's carrier and answers into a [`Standing`]. [`place`] moves VIPs off
//! ports that can't serve them, at once. [`Balancer`] evens out the load of good ports, with patience.
//! [`Witness`] finds out whose fault the silence of a whole subnet is. [`Spare`] tells the other nodes
//! what room there is.

mod balance;
mod choice;
mod health;
mod spare;
mod witness;

pub use balance::Balancer;
pub use choice::{Move, Port, Vip, place};
pub use health::{Cause, FLAP_WINDOW, FLAPS, Health, Limits, Standing, State};
pub use spare::{Share, Spare};
pub use witness::{Fault, Witness};
