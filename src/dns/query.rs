//! Questions, and the messages that ask them.

use std::fmt::Display;

use super::edns::{for_unread, option, room_beside_cookie};
use super::{
    Class, Composer, Edns, ExtendedError, Flags, Message, Name, Opcode, ParseError, RData, Rcode, Reader, Record, Type,
};

/// What is asked: QNAME, QTYPE, QCLASS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: Name,
    pub qtype: Type,
    pub qclass: Class,
}

impl Question {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self { name: reader.name()?, qtype: Type(reader.u16("a question")?), qclass: Class(reader.u16("a question")?) })
    }

    pub(super) fn compose(&self, composer: &mut Composer) {
        composer.name(&self.name, true);
        composer.u16(self.qtype.0);
        composer.u16(self.qclass.0);
    }
}

/// A request with one question, well-formed to its last octet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    pub opcode: Opcode,
    pub flags: Flags,
    pub question: Question,
    pub edns: Option<Edns>,
}

/// What to do with octets that are no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reject {
    /// Not even a header, or a response: nobody is told.
    Ignore,
    /// An error that the sender is told, ready to compose.
    Reply(Box<Message>),
}

impl Query {
    /// Why other messages are not served.
    pub const ONLY: &str = "nothing but queries is answered here";

    /// Reads a request. Accepts one question, at most one record of answer and of authority (IXFR, NOTIFY) and two of
    /// additional (OPT, TSIG). Anything else is FORMERR, an opcode that nobody serves NOTIMP, a response is ignored. Errors
    /// have an OPT record, without a payload size of ours, and say why (RFC 8914), where the request has one that can be read.
    pub fn parse(octets: &[u8]) -> Result<Self, Reject> {
        if let Some(message) = Self::only_a_cookie(octets) {
            return Err(Reject::Reply(Box::new(message)));
        }
        Self::read(octets, for_unread, |octets| match Message::parse(octets) {
            Ok(Message { edns: Some(edns), .. }) if edns.has_bad_cookie() => Err(ParseError::Cookie),
            other => other.map(|Message { mut questions, edns, .. }| (questions.pop(), edns)),
        })
    }

    /// The answer to a query that asks for nothing but a cookie (RFC 7873, 5.4).
    fn only_a_cookie(octets: &[u8]) -> Option<Message> {
        if octets.get(4..Message::HEADER)? != [0, 0, 0, 0, 0, 0, 0, 1] || octets.get(2)? & 0xf8 != 0 {
            return None;
        }
        let message = Message::parse(octets).ok()?;
        let edns = message.edns.filter(|edns| edns.option(option::COOKIE).is_some() && !edns.has_bad_cookie())?;
        let flags = Flags { response: true, recursion_desired: message.flags.recursion_desired, ..Flags::default() };
        // RFC 6891, 6.1.3.
        let rcode = if edns.version == 0 { Rcode::NOERROR } else { Rcode::BADVERS };
        Some(Message { flags, rcode, edns: Some(Edns { version: 0, options: Vec::new(), ..edns }), ..message })
    }

    /// Reads a request as Consul's DNS port does, which differs from [`Query::parse`] in what RFC 6891, section 6.1.1,
    /// and common sense refuse: octets behind the last record are ignored, a section may end early with the message, of
    /// several OPT records the last one counts, and a question that is promised but absent is REFUSED. Errors have no OPT
    /// record.
    pub fn parse_as_consul(octets: &[u8]) -> Result<Self, Reject> {
        Self::read(
            octets,
            |_| None,
            |octets| {
                let mut reader = Reader::new(octets, Message::HEADER);
                if reader.is_at_end() {
                    return Ok((None, None));
                }
                let question = Question::parse(&mut reader)?;
                let counts: [u16; 3] = [6, 8, 10].map(|at| Reader::new(octets, at).u16("the header").unwrap_or(0));
                let mut edns = None;
                for _ in 0..counts.into_iter().map(usize::from).sum() {
                    if reader.is_at_end() {
                        break;
                    }
                    let record = Record::parse(&mut reader)?;
                    if let RData::Opaque { record_type: Type::OPT, octets } = &record.data {
                        edns = Some(Edns::from_opt(record.class.0, record.ttl, octets)?);
                    }
                }
                Ok((Some(question), edns))
            },
        )
    }

    /// `edns` is the OPT record of an error.
    fn read(
        octets: &[u8],
        edns: impl Fn(&[u8]) -> Option<Edns>,
        body: impl FnOnce(&[u8]) -> Result<(Option<Question>, Option<Edns>), ParseError>,
    ) -> Result<Self, Reject> {
        let mut reader = Reader::new(octets, 0);
        let mut header = [0u16; 6];
        for field in &mut header {
            *field = reader.u16("the header").map_err(|_| Reject::Ignore)?;
        }
        let [id, bits, questions, answers, authorities, additionals] = header;
        let flags = Flags::from_bits(bits);
        let opcode = Opcode((bits >> 11) as u8 & 15);
        if flags.response {
            return Err(Reject::Ignore);
        }
        let reject = |rcode, opcode, questions, (code, text): (ExtendedError, &dyn Display)| {
            let flags = Flags { response: true, authoritative: false, zero: false, ..flags };
            let (answers, authorities, additionals, edns) = (Vec::new(), Vec::new(), Vec::new(), edns(octets));
            let mut message = Message { id, opcode, flags, rcode, questions, answers, authorities, additionals, edns };
            message.give_reason(code, text);
            Err(Reject::Reply(Box::new(message)))
        };
        if opcode != Opcode::QUERY && opcode != Opcode::NOTIFY {
            return reject(Rcode::NOTIMP, opcode, Vec::new(), (ExtendedError::NotSupported, &Self::ONLY));
        }
        let malformed =
            |questions, text: &dyn Display| reject(Rcode::FORMERR, Opcode::QUERY, questions, (ExtendedError::Other, text));
        if questions != 1 {
            return malformed(Vec::new(), &format_args!("expected one question, got {questions}"));
        }
        if answers > 1 || authorities > 1 || additionals > 2 {
            return malformed(Vec::new(), &"it has more records than a query may");
        }
        match body(octets) {
            Ok((Some(question), Some(edns))) if edns.has_bad_subnet() => {
                malformed(vec![question], &"expected a client subnet of RFC 7871, got something else")
            }
            Ok((Some(question), edns)) => Ok(Self { id, opcode, flags, question, edns }),
            Ok((None, _)) => reject(Rcode::REFUSED, Opcode::QUERY, Vec::new(), (ExtendedError::Other, &"it has no question")),
            Err(error) => malformed(Question::parse(&mut reader).into_iter().collect(), &error),
        }
    }

    /// A plain query of our own, recursion desired, with a random id.
    pub fn of(question: Question) -> Self {
        let flags = Flags { recursion_desired: true, ..Flags::default() };
        Self { id: fastrand::u16(..), opcode: Opcode::QUERY, flags, question, edns: None }
    }

    /// The largest datagram that the client says it takes (RFC 6891, 6.2.3), if it says so, less what its cookie takes.
    pub fn payload_size(&self) -> Option<u16> {
        let edns = self.edns.as_ref()?;
        Some(if edns.option(option::COOKIE).is_some() { room_beside_cookie(edns.udp_size) } else { edns.udp_size })
    }

    /// Writes the query.
    pub fn compose(&self) -> Vec<u8> {
        let message =
            Message { opcode: self.opcode, flags: self.flags, edns: self.edns.clone(), ..self.response(Rcode::NOERROR) };
        message.compose(true)
    }

    /// An empty response to this query: id, opcode, RD, CD and the question come back as they came.
    pub fn response(&self, rcode: Rcode) -> Message {
        let flags = Flags {
            response: true,
            recursion_desired: self.flags.recursion_desired,
            checking_disabled: self.flags.checking_disabled,
            ..Flags::default()
        };
        Message {
            id: self.id,
            opcode: self.opcode,
            flags,
            rcode,
            questions: vec![self.question.clone()],
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            edns: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for A of `a.`, with `counts` for the last three sections and `tail` behind the question.
    fn request(counts: [u8; 3], tail: &[u8]) -> Vec<u8> {
        let [answers, authorities, additionals] = counts;
        let mut octets = vec![0x42, 0x42, 1, 0, 0, 1, 0, answers, 0, authorities, 0, additionals];
        octets.extend([1, b'a', 0, 0, 1, 0, 1]);
        octets.extend(tail);
        octets
    }

    const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

    /// OPT with a client subnet.
    fn subnet(data: &[u8]) -> Vec<u8> {
        let mut opt = OPT.to_vec();
        opt[10] = data.len() as u8 + 4;
        opt.extend([0, 8, 0, data.len() as u8]);
        opt.extend(data);
        opt
    }

    fn rcode(parsed: Result<Query, Reject>) -> Option<Rcode> {
        match parsed {
            Ok(_) => Some(Rcode::NOERROR),
            Err(Reject::Reply(message)) => Some(message.rcode),
            Err(Reject::Ignore) => None,
        }
    }

    #[test]
    fn consul_is_more_lenient_than_the_rfc() {
        let two_opts = [OPT, OPT].concat();
        let no_question = vec![0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for (what, octets, ours, consuls) in [
            ("plain", request([0; 3], &[]), Rcode::NOERROR, Rcode::NOERROR),
            ("one OPT", request([0, 0, 1], &OPT), Rcode::NOERROR, Rcode::NOERROR),
            ("two OPTs", request([0, 0, 2], &two_opts), Rcode::FORMERR, Rcode::NOERROR),
            ("an OPT that is not there", request([0, 0, 1], &[]), Rcode::FORMERR, Rcode::NOERROR),
            ("half an OPT", request([0, 0, 1], &OPT[..5]), Rcode::FORMERR, Rcode::FORMERR),
            ("no subnet", request([0, 0, 1], &subnet(&[0, 0, 0, 0])), Rcode::NOERROR, Rcode::NOERROR),
            ("a subnet", request([0, 0, 1], &subnet(&[0, 1, 24, 0, 10, 0, 0])), Rcode::NOERROR, Rcode::NOERROR),
            ("a subnet of 33 bits", request([0, 0, 1], &subnet(&[0, 1, 33, 0, 10])), Rcode::FORMERR, Rcode::FORMERR),
            ("a subnet of no length", request([0, 0, 1], &subnet(&[0, 1])), Rcode::FORMERR, Rcode::FORMERR),
            ("octets behind", request([0; 3], b"garbage"), Rcode::FORMERR, Rcode::NOERROR),
            ("too many records", request([0, 0, 3], &[]), Rcode::FORMERR, Rcode::FORMERR),
            ("no question", no_question, Rcode::FORMERR, Rcode::REFUSED),
        ] {
            assert_eq!(rcode(Query::parse(&octets)), Some(ours), "{what}");
            assert_eq!(rcode(Query::parse_as_consul(&octets)), Some(consuls), "{what}, as Consul");
        }
    }

    /// OPT with a cookie of so many octets.
    fn cookie(length: u8) -> Vec<u8> {
        [&OPT[..9], &[0, length + 4, 0, 10, 0, length], &vec![7; length.into()]].concat()
    }

    #[test]
    fn rfc7873_5_2_2_a_cookie_of_a_length_that_none_has_is_a_format_error() {
        for length in 0..50 {
            let expected = if length == 8 || (16..=40).contains(&length) { Rcode::NOERROR } else { Rcode::FORMERR };
            let octets = request([0, 0, 1], &cookie(length));
            assert_eq!(rcode(Query::parse(&octets)), Some(expected), "{length} octets");
            assert_eq!(rcode(Query::parse_as_consul(&octets)), Some(Rcode::NOERROR));
        }
    }

    #[test]
    fn rfc7873_5_4_a_cookie_may_be_asked_for_alone() {
        let asked = |cookie: Vec<u8>| [&[0x42, 0x42, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &cookie].concat();
        let Err(Reject::Reply(message)) = Query::parse(&asked(cookie(8))) else { panic!("an answer that is ready") };
        assert_eq!((message.id, message.rcode, message.questions.len()), (0x4242, Rcode::NOERROR, 0));
        assert!(message.flags.response && message.edns.is_some_and(|edns| edns.options.is_empty()));
        for without in [OPT.to_vec(), cookie(7)] {
            assert_eq!(rcode(Query::parse(&asked(without))), Some(Rcode::FORMERR));
        }
    }

    #[test]
    fn a_response_and_a_stump_get_no_answer() {
        let mut response = request([0; 3], &[]);
        response[2] |= 0x80;
        assert_eq!(rcode(Query::parse(&response)), None);
        assert_eq!(rcode(Query::parse(&response[..11])), None);
    }
}
