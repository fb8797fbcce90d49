//! Subnets with their gateways and targets, and virtual IP addresses with their ports.

use berth::config;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::Features;

use super::{GOOD, refused};

#[test]
fn a_subnet_is_a_network_that_clients_can_be_in() {
    refused(&[
        // host bits
        (
            r#""10.2.0.0/24""#,
            r#""10.2.0.1/24""#,
            &[
                r#"berth.toml:3: subnets.lab.cidr: "10.2.0.1/24" has host bits set, the network is "10.2.0.0/24""#,
            ],
        ),
        // no prefix
        (
            r#""10.2.0.0/24""#,
            r#""10.2.0.0""#,
            &[r#"berth.toml:3: subnets.lab.cidr: "10.2.0.0" is no network, such as "10.1.0.0/24""#],
        ),
        // no network
        (
            r#""10.2.0.0/24""#,
            r#""10.2.0.0/33""#,
            &[
                r#"berth.toml:3: subnets.lab.cidr: "10.2.0.0/33" is no network, such as "10.1.0.0/24""#,
            ],
        ),
        // IPv6 under cidr
        (
            r#""10.2.0.0/24""#,
            r#""fd00:2::/64""#,
            &[r#"berth.toml:3: subnets.lab.cidr: "fd00:2::/64" belongs under cidr6"#],
        ),
        // link-local network
        (
            r#""10.2.0.0/24""#,
            r#""169.254.0.0/16""#,
            &[
                r#"berth.toml:3: subnets.lab.cidr: "169.254.0.0/16" is no network that clients can be in"#,
            ],
        ),
        // overlapping subnets
        (
            r#""10.2.0.0/24""#,
            r#""10.1.0.0/16""#,
            &[
                "berth.toml:3: subnets.lab: 10.1.0.0/16 overlaps 10.1.0.0/24 of office (line 2)",
                "berth.toml:12: vserver.alpha.vips: 10.2.0.50 is not in lab (10.1.0.0/16)",
            ],
        ),
    ]);
}

#[test]
fn a_gateway_is_another_host_of_its_subnet() {
    refused(&[
        // gateway elsewhere
        (
            r#""10.1.0.254""#,
            r#""10.3.0.254""#,
            &["berth.toml:2: subnets.office.gateway: 10.3.0.254 is not in subnet 10.1.0.0/24"],
        ),
        // gateway without network
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            r#"lab = { cidr = "10.2.0.0/24", gateway6 = "fd00:2::1" }"#,
            &[
                r#"berth.toml:3: subnets.lab.gateway6: fd00:2::1 needs cidr6, such as "fd00:1::/64""#,
            ],
        ),
        // gateways that lead nowhere
        (
            r#"gateway = "10.1.0.254""#,
            r#"gateway = "10.1.0.0""#,
            &[
                "berth.toml:2: subnets.office.gateway: 10.1.0.0 is the first or last address of 10.1.0.0/24, which no host may use",
            ],
        ),
        (
            r#"cidr6 = "fd00:1::/64""#,
            r#"cidr6 = "fd00:1::/64", gateway6 = "fd00:1::""#,
            &[
                "berth.toml:2: subnets.office.gateway6: fd00:1:: is the first or last address of fd00:1::/64, which no host may use",
            ],
        ),
        (
            r#"cidr6 = "fd00:1::/64""#,
            r#"cidr6 = "fd00:1::/64", gateway6 = "10.1.0.254""#,
            &["berth.toml:2: subnets.office.gateway6: 10.1.0.254 is no IPv6 address"],
        ),
        (
            r#"subnet = "lab" }"#,
            r#"gateway = "10.2.0.255" }"#,
            &[
                "berth.toml:12: vserver.alpha.vips: the gateway 10.2.0.255 of 10.2.0.50 is the first or last address of 10.2.0.0/24, which no host may use",
            ],
        ),
        (
            r#"subnet = "lab" }"#,
            r#"gateway = "10.2.0.50" }"#,
            &[
                "berth.toml:12: vserver.alpha.vips: the gateway 10.2.0.50 of 10.2.0.50 is the virtual IP address itself",
            ],
        ),
        (
            r#"["fd00:1::50"]"#,
            r#"["fd00:1::50", { ip = "10.1.0.51", gateway = "10.1.0.50" }]"#,
            &[
                "berth.toml:24: vserver.beta.vips: the gateway 10.1.0.50 of 10.1.0.51 is an address of alpha",
            ],
        ),
    ]);
}

#[test]
fn the_usual_gateway_of_ipv6_is_taken() {
    let subnet = GOOD.replace(
        r#"cidr6 = "fd00:1::/64""#,
        r#"cidr6 = "fd00:1::/64", gateway6 = "fe80::1""#,
    );
    let own = GOOD.replace(
        r#"["fd00:1::50"]"#,
        r#"[{ ip = "fd00:1::50", gateway = "fe80::1" }]"#,
    );
    for toml in [subnet, own] {
        let config = config::parse("berth.toml", &toml).unwrap();
        let plan = build::build(&config, Features::CURRENT, &Known::new());
        let vip = plan.resources.iter().find(|r| r.id == "beta-ip1").unwrap();
        assert!(vip.params.contains(&("gateway", "fe80::1".to_owned())));
    }
}

#[test]
fn a_target_is_another_host_of_its_subnet() {
    refused(&[
        // target elsewhere
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.1", "10.1.0.1"] }"#,
            &["berth.toml:3: subnets.lab.targets: 10.1.0.1 is not in 10.2.0.0/24"],
        ),
        // target no host's, target no address
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.255", "router"] }"#,
            &[
                r#"berth.toml:3: subnets.lab.targets: "router" is no address, such as "10.1.0.50""#,
                "berth.toml:3: subnets.lab.targets: 10.2.0.255 is the first or last address of 10.2.0.0/24, which no host may use",
            ],
        ),
        // vip as a target
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.50"] }"#,
            &[
                "berth.toml:12: vserver.alpha.vips: 10.2.0.50 is a target of lab (line 3), which must be a host that does not depend on this cluster",
            ],
        ),
    ]);
}

#[test]
fn an_address_is_a_hosts_in_its_subnet_and_nobody_elses() {
    refused(&[
        // vip in no subnet
        (
            r#""10.1.0.50""#,
            r#""10.9.0.50""#,
            &[
                "berth.toml:12: vserver.alpha.vips: 10.9.0.50 is in no subnet (declared: office (10.1.0.0/24, fd00:1::/64) and lab (10.2.0.0/24))",
            ],
        ),
        // vip not in its subnet
        (
            r#""10.2.0.50""#,
            r#""10.1.0.51""#,
            &["berth.toml:12: vserver.alpha.vips: 10.1.0.51 is not in lab (10.2.0.0/24)"],
        ),
        // no address
        (
            r#""10.1.0.50""#,
            r#""10.1.0""#,
            &[r#"berth.toml:12: vserver.alpha.vips: "10.1.0" is no address, such as "10.1.0.50""#],
        ),
        // network address
        (
            r#""10.1.0.50""#,
            r#""10.1.0.0""#,
            &[
                "berth.toml:12: vserver.alpha.vips: 10.1.0.0 is the first or last address of 10.1.0.0/24, which no host may use",
            ],
        ),
        // broadcast address
        (
            r#""10.1.0.50""#,
            r#""10.1.0.255""#,
            &[
                "berth.toml:12: vserver.alpha.vips: 10.1.0.255 is the first or last address of 10.1.0.0/24, which no host may use",
            ],
        ),
        // gateway as vip
        (
            r#""10.1.0.50""#,
            r#""10.1.0.254""#,
            &[
                "berth.toml:12: vserver.alpha.vips: 10.1.0.254 is the gateway of office, choose another address",
            ],
        ),
        // duplicate vip
        (
            r#""fd00:1::50""#,
            r#""10.1.0.50""#,
            &[
                "berth.toml:24: vserver.beta.vips: address 10.1.0.50 is used twice, first by alpha in line 12",
            ],
        ),
    ]);
}

#[test]
fn a_port_of_an_address_is_where_its_clients_are() {
    refused(&[
        (
            r#"subnet = "lab" }"#,
            r#"subnet = "lab", ports = ["eth2", "eth1"] }"#,
            &[
                "berth.toml:12: vserver.alpha.vips: port eth1 is on office at n1 (line 5), not on lab, where 10.2.0.50 is",
            ],
        ),
        (
            r#"["fd00:1::50"]"#,
            r#"[{ ip = "fd00:1::50", ports = ["eth2"] }]"#,
            &[
                "berth.toml:24: vserver.beta.vips: port eth2 is on lab at n1 (line 5), not on office, where fd00:1::50 is",
            ],
        ),
    ]);
}
