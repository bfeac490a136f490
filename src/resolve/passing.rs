//! What a forwarder may change of what passes through it, and what it says itself when it has nothing to pass on
//! (RFC 5625): a query on its way to an upstream, and its answer on the way back.

use std::time::Instant;

use crate::dns::{
    Edns, ExtendedError, Extras, Flags, Header, Message, Query, Rcode, RecordPlace, Section, Type, drop_options, extras,
    make_opt_ours, question, records,
};
use crate::limits;
use crate::resolve::Room;
use crate::resolve::cache::{Entry, HOP_BY_HOP, patch};
use crate::resolve::dnssec::drop_proofs;

/// Why there is no answer, when nobody gave one.
pub const SILENCE: &str = "no upstream answered in time";
/// Why an alias of ours has no answer.
pub const ROUND: &str = "its aliases go round in a circle, or are too many";
/// Why we turn a question away whose answer is ours (RFC 8914, 4.22).
pub const OTHER_CLASS: (ExtendedError, &str) = (ExtendedError::NotSupported, "nothing but class IN is answered here");
pub const OTHER_VERSION: (ExtendedError, &str) = (ExtendedError::NotSupported, "EDNS is spoken here in version 0");
pub const NO_DATA_TYPE: (ExtendedError, &str) =
    (ExtendedError::NotSupported, "zones are not transferred, and this type has no other data");

/// The query as it goes upstream: the client's flags and options, but for those that concern only its own hop, and with
/// the payload size that we take.
pub fn passed_on(query: &Query) -> Vec<u8> {
    onward(query).compose()
}

/// The same with no more in it than others who ask the same can share: RD, AD and CD are all that a query says by its flags
/// (RFC 1035, 4.1.1), and an upstream that stumbles over another would answer all of them with an error.
pub fn onward(query: &Query) -> Query {
    let Flags { recursion_desired, authentic_data, checking_disabled, .. } = query.flags;
    let mut query = query.clone();
    query.flags = Flags { recursion_desired, authentic_data, checking_disabled, ..Flags::default() };
    if let Some(edns) = &mut query.edns {
        edns.udp_size = limits::UDP_PAYLOAD;
        edns.options.retain(|option| !HOP_BY_HOP.contains(&option.code));
    }
    query
}

/// The query with which all comes that proves the answer, whatever the upstream itself thinks of it (RFC 6840, 5.9).
pub fn with_proofs(query: &Query) -> Query {
    let mut query = query.clone();
    query.edns.get_or_insert_with(|| Edns::new(limits::UDP_PAYLOAD)).dnssec_ok = true;
    query.flags.checking_disabled = true;
    query
}

/// Is who asks to get the records that prove an answer (RFC 4035, 3.2.1)?
pub fn wants_proofs(qtype: Type, dnssec_ok: bool) -> bool {
    dnssec_ok || qtype.is_proof()
}

/// An upstream's answer with what some of them leave out: the question, without which stub resolvers pass an answer over,
/// and the OPT record that is due to whoever sent one (RFC 6891, 6.1.1). Without what some of them add, proofs that nobody
/// asked for.
pub fn completed(mut answer: Vec<u8>, query: &Query) -> Vec<u8> {
    let Ok(Extras { opt, has_proofs, .. }) = extras(&answer) else { return answer };
    let qtype = query.question.qtype;
    let has_unasked = has_proofs && !wants_proofs(qtype, query.edns.as_ref().is_some_and(|edns| edns.dnssec_ok));
    let has_question = Header::of(&answer).is_some_and(|header| header.count(Section::Question) > 0);
    if has_question && opt.is_some() == query.edns.is_some() && !has_unasked {
        return answer;
    }
    let Ok(mut message) = Message::parse(&answer) else { return answer };
    if has_unasked {
        drop_proofs(&mut message, qtype);
        answer = message.compose(true);
    }
    if message.questions.is_empty() {
        let recursion_available = message.flags.recursion_available;
        let mut whole = query.response(message.rcode);
        whole.flags.recursion_available = recursion_available;
        whole.edns = message.edns.or_else(|| own_edns(query)).filter(|_| query.edns.is_some());
        return whole.compose(true);
    }
    if query.edns.is_none() && message.edns.is_some() {
        // Who sent no OPT record gets none (RFC 6891, 7).
        return Message { edns: None, ..message }.compose(true);
    }
    if let Some(edns) = own_edns(query).filter(|_| message.edns.is_none()) {
        add_edns(&mut answer, edns.dnssec_ok);
    }
    answer
}

/// Makes of an upstream's reply one of our own hop: its OPT record speaks for us, is the last one, and says nothing of the
/// upstream's (RFC 6891, 6.1.1). `dnssec_ok` is DO of the query. What is signed stays as it is.
pub fn of_our_hop(reply: &mut Vec<u8>, dnssec_ok: bool) {
    let Ok(Extras { opt: Some(opt), is_signed: false, .. }) = extras(reply) else { return };
    let mut class_at = opt.class_at();
    if opt.data.end != reply.len() {
        let Ok(message) = Message::parse(reply) else { return };
        *reply = message.compose(true);
        class_at = extras(reply).ok().and_then(|extras| extras.opt).map_or(class_at, |opt| opt.class_at());
    }
    drop_options(reply, &HOP_BY_HOP);
    make_opt_ours(reply, class_at, limits::UDP_PAYLOAD, dnssec_ok);
}

/// Takes the AD bit from a message.
pub fn clear_ad(message: &mut [u8]) {
    if let Some(octet) = message.get_mut(3) {
        *octet &= !0x20;
    }
}

/// Adds our OPT record to an answer that has none. It goes behind all other records, where it changes no octet of theirs:
/// data of types that we do not know may hold pointers.
pub fn add_edns(answer: &mut Vec<u8>, dnssec_ok: bool) {
    if let Some(count) = answer.get_mut(10..12).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *count = u16::from_be_bytes(*count).saturating_add(1).to_be_bytes();
        answer.extend(Edns::bare(limits::UDP_PAYLOAD, dnssec_ok));
    }
}

/// Our OPT record, for clients that sent one: of an answer that is ours, or has none of an upstream's (RFC 6891, 6.1.1 and 7).
pub fn own_edns(query: &Query) -> Option<Edns> {
    query.edns.as_ref().map(|edns| Edns { dnssec_ok: edns.dnssec_ok, ..Edns::new(limits::UDP_PAYLOAD) })
}

/// Writes an answer that is kept, as much of it as the client takes; `octets` are the query's own.
pub fn write_kept(entry: &Entry, query: &Query, octets: &[u8], room: Room, now: Instant, out: &mut Vec<u8>) {
    if entry.size() <= room.octets(query.payload_size()) {
        return entry.write(octets, now, out);
    }
    let mut whole = Vec::new();
    entry.write(octets, now, &mut whole);
    out.extend(truncated(query, &whole, room.octets(query.payload_size())));
}

/// As much of an answer as has room, marked as a part, so that the client asks again over TCP (RFC 2181, 9): the first records
/// of its answer section, since there are stub resolvers that cannot do that and take what comes (musl's before 1.2.4). Of an
/// empty one nothing but the question.
pub fn truncated(query: &Query, whole: &[u8], room: usize) -> Vec<u8> {
    let header = Header::of(whole);
    let mut message = query.response(header.map_or(Rcode::NOERROR, Header::rcode));
    message.flags.truncated = true;
    message.flags.authoritative = header.is_some_and(|header| header.flags().authoritative);
    message.flags.recursion_available = header.is_none_or(|header| header.flags().recursion_available);
    let edns = own_edns(query);
    let room = room.saturating_sub(edns.as_ref().map_or(0, |_| Edns::BARE));
    let mut octets = message.compose(true);
    // Names point to names before them, and to the question where it was.
    if question(whole).is_some_and(|question| Message::HEADER + question.len() == octets.len()) {
        let places = records(whole).into_iter().flatten().map_while(Result::ok);
        let fits = |place: &RecordPlace| place.section == Section::Answer && place.data.end <= room;
        let (count, end) = places.take_while(fits).fold((0u16, 0), |(count, _), place| (count + 1, place.data.end));
        octets.extend(whole.get(octets.len()..end).unwrap_or_default());
        if let Some(place) = octets.get_mut(6..8) {
            place.copy_from_slice(&count.to_be_bytes());
        }
    }
    if let Some(edns) = edns {
        add_edns(&mut octets, edns.dnssec_ok);
    }
    octets
}

/// An answer as this client may have it: its id, its question, its size. `octets` are the query's own.
pub fn fitted(query: &Query, octets: &[u8], answer: &[u8], room: Room) -> Vec<u8> {
    let room = room.octets(query.payload_size());
    if answer.len() > room {
        return truncated(query, answer, room);
    }
    let mut answer = answer.to_vec();
    patch(&mut answer, octets);
    answer
}

/// A kept answer that is past its time, and says so to whoever can read it.
pub fn stale(entry: &Entry, query: &Query, octets: &[u8], room: Room, now: Instant) -> Vec<u8> {
    let mut answer = Vec::new();
    entry.write(octets, now, &mut answer);
    if query.edns.is_some()
        && let Ok(mut message) = Message::parse(&answer)
    {
        // RFC 8914, 4.4 and 4.20.
        let stale = if message.rcode == Rcode::NXDOMAIN { ExtendedError::StaleNxdomain } else { ExtendedError::StaleAnswer };
        message.give_reason(stale, SILENCE);
        answer = message.compose(true);
    }
    fitted(query, octets, &answer, room)
}

/// SERVFAIL, with the reason for those who can read it.
pub fn failure(query: &Query, reason: Option<(ExtendedError, &str)>) -> Vec<u8> {
    let mut message = query.response(Rcode::SERVFAIL);
    message.flags.recursion_available = true;
    message.edns = query.edns.as_ref().map(|edns| match reason {
        Some((code, reason)) => {
            Edns { dnssec_ok: edns.dnssec_ok, options: vec![code.to_option(reason)], ..Edns::new(limits::UDP_PAYLOAD) }
        }
        None => Edns { options: Vec::new(), dnssec_ok: false, ..Edns::new(edns.udp_size) },
    });
    message.compose(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Question, Record, Type};

    #[test]
    fn rfc2181_9_what_fits_is_given_and_told_to_be_a_part() {
        let question = Question { name: "WWW.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        let plain = Query::of(question.clone());
        let asks = [plain.clone(), Query { edns: Some(Edns { dnssec_ok: true, ..Edns::new(1232) }), ..plain }];
        let mut whole = asks[1].response(Rcode::NOERROR);
        whole.questions[0].name = question.name.to_lowercase();
        whole.flags.recursion_available = true;
        whole.edns = Some(Edns::new(1232));
        whole.answers = (0..200).map(|n| Record::address(question.name.clone(), 60, [192, 0, 2, n].into())).collect();
        whole.authorities = vec![whole.answers[0].clone()];
        let octets = whole.compose(true);
        for (query, room) in [(&asks[0], 512), (&asks[1], 512), (&asks[1], 1232), (&asks[0], 33)] {
            let cut = truncated(query, &octets, room);
            let message = Message::parse(&cut).unwrap();
            // Each is a pointer, a type, a class, a TTL, a length and an address.
            let rest = room - (33 + if query.edns.is_some() { 11 } else { 0 });
            assert!(cut.len() <= room && message.flags.truncated && message.flags.recursion_available);
            assert_eq!((message.answers.len(), message.authorities.len()), (rest / 16, 0), "{room}");
            assert_eq!(message.questions[0].name.wire(), question.name.wire(), "as this client wrote it");
            assert_eq!(message.answers, whole.answers[..rest / 16]);
            assert_eq!(message.edns.is_some_and(|edns| edns.dnssec_ok), query.edns.is_some());
        }
        let nothing = Message::parse(&truncated(&asks[0], &[], 512)).unwrap();
        assert!(nothing.flags.truncated && nothing.answers.is_empty() && nothing.rcode == Rcode::NOERROR);
    }
}
