//! Names of nodes, subnets, interfaces and virtual servers: how they are spelt, and that they are declared once.

use super::refused;

#[test]
fn a_name_that_is_declared_nowhere_is_told_with_those_that_are() {
    refused(&[
        // unknown node
        (
            r#"stay_on = "n1""#,
            r#"stay_on = "n3""#,
            &[
                r#"berth.toml:11: vserver.alpha.stay_on: unknown node "n3", did you mean n1? (declared: n1 and n2)"#,
            ],
        ),
        // unknown subnet of a port
        (
            r#"eth2 = "lab""#,
            r#"eth2 = "lba""#,
            &[
                r#"berth.toml:5: nodes.n1.ports.eth2: unknown subnet "lba", did you mean lab? (declared: office and lab)"#,
            ],
        ),
        // unknown subnet of a vip
        (
            r#"subnet = "lab" }"#,
            r#"subnet = "labor" }"#,
            &[
                r#"berth.toml:12: vserver.alpha.vips: unknown subnet "labor", did you mean lab? (declared: office and lab)"#,
            ],
        ),
        // unknown unit
        (
            r#"unit = "array1""#,
            r#"unit = "array2""#,
            &[
                r#"berth.toml:16: vserver.alpha.filesystem.unit: unknown storage unit "array2", did you mean array1? (declared: array1)"#,
            ],
        ),
    ]);
}

#[test]
fn a_virtual_servers_name_fits_an_interface_and_the_clusters_resources() {
    refused(&[
        // long vserver name
        (
            "vserver.beta",
            "vserver.betabetabetabe",
            &[
                r#"berth.toml:23: vserver.betabetabetabe: the name "betabetabetabe" is 14 characters long; the longest allowed is 13"#,
            ],
        ),
        // capital in vserver name
        (
            "vserver.beta",
            "vserver.Beta",
            &[
                r#"berth.toml:23: vserver.Beta: the name "Beta" has 'B' in it; allowed are a-z, 0-9 and -"#,
            ],
        ),
        // the name of a resource of berth's own
        (
            "vserver.beta",
            "vserver.portwatch",
            &[
                r#"berth.toml:23: vserver.portwatch: the name "portwatch" is one that berth itself uses in the cluster, choose another"#,
            ],
        ),
        (
            "[vserver.beta]\nvips = [\"fd00:1::50\"]\n[[vserver.beta.filesystem]]",
            "[vserver.beta.example]\nvips = [\"fd00:1::50\"]\n[[vserver.beta.example.filesystem]]",
            &[
                r#"berth.toml:23: vserver.beta.example: the name "beta.example" has '.' in it; allowed are a-z, 0-9 and -"#,
            ],
        ),
        // colliding ids
        (
            "[vserver.beta]",
            r#"[vserver.alpha-data]
vips = ["10.1.0.77"]
[[vserver.alpha-data.filesystem]]
device = "/dev/z"
path = "/z"
smb = { share = "z" }
[vserver.beta]"#,
            &[
                r#"berth.toml:23: vserver.alpha-data: the resource id "alpha-data" is used twice, first by alpha in line 15"#,
            ],
        ),
    ]);
}

#[test]
fn an_interfaces_name_is_one_that_the_kernel_takes_and_no_cells() {
    refused(&[
        // long interface name
        (
            "eth2 =",
            r#""sixteen-chars-16" ="#,
            &[
                r#"berth.toml:5: nodes.n1.ports: the name "sixteen-chars-16" is 16 characters long; the longest allowed is 15"#,
            ],
        ),
        // equals sign in an interface name
        (
            "eth2 =",
            r#""eth=2" ="#,
            &[
                r#"berth.toml:5: nodes.n1.ports: the name "eth=2" has '=' in it: name each interface by itself, without patterns"#,
            ],
        ),
        // blank in an interface name
        (
            "eth2 =",
            r#""eth 2" ="#,
            &[
                r#"berth.toml:5: nodes.n1.ports: the name "eth 2" has ' ' in it; allowed are all but white space, / and :"#,
            ],
        ),
        // names that are no port's
        (
            "eth2 =",
            "lo =",
            &[
                r#"berth.toml:5: nodes.n1.ports: the name "lo" is the node's own loopback interface, where no client is"#,
            ],
        ),
        (
            "eth2 =",
            "b-beta =",
            &[
                r#"berth.toml:5: nodes.n1.ports.b-beta: the name "b-beta" is that of the interface to beta's cell"#,
            ],
        ),
        (
            r#"subnet = "lab" }"#,
            r#"subnet = "lab", ports = ["eth1,eth2", "eth*", "lo", "b-alpha"] }"#,
            &[
                r#"berth.toml:12: vserver.alpha.vips: the name "b-alpha" is that of the interface to alpha's cell"#,
                r#"berth.toml:12: vserver.alpha.vips.ports: the name "eth*" has '*' in it: name each interface by itself, without patterns"#,
                r#"berth.toml:12: vserver.alpha.vips.ports: the name "eth1,eth2" has ',' in it: name each interface by itself, without patterns"#,
                r#"berth.toml:12: vserver.alpha.vips.ports: the name "lo" is the node's own loopback interface, where no client is"#,
            ],
        ),
    ]);
}

#[test]
fn a_nodes_name_is_one_that_a_host_can_have() {
    refused(&[
        // odd node name
        (
            "[nodes.n2]",
            r#"[nodes."n 2"]"#,
            &[
                r#"berth.toml:6: nodes.n 2: the name "n 2" has ' ' in it; allowed are letters, digits, ., - and _"#,
            ],
        ),
        // names of hosts without quotes
        (
            "[nodes.n2]",
            "[nodes.n2.example.com]",
            &[
                r#"berth.toml:6: nodes.n2.example.com: a name with dots needs quotes: [nodes."n2.example.com"]"#,
            ],
        ),
        (
            "[nodes.n2]",
            "[nodes.n2.example.com]\nports = { eth1 = \"office\" }\n[nodes.n3.example.com]",
            &[
                r#"berth.toml:6: nodes.n2.example.com: a name with dots needs quotes: [nodes."n2.example.com"]"#,
                r#"berth.toml:8: nodes.n3.example.com: a name with dots needs quotes: [nodes."n3.example.com"]"#,
            ],
        ),
    ]);
}
