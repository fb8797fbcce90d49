//! IPv6 forwarding as kernels before 6.17 have it, for all interfaces or none, on whatever kernel.

use berth::sys::sysctl::{self, FORWARD_ALL_IPV6, Record};

use crate::namespace::Namespace;

#[test]
#[ignore = "needs root"]
fn opening_ipv6_leaves_each_interface_as_it_was() {
    let node = Namespace::new();
    node.ip("link add a0 type veth peer name a1");
    node.sh("cd /proc/sys/net/ipv6/conf; echo 1 > a0/forwarding; echo 0 > a1/accept_ra");
    let settings = "cd /proc/sys/net/ipv6/conf; grep . */forwarding */accept_ra */proxy_ndp";
    let before = node.sh(settings);
    let directory = tempfile::tempdir().unwrap();
    node.inside(|| {
        let mut record = Record::empty(&directory.path().join("settings"));
        record.change(FORWARD_ALL_IPV6, 1).unwrap();
        assert_eq!(sysctl::read("ipv6/conf/a0/forwarding").unwrap(), Some(1));
        assert_eq!(sysctl::read("ipv6/conf/a1/forwarding").unwrap(), Some(0));
        assert_eq!(
            node.sh(settings),
            before.replace("all/forwarding:0", "all/forwarding:1")
        );
        record.restore(FORWARD_ALL_IPV6).unwrap();
    });
    assert_eq!(node.sh(settings), before);
}

#[test]
#[ignore = "needs root"]
fn what_somebody_else_changed_since_is_left_alone() {
    let node = Namespace::new();
    let directory = tempfile::tempdir().unwrap();
    let key = "ipv4/conf/lo/rp_filter";
    node.inside(|| {
        let mut record = Record::empty(&directory.path().join("settings"));
        sysctl::write(key, 0).unwrap();
        record.change(key, 2).unwrap();
        sysctl::write(key, 1).unwrap();
        record.restore(key).unwrap();
        assert_eq!(sysctl::read(key).unwrap(), Some(1));
        assert!(record.iter().next().is_none());
    });
}
