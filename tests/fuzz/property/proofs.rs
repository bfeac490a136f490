//! What is to prove an answer: it is cut into steps that lead somewhere and are bounded, what is wrong with it is told, and
//! what a client is given of it can be written and read. And trust anchors, as they are written.

use rollcall::dns::{Edns, Message, Query};
use rollcall::resolve::dnssec::{Anchor, given, links};

/// A time within which signatures of the corpus begin or end.
const NOW: u32 = 1_800_000_000;

pub(crate) fn holds(octets: &[u8]) {
    if let Ok(text) = std::str::from_utf8(octets) {
        let (anchors, wrong) = Anchor::read_all(text);
        assert!(anchors.len() + wrong.len() <= text.lines().count());
    }
    let Ok(message) = Message::parse(octets) else { return };
    let [question] = &message.questions[..] else { return };
    let query = Query { edns: Some(Edns { dnssec_ok: true, ..Edns::new(1232) }), ..Query::of(question.clone()) };
    let steps = links(&message);
    for link in steps.iter().flatten() {
        let _ = (link.fault(NOW), link.left(NOW));
    }
    for proved in [None, steps.as_deref()] {
        let told = given(message.clone(), proved, &query, NOW);
        assert!(told.answers.len() <= message.answers.len() && told.authorities.len() <= message.authorities.len());
        let written = told.compose(true);
        assert!(written.len() > Message::MAX || Message::parse(&written).is_ok(), "it can be read again");
    }
}
