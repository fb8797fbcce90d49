//! What is written in the wrong place, under a key that there is none of, or left out.

use super::refused;

/// The keys of a virtual server, as they are told to who took another one.
macro_rules! vserver_keys {
    () => {
        "(known here: priority, stay_on, services, command, vips, filesystem, config_dir, allow_calls, nfs_lease, nfs_grace, max_connections, max_connections_per_client, stop_timeout, memory_max, pids_max, cpu_weight and io_weight)"
    };
}

#[test]
fn an_unknown_key_is_named_with_those_that_there_are() {
    refused(&[
        // unknown key
        (
            "priority = 100",
            "prioritty = 100",
            &[concat!(
                "berth.toml:10: vserver.alpha.prioritty: unknown key, did you mean priority? ",
                vserver_keys!()
            )],
        ),
        // strange key
        (
            "priority = 100",
            r#"colour = "red""#,
            &[concat!(
                "berth.toml:10: vserver.alpha.colour: unknown key ",
                vserver_keys!()
            )],
        ),
        // unknown top table
        (
            "[storage.array1]",
            "[storrage.array1]",
            &[
                "berth.toml:7: storrage: unknown key, did you mean storage? (known here: subnets, nodes, portwatch, storage and vserver)",
            ],
        ),
        // unknown key in a vip
        (
            r#"subnet = "lab" }"#,
            r#"subnett = "lab" }"#,
            &[
                "berth.toml:12: vserver.alpha.vips.subnett: unknown key, did you mean subnet? (known here: ip, subnet, gateway, ports, on_subnet_loss and announce)",
            ],
        ),
        // unknown key in nfs
        (
            r#"clients = ["*"]"#,
            r#"clients = ["*"], mode = "rw""#,
            &[
                "berth.toml:28: vserver.beta.filesystem.nfs.mode: unknown key (known here: clients, access, squash and ports)",
            ],
        ),
        // unknown setting
        (
            "[storage.array1]",
            "[portwatch]\nintervall = \"1s\"\n[storage.array1]",
            &[
                "berth.toml:8: portwatch.intervall: unknown key, did you mean interval? (known here: interval, fail_after, recover_after and balance)",
            ],
        ),
        (
            "[nodes.n2]",
            "[nodes.n2]\nnics = { eth1 = \"office\" }",
            &["berth.toml:7: nodes.n2.nics: unknown key (known here: ports)"],
        ),
    ]);
}

#[test]
fn of_what_a_misspelt_key_leaves_out_nothing_is_said() {
    refused(&[
        // the table's name misspelt in one of two heads
        (
            "[vserver.beta]",
            "[vservers.beta]",
            &[
                "berth.toml:23: vservers: unknown key, did you mean vserver? (known here: subnets, nodes, portwatch, storage and vserver)",
            ],
        ),
        // a needed key misspelt
        (
            "vips = [\"fd00:1::50\"]",
            "vip = [\"fd00:1::50\"]",
            &[concat!(
                "berth.toml:24: vserver.beta.vip: unknown key, did you mean vips? ",
                vserver_keys!()
            )],
        ),
        (
            r#"clients = ["*"]"#,
            r#"client = ["*"]"#,
            &[
                "berth.toml:28: vserver.beta.filesystem.nfs.client: unknown key, did you mean clients? (known here: clients, access, squash and ports)",
            ],
        ),
        // an export misspelt that is all that is served
        (
            r#"nfs = { clients = ["*"] }"#,
            r#"nsf = { clients = ["*"] }"#,
            &[
                "berth.toml:28: vserver.beta.filesystem.nsf: unknown key, did you mean nfs? (known here: device, path, name, home, fstype, options, unit, repair, nfs and smb)",
            ],
        ),
    ]);
}

#[test]
fn what_has_to_be_there_is_missed() {
    refused(&[
        // subnet without network
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            "lab = { }",
            &["berth.toml:3: subnets.lab: cidr is missing"],
        ),
        // missing device
        (
            r#"device = "/dev/a2"
"#,
            "",
            &["berth.toml:19: vserver.alpha.filesystem: device is missing"],
        ),
        // missing path
        (
            r#"path = "/more"
"#,
            "",
            &["berth.toml:19: vserver.alpha.filesystem: path is missing"],
        ),
        // missing vips
        (
            r#"vips = ["fd00:1::50"]
"#,
            "",
            &["berth.toml:23: vserver.beta.vips: has no address, at least one is needed"],
        ),
        // empty vips
        (
            r#"vips = ["fd00:1::50"]
"#,
            r#"vips = []
"#,
            &["berth.toml:23: vserver.beta.vips: has no address, at least one is needed"],
        ),
        // vip without ip
        (
            r#"ip = "10.2.0.50", "#,
            "",
            &["berth.toml:12: vserver.alpha.vips: ip is missing"],
        ),
        // no clients
        (
            r#"clients = ["*"]"#,
            r#"access = "ro""#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs: clients is missing: list networks or hosts, or "*" for all"#,
            ],
        ),
        // share without name
        (
            r#"share = "more""#,
            r#"users = ["x"]"#,
            &["berth.toml:22: vserver.alpha.filesystem.smb: share is missing"],
        ),
    ]);
}

#[test]
fn what_is_no_toml_is_refused_with_the_line() {
    refused(&[
        // no TOML
        (
            r#"stay_on = "n1""#,
            "stay_on = n1",
            &["berth.toml:11: invalid float, expected `nan`: stay_on = n1"],
        ),
        // duplicate vserver
        (
            r#"[vserver.beta]
vips"#,
            r#"[vserver.alpha]
vips"#,
            &["berth.toml:23: duplicate key: [vserver.alpha]"],
        ),
    ]);
}

#[test]
fn several_mistakes_are_all_told() {
    refused(&[(
        "priority = 100",
        r#"priority = -1
servces = ["nfs", "smb"]
stop_timeout = 0"#,
        &[
            "berth.toml:10: vserver.alpha.priority: number -1 instead of a whole number from 0 to 9999",
            concat!(
                "berth.toml:11: vserver.alpha.servces: unknown key, did you mean services? ",
                vserver_keys!()
            ),
            "berth.toml:12: vserver.alpha.stop_timeout: number 0 instead of a whole number from 1 to 600",
        ],
    )]);
}
