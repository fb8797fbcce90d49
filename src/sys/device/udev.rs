//! What udev remembers of a device: its data base keeps what rules and probes said when the device came, or
//! was written to. Read as it lies under /run, since the library that reads it is systemd's own.

use std::fs;
use std::io::Read;

use super::sysfs;

/// An entry is a few kilobytes at the most.
const LIMIT: u64 = 1 << 16;

/// An entry, empty where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Udev(Vec<(String, String)>);

impl Udev {
    /// The entry of the block device with this number.
    pub(crate) fn of(number: u64) -> Self {
        let path = format!("/run/udev/data/b{}", sysfs::name_of(number));
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|f| f.take(LIMIT).read_to_end(&mut bytes));
        match read {
            Ok(_) => Self::parse(&String::from_utf8_lossy(&bytes)),
            Err(_) => Self::default(),
        }
    }

    /// The properties among the lines of an entry: `E:KEY=value`.
    pub(crate) fn parse(entry: &str) -> Self {
        let properties = entry.lines().filter_map(|line| line.strip_prefix("E:"));
        let pairs = properties.filter_map(|property| property.split_once('='));
        Self(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    /// A property.
    pub(crate) fn property(&self, key: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(k, _)| k == key);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Whether multipath's rules have called it a path of a multipath device, also before multipathd has
    /// built the device (multipath-tools, 11-dm-mpath.rules and 56-multipath.rules).
    pub(crate) fn is_path(&self) -> bool {
        self.property("DM_MULTIPATH_DEVICE_PATH") == Some("1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_told_from_the_rest_of_an_entry() {
        let text = "S:disk/by-id/x\nI:77\nE:DM_MULTIPATH_DEVICE_PATH=1\nE:X=a=b\nQ:X\nE:broken";
        let entry = Udev::parse(text);
        assert!(entry.is_path());
        assert_eq!(entry.property("X"), Some("a=b"));
        assert_eq!(entry.property("I"), None);
        let released = Udev::parse("E:DM_MULTIPATH_DEVICE_PATH=0");
        assert!(!released.is_path() && !Udev::default().is_path());
    }
}
