//! Subnets, nodes and how their ports are watched.

use super::key::{Section, key, number, set};
use crate::spec::portwatch;

/// A network.
pub(crate) static SUBNET: Section = Section {
    head: "[subnets.NAME]",
    text: "A network that clients sit on. At least one of cidr and cidr6 is needed.",
    keys: &[
        key("cidr", "IPv4 network", "Such as \"10.1.0.0/24\"."),
        key(
            "gateway",
            "IPv4 address",
            "The router of this network; without it, answers stay in the network.",
        ),
        key("cidr6", "IPv6 network", "Such as \"fd00:1::/64\"."),
        key(
            "gateway6",
            "IPv6 address",
            "The router for IPv6: an address in the network, or the router's link-local one, such as \"fe80::1\".",
        ),
        key(
            "targets",
            "list of addresses",
            "Hosts in this network that answer as long as it works, to be probed besides its router and the other nodes.",
        ),
    ],
};

/// A node.
pub(crate) static NODE: Section = Section {
    head: "[nodes.NAME]",
    text: "A node of the cluster. NAME is its name in Pacemaker (crm_node -n), in quotes if it has dots. In a cluster with symmetric-cluster=false virtual servers run on these nodes and on those that location constraints of others allow them, and nowhere else.",
    keys: &[key(
        "ports",
        "table",
        "Network interface = subnet, for each port that serves clients. Without ports, a VIP uses those that have an address in its network, and is not rerouted.",
    )],
};

/// The watch over the ports.
pub(crate) static PORTWATCH: Section = Section {
    head: "[portwatch]",
    text: "How the nodes' ports are watched. The table may be left out; without ports in a node's table nothing is watched.",
    keys: &[
        set(
            portwatch::INTERVAL.any(),
            "{least} to {most}",
            "Time from one probe of a port to the next. Default {default}.",
        ),
        set(
            portwatch::FAIL_AFTER.any(),
            "{least} to {most}",
            "Intervals without any answer until a port has failed. Default {default}.",
        ),
        number(
            portwatch::RECOVER_AFTER.name,
            portwatch::RECOVER_AFTER_SECONDS,
            "{least} to {most} seconds",
            "How long a failed port has to be good again before it is used. Default {default}.",
        ),
        set(
            portwatch::BALANCE.any(),
            "{least} to {most}",
            "Difference in load between two ports of a subnet, in percent of a port's speed, from which an address is moved from one to the other when it has lasted for recover_after, and at least 5 seconds. 0 = never. Default {default}.",
        ),
    ],
};
