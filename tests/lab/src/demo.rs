//! The demo: two virtual servers on one node, clients at work on both, a power failure, and the account
//! of what it cost them.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{Lab, Options};
use crate::error::{Error, Result};
use crate::nfs4::Report;
use crate::ports;
use crate::protocol::Cable;
use crate::scene;
use crate::wait::{holds, wait_for};
use crate::worker::{Worker, at_work, counts, wait_for_work};

const SERVERS: [&str; 2] = ["alpha", "beta"];
const VIP: &str = "10.1.0.50";
/// Acknowledgements per client before the power fails, and after it.
const ENOUGH: u64 = 50;
const FAILOVER_LIMIT: Duration = Duration::from_secs(60);

/// Shows it. With `keep`, the lab stays up afterwards.
///
/// # Errors
/// If a step fails, or an acknowledged write was lost.
pub fn run(options: &Options, keep: bool) -> Result<()> {
    let mut lab = Lab::up(options)?;
    let node = serve(&lab)?;
    let workers = [
        Worker::nfs("c1", VIP, "/data")?,
        Worker::nfs("c2", "10.2.0.50", "/home")?,
        Worker::smb("c1", VIP, "data")?,
        Worker::nfs("c1", "10.1.0.60", "/data")?,
        Worker::nfs("c2", "10.2.0.60", "/data")?,
    ];
    let ((), reports) = at_work(&lab, &workers, || {
        lose_port(&lab, &node, &workers)?;
        fail_over(&lab, &node, &workers)
    })?;
    let shown = conclude(&lab, &workers, &reports);
    if keep {
        lab.keep()?;
        look_around(&lab, &node);
    }
    shown
}

/// Starts both virtual servers on the first node and returns its name.
fn serve(lab: &Lab) -> Result<String> {
    let node = scene::serve(lab, &[&scene::with_guests(scene::ALPHA), scene::BETA])?;
    for server in SERVERS {
        let node = scene::node_of(lab, &node, server)?;
        lab.say(&format!("{server} serves on {node}"));
    }
    Ok(node)
}

/// Pulls the cable that clients reach alpha's first address by, while they work.
fn lose_port(lab: &Lab, node: &str, workers: &[Worker]) -> Result<()> {
    lab.say("five clients write, and note what the servers acknowledge");
    wait_for_work(workers, &vec![0; workers.len()], ENOUGH, || {})?;
    let port = ports::port_of(lab, node, VIP)?;
    lab.say(&format!(
        "{node}'s cable at {port} is pulled, by which clients reach {VIP}"
    ));
    let pulled = Instant::now();
    lab.set_cable(node, &port, Cable::Pulled)?;
    let other = wait_for(format!("{VIP} at another port"), FAILOVER_LIMIT, || {
        let now_at = ports::port_of(lab, node, VIP)?;
        holds(now_at != port, Error::new(format!("it is at {port}")))?;
        Ok::<_, Error>(now_at)
    })?;
    let since = || pulled.elapsed().as_secs_f64();
    lab.say(&format!("  +{:5.2} s  {VIP} is at {other}", since()));
    wait_for_work(workers, &counts(workers), ENOUGH, || {})?;
    lab.say(&format!(
        "  +{:5.2} s  each of them has written {ENOUGH} times since",
        since()
    ));
    lab.set_cable(node, &port, Cable::Good)
}

/// Takes the power from `node` while the clients work, and lets them work on.
fn fail_over(lab: &Lab, node: &str, workers: &[Worker]) -> Result<()> {
    let total: u64 = counts(workers).iter().sum();
    lab.say(&format!(
        "{total} writes acknowledged; {node} loses its power now"
    ));
    let failed = Instant::now();
    lab.crash(node)?;
    let before = counts(workers);
    let mut back = vec![false; workers.len()];
    thread::scope(|scope| {
        let cluster = scope.spawn(|| watch_cluster(lab, node, failed));
        let worked = wait_for_work(workers, &before, ENOUGH, || {
            for ((worker, before), back) in workers.iter().zip(&before).zip(&mut back) {
                if !*back && worker.acknowledged() > *before {
                    *back = true;
                    let waited = failed.elapsed().as_secs_f64();
                    let (name, target) = (worker.machine(), worker.target());
                    lab.say(&format!("  +{waited:5.2} s  {name} writes again: {target}"));
                }
            }
        });
        let seen = cluster
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen.and(worked)
    })
}

/// Says when the node was fenced and where its servers went.
fn watch_cluster(lab: &Lab, node: &str, failed: Instant) -> Result<()> {
    let names = lab.plan().node_names();
    let asked = names
        .iter()
        .find(|name| *name != node)
        .ok_or_else(|| Error::new("no node is left"))?;
    let since = || failed.elapsed().as_secs_f64();
    wait_for(format!("{node} to be fenced"), FAILOVER_LIMIT, || {
        let words = ["stonith_admin", "--history", node, "--output-as=xml"];
        let output = lab.exec(asked, &words)?.check("stonith_admin")?;
        let fenced = output.stdout.contains("status=\"success\"");
        holds(fenced, Error::new("no fencing that succeeded"))
    })?;
    lab.say(&format!("  +{:5.2} s  {node} is fenced", since()));
    let mut places = BTreeMap::new();
    while places.len() < SERVERS.len() {
        let missing = SERVERS.iter().find(|s| !places.contains_key(**s));
        let server = missing.copied().unwrap_or_default();
        let place = wait_for(format!("{server} on another node"), FAILOVER_LIMIT, || {
            let place = scene::node_of(lab, asked, server)?;
            holds(place != node, Error::new(format!("it is on {node}")))?;
            Ok::<_, Error>(place)
        })?;
        lab.say(&format!("  +{:5.2} s  {server} runs on {place}", since()));
        places.insert(server, place);
    }
    Ok(())
}

/// Reads everything back, prints the table, and fails if a write was lost.
fn conclude(lab: &Lab, workers: &[Worker], reports: &[Report]) -> Result<()> {
    lab.say("reading everything back");
    println!(
        "\n{:<8}{:<34}{:>13}{:>14}{:>8}",
        "client", "writes to", "acknowledged", "longest wait", "lost"
    );
    let mut bad = vec![];
    for (worker, report) in workers.iter().zip(reports) {
        let lost = worker.lost(lab, report)?;
        let longest = report.longest().map_or(0.0, |ack| ack.took.as_secs_f64());
        println!(
            "{:<8}{:<34}{:>13}{:>12.2} s{:>8}",
            worker.machine(),
            worker.target(),
            report.acks.len(),
            longest,
            lost
        );
        if lost > 0 {
            bad.push(format!(
                "{}: {lost} acknowledged writes are lost",
                worker.target()
            ));
        }
        if let Some(e) = &report.error {
            bad.push(format!("{}: {e}", worker.target()));
        }
    }
    if bad.is_empty() {
        println!("\nEach acknowledged write is there.");
        return Ok(());
    }
    Err(Error::new(bad.join("; ")))
}

fn look_around(lab: &Lab, failed: &str) {
    let name = &lab.plan().name;
    let ask = lab
        .plan()
        .node_names()
        .into_iter()
        .find(|n| n != failed)
        .unwrap_or_default();
    let program = std::env::current_exe().map_or("lab".into(), |p| p.display().to_string());
    println!(
        "\nThe lab is still up. Look around in it:\n\
         \x20 {program} --name {name} exec {ask} -- crm_mon -1\n\
         \x20 {program} --name {name} client c1 -- nfs-ls 'nfs://10.1.0.50/data?version=4'\n\
         \x20 {program} --name {name} boot {failed}\n\
         \x20 {program} --name {name} crash {ask}\n\
         Take it down:\n\
         \x20 {program} --name {name} down"
    );
}
