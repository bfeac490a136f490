//! In which order are addresses given? Another one for each answer, so that those who take the first one are shared out among
//! all (RFC 1794).

use crate::dns::{Header, Message, Record, RecordPlace, Section, Type, records};

fn is_address(record_type: Type) -> bool {
    [Type::A, Type::AAAA].contains(&record_type)
}

/// Turns the records of one RRset, if it is one of addresses.
pub(super) fn turn(set: &mut [Record]) {
    if set.len() > 1 && set.iter().all(|record| is_address(record.record_type())) {
        set.rotate_left(fastrand::usize(..set.len()));
    }
}

/// An RRset of addresses within a message: records of the same length, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rotation {
    start: u16,
    /// Octets of each of them.
    record: u16,
    /// Two at least.
    count: u16,
}

impl Rotation {
    /// The last RRset of two addresses or more in the answer section of a message, when it can be turned without a change of
    /// anything else: its owners are pointers to what stands before it, and nothing behind it points at its data.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        if Header::of(message)?.count(Section::Answer) < 2 {
            return None;
        }
        let places: Vec<RecordPlace> = records(message).ok()?.collect::<Result<_, _>>().ok()?;
        // What is signed passes as it is: who asks for signatures compares.
        if places.iter().any(|place| place.record_type.is_proof()) {
            return None;
        }
        // Owner, type and class; a name of two octets is a pointer.
        let head = |place: &RecordPlace| message.get(place.owner.start..place.ttl_at());
        let can_turn =
            |place: &RecordPlace| place.section == Section::Answer && is_address(place.record_type) && place.owner.len() == 2;
        let last = places.iter().rposition(can_turn)?;
        let is_of_it = |place: &RecordPlace| can_turn(place) && head(place) == head(&places[last]);
        let first = places[..last].iter().rposition(|place| !is_of_it(place)).map_or(0, |before| before + 1);
        let (set, behind) = (&places[first..=last], &places[last + 1..]);
        let is_alone = behind.iter().all(|place| place.is_opt() && place.owner.len() == 1);
        if set.len() < 2 || !is_alone && is_read_by_others(message, set, first..=last) {
            return None;
        }
        let start = set[0].owner.start;
        let record = set[0].data.end - start;
        Some(Self {
            start: u16::try_from(start).ok()?,
            record: u16::try_from(record).ok()?,
            count: u16::try_from(set.len()).ok()?,
        })
    }

    /// Puts the records of the message into another order; each of them is as likely to be the first.
    pub(super) fn turn(self, message: &mut [u8]) {
        let [start, record, count] = [self.start, self.record, self.count].map(usize::from);
        if let Some(set) = message.get_mut(start..start + record * count) {
            set.rotate_left(record * fastrand::usize(..count));
        }
    }
}

/// Does anything else say something else when the data of these answers is other data? A name may point anywhere before it.
fn is_read_by_others(message: &[u8], set: &[RecordPlace], answers: std::ops::RangeInclusive<usize>) -> bool {
    let mut other = message.to_vec();
    for octet in set.iter().flat_map(|place| place.data.clone()) {
        other[octet] = !other[octet];
    }
    let without = |message: &[u8]| {
        let mut message = Message::parse(message).ok()?;
        message.answers.drain(answers.clone());
        Some(message)
    };
    let (as_it_is, as_it_could_be) = (without(message), without(&other));
    as_it_is.is_none() || as_it_is != as_it_could_be
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, Query, Question, RData, Rcode};

    fn message(addresses: &[[u8; 4]]) -> Message {
        let question = Question { name: "www.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let mut message = Query::of(question.clone()).response(Rcode::NOERROR);
        let records = addresses.iter().map(|address| Record::address(question.name.clone(), 60, (*address).into()));
        message.answers.extend(records);
        message
    }

    #[test]
    fn rfc1794_each_address_of_a_message_is_the_first_as_often() {
        let alias = Record::new("www.example.net".parse().unwrap(), 60, RData::Cname("a.example.net".parse().unwrap()));
        let mut message = message(&[[192, 0, 2, 1], [192, 0, 2, 2], [192, 0, 2, 3]]);
        message.answers.iter_mut().for_each(|record| record.owner = "a.example.net".parse().unwrap());
        message.answers.insert(0, alias);
        let name = "ns.example.net".parse().unwrap();
        message.authorities.push(Record::new("example.net".parse().unwrap(), 60, RData::Ns(name)));
        message.edns = Some(Edns::new(1232));
        let octets = message.compose(true);
        let rotation = Rotation::of(&octets).unwrap();
        let mut firsts = [0; 3];
        for _ in 0..3_000 {
            let mut turned = octets.clone();
            rotation.turn(&mut turned);
            let mut turned = Message::parse(&turned).unwrap();
            let RData::A(address) = turned.answers[1].data else { panic!("{turned:?}") };
            firsts[usize::from(address.octets()[3]) - 1] += 1;
            turned.answers[1..].rotate_right(usize::from(address.octets()[3]) - 1);
            assert_eq!(turned, message, "the same but for the order");
        }
        // 1,000 each but for chance: a deviation of ten times its usual size is none.
        assert!(firsts.iter().all(|count| (740..1_260).contains(count)), "{firsts:?}");
    }

    #[test]
    fn what_others_read_is_not_turned() {
        assert_eq!(Rotation::of(&message(&[[192, 0, 2, 1]]).compose(true)), None);
        assert_eq!(Rotation::of(&message(&[[192, 0, 2, 1], [192, 0, 2, 2]]).compose(false)), None, "owners are no pointers");
        let mut octets = message(&[[1, b'a', 0, 0], [1, b'b', 0, 0]]).compose(true);
        assert!(Rotation::of(&octets).is_some());
        // An NS record behind it whose owner is the name that the first address looks like, and one that reads a length and on.
        for back in [4, 5] {
            let mut pointing = octets.clone();
            let data = u16::try_from(octets.len() - 16 - back).unwrap();
            pointing[9] = 1;
            pointing.extend((0xc000 | data).to_be_bytes());
            pointing.extend([0, 2, 0, 1, 0, 0, 0, 60, 0, 1, 0]);
            assert!(Message::parse(&pointing).is_ok() || back == 5, "{back}");
            assert_eq!(Rotation::of(&pointing), None, "{back}");
        }
        octets.pop();
        assert_eq!(Rotation::of(&octets), None);
    }
}
