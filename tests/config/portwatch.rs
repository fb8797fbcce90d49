//! What placement makes of the attributes that portwatch publishes, or does not.

use berth::config::model::Features;

use crate::simulation::{
    NODES, applied, changes, published, simulate, started, started_with, three_servers,
    with_fatal_starts,
};

/// Three virtual servers on nodes that have a port each.
fn watched() -> String {
    let nodes = NODES.map(|n| format!("[nodes.{n}]\nports = {{ eth1 = \"a\" }}\n"));
    three_servers() + &nodes.concat()
}

/// `berth-ports` of each node, in their order.
fn ports(numbers: [u32; 3]) -> Vec<(&'static str, &'static str, u32)> {
    let each = NODES.into_iter().zip(numbers);
    each.map(|(node, n)| (node, "berth-ports", n)).collect()
}

/// 0 on this node, 2 on the others.
fn lost_on(node: &str) -> [u32; 3] {
    NODES.map(|n| if n == node { 0 } else { 2 })
}

#[test]
#[ignore = "needs pacemaker"]
fn a_node_without_a_good_port_is_left_by_its_servers_and_only_by_them() {
    let first = started(&watched());
    let node = first.place("high").to_owned();
    let moved = simulate(&published(&first.after, &ports(lost_on(&node))), &[]);
    for (id, before) in &first.places {
        let after = moved.place(id);
        if before == &node {
            assert!(after != "nowhere" && after != node, "{id} is {after}");
        } else {
            assert_eq!(after, before, "{id}");
        }
    }
    for part in ["home", "data", "ip1", "ip2"] {
        assert_eq!(moved.place(&format!("high-{part}")), moved.place("high"));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn where_no_node_has_a_good_port_nothing_stops() {
    let first = started(&watched());
    let lost = simulate(&published(&first.after, &ports([0, 0, 0])), &[]);
    assert_eq!(changes(&lost), [""; 0]);
}

#[test]
#[ignore = "needs pacemaker"]
fn what_is_not_published_moves_nothing() {
    let first = started(&watched());
    assert!(
        ["low", "mid", "high"]
            .iter()
            .all(|s| first.place(s) != "nowhere")
    );
    assert_eq!(changes(&simulate(&first.after, &[])), [""; 0]);
    // Each node as the first and as the last of which something is known.
    for node in NODES {
        let good = |on: bool| {
            let chosen = NODES.into_iter().filter(|n| (*n == node) == on);
            chosen.map(|n| (n, "berth-ports", 2)).collect::<Vec<_>>()
        };
        for on in [true, false] {
            let known = simulate(&published(&first.after, &good(on)), &[]);
            assert_eq!(changes(&known), [""; 0], "{node} {on}");
        }
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_follows_the_subnet_of_an_address_that_is_to_migrate() {
    let vip = r#"{ ip = "10.1.0.11", on_subnet_loss = "migrate" }"#;
    let toml = watched().replace(r#""10.1.0.11""#, vip);
    let first = started(&toml);
    let node = first.place("high").to_owned();
    let nets = |numbers: [u32; 3]| {
        let each = NODES.into_iter().zip(numbers);
        each.map(|(n, v)| (n, "berth-net-a", v)).collect::<Vec<_>>()
    };
    let lost = lost_on(&node).map(|n| n.min(1));
    let moved = simulate(&published(&first.after, &nets(lost)), &[]);
    assert_ne!(moved.place("high"), node);
    assert_eq!(moved.place("high-ip1"), moved.place("high"));
    let nowhere = simulate(&published(&first.after, &nets([0, 0, 0])), &[]);
    assert_eq!(changes(&nowhere), [""; 0]);
}

#[test]
#[ignore = "needs pacemaker"]
fn adding_portwatch_to_a_running_cluster_starts_only_portwatch() {
    let without = Features {
        portwatch: false,
        ..Features::CURRENT
    };
    let before = started_with(&watched(), without);
    let watching = simulate(&applied(&before.after, &watched()), &[]);
    let changes = changes(&watching);
    assert_eq!(changes.len(), 3, "{changes:?}");
    for node in NODES {
        let start =
            |a: &&str| a.starts_with("portwatch") && a.ends_with(&format!("start on {node}"));
        assert!(changes.iter().any(start), "{node}: {changes:?}");
    }
    assert_eq!(watching.places, before.places);
}

#[test]
#[ignore = "needs pacemaker"]
fn portwatch_is_there_before_what_depends_on_its_attributes() {
    let first = started(&watched());
    let starts = |a: &String| a.starts_with("portwatch") && a.contains(" start on ");
    let last = first.actions.iter().rposition(starts).unwrap();
    for id in ["high-home", "high", "low-data"] {
        assert!(last < first.position(&format!("{id} start on {}", first.place(id))));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_failed_portwatch_stops_nothing_else() {
    let first = started(&watched());
    let node = first.place("high").to_owned();
    let good = published(&first.after, &ports([2, 2, 2]));
    let inject = format!("--op-inject=portwatch_monitor_10000@{node}=1");
    let fail = format!("--op-fail=portwatch_start_0@{node}=1");
    let failed = simulate(&good, &[&inject, &fail]);
    let given_up = simulate(&with_fatal_starts(&failed.after), &[]);
    for outcome in [failed, given_up] {
        let own = |a: &&str| a.starts_with("portwatch") && a.ends_with(&format!(" on {node}"));
        let changes = changes(&outcome);
        assert!(changes.iter().all(own), "{changes:?}");
        assert_eq!(outcome.places, first.places);
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn the_ports_of_a_node_concern_that_node_only() {
    // On a subnet that no address is on: those of an address are a parameter of that address too.
    let own = watched()
        .replacen(
            "[subnets]\n",
            "[subnets]\nb = { cidr = \"10.9.0.0/24\" }\n",
            1,
        )
        .replacen("eth1 = \"a\"", "eth1 = \"a\", eth9 = \"b\"", 1);
    let first = started(&own);
    assert_eq!(changes(&simulate(&first.after, &[])), [""; 0]);
    let other = own.replace("eth9", "eth8");
    let changed = simulate(&applied(&first.after, &other), &[]);
    let changes = changes(&changed);
    assert!(!changes.is_empty());
    let on_n1 = |a: &&str| a.starts_with("portwatch") && a.ends_with(" on n1");
    assert!(changes.iter().all(on_n1), "{changes:?}");
}
