//! Signatures (RRSIG; RFC 4034, 3), read as far as what they are about and when they hold.

use super::{Name, RData, Reader, Record, Type};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The type of the records that are signed.
    pub covered: Type,
    /// Labels of the name that was signed, without a `*` (3.1.3).
    pub labels: u8,
    /// Seconds.
    pub original_ttl: u32,
    /// Seconds since 1970, modulo 2^32 (3.1.5).
    pub expiration: u32,
    pub inception: u32,
    /// The apex of the zone whose key has signed.
    pub signer: Name,
}

impl Signature {
    /// `None` for what is no signature.
    pub fn of(record: &Record) -> Option<Self> {
        let RData::Opaque { record_type: Type::RRSIG, octets } = &record.data else { return None };
        let mut reader = Reader::new(octets, 0);
        let what = "a signature";
        let covered = Type(reader.u16(what).ok()?);
        let [_, labels] = *reader.bytes(2, what).ok()? else { return None };
        let (original_ttl, expiration) = (reader.u32(what).ok()?, reader.u32(what).ok()?);
        let inception = reader.u32(what).ok()?;
        reader.u16(what).ok()?;
        Some(Self { covered, labels, original_ttl, expiration, inception, signer: reader.name().ok()? })
    }

    /// Seconds that it still holds; none when it has expired. Times are compared as RFC 1982 says.
    pub fn left(&self, now: u32) -> Option<u32> {
        u32::try_from(self.expiration.wrapping_sub(now) as i32).ok()
    }

    /// Does it begin to hold only later?
    pub fn is_ahead(&self, now: u32) -> bool {
        (now.wrapping_sub(self.inception) as i32) < 0
    }
}
