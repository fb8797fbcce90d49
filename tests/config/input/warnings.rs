//! What is no mistake, but most likely not meant: told beside that the file is good.

use berth::config;

use super::GOOD;

#[test]
fn fewer_processes_than_connections_of_smb_are_a_warning() {
    let warned = |services: &str, pids: u32| {
        let toml = format!(
            "[subnets]\na = {{ cidr = \"10.1.0.0/24\" }}\n[vserver.v]\nservices = [{services}]\nvips = [\"10.1.0.50\"]\n\
             max_connections = 2000\npids_max = {pids}\n[[vserver.v.filesystem]]\ndevice = \"/dev/a\"\npath = \"/a\"\n"
        );
        let config = config::parse("berth.toml", &toml).unwrap();
        config::warnings(&config)
    };
    let line = "vserver.v: pids_max = 2499 is too little for max_connections = 2000 over SMB, which takes a process \
                for each: 2500 or more";
    assert_eq!(warned("\"smb\"", 2499), [line]);
    assert!(warned("\"nfs\", \"smb\"", 2500).is_empty());
    assert!(warned("\"nfs\"", 64).is_empty());
}

#[test]
fn interfaces_named_differently_on_the_nodes_are_a_warning() {
    let swapped = "[nodes.n2]\nports = { eth1 = \"lab\", eth2 = \"office\" }";
    let config = config::parse("berth.toml", &GOOD.replace("[nodes.n2]", swapped)).unwrap();
    let warnings = config::warnings(&config);
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].starts_with("ports of subnet office are on another subnet on some node"));
}

#[test]
fn addresses_that_no_node_could_route_are_a_warning() {
    let toml = "[subnets]\na = { cidr = \"10.1.0.0/24\", cidr6 = \"fd00:1::/64\" }\nb = { cidr6 = \"fd00:2::/64\" }\n\
        [nodes.n1]\nports = { e1 = \"a\", e2 = \"b\" }\n[nodes.n2]\nports = { e1 = \"a\", e2 = \"b\" }\n[nodes.n3]\n\
        [vserver.v]\nservices = [\"nfs\"]\nvips = [\"fd00:1::50\", \"fd00:1::51\", \"10.1.0.50\"]\n\
        [[vserver.v.filesystem]]\ndevice = \"/dev/a\"\npath = \"/a\"\n";
    let warning = |ips: &str, nodes: &str, family: &str| {
        format!(
            "{ips} can't be rerouted when a is lost at {nodes}: this needs another node on a that has a second {family}subnet in common with that one; give the nodes such ports, or set on_subnet_loss = \"migrate\""
        )
    };
    let check = |toml: &str, expected: &[String]| {
        let config = config::parse("berth.toml", toml).unwrap();
        assert_eq!(config::warnings(&config), expected, "{toml}");
    };
    // An address of each family needs a second subnet of it.
    check(toml, &[warning("10.1.0.50", "n1 or n2", "IPv4 ")]);
    check(
        &toml.replace("b = { ", "b = { cidr = \"10.2.0.0/24\", "),
        &[],
    );
    let migrating = "{ ip = \"10.1.0.50\", on_subnet_loss = \"migrate\" }";
    check(&toml.replace("\"10.1.0.50\"", migrating), &[]);
    let toml = toml.replace(", \"10.1.0.50\"", "");
    check(&toml, &[]);
    // n2 and n3 can do it for each other, but not for n1; nobody asks for n1 where it never is.
    let toml = toml.replacen("e1 = \"a\", e2 = \"b\"", "e1 = \"a\"", 1);
    let third = "[nodes.n3]\nports = { e1 = \"a\", e2 = \"b\" }\n";
    let toml = toml.replace("[nodes.n3]\n", third);
    check(&toml, &[warning("fd00:1::50 and fd00:1::51", "n1", "")]);
    let elsewhere = toml.replace("services =", "stay_on = \"n3\"\nservices =");
    check(&elsewhere, &[]);
    // The only port that one of them may use is on no node.
    let port = "{ ip = \"fd00:1::50\", ports = [\"e9\"] }";
    let port = elsewhere.replace("\"fd00:1::50\"", port);
    let unwatched =
        "no node has e9 of fd00:1::50 among its ports, so nobody watches whether it works";
    check(
        &port,
        &[unwatched.to_owned(), warning("fd00:1::50", "n3", "")],
    );
    // Without ports nothing is rerouted, on purpose.
    let without = toml.lines().filter(|line| !line.starts_with("ports ="));
    check(&without.collect::<Vec<_>>().join("\n"), &[]);
}
