//! What a node finds of its own resources in the cluster's status.

use berth::cluster::element::Element;
use berth::cluster::survey;
use berth::sys::command::{command, run};
use tempfile::TempDir;

use crate::simulation::{cib, soon};

/// A node's record of one of its resources: each operation with its id, result and interval.
fn on_record(resource: &str, provider: &str, operations: &[(&str, u32, u32)]) -> Element {
    let operation = |(id, code, interval): &(&str, u32, u32)| {
        let id = format!("{}_{id}", resource.split(':').next().unwrap_or_default());
        Element::new("lrm_rsc_op")
            .with("id", id)
            .with("operation", "monitor")
            .with("call-id", 7)
            .with("rc-code", code)
            .with("op-status", 0)
            .with("interval", interval)
    };
    Element::new("lrm_resource")
        .with("id", resource)
        .with("class", "ocf")
        .with("provider", provider)
        .with("type", "vip")
        .containing(operations.iter().map(operation))
}

#[test]
#[ignore = "needs pacemaker"]
fn what_is_degraded_and_monitored_no_more_is_found_on_its_own_node() {
    let attribute = Element::new("nvpair")
        .with("id", "status-1-berth-ports")
        .with("name", "berth-ports")
        .with("value", 3);
    let attributes = Element::new("instance_attributes")
        .with("id", "status-1")
        .containing([attribute]);
    // As 2.1.5 and 3.0.0 leave it when a monitor is cancelled that stands at 190.
    let left = [("last_0", 0, 0), ("last_failure_0", 190, 10_000)];
    let resources = [
        on_record("portwatch:1", "berth", &left),
        on_record("theirs", "heartbeat", &left),
        on_record(
            "degraded",
            "berth",
            &[
                ("last_failure_0", 190, 10_000),
                ("monitor_10000", 190, 10_000),
            ],
        ),
        on_record(
            "good",
            "berth",
            &[("last_0", 0, 0), ("monitor_10000", 0, 10_000)],
        ),
        on_record(
            "begun-anew",
            "berth",
            &[
                ("last_failure_0", 190, 10_000),
                ("monitor_10000", 193, 10_000),
            ],
        ),
        on_record(
            "failed",
            "berth",
            &[("last_0", 0, 0), ("last_failure_0", 1, 10_000)],
        ),
    ];
    let others = [on_record("elsewhere", "berth", &left)];
    let node = |id: u32, resources: &[Element]| {
        let all = Element::new("lrm_resources").containing(resources.iter().cloned());
        Element::new("node_state")
            .with("id", id)
            .with("uname", format!("n{id}"))
            .containing([Element::new("lrm").with("id", id).containing([all])])
    };
    let mut first = node(1, &resources);
    let transient = Element::new("transient_attributes").with("id", 1);
    first.children.push(transient.containing([attributes]));
    let mut cib = cib(None);
    cib.child_mut("status").children = vec![first, node(2, &others), node(3, &[])];
    let file = TempDir::new().unwrap();
    let file = file.path().join("cib.xml");
    std::fs::write(&file, cib.to_string()).unwrap();
    for (asked, found) in [
        ("n1", &["portwatch"][..]),
        ("n2", &["elsewhere"]),
        ("n3", &[]),
    ] {
        let mut query = command("/usr/sbin/cibadmin");
        query.args(["--query", "--xpath", &survey::xpath(asked)]);
        query.env("CIB_file", &file);
        let answer = run(query, soon()).unwrap().check("cibadmin").unwrap();
        let survey = survey::parse(&answer.text()).unwrap();
        assert!(survey.unmonitored.iter().eq(found), "{asked}: {survey:?}");
        assert_eq!(survey.values["berth-ports"]["n1"], "3");
    }
}
