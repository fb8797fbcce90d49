//! The virtual servers that demo, tests and bench play with, and the way onto a lab's cluster.

use std::time::Duration;

use crate::control::Lab;
use crate::error::{Context, Error, Result};
use crate::wait::{holds, wait_for};

/// The head of every lab's berth.toml: subnets, ports, storage, as [`crate::plan`] lays them out.
const GROUND: &str = r#"
[subnets]
office = { cidr = "10.1.0.0/24", gateway = "10.1.0.254", cidr6 = "fd00:1::/64", gateway6 = "fd00:1::254" }
lab    = { cidr = "10.2.0.0/24", gateway = "10.2.0.254", cidr6 = "fd00:2::/64", gateway6 = "fd00:2::254" }
"#;

/// alpha: two VIPs on two subnets, two file systems, NFS and SMB.
pub const ALPHA: &str = r#"
[vserver.alpha]
priority = 100
services = ["nfs", "smb"]
vips = ["10.1.0.50", "10.2.0.50"]

[[vserver.alpha.filesystem]]
name = "home"
device = "/dev/disk/lab/d1"
path = "/home"
unit = "array"
nfs = { clients = ["*"], access = "rw", squash = "none" }

[[vserver.alpha.filesystem]]
name = "data"
device = "/dev/disk/lab/d2"
path = "/data"
unit = "array"
nfs = { clients = ["*"], access = "rw", squash = "none" }
smb = { share = "data", users = ["demo"] }
"#;

/// beta: two VIPs on two subnets, NFS; it exports the same path as alpha.
pub const BETA: &str = r#"
[vserver.beta]
priority = 50
services = ["nfs"]
vips = ["10.1.0.60", "10.2.0.60"]

[[vserver.beta.filesystem]]
name = "data"
device = "/dev/disk/lab/d3"
path = "/data"
unit = "array"
nfs = { clients = ["*"], access = "rw", squash = "none" }
"#;

/// The disks of alpha and beta, and what is on them.
const DISKS: [(&str, &str); 3] = [("d1", "ext4"), ("d2", "xfs"), ("d3", "ext4")];
/// What an administrator adds to Samba's configuration: guests are the lab's user, and what was
/// acknowledged is on the disk, as an NFS server promises by itself.
const SMB_SNIPPET: &str = "[global]\n\
    map to guest = Bad User\n\
    guest account = demo\n\
    guest ok = yes\n\
    sync always = yes\n";
const SNIPPET_DIRECTORY: &str = "/etc/berth-snippets";

/// Where the configuration lies on the first node.
const FILE: &str = "/etc/berth.toml";
const APPLY_LIMIT: Duration = Duration::from_secs(90);
const STARTED_LIMIT: Duration = Duration::from_secs(60);

/// A whole berth.toml: the lab's ground and these virtual servers.
pub fn config(lab: &Lab, servers: &[&str]) -> String {
    let mut text = GROUND.to_owned();
    for node in lab.plan().node_names() {
        text += &format!(
            "[nodes.{node}]\nports = {{ eth1 = \"office\", eth2 = \"office\", eth3 = \"lab\" }}\n"
        );
    }
    text += "[storage.array]\nprobe = [\"/dev/disk/lab/d1\"]\n";
    text + &servers.concat()
}

/// Makes the file systems, writes berth.toml to the first node and applies it; returns when all of
/// it runs.
///
/// # Errors
/// With `berth`'s own words, or with what does not run.
pub fn install(lab: &Lab, servers: &[&str], disks: &[(&str, &str)]) -> Result<()> {
    disks
        .iter()
        .try_for_each(|(disk, kind)| lab.mkfs(disk, kind))?;
    apply(lab, &config(lab, servers))
}

/// alpha or beta, open to SMB guests. See [`serve`].
pub fn with_guests(server: &str) -> String {
    let (head, rest) = server.split_once("]\n").unwrap_or((server, ""));
    format!("{head}]\nconfig_dir = \"{SNIPPET_DIRECTORY}\"\n{rest}")
}

/// Makes the file systems of alpha and beta and starts them, all on the first node, whose name it
/// returns.
///
/// # Errors
/// As [`install`].
pub fn serve(lab: &Lab, servers: &[&str]) -> Result<String> {
    let names = lab.plan().node_names();
    let (first, others) = names
        .split_first()
        .ok_or_else(|| Error::new("a lab without nodes"))?;
    lab.say("file systems on the shared disks: ext4, XFS, ext4");
    for (disk, kind) in DISKS {
        lab.mkfs(disk, kind)?;
        // For the SMB user, who is not root.
        let open = format!("mount /dev/disk/lab/{disk} /mnt && chmod 1777 /mnt && umount /mnt");
        lab.exec(first, &["sh", "-c", &open])?
            .check(format!("open up {disk}"))?;
    }
    for node in &names {
        lab.exec(node, &["mkdir", "-p", SNIPPET_DIRECTORY])?
            .check("mkdir")?;
        lab.write(node, &format!("{SNIPPET_DIRECTORY}/smb.conf"), SMB_SNIPPET)?;
    }
    standby(lab, first, others, "on")?;
    lab.say("berth apply: alpha (two VIPs, two file systems, NFS and SMB), beta (two VIPs, NFS)");
    apply(lab, &config(lab, servers))?;
    standby(lab, first, others, "off")?;
    Ok(first.clone())
}

/// Keeps the other nodes from taking a server at the beginning, so that all begin on one.
fn standby(lab: &Lab, asked: &str, nodes: &[String], value: &str) -> Result<()> {
    nodes.iter().try_for_each(|node| {
        let words = ["crm_standby", "-N", node.as_str(), "-v", value];
        lab.exec(asked, &words)?.check("crm_standby").map(drop)
    })
}

/// Applies a berth.toml; returns when all of it runs.
///
/// # Errors
/// As [`install`].
pub fn apply(lab: &Lab, config: &str) -> Result<()> {
    let first = &lab.plan().node_names()[0];
    lab.write(first, FILE, config)?;
    let words = ["berth", "apply", "-f", FILE, "--wait"];
    lab.exec_within(first, &words, APPLY_LIMIT)?
        .check("berth apply")?;
    Ok(())
}

/// The node that `resource` runs on.
///
/// # Errors
/// If it runs nowhere or on more than one, or the cluster can't be asked.
pub fn node_of(lab: &Lab, asked: &str, resource: &str) -> Result<String> {
    let words = [
        "crm_resource",
        "--locate",
        "--resource",
        resource,
        "--output-as=xml",
    ];
    let output = lab.exec(asked, &words)?.check("crm_resource")?;
    let xml = roxmltree::Document::parse(&output.stdout).context("crm_resource")?;
    let mut nodes = xml
        .descendants()
        .filter(|n| n.has_tag_name("node"))
        .filter_map(|n| n.text());
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node.to_owned()),
        (None, _) => Err(Error::new(format!("{resource} runs nowhere"))),
        (Some(one), Some(two)) => Err(Error::new(format!("{resource} runs on {one} and {two}"))),
    }
}

/// Waits until `resource` runs on `node`.
///
/// # Errors
/// If it does not, a minute later.
pub fn wait_on(lab: &Lab, asked: &str, resource: &str, node: &str) -> Result<()> {
    wait_for(format_args!("{resource} on {node}"), STARTED_LIMIT, || {
        let seen = node_of(lab, asked, resource)?;
        holds(seen == node, Error::new(format!("it runs on {seen}")))
    })
}
