//! What is the answer? The way from a question to a message.
//!
//! Start with [`answer`]: the discovery domain, from a snapshot of the catalog alone.

pub mod answer;
pub mod block;
pub mod cache;
pub mod dnssec;
pub mod domains;
pub mod failures;
pub mod filter;
pub mod forward;
pub mod local;
pub mod passing;
mod presentation;
pub mod rewrite;
mod room;
mod rotation;
pub mod route;
pub mod zone;

pub use room::Room;

use crate::dns::{Message, Name, RData, Rcode, Type};

/// Where the aliases of a message lead, when it does not say what is there: a client's stub resolver expects the whole
/// chain (RFC 1034, 5.2.2), so whoever answers goes on to ask for this name.
pub fn open_alias(message: &Message) -> Option<Name> {
    let question = message.questions.first()?;
    if message.rcode != Rcode::NOERROR || [Type::CNAME, Type::ANY].contains(&question.qtype) {
        return None;
    }
    match &message.answers.last()?.data {
        RData::Cname(target) if !message.authorities.iter().any(|record| record.record_type() == Type::SOA) => {
            Some(target.clone())
        }
        _ => None,
    }
}
