//! Padding hides the length of a message that travels encrypted (RFC 7830, RFC 8467), and concerns one hop only: here it is
//! taken out, with whatever else concerns one hop.
//!
//! That works where the message lies, and only if its OPT record is the last one, as everybody writes it: behind it
//! nothing moves that a compression pointer could point to. Any other message stays as it is.

use super::Reader;
use super::reply::walk;

/// Takes options of these codes out of a message.
pub fn drop_options(message: &mut Vec<u8>, codes: &[u16]) {
    let Ok((Some(data), _)) = walk(message) else { return };
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

/// Writes the length of a record's data, which is right before it.
fn set_length(message: &mut [u8], data: usize, length: u16) {
    if let Some(place) = data.checked_sub(2).and_then(|at| message.get_mut(at..data)) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, EdnsOption, Query, Question, Type, option, pad};

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
