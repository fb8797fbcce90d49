//! The parameters of `ocf:berth:portwatch`.

use super::{Integer, Parameter, Time};

/// The node's ports.
pub(crate) const PORTS: Parameter = Parameter::text(
    "ports",
    "Ports",
    "The node's network interfaces for clients, each with the name of the subnet that it is on, separated by spaces: eth1=office eth2=office eth3=lab. One that the node does not have counts as failed, and so does one that is part of a bond or a bridge: name that. Default: the interfaces with an address in one of the subnets.",
)
.node_bound()
.reloadable();

/// The subnets.
pub(crate) const SUBNETS: Parameter = Parameter::text(
    "subnets",
    "Subnets",
    "The subnets that clients sit on: a name, a network, and after a comma the gateway out of it, if there is one, such as office=10.1.0.0/24,10.1.0.254 office=fd00:1::/64 lab=10.2.0.0/24. The gateways are targets too.",
)
.reloadable();

/// Who is asked besides gateways and the other nodes.
pub(crate) const TARGETS: Parameter = Parameter::text(
    "targets",
    "Targets",
    "IP addresses in the subnets that are asked for, by ARP or neighbour discovery, to prove that a port forwards; besides the gateways and the other nodes' addresses. A port has failed when none of its subnet's targets answers through it.",
)
.reloadable();

/// From question to question.
pub const INTERVAL: Parameter<Time> = Parameter::time(
    "interval",
    Time::new(("20ms", "10s"), "200ms"),
    "Time between two questions",
    "How often each port has to prove that it forwards, 20ms to 10s.",
)
.reloadable();

/// Silent intervals until a port has failed.
pub const FAIL_AFTER: Parameter<Integer> = Parameter::integer(
    "fail_after",
    (2..=100, "3"),
    "Silent intervals until a port has failed",
    "So many intervals after the last answer a port has failed. A lost carrier counts at once.",
)
.reloadable();

/// Time until a port that failed is used again.
pub const RECOVER_AFTER: Parameter<Time> = Parameter::time(
    "recover_after",
    Time::new(("0s", "1h"), "30s"),
    "Time until a port is good again",
    "How long a port that has failed must work before it is used again, unless no other does; a switch that has just come up may take its links long before it forwards. 0s to 1h.",
)
.reloadable();

/// [`RECOVER_AFTER`] where it is a number, of seconds.
pub(crate) const RECOVER_AFTER_SECONDS: Integer = RECOVER_AFTER.content.seconds();

/// Difference in load that is evened out, percent.
pub const BALANCE: Parameter<Integer> = Parameter::integer(
    "balance",
    (0..=100, "20"),
    "Difference in load that is evened out",
    "When two good ports of a subnet differ in their load by more than so many percent of their speed for as long as recover_after, and at least five seconds, an address is moved from one to the other. 0: never.",
)
.reloadable();
