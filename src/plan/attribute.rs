//! The node attributes of berth: by them nodes inform each other, and the cluster's rules decide.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::types::{Label, NodeName, VserverName};

/// How long the cluster waits for the same change on other nodes: a loss that all nodes see, one after another, must
/// not look for a moment like the first one's alone.
const DAMPENING: Duration = Duration::from_secs(1);

/// The values of an attribute, by the nodes that give them.
pub(crate) type Values = BTreeMap<NodeName, String>;

/// A node attribute of berth.
///
/// The order is that of the names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) enum Attribute {
    /// The node's addresses on this subnet, separated by commas: one of each family.
    Addr(Label),
    /// Defined on the node that has this virtual server's cell.
    Cell(VserverName),
    /// Whether targets on this subnet reply to the node: 0 or 1.
    Heard(Label),
    /// The Ethernet addresses of the node's ports, separated by commas.
    Macs,
    /// Whether the node has a good port on this subnet: 0 or 1.
    Net(Label),
    /// Defined on a node that can't reach this virtual server.
    NoPath(VserverName),
    /// The score by which this virtual server prefers the node.
    Place(VserverName),
    /// The number of the node's good ports.
    Ports,
    /// The node's claims: the VIPs that it routes to the node of this name.
    Router(NodeName),
    /// How much room the node has to route for others: 0 to 40.
    Spare,
    /// Whether the node has access to this storage unit: 0 or 1.
    Storage(Label),
}

/// Who reads an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The scheduler, too: a change makes it compute the placement of resources anew.
    Scheduler,
    /// Other nodes only: the attribute is private, and never written to the CIB.
    Nodes,
}

impl Attribute {
    /// The attribute's name in the cluster.
    pub(crate) fn name(&self) -> String {
        self.to_string()
    }

    /// The attribute of this name, if it is one of berth's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let name = name.strip_prefix("berth-")?;
        match name {
            "macs" => return Some(Self::Macs),
            "ports" => return Some(Self::Ports),
            "spare" => return Some(Self::Spare),
            _ => {}
        }
        let (kind, of) = name.split_once('-')?;
        match kind {
            "addr" => of.parse().ok().map(Self::Addr),
            "cell" => of.parse().ok().map(Self::Cell),
            "heard" => of.parse().ok().map(Self::Heard),
            "net" => of.parse().ok().map(Self::Net),
            "nopath" => of.parse().ok().map(Self::NoPath),
            "place" => of.parse().ok().map(Self::Place),
            "router" => of.parse().ok().map(Self::Router),
            "storage" => of.parse().ok().map(Self::Storage),
            _ => None,
        }
    }

    /// Who reads the attribute.
    pub(crate) const fn audience(&self) -> Audience {
        match self {
            Self::Cell(_) | Self::Heard(_) | Self::Macs | Self::Router(_) => Audience::Nodes,
            Self::Addr(_)
            | Self::Net(_)
            | Self::NoPath(_)
            | Self::Place(_)
            | Self::Ports
            | Self::Spare
            | Self::Storage(_) => Audience::Scheduler,
        }
    }

    /// Whether the attribute is private: the cluster never writes it to the CIB.
    pub(crate) fn is_private(&self) -> bool {
        self.audience() == Audience::Nodes
    }

    /// How long the cluster waits for other nodes' changes before it writes one. The first value of an attribute is
    /// written at once.
    pub(crate) const fn dampening(&self) -> Duration {
        match self {
            Self::Ports | Self::Storage(_) => DAMPENING,
            _ => Duration::ZERO,
        }
    }
}

// Rules of the cluster go by these attributes: of names in berth's file, which may still be wrong ones.

/// What [`Attribute::Net`] of this subnet is called.
pub(crate) fn net(subnet: &str) -> String {
    format!("berth-net-{subnet}")
}

/// What [`Attribute::NoPath`] of this virtual server is called.
pub(crate) fn no_path(vserver: &str) -> String {
    format!("berth-nopath-{vserver}")
}

/// What [`Attribute::Place`] of this virtual server is called.
pub(crate) fn place(vserver: &str) -> String {
    format!("berth-place-{vserver}")
}

/// What [`Attribute::Storage`] of this unit is called.
pub(crate) fn storage(unit: &str) -> String {
    format!("berth-storage-{unit}")
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(subnet) => write!(f, "berth-addr-{subnet}"),
            Self::Cell(vserver) => write!(f, "berth-cell-{vserver}"),
            Self::Heard(subnet) => write!(f, "berth-heard-{subnet}"),
            Self::Macs => f.write_str("berth-macs"),
            Self::Net(subnet) => f.write_str(&net(subnet)),
            Self::NoPath(vserver) => f.write_str(&no_path(vserver)),
            Self::Place(vserver) => f.write_str(&place(vserver)),
            Self::Ports => f.write_str("berth-ports"),
            Self::Router(node) => write!(f, "berth-router-{node}"),
            Self::Spare => f.write_str("berth-spare"),
            Self::Storage(unit) => f.write_str(&storage(unit)),
        }
    }
}

impl From<Attribute> for String {
    fn from(attribute: Attribute) -> Self {
        attribute.name()
    }
}

impl TryFrom<String> for Attribute {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| format!("{name} is no attribute of berth's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Attribute> {
        vec![
            Attribute::Addr("a-b".into()),
            Attribute::Cell("a-b".into()),
            Attribute::Heard("a-b".into()),
            Attribute::Macs,
            Attribute::Net("a-b".into()),
            Attribute::NoPath("a-b".into()),
            Attribute::Place("a-b".into()),
            Attribute::Ports,
            Attribute::Router("a-b.c".into()),
            Attribute::Spare,
            Attribute::Storage("a-b".into()),
        ]
    }

    #[test]
    fn a_name_is_read_as_it_is_written_and_names_are_in_order() {
        for attribute in all() {
            let name = attribute.name();
            assert_eq!(Attribute::parse(&name).as_ref(), Some(&attribute));
            let json = serde_json::to_string(&attribute).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Attribute>(&json).unwrap(), attribute);
        }
        let names: Vec<String> = all().iter().map(Attribute::name).collect();
        assert!(names.is_sorted() && all().is_sorted(), "{names:?}");
    }

    #[test]
    fn what_is_no_attribute_of_berth_is_not_read_as_one() {
        for name in [
            "",
            "ports",
            "berth-",
            "berth-port",
            "berth-ports-",
            "berth-ports-a",
            "berth-net",
            "berth-net-",
            "berth-home",
            "berth-later-a",
            "Berth-ports",
        ] {
            assert_eq!(Attribute::parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_moves_servers_waits_for_other_nodes() {
        let dampened: Vec<Attribute> = all()
            .into_iter()
            .filter(|attribute| !attribute.dampening().is_zero())
            .collect();
        assert_eq!(
            dampened,
            [Attribute::Ports, Attribute::Storage("a-b".into())]
        );
        assert!(dampened.iter().all(|attribute| !attribute.is_private()));
    }
}
