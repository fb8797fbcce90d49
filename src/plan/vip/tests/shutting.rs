//! Tests of the rules by which a node without its nftables tables forwards nothing but VIPs' packets.

use super::*;

#[test]
fn nothing_is_forwarded_but_for_vips_whatever_becomes_of_the_tables() {
    for (vip, family) in [("10.1.0.50", Family::V4), ("2001:db8:1::50", Family::V6)] {
        for (request, passes) in [(request(vip), true), (wide(vip), false)] {
            let mut state = node();
            // As it is when its keeper is of the version before, or somebody took it away.
            let bar = Object::Rule(Rule::shut(family, Incoming::By("b-alpha".into())));
            state.objects.remove(&bar);
            let steps = {
                let desired = Desired::new(&request, &state).unwrap();
                start(&desired, &state)
            };
            let at = |step: &Step| steps.iter().position(|s| s == step);
            let shut = |link: &str| Object::Rule(Rule::shut(family, Incoming::By(link.into())));
            let opens = match family {
                Family::V4 => "ipv4/conf/a0/forwarding",
                Family::V6 => "ipv6/conf/a0/force_forwarding",
            };
            let opened = at(&Step::Set(opens.into(), 1)).unwrap();
            assert!(at(&Step::Add(shut("a0"))).unwrap() < opened);
            let host = Object::Rule(Rule::host(family, Incoming::By("a0".into())));
            assert!(at(&Step::Add(host.clone())).unwrap() < opened);
            assert!(at(&Step::Add(bar.clone())).unwrap() < opened);
            run(&mut state, &steps);
            let is_pass = |rule: &Rule| rule.preference == PASS_RULE;
            assert_eq!(state.rules().any(is_pass), passes, "{vip}");
            assert_eq!(state.objects.contains(&shut("a1")), !passes, "{vip}");
            let steps = stop(ip(vip), &state);
            let at = |step: &Step| steps.iter().position(|s| s == step);
            let closed = at(&Step::Restore(opens.into())).unwrap();
            let opened = at(&Step::Remove(shut("a0"))).unwrap();
            assert!(closed < opened && opened < at(&Step::Remove(host)).unwrap());
            run(&mut state, &steps);
            // The cell lives.
            assert_eq!(state, node());
            // A port that forwarded before is not shut, nor does any rule shut all of them.
            state.settings.insert(opens.into(), 1);
            started(&mut state, &request);
            assert!(!state.objects.contains(&shut("a0")));
            // Of a cell that is gone nothing stays.
            state.links.retain(|link| link.name != "b-alpha");
            let steps = stop(ip(vip), &state);
            run(&mut state, &steps);
            assert!(!state.objects.contains(&bar));
        }
    }
}

#[test]
fn a_kernel_that_forwards_ipv6_on_all_interfaces_or_on_none_is_shut_as_a_whole() {
    let mut state = node();
    state
        .settings
        .retain(|key, _| !key.ends_with("/force_forwarding"));
    let (request, before) = (request("2001:db8:1::50"), state.clone());
    started(&mut state, &request);
    let all = Object::Rule(Rule::shut(Family::V6, Incoming::Forwarded));
    assert!(state.objects.contains(&all));
    assert_eq!(state.settings["ipv6/conf/all/forwarding"], 1);
    let steps = stop(request.vip, &state);
    run(&mut state, &steps);
    assert_eq!(state, before);
    // What comes in by a VRF is found nowhere before.
    state.has_vrfs = true;
    started(&mut state, &request);
    assert!(!state.objects.contains(&all));
    let steps = stop(request.vip, &state);
    run(&mut state, &steps);
    // The administrator's router stays one.
    state.has_vrfs = false;
    state.settings.insert("ipv6/conf/all/forwarding".into(), 1);
    started(&mut state, &request);
    assert!(!state.objects.contains(&all));
}

#[test]
fn a_node_that_another_version_has_brought_into_service_is_well_and_is_shut_by_the_next_start() {
    for vip in ["10.1.0.50", "2001:db8:1::50"] {
        for request in [request(vip), wide(vip)] {
            let mut state = node();
            started(&mut state, &request);
            let whole = state.objects.clone();
            let new = |object: &Object| match object {
                Object::Rule(rule) => (PASS_RULE..=GO_ON_RULE).contains(&rule.preference),
                _ => false,
            };
            state.objects.retain(|object| !new(object));
            // Its rule for what the VIP sends does not say where that comes in.
            let is_from = |rule: &&Rule| rule.from == Some(request.vip);
            let from = state.rules().find(is_from).unwrap().clone();
            let general = Rule {
                incoming: Incoming::Any,
                ..from.clone()
            };
            state.objects.remove(&Object::Rule(from));
            state.objects.insert(Object::Rule(general.clone()));
            assert_eq!(verdict(&state, &request), Verdict::Running);
            started(&mut state, &request);
            assert!(!state.objects.contains(&Object::Rule(general)));
            // Without the other cell's, which is not this VIP's.
            let others = |object: &&Object| matches!(object, Object::Rule(rule) if rule.incoming == Incoming::By("b-beta".into()));
            let family = Family::of(&request.vip);
            let bar = Object::Rule(Rule::shut(family, Incoming::By("b-alpha".into())));
            assert!(state.objects.contains(&bar));
            let missing: Vec<_> = whole.difference(&state.objects).collect();
            let left = missing.iter().filter(|object| !others(object));
            let left =
                left.filter(|object| matches!(object, Object::Rule(rule) if rule.family == family));
            assert_eq!(left.count(), 0, "{missing:?}");
        }
    }
}

#[test]
fn the_way_out_is_known_by_the_rule_for_what_is_forwarded_alone() {
    for vip in ["10.1.0.50", "2001:db8:1::50"] {
        let (mut state, request) = (node(), wide(vip));
        started(&mut state, &request);
        state.objects.retain(|o| !matches!(o, Object::Proxy(..)));
        let port = present_port(request.vip, &state);
        assert_eq!(port.as_deref(), Some("a0"));
        let asked = Incoming::By(IfName::loopback());
        let is_asked = |rule: &&Rule| rule.incoming == asked;
        let rule = state.rules().find(is_asked).unwrap().clone();
        // One of an earlier place, left behind.
        let astray = Rule {
            action: Action::Lookup(LAST_TABLE),
            ..rule.clone()
        };
        state.objects.remove(&Object::Rule(rule));
        assert_eq!(present_port(request.vip, &state), port);
        state.objects.insert(Object::Rule(astray.clone()));
        assert_eq!(present_port(request.vip, &state), port);
        started(&mut state, &request);
        assert!(!state.objects.contains(&Object::Rule(astray)));
    }
}
