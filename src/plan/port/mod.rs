//! Which ports of a node are good, and which VIPs are served through which.
//!
//! [`Health`] derives a [`Standing`] from one port's carrier and replies. [`place`] moves VIPs off
//! ports that can't serve them, at once. [`Balancer`] evens out the load of good ports, with patience.
//! [`Witness`] finds out whose fault the silence of a whole subnet is. [`Spare`] computes how much room the
//! node has to route for others.

mod balance;
mod choice;
pub(crate) mod health;
mod spare;
mod witness;

pub(crate) use balance::Balancer;
pub(crate) use choice::{Move, Port, Vip, place};
pub(crate) use health::{Cause, Health, Limits, Standing, State};
pub(crate) use spare::{Share, Spare};
pub(crate) use witness::{Fault, Witness};
