//! Configuration files at random, all of them valid.

use std::fmt::Write;

use proptest::prelude::*;

/// What is random about a virtual server.
#[derive(Debug)]
struct Server {
    priority: u32,
    stay: bool,
    vips: Vec<(u8, bool)>,
    filesystems: Vec<(u8, bool, bool)>,
    home: prop::sample::Index,
}

fn server() -> impl Strategy<Value = Server> {
    let vips = prop::collection::vec((0..4_u8, any::<bool>()), 1..4);
    let filesystems = prop::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..4);
    let home = any::<prop::sample::Index>();
    (0..4_u32, prop::bool::weighted(0.2), vips, filesystems, home).prop_map(
        |(priority, stay, vips, filesystems, home)| Server {
            priority,
            stay,
            vips,
            filesystems,
            home,
        },
    )
}

/// The text of a valid `berth.toml` for nodes n1, n2 and n3; nothing in it is bound to n3.
pub fn toml() -> impl Strategy<Value = String> {
    prop::collection::vec(server(), 1..5).prop_map(|servers| {
        let mut text = String::new();
        for subnet in 0..4 {
            let _ = writeln!(
                text,
                "[subnets.s{subnet}]\ncidr = \"10.{subnet}.0.0/16\"\ngateway = \"10.{subnet}.255.254\"\ncidr6 = \"fd00:{subnet}::/64\"\n\
                 [storage.u{subnet}]\nprobe = [\"/dev/u{subnet}\"]"
            );
        }
        for node in 1..=3 {
            let _ = writeln!(text, "[nodes.n{node}]\nports = {{ eth1 = \"s0\", eth2 = \"s1\", eth3 = \"s2\" }}");
        }
        for (n, server) in servers.iter().enumerate() {
            add(&mut text, n, server);
        }
        text
    })
}

fn add(text: &mut String, n: usize, server: &Server) {
    let vips = server
        .vips
        .iter()
        .enumerate()
        .map(|(i, (subnet, migrate))| {
            let loss = if *migrate { "migrate" } else { "reroute" };
            let ip = match i {
                0 => format!("fd00:{subnet}::{n}:1"),
                _ => format!("10.{subnet}.{n}.{i}"),
            };
            format!("{{ ip = \"{ip}\", on_subnet_loss = \"{loss}\" }}")
        });
    let vips: Vec<String> = vips.collect();
    let _ = writeln!(
        text,
        "[vserver.v{n}]\npriority = {}\nvips = [{}]\nservices = [\"nfs\", \"smb\"]",
        server.priority,
        vips.join(", ")
    );
    if server.stay {
        let _ = writeln!(text, "stay_on = \"n{}\"", n % 2 + 1);
    }
    let home = server.home.index(server.filesystems.len());
    for (i, (unit, nfs, smb)) in server.filesystems.iter().enumerate() {
        let _ = writeln!(
            text,
            "[[vserver.v{n}.filesystem]]\ndevice = \"/dev/v{n}-{i}\"\npath = \"/srv/fs {i}\"\nunit = \"u{unit}\"\nhome = {}",
            i == home
        );
        if *nfs {
            let _ = writeln!(
                text,
                "nfs = {{ clients = [\"10.0.0.0/8\", \"fd00::/16\"], squash = \"none\" }}"
            );
        }
        if *smb {
            let _ = writeln!(
                text,
                "smb = {{ share = \"Share {i}\", users = [\"@staff\"] }}"
            );
        }
    }
}
