//! The location of a VIP's cell, as seen from this node.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::plan::vip::record::{Role, RouterHop, TransitPath};

/// The location of a VIP's cell, as seen from this node.
#[derive(Debug, Clone)]
pub enum CellLocation<'a> {
    /// On this node; with the cell's network namespace.
    Here(BorrowedFd<'a>),
    /// On another node, to which this one routes by this path.
    There(TransitPath),
    /// On this node, but another node answers for the VIP and routes: nothing is announced here.
    Detour(BorrowedFd<'a>, RouterHop),
}

impl<'a> CellLocation<'a> {
    pub(crate) fn cell(&self) -> Option<BorrowedFd<'a>> {
        match self {
            Self::Here(cell) | Self::Detour(cell, _) => Some(*cell),
            Self::There(_) => None,
        }
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Here(_) => Role::Home,
            Self::There(way) => Role::Router(way.clone()),
            Self::Detour(_, leg) => Role::Detour(Some(leg.clone())),
        }
    }
}

/// What is reported of a VIP that this node routes.
pub(crate) fn routing(vip: IpAddr, way: &TransitPath) -> String {
    format!("routing {vip} for {} over {}", way.node, way.subnet)
}
