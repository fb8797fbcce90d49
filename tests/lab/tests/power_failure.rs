//! The main job: the node of two virtual servers loses its power while clients write.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use lab::bench::timeline::{self, Action};
use lab::nfs4::{Client, File};
use lab::worker::{Worker, at_work, counts, wait_for_work};
use lab::{Lab, scene, stage};

const LIMIT: Duration = Duration::from_secs(60);
/// Acknowledgements per client before the power fails, and after it.
const ENOUGH: u64 = 30;

#[test]
#[ignore = "needs root"]
fn clients_go_on_with_their_handles_and_no_acknowledged_write_is_lost() {
    let lab = stage::up("power", 3).unwrap();
    // Nothing is opened anew before the end of the grace period.
    let short = "[vserver.alpha]\nnfs_lease = 5\nnfs_grace = 7\n";
    let alpha = common::alpha().replace("[vserver.alpha]\n", short);
    let node = scene::serve(&lab, &[&alpha, &common::beta()]).unwrap();
    let workers = [
        Worker::nfs("c1", "10.1.0.50", "/data").unwrap(),
        Worker::nfs("c2", "10.2.0.50", "/home").unwrap(),
        Worker::smb("c1", "10.1.0.50", "data").unwrap(),
        Worker::nfs("c1", "10.1.0.60", "/data").unwrap(),
        Worker::nfs("c2", "fd00:2::60", "/data").unwrap(),
    ];
    let mut held = [
        Held::new(&lab, "10.1.0.50", "/home"),
        Held::new(&lab, "fd00:1::50", "/data"),
    ];
    let served = [("/home", "d1"), ("/data", "d2")];
    let devices = |node: &str| served.map(|(path, disk)| device(&lab, node, path, disk));
    let devices_before = devices(&node);
    let mark = timeline::mark(&lab).unwrap();

    let ((), reports) = at_work(&lab, &workers, || {
        wait_for_work(&workers, &[0; 5], ENOUGH, || {})?;
        lab.crash(&node)?;
        wait_for_work(&workers, &counts(&workers), ENOUGH, || {})?;
        held.iter_mut().for_each(|held| held.goes_on(&lab));
        held.iter().for_each(|held| held.is_what_others_find(&lab));
        Ok(())
    })
    .unwrap();
    for (worker, report) in workers.iter().zip(&reports) {
        let target = worker.target();
        assert_eq!(report.error, None, "{target}");
        assert_eq!(worker.lost(&lab, report).unwrap(), 0, "{target}");
        let reclaims = u32::from(target.starts_with("NFS"));
        assert_eq!(report.reclaims, reclaims, "{target}: {report}");
    }
    let asked = if node == "n1" { "n2" } else { "n1" };
    let other = scene::node_of(&lab, asked, "alpha").unwrap();
    assert_ne!(other, node);
    for (before, after) in devices_before.iter().zip(devices(&other)) {
        assert_ne!(
            *before, after,
            "the same device number on {node} and {other}"
        );
    }
    assert_order(&timeline::since(&lab, &mark).unwrap());
    lab.down().unwrap();
}

/// A client that holds one file open and does nothing during the failure.
struct Held {
    server: IpAddr,
    directory: &'static str,
    client: Client,
    file: File,
}

impl Held {
    const NAME: &str = "held";

    fn new(lab: &Lab, server: &str, directory: &'static str) -> Self {
        let server: IpAddr = server.parse().unwrap();
        let open = || {
            let mut client = Client::new(server, &format!("holder of {directory}"));
            let mut file = client.open(directory, Self::NAME, LIMIT).unwrap();
            client.write(&mut file, 0, b"before", LIMIT).unwrap();
            (client, file)
        };
        let (client, file) = lab.on_network_of("c1", open).unwrap();
        Self {
            server,
            directory,
            client,
            file,
        }
    }

    /// Writes on, under the handle it has.
    fn goes_on(&mut self, lab: &Lab) {
        let handle = self.file.handle().to_vec();
        let (client, file) = (&mut self.client, &mut self.file);
        let write = || client.write(file, 6, b" and after", LIMIT);
        lab.on_network_of("c1", write).unwrap().unwrap();
        assert_eq!(self.file.handle(), handle, "{}", self.directory);
        assert_eq!(self.file.reclaims(), 1, "{}", self.directory);
    }

    /// Anybody else is given that handle too, and reads what was written under it.
    fn is_what_others_find(&self, lab: &Lab) {
        let path = format!("{}/{}", self.directory, Self::NAME);
        let look = || {
            let mut client = Client::new(self.server, &format!("{path} too"));
            let file = client.open(self.directory, Self::NAME, LIMIT).unwrap();
            let text = client.read(&path, LIMIT).unwrap();
            (file.handle().to_vec(), text)
        };
        let (handle, text) = lab.on_network_of("c1", look).unwrap();
        assert_eq!(self.file.handle(), handle, "{path}");
        assert_eq!(text, b"before and after", "{path}");
    }
}

/// The device number of what is attached at `path` in alpha's cell; it is that of the node's own loop
/// device for the disk.
fn device(lab: &Lab, node: &str, path: &str, disk: &str) -> String {
    let (_, table) = common::inside(lab, node, "alpha", "cat /proc/self/mountinfo");
    let at = |line: &&str| line.split(' ').nth(4) == Some(path);
    let line = table.lines().find(at).unwrap_or_else(|| panic!("{table}"));
    let device = format!("/dev/loop{}", common::loop_number(lab, node, disk));
    assert!(line.contains(&format!(" {device} ")), "{device}: {line}");
    line.split(' ').nth(2).unwrap().to_owned()
}

/// alpha has the higher priority: its addresses are up before beta's servers are started.
fn assert_order(actions: &[Action]) {
    let start = |resource: &str| {
        let found = |a: &&Action| a.verb == "start" && a.resource == resource;
        let action = actions.iter().find(found);
        action.unwrap_or_else(|| panic!("no start of {resource}: {actions:?}"))
    };
    let beta = start("beta").begun;
    for resource in ["alpha", "alpha-ip1", "alpha-ip2", "alpha-ip3"] {
        let ended = start(resource).ended;
        assert!(ended <= beta, "{resource}: {ended}, beta: {beta}");
    }
}
