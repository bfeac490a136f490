//! What a query says besides its question.

use super::Query;

/// What an answer depends on besides its question: RD, AD (RFC 6840, 5.7) and CD of the query's header, DO, and whether there
/// is an OPT record at all. From the lowest bit on, in the order of [`Asking::NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking(pub u8);

impl Asking {
    /// What each bit says.
    const NAMES: [&str; 5] = ["rd", "ad", "cd", "do", "edns"];

    pub fn of(query: &Query) -> Self {
        let dnssec_ok = query.edns.as_ref().map(|edns| edns.dnssec_ok);
        let flags = query.flags;
        Self::new(flags.recursion_desired, flags.authentic_data, flags.checking_disabled, dnssec_ok)
    }

    /// `dnssec_ok` is DO of the OPT record, if there is one.
    pub(super) fn new(recursion_desired: bool, authentic_data: bool, checking_disabled: bool, dnssec_ok: Option<bool>) -> Self {
        let bits = [recursion_desired, authentic_data, checking_disabled, dnssec_ok == Some(true), dnssec_ok.is_some()];
        Self(bits.into_iter().rev().fold(0, |octet, bit| octet << 1 | u8::from(bit)))
    }

    /// DO.
    pub fn dnssec_ok(self) -> bool {
        self.0 >> 3 & 1 == 1
    }

    /// Is there an OPT record?
    pub fn has_edns(self) -> bool {
        self.0 >> 4 & 1 == 1
    }

    /// That of it which decides whether a server can resolve a name: RD and CD. The others change the form of an answer.
    pub fn of_resolving(self) -> Self {
        Self(self.0 & 0b101)
    }

    /// What is said, by its names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..).zip(Self::NAMES).filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}
