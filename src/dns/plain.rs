//! The query as nearly all are: one question of class IN, no flag but RD, AD and CD, and at most an OPT record with no
//! option but a cookie. It is read where it lies, without an allocation; whatever is not that plain is left to
//! [`Query`](super::Query).

use super::edns::{is_cookie, room_beside_cookie};
use super::{Asking, Message, Type, option};

/// A plain query, and its octets.
pub struct PlainQuery<'a> {
    octets: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// The payload size and DO of its OPT record.
    edns: Option<(u16, bool)>,
    has_cookie: bool,
    /// The name in lower case, QTYPE, and [`Asking`].
    key: [u8; KEY_MAX],
    /// Octets of the name in `key`.
    name: usize,
}

/// A name, two octets of QTYPE, one of [`Asking`].
const KEY_MAX: usize = 255 + 3;

const RD: u8 = 0x01;
const AD: u8 = 0x20;
const CD: u8 = 0x10;

impl<'a> PlainQuery<'a> {
    /// `None` for all that is not a plain query.
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (header, rest) = octets.split_first_chunk::<{ Message::HEADER }>()?;
        let [_, _, high, low, 0, 1, 0, 0, 0, 0, 0, additionals @ (0 | 1)] = *header else { return None };
        if high & !RD != 0 || low & !(AD | CD) != 0 {
            return None;
        }
        let mut key = [0; KEY_MAX];
        let mut at = 0;
        loop {
            let length = usize::from(*rest.get(at)?);
            if length == 0 {
                at += 1;
                break;
            }
            if length > 63 {
                return None;
            }
            let end = at + 1 + length;
            // The root label has to find room too (RFC 1035, 2.3.4: 255 octets).
            if end > 254 {
                return None;
            }
            let (label, place) = (rest.get(at..end)?, key.get_mut(at..end)?);
            place.copy_from_slice(label);
            // Length octets are below 64 and no letters, so that this leaves them alone.
            place.make_ascii_lowercase();
            at = end;
        }
        let (question, after) = rest.get(at..)?.split_first_chunk::<4>()?;
        let [type_high, type_low, 0, 1] = *question else { return None };
        let (edns, has_cookie) = match (additionals, after) {
            (0, []) => (None, false),
            (1, [0, 0, 41, size_high, size_low, 0, 0, flags, 0, rest @ ..]) if flags & 0x7f == 0 => {
                let edns = Some((u16::from_be_bytes([*size_high, *size_low]), flags & 0x80 != 0));
                match rest {
                    [0, 0] => (edns, false),
                    [0, all, code_high, code_low, 0, length, cookie @ ..]
                        if u16::from_be_bytes([*code_high, *code_low]) == option::COOKIE
                            && [usize::from(*all), usize::from(*length)] == [cookie.len() + 4, cookie.len()]
                            && is_cookie(cookie.len()) =>
                    {
                        (edns, true)
                    }
                    _ => return None,
                }
            }
            _ => return None,
        };
        let asking = Asking::new(high & RD != 0, low & AD != 0, low & CD != 0, edns.map(|(_, dnssec_ok)| dnssec_ok));
        key.get_mut(at..at + 3)?.copy_from_slice(&[type_high, type_low, asking.0]);
        Some(Self { octets, end: Message::HEADER + at + 4, edns, has_cookie, key, name: at })
    }

    /// The query itself.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The question as it was spelled, name to class.
    pub fn question(&self) -> &'a [u8] {
        self.octets.get(Message::HEADER..self.end).unwrap_or_default()
    }

    /// The name in wire form and lower case.
    pub fn name(&self) -> &[u8] {
        self.key.get(..self.name).unwrap_or_default()
    }

    pub fn qtype(&self) -> Type {
        match self.key.get(self.name..) {
            Some([high, low, ..]) => Type(u16::from_be_bytes([*high, *low])),
            _ => Type(0),
        }
    }

    /// What its answer depends on besides the question.
    pub fn asking(&self) -> Asking {
        Asking(self.key().last().copied().unwrap_or_default())
    }

    /// The largest datagram that the client says it takes, if it says so, less what its cookie takes.
    pub fn payload_size(&self) -> Option<u16> {
        self.edns.map(|(size, _)| if self.has_cookie { room_beside_cookie(size) } else { size })
    }

    /// Is there a cookie in its OPT record?
    pub fn has_cookie(&self) -> bool {
        self.has_cookie
    }

    /// The payload size and DO of its OPT record.
    pub fn edns(&self) -> Option<(u16, bool)> {
        self.edns
    }

    /// All that tells this question's answers from those of others: the name in lower case, QTYPE, and [`Asking`].
    pub fn key(&self) -> &[u8] {
        self.key.get(..self.name + 3).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{Class, Edns, Flags, Name, Opcode, Query, Question};

    fn query(name: Name, qtype: u16, flags: Flags, edns: Option<Edns>) -> Query {
        Query { id: 77, opcode: Opcode::QUERY, flags, question: Question { name, qtype: Type(qtype), qclass: Class::IN }, edns }
    }

    proptest! {
        #[test]
        fn a_plain_query_reads_as_any_query_does(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..5),
            qtype in any::<u16>(),
            bits in any::<[bool; 3]>(),
            edns in prop::option::of((any::<u16>(), any::<bool>())),
        ) {
            let Some(name) = Name::root().prefixed(labels.iter().map(Vec::as_slice)) else { return Ok(()) };
            let flags = Flags { recursion_desired: bits[0], authentic_data: bits[1], checking_disabled: bits[2], ..Flags::default() };
            let written = query(name, qtype, flags, edns.map(|(size, dnssec_ok)| Edns { dnssec_ok, ..Edns::new(size) }));
            let octets = written.compose();
            let plain = PlainQuery::parse(&octets).unwrap();
            let lower = written.question.name.to_lowercase();
            prop_assert_eq!(plain.name(), lower.wire());
            prop_assert_eq!(plain.question().get(..plain.name().len()).unwrap(), written.question.name.wire());
            prop_assert_eq!((plain.qtype(), plain.edns()), (Type(qtype), edns));
            let told = plain.key().last().copied().unwrap();
            prop_assert_eq!([told & 1 != 0, told & 2 != 0, told & 4 != 0], bits, "RD, AD and CD");
        }

        #[test]
        fn what_reads_as_plain_is_a_query(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut octets = octets;
            // Most random octets are no query by their header alone.
            for (at, value) in [(2, 1), (3, 0), (4, 0), (5, 1), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0)] {
                if let Some(octet) = octets.get_mut(at) {
                    *octet = value;
                }
            }
            if let Some(plain) = PlainQuery::parse(&octets) {
                let query = Query::parse(&octets).unwrap();
                let lower = query.question.name.to_lowercase();
                prop_assert_eq!(lower.wire(), plain.name());
            }
        }
    }

    #[test]
    fn a_cookie_changes_nothing_but_the_room() {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let with = |size: u16, cookies: &[usize]| {
            let cookie = |length: &usize| crate::dns::EdnsOption { code: option::COOKIE, data: vec![7; *length].into() };
            let edns = Edns { options: cookies.iter().map(cookie).collect(), ..Edns::new(size) };
            query("web.service.consul".parse().unwrap(), 1, flags, Some(edns)).compose()
        };
        let (bare, octets) = (with(1232, &[]), with(1232, &[24]));
        let (bare, plain) = (PlainQuery::parse(&bare).unwrap(), PlainQuery::parse(&octets).unwrap());
        assert!(plain.has_cookie() && !bare.has_cookie());
        assert_eq!((plain.key(), plain.question(), plain.edns()), (bare.key(), bare.question(), bare.edns()));
        assert_eq!((bare.payload_size(), plain.payload_size()), (Some(1232), Some(1204)));
        let sizes = [0, 4096].map(|size| PlainQuery::parse(&with(size, &[8])).unwrap().payload_size());
        assert_eq!(sizes, [Some(0), Some(1204)], "an answer with its cookie passes every path");
        for length in 0..50 {
            let is_plain = PlainQuery::parse(&with(1232, &[length])).is_some();
            assert_eq!(is_plain, length == 8 || (16..=40).contains(&length), "{length} octets");
        }
        assert!(PlainQuery::parse(&with(1232, &[8, 8])).is_none());
        for cut in 1..28 {
            assert!(PlainQuery::parse(&octets[..octets.len() - cut]).is_none(), "{cut} octets less");
        }
    }

    #[test]
    fn anything_else_is_not_plain() {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        let octets = query("web.service.consul".parse().unwrap(), 1, flags, Some(Edns::new(1232))).compose();
        assert!(PlainQuery::parse(&octets).is_some());
        for cut in 0..octets.len() {
            assert!(PlainQuery::parse(&octets[..cut]).is_none(), "cut at {cut}");
        }
        for (at, value) in [(2, 0x80), (2, 0x21), (3, 0x40), (5, 2), (7, 1), (11, 2), (octets.len() - 6, 1)] {
            let mut odd = octets.clone();
            odd[at] = value;
            assert!(PlainQuery::parse(&odd).is_none(), "octet {at} is {value}");
        }
        assert!(PlainQuery::parse(&[&octets[..], &[0]].concat()).is_none());
    }
}
