//! Names that end up in the kernel, in the CIB or in a server's configuration.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a virtual server: its cell's veth is called `b-<name>` on the host, and the kernel
/// allows an interface name 15 bytes (`IFNAMSIZ` less the final zero).
pub(crate) const VSERVER_LIMIT: usize = 13;

/// How the names of the node's ends of cells' interfaces begin.
pub(crate) const CELL_LINK_PREFIX: &str = "b-";

/// Longest name of a network interface. The kernel counts bytes.
pub(crate) const INTERFACE_LIMIT: usize = 15;

/// The node's own loopback interface.
pub(crate) const LOOPBACK: &str = "lo";

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
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

impl std::error::Error for Refusal {}

/// Declares a name: a text that has passed a check. In files and messages it is the plain text, and is checked again
/// when it is read.
macro_rules! names {
    ($($(#[$about:meta])* $name:ident by $check:path;)*) => {$(
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Refusal;

            fn try_from(name: String) -> Result<Self, Refusal> {
                $check(&name)?;
                Ok(Self(name))
            }
        }

        impl FromStr for $name {
            type Err = Refusal;

            fn from_str(name: &str) -> Result<Self, Refusal> {
                name.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        /// A map from names is searched by their text, too: it has the same order and the same hash.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        /// Tests have names that are known to pass.
        #[cfg(test)]
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                name.to_owned().try_into().unwrap()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

names! {
    /// The name of a virtual server: 1 to 13 of `a`–`z`, `0`–`9` and `-`, a letter first, no `-` last.
    VserverName by vserver;
    /// The name of a node of the cluster as Pacemaker may have it: no character is white space, a control character
    /// or `/`.
    NodeName by cluster_node;
    /// The name of a network interface as the kernel allows it: 1 to 15 characters, but for white space, `/` and `:`.
    IfName by kernel_interface;
    /// The name of a subnet, a storage unit or a file system: 1 to 32 letters, digits, `-` and `_`, a letter or digit
    /// first.
    Label by label;
    /// The id of a resource in the CIB, where it is an XML name: no character is white space, a control character or
    /// markup, nor `/`. An instance of a clone has its number behind a colon.
    ResourceId by resource;
}

impl ResourceId {
    /// That of a resource whose agent is called without one.
    pub(crate) fn unnamed() -> Self {
        Self("unnamed".to_owned())
    }
}

impl IfName {
    /// A name that the kernel gives, and has checked. In place of bytes that are not UTF-8 it has U+FFFD, and no
    /// interface is found by it. An empty one can only be an element's that somebody put into a set of berth's.
    pub(crate) fn of_kernel(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Self(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The node's own loopback interface.
    pub(crate) fn loopback() -> Self {
        Self(LOOPBACK.to_owned())
    }

    /// The node's end of the interface of a virtual server's cell.
    pub(crate) fn of_cell(vserver: &VserverName) -> Self {
        Self(format!("{CELL_LINK_PREFIX}{vserver}"))
    }
}

/// Checks the name of a virtual server: 1 to 13 of `a`–`z`, `0`–`9` and `-`, a letter first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
fn vserver(name: &str) -> Result<(), Refusal> {
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

/// Checks the name of a node as berth's file has it, where it becomes part of rules and of ids: 1 to 64 letters, digits,
/// `.`, `-` and `_`, a letter or digit first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn node(name: &str) -> Result<NodeName, Refusal> {
    // HOST_NAME_MAX
    check(name, 64, "letters, digits, ., - and _", |c| {
        c.is_ascii_alphanumeric() || ".-_".contains(c)
    })?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Refusal::First("a letter or a digit"));
    }
    name.parse()
}

/// Checks the name of a node that the cluster gives: Pacemaker and Corosync allow almost anything, and such a node takes
/// part, too. But what would tear apart a line, a list or a path is no name.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
fn cluster_node(name: &str) -> Result<(), Refusal> {
    let allowed = "all but white space, control characters and /";
    check(name, usize::MAX, allowed, |c| {
        !c.is_whitespace() && !c.is_control() && c != '/'
    })
}

/// Checks the name of a subnet, storage unit or file system, which becomes part of attribute names and
/// resource ids: 1 to 32 letters, digits, `-` and `_`, a letter or digit first.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
fn label(name: &str) -> Result<(), Refusal> {
    check(name, 32, "letters, digits, - and _", |c| {
        c.is_ascii_alphanumeric() || c == '-' || c == '_'
    })?;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Refusal::First("a letter or a digit"));
    }
    Ok(())
}

/// Checks the name of a network interface as a parameter has it: of ASCII characters that can be seen.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn interface(name: &str) -> Result<IfName, Refusal> {
    check(name, INTERFACE_LIMIT, INTERFACE_CHARACTERS, |c| {
        c.is_ascii_graphic() && c != '/' && c != ':'
    })?;
    name.parse()
}

const INTERFACE_CHARACTERS: &str = "all but white space, / and :";

/// Checks the name of a network interface as the kernel does (`dev_valid_name`), but counts characters: one of 15 bytes
/// that are not UTF-8 has more with [`IfName::of_kernel`].
///
/// # Errors
/// What is wrong; its text completes "the name … ".
fn kernel_interface(name: &str) -> Result<(), Refusal> {
    if name == "." || name == ".." {
        return Err(Refusal::First("something other than a dot"));
    }
    check(name, usize::MAX, INTERFACE_CHARACTERS, |c| {
        !matches!(c, '\0' | '\t'..='\r' | ' ' | '/' | ':')
    })?;
    match name.chars().count() {
        ..=INTERFACE_LIMIT => Ok(()),
        length => Err(Refusal::TooLong(length, INTERFACE_LIMIT)),
    }
}

/// Checks the name of a port, an interface that virtual IP addresses can be served through: as
/// [`interface`], but not the loopback interface, and no list or pattern written as one name.
///
/// # Errors
/// What is wrong; its text completes "the name … ".
pub(crate) fn port(name: &str) -> Result<IfName, Refusal> {
    if name == LOOPBACK {
        return Err(Refusal::Loopback);
    }
    // The kernel allows them; nobody calls an interface so.
    if let Some(c) = name.chars().find(|c| ",;*?[]{}=|\"'\\".contains(*c)) {
        return Err(Refusal::Several(c));
    }
    interface(name)
}

/// Checks the id of a resource.
fn resource(id: &str) -> Result<(), Refusal> {
    let allowed = "all but white space, control characters, / and XML's markup";
    if id == "." || id == ".." {
        return Err(Refusal::First("something other than a dot"));
    }
    // The CIB sets no limit.
    check(id, usize::MAX, allowed, |c| {
        !c.is_whitespace() && !c.is_control() && !"/<>&\"'".contains(c)
    })
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
        let link = IfName::of_cell(&name.parse().unwrap());
        assert_eq!(interface(&link), Ok(link));
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
            assert_eq!(port(good).unwrap(), good, "{good}");
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
    fn whatever_the_kernel_calls_an_interface_can_be_written_and_read() {
        // The last one is longer as text than the kernel allows.
        let names: [&[u8]; 4] = [b"eth0\0junk", b"a\x01\x7f", "bür0".as_bytes(), &[0xe9; 15]];
        for bytes in names {
            let name = IfName::of_kernel(bytes);
            let text = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<IfName>(&text).unwrap(), name);
        }
        assert_eq!(IfName::of_kernel(b"eth0\0junk"), "eth0");
        assert_eq!(IfName::of_kernel(&[0xe9, b'0']), "\u{fffd}0");
        // A parameter names none of them.
        assert!(interface("bür0").is_err() && port("a\x01").is_err());
    }

    #[test]
    fn a_name_is_plain_text_outside_and_is_checked_where_it_is_read() {
        let name: VserverName = serde_json::from_str(r#""alpha""#).unwrap();
        assert_eq!(name, "alpha");
        assert_eq!(serde_json::to_string(&name).unwrap(), r#""alpha""#);
        let refused = serde_json::from_str::<VserverName>(r#""../alpha""#).unwrap_err();
        let why = "has '.' in it; allowed are a-z, 0-9 and -";
        assert_eq!(refused.to_string(), why);
    }

    #[test]
    fn a_resource_has_the_id_that_xml_allows_and_its_clone_a_number() {
        for good in ["alpha-ip1", "portwatch:0", "_r.1", "büro"] {
            assert_eq!(resource(good), Ok(()), "{good}");
        }
        for bad in ["", "..", "a b", "a/b", "a\"b", "a\nb", "<a"] {
            assert!(resource(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_of_the_cluster_may_have_a_name_that_the_file_refuses() {
        for odd in ["-n1", "n1=a,b", "knoten:1", "büro", &"n".repeat(65)] {
            assert!(node(odd).is_err(), "{odd}");
            assert_eq!(odd.parse::<NodeName>().unwrap(), odd);
        }
        for bad in ["", "n 1", "n1\n", "../n1"] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_nodes_and_interfaces_keep_to_their_alphabets() {
        assert_eq!(label("array_1-b"), Ok(()));
        assert!(label("a=b").is_err() && label("-a").is_err() && label("").is_err());
        assert_eq!(node("n1.example.com").unwrap(), "n1.example.com");
        assert!(node("n 1").is_err() && node(".n1").is_err() && node("").is_err());
        assert_eq!(interface("eth1.200").unwrap(), "eth1.200");
        for bad in ["", "..", "a/b", "a:b", "a b", "abcdefghijklmnop"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
