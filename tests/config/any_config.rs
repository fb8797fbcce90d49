//! Configuration files at random, all of them valid.

use std::fmt::Write;

use proptest::prelude::*;

/// What is random about a virtual server.
#[derive(Debug)]
struct Server {
    priority: u32,
    stay: bool,
    calls: Vec<&'static str>,
    vips: Vec<(u8, bool, bool)>,
    filesystems: Vec<(u8, bool, bool)>,
    home: prop::sample::Index,
    command: Option<String>,
}

/// A command of anything that a person can see, and more often of what means something to a shell or in XML.
fn command() -> impl Strategy<Value = String> {
    let special = prop::sample::select(
        "\"'\\`$!{}()[]<>&|;#*?~=%^, \u{e9}\u{1f600}"
            .chars()
            .collect::<Vec<_>>(),
    );
    let visible = any::<char>().prop_filter("not seen", |c| berth::text::is_plain(*c));
    let c = prop_oneof![3 => special, 1 => visible];
    prop::collection::vec(c, 0..24).prop_map(|text| {
        let text = String::from_iter(text);
        // Which are refused: `input` says so.
        let kept = |c: &char| text.is_ascii() || !"<&\"".contains(*c);
        format!("/bin/{}", text.chars().filter(kept).collect::<String>())
    })
}

/// As a basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn server() -> impl Strategy<Value = Server> {
    let vips = prop::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..4);
    let filesystems = prop::collection::vec((0..4_u8, any::<bool>(), any::<bool>()), 1..4);
    let home = any::<prop::sample::Index>();
    let calls = prop::sample::subsequence(vec!["bpf", "ptrace", "socket"], 0..=3);
    let command = prop::option::of(command());
    (
        0..4_u32,
        prop::bool::weighted(0.2),
        vips,
        filesystems,
        home,
        (command, calls),
    )
        .prop_map(
            |(priority, stay, vips, filesystems, home, (command, calls))| Server {
                priority,
                stay,
                vips,
                filesystems,
                home,
                command,
                calls,
            },
        )
}

/// A table of settings, of which each may be missing.
fn watch() -> impl Strategy<Value = String> {
    let maybe = |range| prop::option::of(range);
    let all = (
        maybe(20..10_001_u32),
        maybe(2..101),
        maybe(0..3601),
        maybe(0..101),
    );
    all.prop_map(|(interval, fail, recover, balance)| {
        let interval = interval.map(|n| format!("interval = \"{n}ms\""));
        let numbers = [
            ("fail_after", fail),
            ("recover_after", recover),
            ("balance", balance),
        ];
        let numbers = numbers.map(|(key, n)| n.map(|n| format!("{key} = {n}")));
        let lines: Vec<String> = numbers.into_iter().chain([interval]).flatten().collect();
        format!("[portwatch]\n{}\n", lines.join("\n"))
    })
}

/// The text of a valid `berth.toml` for nodes n1, n2 and n3; nothing in it is bound to n3.
pub fn toml() -> impl Strategy<Value = String> {
    let ports = prop::collection::vec(0..4_u8, 3);
    let servers = prop::collection::vec(server(), 1..5);
    (servers, ports, watch()).prop_map(|(servers, ports, watch)| {
        let mut text = String::new();
        for subnet in 0..4 {
            let _ = writeln!(
                text,
                "[subnets.s{subnet}]\ncidr = \"10.{subnet}.0.0/16\"\ngateway = \"10.{subnet}.255.254\"\ncidr6 = \"fd00:{subnet}::/64\"\ntargets = [\"10.{subnet}.255.1\", \"fd00:{subnet}::ffff\"]\n\
                 [storage.u{subnet}]\nprobe = [\"/dev/u{subnet}\"]"
            );
        }
        for (n, count) in ports.into_iter().enumerate() {
            let ports = (0..count).map(|i| format!("eth{i} = \"s{i}\""));
            let ports = ports.collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "[nodes.n{}]\nports = {{ {ports} }}", n + 1);
        }
        text.push_str(&watch);
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
        .map(|(i, (subnet, migrate, route))| {
            let announce = if *route { "route" } else { "arp" };
            let loss = if *migrate { "migrate" } else { "reroute" };
            let ip = match i {
                0 => format!("fd00:{subnet}::{n}:1"),
                _ => format!("10.{subnet}.{n}.{i}"),
            };
            format!("{{ ip = \"{ip}\", on_subnet_loss = \"{loss}\", announce = \"{announce}\" }}")
        });
    let vips: Vec<String> = vips.collect();
    let _ = writeln!(
        text,
        "[vserver.v{n}]\npriority = {}\nvips = [{}]\nservices = [\"nfs\", \"smb\"]\nmax_connections = 200\nmax_connections_per_client = 20",
        server.priority,
        vips.join(", ")
    );
    if server.stay {
        let _ = writeln!(text, "stay_on = \"n{}\"", n % 2 + 1);
    }
    if !server.calls.is_empty() {
        let _ = writeln!(text, "allow_calls = {:?}", server.calls);
    }
    if let Some(command) = &server.command {
        let _ = writeln!(text, "command = {}", quoted(command));
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
                "nfs = {{ clients = [\"10.0.0.0/8\", \"fd00::/16\"], squash = \"none\", ports = \"any\" }}"
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
