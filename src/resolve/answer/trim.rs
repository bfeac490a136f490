//! How much of an answer is sent: sizes, counts, and TC.
//!
//! Two ways: [`fit`] leaves out what a client can do without and then cuts answers, saying so in TC (RFC 2181, 9);
//! [`trim_as_consul`] cuts as Consul does, to the octet.

use std::collections::HashMap;

use crate::dns::{Message, Name, RData, Record, Type};
use crate::resolve::Room;

/// What a payload over UDP can be at all, as Consul reckons.
const CONSUL_UDP_MAX: usize = 65_535 - 68;
const CONSUL_TCP_MAX: usize = 65_535 - 12;
/// Consul's ceiling for `udp_answer_limit`.
const CONSUL_UDP_ANSWERS_MAX: usize = 8;
/// Consul keeps the eight octets of a UDP header free.
const UDP_HEADER: usize = 8;

/// Makes a message fit `budget` octets: metadata goes first, then other additional records from the end, then answers
/// from the end, which alone sets TC.
pub(super) fn fit(message: &mut Message, budget: usize, compress: bool) {
    let size = |message: &Message, answers: usize, additionals: usize| {
        let answers = message.answers.get(..answers).unwrap_or(&message.answers);
        let additionals = message.additionals.get(..additionals).unwrap_or(&message.additionals);
        message.compose_with(answers, additionals.iter(), compress).len()
    };
    if size(message, message.answers.len(), message.additionals.len()) <= budget {
        return;
    }
    message.additionals.retain(|record| record.record_type() != Type::TXT);
    let answers = message.answers.len();
    let additionals = largest(message.additionals.len(), |count| size(message, answers, count) <= budget);
    message.additionals.truncate(additionals);
    if additionals > 0 || size(message, answers, 0) <= budget {
        return;
    }
    let answers = largest(answers, |count| size(message, count, 0) <= budget);
    message.flags.truncated |= answers < message.answers.len();
    message.answers.truncate(answers);
    if size(message, answers, 0) > budget {
        // What is left is a question, perhaps with a SOA record: only options can be long.
        if let Some(edns) = &mut message.edns {
            edns.options.clear();
        }
    }
}

/// The largest count up to `max` that fits, when all smaller ones fit too; 0 when none does.
fn largest(max: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, max + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

/// What Consul's trimming depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConsulLimits {
    pub(super) room: Room,
    /// What the client's OPT record says, if it has one.
    pub(super) client_size: Option<u16>,
    pub(super) udp_answer_limit: usize,
    pub(super) compress: bool,
}

/// Cuts a message as Consul does. Returns whether Consul thinks that something is missing.
///
/// Every cut leaves of the additional section what the remaining SRV targets need, and nothing else: not even OPT.
pub(super) fn trim_as_consul(message: &mut Message, limits: ConsulLimits) -> bool {
    let mut cut = Cut::new(message, limits.compress);
    let before = cut.answers.len();
    match limits.room {
        Room::Datagram => {
            let size = limits.client_size.map_or(0, usize::from).clamp(Room::DATAGRAM_MIN, CONSUL_UDP_MAX);
            let count = limits.udp_answer_limit.min(CONSUL_UDP_ANSWERS_MAX);
            if size == Room::DATAGRAM_MIN && before > count {
                cut.keep(count);
                // Sizes are reckoned without compression from here on; the message is compressed nevertheless.
                cut.compress = false;
            }
            cut.shrink(size - UDP_HEADER, size);
            let trimmed = cut.count < before;
            cut.finish(message);
            trimmed
        }
        Room::Stream => {
            let most = if message.questions.first().is_some_and(|q| q.qtype == Type::SRV) { 1024 } else { 4096 };
            cut.count = before.min(most);
            let trimmed = cut.shrink(CONSUL_TCP_MAX, CONSUL_TCP_MAX);
            cut.finish(message);
            trimmed
        }
    }
}

/// A message being cut.
struct Cut {
    /// The message without the two sections below.
    frame: Message,
    answers: Vec<Record>,
    additionals: Vec<Record>,
    /// How many answers remain.
    count: usize,
    /// The first additional record of each name.
    first_of: HashMap<Name, usize>,
    /// Has the additional section been rebuilt?
    rebuilt: bool,
    compress: bool,
}

impl Cut {
    fn new(message: &mut Message, compress: bool) -> Self {
        let answers = std::mem::take(&mut message.answers);
        let additionals = std::mem::take(&mut message.additionals);
        let mut first_of = HashMap::new();
        for (at, record) in additionals.iter().enumerate() {
            first_of.entry(record.owner.clone()).or_insert(at);
        }
        Self { count: answers.len(), frame: message.clone(), answers, additionals, first_of, rebuilt: false, compress }
    }

    fn finish(mut self, message: &mut Message) {
        let additionals = self.needed().into_iter().cloned().collect();
        self.answers.truncate(self.count);
        *message = Message { answers: self.answers, additionals, ..self.frame };
    }

    /// Leaves that many answers, and what they need.
    fn keep(&mut self, count: usize) {
        self.count = count;
        if self.frame.edns.take().is_some() || !self.additionals.is_empty() {
            self.rebuilt = true;
        }
    }

    /// Cuts answers until at most one is left or the size is within `goal`. `target` is what the search for a good
    /// count aims at. Returns whether anything had to be done.
    fn shrink(&mut self, goal: usize, target: usize) -> bool {
        let mut shrunk = false;
        while self.count > 1 && self.size() > goal {
            shrunk = true;
            self.frame.authorities.clear();
            let count = if self.size().saturating_sub(target) > 100 { self.search(target) } else { self.count - 1 };
            // One answer is given in any case.
            self.keep(count.max(1));
        }
        shrunk
    }

    /// A count of answers whose message is within `target`: the largest, or the first found that leaves less than ten
    /// octets free.
    fn search(&mut self, target: usize) -> usize {
        let (mut low, mut high) = (0, self.count + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            self.keep(middle);
            match target.checked_sub(self.size()) {
                Some(0..10) => return middle,
                Some(_) => low = middle,
                None => high = middle,
            }
        }
        low
    }

    fn size(&self) -> usize {
        let answers = self.answers.get(..self.count).unwrap_or(&self.answers);
        self.frame.compose_with(answers, self.needed().into_iter(), self.compress).len()
    }

    /// The additional records as they stand: all, or after a cut for each remaining SRV target its first record, and
    /// so on along CNAME records.
    fn needed(&self) -> Vec<&Record> {
        if !self.rebuilt {
            return self.additionals.iter().collect();
        }
        let mut taken = vec![false; self.additionals.len()];
        let mut needed = Vec::new();
        for answer in self.answers.iter().take(self.count) {
            let RData::Srv(srv) = &answer.data else { continue };
            let mut target = &srv.target;
            while let Some((at, record)) = self.first_of.get(target).and_then(|&at| Some((at, self.additionals.get(at)?))) {
                let Some(seen) = taken.get_mut(at).filter(|seen| !**seen) else { break };
                *seen = true;
                needed.push(record);
                let RData::Cname(next) = &record.data else { break };
                target = next;
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, Flags, Opcode, Question, Rcode, Srv};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn message(qtype: Type, answers: Vec<Record>, additionals: Vec<Record>) -> Message {
        Message {
            id: 1,
            opcode: Opcode::QUERY,
            flags: Flags::default(),
            rcode: Rcode::NOERROR,
            questions: vec![Question { name: name("many.service.consul."), qtype, qclass: Class::IN }],
            answers,
            authorities: Vec::new(),
            additionals,
            edns: None,
        }
    }

    fn a(at: u8) -> Record {
        Record::new(name("many.service.consul."), 0, RData::A([127, 2, 0, at].into()))
    }

    fn addresses(count: u8) -> Message {
        message(Type::A, (0..count).map(a).collect(), Vec::new())
    }

    fn target(at: u8) -> Name {
        name(&format!("7f0200{at:02x}.addr.dc1.consul."))
    }

    fn srv(at: u8, target: Name) -> Record {
        let data = Srv { priority: 1, weight: 1, port: 20_000 + u16::from(at), target };
        Record::new(name("many.service.consul."), 0, RData::Srv(Box::new(data)))
    }

    fn services(count: u8) -> Message {
        let glue = (0..count).map(|at| Record::new(target(at), 0, RData::A([127, 2, 0, at].into())));
        let meta = Record::new(name("node-many.node.dc1.consul."), 0, RData::text(b"env=prod"));
        message(Type::SRV, (0..count).map(|at| srv(at, target(at))).collect(), glue.chain([meta]).collect())
    }

    fn consul(message: &mut Message, client_size: Option<u16>, udp_answer_limit: usize) -> bool {
        message.edns = client_size.map(Edns::new);
        trim_as_consul(message, ConsulLimits { room: Room::Datagram, client_size, udp_answer_limit, compress: true })
    }

    #[test]
    fn consul_gives_few_answers_over_plain_udp() {
        for (limit, expected) in [(0, 0), (1, 1), (3, 3), (8, 8), (9, 8), (30, 8)] {
            let mut message = addresses(64);
            assert!(consul(&mut message, None, limit));
            assert_eq!(message.answers.len(), expected, "limit {limit}");
        }
        let mut message = addresses(3);
        assert!(!consul(&mut message, None, 3));
    }

    #[test]
    fn consul_gives_what_fits_to_a_client_with_edns() {
        // As recorded from the reference server.
        for (size, count, octets) in [(513, 29, 501), (600, 34, 581), (800, 47, 789)] {
            let mut message = addresses(64);
            assert!(consul(&mut message, Some(size), 3));
            assert_eq!((message.answers.len(), message.compose(true).len()), (count, octets), "size {size}");
            assert_eq!(message.edns, None, "a cut takes OPT with it");
        }
        let mut message = addresses(64);
        assert!(!consul(&mut message, Some(1232), 3));
        assert!(message.edns.is_some());
    }

    #[test]
    fn consul_keeps_of_additional_what_srv_targets_need() {
        let mut message = services(64);
        assert!(consul(&mut message, None, 3));
        assert_eq!((message.answers.len(), message.additionals.len()), (3, 3));
        for (answer, additional) in message.answers.iter().zip(&message.additionals) {
            assert!(matches!(&answer.data, RData::Srv(srv) if srv.target == additional.owner));
        }
        for (size, count) in [(1232, 19), (2048, 33)] {
            let mut message = services(64);
            assert!(consul(&mut message, Some(size), 3));
            assert_eq!((message.answers.len(), message.additionals.len()), (count, count), "size {size}");
        }
    }

    #[test]
    fn consul_follows_aliases_in_additional_and_terminates() {
        let alias = |from: &str, to: &str| Record::new(name(from), 0, RData::Cname(name(to)));
        let mut answers: Vec<Record> = (0..8).map(|at| srv(at, name("X.example."))).collect();
        answers.push(srv(9, name("nowhere.example.")));
        let additionals = vec![alias("x.example.", "Y.example."), alias("y.example.", "x.example."), a(1)];
        let mut message = message(Type::SRV, answers, additionals);
        assert!(consul(&mut message, None, 4));
        assert_eq!(message.additionals.len(), 2);
    }

    #[test]
    fn consul_empties_authority_before_it_cuts_answers_and_keeps_one() {
        let mut long = message(Type::TXT, vec![a(1), Record::new(name("x."), 0, RData::text(&[b'x'; 2000]))], Vec::new());
        long.answers.reverse();
        long.authorities.push(a(9));
        assert!(consul(&mut long, None, 3));
        assert_eq!((long.answers.len(), long.authorities.len()), (1, 0));
        assert!(long.compose(true).len() > Room::DATAGRAM_MIN);
    }

    #[test]
    fn consul_cuts_long_answers_over_tcp() {
        let limits = ConsulLimits { room: Room::Stream, client_size: None, udp_answer_limit: 3, compress: true };
        let owner = name("many.service.consul.");
        let records = |count: u32| (0..count).map(|at| Record::new(owner.clone(), 0, RData::A(at.into()))).collect();
        let mut message = message(Type::A, records(4200), Vec::new());
        assert!(trim_as_consul(&mut message, limits));
        assert!(message.compose(true).len() <= CONSUL_TCP_MAX && message.answers.len() > 4000);
        message.answers = records(20);
        assert!(!trim_as_consul(&mut message, limits));
    }

    #[test]
    fn ours_drops_metadata_then_glue_then_answers() {
        let whole = services(40);
        let size = |message: &Message| message.compose(true).len();
        let mut message = whole.clone();
        fit(&mut message, size(&whole), true);
        assert_eq!(message, whole);
        fit(&mut message, size(&whole) - 1, true);
        assert_eq!((message.answers.len(), message.additionals.len(), message.flags.truncated), (40, 40, false));
        let mut message = whole.clone();
        fit(&mut message, size(&whole) - 200, true);
        assert!(message.answers.len() == 40 && message.additionals.len() < 40 && !message.flags.truncated);
        assert!((size(&whole) - 220..=size(&whole) - 200).contains(&size(&message)));
        let mut message = whole.clone();
        fit(&mut message, Room::DATAGRAM_MIN, true);
        assert!(message.flags.truncated && message.additionals.is_empty() && !message.answers.is_empty());
        assert!(size(&message) <= Room::DATAGRAM_MIN);
    }
}
