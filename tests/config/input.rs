//! Wrong configuration files: each is refused with a line of its own, and with nothing else.

use berth::config;
use berth::config::build;
use berth::config::ids::Known;
use berth::config::model::Features;

/// A good file, of which each case spoils something.
const GOOD: &str = r#"[subnets]
office = { cidr = "10.1.0.0/24", gateway = "10.1.0.254", cidr6 = "fd00:1::/64" }
lab = { cidr = "10.2.0.0/24" }
[nodes.n1]
ports = { eth1 = "office", eth2 = "lab" }
[nodes.n2]
[storage.array1]
probe = ["/dev/sdb"]
[vserver.alpha]
priority = 100
stay_on = "n1"
vips = ["10.1.0.50", { ip = "10.2.0.50", subnet = "lab" }]
[[vserver.alpha.filesystem]]
device = "/dev/a1"
path = "/data"
unit = "array1"
nfs = { clients = ["10.1.0.0/24"] }
smb = { share = "data" }
[[vserver.alpha.filesystem]]
device = "/dev/a2"
path = "/more"
smb = { share = "more" }
[vserver.beta]
vips = ["fd00:1::50"]
[[vserver.beta.filesystem]]
device = "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10"
path = "/data"
nfs = { clients = ["*"] }
"#;

/// What is spoiled: its text, what is put there instead, and the lines to show.
const CASES: &[(&str, &str, &[&str])] = &[
    // unknown key
    (
        "priority = 100",
        "prioritty = 100",
        &[
            "berth.toml:10: vserver.alpha.prioritty: unknown key, did you mean priority? (known here: priority, stay_on, services, command, vips, filesystem, config_dir, allow_calls, nfs_lease, nfs_grace, max_connections, max_connections_per_client, stop_timeout, memory_max, pids_max, cpu_weight and io_weight)",
        ],
    ),
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
    // strange key
    (
        "priority = 100",
        r#"colour = "red""#,
        &[
            "berth.toml:10: vserver.alpha.colour: unknown key (known here: priority, stay_on, services, command, vips, filesystem, config_dir, allow_calls, nfs_lease, nfs_grace, max_connections, max_connections_per_client, stop_timeout, memory_max, pids_max, cpu_weight and io_weight)",
        ],
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
    // vip in no subnet
    (
        r#""10.1.0.50""#,
        r#""10.9.0.50""#,
        &[
            "berth.toml:12: vserver.alpha.vips: 10.9.0.50 is in no subnet (declared: office (10.1.0.0/24, fd00:1::/64) and lab (10.2.0.0/24))",
        ],
    ),
    // vip not in its subnet
    (
        r#""10.2.0.50""#,
        r#""10.1.0.51""#,
        &["berth.toml:12: vserver.alpha.vips: 10.1.0.51 is not in lab (10.2.0.0/24)"],
    ),
    // no address
    (
        r#""10.1.0.50""#,
        r#""10.1.0""#,
        &[r#"berth.toml:12: vserver.alpha.vips: "10.1.0" is no address, such as "10.1.0.50""#],
    ),
    // network address
    (
        r#""10.1.0.50""#,
        r#""10.1.0.0""#,
        &[
            "berth.toml:12: vserver.alpha.vips: 10.1.0.0 is the first or last address of 10.1.0.0/24, which no host may use",
        ],
    ),
    // broadcast address
    (
        r#""10.1.0.50""#,
        r#""10.1.0.255""#,
        &[
            "berth.toml:12: vserver.alpha.vips: 10.1.0.255 is the first or last address of 10.1.0.0/24, which no host may use",
        ],
    ),
    // gateway as vip
    (
        r#""10.1.0.50""#,
        r#""10.1.0.254""#,
        &[
            "berth.toml:12: vserver.alpha.vips: 10.1.0.254 is the gateway of office, choose another address",
        ],
    ),
    // duplicate vip
    (
        r#""fd00:1::50""#,
        r#""10.1.0.50""#,
        &[
            "berth.toml:24: vserver.beta.vips: address 10.1.0.50 is used twice, first by alpha in line 12",
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
    // duplicate share
    (
        r#"share = "more""#,
        r#"share = "DATA""#,
        &[
            r#"berth.toml:22: vserver.alpha.filesystem.smb.share: share "DATA" is used twice, first by alpha in line 18"#,
        ],
    ),
    // duplicate vserver
    (
        r#"[vserver.beta]
vips"#,
        r#"[vserver.alpha]
vips"#,
        &["berth.toml:23: duplicate key: [vserver.alpha]"],
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
    // host bits
    (
        r#""10.2.0.0/24""#,
        r#""10.2.0.1/24""#,
        &[
            r#"berth.toml:3: subnets.lab.cidr: "10.2.0.1/24" has host bits set, the network is "10.2.0.0/24""#,
        ],
    ),
    // no prefix
    (
        r#""10.2.0.0/24""#,
        r#""10.2.0.0""#,
        &[r#"berth.toml:3: subnets.lab.cidr: "10.2.0.0" is no network, such as "10.1.0.0/24""#],
    ),
    // no network
    (
        r#""10.2.0.0/24""#,
        r#""10.2.0.0/33""#,
        &[r#"berth.toml:3: subnets.lab.cidr: "10.2.0.0/33" is no network, such as "10.1.0.0/24""#],
    ),
    // IPv6 under cidr
    (
        r#""10.2.0.0/24""#,
        r#""fd00:2::/64""#,
        &[r#"berth.toml:3: subnets.lab.cidr: "fd00:2::/64" belongs under cidr6"#],
    ),
    // link-local network
    (
        r#""10.2.0.0/24""#,
        r#""169.254.0.0/16""#,
        &[
            r#"berth.toml:3: subnets.lab.cidr: "169.254.0.0/16" is no network that clients can be in"#,
        ],
    ),
    // gateway elsewhere
    (
        r#""10.1.0.254""#,
        r#""10.3.0.254""#,
        &["berth.toml:2: subnets.office.gateway: 10.3.0.254 is not in subnet 10.1.0.0/24"],
    ),
    // gateway without network
    (
        r#"lab = { cidr = "10.2.0.0/24" }"#,
        r#"lab = { cidr = "10.2.0.0/24", gateway6 = "fd00:2::1" }"#,
        &[r#"berth.toml:3: subnets.lab.gateway6: fd00:2::1 needs cidr6, such as "fd00:1::/64""#],
    ),
    // subnet without network
    (
        r#"lab = { cidr = "10.2.0.0/24" }"#,
        "lab = { }",
        &["berth.toml:3: subnets.lab: cidr is missing"],
    ),
    // overlapping subnets
    (
        r#""10.2.0.0/24""#,
        r#""10.1.0.0/16""#,
        &[
            "berth.toml:3: subnets.lab: 10.1.0.0/16 overlaps 10.1.0.0/24 of office (line 2)",
            "berth.toml:12: vserver.alpha.vips: 10.2.0.50 is not in lab (10.1.0.0/16)",
        ],
    ),
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
    // long interface name
    (
        "eth2 =",
        r#""sixteen-chars-16" ="#,
        &[
            r#"berth.toml:5: nodes.n1.ports: the name "sixteen-chars-16" is 16 characters long; the longest allowed is 15"#,
        ],
    ),
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
    // vip without ip
    (
        r#"ip = "10.2.0.50", "#,
        "",
        &["berth.toml:12: vserver.alpha.vips: ip is missing"],
    ),
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
        &[r#"berth.toml:15: vserver.alpha.services: /data has smb, so services must name "smb""#],
    ),
    // unknown service
    (
        "priority = 100",
        r#"services = ["nfs", "smb", "ftp"]"#,
        &[r#"berth.toml:10: vserver.alpha.services: "ftp" is none of nfs, smb"#],
    ),
    // priority too high
    (
        "priority = 100",
        "priority = 10000",
        &[
            "berth.toml:10: vserver.alpha.priority: number 10000 instead of a whole number from 0 to 9999",
        ],
    ),
    // priority as text
    (
        "priority = 100",
        r#"priority = "high""#,
        &[
            r#"berth.toml:10: vserver.alpha.priority: text "high" instead of a whole number from 0 to 9999"#,
        ],
    ),
    // two homes
    (
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
    ),
    // home not boolean
    (
        r#"path = "/more""#,
        r#"path = "/more"
home = "yes""#,
        &[r#"berth.toml:22: vserver.alpha.filesystem.home: text "yes" instead of true or false"#],
    ),
    // unknown type
    (
        r#"path = "/more""#,
        r#"path = "/more"
fstype = "ext3""#,
        &[r#"berth.toml:22: vserver.alpha.filesystem.fstype: "ext3" is none of ext4, xfs, btrfs"#],
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
    // refused option
    (
        r#"path = "/more""#,
        r#"path = "/more"
options = "noatime,suid""#,
        &[
            r#"berth.toml:22: vserver.alpha.filesystem.options: "suid": device nodes and set-user-ID programs are never honoured in a cell"#,
        ],
    ),
    // bad uuid
    (
        r#""/dev/a2""#,
        r#""UUID=12""#,
        &[
            r#"berth.toml:20: vserver.alpha.filesystem.device: "UUID=12": "12" is no UUID: 8-4-4-4-12 hexadecimal digits"#,
        ],
    ),
    // a call that there is none of, and one that leads out of the cell
    (
        "priority = 100",
        r#"allow_calls = ["bpf", "ptrcae", "mount"]"#,
        &[
            r#"berth.toml:10: vserver.alpha.allow_calls: "mount" can't be allowed: it leads out of the cell, or is about the whole node"#,
            r#"berth.toml:10: vserver.alpha.allow_calls: "ptrcae" is no system call that berth knows, did you mean ptrace?"#,
        ],
    ),
    // config_dir elsewhere
    (
        "priority = 100",
        r#"config_dir = "/home/x""#,
        &[
            r#"berth.toml:10: vserver.alpha.config_dir: "/home/x" is not an absolute path under /etc, /opt or /usr"#,
        ],
    ),
    // no clients
    (
        r#"clients = ["*"]"#,
        r#"access = "ro""#,
        &[
            r#"berth.toml:28: vserver.beta.filesystem.nfs: clients is missing: list networks or hosts, or "*" for all"#,
        ],
    ),
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
    // bad squash
    (
        r#"clients = ["*"]"#,
        r#"clients = ["*"], squash = "yes""#,
        &[r#"berth.toml:28: vserver.beta.filesystem.nfs.squash: "yes" is none of root, all, none"#],
    ),
    // bad ports
    (
        r#"clients = ["*"]"#,
        r#"clients = ["*"], ports = "all""#,
        &[r#"berth.toml:28: vserver.beta.filesystem.nfs.ports: "all" is none of privileged, any"#],
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
    // share name
    (
        r#"share = "more""#,
        r#"share = "homes""#,
        &[
            r#"berth.toml:22: vserver.alpha.filesystem.smb.share: "homes" is no share name: it has a meaning of its own in SMB"#,
        ],
    ),
    // share without name
    (
        r#"share = "more""#,
        r#"users = ["x"]"#,
        &["berth.toml:22: vserver.alpha.filesystem.smb: share is missing"],
    ),
    // user name
    (
        r#"share = "more""#,
        r#"share = "more", users = ["a b"]"#,
        &[
            r#"berth.toml:22: vserver.alpha.filesystem.smb.users: "a b": has white space in it, give each as an element of the list"#,
        ],
    ),
    // grace under lease
    (
        "priority = 100",
        "nfs_lease = 100",
        &[
            "berth.toml:9: vserver.alpha: the grace period, 20 s, is not longer than the lease, 100 s: set nfs_grace to more",
        ],
    ),
    // limits
    (
        "priority = 100",
        "memory_max = \"4\"",
        &[r#"berth.toml:10: vserver.alpha.memory_max: "4" is 4 bytes: say 4G or 4M"#],
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
    // relative command
    (
        "priority = 100",
        r#"command = "bin/x""#,
        &[r#"berth.toml:10: vserver.alpha.command: "bin/x" must begin with an absolute path"#],
    ),
    // unknown loss
    (
        r#"subnet = "lab" }"#,
        r#"on_subnet_loss = "wait" }"#,
        &[
            r#"berth.toml:12: vserver.alpha.vips.on_subnet_loss: "wait" is none of reroute, migrate"#,
        ],
    ),
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
    // unknown setting
    (
        "[storage.array1]",
        "[portwatch]\nintervall = \"1s\"\n[storage.array1]",
        &[
            "berth.toml:8: portwatch.intervall: unknown key, did you mean interval? (known here: interval, fail_after, recover_after and balance)",
        ],
    ),
    // target elsewhere
    (
        r#"lab = { cidr = "10.2.0.0/24" }"#,
        r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.1", "10.1.0.1"] }"#,
        &["berth.toml:3: subnets.lab.targets: 10.1.0.1 is not in 10.2.0.0/24"],
    ),
    // target no host's, target no address
    (
        r#"lab = { cidr = "10.2.0.0/24" }"#,
        r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.255", "router"] }"#,
        &[
            r#"berth.toml:3: subnets.lab.targets: "router" is no address, such as "10.1.0.50""#,
            "berth.toml:3: subnets.lab.targets: 10.2.0.255 is the first or last address of 10.2.0.0/24, which no host may use",
        ],
    ),
    // vip as a target
    (
        r#"lab = { cidr = "10.2.0.0/24" }"#,
        r#"lab = { cidr = "10.2.0.0/24", targets = ["10.2.0.50"] }"#,
        &[
            "berth.toml:12: vserver.alpha.vips: 10.2.0.50 is a target of lab (line 3), which must be a host that does not depend on this cluster",
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
    // odd node name
    (
        "[nodes.n2]",
        r#"[nodes."n 2"]"#,
        &[
            r#"berth.toml:6: nodes.n 2: the name "n 2" has ' ' in it; allowed are letters, digits, ., - and _"#,
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
    // unknown way of announcing
    (
        r#"subnet = "lab" }"#,
        r#"announce = "bgp" }"#,
        &[r#"berth.toml:12: vserver.alpha.vips.announce: "bgp" is none of arp, route"#],
    ),
    // no TOML
    (
        r#"stay_on = "n1""#,
        "stay_on = n1",
        &["berth.toml:11: invalid float, expected `nan`: stay_on = n1"],
    ),
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
        &[
            "berth.toml:24: vserver.beta.vip: unknown key, did you mean vips? (known here: priority, stay_on, services, command, vips, filesystem, config_dir, allow_calls, nfs_lease, nfs_grace, max_connections, max_connections_per_client, stop_timeout, memory_max, pids_max, cpu_weight and io_weight)",
        ],
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
    // values of another type, of which nothing follows
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
        &["berth.toml:28: vserver.beta.filesystem.nfs.clients: number 5 instead of text in quotes"],
    ),
    (
        r#"nfs = { clients = ["*"] }"#,
        r#"nfs = ["*"]"#,
        &["berth.toml:28: vserver.beta.filesystem.nfs: a list instead of a table"],
    ),
    (
        r#"nfs = { clients = ["*"] }"#,
        "smb = { share = 5 }",
        &["berth.toml:28: vserver.beta.filesystem.smb.share: number 5 instead of text in quotes"],
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
        &[r#"berth.toml:2: subnets.office.cidr6: "fd00:1::" is no network, such as "fd00:1::/64""#],
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
    // gateways that lead nowhere
    (
        r#"gateway = "10.1.0.254""#,
        r#"gateway = "10.1.0.0""#,
        &[
            "berth.toml:2: subnets.office.gateway: 10.1.0.0 is the first or last address of 10.1.0.0/24, which no host may use",
        ],
    ),
    (
        r#"cidr6 = "fd00:1::/64""#,
        r#"cidr6 = "fd00:1::/64", gateway6 = "fd00:1::""#,
        &[
            "berth.toml:2: subnets.office.gateway6: fd00:1:: is the first or last address of fd00:1::/64, which no host may use",
        ],
    ),
    (
        r#"cidr6 = "fd00:1::/64""#,
        r#"cidr6 = "fd00:1::/64", gateway6 = "10.1.0.254""#,
        &["berth.toml:2: subnets.office.gateway6: 10.1.0.254 is no IPv6 address"],
    ),
    (
        r#"subnet = "lab" }"#,
        r#"gateway = "10.2.0.255" }"#,
        &[
            "berth.toml:12: vserver.alpha.vips: the gateway 10.2.0.255 of 10.2.0.50 is the first or last address of 10.2.0.0/24, which no host may use",
        ],
    ),
    (
        r#"subnet = "lab" }"#,
        r#"gateway = "10.2.0.50" }"#,
        &[
            "berth.toml:12: vserver.alpha.vips: the gateway 10.2.0.50 of 10.2.0.50 is the virtual IP address itself",
        ],
    ),
    (
        r#"["fd00:1::50"]"#,
        r#"["fd00:1::50", { ip = "10.1.0.51", gateway = "10.1.0.50" }]"#,
        &[
            "berth.toml:24: vserver.beta.vips: the gateway 10.1.0.50 of 10.1.0.51 is an address of alpha",
        ],
    ),
    // ports that no client of the address is at
    (
        r#"subnet = "lab" }"#,
        r#"subnet = "lab", ports = ["eth2", "eth1"] }"#,
        &[
            "berth.toml:12: vserver.alpha.vips: port eth1 is on office at n1 (line 5), not on lab, where 10.2.0.50 is",
        ],
    ),
    (
        r#"["fd00:1::50"]"#,
        r#"[{ ip = "fd00:1::50", ports = ["eth2"] }]"#,
        &[
            "berth.toml:24: vserver.beta.vips: port eth2 is on lab at n1 (line 5), not on office, where fd00:1::50 is",
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
    // lists that say nothing, where to leave them out says the reverse
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
    (
        "[vserver.beta]\nvips = [\"fd00:1::50\"]\n[[vserver.beta.filesystem]]",
        "[vserver.beta.example]\nvips = [\"fd00:1::50\"]\n[[vserver.beta.example.filesystem]]",
        &[
            r#"berth.toml:23: vserver.beta.example: the name "beta.example" has '.' in it; allowed are a-z, 0-9 and -"#,
        ],
    ),
    (
        "[nodes.n2]",
        "[nodes.n2]\nnics = { eth1 = \"office\" }",
        &["berth.toml:7: nodes.n2.nics: unknown key (known here: ports)"],
    ),
    // several at once
    (
        "priority = 100",
        r#"priority = -1
servces = ["nfs", "smb"]
stop_timeout = 0"#,
        &[
            "berth.toml:10: vserver.alpha.priority: number -1 instead of a whole number from 0 to 9999",
            "berth.toml:11: vserver.alpha.servces: unknown key, did you mean services? (known here: priority, stay_on, services, command, vips, filesystem, config_dir, allow_calls, nfs_lease, nfs_grace, max_connections, max_connections_per_client, stop_timeout, memory_max, pids_max, cpu_weight and io_weight)",
            "berth.toml:12: vserver.alpha.stop_timeout: number 0 instead of a whole number from 1 to 600",
        ],
    ),
];

#[test]
fn the_unspoiled_file_is_good() {
    let config = config::parse("berth.toml", GOOD).unwrap();
    assert_eq!(
        config::summary(&config),
        "good: 2 virtual servers, 3 file systems, 3 VIPs"
    );
    let both = GOOD.replace(
        "[nodes.n2]",
        "[nodes.n2]\nports = { eth1 = \"office\", eth2 = \"lab\" }",
    );
    let config = config::parse("berth.toml", &both).unwrap();
    let warnings = config::warnings(&config);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let copied = "the device of beta-data is named by what is written on it, which a clone or a snapshot has too";
    assert!(warnings[0].starts_with(copied), "{warnings:?}");
}

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
fn each_mistake_is_named_with_its_line_and_what_would_be_right() {
    for (good, bad, expected) in CASES {
        assert!(GOOD.contains(good), "{good}");
        let problems = config::parse("berth.toml", &GOOD.replace(good, bad)).unwrap_err();
        let lines: Vec<String> = problems.lines().collect();
        assert_eq!(&lines, expected, "{bad}");
        assert!(lines.iter().all(|line| !line.contains('\n')), "{bad}");
    }
}

#[test]
fn the_usual_gateway_of_ipv6_is_taken() {
    let subnet = GOOD.replace(
        r#"cidr6 = "fd00:1::/64""#,
        r#"cidr6 = "fd00:1::/64", gateway6 = "fe80::1""#,
    );
    let own = GOOD.replace(
        r#"["fd00:1::50"]"#,
        r#"[{ ip = "fd00:1::50", gateway = "fe80::1" }]"#,
    );
    for toml in [subnet, own] {
        let config = config::parse("berth.toml", &toml).unwrap();
        let plan = build::build(&config, Features::CURRENT, &Known::new());
        let vip = plan.resources.iter().find(|r| r.id == "beta-ip1").unwrap();
        assert!(vip.params.contains(&("gateway", "fe80::1".to_owned())));
    }
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

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\PC|\n|[\\[\\]={}\"'.,a-z0-9 ]){0,200}") {
        let _ = config::parse("f", &text);
    }

    #[test]
    fn no_cut_or_doubled_part_makes_it_panic(from in 0..GOOD.len(), length in 0..60_usize, twice: bool) {
        let end = (from + length).min(GOOD.len());
        let part = if twice { &GOOD[from..end] } else { "" };
        let text = format!("{}{part}{part}{}", &GOOD[..from], &GOOD[end..]);
        let _ = config::parse("f", &text);
    }
}
