//! The host end of a cell's veth: its name and its Ethernet address, which tells it from somebody else's interface with
//! such a name.

use crate::hash::fnv32;
use crate::types::name::CELL_LINK_PREFIX;
use crate::types::{IfName, Mac, VserverName};

/// The name of the host end of the veth of `vserver`'s cell.
pub fn cell_link(vserver: &VserverName) -> IfName {
    IfName::of_cell(vserver)
}

/// The Ethernet address of both ends of the veth, derived from the name: locally administered, unicast. Nobody but the
/// two ends sees it.
pub fn cell_mac(vserver: &str) -> Mac {
    let [a, b, c, d] = fnv32(vserver).to_be_bytes();
    Mac([0x02, 0xbe, a, b, c, d])
}

/// The virtual server whose cell's veth would have the host end `link`.
pub fn vserver_of(link: &str) -> Option<&str> {
    link.strip_prefix(CELL_LINK_PREFIX)
}

/// Whether the interface called `link`, with this Ethernet address, is the host end of a cell's veth. Any other
/// interface is the administrator's, whatever its name.
pub fn is_cell_link(link: &str, mac: Option<Mac>) -> bool {
    vserver_of(link).is_some_and(|vserver| mac == Some(cell_mac(vserver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_berths_by_name_and_address_together() {
        let mac = Some(cell_mac("alpha"));
        assert!(is_cell_link(&cell_link(&"alpha".into()), mac));
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
