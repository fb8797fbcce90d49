//! The speed of a network interface, by the ethtool ioctl (linux/ethtool.h).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::types::BitRate;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSET: u32 = 1;
/// `SPEED_UNKNOWN`, as the two halves of `struct ethtool_cmd` have it.
const UNKNOWN: u32 = u32::MAX;

/// `struct ethtool_cmd`.
#[repr(C)]
#[derive(Default)]
struct Settings {
    command: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    duplex: u8,
    port: u8,
    phy_address: u8,
    transceiver: u8,
    autoneg: u8,
    mdio_support: u8,
    max_tx_packets: u32,
    max_rx_packets: u32,
    speed_high: u16,
    mdix: u8,
    mdix_control: u8,
    lp_advertising: u32,
    reserved: [u32; 2],
}

/// The speed of the interface called `name`; `None` if it has or knows none, as
/// without carrier.
///
/// # Errors
/// If there is no such interface.
pub(crate) fn speed(name: &str) -> io::Result<Option<BitRate>> {
    let socket: OwnedFd = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut settings = Settings {
        command: ETHTOOL_GSET,
        ..Settings::default()
    };
    // SAFETY: all zeros is a value of this plain structure.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        // The same byte: whether a character has a sign depends on the machine.
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = (&raw mut settings).cast();
    // SAFETY: the request names an interface, and what it points to is of the size that the kernel
    // reads and writes for this command and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    match Errno::result(result) {
        Ok(_) => {}
        Err(Errno::EOPNOTSUPP | Errno::EINVAL) => return Ok(None),
        Err(e) => {
            return Err(crate::sys::message(
                e.into(),
                format!("ask for the speed of {name}"),
            ));
        }
    }
    let speed = (u32::from(settings.speed_high) << 16) | u32::from(settings.speed);
    Ok((speed != UNKNOWN && speed != 0).then_some(BitRate::megabits(speed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_no_speed_and_a_missing_one_is_an_error() {
        assert_eq!(speed("lo").unwrap(), None);
        let error = speed("no-such-port").unwrap_err().to_string();
        assert!(
            error.starts_with("ask for the speed of no-such-port: "),
            "{error}"
        );
    }
}
