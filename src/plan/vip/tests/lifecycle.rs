//! A VIP's start and stop: in which order, what a VIP that runs consists of, and that a stop leaves nothing.

use super::*;

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
            Object::Rule(rule) if rule.incoming == Incoming::By(IfName::loopback()) => {
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
