//! Questions, and the messages that ask them.

use super::{Class, Composer, Edns, Flags, Message, Name, Opcode, ParseError, Rcode, Reader, Type};

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
    /// Reads a request. Accepts one question, at most one record of answer and of authority (IXFR, NOTIFY) and two of
    /// additional (OPT, TSIG). Anything else is FORMERR, an opcode that nobody serves NOTIMP, a response is ignored.
    pub fn parse(octets: &[u8]) -> Result<Self, Reject> {
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
        let reject = |rcode, opcode, questions| {
            let flags = Flags { response: true, authoritative: false, zero: false, ..flags };
            let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
            let message = Message { id, opcode, flags, rcode, questions, answers, authorities, additionals, edns: None };
            Err(Reject::Reply(Box::new(message)))
        };
        if opcode != Opcode::QUERY && opcode != Opcode::NOTIFY {
            return reject(Rcode::NOTIMP, opcode, Vec::new());
        }
        if questions != 1 || answers > 1 || authorities > 1 || additionals > 2 {
            return reject(Rcode::FORMERR, Opcode::QUERY, Vec::new());
        }
        match Message::parse(octets) {
            Ok(Message { mut questions, edns, .. }) => match questions.pop() {
                Some(question) => Ok(Self { id, opcode, flags, question, edns }),
                None => reject(Rcode::FORMERR, Opcode::QUERY, Vec::new()),
            },
            Err(_) => {
                let question = Question::parse(&mut reader).ok();
                reject(Rcode::FORMERR, Opcode::QUERY, question.into_iter().collect())
            }
        }
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
