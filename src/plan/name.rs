//! Names that end up in the kernel, in the CIB or in a server's configuration.

use std::fmt;

/// Longest name of a virtual server: its cell's veth is called `b-<name>` on the host, and the kernel
/// allows an interface name 15 bytes (`IFNAMSIZ` less the final zero).
pub(crate) const VSERVER_LIMIT: usize = 13;

/// Longest name of a network interface, in bytes.
pub(crate) const INTERFACE_LIMIT: usize = 15;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no name.
    Empty,
    /// It is longer than allowed: its length and the limit.
    TooLong(usize, usize),
    /// It does not begin with one of the allowed characters; the text names them.
    First(&'static str),
    /// It has a character outside those allowed; the text names them.
    Character(char, &'static str),
    /// It is that of the loopback interface.
    Loopback,
    /// With this character in it, it looks like a list or a pattern of names.
    Several(char),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong(length, limit) => write!(
                f,
                "is {length} characters long; the longest allowed is {limit}"
            ),
            Self::First(allowed) => write!(f, "must begin with {allowed}"),
            Self::Character(c, allowed) => write!(f, "has {c:?} in it; allowed are {allowed}"),
            Self::Loopback => {
                f.write_str("is the node's own loopback interface, where no client is")
            }
            Self::Several(c) => write!(
                f,
                "has {c:?} in it: name each interface by itself, without patterns"
            ),
        }
    }
}

/// Checks the name of a virtual server: 1 to 13 of `a`–`z`, `0`–`9` and `-`, a letter first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn vserver(name: &str) -> Result<(), Refusal> {
    let allowed = "a-z, 0-9 and -";
    check(name, VSERVER_LIMIT, allowed, |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    })?;
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err(Refusal::First("a letter"));
    }
    // It is a host name too, and those do not end with a hyphen (RFC 952).
    if name.ends_with('-') {
        return Err(Refusal::Character('-', "a-z and 0-9 at the end"));
    }
    Ok(())
}

/// Checks the name of a node, which becomes part of rules and of ids: 1 to 64 letters, digits, `.`, `-`
/// and `_`, a letter or digit first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn node(name: &str) -> Result<(), Refusal> {
    // HOST_NAME_MAX
    check(name, 64, "letters, digits, ., - and _", |c| {
        c.is_ascii_alphanumeric() || ".-_".contains(c)
    })?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Refusal::First("a letter or a digit"));
    }
    Ok(())
}

/// Checks the name of a subnet, storage unit or file system, which becomes part of attribute names and
/// resource ids: 1 to 32 letters, digits, `-` and `_`, a letter or digit first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn label(name: &str) -> Result<(), Refusal> {
    check(name, 32, "letters, digits, - and _", |c| {
        c.is_ascii_alphanumeric() || c == '-' || c == '_'
    })?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Refusal::First("a letter or a digit"));
    }
    Ok(())
}

/// Checks the name of a network interface as the kernel does (`dev_valid_name`).
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn interface(name: &str) -> Result<(), Refusal> {
    if name == "." || name == ".." {
        return Err(Refusal::First("something other than a dot"));
    }
    check(name, INTERFACE_LIMIT, "all but white space, / and :", |c| {
        c.is_ascii_graphic() && c != '/' && c != ':'
    })
}

/// Checks the name of a port, an interface that virtual IP addresses can be served through: as
/// [`interface`], but not the loopback interface, and no list or pattern written as one name.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn port(name: &str) -> Result<(), Refusal> {
    if name == "lo" {
        return Err(Refusal::Loopback);
    }
    // The kernel allows them; nobody calls an interface so.
    if let Some(c) = name.chars().find(|c| ",;*?[]{}=|\"'\\".contains(*c)) {
        return Err(Refusal::Several(c));
    }
    interface(name)
}

fn check(
    name: &str,
    limit: usize,
    allowed: &'static str,
    good: impl Fn(char) -> bool,
) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Empty);
    }
    if let Some(c) = name.chars().find(|c| !good(*c)) {
        return Err(Refusal::Character(c, allowed));
    }
    if name.len() > limit {
        return Err(Refusal::TooLong(name.len(), limit));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_vserver_name_fits_an_interface_name() {
        let name = "a".repeat(VSERVER_LIMIT);
        assert_eq!(vserver(&name), Ok(()));
        assert_eq!(interface(&format!("b-{name}")), Ok(()));
        assert_eq!(
            vserver(&format!("{name}a")).unwrap_err().to_string(),
            "is 14 characters long; the longest allowed is 13"
        );
    }

    #[test]
    fn a_vserver_name_is_a_host_name() {
        for good in ["a", "alpha", "a-1", "files2"] {
            assert_eq!(vserver(good), Ok(()), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "Alpha", "a_b", "a.b", "ä", "a b"] {
            assert!(vserver(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_one_interface_that_clients_can_be_at() {
        for good in [
            "eth1",
            "eth1.200",
            "bond0",
            "br-lan",
            "enp1s0f0np0",
            "b-lan",
        ] {
            assert_eq!(port(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            (
                "lo",
                "is the node's own loopback interface, where no client is",
            ),
            (
                "eth1,eth2",
                "has ',' in it: name each interface by itself, without patterns",
            ),
            (
                "eth*",
                "has '*' in it: name each interface by itself, without patterns",
            ),
            ("", "is empty"),
            (
                "a/b",
                "has '/' in it; allowed are all but white space, / and :",
            ),
        ] {
            assert_eq!(port(bad).unwrap_err().to_string(), why, "{bad}");
        }
        assert!(port("eth[12]").is_err() && port("eth?").is_err() && port("eth1=office").is_err());
    }

    #[test]
    fn labels_nodes_and_interfaces_keep_to_their_alphabets() {
        assert_eq!(label("array_1-b"), Ok(()));
        assert!(label("a=b").is_err() && label("-a").is_err() && label("").is_err());
        assert_eq!(node("n1.example.com"), Ok(()));
        assert!(node("n 1").is_err() && node(".n1").is_err() && node("").is_err());
        assert_eq!(interface("eth1.200"), Ok(()));
        for bad in ["", "..", "a/b", "a:b", "a b", "abcdefghijklmnop"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
