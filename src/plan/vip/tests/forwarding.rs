//! Which settings let a node forward packets, and what is closed to all others before they do.

use super::*;

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
