//! What placement makes of a lost subnet: which addresses leave, where to, and when they come home.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use berth::cluster::element::Element;
use berth::config::model::Features;
use proptest::prelude::*;

use crate::simulation::{
    NODES, Outcome, applied, changes, published, scores, simulate, started_with, with_fatal_starts,
};

/// Two servers on nodes with a port on each of three subnets; all addresses but one are rerouted.
const TOML: &str = r#"
[subnets]
office = { cidr = "10.1.0.0/24" }
lab = { cidr = "10.2.0.0/24" }
back = { cidr = "10.3.0.0/24" }
[nodes.n1]
ports = { eth1 = "office", eth2 = "lab", eth3 = "back" }
[nodes.n2]
ports = { eth1 = "office", eth2 = "lab", eth3 = "back" }
[nodes.n3]
ports = { eth1 = "office", eth2 = "lab", eth3 = "back" }
[vserver.alpha]
priority = 100
vips = ["10.1.0.50", "10.2.0.50"]
[[vserver.alpha.filesystem]]
device = "/dev/a1"
path = "/home"
nfs = { clients = ["*"] }
[[vserver.alpha.filesystem]]
device = "/dev/a2"
path = "/data"
nfs = { clients = ["*"] }
[vserver.beta]
vips = ["10.1.0.60", { ip = "10.2.0.60", on_subnet_loss = "migrate" }]
[[vserver.beta.filesystem]]
device = "/dev/b1"
path = "/home"
nfs = { clients = ["*"] }
"#;

const ALPHA: [&str; 5] = [
    "alpha",
    "alpha-home",
    "alpha-data",
    "alpha-ip1",
    "alpha-ip2",
];
const BETA: [&str; 4] = ["beta", "beta-home", "beta-ip1", "beta-ip2"];

/// A node, an attribute, and its value or that it is not there.
type Attribute<'a> = (&'a str, &'a str, Option<u32>);

/// Both servers with all that is theirs on n1, all subnets good.
fn on_n1(features: Features) -> Element {
    let first = started_with(TOML, features);
    let only = simulate(&first.after, &["--node-down=n2", "--node-down=n3"]);
    let back = simulate(&only.after, &["--node-up=n2", "--node-up=n3"]);
    let nodes = NODES.iter().flat_map(|node| {
        let nets = ["berth-net-office", "berth-net-lab", "berth-net-back"];
        let nets = nets.map(|name| (*node, name, 1));
        nets.into_iter().chain([(*node, "berth-ports", 3)])
    });
    let good = published(&back.after, &nodes.collect::<Vec<_>>());
    let all = simulate(&good, &[]);
    assert_eq!(changes(&all), [""; 0]);
    for id in ALPHA.iter().chain(&BETA) {
        assert_eq!(all.place(id), "n1", "{id}");
    }
    all.after
}

/// The same for all tests, as it takes several transitions.
static GOOD: LazyLock<Element> = LazyLock::new(|| on_n1(Features::CURRENT));

fn after(cib: &Element, attributes: &[Attribute<'_>]) -> Outcome {
    simulate(&published(cib, attributes), &[])
}

/// The room of each node.
fn spare(numbers: [Option<u32>; 3]) -> [Attribute<'static>; 3] {
    let mut nodes = NODES.into_iter().zip(numbers);
    [(); 3].map(|()| {
        let (node, number) = nodes.next().unwrap();
        (node, "berth-spare", number)
    })
}

/// The least and the most that nodes can say, or nothing: what lies between can't differ more.
fn any_spare() -> impl Iterator<Item = [Attribute<'static>; 3]> {
    const ALL: [Option<u32>; 3] = [None, Some(0), Some(40)];
    let pairs = || ALL.into_iter().flat_map(|a| ALL.map(|b| (a, b)));
    pairs().flat_map(|(a, b)| ALL.map(|c| spare([a, b, c])))
}

/// Checks that these resources went from one node to another, and that nothing else was touched.
fn moved(outcome: &Outcome, ids: &[&str], (from, to): (&str, &str)) {
    let mut expected: Vec<String> = ids
        .iter()
        .flat_map(|id| {
            [
                format!("{id} stop on {from}"),
                format!("{id} start on {to}"),
            ]
        })
        .collect();
    expected.sort();
    let mut found = changes(outcome);
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// n1 without the office, whose addresses are on n3.
fn detour() -> Outcome {
    let room = published(&GOOD, &spare([Some(40), Some(10), Some(20)]));
    let lost = after(&room, &[("n1", "berth-net-office", Some(0))]);
    moved(&lost, &["alpha-ip1", "beta-ip1"], ("n1", "n3"));
    lost
}

#[test]
#[ignore = "needs pacemaker"]
fn with_all_subnets_good_each_address_is_beside_its_server_whatever_the_room() {
    for room in any_spare() {
        assert_eq!(changes(&after(&GOOD, &room)), [""; 0], "{room:?}");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn of_a_lost_subnet_only_the_addresses_leave_to_the_node_with_more_room() {
    for n1 in [None, Some(0), Some(40)] {
        for (n2, n3) in [(0, 10), (30, 40), (0, 40)] {
            for ((n2, n3), to) in [((n2, n3), "n3"), ((n3, n2), "n2")] {
                let room = published(&GOOD, &spare([n1, Some(n2), Some(n3)]));
                let lost = after(&room, &[("n1", "berth-net-office", Some(0))]);
                moved(&lost, &["alpha-ip1", "beta-ip1"], ("n1", to));
            }
        }
    }
    // A node that does not say how much room it has can route as well.
    let lost = after(&GOOD, &[("n1", "berth-net-office", Some(0))]);
    assert_eq!(lost.place("alpha"), "n1");
    assert_ne!(lost.place("alpha-ip1"), "n1");
}

#[test]
#[ignore = "needs pacemaker"]
fn a_router_stays_the_router_whatever_becomes_of_the_room() {
    let detour = detour();
    for room in any_spare() {
        assert_eq!(changes(&after(&detour.after, &room)), [""; 0], "{room:?}");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn when_the_subnet_heals_the_addresses_come_home_whatever_the_room() {
    let detour = detour();
    for room in any_spare() {
        let room = published(&detour.after, &room);
        let healed = after(&room, &[("n1", "berth-net-office", Some(1))]);
        moved(&healed, &["alpha-ip1", "beta-ip1"], ("n3", "n1"));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_router_without_a_way_there_is_left_for_another_and_the_last_one_for_home() {
    let detour = detour();
    for room in any_spare() {
        let room = published(&detour.after, &room);
        let other = after(&room, &[("n3", "berth-nopath-alpha", Some(1))]);
        moved(&other, &["alpha-ip1"], ("n3", "n2"));
        let home = after(&other.after, &[("n2", "berth-nopath-alpha", Some(1))]);
        moved(&home, &["alpha-ip1"], ("n2", "n1"));
        let found = after(&home.after, &[("n3", "berth-nopath-alpha", None)]);
        moved(&found, &["alpha-ip1"], ("n1", "n3"));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_subnet_that_is_lost_everywhere_stops_nothing() {
    let lost = NODES.map(|node| (node, "berth-net-office", Some(0)));
    for room in any_spare() {
        let all = after(&published(&GOOD, &room), &lost);
        assert_eq!(changes(&all), [""; 0], "{room:?}");
    }
    let detour = detour();
    for room in any_spare() {
        let all = after(&published(&detour.after, &room), &lost);
        moved(&all, &["alpha-ip1", "beta-ip1"], ("n3", "n1"));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn ports_that_are_lost_one_after_another_end_with_everything_beside_its_server() {
    let mut now = detour();
    let ports = |left| ("n1", "berth-ports", Some(left));
    now = after(&now.after, &[ports(2)]);
    assert_eq!(changes(&now), [""; 0]);
    now = after(&now.after, &[("n1", "berth-net-back", Some(0)), ports(1)]);
    assert_eq!(changes(&now), [""; 0]);
    // The last one, of which the number of ports is told later.
    now = after(&now.after, &[("n1", "berth-net-lab", Some(0))]);
    assert_eq!(now.place("alpha"), "n1");
    assert_ne!(now.place("alpha-ip2"), "n1");
    let place = now.place("beta").to_owned();
    assert_ne!(place, "n1", "its other address is to migrate");
    assert!(BETA.iter().all(|id| now.place(id) == place));
    // Nobody reaches n1 any more.
    let none = ["n2", "n3"].map(|node| (node, "berth-nopath-alpha", Some(1)));
    now = after(&now.after, &none);
    assert!(ALPHA.iter().all(|id| now.place(id) == "n1"));
    now = after(&now.after, &[ports(0)]);
    let place = now.place("alpha").to_owned();
    assert_ne!(place, "n1");
    assert!(ALPHA.iter().all(|id| now.place(id) == place));
    let ended = ["n2", "n3"].map(|node| (node, "berth-nopath-alpha", None));
    assert_eq!(changes(&after(&now.after, &ended)), [""; 0]);
}

#[test]
#[ignore = "needs pacemaker"]
fn when_the_router_dies_the_third_node_takes_over() {
    let dead = simulate(&detour().after, &["--node-down=n3"]);
    for (id, place) in &dead.places {
        let addresses = ["alpha-ip1", "beta-ip1"];
        let expected = if addresses.contains(&id.as_str()) {
            "n2"
        } else {
            "n1"
        };
        if !id.starts_with("portwatch") {
            assert_eq!(place, expected, "{id}");
        }
    }
    let back = simulate(&dead.after, &["--node-up=n3"]);
    assert!(changes(&back).iter().all(|a| a.starts_with("portwatch")));
}

#[test]
#[ignore = "needs pacemaker"]
fn an_address_that_a_router_can_t_start_goes_to_the_third_node_and_then_home() {
    let detour = detour();
    let mut now = simulate(
        &detour.after,
        &[
            "--op-inject=alpha-ip1_monitor_10000@n3=1",
            "--op-fail=alpha-ip1_start_0@n3=1",
        ],
    );
    now = simulate(
        &with_fatal_starts(&now.after),
        &["--op-fail=alpha-ip1_start_0@n2=1"],
    );
    assert!(now.actions.contains(&"alpha-ip1 start on n2".to_owned()));
    now = simulate(&with_fatal_starts(&now.after), &[]);
    assert!(ALPHA.iter().all(|id| now.place(id) == "n1"));
}

#[test]
#[ignore = "needs pacemaker"]
fn when_the_server_s_node_dies_the_detour_ends() {
    let detour = detour();
    for room in any_spare() {
        let dead = simulate(&published(&detour.after, &room), &["--node-down=n1"]);
        for (server, all) in [("alpha", &ALPHA[..]), ("beta", &BETA)] {
            assert_ne!(dead.place(server), "nowhere");
            for id in all {
                assert_eq!(dead.place(id), dead.place(server), "{id}");
            }
        }
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn a_server_that_is_sent_elsewhere_during_a_detour_has_its_addresses_with_it() {
    for target in ["n2", "n3"] {
        let lost = [("n1", "berth-net-office", Some(0))];
        let mut now = after(&on_n1(Features::ALL), &lost);
        assert_ne!(now.place("alpha-ip1"), "n1");
        now = after(&now.after, &[(target, "berth-place-alpha", Some(200))]);
        assert!(ALPHA.iter().all(|id| now.place(id) == target));
        assert_eq!(now.place("beta"), "n1");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn addresses_on_different_subnets_take_each_its_own_way() {
    let lost = after(
        &GOOD,
        &[
            ("n1", "berth-net-office", Some(0)),
            ("n1", "berth-net-lab", Some(0)),
            ("n2", "berth-net-office", Some(0)),
            ("n3", "berth-net-lab", Some(0)),
            ("n1", "berth-ports", Some(1)),
        ],
    );
    let places = ALPHA.map(|id| lost.place(id));
    assert_eq!(places, ["n1", "n1", "n1", "n3", "n2"]);
    // The one whose address is to migrate is gone, and this one's only way is n3.
    assert!(BETA[..2].iter().all(|id| lost.place(id) == "n2"));
    assert_eq!(
        (lost.place("beta-ip1"), lost.place("beta-ip2")),
        ("n3", "n2")
    );
}

#[test]
#[ignore = "needs pacemaker"]
fn an_address_that_is_to_migrate_takes_its_server_with_it() {
    for room in any_spare() {
        let room = published(&GOOD, &room);
        let lost = after(&room, &[("n1", "berth-net-lab", Some(0))]);
        let place = lost.place("beta");
        assert_ne!(place, "n1");
        assert!(BETA.iter().all(|id| lost.place(id) == place));
        assert!(ALPHA[..4].iter().all(|id| lost.place(id) == "n1"));
        assert_ne!(lost.place("alpha-ip2"), "n1");
        let healed = after(&lost.after, &[("n1", "berth-net-lab", Some(1))]);
        assert_eq!(healed.place("beta"), place, "it has settled");
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn what_becomes_of_addresses_that_are_rerouted_does_not_count_for_their_server() {
    let servers = |cib: &Element| {
        let mut scores = scores(cib);
        scores.retain(|(id, _), _| ["alpha", "beta"].contains(&id.as_str()));
        scores
    };
    let before = servers(&GOOD);
    assert_eq!(before.len(), 6);
    let mut worst = detour().after;
    assert_eq!(servers(&worst), before);
    worst = simulate(
        &worst,
        &[
            "--op-inject=alpha-ip1_monitor_10000@n3=1",
            "--op-fail=alpha-ip1_start_0@n3=1",
        ],
    )
    .after;
    let everywhere = NODES.map(|node| (node, "berth-nopath-alpha", Some(1)));
    let worst = published(&with_fatal_starts(&worst), &everywhere);
    assert_eq!(servers(&worst), before);
}

#[test]
#[ignore = "needs pacemaker"]
fn a_subnet_of_which_nothing_is_known_is_not_lost_but_a_known_one_makes_the_router() {
    let unknown = |node| (node, "berth-net-office", None);
    for room in any_spare() {
        let room = published(&GOOD, &room);
        let told = after(&room, &[unknown("n1")]);
        assert_eq!(changes(&told), [""; 0]);
        let lost = after(&room, &[("n1", "berth-net-office", Some(0)), unknown("n2")]);
        moved(&lost, &["alpha-ip1", "beta-ip1"], ("n1", "n3"));
    }
}

#[test]
#[ignore = "needs pacemaker"]
fn detours_are_added_to_a_running_cluster_without_moving_anything() {
    let without = Features {
        detour: false,
        ..Features::CURRENT
    };
    let old = on_n1(without);
    let wanted = applied(&old, TOML);
    assert_eq!(changes(&simulate(&wanted, &[])), [""; 0]);
    // Portwatch may have been updated before.
    let room = published(&old, &spare([Some(0), Some(40), Some(40)]));
    assert_eq!(changes(&simulate(&applied(&room, TOML), &[])), [""; 0]);
}

/// What all nodes say of the subnets, the ways and their room.
#[derive(Debug, Clone)]
struct World {
    /// Of the office and the lab, by node.
    nets: [[Option<u32>; 2]; 3],
    nopath: [Option<u32>; 3],
    spare: [Option<u32>; 3],
}

fn world() -> impl Strategy<Value = World> {
    let flag = prop::sample::select(vec![None, Some(0), Some(1), Some(1)]);
    let nopath = prop::option::weighted(0.2, Just(1));
    let spare = prop::option::weighted(0.8, (0..5_u32).prop_map(|n| n * 10));
    let nets = prop::array::uniform3(prop::array::uniform2(flag));
    let all = (
        nets,
        prop::array::uniform3(nopath),
        prop::array::uniform3(spare),
    );
    all.prop_map(|(nets, nopath, mut spare)| {
        for (nets, spare) in nets.iter().zip(&mut spare) {
            // The same program tells both.
            *spare = spare.filter(|_| nets.iter().all(Option::is_some));
        }
        World {
            nets,
            nopath,
            spare,
        }
    })
}

impl World {
    fn attributes(&self) -> Vec<Attribute<'static>> {
        let nodes = NODES.into_iter().enumerate();
        let all = nodes.flat_map(|(n, node)| {
            [
                (node, "berth-net-office", self.nets[n][0]),
                (node, "berth-net-lab", self.nets[n][1]),
                (node, "berth-nopath-alpha", self.nopath[n]),
                (node, "berth-spare", self.spare[n]),
            ]
        });
        all.collect()
    }

    /// Where an address of the server on n1 may be, which is on `present` now.
    fn places(&self, subnet: usize, present: &str) -> Vec<&'static str> {
        let able = |n: &usize| self.nets[*n][subnet] != Some(0) && self.nopath[*n].is_none();
        let mut able: Vec<usize> = (0..3).filter(able).collect();
        let known = |n: &usize| self.nets[*n][subnet] == Some(1);
        if able.contains(&0) && !known(&0) {
            // It need not come back to where nothing is known.
            let away = able.iter().filter(|n| NODES[**n] == present);
            return away.map(|n| NODES[*n]).chain(["n1"]).collect();
        }
        if able.is_empty() || able.contains(&0) {
            return vec!["n1"];
        }
        if able.iter().any(known) {
            able.retain(known);
        }
        let room = |n: &usize| self.spare[*n].unwrap_or(0);
        let most = able.iter().map(room).max();
        let stays = able.iter().position(|n| NODES[*n] == present);
        let chosen = able.iter().enumerate().filter(|(i, n)| match stays {
            Some(stays) => *i == stays,
            None => Some(room(n)) == most,
        });
        chosen.map(|(_, n)| NODES[*n]).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    #[ignore = "needs pacemaker"]
    fn whatever_is_told_the_server_stays_and_each_address_is_where_it_can_be(
        worlds in prop::collection::vec(world(), 1..6)
    ) {
        let mut cib = GOOD.clone();
        let mut present = BTreeMap::from([("alpha-ip1", "n1"), ("alpha-ip2", "n1")]);
        for world in worlds {
            let now = after(&cib, &world.attributes());
            for id in &ALPHA[..3] {
                prop_assert_eq!(now.place(id), "n1");
            }
            for (subnet, id) in ["alpha-ip1", "alpha-ip2"].into_iter().enumerate() {
                let places = world.places(subnet, present[id]);
                let place = NODES.into_iter().find(|n| *n == now.place(id));
                prop_assert!(
                    place.is_some_and(|p| places.contains(&p)),
                    "{} is {:?} instead of {:?} in {:?}", id, place, places, world
                );
                present.insert(id, place.unwrap());
            }
            // beta may have moved, and its addresses after it; then all of it rests.
            let settled = simulate(&now.after, &[]);
            prop_assert_eq!(changes(&settled), [""; 0]);
            cib = now.after;
        }
    }
}
