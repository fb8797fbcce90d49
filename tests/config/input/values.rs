//! Values that are of another type, out of their range, none of the words that there are, or empty.

use super::refused;

#[test]
fn a_value_of_another_type_is_refused() {
    refused(&[
        // vips no list
        (
            r#"vips = ["fd00:1::50"]
"#,
            r#"vips = "fd00:1::50"
"#,
            &[r#"berth.toml:24: vserver.beta.vips: text "fd00:1::50" instead of a list"#],
        ),
        // vip a number
        (
            r#"["fd00:1::50"]"#,
            "[5]",
            &["berth.toml:24: vserver.beta.vips: number 5 instead of text in quotes"],
        ),
        // priority as text
        (
            "priority = 100",
            r#"priority = "high""#,
            &[
                r#"berth.toml:10: vserver.alpha.priority: text "high" instead of a whole number from 0 to 9999"#,
            ],
        ),
        // home not boolean
        (
            r#"path = "/more""#,
            r#"path = "/more"
home = "yes""#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.home: text "yes" instead of true or false"#,
            ],
        ),
    ]);
}

#[test]
fn of_a_wrong_value_nothing_else_follows() {
    refused(&[
        (
            r#"clients = ["*"]"#,
            r#"clients = "10.1.0.0/24""#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.clients: text "10.1.0.0/24" instead of a list"#,
            ],
        ),
        (
            r#"clients = ["*"]"#,
            "clients = [5]",
            &[
                "berth.toml:28: vserver.beta.filesystem.nfs.clients: number 5 instead of text in quotes",
            ],
        ),
        (
            r#"nfs = { clients = ["*"] }"#,
            r#"nfs = ["*"]"#,
            &["berth.toml:28: vserver.beta.filesystem.nfs: a list instead of a table"],
        ),
        (
            r#"nfs = { clients = ["*"] }"#,
            "smb = { share = 5 }",
            &[
                "berth.toml:28: vserver.beta.filesystem.smb.share: number 5 instead of text in quotes",
            ],
        ),
        (
            "[storage.array1]\nprobe = [\"/dev/sdb\"]",
            "[storage]\narray1 = \"/dev/sdb\"",
            &[r#"berth.toml:8: storage.array1: text "/dev/sdb" instead of a table"#],
        ),
        (
            "[storage.array1]\nprobe = [\"/dev/sdb\"]",
            "[[storage]]\nprobe = [\"/dev/sdb\"]",
            &["berth.toml:7: storage: a list instead of a table"],
        ),
        (
            r#"lab = { cidr = "10.2.0.0/24" }"#,
            r#"lab = { cidr = 10, gateway = "10.2.0.254" }"#,
            &["berth.toml:3: subnets.lab.cidr: number 10 instead of text in quotes"],
        ),
        (
            r#"cidr6 = "fd00:1::/64""#,
            r#"cidr6 = "fd00:1::""#,
            &[
                r#"berth.toml:2: subnets.office.cidr6: "fd00:1::" is no network, such as "fd00:1::/64""#,
            ],
        ),
        (
            "priority = 100",
            "nfs_lease = 30\nnfs_grace = \"60\"",
            &[
                r#"berth.toml:11: vserver.alpha.nfs_grace: text "60" instead of a whole number from 5 to 600"#,
            ],
        ),
        (
            "priority = 100",
            "services = [\"nfs\", \"sbm\"]",
            &[r#"berth.toml:10: vserver.alpha.services: "sbm" is none of nfs, smb"#],
        ),
    ]);
}

#[test]
fn a_number_out_of_its_range_is_refused_with_the_range() {
    refused(&[
        // priority too high
        (
            "priority = 100",
            "priority = 10000",
            &[
                "berth.toml:10: vserver.alpha.priority: number 10000 instead of a whole number from 0 to 9999",
            ],
        ),
        // no connections at all, and more than a server takes
        (
            "priority = 100",
            "max_connections = 0\nmax_connections_per_client = 100001",
            &[
                "berth.toml:10: vserver.alpha.max_connections: number 0 instead of a whole number from 1 to 100000",
                "berth.toml:11: vserver.alpha.max_connections_per_client: number 100001 instead of a whole number from 1 to 100000",
            ],
        ),
        (
            "priority = 100",
            "memory_max = 4\npids_max = 10\ncpu_weight = 0\nio_weight = -1",
            &[
                "berth.toml:10: vserver.alpha.memory_max: number 4 instead of text in quotes",
                "berth.toml:11: vserver.alpha.pids_max: number 10 instead of a whole number from 64 to 4194304",
                "berth.toml:12: vserver.alpha.cpu_weight: number 0 instead of a whole number from 1 to 10000",
                "berth.toml:13: vserver.alpha.io_weight: number -1 instead of a whole number from 1 to 10000",
            ],
        ),
        // settings out of their ranges
        (
            "[storage.array1]",
            "[portwatch]\nfail_after = 1\nrecover_after = \"30s\"\nbalance = 101\n[storage.array1]",
            &[
                "berth.toml:8: portwatch.fail_after: number 1 instead of a whole number from 2 to 100",
                r#"berth.toml:9: portwatch.recover_after: text "30s" instead of a whole number from 0 to 3600"#,
                "berth.toml:10: portwatch.balance: number 101 instead of a whole number from 0 to 100",
            ],
        ),
    ]);
}

#[test]
fn a_time_is_a_number_with_its_unit_within_a_range() {
    refused(&[
        // interval 0
        (
            "[storage.array1]",
            "[portwatch]\ninterval = \"0\"\n[storage.array1]",
            &[
                r#"berth.toml:8: portwatch.interval: "0" is no time from "20ms" to "10s", such as "200ms""#,
            ],
        ),
        // interval too short
        (
            "[storage.array1]",
            "[portwatch]\ninterval = \"19ms\"\n[storage.array1]",
            &[
                r#"berth.toml:8: portwatch.interval: "19ms" is no time from "20ms" to "10s", such as "200ms""#,
            ],
        ),
        // interval with a sign, interval too long
        (
            "[storage.array1]",
            "[portwatch]\ninterval = \"+1s\"\n[storage.array1]",
            &[
                r#"berth.toml:8: portwatch.interval: "+1s" is no time from "20ms" to "10s", such as "200ms""#,
            ],
        ),
        (
            "[storage.array1]",
            "[portwatch]\ninterval = \"4294968s\"\n[storage.array1]",
            &[
                r#"berth.toml:8: portwatch.interval: "4294968s" is no time from "20ms" to "10s", such as "200ms""#,
            ],
        ),
    ]);
}

#[test]
fn a_word_is_one_of_those_that_there_are() {
    refused(&[
        // unknown service
        (
            "priority = 100",
            r#"services = ["nfs", "smb", "ftp"]"#,
            &[r#"berth.toml:10: vserver.alpha.services: "ftp" is none of nfs, smb"#],
        ),
        // unknown type
        (
            r#"path = "/more""#,
            r#"path = "/more"
fstype = "ext3""#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.fstype: "ext3" is none of ext4, xfs, btrfs"#,
            ],
        ),
        // unknown policy
        (
            r#"path = "/more""#,
            r#"path = "/more"
repair = "always""#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.repair: "always" is none of never, preen, full"#,
            ],
        ),
        // bad squash
        (
            r#"clients = ["*"]"#,
            r#"clients = ["*"], squash = "yes""#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.squash: "yes" is none of root, all, none"#,
            ],
        ),
        // bad ports
        (
            r#"clients = ["*"]"#,
            r#"clients = ["*"], ports = "all""#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.ports: "all" is none of privileged, any"#,
            ],
        ),
        // unknown loss
        (
            r#"subnet = "lab" }"#,
            r#"on_subnet_loss = "wait" }"#,
            &[
                r#"berth.toml:12: vserver.alpha.vips.on_subnet_loss: "wait" is none of reroute, migrate"#,
            ],
        ),
        // unknown way of announcing
        (
            r#"subnet = "lab" }"#,
            r#"announce = "bgp" }"#,
            &[r#"berth.toml:12: vserver.alpha.vips.announce: "bgp" is none of arp, route"#],
        ),
    ]);
}

#[test]
fn a_list_that_says_nothing_is_refused_where_leaving_it_out_says_the_reverse() {
    refused(&[
        (
            r#"share = "more""#,
            r#"share = "more", users = []"#,
            &[
                "berth.toml:22: vserver.alpha.filesystem.smb.users: is empty: name users or @groups, or leave it out for all that the server knows; to lock everybody out, take smb away",
            ],
        ),
        (
            r#"clients = ["*"]"#,
            "clients = []",
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.clients: is empty: list networks or hosts, or "*" for all"#,
            ],
        ),
        (
            r#"subnet = "lab" }"#,
            r#"subnet = "lab", ports = [] }"#,
            &[
                "berth.toml:12: vserver.alpha.vips.ports: is empty: name interfaces, or leave it out for the nodes' ports on the subnet",
            ],
        ),
        (
            "priority = 100",
            "services = []",
            &[
                "berth.toml:10: vserver.alpha.services: is empty: name services, or leave it out for those that a file system is exported by",
            ],
        ),
        (
            r#"probe = ["/dev/sdb"]"#,
            "probe = []",
            &["berth.toml:8: storage.array1.probe: is empty: name the devices, or leave it out"],
        ),
    ]);
}

#[test]
fn a_text_has_only_characters_that_everybody_shows_and_keeps() {
    refused(&[
        // a value of several lines
        (
            "priority = 100",
            r#"command = "/bin/true\nprimitive x ocf:evil""#,
            &[
                r#"berth.toml:10: vserver.alpha.command: "/bin/true\nprimitive x ocf:evil" has a control character in it"#,
            ],
        ),
        // one that is not shown as it is
        (
            r#"path = "/more""#,
            r#"path = "/m\u202eero""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: "/m\u{202e}ero" has a control character in it"#,
            ],
        ),
        // one that not every Pacemaker can keep
        (
            "priority = 100",
            "command = \"/bin/caf\\u00e9 <menu\"",
            &[
                r#"berth.toml:10: vserver.alpha.command: "/bin/café <menu" has a letter beyond ASCII before a double quote, less-than sign or ampersand"#,
            ],
        ),
    ]);
}
