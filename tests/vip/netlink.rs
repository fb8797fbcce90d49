//! The netlink verbs against the kernel, in namespaces of their own, checked with `ip -j`.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use berth::sys::netlink::{
    Action, Address, Applied, Incoming, LinkChange, OF_VRF, Proxy, Route, RouteFilter, Rule, Scope,
    Socket, Veth, Via,
};
use berth::types::{Family, Mac};
use serde_json::json;

use crate::namespace::Namespace;
use crate::network::port;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pair(node: &Namespace, cell: &Namespace) -> Socket {
    let mut socket = Socket::in_netns(node).unwrap();
    let veth = Veth {
        name: "b-alpha",
        peer: "eth0",
        peer_namespace: Some(cell.as_fd()),
        mac: MAC,
        mtu: Some(1400),
    };
    assert_eq!(socket.create_veth(&veth).unwrap(), Applied::Changed);
    assert_eq!(socket.create_veth(&veth).unwrap(), Applied::Already);
    let change = LinkChange {
        up: Some(true),
        arp: Some(false),
        generated_address: Some(false),
        ..LinkChange::default()
    };
    socket.change_link("b-alpha", &change).unwrap();
    let mut inner = Socket::in_netns(cell).unwrap();
    inner.change_link("eth0", &change).unwrap();
    socket
}

#[test]
#[ignore = "needs root"]
fn a_veth_pair_spans_two_namespaces_with_one_mac() {
    let (node, cell) = (Namespace::new(), Namespace::new());
    let mut socket = pair(&node, &cell);
    for (namespace, name) in [(&node, "b-alpha"), (&cell, "eth0")] {
        let seen = &namespace.json(&format!("-d link show {name}"))[0];
        assert_eq!(seen["address"], json!("02:00:00:00:00:07"));
        assert_eq!(seen["mtu"], json!(1400));
        assert_eq!(seen["inet6_addr_gen_mode"], json!("none"));
        let flags = seen["flags"].as_array().unwrap();
        assert!(flags.contains(&json!("NOARP")) && flags.contains(&json!("LOWER_UP")));
    }
    assert_eq!(cell.json("addr show eth0")[0]["addr_info"], json!([]));
    let link = socket.link("b-alpha").unwrap().unwrap();
    assert!(link.up && link.carrier && !link.arp);
    assert_eq!((link.mac, link.kind.as_deref()), (Some(MAC), Some("veth")));
    assert!(socket.links().unwrap().contains(&link));
    assert_eq!(socket.link("nonesuch").unwrap(), None);
    assert_eq!(socket.link("a-name-longer-than-allowed").unwrap(), None);
    assert_eq!(socket.delete_link("b-alpha").unwrap(), Applied::Changed);
    assert_eq!(socket.delete_link("b-alpha").unwrap(), Applied::Already);
    assert_eq!(Socket::in_netns(&cell).unwrap().link("eth0").unwrap(), None);
}

#[test]
#[ignore = "needs root"]
fn addresses_are_usable_at_once_and_carry_their_maker() {
    let (node, cell) = (Namespace::new(), Namespace::new());
    pair(&node, &cell);
    let mut socket = Socket::in_netns(&cell).unwrap();
    let eth0 = socket.link("eth0").unwrap().unwrap().index;
    for (text, scope) in [
        ("10.1.0.50/32", Scope::Universe),
        ("2001:db8::50/128", Scope::Universe),
        ("127.77.0.1/32", Scope::Host),
    ] {
        let address = Address {
            link: eth0,
            address: text.parse().unwrap(),
            scope,
            protocol: 190,
            unusable: false,
        };
        assert_eq!(socket.add_address(&address).unwrap(), Applied::Changed);
        assert_eq!(socket.add_address(&address).unwrap(), Applied::Already);
        assert!(socket.addresses(Some(eth0)).unwrap().contains(&address));
        let shown = cell.sh("ip addr show eth0");
        assert!(
            shown.contains(text) && !shown.contains("tentative"),
            "{shown}"
        );
        assert_eq!(socket.delete_address(&address).unwrap(), Applied::Changed);
        assert_eq!(socket.delete_address(&address).unwrap(), Applied::Already);
    }
    assert_eq!(cell.json("addr show eth0")[0]["addr_info"], json!([]));
}

#[test]
#[ignore = "needs root"]
fn routes_of_every_kind_go_in_and_come_out_unchanged() {
    let (node, cell) = (Namespace::new(), Namespace::new());
    pair(&node, &cell);
    let mut socket = Socket::in_netns(&cell).unwrap();
    let eth0 = socket.link("eth0").unwrap().unwrap().index;
    let route = |destination: &str, via: Via, metric: u32| Route {
        destination: destination.parse().unwrap(),
        via,
        table: 1190,
        metric,
        protocol: 190,
        rto_min: None,
    };
    let gateway = |address: &str, onlink| Via::Gateway {
        link: eth0,
        gateway: ip(address),
        onlink,
    };
    let mut default = route("0.0.0.0/0", gateway("169.254.1.1", true), 20);
    default.rto_min = Some(Duration::from_millis(20));
    let all = [
        route("10.1.0.50/32", Via::Link(eth0), 10),
        route("10.1.0.50/32", Via::Unreachable, 4_278_198_272),
        default,
        route("2001:db8::50/128", Via::Link(eth0), 10),
        route("2001:db8::50/128", Via::Unreachable, 4_278_198_272),
        route("::/0", gateway("fe80::1", false), 1024),
    ];
    let list = |socket: &mut Socket| {
        let filter = RouteFilter {
            table: Some(1190),
            protocol: Some(190),
        };
        Family::BOTH
            .map(|f| socket.routes(f, filter).unwrap())
            .concat()
    };
    assert!(list(&mut socket).is_empty());
    for r in &all {
        assert_eq!(socket.add_route(r).unwrap(), Applied::Changed, "{r}");
        assert_eq!(socket.add_route(r).unwrap(), Applied::Already, "{r}");
        socket.replace_route(r).unwrap();
    }
    let (mut seen, mut wanted) = (list(&mut socket), all.to_vec());
    seen.sort();
    wanted.sort();
    assert_eq!(seen, wanted);
    let shown = cell.sh("ip route show table 1190");
    assert!(
        shown.contains(
            "default via 169.254.1.1 dev eth0 proto 190 metric 20 onlink rto_min lock 20ms"
        ),
        "{shown}"
    );
    for r in &all {
        assert_eq!(socket.delete_route(r).unwrap(), Applied::Changed, "{r}");
        assert_eq!(socket.delete_route(r).unwrap(), Applied::Already, "{r}");
    }
    assert!(list(&mut socket).is_empty());
}

#[test]
#[ignore = "needs root"]
fn rules_and_proxies_are_told_from_those_of_others() {
    let (node, cell) = (Namespace::new(), Namespace::new());
    let mut socket = pair(&node, &cell);
    let link = socket.link("b-alpha").unwrap().unwrap().index;
    node.ip("rule add pref 200 from 10.1.0.51 lookup 7");
    node.ip("neigh add proxy 10.1.0.51 dev b-alpha");
    for address in [ip("10.1.0.50"), ip("2001:db8::50")] {
        let family = Family::of(&address);
        let from = Rule {
            family,
            preference: 200,
            from: Some(address),
            incoming: Incoming::Any,
            action: Action::Lookup(1002),
            protocol: 190,
        };
        let all = Rule {
            preference: 100,
            from: None,
            action: Action::Lookup(190),
            ..from.clone()
        };
        let nothing = Rule {
            preference: 500,
            action: Action::Nothing,
            ..all.clone()
        };
        let goto = Rule {
            preference: 300,
            action: Action::Goto(500),
            ..from.clone()
        };
        let [by, forwarded] = [Incoming::By(port("nonesuch")), Incoming::Forwarded];
        let [by, forwarded] = [by, forwarded].map(|incoming| Rule {
            preference: 400,
            incoming,
            action: Action::Blackhole,
            ..all.clone()
        });
        let rules = [&from, &all, &nothing, &goto, &by, &forwarded];
        for rule in rules {
            assert_eq!(socket.add_rule(rule).unwrap(), Applied::Changed);
            assert_eq!(socket.add_rule(rule).unwrap(), Applied::Already);
            assert!(socket.rules(family).unwrap().contains(rule));
        }
        // As the first VRF of a node has it made.
        let option = if address.is_ipv4() { "-4" } else { "-6" };
        let of_vrf = |rule: &Rule| rule.action == Action::Lookup(OF_VRF);
        assert!(!socket.rules(family).unwrap().iter().any(of_vrf));
        node.ip(&format!("{option} rule add l3mdev pref 1000"));
        assert!(socket.rules(family).unwrap().iter().any(of_vrf));
        let proxy = Proxy {
            link,
            address,
            protocol: 190,
        };
        for _ in 0..2 {
            socket.add_proxy(&proxy).unwrap();
        }
        assert!(socket.proxies(family).unwrap().contains(&proxy));
        let shown = node.sh(&format!(
            "ip {} neigh show proxy",
            if address.is_ipv6() { "-6" } else { "-4" }
        ));
        assert!(shown.contains(&format!("{address} dev b-alpha")), "{shown}");
        let six = if address.is_ipv6() { "-6" } else { "" };
        let shown = node.sh(&format!("ip {six} rule show"));
        for words in [
            &format!("from {address} goto 500"),
            "from all iif nonesuch [detached] blackhole",
            "not from all iif lo blackhole",
            "from all nop",
        ] {
            assert!(shown.contains(words), "{shown}");
        }
        for rule in rules {
            assert_eq!(socket.delete_rule(rule).unwrap(), Applied::Changed);
            assert_eq!(socket.delete_rule(rule).unwrap(), Applied::Already);
        }
        assert_eq!(socket.delete_proxy(&proxy).unwrap(), Applied::Changed);
        assert_eq!(socket.delete_proxy(&proxy).unwrap(), Applied::Already);
    }
    let others: Vec<_> = socket.proxies(Family::V4).unwrap();
    assert_eq!((others.len(), others[0].protocol), (1, 0));
    assert!(
        node.sh("ip rule show pref 200")
            .contains("from 10.1.0.51 lookup 7")
    );
}

#[test]
#[ignore = "needs root"]
fn errors_name_verb_object_and_the_kernels_reason() {
    let node = Namespace::new();
    let mut socket = Socket::in_netns(&node).unwrap();
    let error = socket
        .change_link("eth9", &LinkChange::default())
        .unwrap_err();
    assert_eq!(error.to_string(), "change link eth9: No such device");
    let route = Route {
        destination: "10.1.0.50/32".parse().unwrap(),
        via: Via::Link(99),
        table: 190,
        metric: 10,
        protocol: 190,
        rto_min: None,
    };
    let error = socket.add_route(&route).unwrap_err().to_string();
    assert!(
        error.starts_with("add route 10.1.0.50/32 link 99 table 190 metric 10: No such device"),
        "{error}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_port_of_a_bridge_is_known_as_that_and_refused_where_it_is_named() {
    let node = Namespace::new();
    let mut socket = Socket::in_netns(&node).unwrap();
    node.sh("ip link add eth7 type veth peer name eth8 && ip link add br0 type bridge");
    let agent = env!("CARGO_BIN_EXE_portwatch");
    let validate = format!(
        "OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 OCF_RESOURCE_INSTANCE=portwatch OCF_CHECK_LEVEL=10 \
         OCF_RESKEY_ports='eth7=office eth8=office' {agent} validate-all 2>&1; echo code $?"
    );
    let said = node.sh(&validate);
    assert!(said.ends_with("code 0\n"), "{said}");
    node.sh("ip link set eth8 master br0");
    let all = socket.links().unwrap();
    let named = |name: &str| all.iter().find(|link| link.name == name).unwrap();
    assert_eq!(named("eth8").taken_by(&all), Some(named("br0")));
    assert_eq!(named("br0").taken_by(&all), None);
    let said = node.sh(&validate);
    assert!(
        said.contains("parameter ports: eth8 is part of br0: name br0"),
        "{said}"
    );
    assert!(said.ends_with("code 2\n"), "{said}");
    node.sh("ip link set eth8 nomaster");
    let all = socket.links().unwrap();
    assert!(all.iter().all(|link| link.taken_by(&all).is_none()));
}
