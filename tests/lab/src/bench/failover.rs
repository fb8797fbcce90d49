//! How long clients wait: power failures and planned moves, beside a bare Dummy resource in the same
//! cluster at the same moment.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::timeline::{self, Action};
use crate::control::Lab;
use crate::error::{Error, Result};
use crate::nfs4::{Outage, Probe};
use crate::scene;
use crate::wait::{holds, wait_for};

/// Pause between two listings.
const PAUSE: Duration = Duration::from_millis(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// A resource that does nothing, always where alpha is: what the cluster costs by itself.
pub const DUMMY: &str = r#"
<configuration><resources>
 <primitive id="bare" class="ocf" provider="pacemaker" type="Dummy">
  <operations><op id="bare-mon" name="monitor" interval="10s"/></operations>
 </primitive>
</resources></configuration>"#;
const WITH_ALPHA: &str = r#"
<rsc_colocation id="bare-alpha" rsc="bare" with-rsc="alpha" score="INFINITY"/>"#;

/// One event and what it cost, all in milliseconds from its begin.
#[derive(Debug)]
pub struct Run {
    /// Until the listing was answered again.
    pub answered: u64,
    /// Between the last answer before and the first after.
    pub outage: u64,
    /// Until the Dummy had started on its new node.
    pub dummy: u64,
    /// Starts and stops, for the chart.
    pub actions: Vec<Action>,
    /// The time of the day at the begin, in the logs' clock.
    pub begun: u64,
}

/// Adds the Dummy to the cluster, where alpha is.
///
/// # Errors
/// If the cluster refuses it.
pub fn add_dummy(lab: &Lab) -> Result<()> {
    let load = |scope: &str, xml: &str| {
        let words = ["cibadmin", "--create", "--scope", scope, "--xml-text", xml];
        lab.exec("n1", &words)?.check(format!("add to {scope}"))
    };
    let xml = roxmltree::Document::parse(DUMMY).map_err(|e| Error::new(e.to_string()))?;
    let primitive = xml.descendants().find(|n| n.has_tag_name("primitive"));
    let range = primitive.map(|n| n.range()).unwrap_or_default();
    load("resources", &DUMMY[range])?;
    load("constraints", WITH_ALPHA.trim())?;
    let node = scene::node_of(lab, "n1", "alpha")?;
    scene::wait_on(lab, "n1", "bare", &node)
}

/// A power failure of the node that alpha is on. The node is on again and a member afterwards.
///
/// # Errors
/// If alpha does not come back.
pub fn crash(lab: &Lab, vip: &str) -> Result<Run> {
    let node = scene::node_of(lab, &any_node(lab)?, "alpha")?;
    let run = during(lab, vip, || lab.crash(&node))?;
    lab.boot(&node)?;
    lab.wait_for_cluster(&lab.plan().node_names())?;
    settle(lab)?;
    Ok(run)
}

/// A move of alpha to another node, by the administrator's command.
///
/// # Errors
/// If alpha does not arrive.
pub fn planned(lab: &Lab, vip: &str) -> Result<Run> {
    let node = scene::node_of(lab, "n1", "alpha")?;
    let nodes = lab.plan().node_names();
    let at = nodes.iter().position(|n| *n == node).unwrap_or_default();
    let target = nodes[(at + 1) % nodes.len()].clone();
    let command = |verb: &str| -> Result<()> {
        let words = [
            "crm_resource",
            verb,
            "--resource",
            "alpha",
            "--node",
            &target,
        ];
        let words = if verb == "--clear" {
            &words[..4]
        } else {
            &words[..]
        };
        lab.exec(&node, words)?
            .check(format!("crm_resource {verb}"))?;
        Ok(())
    };
    let run = during(lab, vip, || command("--move"))?;
    scene::wait_on(lab, "n1", "alpha", &target)?;
    command("--clear")?;
    settle(lab)?;
    Ok(run)
}

/// Does `event` while a client lists over NFS, until it is answered again.
fn during(lab: &Lab, vip: &str, event: impl FnOnce() -> Result<()>) -> Result<Run> {
    let server: IpAddr = vip
        .parse()
        .map_err(|_| Error::new(format!("{vip} is no address")))?;
    let probe = Probe {
        server,
        path: "/data".to_owned(),
        pause: PAUSE,
    };
    let stop = AtomicBool::new(false);
    let mark = timeline::mark(lab)?;
    thread::scope(|scope| {
        let (sender, outages) = std::sync::mpsc::channel::<Outage>();
        let stop = &stop;
        let asking = scope.spawn(move || {
            lab.on_network_of("c1", || probe.run(stop, |o| drop(sender.send(o.clone()))))
        });
        let watched = watch(lab, &outages, event);
        stop.store(true, Ordering::SeqCst);
        asking
            .join()
            .map_err(|_| Error::new("the probe panicked"))??;
        let (zero, begun, outage) = watched?;
        let until = outage.until.unwrap_or_else(Instant::now);
        settle(lab)?;
        let actions = timeline::since(lab, &mark)?;
        let dummy = actions
            .iter()
            .filter(|a| a.resource == "bare" && a.verb == "start");
        let dummy = dummy.map(|a| a.ended).next_back();
        let dummy = dummy.ok_or_else(|| Error::new("the Dummy did not start anywhere"))?;
        Ok(Run {
            answered: millis(until.saturating_duration_since(zero)),
            outage: millis(outage.length()),
            dummy: dummy.saturating_sub(begun),
            actions,
            begun,
        })
    })
}

/// Waits for the first outage that ends after `event` was begun.
fn watch(
    lab: &Lab,
    outages: &std::sync::mpsc::Receiver<Outage>,
    event: impl FnOnce() -> Result<()>,
) -> Result<(Instant, u64, Outage)> {
    // Half a second of answers before it, so that the client is at work.
    if let Ok(early) = outages.recv_timeout(Duration::from_millis(500)) {
        lab.say(&format!(
            "an outage of {} ms before the event",
            early.length().as_millis()
        ));
    }
    let (zero, begun) = (Instant::now(), time_of_day());
    event()?;
    let deadline = zero + ANSWER_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match outages.recv_timeout(left) {
            Ok(outage) if outage.until.is_some_and(|u| u > zero) => {
                return Ok((zero, begun, outage));
            }
            Ok(_) => {}
            Err(_) => return Err(Error::new("the listing was not answered again within 60 s")),
        }
    }
}

/// Waits until the cluster has nothing more to do.
fn settle(lab: &Lab) -> Result<()> {
    let node = any_node(lab)?;
    wait_for("the cluster to be idle", SETTLE_LIMIT, || {
        let output = lab.exec(&node, &["crmadmin", "--quiet", "--dc_lookup"])?;
        let dc = output
            .stdout
            .trim()
            .trim_start_matches("Designated Controller is:");
        let dc = dc.split_whitespace().next().unwrap_or_default().to_owned();
        holds(!dc.is_empty(), Error::new("no controller"))?;
        let status = lab.exec(&node, &["crmadmin", "--status", &dc])?;
        holds(
            status.stdout.contains("S_IDLE"),
            Error::new(status.stdout.trim().to_owned()),
        )
    })
}

fn any_node(lab: &Lab) -> Result<String> {
    let on = timeline::powered(lab)?.into_iter().next();
    on.ok_or_else(|| Error::new("no node has power"))
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of the day in the logs' time zone, which is that of this process.
fn time_of_day() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or_default();
    // SAFETY: tm is plain integers and a pointer, for which zero is a valid value.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live local variables.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    let field = |n: i32| u64::try_from(n).unwrap_or_default();
    ((field(local.tm_hour) * 60 + field(local.tm_min)) * 60 + field(local.tm_sec)) * 1000
        + u64::from(now.subsec_millis())
}
