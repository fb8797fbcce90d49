//! Firewalls of others: whether they let through what is forwarded for VIPs.

use berth::ocf::State;

use super::VIPS;
use crate::network::{Network, call, is_shut, serve};

/// As firewalld makes it, with the port in a zone.
const FIREWALLD: &str = "table inet firewalld {
    chain forward_zones {
        ALLOW
        iifname \"a0\" goto public
    }
    chain public {
        jump public_allow
        reject with icmpx admin-prohibited
    }
    chain public_allow {
        oifname \"a0\" accept
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state vmap { invalid : drop }
        jump forward_zones
        reject with icmpx admin-prohibited
    }
}";
/// As Docker and ufw make it.
const DROPPING: &str = "table ip filter {
    chain USER {
        return
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        jump USER
        oifname \"docker0\" ct state related,established accept
        ct state related,established accept
        iifname \"docker0\" oifname != \"docker0\" accept
        ip protocol icmp accept
        ALLOW
    }
}";

#[test]
#[ignore = "needs root"]
fn a_firewall_that_drops_what_is_forwarded_is_named_and_one_that_lets_it_through_is_not() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    for vip in VIPS {
        net.start(&alpha, &alpha.spec(vip)).unwrap();
        serve(&alpha.namespace, vip, 2049, "alpha", 100);
    }
    let dropping6 = DROPPING
        .replace("table ip ", "table ip6 ")
        .replace("ip protocol icmp", "meta l4proto ipv6-icmp");
    for (vip, ruleset, chain) in [
        (
            VIPS[0],
            FIREWALLD,
            "filter_FORWARD of nftables table inet firewalld",
        ),
        (
            VIPS[1],
            FIREWALLD,
            "filter_FORWARD of nftables table inet firewalld",
        ),
        (VIPS[0], DROPPING, "FORWARD of nftables table ip filter"),
        (VIPS[1], &dropping6, "FORWARD of nftables table ip6 filter"),
    ] {
        let spec = alpha.spec(vip);
        for (allow, open) in [
            ("", false),
            // One direction is not enough.
            ("oifname \"b-*\" accept", false),
            ("tcp dport 25 drop", false),
            ("oifname \"b-*\" accept; iifname \"b-*\" accept", true),
            ("ct state untracked accept", true),
            ("ct state { untracked, new } accept", true),
            (
                "tcp dport { 445, 2049 } accept; tcp sport { 445, 2049 } accept",
                true,
            ),
            (
                "iifname . oifname { \"a0\" . \"b-alpha\", \"b-alpha\" . \"a0\" } accept",
                true,
            ),
        ] {
            assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
            assert_eq!(net.monitor(&alpha, &spec), State::Running);
            let rules = ruleset.replace("ALLOW", allow);
            std::fs::write(net.runtime.path().join("rules"), &rules).unwrap();
            let file = net.runtime.path().join("rules").display().to_string();
            net.node.sh(&format!("nft -f {file}"));
            if open {
                assert!(call(&net.client_a, vip, 2049).is_some(), "{vip} {rules}");
            } else {
                assert!(is_shut(&net.client_a, vip, 2049), "{vip} {rules}");
            }
            let state = net.monitor(&alpha, &spec);
            let validated = net.service(vip, |s| s.validate(&spec));
            if open {
                assert_eq!(state, State::Running, "{rules}");
                validated.unwrap();
            } else {
                let why = format!("chain {chain} drops packets of {vip} between a0 and b-alpha");
                assert_eq!(state, State::Degraded(why.clone()), "{rules}");
                assert_eq!(validated.unwrap_err().to_string(), why);
                assert_eq!(net.start(&alpha, &spec).unwrap(), State::Degraded(why));
            }
            net.stop(&alpha, &spec);
            net.node.sh("nft flush ruleset");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn what_others_keep_in_large_sets_is_not_read_to_the_end() {
    let net = Network::new();
    let alpha = net.cell("alpha");
    let spec = alpha.spec("10.1.0.50");
    let block: Vec<String> = (0..20_000)
        .map(|n| format!("10.9.{}.{}", n / 250, n % 250))
        .collect();
    let names: Vec<String> = (0..5000).map(|n| format!("\"d{n}\"")).collect();
    let rules = format!(
        "table inet large {{
            set block {{ type ipv4_addr; elements = {{ {} }}; }}
            set names {{ type ifname; elements = {{ {}, \"a0\" }}; }}
            map leads {{ type ipv4_addr : verdict; elements = {{ 10.9.0.1 : drop }}; }}
            chain forward {{
                type filter hook forward priority 10; policy accept;
                ip saddr @block drop
                ip saddr vmap @leads
                iifname @names drop
            }}
        }}",
        block.join(", "),
        names.join(", ")
    );
    let file = net.runtime.path().join("rules");
    std::fs::write(&file, rules).unwrap();
    net.node.sh(&format!("nft -f {}", file.display()));
    // It is dropped, but that is not looked for.
    assert_eq!(net.start(&alpha, &spec).unwrap(), State::Running);
    assert_eq!(net.monitor(&alpha, &spec), State::Running);
    net.service("10.1.0.50", |s| s.validate(&spec)).unwrap();
    net.node
        .sh("nft 'flush set inet large names; add element inet large names { \"a0\" }'");
    let state = net.monitor(&alpha, &spec);
    assert_eq!(
        state,
        State::Running,
        "what the map leads to may let it pass"
    );
    net.node.sh(
        "nft flush chain inet large forward; nft add rule inet large forward iifname @names drop",
    );
    let why = "chain forward of nftables table inet large drops packets of 10.1.0.50 between a0 and b-alpha";
    assert_eq!(net.monitor(&alpha, &spec), State::Degraded(why.into()));
}
