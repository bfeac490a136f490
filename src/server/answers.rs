//! Answers of our own, refusals and errors; and others' answers, cut to what has room.

use std::time::Instant;

use super::clients::Standing;
use super::setup::Setup;
use crate::dns::{Class, ExtendedError, Message, PlainQuery, Query, Question, RData, Rcode, Record, Type};
use crate::resolve::Room;
use crate::resolve::answer::Client;
use crate::resolve::cache::{self, Entry};
use crate::resolve::passing::{own_edns, truncated};

/// Tells a client that it asks too often. Over UDP its address may be forged: it gets no more octets than it sent, and is
/// asked to come by TCP, where it is counted by itself, so that nobody who forges addresses can silence their owners.
pub(super) fn hold_back(setup: &Setup, query: &Query, client: Client, out: &mut Vec<u8>) {
    setup.clients.tell_of_haste(client.address);
    let message = match client.room {
        Room::Datagram => {
            let mut message = error(query, Rcode::NOERROR, None);
            message.flags.truncated = true;
            message
        }
        Room::Stream => error(query, Rcode::REFUSED, Some((ExtendedError::Other, "more queries than clients.rate allows"))),
    };
    out.extend(message.compose(true));
}

/// Tells a client that it may not ask for this.
pub(super) fn refuse(setup: &Setup, query: &Query, client: Client, standing: Standing, out: &mut Vec<u8>) {
    setup.clients.tell_of_refusal(client.address, standing);
    out.extend(error(query, Rcode::REFUSED, Some((ExtendedError::Prohibited, standing.reason()))).compose(true));
}

/// What a server is called, and what it is, in class CH (RFC 4892; BIND has the older names).
const ID_NAMES: [&str; 2] = ["id.server.", "hostname.bind."];
const VERSION_NAMES: [&str; 2] = ["version.server.", "version.bind."];

/// The answer to who asks in class CH which server he asks: what we call ourselves, if anything, and never our version. It is
/// about who is asked, so that no other server is.
pub(super) fn identity(query: &Query, nsid: Option<&str>) -> Option<Message> {
    let Question { name, qtype, qclass } = &query.question;
    if *qclass != Class::CH {
        return None;
    }
    let text = name.to_lowercase().to_string();
    let is_id = ID_NAMES.contains(&&*text);
    if !is_id && !VERSION_NAMES.contains(&&*text) {
        return None;
    }
    let Some(nsid) = nsid.filter(|_| is_id) else {
        return Some(error(query, Rcode::REFUSED, Some((ExtendedError::Prohibited, "this server does not say so"))));
    };
    let mut message = query.response(Rcode::NOERROR);
    message.flags.authoritative = true;
    message.edns = own_edns(query);
    if [Type::TXT, Type::ANY].contains(qtype) {
        let data = RData::Txt(vec![nsid.as_bytes().into()]);
        message.answers.push(Record { class: Class::CH, ..Record::new(name.clone(), 0, data) });
    }
    Some(message)
}

/// Writes what an upstream said to a plain query over UDP: `reply`, which is `kept` if it may be. `octets` are the query's.
pub(super) fn pass_on(kept: Option<&Entry>, reply: &[u8], octets: &[u8], now: Instant, out: &mut Vec<u8>) {
    let Some(plain) = PlainQuery::parse(octets) else { return };
    let room = Room::Datagram.octets(plain.payload_size());
    // With the TTLs that the next client gets.
    let whole = kept.map_or(reply, Entry::octets);
    if whole.len() > room {
        if let Ok(query) = Query::parse(octets) {
            out.extend(truncated(&query, whole, room));
        }
        return;
    }
    match kept {
        // It comes near when it is asked for again.
        Some(entry) => entry.write(octets, now, out),
        None => {
            out.extend_from_slice(reply);
            cache::patch(out, octets);
        }
    }
}

/// Writes a message, or as much of it as has room.
pub(super) fn fit(message: Message, query: &Query, room: Room, out: &mut Vec<u8>) {
    let (octets, room) = (message.compose(true), room.octets(query.payload_size()));
    out.extend(if octets.len() <= room { octets } else { truncated(query, &octets, room) });
}

/// An answer without data, with the reason for those who can read it (RFC 8914).
pub(super) fn error(query: &Query, rcode: Rcode, reason: Option<(ExtendedError, &str)>) -> Message {
    let mut message = query.response(rcode);
    // Consul's REFUSED has no OPT record, and no RA.
    if rcode != Rcode::REFUSED || reason.is_some() {
        message.edns = own_edns(query);
    }
    if let Some((code, text)) = reason {
        message.give_reason(code, text);
    }
    message.flags.recursion_available = rcode == Rcode::SERVFAIL;
    message
}
