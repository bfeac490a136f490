//! Octets from anyone: reading them never panics, what was read survives being written and read again, and the short ways
//! of reading say what the general one says.

use rollcall::dns::{
    Class, Edns, EdnsOption, Message, PlainQuery, Query, Reject, Reply, drop_options, has_option, make_opt_ours, option, pad,
    question, rcode,
};
use rollcall::resolve::cache::Key;

/// Panics when the wire code breaks a promise about `octets`.
pub(crate) fn holds(octets: &[u8]) {
    let message = Message::parse(octets);
    if let Ok(message) = &message {
        for compress in [true, false] {
            survives(message, compress);
        }
    }
    pads(octets, message.as_ref().ok());
    drops(octets, message.as_ref().ok());
    is_judged(octets, message.as_ref().ok());
    let _ = Query::parse_as_consul(octets);
    let query = Query::parse(octets);
    if let Some(plain) = PlainQuery::parse(octets) {
        is_plain(&plain, query.as_ref().expect("a plain query is a query"));
    }
    match query {
        Ok(query) => {
            let message = message.expect("a query is a message");
            assert_eq!((query.id, &query.edns), (message.id, &message.edns));
            assert_eq!(message.questions, std::slice::from_ref(&query.question), "exactly the question that was asked");
            let response = query.response(rollcall::dns::Rcode::NOERROR);
            assert!(response.flags.response);
            assert_eq!(response.questions, [query.question]);
            survives(&response, true);
        }
        Err(Reject::Reply(reply)) => {
            assert!(reply.flags.response, "an answer to what may be a response would start a loop");
            survives(&reply, true);
            // A header and one question, however little of it the sender wrote out: a pointer may stand for a whole name. To who
            // sent an OPT record, one with a sentence that says why.
            let why = if reply.edns.is_some() { 11 + 6 + 128 } else { 0 };
            assert!(reply.compose(true).len() <= Message::HEADER + 255 + 4 + why, "an error does not amplify");
        }
        Err(Reject::Ignore) => {}
    }
}

/// Padding changes nothing of a message but that it has one option more, and a multiple of octets.
fn pads(octets: &[u8], message: Option<&Message>) {
    let mut padded = octets.to_vec();
    if !pad(&mut padded, 468) {
        return assert_eq!(padded, octets, "what was not padded is as it was");
    }
    assert!(padded.len().is_multiple_of(468) || padded.len() == Message::MAX, "{} octets", padded.len());
    if let Some(message) = message {
        let mut expected = message.clone();
        let data = vec![0; padded.len() - octets.len() - 4].into();
        if let Some(edns) = &mut expected.edns {
            edns.options.push(EdnsOption { code: option::PADDING, data });
        }
        assert_eq!(Message::parse(&padded).as_ref(), Ok(&expected));
        assert!(has_option(&padded, option::PADDING));
    }
}

/// Composed and read again, the message is the same.
fn survives(message: &Message, compress: bool) {
    let composed = message.compose(compress);
    match Message::parse(&composed) {
        Ok(again) => assert_eq!(&again, message, "composed (compress: {compress}) as {composed:02x?}"),
        Err(error) => panic!("{error}: {message:?} was composed (compress: {compress}) as {composed:02x?}"),
    }
}

/// The short way of reading a query, which the answer path takes, and the general one.
fn is_plain(plain: &PlainQuery<'_>, query: &Query) {
    assert_eq!(plain.name(), query.question.name.to_lowercase().wire());
    assert_eq!((plain.qtype(), Class::IN), (query.question.qtype, query.question.qclass));
    let edns = query.edns.as_ref();
    assert_eq!(plain.edns(), edns.map(|edns| (edns.udp_size, edns.dnssec_ok)));
    let bare = |edns: &Edns| edns.version == 0 && edns.extended_rcode == 0;
    assert!(edns.is_none_or(bare));
    let options: Vec<u16> = edns.into_iter().flat_map(|edns| &edns.options).map(|option| option.code).collect();
    let own: &[u16] = if plain.has_cookie() { &[option::COOKIE] } else { &[] };
    assert_eq!(options, own);
    for group in [0, 7, u16::MAX] {
        assert_eq!(Some(Key::of(plain, group)), Key::new(query, group));
    }
    assert_eq!(query.compose(), plain.octets(), "nothing is in it that is not in the query");
}

/// The short way of judging a reply, and the general one.
fn is_judged(octets: &[u8], message: Option<&Message>) {
    let Some(asked) = question(octets) else { return };
    let reply = Reply::read(octets, asked);
    if let (Some(reply), Some(message)) = (reply, message) {
        assert!(message.flags.response);
        assert_eq!((reply.rcode, reply.payload_at.is_some()), (message.rcode, message.edns.is_some()));
        // Behind it there may be what points into it.
        if let Some(at) = reply.payload_at.filter(|_| reply.ends_with_edns) {
            let mut ours = octets.to_vec();
            make_opt_ours(&mut ours, at, 4321, true);
            let own = |edns: Edns| Edns { udp_size: 4321, version: 0, dnssec_ok: true, ..edns };
            assert_eq!(Message::parse(&ours).map(|ours| ours.edns), Ok(message.edns.clone().map(own)));
        }
        assert_eq!(reply.has_question, !message.questions.is_empty());
    }
    assert_eq!(rcode(octets), message.map(|message| message.rcode), "what is malformed is so for both");
    let mut cut = octets.to_vec();
    if let Some((read, length)) = Reply::read_datagram(&mut cut, asked) {
        assert_eq!(Reply::read(&cut[..length], asked), Some(read));
        assert!(length == octets.len() || Message::parse(&cut[..length]).is_ok_and(|message| message.flags.truncated));
    }
}

/// Without the options of one hop the message is the same, and none of them is left.
fn drops(octets: &[u8], message: Option<&Message>) {
    let mut dropped = octets.to_vec();
    drop_options(&mut dropped, &[option::PADDING, option::COOKIE]);
    let once = dropped.clone();
    drop_options(&mut dropped, &[option::PADDING, option::COOKIE]);
    assert_eq!(dropped, once);
    if let Some(message) = message.filter(|_| once != octets) {
        let mut expected = message.clone();
        let edns = expected.edns.as_mut().expect("it had options");
        edns.options.retain(|option| ![option::PADDING, option::COOKIE].contains(&option.code));
        assert_eq!(Message::parse(&once).as_ref(), Ok(&expected));
    }
}
