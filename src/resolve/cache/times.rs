//! How long a response may be kept, by itself.

use crate::dns::{Header, Rcode, RecordPlace, Section, Type, question, records};

/// A type that stands for no data of its own (RFC 6895, 3.1): what comes of asking for it is nothing to keep.
fn is_meta(qtype: Type) -> bool {
    qtype == Type::OPT || (128..=255).contains(&qtype.0)
}

/// How long a response may be kept, by itself.
pub(super) struct Times {
    /// Where the TTLs of all records stand, but the OPT record's, which is none.
    pub(super) places: Vec<u16>,
    /// The least of them.
    pub(super) least: Option<u32>,
    /// The records of one RRset have different ones, which is wrong (RFC 2181, 5.2): then the least counts for all.
    pub(super) is_uneven: bool,
    /// What counts for a negative answer: the lesser of the SOA record's TTL and its MINIMUM, and no more than the aliases'
    /// that lead there (RFC 2308, 5).
    pub(super) negative: Option<u32>,
}

impl Times {
    /// Reads a whole response, its octets once and without making records of them. `None` for what may not be kept: what is
    /// truncated, an error, or negative without an SOA record.
    pub(super) fn read(octets: &[u8]) -> Option<Self> {
        let header = Header::of(octets)?;
        let rcode = header.rcode();
        if header.flags().truncated || ![Rcode::NOERROR, Rcode::NXDOMAIN].contains(&rcode) {
            return None;
        }
        let qtype = match question(octets)? {
            [.., high, low, _, _] => Type(u16::from_be_bytes([*high, *low])),
            _ => return None,
        };
        if is_meta(qtype) || header.count(Section::Question) != 1 {
            return None;
        }
        let mut times = Self { places: Vec::new(), least: None, is_uneven: false, negative: None };
        let (mut is_answered, mut aliases, mut before) = (false, u32::MAX, None);
        for place in records(octets).ok()? {
            let place = place.ok()?;
            let RecordPlace { section, record_type, ttl, .. } = place;
            if record_type == Type::OPT {
                // The upper bits of the RCODE stand where others have their TTL (RFC 6891, 6.1.3).
                if ttl >> 24 != 0 {
                    return None;
                }
            } else {
                times.places.push(u16::try_from(place.ttl_at()).ok()?);
                times.least = Some(times.least.map_or(ttl, |least| least.min(ttl)));
                let set = Some((octets.get(place.owner)?, record_type));
                // Signatures at one name are of several sets.
                let is_same = set == before.map(|(set, _)| set) && record_type != Type::RRSIG;
                times.is_uneven |= is_same && before.is_some_and(|(_, other)| other != ttl);
                before = set.map(|set| (set, ttl));
            }
            if section == Section::Answer {
                is_answered |= record_type == qtype || qtype == Type::ANY;
                aliases = aliases.min(ttl);
            } else if section == Section::Authority && record_type == Type::SOA && times.negative.is_none() {
                // MINIMUM stands last.
                let minimum = octets.get(place.data)?.last_chunk()?;
                times.negative = Some(ttl.min(u32::from_be_bytes(*minimum)));
            }
        }
        if rcode == Rcode::NOERROR && is_answered {
            times.negative = None;
        } else {
            times.negative = Some(times.negative?.min(aliases));
        }
        Some(times)
    }
}
