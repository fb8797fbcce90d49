//! The parts of nfnetlink (linux/netfilter/nf_tables.h) that several modules use.

use crate::sys::netlink::transport::Attributes;

pub(crate) const NEWTABLE: u16 = libc::NFT_MSG_NEWTABLE as u16;
pub(crate) const DELTABLE: u16 = libc::NFT_MSG_DELTABLE as u16;
pub(crate) const NEWCHAIN: u16 = libc::NFT_MSG_NEWCHAIN as u16;
pub(crate) const GETCHAIN: u16 = libc::NFT_MSG_GETCHAIN as u16;
pub(crate) const NEWRULE: u16 = libc::NFT_MSG_NEWRULE as u16;
pub(crate) const GETRULE: u16 = libc::NFT_MSG_GETRULE as u16;
pub(crate) const GETSETELEM: u16 = libc::NFT_MSG_GETSETELEM as u16;
pub(crate) const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_TABLE_FLAGS: u16 = 2;
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
pub(crate) const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFPROTO_IPV4: u8 = libc::NFPROTO_IPV4 as u8;
pub(crate) const NFPROTO_IPV6: u8 = libc::NFPROTO_IPV6 as u8;

/// The value of the first attribute of this kind.
pub(crate) fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}
