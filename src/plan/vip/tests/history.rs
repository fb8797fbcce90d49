//! Whatever happened to a node before: a start brings its VIP into service, and stops leave nothing.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

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
