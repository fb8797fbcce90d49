//! Tests of the decisions, on a model of a node: a state, and [`apply`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::change::apply;
use super::*;

mod detours;
mod shutting;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(name: &str, addresses: &[&str]) -> Link {
    Link {
        name: name.into(),
        up: true,
        carrier: true,
        eligible: !name.starts_with("b-"),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

/// A node with two ports on a subnet, one on another, and two cells.
fn node() -> Observed {
    let links = vec![
        link("a0", &["10.1.0.1/24", "2001:db8:1::1/64"]),
        link("a1", &[]),
        link("c0", &["10.2.0.1/24", "2001:db8:2::1/64"]),
        link("b-alpha", &[]),
        link("b-beta", &[]),
    ];
    let mut settings = BTreeMap::new();
    for Link { name, .. } in &links {
        for key in [
            "ipv4/conf/{}/forwarding",
            "ipv4/conf/{}/rp_filter",
            "ipv4/conf/{}/arp_ignore",
            "ipv6/conf/{}/forwarding",
            "ipv6/conf/{}/force_forwarding",
            "ipv6/conf/{}/proxy_ndp",
        ] {
            settings.insert(key.replace("{}", name), 0);
        }
        settings.insert(format!("ipv6/conf/{name}/accept_ra"), 1);
        settings.insert(format!("ipv4/neigh/{name}/proxy_delay"), 80);
    }
    settings.insert("ipv6/conf/all/forwarding".into(), 0);
    let routes = Family::BOTH.map(Object::CellRoute);
    Observed {
        links,
        settings,
        objects: routes.into_iter().chain(bars()).collect(),
        ..Observed::default()
    }
}

/// The cells' rules, which their keepers make.
fn bars() -> impl Iterator<Item = Object> {
    let shut = |cell: &str, family| Rule::shut(family, Incoming::By(cell.to_owned()));
    let of = move |cell| Family::BOTH.map(|family| Object::Rule(shut(cell, family)));
    ["b-alpha", "b-beta"].into_iter().flat_map(of)
}

fn request(vip: &str) -> Request {
    Request {
        vip: ip(vip),
        behind: Behind::Cell("b-alpha".into()),
        subnet: None,
        gateway: None,
        ports: None,
        routed: false,
        prefer: None,
        detour: None,
    }
}

/// Both ports of the subnet, with a gateway.
fn wide(vip: &str) -> Request {
    let v4 = ip(vip).is_ipv4();
    Request {
        ports: Some(vec!["a0".into(), "a1".into(), "nonesuch".into()]),
        gateway: Some(ip(if v4 { "10.1.0.254" } else { "fe80::254" })),
        ..request(vip)
    }
}

fn run(state: &mut Observed, steps: &[Step]) {
    for step in steps {
        apply(state, step);
    }
}

/// Starts a VIP and says through which port.
fn started(state: &mut Observed, request: &Request) -> Option<String> {
    let desired = Desired::new(request, state).unwrap();
    run(state, &start(&desired, state));
    let again = Desired::new(request, state).unwrap();
    assert_eq!(start(&again, state), [], "a second start has nothing to do");
    again.port
}

fn verdict(state: &Observed, request: &Request) -> Verdict {
    judge(&Desired::new(request, state).unwrap(), state)
}

fn problem(state: &Observed, request: &Request) -> String {
    match Desired::new(request, state).unwrap_err() {
        Problem::Config(text) => format!("config: {text}"),
        Problem::Host(text) => format!("host: {text}"),
    }
}

#[test]
fn a_started_vip_runs_and_a_stopped_one_leaves_nothing() {
    for vip in ["10.1.0.50", "2001:db8:1::50"] {
        for request in [request(vip), wide(vip)] {
            let before = node();
            let mut state = before.clone();
            assert_eq!(verdict(&state, &request), Verdict::Stopped);
            assert_eq!(started(&mut state, &request).as_deref(), Some("a0"));
            assert_eq!(verdict(&state, &request), Verdict::Running);
            let steps = stop(ip(vip), &state);
            run(&mut state, &steps);
            assert_eq!(state, before);
        }
    }
}

#[test]
fn the_way_in_is_ready_before_the_port_answers_and_gone_after_it() {
    let (mut state, request) = (node(), wide("10.1.0.50"));
    let desired = Desired::new(&request, &state).unwrap();
    let steps = start(&desired, &state);
    let position = |steps: &[Step], object: Object| {
        let found = |s: &Step| matches!(s, Step::Add(o) | Step::Remove(o) if *o == object);
        steps.iter().position(found).unwrap()
    };
    let proxy = Object::Proxy("a0".into(), request.vip);
    let own = Object::Element(Element::CellSource("b-alpha".into(), request.vip));
    assert_eq!(position(&steps, proxy.clone()), steps.len() - 1);
    assert!(position(&steps, Object::Address(request.vip)) < position(&steps, own.clone()));
    run(&mut state, &steps);
    let steps = stop(request.vip, &state);
    assert_eq!(position(&steps, proxy), 0);
    assert!(position(&steps, own) < position(&steps, Object::Address(request.vip)));
}

#[test]
fn forwarding_is_on_only_while_the_filter_stands() {
    let (mut state, request) = (node(), wide("2001:db8:1::50"));
    let key = "ipv6/conf/a0/force_forwarding";
    let check = |state: &Observed| {
        let shut = Object::Element(Element::ClosedPort(Family::V6, "a0".into()));
        let filtered = state.objects.contains(&Object::Tables) && state.objects.contains(&shut);
        assert!(state.settings[key] == 0 || filtered);
    };
    let desired = Desired::new(&request, &state).unwrap();
    for step in start(&desired, &state) {
        apply(&mut state, &step);
        check(&state);
    }
    assert_eq!(state.settings[key], 1);
    for step in stop(request.vip, &state) {
        apply(&mut state, &step);
        check(&state);
    }
}

#[test]
fn a_port_that_forwarded_before_stays_open_to_others() {
    let mut state = node();
    state.settings.insert("ipv4/conf/a0/forwarding".into(), 1);
    started(&mut state, &wide("10.1.0.50"));
    let shut = |port: &str| Object::Element(Element::ClosedPort(Family::V4, port.into()));
    assert!(!state.objects.contains(&shut("a0")));
    assert!(state.objects.contains(&shut("a1")));
}

#[test]
fn a_kernel_without_forwarding_by_interface_opens_all_of_ipv6() {
    let before = {
        let mut node = node();
        node.settings
            .retain(|key, _| !key.ends_with("force_forwarding"));
        node
    };
    let (mut state, request) = (before.clone(), wide("2001:db8:1::50"));
    started(&mut state, &request);
    assert_eq!(state.settings["ipv6/conf/all/forwarding"], 1);
    let steps = stop(request.vip, &state);
    run(&mut state, &steps);
    assert_eq!(state, before);
}

#[test]
fn vips_spread_over_the_ports_and_stay_where_they_are() {
    let mut state = node();
    let first = wide("10.1.0.50");
    assert_eq!(started(&mut state, &first).as_deref(), Some("a0"));
    assert_eq!(
        started(&mut state, &wide("10.1.0.51")).as_deref(),
        Some("a1")
    );
    assert_eq!(
        started(&mut state, &wide("10.1.0.52")).as_deref(),
        Some("a0")
    );
    assert_eq!(started(&mut state, &first).as_deref(), Some("a0"));
}

#[test]
fn a_lost_carrier_is_a_failure_only_while_another_port_is_better() {
    let (mut state, request) = (node(), wide("10.1.0.50"));
    started(&mut state, &request);
    state.links[0].carrier = false;
    assert_eq!(
        verdict(&state, &request),
        Verdict::Failed("port a0 has no carrier, but a1 has".into())
    );
    state.links[1].carrier = false;
    assert_eq!(
        verdict(&state, &request),
        Verdict::Degraded("no port of 10.1.0.0/24 has carrier: a0, a1".into())
    );
    state.links[1].carrier = true;
    assert_eq!(started(&mut state, &request).as_deref(), Some("a1"));
    assert_eq!(verdict(&state, &request), Verdict::Running);
}

#[test]
fn without_a_port_that_is_up_a_vip_waits() {
    let before = {
        let mut node = node();
        for link in &mut node.links[..2] {
            (link.up, link.carrier) = (false, false);
        }
        node
    };
    let (mut state, request) = (before.clone(), wide("10.1.0.50"));
    assert_eq!(started(&mut state, &request), None);
    assert_eq!(
        verdict(&state, &request),
        Verdict::Degraded("no port of 10.1.0.0/24 is up: a0, a1".into())
    );
    let steps = stop(request.vip, &state);
    run(&mut state, &steps);
    assert_eq!(state, before);
}

#[test]
fn each_missing_piece_is_a_failure_that_names_it() {
    let mut whole = node();
    let request = request("10.1.0.50");
    started(&mut whole, &request);
    for object in whole.objects.clone() {
        let mut state = whole.clone();
        state.objects.remove(&object);
        let verdict = verdict(&state, &request);
        match object {
            Object::Element(Element::Host(_))
            | Object::CellRoute(Family::V6)
            | Object::Rule(Rule {
                preference: HOST_RULE | SHUT_RULE,
                ..
            }) => {
                assert_eq!(verdict, Verdict::Running);
            }
            Object::Rule(rule) if rule.incoming == Incoming::By(LOOPBACK.into()) => {
                assert_eq!(verdict, Verdict::Running);
            }
            _ => assert_eq!(verdict, Verdict::Failed(format!("{object} is missing"))),
        }
    }
    let mut state = whole.clone();
    state.settings.insert("ipv4/conf/a0/forwarding".into(), 0);
    let reason = "setting ipv4/conf/a0/forwarding is 0, not 1".to_owned();
    assert_eq!(verdict(&state, &request), Verdict::Failed(reason));
    state = whole;
    state
        .objects
        .insert(Object::Proxy("c0".into(), request.vip));
    let reason = "proxy entry 10.1.0.50 on c0 is too much".to_owned();
    assert_eq!(verdict(&state, &request), Verdict::Failed(reason));
}

#[test]
fn rules_of_another_version_serve_and_are_made_anew_by_the_next_start() {
    let (mut state, request) = (node(), wide("10.1.0.50"));
    started(&mut state, &request);
    state.outdated = true;
    assert_eq!(verdict(&state, &request), Verdict::Running);
    let desired = Desired::new(&request, &state).unwrap();
    let steps = start(&desired, &state);
    assert_eq!(steps, [Step::Add(Object::Tables)]);
    run(&mut state, &steps);
    assert!(!state.outdated);
}

#[test]
fn a_port_without_address_asks_in_the_name_of_a_vip_that_is_there() {
    let mut state = node();
    let (first, second) = (wide("10.1.0.50"), wide("10.1.0.51"));
    started(&mut state, &first);
    started(&mut state, &second);
    let source = |state: &Observed| {
        let mut sources = state.objects.iter().filter_map(|o| match o {
            Object::Element(Element::Source { port, vip, .. }) => {
                Some((port.clone(), vip.to_string()))
            }
            _ => None,
        });
        let one = sources.next();
        assert!(sources.next().is_none());
        one
    };
    assert!(state.objects.contains(&Object::Placeholder("a1".into())));
    assert_eq!(source(&state), Some(("a1".into(), "10.1.0.50".into())));
    let steps = stop(first.vip, &state);
    run(&mut state, &steps);
    assert_eq!(source(&state), Some(("a1".into(), "10.1.0.51".into())));
    assert_eq!(verdict(&state, &second), Verdict::Running);
    let steps = stop(second.vip, &state);
    run(&mut state, &steps);
    assert_eq!(state, node());
}

#[test]
fn what_can_not_be_is_refused_with_the_reason() {
    let mut state = node();
    assert_eq!(
        problem(&state, &request("10.9.0.50")),
        "host: parameter ip: 10.9.0.50 is in no subnet of this node (10.1.0.0/24, 10.2.0.0/24)"
    );
    assert_eq!(
        problem(&state, &request("10.1.0.1")),
        "host: parameter ip: 10.1.0.1 is an address of this node's own interface a0"
    );
    let mut bad = wide("10.1.0.50");
    bad.ports = Some(vec!["x0".into(), "x1".into()]);
    assert_eq!(
        problem(&state, &bad),
        "host: parameter ports: this node has none of x0 x1"
    );
    bad = wide("10.1.0.50");
    bad.gateway = Some(ip("10.2.0.254"));
    assert_eq!(
        problem(&state, &bad),
        "config: parameter gateway: 10.2.0.254 is not in subnet 10.1.0.0/24"
    );
    bad = request("10.1.0.50");
    bad.subnet = Some("10.3.0.0/24".parse().unwrap());
    assert_eq!(
        problem(&state, &bad),
        "config: parameter ip: 10.1.0.50 is not in subnet 10.3.0.0/24"
    );
    for (vip, subnet) in [
        ("10.1.0.0", "10.1.0.0/24"),
        ("10.1.0.255", "10.1.0.0/24"),
        ("2001:db8:1::", "2001:db8:1::/64"),
    ] {
        assert_eq!(
            problem(&state, &request(vip)),
            format!(
                "config: parameter ip: {vip} is the first or last address of {subnet}, which no \
                 host may use"
            )
        );
    }
    bad = request("10.3.0.50");
    bad.subnet = Some("10.3.0.0/24".parse().unwrap());
    assert_eq!(
        problem(&state, &bad),
        "host: no interface of this node has an address in 10.3.0.0/24: set ports"
    );
    started(&mut state, &request("10.1.0.50"));
    let mut other = request("10.1.0.50");
    other.behind = Behind::Cell("b-beta".into());
    assert_eq!(
        problem(&state, &other),
        "host: parameter ip: 10.1.0.50 is already in use by vserver alpha on this node"
    );
    assert_eq!(holder(other.vip, &state), Some("b-alpha"));
    // What is left of a dead cell is taken over.
    state.links.retain(|l| l.name != "b-alpha");
    started(&mut state, &other);
    assert_eq!(verdict(&state, &other), Verdict::Running);
}

/// One of six VIPs of two vservers, most often with its cell here and served here.
fn some_request() -> impl Strategy<Value = Request> {
    (0..6usize, any::<bool>(), 0..5usize).prop_map(|(n, gateway, place)| {
        let vip = [
            "10.1.0.50",
            "10.1.0.51",
            "10.2.0.50",
            "2001:db8:1::50",
            "2001:db8:1::51",
            "2001:db8:2::50",
        ][n];
        let mut request = match n % 3 {
            2 => request(vip),
            _ => wide(vip),
        };
        request.gateway = request.gateway.filter(|_| gateway);
        request.behind = Behind::Cell(["b-alpha", "b-beta"][n % 2].into());
        match place {
            0 => detours::there(request),
            1 => detours::away(request),
            _ => request,
        }
    })
}

#[derive(Debug, Clone)]
enum Event {
    Start(Request, usize),
    Stop(Request, usize),
    Carrier(usize, bool),
    Lose(usize),
    Flush,
}

fn some_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (some_request(), 0..60usize).prop_map(|(r, n)| Event::Start(r, n)),
        2 => (some_request(), 0..60usize).prop_map(|(r, n)| Event::Stop(r, n)),
        1 => (0..3usize, any::<bool>()).prop_map(|(n, on)| Event::Carrier(n, on)),
        2 => (0..200usize).prop_map(Event::Lose),
        1 => Just(Event::Flush),
    ]
}

/// Starts and stops killed after some steps, ports that fail, and others who take things away.
fn happen(state: &mut Observed, event: &Event) {
    match event {
        Event::Start(request, steps) => {
            // With a cell here that has it, it can't be routed elsewhere.
            let Ok(desired) = Desired::new(request, state) else {
                return;
            };
            let plan = start(&desired, state);
            run(state, &plan[..plan.len().min(*steps)]);
        }
        Event::Stop(request, steps) => {
            let plan = stop(request.vip, state);
            run(state, &plan[..plan.len().min(*steps)]);
        }
        Event::Carrier(port, on) => state.links[*port].carrier = *on,
        Event::Lose(n) => {
            let lost = state.objects.iter().nth(*n).cloned();
            let lost = lost.filter(|object| !matches!(object, Object::CellRoute(_)));
            lost.map(|object| state.objects.remove(&object));
        }
        Event::Flush => {
            state
                .objects
                .retain(|o| !o.is_element() && *o != Object::Tables);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    #[test]
    fn after_any_history_start_converges_and_stop_clears(
        events in proptest::collection::vec(some_event(), 0..12),
        last in some_request(),
    ) {
        let mut state = node();
        for event in &events {
            happen(&mut state, event);
        }
        for link in &mut state.links {
            link.carrier = true;
        }
        if matches!(last.behind, Behind::Node(_)) {
            let steps = stop(last.vip, &state);
            run(&mut state, &steps);
        }
        started(&mut state, &last);
        let good = match last.detour {
            None => Verdict::Running,
            Some(_) => verdict(&state, &last),
        };
        prop_assert_eq!(verdict(&state, &last), good);
        prop_assert_eq!(detours::round_trip(&state, last.vip), None);
        let vips: BTreeSet<IpAddr> = state.objects.iter().filter_map(Object::vip).collect();
        for vip in vips {
            let others = |s: &Observed| -> BTreeSet<Object> {
                let others = |o: &&Object| o.vip().is_some_and(|v| v != vip) && !matches!(o, Object::Element(Element::Source { .. }));
                s.objects.iter().filter(others).cloned().collect()
            };
            let before = others(&state);
            let steps = stop(vip, &state);
            run(&mut state, &steps);
            prop_assert_eq!(others(&state), before, "only its own objects go");
            prop_assert!(stop(vip, &state).is_empty(), "a second stop has nothing to do");
        }
        // What others have taken away of these their keepers' next life makes.
        state.objects.extend(bars());
        prop_assert_eq!(state, node());
    }
}

fn watch(state: &mut Observed, port: &str, standing: Standing, net: &str, gateway: &str) {
    let watched = Watched {
        standing,
        load: 0,
        nets: vec![(net.parse().unwrap(), Some(ip(gateway)))],
    };
    state.watched.insert(port.into(), watched);
}

#[test]
fn a_port_that_portwatch_condemns_is_left_although_it_has_carrier() {
    let mut state = node();
    assert_eq!(started(&mut state, &wide("10.1.0.50")), Some("a0".into()));
    for (port, standing) in [("a0", Standing::Failed), ("a1", Standing::Good)] {
        watch(&mut state, port, standing, "10.1.0.0/24", "10.1.0.254");
    }
    let desired = Desired::new(&wide("10.1.0.50"), &state).unwrap();
    let verdict = judge(&desired, &state);
    assert_eq!(
        verdict,
        Verdict::Degraded("port a0 has failed, a1 takes over".into())
    );
    assert_eq!(started(&mut state, &wide("10.1.0.50")), Some("a1".into()));
    let proxies: Vec<_> = state.proxies().collect();
    assert_eq!(proxies, [("a1", ip("10.1.0.50"))]);
}

#[test]
fn without_a_list_of_ports_one_that_portwatch_knows_will_do() {
    let (mut state, request) = (node(), request("10.1.0.50"));
    assert_eq!(started(&mut state, &request), Some("a0".into()));
    for (port, standing) in [("a0", Standing::Failed), ("a1", Standing::Good)] {
        watch(&mut state, port, standing, "10.1.0.0/24", "10.1.0.254");
    }
    assert_eq!(started(&mut state, &request), Some("a1".into()));
    assert_eq!(verdict(&state, &request), Verdict::Running);
    // portwatch's end changes nothing.
    state.watched.clear();
    assert_eq!(verdict(&state, &request), Verdict::Running);
    assert_eq!(started(&mut state, &request), Some("a1".into()));
}

#[test]
fn a_port_of_another_subnet_is_not_taken_and_is_named() {
    let mut state = node();
    watch(
        &mut state,
        "c0",
        Standing::Good,
        "10.2.0.0/24",
        "10.2.0.254",
    );
    let on = |ports: &[&str]| Request {
        ports: Some(ports.iter().map(|p| (*p).into()).collect()),
        subnet: "10.1.0.0/24".parse().ok(),
        ..request("10.1.0.50")
    };
    let why = "parameter ports: c0 is on 10.2.0.0/24, where clients of 10.1.0.50 are not";
    // Where there is no other it is taken, as it was before portwatch knew of it: the administrator may know better.
    let mut only = state.clone();
    let stray = on(&["c0"]);
    assert_eq!(started(&mut only, &stray).as_deref(), Some("c0"));
    assert_eq!(verdict(&only, &stray), Verdict::Degraded(why.into()));
    assert!(!is_lost(&stray, &only));
    assert_eq!(check_places(&stray, &state).unwrap_err().to_string(), why);
    // One that fits will do, but what is wrong is told to who asks.
    let both = on(&["c0", "a1"]);
    assert_eq!(check_places(&both, &state).unwrap_err().to_string(), why);
    assert_eq!(started(&mut state, &both).as_deref(), Some("a1"));
    check_places(&on(&["a0", "a1"]), &state).unwrap();
    // Of what portwatch does not know, the administrator knows better.
    state.watched.clear();
    check_places(&on(&["c0"]), &state).unwrap();
    assert!(Desired::new(&on(&["c0"]), &state).is_ok());
}

#[test]
fn a_port_with_an_address_beside_the_vip_is_on_its_subnet_whatever_portwatch_was_told() {
    let mut state = node();
    // A second subnet on the same wire: portwatch's parameters have one of a family for a port.
    state.links[2].addresses = ["10.2.0.1/24", "10.1.0.1/24", "2001:db8:2::1/64"]
        .map(|a| a.parse().unwrap())
        .into();
    watch(
        &mut state,
        "c0",
        Standing::Good,
        "10.2.0.0/24",
        "10.2.0.254",
    );
    let named = |subnet: Option<&str>| Request {
        ports: Some(vec!["c0".into()]),
        subnet: subnet.map(|s| s.parse().unwrap()),
        ..request("10.1.0.50")
    };
    for request in [named(None), named(Some("10.1.0.0/24"))] {
        check_places(&request, &state).unwrap();
        assert_eq!(started(&mut state, &request).as_deref(), Some("c0"));
        assert_eq!(verdict(&state, &request), Verdict::Running);
    }
    // An address that is alone on its wire is beside nobody.
    state.links[2].addresses = vec!["10.1.0.49/32".parse().unwrap()];
    assert!(check_places(&named(None), &state).is_err());
}

#[test]
fn all_routers_address_leads_out_for_the_agents() {
    let wish = |gateway: &str, vip: &str, subnet: &str| Request {
        gateway: Some(ip(gateway)),
        subnet: subnet.parse().ok(),
        ..request(vip)
    };
    wish("2001:db8:1::", "2001:db8:1::50", "2001:db8:1::/64")
        .check()
        .unwrap();
    assert!(
        wish("10.1.0.0", "10.1.0.50", "10.1.0.0/24")
            .check()
            .is_err()
    );
    assert!(
        wish("2001:db8:2::", "2001:db8:1::50", "2001:db8:1::/64")
            .check()
            .is_err()
    );
}

#[test]
fn what_no_client_is_at_is_no_port_and_no_ipv6_is_said_in_a_line() {
    let mut state = node();
    state.links.push(Link {
        eligible: false,
        ..link("lo", &["127.0.0.1/8"])
    });
    let on = |port: &str| Request {
        ports: Some(vec!["a0".into(), port.into()]),
        ..request("10.1.0.50")
    };
    for (port, what) in [
        ("lo", "a loopback interface"),
        ("b-beta", "the interface of vserver beta's cell"),
    ] {
        let why = format!("host: parameter ports: {port} leads to no client: it is {what}");
        assert_eq!(problem(&state, &on(port)), why);
    }
    state.no_ipv6 = true;
    assert!(Desired::new(&request("10.1.0.50"), &state).is_ok());
    assert!(problem(&state, &request("2001:db8:1::50")).contains("has no IPv6"));
}

#[test]
fn only_an_announced_address_leaves_by_a_port_of_another_subnet() {
    for routed in [false, true] {
        let mut state = node();
        let request = Request {
            routed,
            ..wide("10.1.0.50")
        };
        assert_eq!(started(&mut state, &request), Some("a0".into()));
        for port in ["a0", "a1"] {
            watch(
                &mut state,
                port,
                Standing::Failed,
                "10.1.0.0/24",
                "10.1.0.254",
            );
        }
        watch(
            &mut state,
            "c0",
            Standing::Good,
            "10.2.0.0/24",
            "10.2.0.254",
        );
        let port = started(&mut state, &request);
        let desired = Desired::new(&request, &state).unwrap();
        assert_eq!(desired.elsewhere, routed);
        assert_eq!(port, Some(if routed { "c0" } else { "a0" }.into()));
        // Nothing answers for it on a subnet that it is not in.
        assert_eq!(state.proxies().count(), usize::from(!routed));
        let announced = state.routes().filter(|r| r.announced);
        assert_eq!(announced.count(), usize::from(routed));
        let open = |state: &Observed| state.settings["ipv4/conf/c0/forwarding"] == 1;
        assert_eq!(open(&state), routed);
        // The way home.
        watch(
            &mut state,
            "a1",
            Standing::Good,
            "10.1.0.0/24",
            "10.1.0.254",
        );
        let home = Request {
            prefer: Some("a1".into()),
            ..request.clone()
        };
        assert_eq!(started(&mut state, &home), Some("a1".into()));
        // Routers go on sending packets the way round until they have heard of it.
        assert_eq!(open(&state), routed);
        let by_c0 = |o: &Object| matches!(o, Object::Route(r) if r.out.link() == Some("c0"));
        assert!(!state.objects.iter().any(by_c0));
        let steps = stop(ip("10.1.0.50"), &state);
        run(&mut state, &steps);
        assert_eq!(state.objects, node().objects);
        assert_eq!(state.settings, node().settings);
    }
}

#[test]
fn addresses_that_are_started_at_the_same_time_take_different_ports() {
    let mut state = node();
    for (vip, port) in [("10.1.0.50", "a0"), ("10.1.0.51", "a1")] {
        let desired = Desired::new(&wide(vip), &state).unwrap();
        assert_eq!(desired.port.as_deref(), Some(port));
        // Each is still looked for on the network: nothing answers for it.
        let mut steps = start(&desired, &state);
        steps.retain(|step| !matches!(step, Step::Add(Object::Proxy(..))));
        run(&mut state, &steps);
    }
}

#[test]
fn several_addresses_are_moved_as_well_together_as_one_by_one() {
    let vips: Vec<String> = (1..40).map(|n| format!("10.1.0.{}", 50 + n)).collect();
    let mut state = node();
    for vip in &vips {
        started(&mut state, &wide(vip));
    }
    let mut one_by_one = state.clone();
    let to = |vip: &str| Request {
        prefer: Some("a1".into()),
        ..wide(vip)
    };
    for vip in &vips {
        started(&mut one_by_one, &to(vip));
    }
    let all: Vec<Desired> = vips
        .iter()
        .map(|vip| Desired::new(&to(vip), &state).unwrap())
        .collect();
    let steps = start_all(&all, &state);
    run(&mut state, &steps);
    assert_eq!(state.objects, one_by_one.objects);
    assert!(state.proxies().all(|(port, _)| port == "a1"));
}
