//! The node's name services in the keeper's care: shown to the cell before its servers start, and again when
//! their directories or sockets are new.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Keeper;
use crate::cell::names::{Identity, PLACES};
use crate::cell::order::Order;
use crate::ocf::log;

/// How old what is known of the node's directories may become while somebody asks for the cell.
const PERIOD: Duration = Duration::from_secs(5);

/// What the cell was shown.
#[derive(Debug, Default)]
pub struct Names {
    /// What, at which place.
    shown: BTreeMap<&'static str, Identity>,
    /// When it was last looked whether these are still the ones.
    looked: Option<Instant>,
    /// The orders to show some.
    orders: Vec<u64>,
}

impl Names {
    /// An order was carried out; says whether it was one of these.
    pub fn done(&mut self, number: u64, result: &Result<(), &String>) -> bool {
        let Some(at) = self.orders.iter().position(|order| *order == number) else {
            return false;
        };
        self.orders.swap_remove(at);
        if let Err(why) = result {
            log::warn(format_args!("show the node's name services: {why}"));
        }
        true
    }
}

impl Keeper {
    /// Shows the cell what it has not seen yet of the node's name services, unless that was looked for lately.
    pub(super) fn show_names(&mut self) {
        let now = Instant::now();
        let Some(cell) = self.cell.as_mut().filter(|c| c.ready && !c.killed) else {
            return;
        };
        let looked = self.names.looked;
        if looked.is_some_and(|looked| now.duration_since(looked) < PERIOD) {
            return;
        }
        self.names.looked = Some(now);
        for place in &PLACES {
            let Some(identity) = place.identity() else {
                continue;
            };
            if self.names.shown.get(place.path) == Some(&identity) {
                continue;
            }
            self.names.shown.insert(place.path, identity);
            let given = place.view().and_then(|view| {
                let directory = place.path.into();
                cell.give(Order::Show { directory }, Some(view.as_fd()))
            });
            match given {
                Ok(order) => self.names.orders.push(order),
                Err(e) => log::warn(e),
            }
        }
    }
}
