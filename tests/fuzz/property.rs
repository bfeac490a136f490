//! What must hold for any octets at all. Shared with the coverage-guided target in `fuzz/`.

use rollcall::dns::{Message, Query, Reject};

/// Panics when the wire code breaks a promise about `octets`.
pub(crate) fn holds(octets: &[u8]) {
    let message = Message::parse(octets);
    if let Ok(message) = &message {
        for compress in [true, false] {
            survives(message, compress);
        }
    }
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

/// Composed and read again, the message is the same.
fn survives(message: &Message, compress: bool) {
    let composed = message.compose(compress);
    match Message::parse(&composed) {
        Ok(again) => assert_eq!(&again, message, "composed (compress: {compress}) as {composed:02x?}"),
        Err(error) => panic!("{error}: {message:?} was composed (compress: {compress}) as {composed:02x?}"),
    }
}
