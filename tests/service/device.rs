use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use berth::plan::repair::FsKind;
use berth::sys::device::DeviceSpec;

use crate::loop_device::{Image, must, soon};

#[test]
#[ignore = "needs root"]
fn a_device_is_found_by_path_and_uuid_and_two_of_one_uuid_are_both_named() {
    let image = Image::new(FsKind::Xfs);
    let device = image.attach();
    let by_path = DeviceSpec::Path(device.path().into())
        .resolve(soon())
        .unwrap();
    let superblock = by_path.superblock.clone().unwrap();
    assert_eq!(superblock.condition.kind, FsKind::Xfs);
    let by_uuid = DeviceSpec::Uuid(superblock.uuid);
    assert_eq!(by_uuid.resolve(soon()).unwrap(), by_path);

    let twin = image.attach();
    let error = by_uuid.resolve(soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for device in [&device, &twin] {
        let name = device.path().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_label_nobody_has_is_not_found() {
    let error = DeviceSpec::Label("berth-no-such".to_owned())
        .resolve(soon())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_held_device_is_told_and_free_again_when_let_go() {
    let image = Image::new(FsKind::Ext4);
    let loop_device = image.attach();
    let device = DeviceSpec::Path(loop_device.path().into())
        .resolve(soon())
        .unwrap();
    assert_eq!(device.holder().unwrap(), None);

    let claim = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.path)
        .unwrap();
    assert!(device.holder().unwrap().is_some());
    let error = device
        .wait_free(Instant::now() + Duration::from_millis(20))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(claim);
    device.wait_free(soon()).unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_mount_in_another_namespace_holds_the_device_too() {
    let image = Image::new(FsKind::Ext4);
    let loop_device = image.attach();
    let device = DeviceSpec::Path(loop_device.path().into())
        .resolve(soon())
        .unwrap();
    let point = image.beside("mnt");
    std::fs::create_dir(&point).unwrap();
    let script = format!(
        "mount {} {} && touch {}/mounted && sleep 1000",
        device.path.display(),
        point.display(),
        image.beside("").display()
    );
    let mut c = berth::sys::command::command("/usr/bin/unshare");
    c.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        &script,
    ]);
    let mut child = c.spawn().unwrap();
    let limit = soon();
    while !image.beside("mounted").exists() {
        assert!(Instant::now() < limit, "not mounted in time");
        std::thread::yield_now();
    }
    let holder = device.holder().unwrap().unwrap();
    assert!(holder.contains("another namespace"), "{holder}");
    child.kill().unwrap();
    child.wait().unwrap();
    device.wait_free(soon()).unwrap();
    must("/usr/sbin/e2fsck", &["-p", device.path.to_str().unwrap()]);
}
