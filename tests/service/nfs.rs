use std::fs;
use std::net::Ipv4Addr;

use berth::cell::service::{Client, NfsExport};
use berth::plan::repair::FsKind;
use lab::nfs4::{Answer, Identity, Peer};
use lab::wait_for;

use crate::cell::{Cell, DATA, export, spec};
use crate::image::{Image, PATIENCE};

/// A client at the server's own host.
fn peer() -> Peer {
    Peer::connect(Ipv4Addr::LOCALHOST.into()).expect("a server")
}

fn look_up(path: &str) -> Answer<Identity> {
    peer().look_up(path).expect("an answer")
}

fn use_handle(handle: &[u8]) -> Answer<Identity> {
    peer().use_handle(handle).expect("an answer")
}

/// A handle got on one node is good on another, where the device has another number.
fn handles_are_the_same(kind: FsKind) {
    let image = Image::new(kind);
    let (one, other) = (image.attach(), image.attach());
    let spec = spec(true, false);

    let mut cell = Cell::new(&one, kind);
    fs::write(cell.path("/data/file"), "x").unwrap();
    cell.start(&spec, &[export(&one, kind)]);
    let first = cell.in_network(|| look_up("/data/file")).unwrap();
    cell.stop();
    cell.unmount();
    drop(cell);

    let mut cell = Cell::new(&other, kind);
    cell.start(&spec, &[export(&other, kind)]);
    let again = cell.in_network(|| use_handle(&first.handle));
    assert_eq!(again.as_ref(), Ok(&first));
    assert_eq!(cell.in_network(|| look_up("/data/file")), Ok(first));
    cell.stop();
    cell.unmount();
}

#[test]
#[ignore = "needs root"]
fn handles_on_ext4_are_the_same_on_another_device() {
    handles_are_the_same(FsKind::Ext4);
}

#[test]
#[ignore = "needs root"]
fn handles_on_xfs_are_the_same_on_another_device() {
    handles_are_the_same(FsKind::Xfs);
}

#[test]
#[ignore = "needs root"]
fn handles_on_btrfs_are_the_same_on_another_device() {
    handles_are_the_same(FsKind::Btrfs);
}

#[test]
#[ignore = "needs root"]
fn an_export_leaves_a_running_server_and_comes_back_with_the_same_handles() {
    const NOENT: u32 = 2;
    let image = Image::new(FsKind::Xfs);
    let device = image.attach();
    let spec = spec(true, false);
    let exports = [export(&device, FsKind::Xfs)];
    let mut cell = Cell::new(&device, FsKind::Xfs);
    // State stays behind when the data goes, as with a home file system of its own.
    let spec = berth::cell::service::ServerSpec {
        state: "/run/state".into(),
        ..spec
    };
    cell.start(&spec, &exports);
    let first = cell.in_network(|| look_up(DATA)).unwrap();

    cell.change(&spec, &exports, &[]);
    cell.unmount();
    assert_eq!(cell.in_network(|| look_up(DATA)), Err(NOENT));

    cell.mount(&device);
    cell.change(&spec, &[], &exports);
    let look = || cell.in_network(|| look_up(DATA));
    assert_eq!(wait_for("the export", PATIENCE, look).unwrap(), first);
    cell.stop();
    cell.unmount();
}

#[test]
#[ignore = "needs root"]
fn every_client_that_is_accepted_is_one_that_ganesha_takes() {
    let image = Image::new(FsKind::Ext4);
    let device = image.attach();
    let mut cell = Cell::new(&device, FsKind::Ext4);
    let mut clients: Vec<Client> = [
        "0.0.0.0/0",
        "::/0",
        "10.1.0.7",
        "128.0.0.0/1",
        "10.1.0.0/31",
        "::1",
        "::/1",
        "2001:db8::7",
        "2001:db8::/32",
        "fe80::/10",
        "64:ff9b::/96",
        "fd00:1:2:3:4:5:6:7",
        "fd00:1:2:3:4:5::/99",
        "::ffff:10.1.0.0/120",
        "fd00:1:2:3:4:5:0:7",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    // What the server is told is not to hang on the one for all that is among them.
    clients.retain(|client| *client != Client::Any);
    let some = export(&device, FsKind::Ext4);
    let with = |clients: &[Client]| {
        let nfs = NfsExport {
            clients: clients.to_vec(),
            ..some.nfs.clone().unwrap()
        };
        [berth::cell::service::Export {
            nfs: Some(nfs),
            ..some.clone()
        }]
    };
    cell.start(&spec(true, false), &with(&clients));
    cell.in_network(|| look_up(DATA)).unwrap();
    let log = cell.log("nfs");
    assert!(!log.contains("Config F"), "{log}");
    cell.stop();
    cell.unmount();
}
