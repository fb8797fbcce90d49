//! Where the scheduler starts what a plan has, in which order, and where to it moves what has failed.

use berth::cluster::cib::Cib;
use berth::cluster::element::Element;
use berth::config::model::Features;
use berth::config::render;
use proptest::prelude::*;

use crate::simulation::{
    Outcome, cib, model_of, simulate, soon, started, three_servers, with_fatal_starts,
};
use crate::{EXAMPLE, any_config};

/// Asserts that all of these resources are at this node, or nowhere.
#[track_caller]
fn assert_at(node: &str, outcome: &Outcome, resources: &[impl AsRef<str>]) {
    for id in resources.iter().map(AsRef::as_ref) {
        assert_eq!(outcome.place(id), node, "{id}");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn everything_starts_and_each_server_has_all_of_its_parts_with_it() {
    let outcome = started(&three_servers());
    for server in ["low", "mid", "high"] {
        let node = outcome.place(server);
        assert_ne!(node, "nowhere", "{server}");
        let parts = ["home", "data", "ip1", "ip2"].map(|part| format!("{server}-{part}"));
        assert_at(node, &outcome, &parts);
        let start = |id: &str| outcome.position(&format!("{id} start on {node}"));
        assert!(start(&format!("{server}-home")) < start(server));
        assert!(start(server) < start(&format!("{server}-ip1")));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn servers_of_a_lost_node_start_elsewhere_in_the_order_of_their_priority() {
    let first = started(&three_servers());
    // All on n1, by the nodes being there one after the other.
    let only = simulate(&first.after, &["--node-down=n2", "--node-down=n3"]);
    assert!(["low", "mid", "high"].iter().all(|s| only.place(s) == "n1"));
    let back = simulate(&only.after, &["--node-up=n2", "--node-up=n3"]);
    assert_eq!(back.place("low"), "n1", "stickiness keeps it");
    let moved = simulate(&back.after, &["--node-down=n1"]);
    let start = |id: &str| {
        let node = moved.place(id);
        assert_ne!(node, "n1");
        moved.position(&format!("{id} start on {node}"))
    };
    for (higher, lower) in [("high", "mid"), ("mid", "low"), ("high", "low")] {
        for address in ["ip1", "ip2"] {
            assert!(
                start(&format!("{higher}-{address}")) < start(lower),
                "{higher} {lower}"
            );
        }
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_lower_server_waits_for_a_much_higher_one_also_when_the_middle_one_stays_up() {
    let first = started(&three_servers());
    let high = first.place("high").to_owned();
    let low = first.place("low").to_owned();
    assert_ne!(first.place("mid"), high, "the servers are spread");
    let (down_high, down_low) = (format!("--node-down={high}"), format!("--node-down={low}"));
    let moved = simulate(&first.after, &[&down_high, &down_low]);
    let start = |id: &str| moved.position(&format!("{id} start on {}", moved.place(id)));
    assert!(start("high-ip1") < start("low") && start("high-ip2") < start("low"));
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_that_is_to_stay_does_not_move_and_returns_with_its_node() {
    let first = started(EXAMPLE);
    assert_eq!(first.place("alpha"), "n1");
    let gone = simulate(&first.after, &["--node-down=n1"]);
    let alpha = ["alpha", "alpha-home", "alpha-data", "alpha-ip1"];
    assert_at("nowhere", &gone, &alpha);
    for id in ["beta", "beta-home", "beta-data", "beta-ip1", "beta-ip2"] {
        assert_ne!(gone.place(id), "nowhere", "{id}");
    }
    let back = simulate(&gone.after, &["--node-up=n1"]);
    assert_eq!((back.place("alpha"), back.place("alpha-ip2")), ("n1", "n1"));
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_that_is_to_stay_is_moved_by_its_meta_attribute() {
    let first = started(EXAMPLE);
    let text = first.after.to_string();
    let home = |node| format!(r#"name="berth-home" value="{node}""#);
    assert!(text.contains(&home("n1")));
    let moved = Element::parse(&text.replace(&home("n1"), &home("n3"))).unwrap();
    let moved = simulate(&moved, &[]);
    let alpha = [
        "alpha",
        "alpha-home",
        "alpha-data",
        "alpha-ip1",
        "alpha-ip2",
    ];
    assert_at("n3", &moved, &alpha);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_failed_address_or_data_file_system_does_not_move_its_server() {
    let first = started(&three_servers());
    let node = first.place("high").to_owned();
    for part in ["high-ip1", "high-data"] {
        let inject = format!("--op-inject={part}_monitor_10000@{node}=1");
        let fail = format!("--op-fail={part}_start_0@{node}=1");
        let mut outcome = simulate(&first.after, &[&inject, &fail]);
        for _ in 0..2 {
            assert_eq!(outcome.place("high"), node, "{part}");
            assert_eq!(outcome.place("high-ip2"), node, "{part}");
            outcome = simulate(&with_fatal_starts(&outcome.after), &[]);
        }
        assert_eq!(outcome.place(part), "nowhere");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_failed_home_takes_the_whole_server_to_another_node() {
    let first = started(&three_servers());
    let node = first.place("mid").to_owned();
    let inject = format!("--op-inject=mid-home_monitor_10000@{node}=1");
    let fail = format!("--op-fail=mid-home_start_0@{node}=1");
    let failed = simulate(&first.after, &[&inject, &fail]);
    let moved = simulate(&with_fatal_starts(&failed.after), &[]);
    let place = moved.place("mid");
    assert!(place != "nowhere" && place != node, "{place}");
    let parts = ["mid-home", "mid-data", "mid-ip1", "mid-ip2"];
    assert_at(place, &moved, &parts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[ignore = "needs pacemaker"]
    fn any_plan_is_accepted_and_everything_is_placed(toml in any_config::toml()) {
        for features in [Features::CURRENT, Features::ALL] {
            let configuration = render::xml::configuration(&model_of(&toml, features));
            Cib::default().verify(&cib(Some(&configuration)), soon()).unwrap();
        }
        let outcome = started(&toml);
        let model = model_of(&toml, Features::CURRENT);
        let resources = || model.resources.iter().filter(|r| !r.cloned);
        for resource in resources() {
            prop_assert_ne!(outcome.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
        let gone = simulate(&outcome.after, &["--node-down=n3"]);
        // Nothing in such a file is bound to n3.
        for resource in resources() {
            prop_assert_ne!(gone.place(&resource.id), "nowhere", "{} of\n{}", resource.id, toml);
        }
    }
}
