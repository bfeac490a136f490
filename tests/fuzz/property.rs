//! What must hold for any octets at all. Shared with the coverage-guided target in `fuzz/`.

use rollcall::dns::{EdnsOption, Message, Query, Reject, has_option, option, pad};

/// Panics when the wire code breaks a promise about `octets`.
pub(crate) fn holds(octets: &[u8]) {
    let message = Message::parse(octets);
    if let Ok(message) = &message {
        for compress in [true, false] {
            survives(message, compress);
        }
    }
    pads(octets, message.as_ref().ok());
    match Query::parse(octets) {
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
            // A header and one question, however little of it the sender wrote out: a pointer may stand for a whole name.
            assert!(reply.compose(true).len() <= Message::HEADER + 255 + 4, "an error does not amplify");
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
