//! Resources and constraints as data, as every rendering and the comparison with a live cluster use
//! them.

use std::fmt;

use super::ids;
use crate::cluster::allowance::Allowance;

/// The resources and constraints that the cluster is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Resources, in the order of the file.
    pub resources: Vec<Resource>,
    /// Constraints.
    pub constraints: Vec<Constraint>,
}

/// Which agents and abilities exist, so that rules may rely on them.
///
/// A rule on an attribute that nobody writes is never true: an address that is rewarded nowhere would
/// start anywhere, and a placement would follow nothing. So each is rendered only with its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// `portwatch` publishes ports and subnets as node attributes.
    pub portwatch: bool,
    /// It publishes storage units, too; needs `portwatch`.
    pub storage: bool,
    /// `rebalance` publishes placements.
    pub rebalance: bool,
    /// `vip` serves an address on another node than its virtual server's; needs `portwatch`.
    pub detour: bool,
}

impl Model {
    /// Whether a resource can't run while another one does not.
    pub(crate) fn needs(&self, resource: &str, other: &str) -> bool {
        self.constraints
            .iter()
            .any(|constraint| match &constraint.kind {
                Kind::Colocation {
                    resource: follower,
                    with,
                    score: Score::Always,
                } => follower == resource && with == other,
                Kind::Order {
                    first,
                    then,
                    mandatory: true,
                } => then == resource && first == other,
                Kind::Location { .. }
                | Kind::Colocation { .. }
                | Kind::Order { .. }
                | Kind::Tiers { .. } => false,
            })
    }

    /// Has every resource run on these nodes, where `others` allow it, and nowhere else, for a cluster where none
    /// may run anywhere unless it is allowed to: a reward for a state that any node can be in allows others too.
    /// Nothing is forbidden to a resource of which only the cluster knows what others allow it.
    pub fn allow_on<'o>(
        &mut self,
        nodes: &[impl AsRef<str>],
        others: impl Fn(&Resource) -> &'o Allowance,
    ) {
        for resource in &self.resources {
            let mut location = |purpose: &str, score, conditions| {
                self.constraints.push(Constraint {
                    id: ids::constraint(purpose, &resource.id),
                    kind: Kind::Location {
                        resource: resource.reference(),
                        reward: Reward::Score(score),
                        conditions,
                    },
                });
            };
            for node in nodes.iter().map(AsRef::as_ref) {
                let here = vec![Condition::NodeIs(node.to_owned())];
                location(&format!("on-{node}"), Score::Points(0), here);
            }
            if let Allowance::Nodes(more) = others(resource) {
                let own = nodes.iter().map(AsRef::as_ref);
                let more = more.iter().map(String::as_str);
                let more = more.filter(|more| !nodes.iter().any(|n| n.as_ref() == *more));
                let elsewhere = own.chain(more).map(|n| Condition::NodeIsNot(n.to_owned()));
                location("elsewhere", Score::Never, elsewhere.collect());
            }
        }
    }

    /// The ids of all resources, inside of their clones.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|resource| resource.id.as_str())
    }
}

impl Features {
    /// What this version of berth has.
    pub const CURRENT: Self = Self {
        portwatch: true,
        storage: false,
        rebalance: false,
        detour: true,
    };
    /// Everything that the design has.
    pub const ALL: Self = Self {
        portwatch: true,
        storage: true,
        rebalance: true,
        detour: true,
    };
}

/// An agent of berth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// Ports, subnets and storage units of a node.
    Portwatch,
    /// Distribution over the nodes.
    Rebalance,
    /// A file system.
    Fscheck,
    /// The servers.
    Vserver,
    /// An address.
    Vip,
}

impl Agent {
    /// Its name below `ocf:berth:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portwatch => "portwatch",
            Self::Rebalance => "rebalance",
            Self::Fscheck => "fscheck",
            Self::Vserver => "vserver",
            Self::Vip => "vip",
        }
    }
}

/// The meta attribute that names the node on which a virtual server is to stay: changing it moves the
/// virtual server.
pub(crate) const HOME: &str = "berth-home";

/// Name and value.
pub type Pair = (&'static str, String);

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: String,
    /// Its agent.
    pub agent: Agent,
    /// Whether it runs on every node, as the clone `<id>-clone`.
    pub cloned: bool,
    /// Parameters of the agent.
    pub params: Vec<Pair>,
    /// Further parameters that it has on single nodes only, by the nodes' names.
    pub node_params: Vec<(String, Vec<Pair>)>,
    /// Meta attributes.
    pub(crate) meta: Vec<Pair>,
    /// Operations.
    pub(crate) operations: Vec<Operation>,
}

impl Resource {
    /// The id by which constraints refer to it.
    pub fn reference(&self) -> String {
        if self.cloned {
            format!("{}-clone", self.id)
        } else {
            self.id.clone()
        }
    }

    /// The value of a meta attribute.
    pub fn meta(&self, name: &str) -> Option<&str> {
        let pair = self.meta.iter().find(|(n, _)| *n == name);
        pair.map(|(_, value)| value.as_str())
    }
}

/// An operation of a resource; times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// `start`, `stop` or `monitor`.
    pub(crate) name: &'static str,
    /// Time from one to the next; 0 if it does not recur.
    pub(crate) interval: u32,
    /// Time it may take.
    pub(crate) timeout: u32,
    /// `OCF_CHECK_LEVEL`, if not 0.
    pub(crate) depth: u32,
}

/// A preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// Must not.
    Never,
    /// So many points.
    Points(u32),
    /// Must.
    Always,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("-INFINITY"),
            Self::Points(points) => write!(f, "{points}"),
            Self::Always => f.write_str("INFINITY"),
        }
    }
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its id, with the prefix of [`super::ids::OWNERSHIP`].
    pub(crate) id: String,
    /// What it demands.
    pub kind: Kind,
}

/// What a constraint demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A preference for the nodes on which all conditions hold.
    Location {
        /// The resource placed.
        resource: String,
        /// How strongly.
        reward: Reward,
        /// All of them must hold.
        conditions: Vec<Condition>,
    },
    /// `resource` where `with` is.
    Colocation {
        /// The one that follows.
        resource: String,
        /// The one followed.
        with: String,
        /// How strongly.
        score: Score,
    },
    /// `first` starts before `then`, and stops after it.
    Order {
        /// Starts first.
        first: String,
        /// Starts afterwards.
        then: String,
        /// Whether `then` can't be without `first`.
        mandatory: bool,
    },
    /// When some of both start at once, all of `first` start before any of `then`; stopping is free.
    Tiers {
        /// Start first.
        first: Vec<String>,
        /// Start afterwards.
        then: Vec<String>,
    },
}

/// How strong a location preference is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reward {
    /// A fixed score.
    Score(Score),
    /// The value of this node attribute.
    Attribute(String),
}

/// A condition on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The attribute is this number.
    Is(String, u32),
    /// The attribute is another number, or is not there.
    IsNot(String, u32),
    /// The attribute is there.
    Defined(String),
    /// The attribute is not there.
    NotDefined(String),
    /// The node is this one.
    NodeIs(String),
    /// The node is another one.
    NodeIsNot(String),
    /// The node is the designated controller.
    IsController,
    /// The node is not the one that the resource's own meta attribute [`HOME`] names.
    NotHome,
}
