//! EDNS(0): the OPT pseudo-record (RFC 6891).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::records::opt;
use super::{Composer, Header, Message, Name, ParseError, Reader, Section, Type};

/// Option codes that are known here (IANA "DNS EDNS0 Option Codes").
pub mod option {
    pub const NSID: u16 = 3;
    pub const CLIENT_SUBNET: u16 = 8;
    pub const COOKIE: u16 = 10;
    pub const TCP_KEEPALIVE: u16 = 11;
    pub const PADDING: u16 = 12;
    pub const EXTENDED_ERROR: u16 = 15;
    /// Our own, of those for local use (RFC 6891, 9): empty in a query, JSON in its answer.
    pub const TRACE: u16 = 65_312;
}

/// What an OPT record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edns {
    /// The largest UDP payload its sender takes, in octets.
    pub udp_size: u16,
    /// The upper eight bits of the extended RCODE.
    pub extended_rcode: u8,
    pub version: u8,
    /// DO (RFC 3225).
    pub dnssec_ok: bool,
    pub options: Vec<EdnsOption>,
}

/// One option, its data not interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdnsOption {
    pub code: u16,
    pub data: Box<[u8]>,
}

impl Edns {
    /// Octets of an OPT record without options.
    pub const BARE: usize = 11;

    /// An OPT record without options as it is written, behind all others (RFC 6891, 6.1.2).
    pub fn bare(udp_size: u16, dnssec_ok: bool) -> [u8; Self::BARE] {
        let [high, low] = udp_size.to_be_bytes();
        // The root, type 41, the payload size, no extended RCODE, version 0, DO, no data.
        [0, 0, 41, high, low, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]
    }

    pub fn new(udp_size: u16) -> Self {
        Self { udp_size, extended_rcode: 0, version: 0, dnssec_ok: false, options: Vec::new() }
    }

    pub fn option(&self, code: u16) -> Option<&EdnsOption> {
        self.options.iter().find(|option| option.code == code)
    }

    /// The client subnet, when one is there and well-formed.
    pub fn client_subnet(&self) -> Option<ClientSubnet> {
        ClientSubnet::parse(&self.option(option::CLIENT_SUBNET)?.data)
    }

    /// Is there a client subnet that says nothing sensible? That is a format error (RFC 7871, 7.1.2); a subnet of no
    /// family and no length, which asks for privacy, is none.
    pub(super) fn has_bad_subnet(&self) -> bool {
        let Some(option) = self.option(option::CLIENT_SUBNET) else { return false };
        let is_private = matches!(*option.data, [0, 0, 0, ..]);
        !is_private && ClientSubnet::parse(&option.data).is_none()
    }

    /// Is there a cookie of a length that none has? That is a format error (RFC 7873, 5.2.2).
    pub(super) fn has_bad_cookie(&self) -> bool {
        self.option(option::COOKIE).is_some_and(|option| !is_cookie(option.data.len()))
    }

    pub(super) fn from_opt(class: u16, ttl: u32, data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(data, 0);
        let mut options = Vec::new();
        while !reader.is_at_end() {
            let code = reader.u16("an EDNS option")?;
            let length = usize::from(reader.u16("an EDNS option")?);
            options.push(EdnsOption { code, data: reader.bytes(length, "an EDNS option")?.into() });
        }
        let [extended_rcode, version, high, _] = ttl.to_be_bytes();
        Ok(Self { udp_size: class, extended_rcode, version, dnssec_ok: high & 0x80 != 0, options })
    }

    pub(super) fn compose(&self, composer: &mut Composer) {
        composer.octets(&[0]);
        composer.u16(Type::OPT.0);
        composer.u16(self.udp_size);
        composer.octets(&[self.extended_rcode, self.version, if self.dnssec_ok { 0x80 } else { 0 }, 0]);
        composer.length_prefixed(|composer| {
            for option in &self.options {
                composer.u16(option.code);
                composer.u16(u16::try_from(option.data.len()).unwrap_or(u16::MAX));
                composer.octets(&option.data);
            }
        });
    }
}

/// Are these whole options, and nothing else?
pub(super) fn are_options(data: &[u8]) -> bool {
    let mut reader = Reader::new(data, 0);
    while !reader.is_at_end() {
        let _code = reader.u16("an EDNS option");
        let Ok(length) = reader.u16("an EDNS option") else { return false };
        if reader.bytes(usize::from(length), "an EDNS option").is_err() {
            return false;
        }
    }
    true
}

/// The data of an option in the message's OPT record, the first of its code. Looked up where it lies.
pub fn find_option(message: &[u8], code: u16) -> Option<&[u8]> {
    let data = opt(message).ok()??.data;
    let mut reader = Reader::new(message.get(..data.end)?, data.start);
    loop {
        let found = reader.u16("an EDNS option").ok()?;
        let length = reader.u16("an EDNS option").ok()?;
        let data = reader.bytes(usize::from(length), "an EDNS option").ok()?;
        if found == code {
            return Some(data);
        }
    }
}

/// Our OPT record for a query that is turned away unread, without options, if that has one as far as it can be read: who sent
/// one gets one with errors, too (RFC 6891, 6.1.1 and 7).
pub(super) fn for_unread(query: &[u8]) -> Option<Edns> {
    let header = Header::of(query)?;
    let mut reader = Reader::new(query, Message::HEADER);
    for _ in 0..header.count(Section::Question) {
        reader.at = Name::skip(query, reader.at).ok()?;
        reader.bytes(4, "a question").ok()?;
    }
    for section in [Section::Answer, Section::Authority, Section::Additional] {
        for _ in 0..header.count(section) {
            reader.at = Name::skip(query, reader.at).ok()?;
            let record_type = Type(reader.u16("a record").ok()?);
            let (udp_size, ttl) = (reader.u16("a record").ok()?, reader.u32("a record").ok()?);
            if record_type == Type::OPT && section == Section::Additional {
                return Some(Edns { dnssec_ok: ttl & 0x8000 != 0, ..Edns::new(udp_size) });
            }
            let length = reader.u16("a record").ok()?;
            reader.bytes(length.into(), "the data of a record").ok()?;
        }
    }
    None
}

/// Is this option in the message's OPT record?
pub fn has_option(message: &[u8], code: u16) -> bool {
    find_option(message, code).is_some()
}

/// May a cookie have so many octets: a client's own, and maybe a server's behind it (RFC 7873, 4)?
pub const fn is_cookie(length: usize) -> bool {
    matches!(length, 8 | 16..=40)
}

/// Octets that a client's datagram has for an answer, when this is what it says it takes, and it is to get a cookie along.
pub(super) fn room_beside_cookie(payload_size: u16) -> u16 {
    // No more than passes every path (RFC 9715, 3); code, length, and 8 octets of the client's and 16 of ours (RFC 9018, 4).
    payload_size.min(1232).saturating_sub(4 + 8 + 16)
}

/// Adds an option to the OPT record of a message that is already written, if it has one, and if that is the last record,
/// as in all that we write: behind it nothing else may move, since names may point there.
pub fn add_option(message: &mut Vec<u8>, code: u16, data: &[u8]) -> bool {
    let Ok(Some(opt)) = opt(message).map(|opt| opt.map(|opt| opt.data)) else { return false };
    let Ok(size) = u16::try_from(data.len()) else { return false };
    let Ok(length) = u16::try_from(opt.len() + 4 + data.len()) else { return false };
    if opt.end != message.len() || message.len() + 4 + data.len() > Message::MAX {
        return false;
    }
    let Some(place) = message.get_mut(opt.start - 2..opt.start) else { return false };
    place.copy_from_slice(&length.to_be_bytes());
    message.extend(code.to_be_bytes());
    message.extend(size.to_be_bytes());
    message.extend(data);
    true
}

/// Takes options of these codes out of a message, where it lies: those that concern one hop only, as padding does.
///
/// That works only if its OPT record is the last one, as everybody writes it: behind it nothing moves that a compression
/// pointer could point to. Any other message stays as it is.
pub fn drop_options(message: &mut Vec<u8>, codes: &[u16]) {
    let Ok(Some(data)) = opt(message).map(|opt| opt.map(|opt| opt.data)) else { return };
    if data.end != message.len() {
        return;
    }
    let mut kept = Vec::with_capacity(data.len());
    let mut reader = Reader::new(message, data.start);
    while !reader.is_at_end() {
        let start = reader.at;
        let (Ok(code), Ok(length)) = (reader.u16("an option"), reader.u16("an option")) else { return };
        if reader.bytes(usize::from(length), "an option").is_err() {
            return;
        }
        if !codes.contains(&code) {
            kept.extend_from_slice(&message[start..reader.at]);
        }
    }
    let Ok(whole) = u16::try_from(kept.len()) else { return };
    if kept.len() < data.len() {
        message.truncate(data.start);
        message.extend(kept);
        set_length(message, data.start, whole);
    }
}

/// Has an OPT record, whose class begins there, speak for us, whoever wrote it (RFC 6891, 6.1.1): version 0, datagrams of this
/// size, DO as the query had it (RFC 3225, 3), and no bits that are not assigned.
pub fn make_opt_ours(message: &mut [u8], class_at: usize, size: u16, dnssec_ok: bool) {
    if let Some([high, low, _, version, flags, more, ..]) = message.get_mut(class_at..) {
        ([*high, *low], [*version, *flags, *more]) = (size.to_be_bytes(), [0, u8::from(dnssec_ok) << 7, 0]);
    }
}

/// Takes the OPT record out of a message where it is the last one, unless it has a part of the RCODE.
pub fn drop_edns(message: &mut Vec<u8>) {
    let Ok(Some(opt)) = opt(message) else { return };
    let Some(count) = Header::of(message).map(|header| header.count(Section::Additional).saturating_sub(1)) else { return };
    let has_rcode = opt.ttl >> 24 != 0;
    if !has_rcode && opt.data.end == message.len() {
        message.truncate(opt.owner.start);
        if let Some(place) = message.get_mut(10..12) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// Writes the length of a record's data, which is right before it.
fn set_length(message: &mut [u8], data: usize, length: u16) {
    if let Some(place) = data.checked_sub(2).and_then(|at| message.get_mut(at..data)) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Pads a message to a multiple of `block` octets, if it has an OPT record, which hides its length where it travels encrypted
/// (RFC 7830, RFC 8467).
pub fn pad(message: &mut Vec<u8>, block: usize) -> bool {
    let bare = message.len() + 4;
    let padded = bare.next_multiple_of(block).min(Message::MAX);
    padded >= bare && add_option(message, option::PADDING, &vec![0; padded - bare])
}

/// A client subnet (RFC 7871).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSubnet {
    pub address: IpAddr,
    pub source_prefix: u8,
    pub scope_prefix: u8,
}

impl ClientSubnet {
    fn parse(data: &[u8]) -> Option<Self> {
        let (&[family_high, family_low, source_prefix, scope_prefix], address) = data.split_first_chunk()?;
        fn padded<const N: usize>(address: &[u8]) -> Option<[u8; N]> {
            let mut whole = [0; N];
            whole.get_mut(..address.len())?.copy_from_slice(address);
            Some(whole)
        }
        let (address, bits) = match u16::from_be_bytes([family_high, family_low]) {
            1 => (IpAddr::V4(Ipv4Addr::from(padded::<4>(address)?)), 32),
            2 => (IpAddr::V6(Ipv6Addr::from(padded::<16>(address)?)), 128),
            _ => return None,
        };
        (source_prefix <= bits).then_some(Self { address, source_prefix, scope_prefix })
    }

    /// The option that says so; only the octets that the source prefix covers are sent (RFC 7871, 6).
    pub fn to_option(self) -> EdnsOption {
        let (family, octets) = match self.address {
            IpAddr::V4(v4) => (1u16, v4.octets().to_vec()),
            IpAddr::V6(v6) => (2u16, v6.octets().to_vec()),
        };
        let mut data = family.to_be_bytes().to_vec();
        data.extend([self.source_prefix, self.scope_prefix]);
        data.extend(octets.iter().take(usize::from(self.source_prefix).div_ceil(8)));
        EdnsOption { code: option::CLIENT_SUBNET, data: data.into() }
    }
}

/// Extended errors (RFC 8914, and the IANA registry) that are given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtendedError {
    Other = 0,
    StaleAnswer = 3,
    Forged = 4,
    DnssecIndeterminate = 5,
    DnssecBogus = 6,
    SignatureExpired = 7,
    SignatureNotYetValid = 8,
    DnskeyMissing = 9,
    RrsigsMissing = 10,
    NsecMissing = 12,
    CachedError = 13,
    Blocked = 15,
    Filtered = 17,
    Prohibited = 18,
    StaleNxdomain = 19,
    NotSupported = 21,
    NoReachableAuthority = 22,
}

impl ExtendedError {
    pub fn to_option(self, text: &str) -> EdnsOption {
        let mut data = (self as u16).to_be_bytes().to_vec();
        data.extend_from_slice(text.as_bytes());
        EdnsOption { code: option::EXTENDED_ERROR, data: data.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Flags, Opcode, Query, Question, Rcode};

    #[test]
    fn options_are_added_to_what_is_written() {
        let question = Question { name: "www.example.test".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let client = EdnsOption { code: option::COOKIE, data: [7; 8].into() };
        let edns = Edns { options: vec![client], ..Edns::new(1232) };
        let query = Query { id: 7, opcode: Opcode::QUERY, flags: Flags::default(), question, edns: Some(edns) };
        let mut octets = query.compose();
        assert!(has_option(&octets, option::COOKIE) && !has_option(&octets, option::PADDING));
        assert!(add_option(&mut octets, option::TCP_KEEPALIVE, &[0, 100]));
        assert!(pad(&mut octets, 128));
        assert_eq!(octets.len(), 128);
        let codes = Query::parse(&octets).unwrap().edns.unwrap().options.into_iter().map(|option| option.code);
        assert_eq!(codes.collect::<Vec<_>>(), [option::COOKIE, option::TCP_KEEPALIVE, option::PADDING]);

        let mut full = octets.clone();
        assert!(pad(&mut full, Message::MAX), "what is left may be less than a block");
        assert_eq!(full.len(), Message::MAX);
        assert!(!pad(&mut full, 468) && full.len() == Message::MAX);
        let mut bare = query.response(Rcode::NOERROR).compose(true);
        assert!(!pad(&mut bare, 468), "no OPT record");
        for cut in 0..octets.len() {
            let mut cut = octets[..cut].to_vec();
            assert!(!has_option(&cut, option::PADDING) && !pad(&mut cut, 468));
        }
    }

    fn query(name: &str, edns: Option<Edns>) -> Query {
        let question = Question { name: name.parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { edns, ..Query::of(question) }
    }

    fn with_options(options: &[(u16, usize)]) -> Option<Edns> {
        let options = options.iter().map(|(code, length)| EdnsOption { code: *code, data: vec![7; *length].into() }).collect();
        Some(Edns { options, ..Edns::new(1232) })
    }

    #[test]
    fn queries_of_all_lengths_are_padded_to_blocks_and_are_the_same_without() {
        for length in 1..60 {
            let asked =
                query(&format!("{}.example.net", "x".repeat(length)), with_options(&[(option::EXTENDED_ERROR, length * 3)]));
            let (plain, mut octets) = (asked.compose(), asked.compose());
            pad(&mut octets, 128);
            assert_eq!(octets.len() % 128, 0);
            assert!(octets.len() < plain.len() + 4 + 128);
            let padded = Query::parse(&octets).unwrap();
            assert_eq!((padded.question, padded.edns.unwrap().options.len()), (asked.question, 2));
            drop_options(&mut octets, &[option::PADDING]);
            assert_eq!(octets, plain);
        }
    }

    #[test]
    fn an_opt_record_is_taken_out_unless_it_has_a_part_of_the_rcode() {
        let bare = query("www.example.net", None);
        let with = Query { edns: with_options(&[(option::COOKIE, 24)]), ..bare.clone() };
        for octets in [with.compose(), bare.compose()] {
            let mut octets = octets;
            drop_edns(&mut octets);
            assert_eq!(octets, bare.compose());
        }
        let mut badvers = with.response(Rcode::BADVERS);
        badvers.edns = with.edns.clone();
        let octets = badvers.compose(true);
        for whole in [octets.clone(), [&octets[..], &[0]].concat(), octets[..20].to_vec()] {
            let mut left = whole.clone();
            drop_edns(&mut left);
            assert_eq!(left, whole);
        }
    }

    #[test]
    fn only_what_is_meant_is_taken_out() {
        let asked = query("example.net", with_options(&[(3, 4), (option::PADDING, 300), (15, 2), (11, 2)]));
        let mut octets = asked.compose();
        drop_options(&mut octets, &[11, option::PADDING]);
        assert_eq!(octets, query("example.net", with_options(&[(3, 4), (15, 2)])).compose().with_id(&octets));
    }

    #[test]
    fn what_has_no_opt_record_at_its_end_stays_as_it_is() {
        let without = query("example.net", None).compose();
        let mut behind = query("example.net", with_options(&[(option::PADDING, 9)])).compose();
        // Another record behind the OPT record: the root, type A, class IN, no TTL, four octets.
        behind.extend([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1]);
        behind[11] = 2;
        let mut short = query("example.net", with_options(&[(option::PADDING, 9)])).compose();
        short.pop();
        for message in [without, behind, short, vec![], vec![0; 11]] {
            let (mut padded, mut dropped) = (message.clone(), message.clone());
            pad(&mut padded, 128);
            drop_options(&mut dropped, &[option::PADDING]);
            assert_eq!((&padded, &dropped), (&message, &message));
        }
    }

    trait WithId {
        fn with_id(self, other: &[u8]) -> Self;
    }

    impl WithId for Vec<u8> {
        fn with_id(mut self, other: &[u8]) -> Self {
            self[..2].copy_from_slice(&other[..2]);
            self
        }
    }
}
