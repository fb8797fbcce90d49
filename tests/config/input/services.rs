//! What a virtual server serves, to whom, and with which rights and limits.

use super::refused;

#[test]
fn a_virtual_server_serves_something_and_all_that_it_exports() {
    refused(&[
        // nothing served
        (
            r#"nfs = { clients = ["*"] }
"#,
            "",
            &[
                "berth.toml:23: vserver.beta: serves nothing: give a file system nfs or smb, or name services or a command",
            ],
        ),
        // service not named
        (
            "priority = 100",
            r#"services = ["nfs"]"#,
            &[
                r#"berth.toml:15: vserver.alpha.services: /data has smb, so services must name "smb""#,
            ],
        ),
    ]);
}

#[test]
fn clients_of_nfs_are_addresses_networks_or_all() {
    refused(&[
        // bad client
        (
            r#"["*"]"#,
            r#"["10.1.0.0/240"]"#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.clients: "10.1.0.0/240" is no NFS client: an address, a network such as 10.1.0.0/24, or *"#,
            ],
        ),
        // bad client name
        (
            r#"["*"]"#,
            r#"["a host"]"#,
            &[
                r#"berth.toml:28: vserver.beta.filesystem.nfs.clients: "a host": has white space in it, give each as an element of the list"#,
            ],
        ),
    ]);
}

#[test]
fn a_share_has_a_name_of_its_own_and_users_by_name() {
    refused(&[
        // share name
        (
            r#"share = "more""#,
            r#"share = "homes""#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.smb.share: "homes" is no share name: it has a meaning of its own in SMB"#,
            ],
        ),
        // user name
        (
            r#"share = "more""#,
            r#"share = "more", users = ["a b"]"#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.smb.users: "a b": has white space in it, give each as an element of the list"#,
            ],
        ),
        // duplicate share
        (
            r#"share = "more""#,
            r#"share = "DATA""#,
            &[
                r#"berth.toml:22: vserver.alpha.filesystem.smb.share: share "DATA" is used twice, first by alpha in line 18"#,
            ],
        ),
    ]);
}

#[test]
fn the_grace_period_is_longer_than_the_lease() {
    refused(&[(
        "priority = 100",
        "nfs_lease = 100",
        &[
            "berth.toml:9: vserver.alpha: the grace period, 20 s, is not longer than the lease, 100 s: set nfs_grace to more",
        ],
    )]);
}

#[test]
fn a_size_without_a_unit_is_refused_when_it_can_hardly_be_meant() {
    refused(&[(
        "priority = 100",
        "memory_max = \"4\"",
        &[r#"berth.toml:10: vserver.alpha.memory_max: "4" is 4 bytes: say 4G or 4M"#],
    )]);
}

#[test]
fn a_command_is_absolute_and_its_directory_the_cells() {
    refused(&[
        // relative command
        (
            "priority = 100",
            r#"command = "bin/x""#,
            &[r#"berth.toml:10: vserver.alpha.command: "bin/x" must begin with an absolute path"#],
        ),
        // config_dir elsewhere
        (
            "priority = 100",
            r#"config_dir = "/home/x""#,
            &[
                r#"berth.toml:10: vserver.alpha.config_dir: "/home/x" is not an absolute path under /etc, /opt or /usr"#,
            ],
        ),
    ]);
}

#[test]
fn a_call_that_leads_out_of_a_cell_is_not_allowed() {
    refused(&[(
        "priority = 100",
        r#"allow_calls = ["bpf", "ptrcae", "mount"]"#,
        &[
            r#"berth.toml:10: vserver.alpha.allow_calls: "mount" can't be allowed: it leads out of the cell, or is about the whole node"#,
            r#"berth.toml:10: vserver.alpha.allow_calls: "ptrcae" is no system call that berth knows, did you mean ptrace?"#,
        ],
    )]);
}
