//! Which VIPs a node refuses, and with which words.

use super::*;

#[test]
fn what_can_not_be_is_refused_with_the_reason() {
    let with_ports = |ports: [&str; 2]| Request {
        ports: Some(ports.map(Into::into).into()),
        ..wide("10.1.0.50")
    };
    let with_gateway = |gateway| Request {
        gateway: Some(ip(gateway)),
        ..wide("10.1.0.50")
    };
    let with_subnet = |vip, subnet: &str| Request {
        subnet: Some(subnet.parse().unwrap()),
        ..request(vip)
    };
    for (refused, why) in [
        (
            request("10.9.0.50"),
            "host: parameter ip: 10.9.0.50 is in no subnet of this node (10.1.0.0/24, 10.2.0.0/24)",
        ),
        (
            request("10.1.0.1"),
            "host: parameter ip: 10.1.0.1 is an address of this node's own interface a0",
        ),
        (
            with_ports(["x0", "x1"]),
            "host: parameter ports: this node has none of x0 x1",
        ),
        (
            with_gateway("10.2.0.254"),
            "config: parameter gateway: 10.2.0.254 is not in subnet 10.1.0.0/24",
        ),
        (
            with_subnet("10.1.0.50", "10.3.0.0/24"),
            "config: parameter ip: 10.1.0.50 is not in subnet 10.3.0.0/24",
        ),
        (
            with_subnet("10.3.0.50", "10.3.0.0/24"),
            "host: no interface of this node has an address in 10.3.0.0/24: set ports",
        ),
    ] {
        assert_eq!(problem(&node(), &refused), why);
    }
}

#[test]
fn the_first_and_the_last_address_of_a_subnet_are_nobodys() {
    for (vip, subnet) in [
        ("10.1.0.0", "10.1.0.0/24"),
        ("10.1.0.255", "10.1.0.0/24"),
        ("2001:db8:1::", "2001:db8:1::/64"),
    ] {
        assert_eq!(
            problem(&node(), &request(vip)),
            format!(
                "config: parameter ip: {vip} is the first or last address of {subnet}, which no \
                 host may use"
            )
        );
    }
}

#[test]
fn an_address_in_use_here_is_refused_until_its_cell_is_dead() {
    let mut state = node();
    started(&mut state, &request("10.1.0.50"));
    let other = Request {
        behind: Behind::Cell("b-beta".into()),
        ..request("10.1.0.50")
    };
    assert_eq!(
        problem(&state, &other),
        "host: parameter ip: 10.1.0.50 is already in use by vserver alpha on this node"
    );
    assert_eq!(holder(other.vip, &state), Some(&"b-alpha".into()));
    // What is left of a dead cell is taken over.
    state.links.retain(|l| l.name != "b-alpha");
    started(&mut state, &other);
    assert_eq!(verdict(&state, &other), Verdict::Running);
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
