//! Values that end up in a server's configuration. Each is checked when it is made, also when it comes
//! from another process, so that rendering can trust it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// Who may mount an export: an address, a network in CIDR notation, or `*` for anybody.
///
/// Its text is one that NFS-Ganesha takes. Tried with 4.3 and 6.5, whose scanner
/// (src/config_parsing/conf_lex.l) knows no network of 0 bits, and of IPv6 none of more than 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Client {
    /// Anybody.
    Any,
    /// The hosts of this network.
    Network(IpNetwork),
}

/// The longest prefix of an IPv6 network that NFS-Ganesha takes; one host is an address, not a network.
const LONGEST_V6_PREFIX: u8 = 99;

impl FromStr for Client {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "*" {
            return Ok(Self::Any);
        }
        let network: IpNetwork = s.parse().map_err(|_| {
            format!("\"{s}\" is no NFS client: an address, a network such as 10.1.0.0/24, or *")
        })?;
        if network.network() != network.ip() {
            return Err(format!(
                "\"{s}\" is no network: host bits are set; {}/{} is meant",
                network.network(),
                network.prefix()
            ));
        }
        match unmapped(network) {
            network if network.prefix() == 0 => Ok(Self::Any),
            network if network.ip().is_unspecified() && is_host(network) => Err(format!(
                "\"{s}\" is no client's address; * means all clients"
            )),
            network if network.is_ipv6() && !is_host(network) && too_small(network) => {
                Err(format!(
                    "\"{s}\" is a network that NFS-Ganesha does not take: of IPv6 it takes those of up \
                     to {LONGEST_V6_PREFIX} bits, and single addresses"
                ))
            }
            network => Ok(Self::Network(network)),
        }
    }
}

/// A network of IPv4 hosts written as one of IPv6 (RFC 4291, 2.5.5.2) as what it is: they come by IPv4.
fn unmapped(network: IpNetwork) -> IpNetwork {
    let (IpAddr::V6(address), Some(bits)) = (network.ip(), network.prefix().checked_sub(96)) else {
        return network;
    };
    address
        .to_ipv4_mapped()
        .and_then(|address| IpNetwork::new(address.into(), bits).ok())
        .unwrap_or(network)
}

fn is_host(network: IpNetwork) -> bool {
    network.prefix() == if network.is_ipv4() { 32 } else { 128 }
}

fn too_small(network: IpNetwork) -> bool {
    network.prefix() > LONGEST_V6_PREFIX
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Network(host) if host.is_ipv6() && is_host(*host) => host.ip().fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// What NFS clients may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Read.
    Ro,
    /// Read and write.
    #[default]
    Rw,
}

impl FromStr for Access {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "ro" => Ok(Self::Ro),
            "rw" => Ok(Self::Rw),
            _ => Err(format!("\"{s}\" is no access: ro or rw")),
        }
    }
}

/// Whose rights NFS clients have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Squash {
    /// Users are who they say; root is nobody.
    #[default]
    Root,
    /// Everybody is nobody.
    All,
    /// Users are who they say, root included.
    None,
}

impl FromStr for Squash {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "root" => Ok(Self::Root),
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => Err(format!("\"{s}\" is no squash: root, all or none")),
        }
    }
}

/// From which ports of their own NFS clients may come. With `sec=sys` a server believes a client who its users
/// are: only the port tells a client's kernel from any user of it, whom the kernel lets have none below 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ports {
    /// Those below 1024, which take root's rights on the client.
    #[default]
    Privileged,
    /// All: for clients behind an address translation, which gives them other ones.
    Any,
}

impl Ports {
    /// Whether it is what a message that says nothing of it means.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "privileged" => Ok(Self::Privileged),
            "any" => Ok(Self::Any),
            _ => Err(format!("\"{s}\" is none of privileged, any")),
        }
    }
}

/// A share's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShareName(String);

impl ShareName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names that mean something else to Samba or to SMB clients.
const RESERVED_SHARES: [&str; 10] = [
    "global", "globals", "homes", "printers", "printcap", "print$", "ipc$", "admin$", "netlogon",
    "sysvol",
];

/// A name as Samba compares names of sections with those that it knows (`strwicmp` in
/// lib/util/util_str.c): whatever its case and its blanks.
fn as_samba_compares(name: &str) -> String {
    let letters = name.chars().filter(|c| !c.is_whitespace());
    letters.collect::<String>().to_lowercase()
}

impl FromStr for ShareName {
    type Err = String;

    /// 1 to 80 characters (MS-SRVS 2.2.4.23: NNLEN), none that ends a section header or a line. Samba makes
    /// one blank of several (lib/util/params.c), and so is it here: two names that it takes for one are one.
    fn from_str(s: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_alphanumeric() || " ._-+$".contains(c);
        if s.is_empty() || s.chars().count() > 80 || s.trim() != s || !s.chars().all(allowed) {
            return Err(format!(
                "{s:?} is no share name: 1 to 80 letters, digits, inner spaces and . _ - + $"
            ));
        }
        if RESERVED_SHARES.contains(&as_samba_compares(s).as_str()) {
            return Err(format!(
                "{s:?} is no share name: it has a meaning of its own in SMB"
            ));
        }
        let words: Vec<&str> = s.split(' ').filter(|word| !word.is_empty()).collect();
        Ok(Self(words.join(" ")))
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user, or with `@` before the name a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct User(String);

impl FromStr for User {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let name = s.strip_prefix('@').unwrap_or(s);
        let allowed = |c: char| c.is_alphanumeric() || "._-".contains(c);
        if name.is_empty()
            || name.chars().count() > 64
            || name.starts_with('-')
            || !name.chars().all(allowed)
        {
            return Err(format!(
                "{s:?} is no user or @group: 1 to 64 letters, digits and . _ -"
            ));
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Conversions that serde uses: each value is checked again wherever it arrives.
macro_rules! through_text {
    ($($kind:ty),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(s: String) -> Result<Self, String> {
                s.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        }
    )*};
}

through_text!(Client, ShareName, User);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fscheck::{NFS_ACCESS, NFS_PORTS, NFS_SQUASH};

    #[test]
    fn what_a_message_leaves_out_is_what_the_agent_takes_by_default() {
        let access = NFS_ACCESS.default.map(str::parse);
        assert_eq!(access, Some(Ok(Access::default())));
        let squash = NFS_SQUASH.default.map(str::parse);
        assert_eq!(squash, Some(Ok(Squash::default())));
        let ports = NFS_PORTS.default.map(str::parse);
        assert_eq!(ports, Some(Ok(Ports::default())));
    }

    #[test]
    fn clients_are_addresses_networks_or_anybody() {
        for (text, shown) in [
            ("*", "*"),
            ("10.1.0.0/24", "10.1.0.0/24"),
            ("10.1.0.7", "10.1.0.7/32"),
            ("10.1.0.7/32", "10.1.0.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("0.0.0.0/0", "*"),
            ("::/0", "*"),
            ("128.0.0.0/1", "128.0.0.0/1"),
            ("2001:db8::7", "2001:db8::7"),
            ("::1/128", "::1"),
            ("fd00:1:2:3:4:5:6:7", "fd00:1:2:3:4:5:6:7"),
            ("64:ff9b::/96", "64:ff9b::/96"),
            ("::ffff:10.1.0.0/120", "10.1.0.0/24"),
            ("::ffff:10.1.0.7", "10.1.0.7/32"),
            ("::ffff:0:0/96", "*"),
        ] {
            let client = text.parse::<Client>().unwrap();
            assert_eq!(client.to_string(), shown);
            assert_eq!(shown.parse::<Client>(), Ok(client), "{shown}");
        }
        for wrong in [
            "",
            "host",
            "@group",
            "10.1.0.0/33",
            "10.1.0.0/24; Access = RW",
            "0.0.0.0",
            "::",
            "2001:db8::/112",
            "2001:db8::8/125",
            "2001:db8::/100",
        ] {
            assert!(wrong.parse::<Client>().is_err(), "{wrong}");
        }
        let error = "10.1.0.7/24".parse::<Client>().unwrap_err();
        assert!(error.contains("10.1.0.0/24 is meant"), "{error}");
    }

    #[test]
    fn share_names_that_could_break_the_file_or_mean_something_else_are_refused() {
        for good in ["data", "Été 2024", "hidden$", "a.b_c-d"] {
            assert!(good.parse::<ShareName>().is_ok(), "{good}");
        }
        let long = "x".repeat(81);
        for wrong in [
            "", " data", "a]b", "a\nb", "a/b", "a\"b", "%u", "Global", "globals", "Glo Bals",
            "ho mes", "IPC$", "SysVol", "printcap", &long,
        ] {
            assert!(wrong.parse::<ShareName>().is_err(), "{wrong}");
        }
        assert_eq!(
            "my  own   data".parse::<ShareName>().unwrap().as_str(),
            "my own data"
        );
    }

    #[test]
    fn users_are_plain_names() {
        for good in ["anna", "@staff", "svc-backup", "a.b"] {
            assert!(good.parse::<User>().is_ok(), "{good}");
        }
        for wrong in ["", "@", "-x", "a b", "a,b", "DOM\\a", "a\nb", "&x"] {
            assert!(wrong.parse::<User>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_from_another_process_are_checked_too() {
        assert!(serde_json::from_str::<ShareName>("\"a]b\"").is_err());
        assert!(serde_json::from_str::<User>("\"a b\"").is_err());
        assert!(serde_json::from_str::<Client>("\"nonsense\"").is_err());
        let name: ShareName = serde_json::from_str("\"data\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"data\"");
    }
}
