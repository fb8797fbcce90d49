//! Devices: one may be written in several ways, and is still one.

use std::collections::BTreeMap;

use super::key;
use crate::config::file::{At, Config, Vserver};
use crate::config::reader::Reader;
use crate::sys::device::DeviceSpec;

/// Directories of /dev that are no volume groups.
const NO_GROUPS: [&str; 8] = [
    "mapper", "disk", "md", "block", "char", "shm", "drbd", "zvol",
];

/// No device may be used twice, however it is written.
pub(crate) fn devices(reader: &Reader, config: &Config) {
    let mut seen: BTreeMap<String, (&Vserver, &At<String>)> = BTreeMap::new();
    for vserver in &config.vservers {
        for filesystem in &vserver.filesystems {
            let device = &filesystem.device;
            let Some((first, at)) = seen.get(&canonical(&device.value)) else {
                seen.insert(canonical(&device.value), (vserver, device));
                continue;
            };
            let spelt = match at.value == device.value {
                true => String::new(),
                false => format!(" as {}", at.value),
            };
            let text = format!(
                "device {} is used twice, first by {} in line {}{spelt}",
                device.value, first.name.value, at.line
            );
            reader.problem(device.line, key(vserver, ".filesystem.device"), text);
        }
    }
}

/// One way to write a device, the same for all that certainly mean it on any node.
fn canonical(device: &str) -> String {
    let spec = |text: &str| text.parse::<DeviceSpec>().map(|spec| spec.to_string());
    if !device.starts_with('/') {
        return spec(device).unwrap_or_else(|_| device.to_owned());
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in device.split('/') {
        match part {
            "" | "." => {}
            // Directories below /dev are no symbolic links.
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let plain = format!("/{}", parts.join("/"));
    let named = |kind: &str, name: &str| spec(&format!("{kind}={}", unescaped(name)));
    match parts.as_slice() {
        ["dev", "disk", "by-uuid", uuid] => named("UUID", uuid).unwrap_or(plain),
        ["dev", "disk", "by-label", label] => named("LABEL", label).unwrap_or(plain),
        ["dev", "disk", "by-id", id] => match id.strip_prefix("dm-name-") {
            Some(name) => format!("/dev/mapper/{name}"),
            None => plain,
        },
        // A volume is also known by the device mapper's name for it, where a hyphen of either is doubled.
        ["dev", group, volume] if !NO_GROUPS.contains(group) => {
            let doubled = |name: &str| name.replace('-', "--");
            format!("/dev/mapper/{}-{}", doubled(group), doubled(volume))
        }
        _ => plain,
    }
}

/// As udev writes what can't be in a file's name: `\x20` for a space.
fn unescaped(name: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.strip_prefix(b"x").and_then(|hex| hex.get(..2));
        let code = code.filter(|_| *first == b'\\');
        let code = code.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn what_means_one_device_on_every_node_is_one() {
        for same in [
            &[
                "/dev/sda",
                "/dev//sda",
                "/dev/./sda",
                "/dev/disk/../sda",
                "//dev/disk/by-id/../../sda",
            ][..],
            &[
                "/dev/vg0/x",
                "/dev/mapper/vg0-x",
                "/dev//mapper/vg0-x",
                "/dev/disk/by-id/dm-name-vg0-x",
            ],
            &["/dev/my-vg/a-b", "/dev/mapper/my--vg-a--b"],
            &[
                "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10",
                "UUID=6D8F2F4E-25C1-4F0B-9A55-0F6A3C1D7B10",
                "/dev/disk/by-uuid/6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10",
            ],
            &["LABEL=my data", r"/dev/disk/by-label/my\x20data"],
        ] {
            for other in same {
                assert_eq!(canonical(other), canonical(same[0]), "{other}");
            }
        }
    }

    #[test]
    fn what_may_be_another_one_is() {
        let different = [
            "/dev/sda",
            "/dev/sdb",
            "/dev/vg0/x",
            "/dev/vg0/y",
            "/dev/vg/0-x",
            "/dev/mapper/vg0-x-y",
            "/dev/md/x",
            "/dev/disk/by-id/scsi-x",
            "LABEL=a",
            "LABEL=A",
            r"/dev/disk/by-label/b\x2",
            "UUID=6d8f2f4e-25c1-4f0b-9a55-0f6a3c1d7b10",
        ];
        let mut seen: Vec<String> = different.iter().map(|d| canonical(d)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), different.len(), "{seen:?}");
    }
}
