//! What every machine has on top of its system's files: fresh state directories, the cluster's
//! configuration, the built agents, the fence agent, a user for SMB.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::error::{Context, Error, Result};
use crate::plan::Plan;
use crate::system::System;

/// Directories that begin empty in a machine, whatever its system has in them: only their own
/// subdirectories are taken over, with owners and modes as packaged.
const FRESH: [&str; 10] = [
    "etc/corosync",
    "var/lib/corosync",
    "var/lib/pacemaker",
    "var/lib/pcsd",
    "var/lib/nfs",
    "var/lib/samba",
    "var/cache/samba",
    "var/log",
    "root",
    "usr/lib/ocf/resource.d/berth",
];
const AGENTS: [&str; 5] = ["fscheck", "vserver", "vip", "portwatch", "rebalance"];
/// Lines added to the user database.
const USERS: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "demo:x:1500:1500:SMB tests:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("etc/group", "demo:x:1500:\n"),
    ("etc/shadow", "demo:*:19000:0:99999:7:::\n"),
];

/// The layer while it is written.
struct Layer<'a> {
    /// Where it is written.
    at: &'a Path,
    /// What it will lie on.
    system: &'a System,
}

/// Writes the layer into the empty directory `at`.
///
/// # Errors
/// Names the file that can't be read or written.
pub fn build(plan: &Plan, at: &Path) -> Result<()> {
    let system = &plan.system;
    let layer = Layer { at, system };
    for dir in FRESH {
        layer.fresh(dir)?;
    }
    for (file, line) in USERS {
        let below = system.path(file);
        let text = fs::read_to_string(&below).context(below.display())?;
        layer.write(file, &(text + line))?;
        let mode = fs::metadata(&below).context(below.display())?.permissions();
        fs::set_permissions(at.join(file), mode).context(file)?;
    }
    layer.write("etc/hosts", &plan.hosts_file())?;
    layer.write("etc/corosync/corosync.conf", &corosync_conf(plan))?;
    layer.cib(plan)?;
    layer.make_dir("var/log/cluster")?;
    layer.programs(plan)
}

impl Layer<'_> {
    fn programs(&self, plan: &Plan) -> Result<()> {
        self.install(Path::new("/proc/self/exe"), "usr/sbin/lab")?;
        symlink("lab", self.at.join("usr/sbin/fence_lab")).context("install fence_lab")?;
        let Some(built) = &plan.agents else {
            return Ok(());
        };
        self.install(&built.join("berth"), "usr/sbin/berth")?;
        for agent in AGENTS.iter().filter(|a| built.join(a).is_file()) {
            let target = format!("usr/lib/ocf/resource.d/berth/{agent}");
            self.install(&built.join(agent), &target)?;
        }
        Ok(())
    }

    fn install(&self, from: &Path, to: &str) -> Result<()> {
        let target = self.at.join(to);
        self.make_dir(&parent(to))?;
        fs::copy(from, &target).context(format!("copy {} to {to}", from.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).context(to)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        self.make_dir(&parent(file))?;
        fs::write(self.at.join(file), text).context(format!("write {file}"))
    }

    /// Makes `dir` and its parents in the layer, like those of the system: an overlay shows a directory's
    /// owner and mode from its topmost layer.
    fn make_dir(&self, dir: &str) -> Result<()> {
        let path = self.at.join(dir);
        if dir.is_empty() || path.is_dir() {
            return Ok(());
        }
        self.make_dir(&parent(dir))?;
        fs::create_dir(&path).context(path.display())?;
        match fs::metadata(self.system.path(dir)) {
            Ok(model) => like(&path, &model),
            Err(_) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context(dir),
        }
    }

    fn fresh(&self, dir: &str) -> Result<()> {
        self.make_dir(dir)?;
        let path = self.at.join(dir);
        opaque(&path)?;
        let below = self.system.path(dir);
        if below.is_dir() {
            directories(&below, &path)
        } else {
            Ok(())
        }
    }

    /// The cluster's first configuration. It belongs to Pacemaker's user, whatever number that has in the
    /// system.
    fn cib(&self, plan: &Plan) -> Result<()> {
        let file = "var/lib/pacemaker/cib/cib.xml";
        let home = self.system.path("var/lib/pacemaker/cib");
        let owner = fs::metadata(&home)
            .map_err(|e| Error::new(format!("{}: {e}: is Pacemaker installed?", home.display())))?;
        self.write(file, &cib(plan, &self.system.newest_schema()?))?;
        let path = self.at.join(file);
        chown(&path, Some(owner.uid()), Some(owner.gid())).context(file)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context(file)
    }
}

fn parent(file: &str) -> String {
    let parent = Path::new(file).parent().unwrap_or(Path::new(""));
    parent.to_string_lossy().into_owned()
}

fn like(path: &Path, model: &fs::Metadata) -> Result<()> {
    chown(path, Some(model.uid()), Some(model.gid())).context(path.display())?;
    fs::set_permissions(path, model.permissions()).context(path.display())
}

/// Copies the tree of directories below `from`, without a file.
fn directories(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).context(from.display())?.flatten() {
        let meta = entry.metadata().context(entry.path().display())?;
        if meta.is_dir() {
            let target = to.join(entry.file_name());
            fs::create_dir_all(&target).context(target.display())?;
            like(&target, &meta)?;
            directories(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Hides what the layers below have in `path`.
fn opaque(path: &Path) -> Result<()> {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", flags).context(path.display())
}

fn corosync_conf(plan: &Plan) -> String {
    let mut text = String::from(
        "totem {\n\
         version: 2\n\
         cluster_name: lab\n\
         transport: knet\n\
         crypto_cipher: none\n\
         crypto_hash: none\n\
         token: 1000\n\
         }\n\
         quorum {\n\
         provider: corosync_votequorum\n",
    );
    if plan.nodes == 2 {
        text += "two_node: 1\n";
    }
    text += "}\n\
             system {\n\
             move_to_root_cgroup: no\n\
             }\n\
             logging {\n\
             to_stderr: no\n\
             to_syslog: no\n\
             to_logfile: yes\n\
             logfile: /var/log/cluster/corosync.log\n\
             timestamp: hires\n\
             }\n\
             nodelist {\n";
    for i in 1..=plan.nodes {
        text += &format!("node {{\nring0_addr: 10.0.0.{i}\nname: n{i}\nnodeid: {i}\n}}\n");
    }
    text + "}\n"
}

/// The cluster's first configuration: fencing, and an election that does not wait long. Each node sees
/// the load of the whole machine, other nodes' and other people's; it must not take that for its own
/// and do one thing at a time.
fn cib(plan: &Plan, schema: &str) -> String {
    let hosts = plan.node_names().join(" ");
    format!(
        r#"<cib validate-with="{schema}" epoch="1" num_updates="0" admin_epoch="0">
<configuration>
<crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="opt-dc-deadtime" name="dc-deadtime" value="2s"/>
<nvpair id="opt-stonith-enabled" name="stonith-enabled" value="true"/>
<nvpair id="opt-load-threshold" name="load-threshold" value="1000%"/>
</cluster_property_set></crm_config>
<nodes/>
<resources>
<primitive id="power" class="stonith" type="fence_lab">
<instance_attributes id="power-attributes">
<nvpair id="power-hosts" name="pcmk_host_list" value="{hosts}"/>
<nvpair id="power-check" name="pcmk_host_check" value="static-list"/>
</instance_attributes>
<operations><op id="power-monitor" name="monitor" interval="120s" timeout="20s"/></operations>
</primitive>
</resources>
<constraints/>
</configuration>
<status/>
</cib>
"#
    )
}
