//! The seal of the tables: a hash of the chains and rules as the kernel had them right after they were made. It is kept
//! as the name of an empty chain beside them. Rules that somebody has changed by hand may be as many as before, but no
//! longer match the seal.

use std::io;

use nix::errno::Errno;

use super::Socket;
use super::elements::{
    NFPROTO_ARP, NFPROTO_INET, NLM_F_CREATE, TABLE, message_type, payload, text,
};
use super::protocol::{
    GETRULE, NEWCHAIN, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE,
    NFTA_CHAIN_TYPE, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, attribute,
};
use crate::hash::Fnv64;
use crate::sys::message;
use crate::sys::netlink::transport::{Message, Request};

pub(crate) const DELCHAIN: u16 = libc::NFT_MSG_DELCHAIN as u16;
const NFTA_CHAIN_USE: u16 = 6;
/// The prefix of the seal's name.
const SEAL: &str = "seal_";

/// The chains of both tables, as the kernel lists them.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The use counts of all chains in `inet` and in `arp`: each rule counts once, and once more if it leads to a
    /// chain. The kernel lists these at far less cost than the rules themselves.
    pub(crate) uses: (usize, usize),
    /// The names of seals; more than one if somebody has made another.
    pub(crate) seals: Vec<String>,
    /// All other chains, by their families and names.
    pub(crate) chains: Vec<(u8, Vec<u8>)>,
    /// A hash of each chain. Their order does not matter: the kernel lists a table that was made anew after the others.
    hashes: Vec<u64>,
}

/// A rule of one of the tables, as the kernel lists it.
pub(crate) struct OwnRule {
    pub(crate) family: u8,
    message: Message,
}

/// Of these chains, those of berth's tables.
pub(crate) fn own(chains: &[Message]) -> Own {
    let mut own = Own::default();
    for chain in chains {
        let (Some(family), Some(chain)) = (chain.payload.first(), chain.payload.get(4..)) else {
            continue;
        };
        let is_own = attribute(chain, NFTA_CHAIN_TABLE) == Some(&text(TABLE));
        if is_own && [NFPROTO_INET, NFPROTO_ARP].contains(family) {
            own.add(*family, chain);
        }
    }
    own
}

impl Socket {
    /// The rules of both tables, in the kernel's order.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub(crate) fn own_rules(&mut self) -> io::Result<Vec<OwnRule>> {
        let what = "list the rules of nftables table berth";
        let mut own = Vec::new();
        for family in [NFPROTO_INET, NFPROTO_ARP] {
            let request = payload(family, &[(NFTA_RULE_TABLE, &text(TABLE))]);
            let answer = self.transport.dump(message_type(GETRULE), request);
            let rules = match answer.map_err(|e| message(e, what))? {
                Ok(rules) => rules,
                Err(no) if no.errno == Errno::ENOENT => continue,
                Err(no) => return Err(no.of(what)),
            };
            let rules = rules.into_iter().map(|message| OwnRule { family, message });
            // Older kernels list the rules of other tables, too.
            own.extend(rules.filter(OwnRule::is_own));
        }
        Ok(own)
    }

    /// Seals the tables as the kernel has them now, and deletes any other seal.
    ///
    /// # Errors
    /// If the kernel refuses or can't be asked.
    pub(crate) fn seal(&mut self) -> io::Result<()> {
        let own = own(&self.chains()?);
        let due = own.due_seal(&self.own_rules()?);
        let request = |verb, flags, name: &str| Request {
            kind: message_type(verb),
            flags,
            payload: payload(
                NFPROTO_INET,
                &[
                    (NFTA_CHAIN_TABLE, &text(TABLE)),
                    (NFTA_CHAIN_NAME, &text(name)),
                ],
            ),
        };
        let old = own.seals.iter().filter(|name| **name != due);
        let mut requests: Vec<Request> = old.map(|name| request(DELCHAIN, 0, name)).collect();
        requests.push(request(NEWCHAIN, NLM_F_CREATE, &due));
        match self.transaction(&requests)? {
            Ok(()) => Ok(()),
            Err((_, no)) => Err(no.of("seal nftables table berth")),
        }
    }
}

impl OwnRule {
    pub(crate) fn attributes(&self) -> &[u8] {
        self.message.payload.get(4..).unwrap_or_default()
    }

    fn is_own(&self) -> bool {
        attribute(self.attributes(), NFTA_RULE_TABLE) == Some(&text(TABLE))
    }
}

impl Own {
    /// The name of the seal that the tables should have, by their chains and these rules.
    pub(crate) fn due_seal(&self, rules: &[OwnRule]) -> String {
        let mut hash = Fnv64::default();
        let mut chains = self.hashes.clone();
        chains.sort_unstable();
        for chain in chains {
            hash.add(&chain.to_be_bytes());
        }
        for rule in rules {
            for kind in [NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS] {
                hash.add(attribute(rule.attributes(), kind).unwrap_or_default());
            }
        }
        format!("{SEAL}{:016x}", hash.value())
    }

    fn add(&mut self, family: u8, chain: &[u8]) {
        let name = attribute(chain, NFTA_CHAIN_NAME).unwrap_or_default();
        let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name));
        if family == NFPROTO_INET && name.starts_with(SEAL) {
            self.seals.push(name.into_owned());
            return;
        }
        let raw = attribute(chain, NFTA_CHAIN_NAME).unwrap_or_default();
        self.chains.push((family, raw.to_vec()));
        let uses = match family {
            NFPROTO_ARP => &mut self.uses.1,
            _ => &mut self.uses.0,
        };
        *uses += attribute(chain, NFTA_CHAIN_USE)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, |bytes| u32::from_be_bytes(bytes) as usize);
        let mut hash = Fnv64::default();
        hash.add(&[family]);
        for kind in [
            NFTA_CHAIN_NAME,
            NFTA_CHAIN_HOOK,
            NFTA_CHAIN_POLICY,
            NFTA_CHAIN_TYPE,
        ] {
            hash.add(attribute(chain, kind).unwrap_or_default());
        }
        self.hashes.push(hash.value());
    }
}
