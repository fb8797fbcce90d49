//! From the TOML document to [`Config`]: each key by itself. What concerns several keys is in
//! [`super::check`].

use std::net::IpAddr;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{
    Announce, At, Config, Filesystem, Nfs, OnSubnetLoss, Service, Smb, Unit, Vip, Vserver,
};
use super::keys;
use super::reader::{Reader, Table};
use crate::cell::cgroup::limits::MemoryMax;
use crate::cell::filter::Call;
use crate::cell::service::{Client, ShareName, User};
use crate::plan::directory;
use crate::spec::{self, Integer, Parameter, Words, fscheck};
use crate::sys::device::DeviceSpec;
use crate::sys::mount;
use crate::types::name::{self, Refusal};
use crate::types::{Label, VserverName};
use network::address;

mod network;

const SERVICES: [(&str, Service); 2] = [
    (spec::vserver::NFS, Service::Nfs),
    (spec::vserver::SMB, Service::Smb),
];
const LOSSES: [(&str, OnSubnetLoss); 2] = [
    (spec::vip::REROUTE, OnSubnetLoss::Reroute),
    (spec::vip::MIGRATE, OnSubnetLoss::Migrate),
];
const ANNOUNCEMENTS: [(&str, Announce); 2] = [
    (spec::vip::ARP, Announce::Arp),
    (spec::vip::ROUTE, Announce::Route),
];

/// Reads the document; what is wrong is noted in `reader`.
pub(crate) fn config<'t>(reader: &Reader<'t>, document: &DeTable<'t>) -> Config {
    let root = Table::root(reader, document, &keys::FILE);
    let mut config = Config::default();
    for (name, table) in named(
        &root,
        reader,
        ("subnets", &keys::SUBNET),
        str::parse::<Label>,
    ) {
        config.subnets.push(network::subnet(name, &table));
    }
    for (name, table) in named(&root, reader, ("nodes", &keys::NODE), name::node) {
        config.nodes.push(network::node(name, &table));
    }
    if let Some(table) = root.table("portwatch", Some(&keys::PORTWATCH)) {
        config.portwatch = network::portwatch(&table);
    }
    for (name, table) in named(
        &root,
        reader,
        ("storage", &keys::STORAGE),
        str::parse::<Label>,
    ) {
        let probe = table.strings("probe");
        table.refuse_empty("probe", "name the devices, or leave it out");
        for device in &probe {
            check_device(&table, "probe", device);
        }
        config.units.push(Unit { name, probe });
    }
    for (name, table) in named(
        &root,
        reader,
        ("vserver", &keys::VSERVER),
        str::parse::<VserverName>,
    ) {
        config.vservers.push(vserver(reader, name, &table));
    }
    config
}

/// The tables below `key`, each with its name, which `check` judges.
fn named<'r, 't, N>(
    root: &Table<'r, 't>,
    reader: &'r Reader<'t>,
    (key, section): (&str, &'static keys::Section),
    check: impl Fn(&str) -> Result<N, Refusal>,
) -> Vec<(At<String>, Table<'r, 't>)> {
    let Some(outer) = root.table(key, None) else {
        return Vec::new();
    };
    let mut named: Vec<Named> = Vec::new();
    for (name, value) in outer.entries() {
        let dotted = dotted(&name, value, section, 1);
        let quotes = !dotted.is_empty();
        let found = if quotes { dotted } else { vec![(name, value)] };
        for (name, value) in found {
            match named.iter_mut().find(|n| n.name.value == name.value) {
                Some(same) => same.parts.push(value),
                None => named.push(Named {
                    name,
                    parts: vec![value],
                    quotes,
                }),
            }
        }
    }
    let open = |Named {
                    name,
                    parts,
                    quotes,
                }: Named<'r, 't>| {
        let path = outer.key(&name.value);
        let table = Table::open(reader, path, &parts, Some(section))?;
        if check_name(&table, &name, &check) && quotes {
            let text = format!("a name with dots needs quotes: [{key}.{:?}]", name.value);
            table.note(table.line(), text);
        }
        Some((name, table))
    };
    named.into_iter().filter_map(open).collect()
}

/// A table that the admin has named.
struct Named<'r, 't> {
    name: At<String>,
    parts: Vec<&'r Spanned<DeValue<'t>>>,
    /// Whether they are missing around the name.
    quotes: bool,
}

/// More parts than the name of a host can have.
const DOTS_LIMIT: usize = 32;

/// The tables in `value` that were meant to be called `name.….…`: without quotes each dot begins a table
/// in a table. Empty if it does not look so.
fn dotted<'r, 't>(
    name: &At<String>,
    value: &'r Spanned<DeValue<'t>>,
    section: &keys::Section,
    depth: usize,
) -> Vec<(At<String>, &'r Spanned<DeValue<'t>>)> {
    let known = |name: &str| section.has(name) || section.slip(name).is_some();
    let Some(parts) = value.get_ref().as_table().filter(|_| depth < DOTS_LIMIT) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (part, inner) in parts.iter() {
        let Some(table) = inner
            .get_ref()
            .as_table()
            .filter(|_| !known(part.get_ref()))
        else {
            return Vec::new();
        };
        let name = name.with(format!("{}.{}", name.value, part.get_ref()));
        if table.is_empty() || table.keys().any(|key| known(key.get_ref())) {
            found.push((name, inner));
        } else {
            found.extend(dotted(&name, inner, section, depth + 1));
        }
    }
    found
}

/// Whether the name is good.
fn check_name<N>(
    table: &Table,
    name: &At<String>,
    check: impl Fn(&str) -> Result<N, Refusal>,
) -> bool {
    let refusal = check(&name.value).err();
    if let Some(refusal) = &refusal {
        table.note(name.line, format!("the name {:?} {refusal}", name.value));
    }
    refusal.is_none()
}

fn vserver(reader: &Reader, name: At<String>, table: &Table) -> Vserver {
    let services = table.strings("services");
    let meant = "name services, or leave it out for those that a file system is exported by";
    table.refuse_empty("services", meant);
    let services: Vec<Service> = services
        .iter()
        .filter_map(|word| table.chosen("services", word, &SERVICES))
        .collect();
    for (key, what) in [("vips", "address"), ("filesystem", "file system")] {
        let list = table.value(key).map(|value| value.get_ref());
        if list.is_none_or(|list| list.as_array().is_some_and(|list| list.is_empty())) {
            let text = format!("has no {what}, at least one is needed");
            table.problem(key, table.line(), text);
        }
    }
    Vserver {
        name,
        priority: table
            .number("priority", keys::PRIORITY.range())
            .unwrap_or(keys::PRIORITY.default),
        stay_on: table.string("stay_on"),
        services,
        command: absolute(table, "command"),
        config_dir: config_dir(table),
        allow_calls: allow_calls(table),
        nfs_lease: number(table, &spec::vserver::NFS_LEASE),
        nfs_grace: number(table, &spec::vserver::NFS_GRACE),
        max_connections: number(table, &spec::vserver::MAX_CONNECTIONS),
        max_connections_per_client: number(table, &spec::vserver::MAX_CONNECTIONS_PER_CLIENT),
        stop_timeout: number(table, &spec::vserver::STOP_TIMEOUT),
        memory_max: memory_max(table),
        pids_max: number(table, &spec::vserver::PIDS_MAX),
        cpu_weight: number(table, &spec::vserver::CPU_WEIGHT),
        io_weight: number(table, &spec::vserver::IO_WEIGHT),
        vips: vips(reader, table),
        filesystems: filesystems(reader, table),
    }
}

/// The number that is called as the agent's parameter is.
fn number(table: &Table, parameter: &Parameter<Integer>) -> Option<u32> {
    table.number(parameter.name, parameter.content.range())
}

/// One of the words that the agent's parameter takes.
fn word(table: &Table, key: &str, parameter: &Parameter<Words>) -> Option<&'static str> {
    let Words(words) = parameter.content;
    let choices: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
    table.choice(key, &choices)
}

fn memory_max(table: &Table) -> Option<MemoryMax> {
    let key = "memory_max";
    let text = table.string(key)?;
    let parsed = text.value.parse();
    parsed
        .map_err(|why| table.problem(key, text.line, why))
        .ok()
}

fn absolute(table: &Table, key: &str) -> Option<String> {
    let text = table.string(key)?;
    if !text.value.starts_with('/') {
        let what = format!("{:?} must begin with an absolute path", text.value);
        table.problem(key, text.line, what);
    }
    Some(text.value)
}

fn config_dir(table: &Table) -> Option<String> {
    let key = "config_dir";
    let text = table.string(key)?;
    if let Err(why) = spec::vserver::config_dir(&text.value) {
        table.problem(key, text.line, format!("{:?} {why}", text.value));
    }
    Some(text.value)
}

fn allow_calls(table: &Table) -> Vec<Call> {
    let key = "allow_calls";
    let call = |name: At<String>| match name.value.parse() {
        Ok(call) => Some(call),
        Err(why) => {
            table.problem(key, name.line, format!("{:?} {why}", name.value));
            None
        }
    };
    table.strings(key).into_iter().filter_map(call).collect()
}

fn vips<'t>(reader: &Reader<'t>, table: &Table<'_, 't>) -> Vec<Vip> {
    let mut vips = Vec::new();
    for value in table.list("vips") {
        if value.get_ref().is_table() {
            let path = table.key("vips");
            let long = Table::open(reader, path, &[value], Some(&keys::VIP));
            vips.extend(long.and_then(|long| long_vip(&long)));
        } else if let Some(text) = table.text("vips", value) {
            vips.extend(vip_address(table, "vips", &text).map(|ip| Vip {
                ip,
                subnet: None,
                gateway: None,
                ports: Vec::new(),
                on_subnet_loss: OnSubnetLoss::default(),
                announce: Announce::default(),
            }));
        }
    }
    vips
}

fn vip_address(table: &Table, key: &str, text: &At<String>) -> Option<At<IpAddr>> {
    let ip = address(table, key, text)?;
    if let Err(why) = spec::vip::ip(ip) {
        table.problem(key, text.line, format!("{ip} {why}"));
        return None;
    }
    Some(text.with(ip))
}

fn long_vip(table: &Table) -> Option<Vip> {
    let ports = table.strings("ports");
    let meant = "name interfaces, or leave it out for the nodes' ports on the subnet";
    table.refuse_empty("ports", meant);
    for port in &ports {
        if let Err(refusal) = name::port(&port.value) {
            let text = format!("the name {:?} {refusal}", port.value);
            table.problem("ports", port.line, text);
        }
    }
    // Everything is read before an early return, so that every problem is reported at once.
    let gateway = table
        .string("gateway")
        .and_then(|text| Some(text.with(address(table, "gateway", &text)?)));
    let on_subnet_loss = table.choice("on_subnet_loss", &LOSSES);
    let announce = table.choice("announce", &ANNOUNCEMENTS);
    let subnet = table.string("subnet");
    Some(Vip {
        ip: table
            .required("ip")
            .and_then(|text| vip_address(table, "ip", &text))?,
        subnet,
        gateway,
        ports,
        on_subnet_loss: on_subnet_loss.unwrap_or_default(),
        announce: announce.unwrap_or_default(),
    })
}

fn filesystems<'t>(reader: &Reader<'t>, table: &Table<'_, 't>) -> Vec<Filesystem> {
    let mut filesystems = Vec::new();
    for value in table.list("filesystem") {
        let path = table.key("filesystem");
        let one = Table::open(reader, path, &[value], Some(&keys::FILESYSTEM));
        filesystems.extend(one.and_then(|one| filesystem(&one)));
    }
    choose_home(table, &mut filesystems);
    filesystems
}

fn choose_home(table: &Table, filesystems: &mut [Filesystem]) {
    let mut homes = filesystems.iter().filter(|f| f.home);
    if let (Some(first), Some(second)) = (homes.next(), homes.next()) {
        let text = format!(
            "both {} and {} are home, only one can be",
            first.path.value, second.path.value
        );
        table.problem("filesystem.home", second.path.line, text);
    } else if !filesystems.iter().any(|f| f.home) {
        if let Some(first) = filesystems.first_mut() {
            first.home = true;
        }
    }
}

fn filesystem(table: &Table) -> Option<Filesystem> {
    let device = table.required("device");
    if let Some(device) = &device {
        check_device(table, "device", device);
    }
    let path = table.required("path");
    if let Some(path) = &path {
        if let Err(refusal) = directory::check(&path.value) {
            let text = format!("directory {:?} {refusal}", path.value);
            table.problem("path", path.line, text);
        }
    }
    let given = table.string("name");
    if let Some(name) = &given {
        if let Err(refusal) = name.value.parse::<Label>() {
            let text = format!("the name {:?} {refusal}", name.value);
            table.problem("name", name.line, text);
        }
    }
    let options = table.string("options");
    if let Some(options) = &options {
        if let Err(wrong) = mount::Options::parse(&options.value) {
            table.problem("options", options.line, wrong.to_string());
        }
    }
    let (fstype, repair) = (
        word(table, "fstype", &fscheck::FSTYPE),
        word(table, "repair", &fscheck::REPAIR),
    );
    let home = table.boolean("home").is_some_and(|home| home.value);
    let (unit, nfs, smb) = (table.string("unit"), nfs(table), smb(table));
    let (device, path) = (device?, path?);
    Some(Filesystem {
        name: given.unwrap_or_else(|| path.with(label_of(&path.value))),
        device,
        path,
        home,
        fstype,
        options: options.map(|o| o.value),
        unit,
        repair,
        nfs,
        smb,
    })
}

/// `/srv/projects 2` → `srv-projects-2`.
fn label_of(path: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '-'
        }
    };
    path.trim_matches('/').chars().map(plain).collect()
}

fn check_device(table: &Table, key: &str, device: &At<String>) {
    if let Err(why) = device.value.parse::<DeviceSpec>() {
        table.problem(key, device.line, naming(&device.value, why));
    }
}

fn nfs(table: &Table) -> Option<Nfs> {
    let nfs = table.table("nfs", Some(&keys::NFS))?;
    let clients = nfs.strings("clients");
    let meant = "list networks or hosts, or \"*\" for all";
    nfs.refuse_empty("clients", meant);
    if nfs.value("clients").is_none() {
        nfs.note(nfs.line(), format!("clients is missing: {meant}"));
    }
    for client in &clients {
        accepted::<Client>(&nfs, "clients", client);
    }
    Some(Nfs {
        clients: clients.into_iter().map(|c| c.value).collect(),
        access: word(&nfs, "access", &fscheck::NFS_ACCESS),
        squash: word(&nfs, "squash", &fscheck::NFS_SQUASH),
        ports: word(&nfs, "ports", &fscheck::NFS_PORTS),
    })
}

/// Whether the agent would take `word`, one of several that it is given separated by blanks.
fn accepted<T: FromStr<Err = String>>(table: &Table, key: &str, word: &At<String>) {
    let parsed = word.value.parse::<T>().map(drop);
    let plain = !word.value.contains(char::is_whitespace);
    let one = plain
        .then_some(())
        .ok_or("has white space in it, give each as an element of the list");
    if let Err(why) = one.map_err(str::to_owned).and(parsed) {
        table.problem(key, word.line, naming(&word.value, why));
    }
}

/// A complaint that names the value, as some do by themselves.
fn naming(value: &str, why: String) -> String {
    if why.contains(&format!("{value:?}")) {
        why
    } else {
        format!("{value:?}: {why}")
    }
}

fn smb(table: &Table) -> Option<Smb> {
    let smb = table.table("smb", Some(&keys::SMB))?;
    let share = smb.required("share");
    if let Some(share) = &share {
        if let Err(why) = share.value.parse::<ShareName>() {
            smb.problem("share", share.line, naming(&share.value, why));
        }
    }
    let users = smb.strings("users");
    let meant = "name users or @groups, or leave it out for all that the server knows; to lock everybody out, take smb away";
    smb.refuse_empty("users", meant);
    for user in &users {
        accepted::<User>(&smb, "users", user);
    }
    Some(Smb {
        share: share?,
        users: users.into_iter().map(|u| u.value).collect(),
    })
}
