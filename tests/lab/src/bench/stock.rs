//! The same file server from stock agents: a group of one file system, NFS-Ganesha and one address.

use std::time::Duration;

use super::failover;
use crate::control::Lab;
use crate::error::{Error, Result};
use crate::scene;
use crate::status;
use crate::wait::{holds, wait_for};

/// The group's address, on the subnet of the client that asks.
const ADDRESS: &str = "10.1.0.77";
const MOUNT_POINT: &str = "/srv/stock";
const SERVER_CONFIG: &str = "/etc/stock-ganesha.conf";
const STARTED_LIMIT: Duration = Duration::from_secs(60);

/// As fast as berth's own configuration of it: the same protocol, state and grace period. Its first key is for
/// Ganesha 6.1 and later on a machine without CAP_SYS_RESOURCE; earlier ones warn of it.
const GANESHA: &str = r#"
NFS_CORE_PARAM { Allow_Set_Io_Flusher_Fail = true; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; Bind_addr = 10.1.0.77; }
NFSv4 { Grace_Period = 20; Lease_Lifetime = 15; RecoveryBackend = fs; RecoveryRoot = "/srv/stock/.state"; }
EXPORT { Export_Id = 1; Path = "/srv/stock"; Pseudo = "/stock"; Access_Type = RW; Squash = None; Protocols = 4; SecType = sys; FSAL { Name = VFS; } }
"#;

/// Adds the group to the cluster, on `disk`, and waits until it runs.
///
/// # Errors
/// If it does not.
pub fn install(lab: &Lab, disk: &str) -> Result<()> {
    for node in lab.plan().node_names() {
        let prepare = format!("mkdir -p {MOUNT_POINT} /run/ganesha");
        lab.exec(&node, &["sh", "-c", &prepare])?.check("mkdir")?;
        lab.write(&node, SERVER_CONFIG, GANESHA)?;
    }
    let operations = "op start timeout=60 op stop timeout=60 op monitor interval=10 timeout=40";
    let script = format!(
        "primitive stock-fs ocf:heartbeat:Filesystem params device=/dev/disk/lab/{disk} directory={MOUNT_POINT} fstype=ext4 {operations}\n\
         primitive stock-nfs ocf:heartbeat:anything params binfile=/usr/bin/ganesha.nfsd cmdline_options=\"-F -f {SERVER_CONFIG} -L /run/ganesha/log -p /run/ganesha/pid\" pidfile=/run/ganesha/anything.pid {operations}\n\
         primitive stock-ip ocf:heartbeat:IPaddr2 params ip={ADDRESS} cidr_netmask=24 nic=eth1 {operations}\n\
         group stock stock-fs stock-ip stock-nfs meta resource-stickiness=1\n"
    );
    lab.write("n1", "/etc/stock.crm", &script)?;
    lab.exec(
        "n1",
        &["crm", "configure", "load", "update", "/etc/stock.crm"],
    )?
    .check("crm configure")?;
    wait_for("the stock file server to run", STARTED_LIMIT, || {
        let mut own = status::instances(lab, "n1")?;
        own.retain(|i| i.resource.starts_with("stock-") && i.started);
        holds(own.len() == 3, Error::new(format!("{own:?}")))
    })
}

/// A move of the group to another node, by the administrator's command: milliseconds until the client
/// was answered again.
///
/// # Errors
/// If it does not arrive.
pub fn planned(lab: &Lab) -> Result<u64> {
    failover::moved(lab, "stock-fs", |event| {
        let answer = failover::during(lab, (ADDRESS, "/stock"), event)?;
        Ok(answer.answered)
    })
}

/// Takes the group out of the cluster.
///
/// # Errors
/// If it does not go.
pub fn remove(lab: &Lab) -> Result<()> {
    // By Pacemaker's own tools: crmsh 5 asks systemd, which a lab has not, before it deletes.
    let node = scene::node_of(lab, "n1", "stock-fs")?;
    let stop = "crm_resource --resource stock --meta -p target-role -v Stopped";
    lab.exec(&node, &["sh", "-c", stop])?
        .check("stop the stock file server")?;
    wait_for("the stock file server to be gone", STARTED_LIMIT, || {
        let mut own = status::instances(lab, &node)?;
        own.retain(|i| i.resource.starts_with("stock-"));
        holds(own.is_empty(), Error::new(format!("{own:?}")))
    })?;
    let group = "/cib/configuration/resources/group[@id='stock']";
    lab.exec(&node, &["cibadmin", "--delete", "--xpath", group])?
        .check("delete the stock file server")?;
    Ok(())
}
