//! Devices, directories and options of file systems.

use super::refused;

#[test]
fn a_device_is_named_in_one_way_and_used_once() {
    refused(&[
        // relative device
        (
            r#""/dev/a2""#,
            r#""a2""#,
            &[
                r#"berth.toml:20: vserver.alpha.filesystem.device: "a2" is no device: an absolute path, UUID=... or LABEL=..."#,
            ],
        ),
        // empty label
        (
            r#""/dev/a2""#,
            r#""LABEL=""#,
            &[r#"berth.toml:20: vserver.alpha.filesystem.device: "LABEL=": LABEL= names no label"#],
        ),
        // bad uuid
        (
            r#""/dev/a2""#,
            r#""UUID=12""#,
            &[
                r#"berth.toml:20: vserver.alpha.filesystem.device: "UUID=12": "12" is no UUID: 8-4-4-4-12 hexadecimal digits"#,
            ],
        ),
        // duplicate device
        (
            "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10",
            "/dev/a2",
            &[
                "berth.toml:26: vserver.beta.filesystem.device: device /dev/a2 is used twice, first by alpha in line 20",
            ],
        ),
        // duplicate device in other words
        (
            "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10",
            "/dev/disk/..//a2",
            &[
                "berth.toml:26: vserver.beta.filesystem.device: device /dev/disk/..//a2 is used twice, first by alpha in line 20 as /dev/a2",
            ],
        ),
        (
            r#""/dev/a2""#,
            r#""UUID=6D8F2F4E-25C1-4F0B-9A55-0F6A3C1D7B10""#,
            &[
                "berth.toml:26: vserver.beta.filesystem.device: device UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10 is used twice, first by alpha in line 20 as UUID=6D8F2F4E-25C1-4F0B-9A55-0F6A3C1D7B10",
            ],
        ),
    ]);
}

#[test]
fn a_directory_is_absolute_and_neither_the_roots_nor_another_file_systems() {
    refused(&[
        // reserved directory
        (
            r#""/more""#,
            r#""/etc/more""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: directory "/etc/more" is under /etc, which belongs to the cell's own root; use another, such as /data"#,
            ],
        ),
        // dots in directory
        (
            r#""/more""#,
            r#""/more/../x""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: directory "/more/../x" must not have .. in it"#,
            ],
        ),
        // relative directory
        (
            r#""/more""#,
            r#""more""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: directory "more" must be absolute, such as /data"#,
            ],
        ),
        // duplicate directory
        (
            r#""/more""#,
            r#""/data""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: directory "/data" and "/data" (line 15) can't hold two file systems: neither may be or contain the other"#,
            ],
        ),
        // nested directory
        (
            r#""/more""#,
            r#""/data/more""#,
            &[
                r#"berth.toml:21: vserver.alpha.filesystem.path: directory "/data/more" and "/data" (line 15) can't hold two file systems: neither may be or contain the other"#,
            ],
        ),
    ]);
}

#[test]
fn only_one_file_system_is_home() {
    refused(&[(
        r#"path = "/more""#,
        r#"path = "/more"
home = true
[[vserver.alpha.filesystem]]
device = "/dev/a3"
path = "/third"
home = true"#,
        &[
            "berth.toml:25: vserver.alpha.filesystem.home: both /more and /third are home, only one can be",
        ],
    )]);
}

#[test]
fn an_option_that_weakens_a_cell_is_refused() {
    refused(&[(
        r#"path = "/more""#,
        r#"path = "/more"
options = "noatime,suid""#,
        &[
            r#"berth.toml:22: vserver.alpha.filesystem.options: "suid": device nodes and set-user-ID programs are never honoured in a cell"#,
        ],
    )]);
}
