//! The numbers of the orders given to PID 1.

use super::effect::{Effect, Effects};
use super::terms::MounterId;
use crate::cell::init::protocol::Order;

/// Numbers the orders: no number is used twice, not even in another cell.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    last: u64,
}

impl Orders {
    /// The number of the next order.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Gives an order, and returns its number.
    pub(crate) fn give(&mut self, order: Order, out: &mut Effects) -> u64 {
        self.send(order, None, out)
    }

    /// Gives an order along with the mount that this child has made, and returns the order's number.
    pub(crate) fn give_mount(&mut self, order: Order, mount: MounterId, out: &mut Effects) -> u64 {
        self.send(order, Some(mount), out)
    }

    fn send(&mut self, order: Order, mount: Option<MounterId>, out: &mut Effects) -> u64 {
        let number = self.number();
        out.push(Effect::Order {
            number,
            order,
            mount,
        });
        number
    }
}
