use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use berth::plan::holding::Claim;
use berth::plan::repair::FsKind;
use berth::sys::device::{Device, DeviceSpec, Unresolved};
use berth::sys::mounted;
use berth::sys::superblock::Uuid;
use lab::loop_device::LoopDevice;
use lab::{holds, wait_for};

use crate::image::{Image, PATIENCE, must, soon};

fn resolve(path: &Path) -> Device {
    DeviceSpec::Path(path.into()).resolve(soon()).unwrap()
}

#[test]
#[ignore = "needs root"]
fn a_device_is_found_by_path_and_uuid_and_two_of_one_uuid_are_both_named() {
    let image = Image::new(FsKind::Xfs);
    let device = image.attach();
    let by_path = resolve(device.path());
    let superblock = by_path.superblock.clone().unwrap();
    assert_eq!(superblock.condition.kind, FsKind::Xfs);
    let by_uuid = DeviceSpec::Uuid(superblock.uuid);
    assert_eq!(by_uuid.resolve(soon()).unwrap(), by_path);

    let twin = image.attach();
    let error = by_uuid.resolve(soon()).unwrap_err();
    assert!(matches!(error, Unresolved::Ambiguous(_)), "{error:?}");
    for device in [&device, &twin] {
        let name = device.path().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(by_uuid.search(soon()).unwrap().found.len(), 2);

    // Who has one of them open for writing does not make the other one the one that is meant.
    for open in [&device, &twin] {
        let mut machine = writer(open);
        let error = by_uuid.resolve(soon()).unwrap_err();
        assert!(matches!(error, Unresolved::Ambiguous(_)), "{error:?}");
        machine.kill().unwrap();
        machine.wait().unwrap();
    }
}

#[test]
#[ignore = "needs root"]
fn a_superblock_tells_how_far_the_file_system_goes() {
    for kind in [FsKind::Ext4, FsKind::Xfs, FsKind::Btrfs] {
        let image = Image::new(kind);
        let size = fs::metadata(image.path()).unwrap().len();
        let device = image.attach();
        let length = resolve(device.path()).superblock.unwrap().length;
        assert!(length <= size && size - length < 1 << 20, "{kind} {length}");
    }
}

/// A process that has a device open for writing, and does not claim it.
fn writer(device: &LoopDevice) -> std::process::Child {
    let mut c = berth::sys::command::command("/bin/sh");
    c.arg("-c");
    c.arg(format!(
        "exec 9<>{}; exec sleep 1000",
        device.path().display()
    ));
    let child = c.spawn().unwrap();
    let path = format!("/proc/{}/comm", child.id());
    wait_for("a writer", PATIENCE, || {
        let seen = fs::read_to_string(&path).unwrap();
        holds(seen.trim() == "sleep", seen)
    })
    .unwrap();
    child
}

#[test]
#[ignore = "needs root"]
fn a_label_nobody_has_is_not_found() {
    let error = DeviceSpec::Label("berth-no-such".to_owned())
        .resolve(soon())
        .unwrap_err();
    assert!(matches!(error, Unresolved::NotFound(_)), "{error:?}");
}

#[test]
#[ignore = "needs root"]
fn half_of_a_mirror_is_neither_found_by_uuid_nor_a_device_of_its_own() {
    // Behind the file system: md of metadata 1.0, and DRBD's internal metadata.
    for (name, behind) in [
        ("md array", true),
        ("DRBD", true),
        ("md array", false),
        ("DRBD", false),
    ] {
        let image = Image::new(FsKind::Ext4);
        let whole = resolve(image.attach().path()).superblock.unwrap();
        let file = OpenOptions::new().write(true).open(image.path()).unwrap();
        let mut size = file.metadata().unwrap().len();
        if behind {
            size += 64 << 10;
            file.set_len(size).unwrap();
        }
        if name == "DRBD" {
            let magic = 0x8374_026du32.to_be_bytes();
            file.write_all_at(&magic, size - 4096 + 60).unwrap();
        } else {
            let at = (size & !4095) - 8192;
            let sector = (at / 512).to_le_bytes();
            let magic = 0xa92b_4efcu32.to_le_bytes();
            file.write_all_at(&magic, at).unwrap();
            file.write_all_at(&[1], at + 4).unwrap();
            file.write_all_at(&sector, at + 144).unwrap();
        }
        let device = image.attach();
        let by_uuid = DeviceSpec::Uuid(whole.uuid);
        if !behind {
            // What a client has written, or the rest of an array that is no more.
            assert_eq!(by_uuid.resolve(soon()).unwrap(), resolve(device.path()));
            continue;
        }
        for spec in [DeviceSpec::Path(device.path().into()), by_uuid.clone()] {
            let error = spec.resolve(soon()).unwrap_err();
            assert!(
                matches!(&error, Unresolved::Member(text) if text.contains(name)),
                "{error:?}"
            );
        }
        assert!(by_uuid.search(soon()).unwrap().found.is_empty());
    }
}

#[test]
#[ignore = "needs root"]
fn a_held_device_is_told_and_free_again_when_let_go() {
    let image = Image::new(FsKind::Ext4);
    let loop_device = image.attach();
    let device = resolve(loop_device.path());
    assert_eq!(device.claim(soon()), Claim::Free);

    let claim = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.path)
        .unwrap();
    assert_eq!(device.claim(soon()), Claim::Busy);
    let error = device
        .wait_free(Instant::now() + Duration::from_millis(20), &|_| None)
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    // The opener is this process, which is not named to itself.
    assert!(error.to_string().contains("still held"), "{error}");
    drop(claim);
    device.wait_free(soon(), &|_| None).unwrap();
}

#[test]
#[ignore = "needs root"]
fn what_was_written_to_a_free_device_is_on_the_medium() {
    let image = Image::new(FsKind::Ext4);
    let loop_device = image.attach();
    let device = resolve(loop_device.path());
    // Two openers: the first one's end does not make the kernel write what is dirty.
    let other = File::open(&device.path).unwrap();
    let writer = OpenOptions::new().write(true).open(&device.path).unwrap();
    writer
        .write_all_at(b"written by one who was killed", 1 << 20)
        .unwrap();
    drop(writer);
    let mut seen = [0; 29];
    let medium = OpenOptions::new().read(true).open(image.path()).unwrap();
    medium.read_exact_at(&mut seen, 1 << 20).unwrap();
    assert_ne!(&seen, b"written by one who was killed");
    device.wait_free(soon(), &|_| None).unwrap();
    medium.read_exact_at(&mut seen, 1 << 20).unwrap();
    assert_eq!(&seen, b"written by one who was killed");
    // What another node writes past this one's cache is seen.
    let changed = OpenOptions::new().write(true).open(image.path()).unwrap();
    changed.write_all_at(b"WRITTEN", 1 << 20).unwrap();
    device.wait_free(soon(), &|_| None).unwrap();
    other.read_exact_at(&mut seen, 1 << 20).unwrap();
    assert_eq!(&seen[..7], b"WRITTEN");
}

#[test]
#[ignore = "needs root"]
fn a_device_without_a_driver_can_t_be_opened_and_nothing_is_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead");
    let block = nix::sys::stat::SFlag::S_IFBLK;
    let mode = nix::sys::stat::Mode::S_IRWXU;
    // Local and experimental use (Documentation/admin-guide/devices.txt).
    nix::sys::stat::mknod(&path, block, mode, libc::makedev(240, 211)).unwrap();
    let device = Device::at(&path).unwrap();
    let claim = device.claim(soon());
    assert!(matches!(claim, Claim::Unusable(_)), "{claim:?}");
    let seen = device.seen(&[], &|_| None).unwrap();
    assert_eq!(seen, berth::plan::holding::Use::default());
}

#[test]
#[ignore = "needs root"]
fn who_writes_to_a_device_is_named() {
    let image = Image::new(FsKind::Ext4);
    let loop_device = image.attach();
    let device = resolve(loop_device.path());
    let named = || device.writer(&mounted::namespaces().unwrap());
    assert_eq!(named(), None);
    let mut child = writer(&loop_device);
    assert_eq!(named(), Some(format!("{} (sleep)", child.id())));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(named(), None);
}

/// Mounts a device in a mount namespace of its own, and says where.
fn mount_apart(image: &Image, device: &Device) -> std::process::Child {
    let point = image.beside("mnt");
    fs::create_dir(&point).unwrap();
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
    let child = c.spawn().unwrap();
    wait_for("a mount", PATIENCE, || {
        holds(image.beside("mounted").exists(), "none")
    })
    .unwrap();
    child
}

#[test]
#[ignore = "needs root"]
fn a_mount_in_another_namespace_holds_the_device_whatever_its_type() {
    for kind in FsKind::ALL {
        let image = Image::new(kind);
        let loop_device = image.attach();
        let device = resolve(loop_device.path());
        let mut child = mount_apart(&image, &device);
        assert_eq!(device.claim(soon()), Claim::Busy);
        let seen = device.seen(&[], &|_| None).unwrap();
        assert!(seen.file_system, "{seen:?}");
        let place = seen.mounted.unwrap();
        assert!(place.contains("/mnt of process"), "{place}");

        // A copy of it has the same UUID: it is told where the original is.
        let copy = image.beside("copy");
        fs::copy(image.path(), &copy).unwrap();
        let copy = LoopDevice::on(&copy).unwrap();
        let copy = resolve(copy.path());
        let namespaces = mounted::namespaces().unwrap();
        let none = BTreeMap::new();
        let twins = |of: &Device, known: &BTreeMap<u64, Uuid>| {
            of.twins(&namespaces, known, "", &|_| None, soon())
        };
        let found = twins(&copy, &none);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, device.path);
        assert!(found[0].place.contains("/mnt"), "{found:?}");
        assert!(found[0].beside.distinct, "{found:?}");
        assert_eq!(twins(&device, &none), []);
        // By another path it is the same disk.
        let path = image.attach();
        let found = twins(&resolve(path.path()), &none);
        assert!(!found[0].beside.distinct, "{found:?}");
        // What is on record is not asked.
        let other = Uuid([7; 16]);
        assert_eq!(twins(&copy, &BTreeMap::from([(device.number, other)])), []);

        child.kill().unwrap();
        child.wait().unwrap();
        device.wait_free(soon(), &|_| None).unwrap();
        wait_for(format_args!("the end of {kind}"), PATIENCE, || {
            let seen = device.seen(&[], &|_| None).unwrap();
            holds(!seen.file_system, format!("{seen:?}"))
        })
        .unwrap();
        if kind == FsKind::Ext4 {
            must("/usr/sbin/e2fsck", &["-p", device.path.to_str().unwrap()]);
        }
    }
}
