//! The plan and the agents agree: each parameter that is set exists, and its value is accepted.

use berth::agent;
use berth::config;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::{Features, Pair};
use berth::ocf::{Agent, Env};
use berth::spec::{Content, Integer, Parameter, Words, fscheck, portwatch, vserver};
use proptest::prelude::*;

use crate::any_config;

/// The declarations of what a plan consists of.
const AGENTS: [&Agent; 4] = [
    &agent::fscheck::AGENT,
    &agent::vserver::AGENT,
    &agent::vip::AGENT,
    &agent::portwatch::AGENT,
];

fn check(toml: &str) {
    let config = config::parse("berth.toml", toml).unwrap();
    let model = build::build(&config, Features::CURRENT, &Known::new());
    for resource in &model.resources {
        let name = resource.agent.name();
        let agent = AGENTS.into_iter().find(|agent| agent.name == name);
        let agent = agent.unwrap_or_else(|| panic!("{name} is not declared"));
        check_parameters(agent, &resource.params);
        for (_, on_one_node) in &resource.node_params {
            let params = [&resource.params[..], on_one_node].concat();
            check_parameters(agent, &params);
        }
    }
}

fn check_parameters(agent: &Agent, params: &[Pair]) {
    for (parameter, _) in params {
        let known = agent.params.iter().any(|d| d.spec().name == *parameter);
        assert!(known, "{} has no parameter {parameter}", agent.name);
    }
    let set = params
        .iter()
        .map(|(n, value)| (format!("OCF_RESKEY_{n}"), value.clone()));
    let env = Env::from_variables(set);
    for parameter in agent.params {
        parameter.check(&env).unwrap();
    }
}

#[test]
fn the_agents_accept_what_the_example_sets() {
    check(include_str!("../../examples/berth.toml"));
}

#[test]
fn the_agents_accept_the_rarer_keys_at_their_limits() {
    let example = include_str!("../../examples/berth.toml");
    let more = "priority = 50\nservices = [\"nfs\", \"smb\"]\ncommand = \"/usr/bin/env x=1 y\"\nconfig_dir = \"/etc/berth/beta\"\nallow_calls = [\"bpf\", \"io_uring_setup\"]\n";
    for (lease, grace, stop, most, memory, pids, weight) in [
        (5, 6, 1, 1, "128M", 64, 1),
        (300, 600, 600, 100_000, "100%", 4_194_304, 10_000),
    ] {
        let text = format!(
            "{more}nfs_lease = {lease}\nnfs_grace = {grace}\nstop_timeout = {stop}\nmax_connections = {most}\nmax_connections_per_client = {most}\n\
             memory_max = \"{memory}\"\npids_max = {pids}\ncpu_weight = {weight}\nio_weight = {weight}\n"
        );
        check(&example.replace("priority = 50\n", &text));
    }
    let only_command = "vips = [\"10.1.0.60\"]\ncommand = \"/bin/x\"";
    let text = example.replace("vips = [\"10.1.0.60\", \"10.2.0.60\"]", only_command);
    let text = text.replace(
        "nfs = { clients = [\"*\"], access = \"ro\" }",
        "options = \"noatime,ro\"",
    );
    check(&text.replace("smb = { share = \"data\" }", ""));
}

proptest! {
    #[test]
    fn the_agents_accept_any_plan(toml in any_config::toml()) {
        check(&toml);
    }
}

/// How the file says what an agent's parameter says.
struct Key {
    agent: &'static str,
    parameter: Parameter,
    /// The table that it stands in, and its name there.
    key: (&'static str, &'static str),
    /// A value as text for the agent, as it is written in the file.
    write: fn(&str) -> String,
}

const WATCH: &str = "portwatch";
const SERVER: &str = "vserver.v";
const FILESYSTEM: &str = "vserver.v.filesystem";
const NFS: &str = "vserver.v.filesystem.nfs";
const SMB: &str = "vserver.v.filesystem.smb";

fn quoted(value: &str) -> String {
    format!("{value:?}")
}

fn listed(value: &str) -> String {
    format!("[{value:?}]")
}

fn number(parameter: &Parameter<Integer>, agent: &'static str, table: &'static str) -> Key {
    Key {
        agent,
        parameter: parameter.any(),
        key: (table, parameter.name),
        write: str::to_owned,
    }
}

fn numbers() -> Vec<Key> {
    let server = [
        vserver::NFS_LEASE,
        vserver::NFS_GRACE,
        vserver::MAX_CONNECTIONS,
        vserver::MAX_CONNECTIONS_PER_CLIENT,
        vserver::STOP_TIMEOUT,
        vserver::PIDS_MAX,
        vserver::CPU_WEIGHT,
        vserver::IO_WEIGHT,
    ];
    let watch = [portwatch::FAIL_AFTER, portwatch::BALANCE];
    let server = server.iter().map(|p| number(p, "vserver", SERVER));
    let watch = watch.iter().map(|p| number(p, "portwatch", WATCH));
    server.chain(watch).collect()
}

fn choices() -> Vec<Key> {
    let all = [
        (fscheck::FSTYPE, FILESYSTEM, "fstype"),
        (fscheck::REPAIR, FILESYSTEM, "repair"),
        (fscheck::NFS_ACCESS, NFS, "access"),
        (fscheck::NFS_SQUASH, NFS, "squash"),
        (fscheck::NFS_PORTS, NFS, "ports"),
    ];
    let of = |(parameter, table, name): (Parameter<Words>, _, _)| Key {
        agent: "fscheck",
        parameter: parameter.any(),
        key: (table, name),
        write: quoted,
    };
    all.into_iter().map(of).collect()
}

fn text(parameter: Parameter, agent: &'static str, table: &'static str, name: &'static str) -> Key {
    Key {
        agent,
        parameter,
        key: (table, name),
        write: quoted,
    }
}

fn texts() -> Vec<Key> {
    let list = |key: Key| Key {
        write: listed,
        ..key
    };
    vec![
        text(vserver::CONFIG_DIR, "vserver", SERVER, "config_dir"),
        text(vserver::MEMORY_MAX, "vserver", SERVER, "memory_max"),
        list(text(vserver::ALLOW_CALLS, "vserver", SERVER, "allow_calls")),
        text(fscheck::DEVICE, "fscheck", FILESYSTEM, "device"),
        text(fscheck::DIRECTORY, "fscheck", FILESYSTEM, "path"),
        text(fscheck::OPTIONS, "fscheck", FILESYSTEM, "options"),
        list(text(fscheck::NFS_CLIENTS, "fscheck", NFS, "clients")),
        text(fscheck::SMB_SHARE, "fscheck", SMB, "share"),
        list(text(fscheck::SMB_USERS, "fscheck", SMB, "users")),
    ]
}

impl Key {
    /// Whether the agent takes `value`.
    fn agent_takes(&self, value: &str) -> bool {
        let installed = AGENTS.iter().find(|a| a.name == self.agent).unwrap();
        let name = self.parameter.name;
        let mut params = installed.params.iter();
        let declared = params.find(|d| d.spec().name == name).unwrap();
        let variable = (format!("OCF_RESKEY_{name}"), value.to_owned());
        declared.check(&Env::from_variables([variable])).is_ok()
    }

    /// Whether the file may say it, apart from what it says elsewhere.
    fn file_takes(&self, value: &str) -> bool {
        let (table, name) = self.key;
        let mut lines = vec![
            (WATCH, "interval", "\"1s\"".to_owned()),
            (SERVER, "vips", "[\"10.1.0.5\"]".to_owned()),
            (FILESYSTEM, "device", "\"/dev/x\"".to_owned()),
            (FILESYSTEM, "path", "\"/data\"".to_owned()),
            (NFS, "clients", "[\"*\"]".to_owned()),
            (SMB, "share", "\"data\"".to_owned()),
        ];
        lines.retain(|(t, n, _)| (*t, *n) != self.key);
        lines.push((table, name, (self.write)(value)));
        let mut toml = "[subnets.office]\ncidr = \"10.1.0.0/24\"\n".to_owned();
        for head in [WATCH, SERVER, FILESYSTEM, NFS, SMB] {
            toml += &match head {
                FILESYSTEM => format!("[[{head}]]\n"),
                _ => format!("[{head}]\n"),
            };
            let own = lines.iter().filter(|(t, ..)| *t == head);
            toml.extend(own.map(|(_, name, value)| format!("{name} = {value}\n")));
        }
        let about = format!(": {table}.{name}: ");
        match config::parse("berth.toml", &toml) {
            Ok(_) => true,
            Err(problems) => !problems.lines().any(|line| line.contains(&about)),
        }
    }

    fn assert_agreed(&self, value: &str, right: Option<bool>) -> Result<(), TestCaseError> {
        let (agent, file) = (self.agent_takes(value), self.file_takes(value));
        prop_assert_eq!(agent, file, "{:?} = {:?}: agent, file", self.key, value);
        let right = right.unwrap_or(agent);
        prop_assert_eq!(agent, right, "{:?} = {:?}: declared", self.key, value);
        Ok(())
    }
}

#[test]
fn the_ends_of_each_range_are_the_same_to_the_agent_and_the_file() {
    for key in numbers() {
        let Content::Integer(integer) = key.parameter.content else {
            panic!("{} is no number", key.parameter.name);
        };
        for (value, right) in [
            (i64::from(integer.least) - 1, false),
            (i64::from(integer.least), true),
            (i64::from(integer.default), true),
            (i64::from(integer.most), true),
            (i64::from(integer.most) + 1, false),
            (i64::from(u32::MAX) + 1 + i64::from(integer.least), false),
        ] {
            key.assert_agreed(&value.to_string(), Some(right)).unwrap();
        }
    }
}

#[test]
fn each_word_of_a_choice_is_one_to_the_agent_and_the_file() {
    for key in choices() {
        let Content::Select(words) = key.parameter.content else {
            panic!("{} is no choice", key.parameter.name);
        };
        for word in words {
            key.assert_agreed(word, Some(true)).unwrap();
            key.assert_agreed(&word.to_uppercase(), Some(false))
                .unwrap();
        }
    }
}

#[test]
fn the_ends_of_the_times_are_the_same_to_the_agent_and_the_file() {
    let interval = Key {
        agent: "portwatch",
        parameter: portwatch::INTERVAL.any(),
        key: (WATCH, "interval"),
        write: quoted,
    };
    for (value, right) in [
        ("19ms", false),
        ("20ms", true),
        ("1", true),
        ("10s", true),
        ("10001ms", false),
        ("1m", false),
        ("0.1s", false),
        ("+1s", false),
        ("s", false),
    ] {
        interval.assert_agreed(value, Some(right)).unwrap();
    }
    let recover = Key {
        parameter: portwatch::RECOVER_AFTER.any(),
        key: (WATCH, "recover_after"),
        write: str::to_owned,
        ..interval
    };
    for (value, right) in [("0", true), ("3600", true), ("3601", false)] {
        recover.assert_agreed(value, Some(right)).unwrap();
    }
}

/// Addresses that no host can have, in networks that are as good as any.
#[test]
fn an_address_that_the_agent_refuses_is_refused_in_the_file() {
    for (key, cidr, ip) in [
        ("cidr", "128.0.0.0/1", "224.0.0.1"),
        ("cidr", "160.0.0.0/3", "169.254.1.9"),
        ("cidr", "64.0.0.0/2", "127.0.0.1"),
        ("cidr6", "8000::/1", "fe80::1:1"),
        ("cidr6", "8000::/1", "ff02::1"),
        ("cidr6", "::ffff:10.1.0.0/112", "::ffff:10.1.0.5"),
    ] {
        for vip in [format!("\"{ip}\""), format!("{{ ip = \"{ip}\" }}")] {
            let toml = format!(
                "[subnets.office]\n{key} = \"{cidr}\"\n[vserver.v]\nvips = [{vip}]\n[[vserver.v.filesystem]]\n\
                 device = \"/dev/x\"\npath = \"/data\"\nnfs = {{ clients = [\"*\"] }}\n"
            );
            let problems = config::parse("berth.toml", &toml).unwrap_err();
            let why = format!("{ip} is not the address of one host");
            assert!(problems.to_string().contains(&why), "{problems}");
        }
    }
}

/// Texts of which many are nearly right.
fn value() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/etc/x",
        "/usr",
        "/opt/..",
        "/etcetera",
        "/srv/a b",
        "/data/",
        "/",
        "/dev/sda",
        "dev",
        "UUID=1-2",
        "LABEL=x",
        "LABEL=",
        "UUID=",
        "ro",
        "noatime",
        "ro,noatime",
        "ro,rw",
        "nosuch",
        "dev",
        "suid",
        "x=y",
        "bpf",
        "ptrace",
        "mount",
        "socket",
        "80%",
        "0%",
        "101%",
        "128M",
        "127M",
        "4G",
        "4g",
        "1",
        "9999999999999T",
        "*",
        "10.1.0.0/24",
        "10.1.0.1/24",
        "::/0",
        "fd00::/112",
        "host",
        "Data 1",
        "global",
        "IPC$",
        "@staff",
        "@",
        "anna",
        "-x",
        "a.b_c-d",
        "\u{e9}",
        "preen",
        "rw",
    ]);
    let parts = prop::collection::vec(
        prop::sample::select(vec![
            "/", "a", "Z", "0", ".", "-", "=", ",", "%", "$", "@", "\u{e9}", "etc",
        ]),
        1..6,
    );
    prop_oneof![
        2 => known.prop_map(str::to_owned),
        1 => parts.prop_map(|parts| parts.concat()),
    ]
}

proptest! {
    #[test]
    fn any_number_is_right_to_both_or_to_neither(
        which in any::<prop::sample::Index>(),
        number in prop_oneof![0..2000_u32, any::<u32>()],
    ) {
        let numbers = numbers();
        let key = which.get(&numbers);
        let right = matches!(key.parameter.content, Content::Integer(i) if i.range().contains(&number));
        key.assert_agreed(&number.to_string(), Some(right))?;
    }

    #[test]
    fn any_text_is_right_to_both_or_to_neither(which in any::<prop::sample::Index>(), text in value()) {
        let keys: Vec<Key> = texts().into_iter().chain(choices()).collect();
        let key = which.get(&keys);
        // A list is separated by blanks for the agent.
        let one = (key.write)("") != listed("") || !text.contains(' ');
        if one {
            key.assert_agreed(&text, None)?;
        }
    }

    #[test]
    fn any_interval_is_right_to_both_or_to_neither(number in 0..20_000_u32, unit in "(ms|s|m|min|h|d|)") {
        let key = Key {
            agent: "portwatch",
            parameter: portwatch::INTERVAL.any(),
            key: (WATCH, "interval"),
            write: quoted,
        };
        key.assert_agreed(&format!("{number}{unit}"), None)?;
    }
}
