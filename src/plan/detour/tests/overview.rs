//! What is told of detours to whoever asks.

use super::*;
use crate::plan::detour::overview::{ForeignClaim, OngoingSearch, Rivalry, Seeker};
use crate::types::Milliseconds;

#[test]
fn a_search_is_told_until_it_is_over_with_who_waits_for_it() {
    let mut node = Node::new("n2", &[]);
    node.on(Event::PathWanted {
        asker: 7,
        vserver: "alpha".into(),
        vip: vip(),
    });
    node.tick();
    node.pass(Duration::from_millis(20), true);
    let mut search = OngoingSearch {
        seeker: Seeker::Agent,
        vserver: "alpha".into(),
        vip: vip(),
        node: None,
        age_ms: Milliseconds(20),
    };
    let searches = |node: &Node| node.core.overview(node.now).searches;
    assert_eq!(searches(&node), [search.clone()]);
    node.attribute(cell(), &[("n1", "1")]);
    search.node = Some("n1".into());
    assert_eq!(searches(&node), [search]);
    node.pass(Duration::from_millis(20), true);
    assert_eq!(searches(&node), []);
}

#[test]
fn a_resource_that_seeks_a_path_is_told_and_what_can_not_be_reached() {
    let mut node = Node::new("n2", &[]);
    node.put(RESOURCE, record(Role::Stranded("no way".into())));
    node.tick();
    let name = RESOURCE.to_owned();
    let overview = node.core.overview(node.now);
    let [search] = &overview.searches[..] else {
        panic!("{overview:?}");
    };
    assert_eq!(search.seeker, Seeker::Resource { name });
    assert_eq!(overview.unreached, BTreeMap::new());
    node.attribute(cell(), &[("n1", "1")]);
    node.pass(Duration::from_millis(500), false);
    let changes = node.changes();
    assert!(matches!(&changes[..], [(_, Change::GiveUp { .. })]));
    node.reconciled(RESOURCE, Outcome::Done);
    let overview = node.core.overview(node.now);
    assert_eq!(overview.unreached, [("alpha".into(), "n1".into())].into());
    node.remove(RESOURCE);
    // Nobody waits any more, but the cluster was told.
    node.pass(Duration::from_secs(2), false);
    let searches = node.core.overview(node.now).searches;
    let seekers: Vec<Seeker> = searches.into_iter().map(|search| search.seeker).collect();
    assert_eq!(seekers, [Seeker::Nobody]);
}

#[test]
fn what_other_nodes_claim_is_told_and_why_it_can_not_be_followed() {
    let mut node = Node::new("n1", &["alpha"]);
    node.tick();
    let nowhere = "alpha/10.1.0.51/nowhere/10.2.0.2/ending";
    let text = format!("{} {nowhere}", claim("n2"));
    node.attribute(Attribute::Router("n1".into()), &[("n2", &text)]);
    node.pass(Duration::from_millis(40), true);
    let claims = node.core.overview(node.now).claims;
    let followed = ForeignClaim {
        node: "n2".into(),
        vserver: "alpha".into(),
        vip: vip(),
        subnet: "lab".into(),
        router: address("n2"),
        ending: false,
        age_ms: Milliseconds(40),
        refused: None,
    };
    assert_eq!(claims[0], followed);
    let why = claims[1].refused.as_ref().unwrap();
    assert!(claims[1].ending && why.ends_with("which this node does not know"));
    node.attribute(Attribute::Router("n1".into()), &[]);
    assert_eq!(node.core.overview(node.now), Overview::default());
}

#[test]
fn another_router_is_told_with_how_far_the_dispute_has_come() {
    let mut node = Node::routing("n2");
    let rivalries = |node: &Node| node.core.overview(node.now).rivalries;
    let rivalry = |of: Rivalry| [(RESOURCE.to_owned(), of)].into();
    let routes = Attribute::Router("n1".into());
    assert_eq!(rivalries(&node), BTreeMap::new());
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    assert_eq!(rivalries(&node), rivalry(Rivalry::Suspected));
    node.attribute(routes.clone(), &[("n3", &claim("n3"))]);
    assert_eq!(rivalries(&node), rivalry(Rivalry::Asked));
    node.on(Event::Located {
        resource: RESOURCE.into(),
        nodes: vec!["n2".into()],
    });
    assert_eq!(rivalries(&node), rivalry(Rivalry::Meant));
    node.attribute(routes, &[]);
    assert_eq!(rivalries(&node), BTreeMap::new());
}
