//! Checks for duplicates: addresses, shares, ids of resources.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::key;
use crate::config::file::Config;
use crate::config::ids;
use crate::config::reader::Reader;

/// Notes the second and later of things that may be there once.
struct Once<'r, 't, K> {
    reader: &'r Reader<'t>,
    seen: BTreeMap<K, (String, usize)>,
}

impl<'r, 't, K: Ord> Once<'r, 't, K> {
    fn new(reader: &'r Reader<'t>) -> Self {
        Self {
            reader,
            seen: BTreeMap::new(),
        }
    }

    fn add(&mut self, thing: K, what: &str, owner: &str, key: String, line: usize) {
        if let Some((first, at)) = self.seen.get(&thing) {
            let text = format!("{what} is used twice, first by {first} in line {at}");
            self.reader.problem(line, key, text);
        } else {
            self.seen.insert(thing, (owner.to_owned(), line));
        }
    }
}

/// Notes what is there more than once.
pub(crate) fn duplicates(reader: &Reader, config: &Config) {
    let mut addresses: Once<IpAddr> = Once::new(reader);
    let mut resources: Once<String> = Once::new(reader);
    for vserver in &config.vservers {
        let owner = &vserver.name.value;
        let id = owner.clone();
        let what = format!("the resource id {id:?}");
        resources.add(id, &what, owner, key(vserver, ""), vserver.name.line);
        for vip in &vserver.vips {
            let ip = vip.ip.value;
            addresses.add(
                ip,
                &format!("address {ip}"),
                owner,
                key(vserver, ".vips"),
                vip.ip.line,
            );
        }
        for (n, vip) in vserver.vips.iter().enumerate() {
            let id = ids::vip(owner, n + 1);
            let what = format!("the resource id {id:?}");
            resources.add(id, &what, owner, key(vserver, ".vips"), vip.ip.line);
        }
        let mut shares: Once<String> = Once::new(reader);
        for filesystem in &vserver.filesystems {
            let id = ids::filesystem(owner, &filesystem.name.value);
            let what = format!("the resource id {id:?}");
            let line = filesystem.name.line;
            // Two of one path, from which the name is made by default, were reported.
            if !reader.is_wrong(&key(vserver, ".filesystem.path"), line) {
                resources.add(id, &what, owner, key(vserver, ".filesystem.name"), line);
            }
            if let Some(smb) = &filesystem.smb {
                // Windows and Samba compare share names without regard to case.
                let what = format!("share {:?}", smb.share.value);
                let key = key(vserver, ".filesystem.smb.share");
                shares.add(
                    smb.share.value.to_lowercase(),
                    &what,
                    owner,
                    key,
                    smb.share.line,
                );
            }
        }
    }
}
