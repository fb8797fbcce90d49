//! The expressions of nftables rules, encoded: they load a part of a packet into a register and compare it
//! (linux/netfilter/nf_tables.h). Only those that the filter of a cell needs.

use super::elements::{NFTA_LIST_ELEM, attribute, name_bytes, nested};
use super::protocol::{NFTA_DATA_VALUE, NFTA_EXPR_DATA, NFTA_EXPR_NAME};

/// The only register that is used: 16 bytes, as long as the name of an interface.
const REGISTER: u32 = libc::NFT_REG_1 as u32;
const VERDICT_REGISTER: u32 = libc::NFT_REG_VERDICT as u32;

const META_DREG: u16 = 1;
const META_KEY: u16 = 2;
const META_IIFNAME: u32 = libc::NFT_META_IIFNAME as u32;
const META_NFPROTO: u32 = libc::NFT_META_NFPROTO as u32;
const META_L4PROTO: u32 = libc::NFT_META_L4PROTO as u32;

const CMP_SREG: u16 = 1;
const CMP_OP: u16 = 2;
const CMP_DATA: u16 = 3;

const PAYLOAD_DREG: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const TRANSPORT_HEADER: u32 = 2;

const BITWISE_SREG: u16 = 1;
const BITWISE_DREG: u16 = 2;
const BITWISE_LENGTH: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;

const FIB_DREG: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
const FIB_RESULT_OIF: u32 = 1;
const FIB_SADDR_AND_IIF: u32 = 1 | 8;

const IMMEDIATE_DREG: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;

/// How a loaded value is compared: `NFT_CMP_EQ` and `NFT_CMP_NEQ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Is = libc::NFT_CMP_EQ as isize,
    IsNot = libc::NFT_CMP_NEQ as isize,
}

/// What becomes of a packet: `NF_DROP` and `NF_ACCEPT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop = libc::NF_DROP as isize,
    Accept = libc::NF_ACCEPT as isize,
}

/// The expressions of a rule, encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expressions(Vec<u8>);

impl Expressions {
    /// The encoded list: the value of a rule's attribute.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Only packets that come in by this interface, or by any other one.
    pub(crate) fn incoming(self, compare: Compare, link: &str) -> Self {
        self.meta(META_IIFNAME).compare(compare, &name_bytes(link))
    }

    /// Only packets of this family (`NFPROTO_IPV4` …).
    pub(crate) fn family(self, number: u8) -> Self {
        self.meta(META_NFPROTO).compare(Compare::Is, &[number])
    }

    /// Only packets of this protocol above IP (RFC 5237), after any extension headers.
    pub(crate) fn protocol(self, number: u8) -> Self {
        self.meta(META_L4PROTO).compare(Compare::Is, &[number])
    }

    /// Only packets in which the byte at `offset` of the transport header, masked, compares like this. A fragment other
    /// than the first has no such header, and does not match.
    pub(crate) fn byte(self, offset: u32, mask: u8, compare: Compare, value: u8) -> Self {
        let masked = match mask {
            u8::MAX => self.payload(offset),
            mask => self.payload(offset).mask(mask),
        };
        masked.compare(compare, &[value])
    }

    /// Only packets whose source address is not reached by the interface that they came in by.
    pub(crate) fn forged(self) -> Self {
        let fib = [
            number(FIB_DREG, REGISTER),
            number(FIB_RESULT, FIB_RESULT_OIF),
            number(FIB_FLAGS, FIB_SADDR_AND_IIF),
        ];
        // The index of no interface.
        self.with("fib", &fib).compare(Compare::Is, &[0; 4])
    }

    /// Ends the rule with this verdict.
    pub(crate) fn verdict(self, verdict: Verdict) -> Self {
        let code = nested(DATA_VERDICT, &number(VERDICT_CODE, verdict as u32));
        let immediate = [
            number(IMMEDIATE_DREG, VERDICT_REGISTER),
            nested(IMMEDIATE_DATA, &code),
        ];
        self.with("immediate", &immediate)
    }

    fn meta(self, key: u32) -> Self {
        self.with(
            "meta",
            &[number(META_KEY, key), number(META_DREG, REGISTER)],
        )
    }

    fn payload(self, offset: u32) -> Self {
        let payload = [
            number(PAYLOAD_DREG, REGISTER),
            number(PAYLOAD_BASE, TRANSPORT_HEADER),
            number(PAYLOAD_OFFSET, offset),
            number(PAYLOAD_LENGTH, 1),
        ];
        self.with("payload", &payload)
    }

    fn mask(self, mask: u8) -> Self {
        let bitwise = [
            number(BITWISE_SREG, REGISTER),
            number(BITWISE_DREG, REGISTER),
            number(BITWISE_LENGTH, 1),
            nested(BITWISE_MASK, &attribute(NFTA_DATA_VALUE, &[mask])),
            nested(BITWISE_XOR, &attribute(NFTA_DATA_VALUE, &[0])),
        ];
        self.with("bitwise", &bitwise)
    }

    fn compare(self, compare: Compare, value: &[u8]) -> Self {
        let cmp = [
            number(CMP_SREG, REGISTER),
            number(CMP_OP, compare as u32),
            nested(CMP_DATA, &attribute(NFTA_DATA_VALUE, value)),
        ];
        self.with("cmp", &cmp)
    }

    fn with(mut self, name: &str, data: &[Vec<u8>]) -> Self {
        let mut expression = attribute(NFTA_EXPR_NAME, &super::elements::text(name));
        expression.extend(nested(NFTA_EXPR_DATA, &data.concat()));
        self.0.extend(nested(NFTA_LIST_ELEM, &expression));
        self
    }
}

/// An attribute that is a 32-bit number, which nf_tables has in big-endian order.
fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}
