//! Random letter case in questions (draft-vixie-dnsext-dns0x20): names are the same in any case, a server gives a question
//! back as it came, and so a forger has to guess it too.

use super::{Message, question, records};

/// What a question's letters are changed by, eight octets at a time. The same change once more undoes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterCase(u64);

/// One in each octet.
const EACH: u64 = 0x0101_0101_0101_0101;
/// The bit that tells a capital letter from a small one.
const CASE: u64 = 0x20 * EACH;
const HIGH: u64 = 0x80 * EACH;

/// The bit of each octet that is a letter of ASCII. Lengths of labels are none.
fn letters(octets: u64) -> u64 {
    // No sum reaches the octet above: each is below 0x80 and 0x80 in turn.
    let small = (octets | CASE) & !HIGH;
    let from_a = small + (0x80 - u64::from(b'a')) * EACH;
    let past_z = small + (0x80 - u64::from(b'z') - 1) * EACH;
    (from_a & !past_z & !octets & HIGH) >> 2
}

impl LetterCase {
    /// Of random bits, one for each of the first 64 octets of a name; longer ones have them again.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    fn change(self, name: &mut [u8]) {
        let mut bits = self.0;
        let mut changed = |octets: [u8; 8]| {
            let octets = u64::from_le_bytes(octets);
            let changed = octets ^ (letters(octets) & bits);
            bits = bits.rotate_right(1);
            changed.to_le_bytes()
        };
        let (whole, rest) = name.as_chunks_mut();
        whole.iter_mut().for_each(|octets| *octets = changed(*octets));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        rest.copy_from_slice(&changed(last)[..rest.len()]);
    }

    /// Changes the name in the question of a message, and nothing else of it.
    pub fn apply(self, message: &mut [u8]) {
        let length = question(message).map_or(0, |question| name_of(question).len());
        if let Some(name) = message.get_mut(Message::HEADER..).and_then(|rest| rest.get_mut(..length)) {
            self.change(name);
        }
    }

    /// Takes the change back out of a reply that is otherwise right: `asked` is the question as it was before, name to class.
    /// The names that the server copied from the question are as before too, wherever a record has one as its owner. False,
    /// with nothing done, if the question did not come back in the case in which it was sent.
    pub fn take_back(self, asked: &[u8], reply: &mut [u8]) -> bool {
        let asked = name_of(asked);
        let after = Message::HEADER + asked.len() + 4;
        if reply.get(4..6) == Some(&[0, 0]) {
            // An error may come without its question.
            return true;
        }
        let Some(came) = reply.get_mut(Message::HEADER..after - 4) else { return false };
        self.change(came);
        if came != asked {
            self.change(came);
            return false;
        }
        // Nearly all point to the question.
        if reply.get(after..).is_some_and(|rest| !rest.is_empty() && !rest.starts_with(&TO_THE_QUESTION)) {
            let (mut sent, mut owners) = (asked.to_vec(), Vec::new());
            self.change(&mut sent);
            let starts = records(reply).into_iter().flatten().map_while(Result::ok).map(|place| place.owner.start);
            owners.extend(starts.filter(|at| reply.get(*at..).is_some_and(|rest| rest.starts_with(&sent))));
            for at in owners {
                if let Some(owner) = reply.get_mut(at..at + sent.len()) {
                    owner.copy_from_slice(asked);
                }
            }
        }
        true
    }
}

/// A compression pointer to the question's name (RFC 1035, 4.1.4).
const TO_THE_QUESTION: [u8; 2] = [0xc0, Message::HEADER as u8];

/// The name of a question, without type and class, whose octets may look like letters.
fn name_of(question: &[u8]) -> &[u8] {
    question.split_last_chunk::<4>().map_or(&[], |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{Class, Name, Query, Question, RData, Rcode, Record, Reply, Type};

    fn query(name: &str, qtype: Type) -> Vec<u8> {
        Query::of(Question { name: name.parse().unwrap(), qtype, qclass: Class::IN }).compose()
    }

    /// A reply with an address for the name in the question, and one for another.
    fn reply(query: &[u8], compress: bool) -> Vec<u8> {
        let query = Query::parse(query).unwrap();
        let mut message = query.response(Rcode::NOERROR);
        let other: Name = "other.example.org".parse().unwrap();
        for name in [query.question.name, other] {
            message.answers.push(Record::new(name, 60, RData::A([192, 0, 2, 1].into())));
        }
        message.compose(compress)
    }

    #[test]
    fn dns0x20_a_question_is_asked_in_random_case_and_given_back_in_the_clients() {
        // Type 65 and class 1: octets of them may look like letters.
        let asked = query("WWW.exAMple-1.net", Type(65));
        let mut sent = asked.clone();
        LetterCase::new(u64::MAX).apply(&mut sent);
        let text = |octets: &[u8]| Query::parse(octets).unwrap().question.name.to_string();
        assert_eq!((text(&sent), sent.len()), ("www.EXamPLE-1.NET.".to_owned(), asked.len()));
        assert_eq!(Query::parse(&sent).unwrap().question.qtype, Type(65));
        for compress in [true, false] {
            let mut back = reply(&sent, compress);
            assert!(LetterCase::new(u64::MAX).take_back(question(&asked).unwrap(), &mut back));
            assert_eq!(back, reply(&asked, compress), "compressed: {compress}");
        }
    }

    #[test]
    fn a_question_in_another_case_is_noticed() {
        let (asked, case) = (query("www.example.net", Type::A), LetterCase::new(CASE));
        let mut lower = reply(&asked, true);
        let before = lower.clone();
        assert!(!case.take_back(question(&asked).unwrap(), &mut lower));
        assert_eq!(lower, before);
        let mut without = [0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(case.take_back(question(&asked).unwrap(), &mut without), "an error without its question");
    }

    #[test]
    fn every_letter_is_changed_and_nothing_else() {
        for octet in 0..=255u8 {
            for length in 1..20 {
                let mut name = vec![octet; length];
                LetterCase::new(u64::MAX).change(&mut name);
                let other = if octet.is_ascii_alphabetic() { octet ^ 0x20 } else { octet };
                assert_eq!(name, vec![other; length], "{octet:#x}");
            }
        }
        let mut name = [b'a'; 64];
        LetterCase::new(1 << 5).change(&mut name);
        assert_eq!(name.iter().filter(|octet| **octet == b'A').count(), 1, "each place has its own bit");
    }

    proptest! {
        #[test]
        fn whatever_the_case_it_is_the_same_name(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 0..5),
            qtype in any::<u16>(),
            bits in any::<u64>(),
        ) {
            let Some(name) = Name::root().prefixed(labels.iter().map(Vec::as_slice)) else { return Ok(()) };
            let asked = Query::of(Question { name, qtype: Type(qtype), qclass: Class::IN }).compose();
            let mut sent = asked.clone();
            LetterCase::new(bits).apply(&mut sent);
            prop_assert_eq!(sent.get(Message::HEADER - 2..12), asked.get(Message::HEADER - 2..12));
            prop_assert!(question(&sent).unwrap().eq_ignore_ascii_case(question(&asked).unwrap()));
            let mut back = sent.clone();
            back[2] |= 0x80;
            prop_assert!(Reply::read(&back, question(&asked).unwrap()).is_some());
            prop_assert!(LetterCase::new(bits).take_back(question(&asked).unwrap(), &mut back));
            prop_assert_eq!(question(&back), question(&asked));
        }

        #[test]
        fn any_octets_may_come_back(octets in prop::collection::vec(any::<u8>(), 0..80), bits in any::<u64>()) {
            let mut octets = octets;
            LetterCase::new(bits).take_back(question(&query("www.example.net", Type::A)).unwrap(), &mut octets);
        }
    }
}
