//! Resource records.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::{Composer, Name, ParseError, Reader};

/// A record type (RFC 1035, 3.2.2; IANA "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Type(pub u16);

names! {
    Type, "TYPE":
    A = 1, NS = 2, CNAME = 5, SOA = 6, NULL = 10, PTR = 12, HINFO = 13, MX = 15, TXT = 16, SIG = 24, KEY = 25, AAAA = 28,
    SRV = 33, NAPTR = 35, CERT = 37, DNAME = 39, OPT = 41, DS = 43, SSHFP = 44, RRSIG = 46, NSEC = 47, DNSKEY = 48,
    NSEC3 = 50, NSEC3PARAM = 51, TLSA = 52, SMIMEA = 53, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61, CSYNC = 62, SVCB = 64,
    HTTPS = 65, TKEY = 249, TSIG = 250, IXFR = 251, AXFR = 252, ANY = 255, CAA = 257,
}

impl Type {
    /// Do records of this type prove others, and nothing else? Who has not set DO gets them only by asking for them
    /// (RFC 4035, 3.2.1).
    pub fn is_proof(self) -> bool {
        [Self::RRSIG, Self::NSEC, Self::NSEC3].contains(&self)
    }
}

impl std::str::FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((value, _)) = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let number = text.split_at_checked(4).filter(|(word, _)| word.eq_ignore_ascii_case("TYPE"));
        let number = number.and_then(|(_, number)| number.parse().ok());
        number.map(Type).ok_or_else(|| format!("expected a record type such as A, SRV or TYPE65280, got {text:?}"))
    }
}

/// A record class (RFC 1035, 3.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class(pub u16);

impl Class {
    pub const IN: Class = Class(1);
    pub const CH: Class = Class(3);
    pub const ANY: Class = Class(255);
}

/// One resource record. An RRset is the records of one owner, class and type, all with one TTL (RFC 2181, 5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub owner: Name,
    pub class: Class,
    /// Seconds.
    pub ttl: u32,
    pub data: RData,
}

impl Record {
    /// A record of class IN.
    pub fn new(owner: Name, ttl: u32, data: RData) -> Self {
        Self { owner, class: Class::IN, ttl, data }
    }

    /// An A or AAAA record, as the address asks for.
    pub fn address(owner: Name, ttl: u32, address: IpAddr) -> Self {
        Self::new(owner, ttl, address.into())
    }

    pub fn record_type(&self) -> Type {
        self.data.record_type()
    }

    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let owner = reader.name()?;
        let record_type = Type(reader.u16("a record")?);
        let class = Class(reader.u16("a record")?);
        let ttl = reader.u32("a record")?;
        let length = usize::from(reader.u16("a record")?);
        let data = RData::parse(reader, record_type, length)?;
        Ok(Self { owner, class, ttl, data })
    }

    /// The record's octets, its owner's name first, without compression.
    pub fn uncompressed(&self) -> Vec<u8> {
        let mut composer = Composer::new(false);
        self.compose(&mut composer);
        composer.into_octets()
    }

    pub(super) fn compose(&self, composer: &mut Composer) {
        composer.name(&self.owner, true);
        composer.u16(self.record_type().0);
        composer.u16(self.class.0);
        composer.u32(self.ttl);
        composer.length_prefixed(|composer| self.data.compose(composer));
    }
}

/// The data of an SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Srv {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: Name,
}

/// The data of an SOA record (RFC 1035, 3.3.13; times in seconds).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Soa {
    pub mname: Name,
    pub rname: Name,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    pub minimum: u32,
}

/// The data of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RData {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ns(Name),
    Cname(Name),
    Ptr(Name),
    Soa(Box<Soa>),
    Mx {
        preference: u16,
        exchange: Name,
    },
    /// Character strings of at most 255 octets.
    Txt(Vec<Box<[u8]>>),
    Srv(Box<Srv>),
    /// Any other type, its RDATA as it came (RFC 3597: no name in it may be compressed).
    Opaque {
        record_type: Type,
        octets: Box<[u8]>,
    },
}

impl From<IpAddr> for RData {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => RData::A(v4),
            IpAddr::V6(v6) => RData::Aaaa(v6),
        }
    }
}

impl RData {
    pub fn record_type(&self) -> Type {
        match self {
            RData::A(_) => Type::A,
            RData::Aaaa(_) => Type::AAAA,
            RData::Ns(_) => Type::NS,
            RData::Cname(_) => Type::CNAME,
            RData::Ptr(_) => Type::PTR,
            RData::Soa(_) => Type::SOA,
            RData::Mx { .. } => Type::MX,
            RData::Txt(_) => Type::TXT,
            RData::Srv(_) => Type::SRV,
            RData::Opaque { record_type, .. } => *record_type,
        }
    }

    /// TXT data of one text, cut into character strings of at most 255 octets.
    pub fn text(text: &[u8]) -> Self {
        let mut strings: Vec<Box<[u8]>> = text.chunks(255).map(Into::into).collect();
        if strings.is_empty() {
            strings.push(Box::default());
        }
        RData::Txt(strings)
    }

    fn parse(reader: &mut Reader<'_>, record_type: Type, length: usize) -> Result<Self, ParseError> {
        let start = reader.at;
        let octets = Reader::new(reader.message, start).bytes(length, "the data of a record")?;
        let wrong = ParseError::RData { at: start };
        let data = match record_type {
            Type::A => RData::A(<[u8; 4]>::try_from(octets).map_err(|_| wrong)?.into()),
            Type::AAAA => RData::Aaaa(<[u8; 16]>::try_from(octets).map_err(|_| wrong)?.into()),
            Type::NS => RData::Ns(reader.name()?),
            Type::CNAME => RData::Cname(reader.name()?),
            Type::PTR => RData::Ptr(reader.name()?),
            Type::SOA => RData::Soa(Box::new(Soa {
                mname: reader.name()?,
                rname: reader.name()?,
                serial: reader.u32("an SOA record")?,
                refresh: reader.u32("an SOA record")?,
                retry: reader.u32("an SOA record")?,
                expire: reader.u32("an SOA record")?,
                minimum: reader.u32("an SOA record")?,
            })),
            Type::MX => RData::Mx { preference: reader.u16("an MX record")?, exchange: reader.name()? },
            Type::SRV => RData::Srv(Box::new(Srv {
                priority: reader.u16("an SRV record")?,
                weight: reader.u16("an SRV record")?,
                port: reader.u16("an SRV record")?,
                target: reader.name()?,
            })),
            Type::TXT => {
                let mut strings = Vec::new();
                let mut rest = octets;
                while let Some((&count, tail)) = rest.split_first() {
                    let (string, tail) = tail.split_at_checked(usize::from(count)).ok_or(wrong)?;
                    strings.push(string.into());
                    rest = tail;
                }
                RData::Txt(strings)
            }
            _ => RData::Opaque { record_type, octets: octets.into() },
        };
        match record_type {
            Type::NS | Type::CNAME | Type::PTR | Type::SOA | Type::MX | Type::SRV if reader.at != start + length => Err(wrong),
            _ => {
                reader.at = start + length;
                Ok(data)
            }
        }
    }

    /// Is the data of a record, at this place of a message, what [`RData::parse`] takes?
    pub(super) fn check(message: &[u8], record_type: Type, data: &Range<usize>) -> Result<(), ParseError> {
        let Range { start, end } = *data;
        let is_right = match record_type {
            Type::A => end - start == 4,
            Type::AAAA => end - start == 16,
            Type::NS | Type::CNAME | Type::PTR => Name::skip(message, start)? == end,
            Type::MX => Name::skip(message, start + 2)? == end,
            Type::SRV => Name::skip(message, start + 6)? == end,
            // Two names, and five times of four octets.
            Type::SOA => Name::skip(message, Name::skip(message, start)?)? + 20 == end,
            Type::TXT => {
                let mut rest = message.get(start..end).unwrap_or_default();
                while let Some((&count, tail)) = rest.split_first() {
                    rest = tail.get(usize::from(count)..).ok_or(ParseError::RData { at: start })?;
                }
                true
            }
            _ => true,
        };
        if is_right { Ok(()) } else { Err(ParseError::RData { at: start }) }
    }

    fn compose(&self, composer: &mut Composer) {
        match self {
            RData::A(v4) => composer.octets(&v4.octets()),
            RData::Aaaa(v6) => composer.octets(&v6.octets()),
            RData::Ns(name) | RData::Cname(name) | RData::Ptr(name) => composer.name(name, true),
            RData::Soa(soa) => {
                composer.name(&soa.mname, true);
                composer.name(&soa.rname, true);
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    composer.u32(number);
                }
            }
            RData::Mx { preference, exchange } => {
                composer.u16(*preference);
                composer.name(exchange, true);
            }
            RData::Txt(strings) => {
                for string in strings {
                    let string = string.get(..255).unwrap_or(string);
                    composer.octets(&[string.len() as u8]);
                    composer.octets(string);
                }
            }
            RData::Srv(srv) => {
                composer.u16(srv.priority);
                composer.u16(srv.weight);
                composer.u16(srv.port);
                // RFC 2782: the target is not compressed; later names may still point to it.
                composer.name(&srv.target, false);
            }
            RData::Opaque { octets, .. } => composer.octets(octets),
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;

    #[test]
    fn rfc3597_5_each_type_has_a_name_and_a_number_that_are_read_back() {
        for number in 0..=u16::MAX {
            let text = Type(number).to_string();
            assert_eq!(text.to_lowercase().parse(), Ok(Type(number)));
            assert_eq!(format!("type{number}").parse(), Ok(Type(number)));
            match RecordType::from(number) {
                // Names of the library's own.
                RecordType::ANAME | RecordType::ZERO | RecordType::Unknown(_) => {}
                known => assert_eq!(text, known.to_string()),
            }
        }
        assert!("TYPE65536".parse::<Type>().is_err() && "TYPE".parse::<Type>().is_err() && "é€".parse::<Type>().is_err());
    }
}
