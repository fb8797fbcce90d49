//! The node's end of a cell's interface: what it is called, and how it is told from somebody else's
//! interface whose name happens to begin the same way.

use crate::hash::fnv32;
use crate::types::Mac;

/// How the names of the node's ends begin.
pub const CELL_LINK_PREFIX: &str = "b-";

/// The name of the node's end of `vserver`'s interface.
pub fn cell_link(vserver: &str) -> String {
    format!("{CELL_LINK_PREFIX}{vserver}")
}

/// The Ethernet address of both its ends, fixed by the name: locally administered, unicast. Nobody but the
/// two ends sees it.
pub fn cell_mac(vserver: &str) -> Mac {
    let [a, b, c, d] = fnv32(vserver).to_be_bytes();
    Mac([0x02, 0xbe, a, b, c, d])
}

/// The virtual server whose cell's interface would be called `link`.
pub fn vserver_of(link: &str) -> Option<&str> {
    link.strip_prefix(CELL_LINK_PREFIX)
}

/// Whether the interface called `link`, with this Ethernet address, is berth's own: the node's end of a
/// cell's interface. Any other one is the administrator's, whatever its name.
pub fn is_cell_link(link: &str, mac: Option<Mac>) -> bool {
    vserver_of(link).is_some_and(|vserver| mac == Some(cell_mac(vserver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_berths_by_name_and_address_together() {
        let mac = Some(cell_mac("alpha"));
        assert!(is_cell_link(&cell_link("alpha"), mac));
        assert!(!is_cell_link("b-beta", mac) && !is_cell_link("eth0", mac));
        assert!(!is_cell_link("b-alpha", Some(Mac([2, 0, 0, 0, 0, 1]))));
        assert!(!is_cell_link("b-alpha", None));
    }

    #[test]
    fn addresses_in_running_kernels_stay_what_they_are() {
        assert_eq!(cell_mac("alpha").0[..2], [0x02, 0xbe]);
        assert_eq!(cell_mac("alpha").0[2..], fnv32("alpha").to_be_bytes());
    }
}
