//! The rules for connections to the cell: an nftables table in its network namespace, which the cell's servers have no
//! rights to change.
//!
//! The rules apply to new connections that come in by the cell's one link to the ports of berth's own servers; packets
//! within the cell and of established connections pass. A client without access gets a TCP reset. NFS is open to the
//! exports' clients; if all exports require privileged ports, from those only. That matters because an NFS server keeps
//! a record of every client that speaks to it, on the home file system. The number of connections, and the rate of new
//! ones, are limited for each source and in all: each connection costs Samba a process.
//!
//! Connections are counted by the kernel's connection tracking, which is this network's own and tracks nothing else.
//! One that does not become established is forgotten soon ([`SETTINGS`]), so that forged first packets don't count for
//! long.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::cell::network::INSIDE;
use crate::cell::probe::Protocol;
use crate::cell::service::{Client, Export, Limits, Own, Ports, ServerSpec};

/// The table's name, within the cell.
const TABLE: &str = "berth";

/// Ports that only root may send from (`IPPORT_RESERVED` of netinet/in.h).
const PRIVILEGED: &str = "0-1023";

/// How many sources are counted at the most; of further ones only the sum is.
const SOURCES: u32 = 65_535;

/// New connections from one source in a second; in a burst, as many as a source may have at all.
const RATE_PER_CLIENT: u32 = 50;

/// Settings of the cell's network, below /proc/sys/net, that go with the table (nf_conntrack-sysctl.rst): for how many
/// seconds a connection counts that is not established, and that connections are tracked only from their first packet.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("netfilter/nf_conntrack_tcp_timeout_syn_recv", "1"),
    ("netfilter/nf_conntrack_tcp_timeout_syn_sent", "1"),
    ("netfilter/nf_conntrack_tcp_loose", "0"),
];

/// The rules for connections to a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    limits: Limits,
    /// The ports of berth's servers, and those of them that are open to anybody.
    guarded: BTreeSet<u16>,
    open: BTreeSet<u16>,
    /// The networks of NFS clients, none within another.
    clients: Vec<IpNetwork>,
    /// Whether all exports require privileged source ports.
    privileged: bool,
}

impl Rules {
    /// The rules for servers with these exports. If the admin's own configuration may have others, the server is open
    /// to anybody: berth does not know whom they are for.
    pub(crate) fn of<'a>(
        spec: &ServerSpec,
        own: Own,
        exports: impl IntoIterator<Item = &'a Export>,
    ) -> Self {
        let mut open = BTreeSet::new();
        let (mut clients, mut privileged) = (BTreeSet::new(), true);
        for export in exports {
            let served = export.served(spec).into_iter();
            open.extend(served.map(|(protocol, _)| protocol.port()));
            for nfs in export.nfs.iter().filter(|_| spec.nfs) {
                clients.extend(nfs.clients.iter().flat_map(networks));
                privileged &= nfs.ports == Ports::Privileged;
            }
        }
        if spec.nfs && own.exports {
            open.insert(Protocol::Nfs.port());
            clients.extend(networks(&Client::Any));
            privileged = false;
        }
        if spec.smb && own.shares {
            open.insert(Protocol::Smb.port());
        }
        let guarded = [(Protocol::Nfs, spec.nfs), (Protocol::Smb, spec.smb)];
        let guarded = guarded.into_iter().filter(|(_, wanted)| *wanted);
        Self {
            limits: spec.limits,
            guarded: guarded.map(|(protocol, _)| protocol.port()).collect(),
            open,
            clients: outermost(&clients),
            privileged,
        }
    }

    /// The input for `nft` that replaces the rules `before` by these in one transaction. Counts of connections stay
    /// unless the limits change, for which the servers are restarted anyway.
    pub(crate) fn script(&self, before: Option<&Self>) -> String {
        if before.is_none_or(|before| before.limits != self.limits) {
            return table(self.limits) + &self.elements();
        }
        self.elements()
    }

    /// As [`Self::script`], for a first start, without limits of connections: for a kernel that has only sets of
    /// nftables. A client without access gets no reset.
    pub(crate) fn script_without_limits(&self) -> String {
        table_without_limits() + &self.elements()
    }

    /// The part that fills the sets.
    fn elements(&self) -> String {
        let mut out = String::new();
        let ports = |ports: &BTreeSet<u16>| ports.iter().map(u16::to_string).collect();
        let clients = |ipv6: bool| {
            let family = self.clients.iter().filter(|n| n.is_ipv6() == ipv6);
            family.map(IpNetwork::to_string).collect()
        };
        let sources = if self.privileged {
            PRIVILEGED
        } else {
            "0-65535"
        };
        let sets: [(&str, Vec<String>); 5] = [
            ("guarded", ports(&self.guarded)),
            ("open", ports(&self.open)),
            ("clients4", clients(false)),
            ("clients6", clients(true)),
            ("sources", vec![sources.to_owned()]),
        ];
        for (set, elements) in sets {
            let _ = writeln!(out, "flush set inet {TABLE} {set}");
            if !elements.is_empty() {
                let elements = elements.join(", ");
                let _ = writeln!(out, "add element inet {TABLE} {set} {{ {elements} }}");
            }
        }
        out
    }
}

/// The networks of a client.
fn networks(client: &Client) -> Vec<IpNetwork> {
    let all = |any: IpAddr| IpNetwork::new(any, 0).ok();
    match client {
        Client::Network(network) => vec![*network],
        Client::Any => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            .into_iter()
            .filter_map(all)
            .collect(),
    }
}

/// The networks that lie within no other one: a set of nftables refuses networks that overlap.
fn outermost(networks: &BTreeSet<IpNetwork>) -> Vec<IpNetwork> {
    let within = |inner: &IpNetwork, outer: &IpNetwork| {
        inner != outer && outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
    };
    let mut networks: Vec<IpNetwork> = networks.iter().copied().collect();
    // The widest come first, so only one that is kept already can contain a later one.
    networks.sort_by_key(|network| network.prefix());
    let mut kept: Vec<IpNetwork> = Vec::new();
    for network in networks {
        if !kept.iter().any(|outer| within(&network, outer)) {
            kept.push(network);
        }
    }
    kept
}

/// The beginning of both tables: it deletes the present table, and declares the sets of those who have access.
fn head() -> String {
    format!(
        "table inet {TABLE} {{ }}
delete table inet {TABLE}
table inet {TABLE} {{
    set guarded {{ type inet_service; }}
    set open {{ type inet_service; }}
    set clients4 {{ type ipv4_addr; flags interval; }}
    set clients6 {{ type ipv6_addr; flags interval; }}
    set sources {{ type inet_service; flags interval; }}
    chain refuse {{
    }}
    chain client {{
        ip saddr != @clients4 goto refuse
        ip6 saddr != @clients6 goto refuse
        tcp sport != @sources goto refuse
    }}
    chain begin {{
        tcp dport != @open goto refuse
        tcp dport {} jump client
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        iifname \"{INSIDE}\" tcp dport @guarded tcp flags & (fin | syn | rst | ack) == syn goto begin
    }}
}}
",
        Protocol::Nfs.port()
    )
}

fn table_without_limits() -> String {
    format!("{}add rule inet {TABLE} refuse drop\n", head())
}

/// The table without elements. An IPv6 source is a network of 64 bits, since one host may have all its addresses.
///
/// The rate of new connections is checked when the client answers the server's first packet, which a host with a forged
/// address can't: connection tracking knows the numbers in it. Connections that come too fast are dropped, and clients
/// try again. The number of connections must be checked at the first packet, since some kernels count a connection only
/// then (`__nf_conncount_add` passes over what is confirmed). A forged one counts until the host with its address
/// resets it, or for the second of [`SETTINGS`]; a later answer would belong to a connection that is not counted.
fn table(limits: Limits) -> String {
    let Limits {
        connections,
        per_client,
    } = limits;
    // After a failover all connections of a client come back at once.
    let burst = per_client.max(RATE_PER_CLIENT);
    let sources = [
        ("4", "ip saddr"),
        ("6", "ip6 saddr & ffff:ffff:ffff:ffff::"),
    ];
    let by_source = |rule: &dyn Fn(&str, &str) -> String| -> String {
        sources.map(|(name, source)| rule(name, source)).concat()
    };
    let counts = by_source(&|name, source| {
        format!(
            "        add @has{name} {{ {source} . tcp dport ct count over {per_client} }} goto refuse\n"
        )
    });
    let rates = by_source(&|name, source| {
        format!(
            "        update @new{name} {{ {source} limit rate over {RATE_PER_CLIENT}/second burst {burst} packets }} drop\n"
        )
    });
    format!(
        "{}table inet {TABLE} {{
    set new4 {{ type ipv4_addr; size {SOURCES}; flags dynamic,timeout; timeout 1m; }}
    set new6 {{ type ipv6_addr; size {SOURCES}; flags dynamic,timeout; timeout 1m; }}
    set has4 {{ type ipv4_addr . inet_service; size {SOURCES}; flags dynamic; }}
    set has6 {{ type ipv6_addr . inet_service; size {SOURCES}; flags dynamic; }}
    set total {{ type inet_service; size 2; flags dynamic; }}
    chain refuse {{
        limit rate 200/second burst 200 packets reject with tcp reset
        drop
    }}
    chain begin {{
{counts}        add @total {{ tcp dport ct count over {connections} }} goto refuse
    }}
    chain answer {{
        ct state invalid drop
        ct mark != 0 accept
{rates}        limit rate over {connections}/second burst {connections} packets drop
        ct mark set 1
    }}
    chain input {{
        iifname \"{INSIDE}\" tcp dport @guarded tcp flags & (syn | rst | ack) == ack goto answer
    }}
    chain track {{
        type filter hook prerouting priority raw; policy accept;
        iifname \"{INSIDE}\" tcp dport @guarded accept
        notrack
    }}
    chain track_own {{
        type filter hook output priority raw; policy accept;
        oifname \"{INSIDE}\" tcp sport @guarded accept
        notrack
    }}
}}
",
        head()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::service::NfsExport;

    fn spec(nfs: bool, smb: bool) -> ServerSpec {
        ServerSpec {
            name: "alpha".into(),
            nfs,
            smb,
            commands: vec![],
            state: "/state".into(),
            lease: ServerSpec::LEASE,
            grace: ServerSpec::GRACE,
            config_dir: None,
            cgroup: Default::default(),
            limits: Limits::default(),
            allow_calls: vec![],
        }
    }

    fn export(directory: &str, clients: &[&str], ports: Ports) -> Export {
        let clients = clients.iter().map(|text| text.parse().unwrap());
        Export {
            directory: directory.to_owned(),
            xfs: None,
            nfs: Some(NfsExport {
                clients: clients.collect(),
                access: Default::default(),
                squash: Default::default(),
                ports,
            }),
            smb: None,
        }
    }

    /// The elements that a set has in the end, as they are written.
    fn elements(script: &str, set: &str) -> String {
        let begin = format!("add element inet berth {set} {{ ");
        let line = script.lines().rfind(|line| line.starts_with(&begin));
        line.map_or(String::new(), |line| {
            line[begin.len()..].trim_end_matches(" }").to_owned()
        })
    }

    #[test]
    fn clients_of_all_exports_are_let_in_and_each_once() {
        let exports = [
            export(
                "/a",
                &["10.1.0.0/24", "10.1.0.7", "fd00::1"],
                Ports::Privileged,
            ),
            export("/b", &["10.1.0.0/24", "10.0.0.0/8"], Ports::Privileged),
        ];
        let script = Rules::of(&spec(true, true), Own::default(), &exports).script(None);
        assert_eq!(elements(&script, "clients4"), "10.0.0.0/8");
        assert_eq!(elements(&script, "clients6"), "fd00::1/128");
        assert_eq!(elements(&script, "sources"), "0-1023");
        // No share: SMB is berth's to shut.
        assert_eq!(elements(&script, "guarded"), "445, 2049");
        assert_eq!(elements(&script, "open"), "2049");
    }

    #[test]
    fn all_are_let_in_as_soon_as_one_export_is_for_all() {
        let exports = [
            export("/a", &["10.1.0.0/24"], Ports::Privileged),
            export("/b", &["*"], Ports::Any),
        ];
        let script = Rules::of(&spec(true, false), Own::default(), &exports).script(None);
        assert_eq!(elements(&script, "clients4"), "0.0.0.0/0");
        assert_eq!(elements(&script, "clients6"), "::/0");
        assert_eq!(elements(&script, "sources"), "0-65535");
        assert_eq!(elements(&script, "guarded"), "2049");
    }

    #[test]
    fn all_are_let_in_to_what_only_the_admin_s_own_configuration_knows() {
        let exports = [export("/a", &["10.1.0.0/24"], Ports::Privileged)];
        let own = |exports, shares| Own { exports, shares };
        let of = |nfs, smb, own| Rules::of(&spec(nfs, smb), own, &exports).script(None);
        let script = of(true, true, own(true, false));
        assert_eq!(elements(&script, "clients4"), "0.0.0.0/0");
        assert_eq!(elements(&script, "clients6"), "::/0");
        assert_eq!(elements(&script, "sources"), "0-65535");
        assert_eq!(elements(&script, "open"), "2049");
        let script = of(true, true, own(false, true));
        assert_eq!(elements(&script, "clients4"), "10.1.0.0/24");
        assert_eq!(elements(&script, "sources"), "0-1023");
        assert_eq!(elements(&script, "open"), "445, 2049");
        assert_eq!(elements(&of(false, false, own(true, true)), "open"), "");
    }

    #[test]
    fn nobody_is_let_in_to_what_is_not_served() {
        let exports = [export("/a", &["*"], Ports::Privileged)];
        let script = Rules::of(&spec(false, true), Own::default(), &exports).script(None);
        assert_eq!(elements(&script, "open"), "");
        assert_eq!(elements(&script, "clients4"), "");
        // A program of the admin's may be at the port of a protocol that berth does not serve.
        assert_eq!(elements(&script, "guarded"), "445");
    }

    #[test]
    fn a_change_of_exports_leaves_the_counts_alone_and_one_of_limits_begins_anew() {
        let none = Rules::of(&spec(true, true), Own::default(), []);
        assert!(none.script(None).contains("delete table"));
        let some = Rules::of(
            &spec(true, true),
            Own::default(),
            &[export("/a", &["*"], Ports::Privileged)],
        );
        assert!(!some.script(Some(&none)).contains("table"));
        let limits = Limits {
            per_client: 7,
            ..Limits::default()
        };
        let other = ServerSpec {
            limits,
            ..spec(true, true)
        };
        let script = Rules::of(&other, Own::default(), []).script(Some(&some));
        assert!(script.contains("delete table") && script.contains("ct count over 7 }"));
    }
}
