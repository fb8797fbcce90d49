//! The tables themselves: their text, their creation, and whether they are still whole.

use std::fmt::Write;
use std::io;
use std::time::Instant;

use nix::errno::Errno;

use super::elements::{NFPROTO_ARP, NFPROTO_INET, TABLE, message_type, payload, text};
use super::{Socket, Standing};
use crate::sys::command::{command, run_with_input};
use crate::sys::message;
use crate::sys::netlink::wire::{Attributes, Request};

const NFT: &str = "/usr/sbin/nft";

const DELTABLE: u16 = 2;
const GETRULE: u16 = 7;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;

/// `{4}` stands for each family in turn: 4 and `ip`, 6 and `ip6`.
const SETS: &str = "
    set ports { type ifname; }
    set cells { type ifname; }
";
const FAMILY_SETS: &str = "
    set shut{4} { type ifname; }
    set host{4} { type ipv{4}_addr; }
    set vip{4} { type ipv{4}_addr; }
    set own{4} { type ifname . ipv{4}_addr; }
    set to{4} { type ipv{4}_addr . ifname; }
    set back{4} { type ifname . ipv{4}_addr; }
";
/// A cell sends from its own addresses only; VIP traffic needs no connection tracking, except the
/// node's own.
const PRE: &str = "
        iifname @cells meta nfproto ipv{4} iifname . {ip} saddr != @own{4} drop
        {ip} daddr @vip{4} notrack
        iifname . {ip} saddr @own{4} {ip} daddr != @host{4} notrack
";
/// To a VIP only into its cell; from a cell only by the ports, and to another cell only by its VIP.
const PASS: &str = "
        iifname . {ip} daddr @back{4} drop
        {ip} daddr . oifname @to{4} accept
        iifname . {ip} saddr @own{4} oifname @ports {ip} daddr != @vip{4} accept
";
/// Nothing else passes a cell, nor a port that forwarded nothing before berth came.
const STOP_CELLS: &str = "
        oifname @cells drop
        iifname @cells drop
";
const STOP: &str = "
        meta nfproto ipv{4} iifname @shut{4} drop
        {ip} daddr @vip{4} drop
";
const STOP_IPV6: &str = "
        meta nfproto ipv6 drop
";
/// A cell may answer the node, but not call on it.
const INPUT: &str = "
        iifname @cells tcp flags & (syn | ack) != syn accept
        iifname @cells icmp type { echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept
        iifname @cells icmpv6 type { echo-reply, destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
        iifname @cells drop
";
/// A port without an address in a subnet asks there in the name of a VIP: what the kernel would take
/// otherwise is another port's address, which the client would then look for at this one.
const ARP: &str = "
        arp operation request arp saddr ip set oifname . arp daddr ip map @source
";

/// The rules of each table that is whole; one more in `inet` where IPv6 is stopped altogether.
const INET_RULES: usize = 22;
const ARP_RULES: usize = 1;

/// The input for `nft` that makes both tables, or makes them whole again: elements stay.
pub(super) fn ruleset(stop_ipv6: bool) -> String {
    let both = |text: &str| {
        let v4 = text.replace("{4}", "4").replace("{ip}", "ip");
        v4 + &text.replace("{4}", "6").replace("{ip}", "ip6")
    };
    let mut out = String::new();
    for family in ["inet", "arp"] {
        let _ = writeln!(
            out,
            "table {family} {TABLE} {{ }}\nflush table {family} {TABLE}"
        );
    }
    let _ = writeln!(out, "table inet {TABLE} {{{SETS}{}", both(FAMILY_SETS));
    let last = if stop_ipv6 { STOP_IPV6 } else { "" };
    for (name, hook, priority, rules) in [
        ("pre", "prerouting", "raw", both(PRE)),
        (
            "forward",
            "forward",
            "filter",
            [&both(PASS), STOP_CELLS, &both(STOP), last].concat(),
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
    map source {{ type ifname . ipv4_addr : ipv4_addr; flags interval; }}
    chain out {{\n        type filter hook output priority filter; policy accept;{ARP}    }}\n}}"
    );
    out
}

impl Socket {
    /// Whether both tables are there with all their rules.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn standing(&mut self) -> io::Result<Standing> {
        let inet = self.count_rules(NFPROTO_INET)?;
        let arp = self.count_rules(NFPROTO_ARP)?;
        let whole = (INET_RULES..=INET_RULES + 1).contains(&inet) && arp == ARP_RULES;
        Ok(match (inet, arp) {
            (0, 0) => Standing::Absent,
            _ if whole => Standing::Whole,
            _ => Standing::Damaged,
        })
    }

    /// Makes both tables in one transaction, or makes them whole again; their elements stay.
    /// `stop_ipv6`: let no IPv6 pass but to and from VIPs, for kernels that forward it either on all
    /// interfaces or on none, on a node that forwarded none.
    ///
    /// # Errors
    /// `NotFound` if nft is not installed; if it refuses; `TimedOut` at `deadline`.
    pub fn create(&mut self, stop_ipv6: bool, deadline: Instant) -> io::Result<()> {
        let mut nft = command(NFT);
        nft.args(["-f", "-"]);
        run_with_input(nft, ruleset(stop_ipv6).as_bytes(), deadline)?
            .check("create nftables table berth")?;
        Ok(())
    }

    /// Deletes both tables with all in them.
    ///
    /// # Errors
    /// If the kernel refuses; that they are not there is none.
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

    fn count_rules(&mut self, family: u8) -> io::Result<usize> {
        let what = "list the rules of nftables table berth";
        let query = payload(family, &[(NFTA_RULE_TABLE, &text(TABLE))]);
        let answer = self.wire.dump(message_type(GETRULE), query);
        match answer.map_err(|e| message(e, what))? {
            // Kernels before 5.1 list the rules of all tables.
            Ok(rules) => Ok(rules
                .iter()
                .filter(|rule| {
                    let attributes = rule.payload.get(4..).unwrap_or(&[]);
                    Attributes(attributes)
                        .any(|(kind, value)| kind == NFTA_RULE_TABLE && value == text(TABLE))
                })
                .count()),
            Err(no) if no.errno == Errno::ENOENT => Ok(0),
            Err(no) => Err(no.of(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rules_is_that_of_the_text() {
        let rules = |texts: &[&str]| {
            let lines = texts.iter().flat_map(|t| t.lines());
            lines.filter(|l| !l.trim().is_empty()).count()
        };
        let twice = rules(&[PRE, PASS, STOP]);
        assert_eq!(INET_RULES, 2 * twice + rules(&[STOP_CELLS, INPUT]));
        assert_eq!((ARP_RULES, rules(&[STOP_IPV6])), (rules(&[ARP]), 1));
    }

    #[test]
    fn the_text_has_no_placeholder_left() {
        for stop_ipv6 in [false, true] {
            let text = ruleset(stop_ipv6);
            assert!(!text.contains("{4}") && !text.contains("{ip}"), "{text}");
            assert_eq!(text.contains("meta nfproto ipv6 drop\n"), stop_ipv6);
        }
    }
}
