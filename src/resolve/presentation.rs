//! How is a record written as text? The presentation form of record data (RFC 1035, 5.1; RFC 3597, 5), read by
//! `hickory-proto` for the types that it knows and here for the form that every type has.
//!
//! Start with [`read_data`]. Conversion between `hickory`'s records and ours goes by wire form, the one form that both
//! must agree on.

use hickory_proto::op;
use hickory_proto::rr;
use hickory_proto::rr::rdata::HTTPS;
use hickory_proto::rr::rdata::svcb::{Mandatory, SvcParamValue};
use hickory_proto::serialize::binary::BinEncodable;
use hickory_proto::serialize::txt::Parser;

use crate::dns::{Class, Flags, Message, Name, Opcode, RData, Rcode, Record, Type};

/// Why a text is not the data of a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DataError {
    #[error("{0}")]
    Type(String),
    #[error("expected the data of a record of type {record_type}, got {text:?} ({cause})")]
    Data { record_type: String, text: String, cause: String },
    #[error("expected `\\# LENGTH HEX` (RFC 3597), got {0:?}")]
    Generic(String),
    #[error("the data says that it has {expected} octets, and has {got}")]
    Length { expected: usize, got: usize },
    #[error("expected character strings of at most 255 octets, got {0:?}")]
    Strings(String),
    #[error("there is no text form of {0} here")]
    NoTextForm(String),
}

impl DataError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            DataError::Type(_) | DataError::NoTextForm(_) => {
                Some("any type may be written as `TYPE65280 \\# 4 C0000201` (RFC 3597)")
            }
            DataError::Generic(_) | DataError::Length { .. } => {
                Some("for example `\\# 4 C0000201`: four octets, in hexadecimal digits")
            }
            DataError::Strings(_) => Some("write a longer text as several strings: \"first part\" \"second part\""),
            DataError::Data { .. } => None,
        }
    }
}

/// Reads the data of a record from its text, all on one line; names without a dot at their end are below `origin`.
pub(super) fn read_data(record_type: Type, text: &str, origin: &Name) -> Result<RData, DataError> {
    let text = text.trim();
    if let Some(generic) = text.strip_prefix("\\#") {
        return from_octets(record_type, read_generic(generic)?).ok_or_else(|| wrong(record_type, text, "it is malformed"));
    }
    if record_type == Type::TXT {
        return read_strings(text).map(RData::Txt).ok_or_else(|| DataError::Strings(text.to_owned()));
    }
    let known = rr::RecordType::from(record_type.0);
    if matches!(known, rr::RecordType::Unknown(_)) {
        return Err(DataError::NoTextForm(record_type.to_string()));
    }
    if text.contains(['\n', '\r']) {
        return Err(wrong(record_type, text, "it has more than one line"));
    }
    // A final line end keeps the parser from taking a comment for an unfinished line.
    let line = format!(". 0 IN {known} {text}\n");
    let (_, sets) = Parser::new(line, None, Some(to_hickory_name(origin))).parse().map_err(|error| match error {
        hickory_proto::serialize::txt::ParseError::UnsupportedRecordType(_) => DataError::NoTextForm(known.to_string()),
        // What a zone's signer writes has no text form in the library.
        error if error.to_string().contains("dynamically") => DataError::NoTextForm(known.to_string()),
        error => wrong(record_type, text, &error.to_string()),
    })?;
    let mut records: Vec<rr::Record> =
        sets.into_values().flat_map(|set| set.records_without_rrsigs().cloned().collect::<Vec<_>>()).collect();
    for record in &mut records {
        settle_service(&mut record.data, origin).ok_or_else(|| wrong(record_type, text, "a name in it is too long"))?;
    }
    let mut records = from_hickory(records).ok_or_else(|| wrong(record_type, text, "it does not fit a message"))?;
    match (records.pop(), records.is_empty()) {
        (Some(record), true) if record.record_type() == record_type => Ok(record.data),
        _ => Err(wrong(record_type, text, "expected exactly one record")),
    }
}

/// What the library leaves open of a service binding: parameters may be written in any order, and have one on the wire
/// (RFC 9460, 2.1, 2.2 and 8); and a target without a dot at its end is below `origin`, as everywhere in a master file.
fn settle_service(data: &mut rr::RData, origin: &Name) -> Option<()> {
    let (rr::RData::SVCB(svcb) | rr::RData::HTTPS(HTTPS(svcb))) = data else { return Some(()) };
    if !svcb.target_name.is_fqdn() {
        svcb.target_name = svcb.target_name.clone().append_domain(&to_hickory_name(origin)).ok()?;
    }
    svcb.svc_params.sort_by_key(|(key, _)| u16::from(*key));
    for (_, value) in &mut svcb.svc_params {
        if let SvcParamValue::Mandatory(Mandatory(keys)) = value {
            keys.sort_by_key(|key| u16::from(*key));
        }
    }
    Some(())
}

fn wrong(record_type: Type, text: &str, cause: &str) -> DataError {
    DataError::Data { record_type: record_type.to_string(), text: text.to_owned(), cause: cause.to_owned() }
}

/// `LENGTH HEX...` behind the `\#` (RFC 3597, 5).
fn read_generic(text: &str) -> Result<Vec<u8>, DataError> {
    let malformed = || DataError::Generic(format!("\\#{text}"));
    let mut words = text.split_ascii_whitespace();
    let expected: u16 = words.next().and_then(|word| word.parse().ok()).ok_or_else(malformed)?;
    let digits: Vec<u8> = words.flat_map(str::bytes).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    let octet = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let octets: Option<Vec<u8>> = pairs.iter().map(octet).collect();
    let octets = octets.filter(|_| rest.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)).ok_or_else(malformed)?;
    match octets.len() == usize::from(expected) {
        true => Ok(octets),
        false => Err(DataError::Length { expected: expected.into(), got: octets.len() }),
    }
}

/// Character strings, quoted or not, with `\X` and `\DDD` (RFC 1035, 5.1). Read here, because the library takes three
/// digits for something else.
fn read_strings(text: &str) -> Option<Vec<Box<[u8]>>> {
    let mut strings = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        let quoted = bytes.next_if_eq(&b'"').is_some();
        if !quoted && bytes.peek().is_none() {
            return (!strings.is_empty()).then_some(strings);
        }
        let mut string = Vec::new();
        loop {
            match bytes.next() {
                Some(b'"') if quoted => break,
                Some(byte) if !quoted && byte.is_ascii_whitespace() => break,
                None if !quoted => break,
                None => return None,
                Some(b'\\') => string.push(match bytes.next()? {
                    digit if digit.is_ascii_digit() => {
                        let mut value = u32::from(digit - b'0');
                        for _ in 0..2 {
                            value = value * 10 + u32::from(bytes.next_if(u8::is_ascii_digit)? - b'0');
                        }
                        u8::try_from(value).ok()?
                    }
                    other => other,
                }),
                Some(byte) => string.push(byte),
            }
        }
        if string.len() > 255 {
            return None;
        }
        strings.push(string.into());
    }
}

/// Data from its wire form; `None` when the type does not allow it.
fn from_octets(record_type: Type, octets: Vec<u8>) -> Option<RData> {
    let data = RData::Opaque { record_type, octets: octets.into() };
    let message = carrier(vec![Record::new(Name::root(), 0, data)]);
    Message::parse(&message.compose(false)).ok()?.answers.pop().map(|record| record.data)
}

/// A message that does nothing but carry records from one form to the other.
fn carrier(answers: Vec<Record>) -> Message {
    Message {
        id: 0,
        opcode: Opcode::QUERY,
        flags: Flags { response: true, ..Flags::default() },
        rcode: Rcode::NOERROR,
        questions: Vec::new(),
        answers,
        authorities: Vec::new(),
        additionals: Vec::new(),
        edns: None,
    }
}

/// The library's records as ours; `None` when they do not fit one message.
pub(super) fn from_hickory(records: Vec<rr::Record>) -> Option<Vec<Record>> {
    let count = records.len();
    let mut message = op::Message::response(0, op::OpCode::Query);
    message.add_answers(records);
    let answers = Message::parse(&message.to_bytes().ok()?).ok()?.answers;
    (answers.len() == count).then_some(answers)
}

/// One of our records as the library's.
pub(super) fn to_hickory(record: Record) -> Option<rr::Record> {
    debug_assert_eq!(record.class, Class::IN);
    let octets = carrier(vec![record]).compose(false);
    op::Message::from_vec(&octets).ok()?.answers.pop()
}

/// The same name in the library's form.
pub(super) fn to_hickory_name(name: &Name) -> rr::Name {
    let mut name = rr::Name::from_labels(name.labels()).unwrap_or_else(|_| rr::Name::root());
    name.set_fqdn(true);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(record_type: &str, text: &str) -> Result<RData, DataError> {
        read_data(record_type.parse().map_err(DataError::Type)?, text, &"example.test.".parse().unwrap())
    }

    #[test]
    fn rfc3597_5_types_are_read_from_their_text() {
        assert_eq!(read("a", "192.0.2.1"), Ok(RData::A([192, 0, 2, 1].into())));
        assert_eq!(read("CNAME", "www"), Ok(RData::Cname("www.example.test.".parse().unwrap())));
        assert_eq!(read("MX", "10 mail.x."), Ok(RData::Mx { preference: 10, exchange: "mail.x.".parse().unwrap() }));
        assert!(
            matches!(read("SRV", "1 2 80 web"), Ok(RData::Srv(srv)) if srv.port == 80 && srv.target == "web.example.test.".parse().unwrap())
        );
        let opaque = |kind: u16, octets: &[u8]| Ok(RData::Opaque { record_type: Type(kind), octets: octets.into() });
        assert_eq!(read("TYPE65280", "\\# 4 0a 00 0001"), opaque(65280, &[10, 0, 0, 1]));
        assert_eq!(read("TYPE65280", "\\# 0"), opaque(65280, &[]));
        assert_eq!(read("CAA", "0 issue \"ca.example\""), opaque(257, b"\x00\x05issueca.example"));
        assert_eq!(read("TYPE1", "\\# 4 7f000001"), Ok(RData::A([127, 0, 0, 1].into())));
        let soa = read("SOA", "ns hostmaster 1 2 3 4 5").unwrap();
        assert!(matches!(soa, RData::Soa(soa) if soa.rname == "hostmaster.example.test.".parse().unwrap() && soa.minimum == 5));
    }

    #[test]
    fn strings_keep_quotes_escapes_and_octets() {
        let strings = |list: &[&[u8]]| Ok(RData::Txt(list.iter().map(|&s| s.into()).collect()));
        assert_eq!(read("TXT", "plain \"two words\" \"\""), strings(&[b"plain", b"two words", b""]));
        assert_eq!(read("TXT", "\"a\\\"b\\200;\""), strings(&[b"a\"b\xc8;"]));
        assert!(matches!(read("TXT", &"x".repeat(256)), Err(DataError::Strings(_))));
        assert!(matches!(read("TXT", "\"open"), Err(DataError::Strings(_))));
    }

    #[test]
    fn wrong_text_says_what_was_expected() {
        assert!(matches!(read("A", "nowhere"), Err(DataError::Data { .. })));
        assert!(matches!(read("A", "192.0.2.1\nx. 0 IN A 192.0.2.2"), Err(DataError::Data { .. })));
        assert!(matches!(read("AA", "192.0.2.1"), Err(DataError::Type(_))));
        assert!(matches!(read("TYPE65280", "abcd"), Err(DataError::NoTextForm(_))));
        assert!(matches!(read("RRSIG", "1 2 3 abcd"), Err(DataError::NoTextForm(_))));
        assert!(matches!(read("TYPE65280", "\\# 3 00"), Err(DataError::Length { expected: 3, got: 1 })));
        assert!(matches!(read("TYPE1", "\\# 3 000000"), Err(DataError::Data { .. })));
        assert!(matches!(read("TYPE65280", "\\# 1 +1"), Err(DataError::Generic(_))));
    }

    #[test]
    fn rfc9460_2_2_service_parameters_are_sorted_whatever_order_they_are_written_in() {
        let sorted = read("SVCB", "1 svc mandatory=alpn,port alpn=h2 port=8443 ipv4hint=192.0.2.1").unwrap();
        for text in [
            "1 svc port=8443 ipv4hint=192.0.2.1 mandatory=port,alpn alpn=h2",
            "1 svc ipv4hint=192.0.2.1 alpn=\"h2\" port=8443 mandatory=alpn,port",
        ] {
            assert_eq!(read("SVCB", text).as_ref(), Ok(&sorted), "{text}");
        }
        let RData::Opaque { octets, .. } = sorted else { panic!("{sorted:?}") };
        let parameters = &octets[2 + b"\x03svc\x07example\x04test\0".len()..];
        assert_eq!(parameters, b"\0\0\0\x04\0\x01\0\x03\0\x01\0\x03\x02h2\0\x03\0\x02\x20\xfb\0\x04\0\x04\xc0\0\x02\x01");
        assert!(read("HTTPS", "1 . port=80 alpn=h2").is_ok());
        assert!(matches!(read("HTTPS", "1 . port=80 port=81"), Err(DataError::Data { .. })), "one of each key");
    }

    #[test]
    fn records_survive_the_way_there_and_back() {
        let record = Record::new("A.b.".parse().unwrap(), 9, RData::Opaque { record_type: Type(65280), octets: [1, 2].into() });
        assert_eq!(from_hickory(vec![to_hickory(record.clone()).unwrap()]), Some(vec![record]));
    }
}
