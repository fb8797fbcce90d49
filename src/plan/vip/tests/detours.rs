//! VIPs that one node answers for and another one serves.

use super::*;
use crate::types::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// The subnet that is not the VIP's own: its port, and another node's address there.
fn other_side(vip: IpAddr) -> (&'static str, IpAddr, IpNetwork) {
    let (own, v4) = (vip.to_string(), vip.is_ipv4());
    let first = own.starts_with("10.1.") || own.starts_with("2001:db8:1:");
    let (port, address, net) = match (first, v4) {
        (true, true) => ("c0", "10.2.0.9", "10.2.0.0/24"),
        (true, false) => ("c0", "2001:db8:2::9", "2001:db8:2::/64"),
        (false, true) => ("a0", "10.1.0.9", "10.1.0.0/24"),
        (false, false) => ("a0", "2001:db8:1::9", "2001:db8:1::/64"),
    };
    (port, ip(address), net.parse().unwrap())
}

/// The same VIP where another node has its cell.
pub(crate) fn there(request: Request) -> Request {
    let (port, address, _) = other_side(request.vip);
    Request {
        behind: Behind::Node(NextHop {
            link: port.into(),
            address,
            macs: vec![MAC],
        }),
        ..request
    }
}

/// The same VIP where another node routes for it.
pub(crate) fn away(request: Request) -> Request {
    let (port, router, subnet) = other_side(request.vip);
    let detour = Detour {
        ports: vec![port.into()],
        subnet,
        router,
    };
    Request {
        detour: Some(detour),
        ..request
    }
}

/// A port by which packets to the VIP come in that would go out by a port of the same subnet, or would be
/// passed on though they came from where other nodes are: so they could go round.
pub(crate) fn round_trip(state: &Observed, vip: IpAddr) -> Option<IfName> {
    let hop = state.routes().find_map(|r| match &r.out {
        RouteTarget::Gateway(link, _) if r.table == TO_TABLE && r.to.ip() == vip => {
            Some(link.clone())
        }
        _ => None,
    })?;
    let answers: Vec<&IfName> = state
        .proxies()
        .filter(|p| p.1 == vip)
        .map(|p| p.0)
        .collect();
    if answers.contains(&&hop) {
        return Some(hop);
    }
    let barred = |port: &IfName| {
        state
            .objects
            .contains(&Object::Element(Element::NotFrom(port.clone(), vip)))
    };
    let mut others = state.watched.keys().filter(|port| !answers.contains(port));
    others.find(|port| **port == hop && !barred(port)).cloned()
}

fn watched() -> Observed {
    let mut state = node();
    for port in ["a0", "a1", "c0"] {
        watch(&mut state, port, Standing::Good);
    }
    state
}

#[test]
fn a_router_answers_passes_on_and_takes_nothing_from_where_it_passes_it_to() {
    let before = watched();
    let mut state = before.clone();
    let request = there(wide("10.1.0.50"));
    assert_eq!(started(&mut state, &request).as_deref(), Some("a0"));
    assert_eq!(verdict(&state, &request), Verdict::Running);
    let vip = request.vip;
    let has = |object: Object| assert!(state.objects.contains(&object), "{object}");
    has(Object::Proxy("a0".into(), vip));
    has(Object::Element(Element::NotFrom("c0".into(), vip)));
    has(Object::Element(Element::RemoteSource(
        "c0".into(),
        vip,
        MAC,
    )));
    has(Object::Element(Element::VipTarget(vip, "c0".into())));
    has(Object::Element(Element::ClosedPort(
        Family::V4,
        "c0".into(),
    )));
    let own = |o: &Object| {
        matches!(
            o,
            Object::Address(_)
                | Object::Element(Element::CellSource(..))
                | Object::Element(Element::Cell(_))
        )
    };
    assert!(!state.objects.iter().any(own));
    let back = |port: &str| Object::Element(Element::NotFrom(port.into(), vip));
    assert!(!state.objects.contains(&back("a0")) && !state.objects.contains(&back("a1")));
    assert_eq!(state.settings["ipv4/conf/c0/forwarding"], 1);
    let steps = stop(vip, &state);
    run(&mut state, &steps);
    assert_eq!(state, before);
}

#[test]
fn packets_are_barred_before_there_is_a_way_for_them() {
    let state = watched();
    let request = there(wide("10.1.0.50"));
    let steps = start(&Desired::new(&request, &state).unwrap(), &state);
    let at = |found: &dyn Fn(&Object) -> bool| {
        let is = |s: &Step| matches!(s, Step::Add(object) if found(object));
        steps.iter().position(is).unwrap()
    };
    let barred = at(&|o| matches!(o, Object::Element(Element::NotFrom(..))));
    let open = at(&|o| matches!(o, Object::Element(Element::VipTarget(..))));
    let way = at(&|o| matches!(o, Object::Route(r) if r.table == TO_TABLE));
    assert!(barred < open && open < way);
}

#[test]
fn all_that_a_vip_sends_goes_to_its_router_and_nothing_answers_here() {
    let mut state = watched();
    let home = wide("10.1.0.50");
    started(&mut state, &home);
    let (served, routed) = (state.clone(), away(home.clone()));
    assert_eq!(started(&mut state, &routed).as_deref(), Some("c0"));
    assert_eq!(state.proxies().count(), 0);
    let rule = state.rules().find(|r| r.from == Some(home.vip)).unwrap();
    let ways: Vec<String> = state
        .routes()
        .filter(|r| Some(r.table) == rule.table())
        .map(ToString::to_string)
        .collect();
    let table = rule.table().unwrap();
    assert_eq!(
        ways,
        [
            format!("route 0.0.0.0/0 via 10.2.0.9 dev c0 table {table}"),
            format!("route 0.0.0.0/0 unreachable table {table}"),
        ]
    );
    assert!(state.objects.contains(&Object::Address(home.vip)));
    // The way home leaves nothing of it.
    started(&mut state, &home);
    assert_eq!(state.objects, served.objects);
    assert_eq!(state.settings, served.settings);
}

#[test]
fn a_node_needs_no_port_of_the_subnet_to_be_routed_for_but_the_router_does() {
    let mut state = node();
    state.links.retain(|link| !link.name.starts_with('a'));
    let none = request("10.1.0.50");
    assert!(problem(&state, &there(none.clone())).starts_with("host: parameter ip: "));
    assert_eq!(started(&mut state, &away(none)).as_deref(), Some("c0"));
}

#[test]
fn a_node_that_has_the_cell_does_not_route_elsewhere_and_one_that_gets_it_stops_to() {
    let mut state = watched();
    let home = wide("10.1.0.50");
    let routed = there(home.clone());
    started(&mut state, &routed);
    started(&mut state, &home);
    let left = |o: &Object| {
        matches!(
            o,
            Object::Element(Element::NotFrom(..)) | Object::Element(Element::RemoteSource(..))
        )
    };
    assert!(!state.objects.iter().any(left));
    assert_eq!(
        problem(&state, &routed),
        "host: parameter ip: 10.1.0.50 is already in use by vserver alpha on this node"
    );
}

#[test]
fn a_subnet_is_lost_when_none_of_its_ports_works() {
    let mut state = watched();
    let request = wide("10.1.0.50");
    assert!(!is_lost(&request, &state));
    state.links[0].carrier = false;
    assert!(!is_lost(&request, &state));
    watch(&mut state, "a1", Standing::Failed);
    assert!(is_lost(&request, &state));
}
