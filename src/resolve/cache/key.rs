//! What an answer is found by.

use std::borrow::Borrow;
use std::ops::Deref;
use std::sync::Arc;

use crate::dns::{Asking, Class, Header, PlainQuery, Query, Question, Type, option, question};

/// What an entry is found by: the question in lower case, the client's EDNS, DO, CD, AD (RFC 6840, 5.7) and RD, and the
/// group of upstreams asked, since each of them changes the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key(pub(super) Arc<[u8]>);

impl Key {
    /// `None` for queries whose answers are not to be shared: those with options that say something of the client.
    pub fn new(query: &Query, group: u16) -> Option<Self> {
        let edns = query.edns.as_ref();
        let shared = edns.is_none_or(|edns| edns.options.iter().all(|option| HOP_BY_HOP.contains(&option.code)));
        shared.then(|| Self::build(&query.question, Asking::of(query), group))
    }

    /// The same of a plain query.
    pub fn of(query: &PlainQuery<'_>, group: u16) -> Self {
        Self(query.name().iter().copied().chain(Behind::of(query, group).to_octets()).collect())
    }

    /// What the failures of a question are remembered by whose answers are not shared.
    pub fn apart(query: &Query, group: u16) -> Self {
        let asking = Asking(Asking::of(query).0 | APART);
        Self::build(&query.question, asking, group)
    }

    fn build(question: &Question, asking: Asking, group: u16) -> Self {
        let name = question.name.wire().iter().map(u8::to_ascii_lowercase);
        let behind = Behind { qtype: question.qtype, qclass: question.qclass, asking, group };
        Self(name.chain(behind.to_octets()).collect())
    }

    /// The name in wire form and lower case, and what stands behind it.
    pub(super) fn parts(&self) -> (&[u8], Behind) {
        let (name, rest) = self.0.split_last_chunk::<BEHIND>().unwrap_or((&[], &[0; BEHIND]));
        (name, Behind::read(*rest))
    }

    /// Is this message a response to its question?
    pub(super) fn is_answered_by(&self, octets: &[u8]) -> bool {
        let (name, Behind { qtype, qclass, .. }) = self.parts();
        let kind = [qtype.0, qclass.0].map(u16::to_be_bytes);
        let own = question(octets).and_then(|question| question.split_last_chunk::<4>());
        own.is_some_and(|(own, kind_of)| own.eq_ignore_ascii_case(name) && kind_of[..] == *kind.as_flattened())
            && Header::of(octets).is_some_and(|header| header.flags().response)
    }

    /// What the non-existence of its name is found by, of whatever type it was told.
    pub(super) fn denial(&self) -> Like {
        self.like(|own| Behind { qtype: Type(0), asking: Asking(own.asking.0 | DENIAL), ..own })
    }

    /// What its failures are found by: the question, and who is asked (RFC 9520, 3.2), whatever else a query says.
    pub(in crate::resolve) fn question(&self) -> Like {
        self.like(|own| Behind { asking: Asking(own.asking.0 & APART), ..own })
    }

    /// The type that is asked for.
    pub fn qtype(&self) -> Type {
        self.parts().1.qtype
    }

    /// What a query says besides its question.
    pub fn asking(&self) -> Asking {
        self.parts().1.asking
    }

    /// The key of the same name with something else behind it.
    fn like(&self, change: impl FnOnce(Behind) -> Behind) -> Like {
        let mut octets = [0; KEY_MAX];
        let start = KEY_MAX - self.0.len().min(KEY_MAX);
        if let (Some(place), Some(own)) = (octets.get_mut(start..), self.0.get(..KEY_MAX - start)) {
            place.copy_from_slice(own);
        }
        if let Some(behind) = octets.last_chunk_mut::<BEHIND>() {
            *behind = change(Behind::read(*behind)).to_octets();
        }
        Like { octets, start }
    }

    pub(super) fn is_denial(&self) -> bool {
        self.parts().1.asking.0 & DENIAL != 0
    }

    /// Is it that of this query, whatever the group?
    pub(super) fn is_of(&self, query: &PlainQuery<'_>) -> bool {
        let [own @ .., _, _] = Behind::of(query, 0).to_octets();
        matches!(self.0.split_last_chunk::<BEHIND>(), Some((name, [rest @ .., _, _])) if *rest == own && name == query.name())
    }
}

/// The octets of a key, made where no allocation is to be.
pub(in crate::resolve) struct Like {
    octets: [u8; KEY_MAX],
    start: usize,
}

impl Deref for Like {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Octets behind the name, and of a longest key.
pub(super) const BEHIND: usize = 7;
pub(super) const KEY_MAX: usize = 255 + BEHIND;
/// Among the bits of [`Asking`], that a key is of a name that does not exist. No query has it.
const DENIAL: u8 = 1 << 7;
/// The same of what is asked for one client alone.
const APART: u8 = 1 << 6;

/// What a key says besides the name.
pub(super) struct Behind {
    pub(super) qtype: Type,
    pub(super) qclass: Class,
    pub(super) asking: Asking,
    pub(super) group: u16,
}

impl Behind {
    fn of(query: &PlainQuery<'_>, group: u16) -> Self {
        Self { qtype: query.qtype(), qclass: Class::IN, asking: query.asking(), group }
    }

    fn to_octets(&self) -> [u8; BEHIND] {
        let [[type_high, type_low], [class_high, class_low], [group_high, group_low]] =
            [self.qtype.0, self.qclass.0, self.group].map(u16::to_be_bytes);
        [type_high, type_low, class_high, class_low, self.asking.0, group_high, group_low]
    }

    /// Reads what [`Behind::to_octets`] wrote.
    fn read([type_high, type_low, class_high, class_low, asking, group_high, group_low]: [u8; BEHIND]) -> Self {
        let [qtype, qclass, group] =
            [[type_high, type_low], [class_high, class_low], [group_high, group_low]].map(u16::from_be_bytes);
        Self { qtype: Type(qtype), qclass: Class(qclass), asking: Asking(asking), group }
    }
}

/// Options that concern one hop only and are not passed on: who answers, cookies, keepalive, padding (RFC 5001, 7873, 7828,
/// 7830), what became of the query, and where the client is, which is nobody's business further on (RFC 7871, 11.1).
pub const HOP_BY_HOP: [u16; 6] =
    [option::NSID, option::CLIENT_SUBNET, option::COOKIE, option::TCP_KEEPALIVE, option::PADDING, option::TRACE];
