//! Tests of the decisions, on a model of a node: a state, and [`apply`].

use std::net::IpAddr;

use super::change::apply;
use super::*;

mod detours;
mod forwarding;
mod history;
mod lifecycle;
mod place;
mod refused;
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
    let shut = |cell: &str, family| Rule::shut(family, Incoming::By(cell.into()));
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
fn started(state: &mut Observed, request: &Request) -> Option<IfName> {
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

/// What portwatch has told of a port of [`node`].
fn watch(state: &mut Observed, port: &str, standing: Standing) {
    let (net, gateway) = match port {
        "c0" => ("10.2.0.0/24", "10.2.0.254"),
        _ => ("10.1.0.0/24", "10.1.0.254"),
    };
    let watched = Watched {
        standing,
        load: 0,
        nets: vec![(net.parse().unwrap(), Some(ip(gateway)))],
    };
    state.watched.insert(port.into(), watched);
}
