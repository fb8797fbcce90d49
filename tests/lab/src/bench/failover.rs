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
use crate::status;
use crate::wait::{holds, wait_for};

/// Pause between two listings.
const PAUSE: Duration = Duration::from_millis(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
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
    let run = beside_dummy(lab, vip, || {
        lab.crash(&node)?;
        let asked = any_node(lab)?;
        wait_for("alpha on another node", ANSWER_LIMIT, || {
            let now_on = scene::node_of(lab, &asked, "alpha")?;
            holds(now_on != node, Error::new(format!("it is on {now_on}")))
        })
    })?;
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
    moved(lab, "alpha", |event| beside_dummy(lab, vip, event))
}

/// Has the administrator move `resource` to the next node while `watch` looks on.
///
/// # Errors
/// If it does not arrive.
pub fn moved<T>(
    lab: &Lab,
    resource: &str,
    watch: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<T>,
) -> Result<T> {
    let node = scene::node_of(lab, "n1", resource)?;
    let nodes = lab.plan().node_names();
    let at = nodes.iter().position(|n| *n == node).unwrap_or_default();
    let target = nodes[(at + 1) % nodes.len()].clone();
    let command = |words: &[&str]| -> Result<()> {
        let words = [&["crm_resource", "--resource", resource], words].concat();
        lab.exec(&node, &words)?.check(words.join(" "))?;
        Ok(())
    };
    let seen = watch(&|| {
        command(&["--move", "--node", &target])?;
        scene::wait_on(lab, &node, resource, &target)
    })?;
    command(&["--clear"])?;
    settle(lab)?;
    Ok(seen)
}

/// Does `event` while a client lists over NFS, and looks what the Dummy does meanwhile.
fn beside_dummy(lab: &Lab, vip: &str, event: impl FnOnce() -> Result<()>) -> Result<Run> {
    let mark = timeline::mark(lab)?;
    let answer = during(lab, (vip, "/data"), event)?;
    let actions = timeline::since(lab, &mark)?;
    let dummy = actions
        .iter()
        .filter(|a| a.resource == "bare" && a.verb == "start");
    let dummy = dummy.map(|a| a.ended).next_back();
    let dummy = dummy.ok_or_else(|| Error::new("the Dummy did not start anywhere"))?;
    Ok(Run {
        answered: answer.answered,
        outage: answer.outage,
        dummy: dummy.saturating_sub(answer.begun),
        actions,
        begun: answer.begun,
    })
}

/// How long a client waited, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// From the begin of the event until it was answered again.
    pub answered: u64,
    /// Between the last answer before and the first after.
    pub outage: u64,
    /// The time of the day at the begin, in the logs' clock.
    begun: u64,
}

/// Does `event` while a client lists `path` over NFS, until it is answered again and the cluster has
/// nothing more to do.
///
/// # Errors
/// If it is not answered again.
pub fn during(
    lab: &Lab,
    (server, path): (&str, &str),
    event: impl FnOnce() -> Result<()>,
) -> Result<Answer> {
    let server: IpAddr = server
        .parse()
        .map_err(|_| Error::new(format!("{server} is no address")))?;
    let probe = Probe {
        server,
        path: path.to_owned(),
        pause: PAUSE,
    };
    let stop = AtomicBool::new(false);
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
        Ok(Answer {
            answered: millis(until.saturating_duration_since(zero)),
            outage: millis(outage.length()),
            begun,
        })
    })
}

/// Does `event`, which ends when the server is where it is to be, and tells the longest outage from then
/// on until it is answered there: a busy machine makes shorter ones of its own.
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
    settle(lab)?;
    let deadline = zero + ANSWER_LIMIT;
    let mut longest: Option<Outage> = None;
    loop {
        // After the first one whatever else there was is there already.
        let patience = match longest {
            None => deadline.saturating_duration_since(Instant::now()),
            Some(_) => Duration::ZERO,
        };
        match (outages.recv_timeout(patience), longest) {
            (Ok(outage), so_far) => {
                let later = outage.until.is_some_and(|until| until > zero);
                let longer = so_far.as_ref().is_none_or(|l| outage.length() > l.length());
                longest = if later && longer {
                    Some(outage)
                } else {
                    so_far
                };
            }
            (Err(_), Some(longest)) => return Ok((zero, begun, longest)),
            (Err(_), None) => {
                return Err(Error::new("the listing was not answered again within 60 s"));
            }
        }
    }
}

/// Waits until the cluster has nothing more to do.
///
/// # Errors
/// If it still has a minute later.
pub fn settle(lab: &Lab) -> Result<()> {
    status::settle(lab, &any_node(lab)?)
}

fn any_node(lab: &Lab) -> Result<String> {
    let on = timeline::powered(lab)?.into_iter().next();
    on.ok_or_else(|| Error::new("no node has power"))
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of the day in the logs' time zone, which is that of this process.
pub fn time_of_day() -> u64 {
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
