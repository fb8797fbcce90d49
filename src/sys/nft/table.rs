//! The tables: the text of their rules, their creation, and the check whether they are still whole.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;
use std::time::Instant;

use nix::errno::Errno;

use super::elements::{NFPROTO_ARP, NFPROTO_INET, TABLE, message_type, payload, text};
use super::foreign::{Barrier, foreign};
use super::protocol::{DELTABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_TABLE_NAME, attribute};
use super::seal::{DELCHAIN, OwnRule, own};
use super::{Socket, Standing};
use crate::hash::fnv64;
use crate::sys::command::run_with_input;
use crate::sys::netlink::transport::{Request, text_of};
use crate::sys::program::command;

const NFTA_RULE_USERDATA: u16 = 7;
const UDATA_COMMENT: u8 = 0;

/// `{4}` stands for each family in turn: 4 and `ip`, 6 and `ip6`.
///
/// The comments are for people who read `nft list table`. The names of sets must not change: a process of another
/// version, such as a daemon that an upgrade has not replaced yet, finds the elements by them. If it found none, it
/// would make the tables anew without elements, and stop the traffic of all VIPs until it has added them.
const SETS: &str = "
    set ports {
        type ifname;
        comment \"ports that VIPs are served through\";
    }
    set cells {
        type ifname;
        comment \"the node's ends of cells' interfaces\";
    }
";
const FAMILY_SETS: &str = "
    set shut{4} {
        type ifname;
        comment \"ports closed to all but VIPs: the node forwarded nothing there before\";
    }
    set host{4} {
        type ipv{4}_addr;
        comment \"addresses of the node itself\";
    }
    set vip{4} {
        type ipv{4}_addr;
        comment \"VIPs\";
    }
    set own{4} {
        type ifname . ipv{4}_addr; counter;
        comment \"a cell's interface, and a VIP that it may send from\";
    }
    set to{4} {
        type ipv{4}_addr . ifname; counter;
        comment \"a VIP, and the interface to its cell or to the node that has it\";
    }
    set back{4} {
        type ifname . ipv{4}_addr;
        comment \"what comes in by the port for the VIP is not passed on: no client of it is there\";
    }
    set via{4} {
        type ifname . ipv{4}_addr . ether_addr; counter;
        comment \"VIPs of other nodes' cells: the port that they send by to this node, and the node that does\";
    }
";
/// Sends a packet through the rules of its own family only.
const BY_FAMILY: &str = "
        meta nfproto ipv4 goto {name}4
        meta nfproto ipv6 goto {name}6
";
/// A cell may send only from its own addresses. VIP traffic is not tracked, but for connections of the node itself.
/// Packets of another node's cell come in by a port at which requests to it would be dropped.
const PRE: &str = "
        iifname @cells goto cell{4}
        {ip} daddr @vip{4} notrack accept
        iifname . {ip} saddr @back{4} {ip} daddr != @host{4} notrack
";
const CELL: &str = "
        iifname . {ip} saddr != @own{4} drop
        {ip} daddr != @host{4} notrack
";
/// Packets from a cell may leave only by the ports, and reach another cell only by its VIP. The same holds for the cell
/// of another node, if that node itself has sent the packet: anybody can claim to be a VIP. Nothing else is forwarded
/// to or from a cell, nor a port that forwarded nothing before berth.
const FORWARD: &str = "
        {ip} daddr @vip{4} goto into{4}
        iifname . {ip} saddr @own{4} oifname @ports accept
        iifname . {ip} saddr . ether saddr @via{4} oifname @ports accept
        oifname @cells drop
        iifname @cells drop
        iifname @shut{4} drop
";
const STOP_IPV6: &str = "
        drop
";
/// Packets to a VIP may go only into its cell, or to the node that has the cell. Packets that have not come from the
/// VIP's clients are dropped: otherwise two nodes could forward them to each other for ever.
const INTO: &str = "
        iifname . {ip} daddr @back{4} drop
        {ip} daddr . oifname @to{4} accept
        drop
";
/// A cell may answer the node, but begin nothing with it.
const INPUT: &str = "
        iifname @cells tcp flags & (syn | ack) != syn accept
        iifname @cells icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept
        iifname @cells icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
        iifname @cells drop
";
/// A port without an address in a subnet sends ARP requests there in the name of a VIP. Otherwise the kernel would use
/// another port's address, which clients would then look for at this port.
const ARP: &str = "
        arp operation request arp saddr ip set oifname . arp daddr ip map @source comment \"{mark}\"
";

/// The use counts of the chains in the whole tables `inet` and `arp`: each rule counts once, and once more if it leads
/// to a chain. There is one more in `inet` if IPv6 is stopped altogether.
const RULES: (usize, usize) = (44, 1);
/// The use counts of rules without a mark, which a version before the mark has made.
const UNMARKED: (usize, usize) = (44, 1);
/// The prefix of a mark, by which a version knows its rules: it is the comment of the only rule in `arp`, and goes on
/// with the numbers of rules in both tables and a hash of their text.
const MARK: &str = "rules of berth";
/// The place of the mark in the text.
const MARK_PLACE: &str = "{mark}";

/// The mark of this version's rules. The rules in force may be another version's: as long as all of them are there they
/// serve as well, and are replaced when something has to be changed anyway.
pub(crate) fn own_mark() -> String {
    let (inet, arp) = RULES;
    let hash = fnv64(&text_of_rules(false)) >> 32;
    format!("{MARK} {inet} {arp} {hash:08x}")
}

/// The numbers of rules in a mark.
fn counts(mark: &str) -> Option<(usize, usize)> {
    let mut words = mark.strip_prefix(MARK)?.split_whitespace();
    let mut number = || words.next()?.parse().ok();
    Some((number()?, number()?))
}

/// The input for `nft` that makes both tables, or makes them whole again; their elements stay.
pub(crate) fn ruleset(stop_ipv6: bool) -> String {
    text_of_rules(stop_ipv6).replace(MARK_PLACE, &own_mark())
}

/// As [`ruleset`], without the mark.
fn text_of_rules(stop_ipv6: bool) -> String {
    let mut out = String::new();
    for family in ["inet", "arp"] {
        let _ = writeln!(
            out,
            "table {family} {TABLE} {{ }}\nflush table {family} {TABLE}"
        );
    }
    let _ = writeln!(out, "table inet {TABLE} {{{SETS}");
    for (number, ip) in [("4", "ip"), ("6", "ip6")] {
        let for_family = |text: &str| text.replace("{4}", number).replace("{ip}", ip);
        let stop = if stop_ipv6 && number == "6" {
            STOP_IPV6
        } else {
            ""
        };
        out.push_str(&for_family(FAMILY_SETS));
        // A chain comes after the chains that it leads to.
        for (name, rules) in [
            ("cell", for_family(CELL)),
            ("pre", for_family(PRE)),
            ("into", for_family(INTO)),
            ("forward", for_family(FORWARD) + stop),
        ] {
            let _ = writeln!(out, "    chain {name}{number} {{{rules}    }}");
        }
    }
    for (name, hook, priority, rules) in [
        (
            "pre",
            "prerouting",
            "raw",
            BY_FAMILY.replace("{name}", "pre"),
        ),
        (
            "forward",
            "forward",
            "filter",
            BY_FAMILY.replace("{name}", "forward"),
        ),
        ("input", "input", "filter", INPUT.to_owned()),
    ] {
        let _ = writeln!(
            out,
            "    chain {name} {{\n        type filter hook {hook} priority {priority}; policy accept;{rules}    }}"
        );
    }
    let _ = writeln!(
        out,
        "}}\ntable arp {TABLE} {{
    map source {{
        type ifname . ipv4_addr : ipv4_addr; flags interval;
        comment \"a port and a subnet, and the VIP in whose name the node asks there\";
    }}
    chain out {{\n        type filter hook output priority filter; policy accept;{ARP}    }}\n}}"
    );
    out
}

/// The chains of the text, by their families and their names as the kernel has them.
fn chains_of_text() -> BTreeSet<(u8, Vec<u8>)> {
    let mut family = NFPROTO_INET;
    let mut chains = BTreeSet::new();
    for line in text_of_rules(false).lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["table", "arp", ..] => family = NFPROTO_ARP,
            ["table", ..] => family = NFPROTO_INET,
            ["chain", name, ..] => drop(chains.insert((family, text(name)))),
            _ => {}
        }
    }
    chains
}

impl Socket {
    /// The state of the tables.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn standing(&mut self) -> io::Result<Standing> {
        Ok(self.survey()?.0)
    }

    /// The state of the tables, and the chains of other programs that forwarded packets pass, whatever they do.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn survey(&mut self) -> io::Result<(Standing, Vec<Barrier>)> {
        let chains = self.chains()?;
        let (others, own) = (foreign(&chains), own(&chains));
        if own.uses == (0, 0) {
            return Ok((Standing::Absent, others));
        }
        let rules = self.own_rules()?;
        let mark = mark(&rules);
        if mark == Some(own_mark()) {
            let standing = match &*own.seals {
                // The process that made the tables was killed before it sealed them.
                [] => Standing::Outdated,
                [seal] if *seal == own.due_seal(&rules) => Standing::Whole,
                _ => Standing::Damaged,
            };
            return Ok((standing, others));
        }
        let (inet, arp) = mark.as_deref().and_then(counts).unwrap_or(UNMARKED);
        let whole = (inet..=inet + 1).contains(&own.uses.0) && own.uses.1 == arp;
        let standing = match whole {
            true => Standing::Outdated,
            false => Standing::Damaged,
        };
        Ok((standing, others))
    }

    /// Makes both tables in one transaction, or makes them whole again; their elements stay. `stop_ipv6`: forward IPv6
    /// only to and from VIPs. This is for kernels that forward IPv6 on all interfaces or on none, on a node that
    /// forwarded none before.
    ///
    /// # Errors
    /// `NotFound` if nft is not installed; if it refuses; `TimedOut` at `deadline`.
    pub fn create(&mut self, stop_ipv6: bool, deadline: Instant) -> io::Result<()> {
        let mut nft = command("nft")?;
        nft.args(["-f", "-"]);
        run_with_input(nft, ruleset(stop_ipv6).as_bytes(), deadline)?
            .check("create nftables table berth")?;
        self.sweep()?;
        self.seal()
    }

    /// Deletes the chains in the tables that the text does not have: somebody's, or another version's. They have no
    /// rules any more, but may drop packets by their policy.
    fn sweep(&mut self) -> io::Result<()> {
        let known = chains_of_text();
        let mut strays = own(&self.chains()?).chains;
        strays.retain(|chain| !known.contains(chain));
        for (family, name) in strays {
            let request = Request {
                kind: message_type(DELCHAIN),
                flags: 0,
                payload: payload(
                    family,
                    &[(NFTA_CHAIN_TABLE, &text(TABLE)), (NFTA_CHAIN_NAME, &name)],
                ),
            };
            match self.transaction(&[request])? {
                // A chain that somebody's map leads to can't be deleted: it is empty, and no packet enters it
                // otherwise.
                Ok(()) => {}
                Err((_, no)) if [Errno::ENOENT, Errno::EBUSY].contains(&no.errno) => {}
                Err((_, no)) => {
                    let name = text_of(&name);
                    return Err(no.of(format_args!("delete chain {name} of nftables table berth")));
                }
            }
        }
        Ok(())
    }

    /// Deletes both tables with all in them.
    ///
    /// # Errors
    /// If the kernel refuses. It is no error if the tables are not there.
    pub fn delete(&mut self) -> io::Result<()> {
        for family in [NFPROTO_INET, NFPROTO_ARP] {
            let request = Request {
                kind: message_type(DELTABLE),
                flags: 0,
                payload: payload(family, &[(NFTA_TABLE_NAME, &text(TABLE))]),
            };
            match self.transaction(&[request])? {
                Err((_, no)) if no.errno != Errno::ENOENT => {
                    return Err(no.of("delete nftables table berth"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The mark of these rules, if they have one.
fn mark(rules: &[OwnRule]) -> Option<String> {
    let arp = rules.iter().filter(|rule| rule.family == NFPROTO_ARP);
    arp.filter_map(|rule| comment(rule.attributes()))
        .find(|comment| comment.starts_with(MARK))
}

/// A rule's comment, as nft encodes it (libnftnl's udata.h): type and length in a byte each; type 0 is the comment,
/// with a NUL at its end.
fn comment(rule: &[u8]) -> Option<String> {
    let mut data = attribute(rule, NFTA_RULE_USERDATA)?;
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        data = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_what_else_nft_notes() {
        let rule = |data: &[u8]| {
            let length = u16::try_from(data.len() + 4).unwrap().to_ne_bytes();
            let kind = NFTA_RULE_USERDATA.to_ne_bytes();
            let mut all = [length, kind].concat();
            all.extend(data);
            all
        };
        assert_eq!(comment(&rule(b"\x01\x04abcd\x00\x03hi\0")).unwrap(), "hi");
        for bad in [
            &b""[..],
            b"\x00",
            b"\x00\x09hi\0",
            b"\x01\x02ab",
            b"\x00\x01\xff",
        ] {
            assert_eq!(comment(&rule(bad)), None, "{bad:?}");
        }
        assert_eq!(comment(&[]), None);
    }

    #[test]
    fn a_mark_tells_how_many_rules_there_are() {
        assert_eq!(counts(&own_mark()), Some(RULES));
        assert_eq!(counts("rules of berth 12 3 and more"), Some((12, 3)));
        for bad in ["", "rules of berth", "rules of berth 12", "theirs 12 3 x"] {
            assert_eq!(counts(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_number_of_rules_is_that_of_the_text() {
        let rules = |texts: &[&str]| {
            let lines = texts.iter().flat_map(|t| t.lines());
            lines.filter(|l| !l.trim().is_empty()).count()
        };
        let leads = |texts: &[&str]| texts.concat().matches(" goto ").count();
        let twice = [BY_FAMILY, PRE, CELL, FORWARD, INTO];
        let all = 2 * (rules(&twice) + leads(&twice)) + rules(&[INPUT]);
        assert_eq!(RULES, (all, rules(&[ARP])));
        assert_eq!(rules(&[STOP_IPV6]), 1);
    }

    #[test]
    fn the_text_has_no_placeholder_left() {
        for stop_ipv6 in [false, true] {
            let text = ruleset(stop_ipv6);
            assert!(!text.contains("{4}") && !text.contains("{ip}"), "{text}");
            assert!(
                !text.contains("{name}") && !text.contains(MARK_PLACE),
                "{text}"
            );
            let last = "@shut6 drop\n\n        drop\n";
            assert_eq!(text.contains(last), stop_ipv6);
        }
    }
}
