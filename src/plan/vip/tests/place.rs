//! Which port a VIP is at, and when it leaves that.

use super::*;

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
fn a_port_that_portwatch_condemns_is_left_although_it_has_carrier() {
    let mut state = node();
    assert_eq!(started(&mut state, &wide("10.1.0.50")), Some("a0".into()));
    for (port, standing) in [("a0", Standing::Failed), ("a1", Standing::Good)] {
        watch(&mut state, port, standing);
    }
    let desired = Desired::new(&wide("10.1.0.50"), &state).unwrap();
    let verdict = judge(&desired, &state);
    assert_eq!(
        verdict,
        Verdict::Degraded("port a0 has failed, a1 takes over".into())
    );
    assert_eq!(started(&mut state, &wide("10.1.0.50")), Some("a1".into()));
    let proxies: Vec<_> = state.proxies().collect();
    assert_eq!(proxies, [(&"a1".into(), ip("10.1.0.50"))]);
}

#[test]
fn without_a_list_of_ports_one_that_portwatch_knows_will_do() {
    let (mut state, request) = (node(), request("10.1.0.50"));
    assert_eq!(started(&mut state, &request), Some("a0".into()));
    for (port, standing) in [("a0", Standing::Failed), ("a1", Standing::Good)] {
        watch(&mut state, port, standing);
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
    watch(&mut state, "c0", Standing::Good);
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
    watch(&mut state, "c0", Standing::Good);
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
fn only_an_announced_address_leaves_by_a_port_of_another_subnet() {
    for routed in [false, true] {
        let mut state = node();
        let request = Request {
            routed,
            ..wide("10.1.0.50")
        };
        assert_eq!(started(&mut state, &request), Some("a0".into()));
        for port in ["a0", "a1"] {
            watch(&mut state, port, Standing::Failed);
        }
        watch(&mut state, "c0", Standing::Good);
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
        watch(&mut state, "a1", Standing::Good);
        let home = Request {
            prefer: Some("a1".into()),
            ..request.clone()
        };
        assert_eq!(started(&mut state, &home), Some("a1".into()));
        // Routers go on sending packets the way round until they have heard of it.
        assert_eq!(open(&state), routed);
        let by_c0 =
            |o: &Object| matches!(o, Object::Route(r) if r.out.link() == Some(&"c0".into()));
        assert!(!state.objects.iter().any(by_c0));
        let steps = stop(ip("10.1.0.50"), &state);
        run(&mut state, &steps);
        assert_eq!(state.objects, node().objects);
        assert_eq!(state.settings, node().settings);
    }
}
