//! What of upstreams' answers is not passed on as it came: addresses that nobody outside has any business to give
//! (DNS rebinding), those that stand for "no such name", record types that are not wanted, addresses to be translated.
//!
//! Off unless the configuration asks for it: a forwarder is not an editor (RFC 5625). Who edits has it told in an extended
//! error (RFC 8914), and takes the AD bit away.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::dns::{ExtendedError, Message, Name, RData, Rcode, Record, Type};

/// The `[forward.filter]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// An answer with an address of a private network is given as empty.
    pub private_addresses: bool,
    /// Domains that may have such addresses.
    #[serde(deserialize_with = "super::domains::deserialize")]
    pub private_allowed: Vec<Name>,
    /// So may all names, as far as it is the loopback address.
    pub loopback_allowed: bool,
    /// An answer with such an address says that there is no such name.
    #[serde(deserialize_with = "networks")]
    pub bogus: Vec<IpNet>,
    /// A reply with such an address is as none.
    #[serde(deserialize_with = "networks")]
    pub ignored: Vec<IpNet>,
    /// Records of these types are left out.
    #[serde(deserialize_with = "types")]
    pub without: Vec<Type>,
    pub translate: Vec<Translation>,
}

/// IPv4 addresses that become others: the bits outside of the network stay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Translation {
    /// The first address, and the last one if there are several.
    pub from: Ipv4Addr,
    pub through: Option<Ipv4Addr>,
    pub to: Ipv4Addr,
    /// Bits of `to` that are taken: all, or those of this mask.
    #[serde(default = "all_bits")]
    pub mask: Ipv4Addr,
}

fn all_bits() -> Ipv4Addr {
    Ipv4Addr::BROADCAST
}

/// Networks, or addresses alone.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let read = |text: String| read_network(&text).map_err(serde::de::Error::custom);
    Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect()
}

/// A network, or an address alone. An address with a length is neither, and may have been meant for both.
pub fn read_network(text: &str) -> Result<IpNet, String> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    let wrong = |_| format!("expected an address or a network such as 192.0.2.0/24, got {text:?}");
    let network: IpNet = text.parse().or_else(|_| alone()).map_err(wrong)?;
    if network != network.trunc() {
        let (whole, address) = (network.trunc(), network.addr());
        return Err(format!("expected a network or an address, got {text:?}: write \"{whole}\" or \"{address}\""));
    }
    Ok(network)
}

fn types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Type>, D::Error> {
    let read = |text: String| text.parse().map_err(serde::de::Error::custom);
    Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect()
}

impl Config {
    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Is this reply to be taken for none?
    pub fn ignores(&self, reply: &[u8]) -> bool {
        !self.ignored.is_empty()
            && Message::parse(reply).is_ok_and(|message| addresses(&message).any(|address| contains(&self.ignored, address)))
    }

    /// The reply as it is passed on; `None` for one that cannot be read, as nothing could be said of what is in it.
    pub fn apply(&self, reply: Vec<u8>) -> Option<Vec<u8>> {
        if self.is_empty() {
            return Some(reply);
        }
        let mut message = Message::parse(&reply).ok()?;
        let Some((code, reason)) = self.edit(&mut message) else { return Some(reply) };
        message.flags.authentic_data = false;
        message.give_reason(code, reason);
        Some(message.compose(true))
    }

    /// Edits a message, and says why, if there is anything to edit.
    fn edit(&self, message: &mut Message) -> Option<(ExtendedError, &'static str)> {
        if addresses(message).any(|address| contains(&self.bogus, address)) {
            message.rcode = Rcode::NXDOMAIN;
            empty(message);
            return Some((ExtendedError::Blocked, "the answer has an address that forward.filter.bogus lists"));
        }
        let mut edited = None;
        if self.private_addresses && !self.may_be_private(message) {
            let is_foreign = |address: IpAddr| is_private(address) && !(self.loopback_allowed && is_loopback(address));
            if addresses(message).any(is_foreign) {
                empty(message);
                return Some((ExtendedError::Blocked, "the answer has a private address"));
            }
            // Who asks for a server's name takes its addresses from there.
            let before = message.additionals.len();
            message.additionals.retain(|record| !addresses_of(record).into_iter().any(is_foreign));
            if message.additionals.len() < before {
                edited = Some((ExtendedError::Filtered, "private addresses of servers are left out"));
            }
        }
        for translation in &self.translate {
            for record in &mut message.answers {
                if let RData::A(address) = &mut record.data
                    && let Some(other) = translation.apply(*address)
                {
                    *address = other;
                    edited = Some((ExtendedError::Forged, "addresses were translated"));
                }
            }
        }
        let before = message.answers.len() + message.additionals.len();
        let wanted = |record: &Record| !self.without.contains(&record.record_type());
        message.answers.retain(wanted);
        message.additionals.retain(wanted);
        if message.answers.len() + message.additionals.len() < before {
            edited = Some((ExtendedError::Filtered, "records of this type are left out"));
        }
        edited
    }

    fn may_be_private(&self, message: &Message) -> bool {
        let name = message.questions.first().map(|question| &question.name);
        name.is_some_and(|name| self.private_allowed.iter().any(|domain| name.is_within(domain)))
    }
}

impl Translation {
    fn apply(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let (mask, own) = (self.mask.to_bits(), address.to_bits());
        let is_meant = match self.through {
            Some(last) => (self.from..=last).contains(&address),
            None => own & mask == self.from.to_bits() & mask,
        };
        is_meant.then(|| Ipv4Addr::from_bits(self.to.to_bits() & mask | own & !mask))
    }
}

fn empty(message: &mut Message) {
    message.answers.clear();
    message.authorities.clear();
    message.additionals.clear();
}

/// The addresses that a message answers with.
fn addresses(message: &Message) -> impl Iterator<Item = IpAddr> {
    message.answers.iter().flat_map(addresses_of)
}

/// The addresses to which a record leads.
fn addresses_of(record: &Record) -> Vec<IpAddr> {
    match &record.data {
        RData::A(v4) => vec![(*v4).into()],
        RData::Aaaa(v6) => vec![(*v6).into()],
        RData::Opaque { record_type: Type::SVCB | Type::HTTPS, octets } => hints(octets).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The addresses that a service binding has for its target (RFC 9460, 7.3). What cannot be read nobody follows.
fn hints(octets: &[u8]) -> Option<Vec<IpAddr>> {
    const IPV4HINT: u16 = 4;
    const IPV6HINT: u16 = 6;
    // Behind the priority and the target's name, which is not compressed.
    let mut rest = octets.get(2..)?;
    loop {
        let (&length, behind) = rest.split_first()?;
        rest = behind.get(usize::from(length)..)?;
        if length == 0 {
            break;
        }
    }
    let mut addresses = Vec::new();
    while let Some(([key_high, key_low, high, low], behind)) = rest.split_first_chunk() {
        let (value, next) = behind.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        match u16::from_be_bytes([*key_high, *key_low]) {
            IPV4HINT => addresses.extend(value.as_chunks::<4>().0.iter().map(|address| IpAddr::from(*address))),
            IPV6HINT => addresses.extend(value.as_chunks::<16>().0.iter().map(|address| IpAddr::from(*address))),
            _ => {}
        }
        rest = next;
    }
    Some(addresses)
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

fn is_loopback(address: IpAddr) -> bool {
    inner(address).is_loopback()
}

/// The IPv4 address that an IPv6 address stands for, whoever translates or carries it: mapped and compatible ones (RFC 4291,
/// 2.5.5), NAT64 (RFC 6052, 2.1) and 6to4 (RFC 3056, 2). Any other address as it is.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into();
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high @ 1..=0xffff, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            v4(high, low)
        }
        _ => v6.into(),
    }
}

/// An address that leads into a network of one's own, or to this host, whoever asks; one that stands for an IPv4 address
/// in IPv6 is judged as that.
fn is_private(address: IpAddr) -> bool {
    match inner(address) {
        IpAddr::V4(v4) => {
            // This network (RFC 1122, 3.2.1.3). What providers share (RFC 6598) is not one's own: overlay networks are found
            // so.
            let is_this = v4.octets()[0] == 0;
            is_this || v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast() || v4.is_documentation()
        }
        IpAddr::V6(v6) => {
            // Site-local addresses are deprecated (RFC 3879) and still routed inside of networks.
            let is_site_local = v6.segments()[0] & 0xffc0 == 0xfec0;
            let is_documentation = v6.segments()[..2] == [0x2001, 0xdb8];
            // A network's own translation to IPv4 (RFC 8215) leads to whatever that network has.
            let is_translated = v6.segments()[..3] == [0x64, 0xff9b, 1];
            let is_own = v6.is_unicast_link_local() || v6.is_unique_local() || is_site_local || is_translated;
            is_own || v6.is_unspecified() || v6.is_loopback() || is_documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, Query, Question};

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn reply(name: &str, addresses: &[&str]) -> Vec<u8> {
        let name: Name = name.parse().unwrap();
        let mut message =
            Query::of(Question { name: name.clone(), qtype: Type::A, qclass: Class::IN }).response(Rcode::NOERROR);
        message.flags.authentic_data = true;
        message.edns = Some(Edns::new(1232));
        message.answers.extend(addresses.iter().map(|text| Record::address(name.clone(), 60, text.parse().unwrap())));
        message.compose(true)
    }

    /// RCODE, addresses and the code of the extended error of what is passed on.
    fn passed(config: &Config, name: &str, given: &[&str]) -> (Rcode, Vec<String>, Option<u16>) {
        let message = Message::parse(&config.apply(reply(name, given)).unwrap()).unwrap();
        let option = message.edns.as_ref().and_then(|edns| edns.option(crate::dns::option::EXTENDED_ERROR));
        let code = option.map(|option| u16::from_be_bytes(*option.data.first_chunk().unwrap()));
        assert_eq!(message.flags.authentic_data, code.is_none(), "what was edited is not authentic any more");
        (message.rcode, addresses(&message).map(|address| address.to_string()).collect(), code)
    }

    #[test]
    fn private_addresses_of_others_are_not_passed_on() {
        let config = config("private_addresses = true\nprivate_allowed = [\"corp.example\"]\nloopback_allowed = true");
        for address in [
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.1.1",
            "192.0.2.1",
            "0.0.0.0",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::1",
            "::10.0.0.1",
        ] {
            assert_eq!(
                passed(&config, "www.example", &["198.18.0.1", address]),
                (Rcode::NOERROR, vec![], Some(15)),
                "{address}"
            );
            assert_eq!(passed(&config, "x.corp.example", &[address]).2, None, "{address}");
        }
        for address in ["172.32.0.1", "100.64.0.1", "2001:2::1", "127.0.0.1", "::1"] {
            assert_eq!(passed(&config, "www.example", &[address]), (Rcode::NOERROR, vec![address.into()], None));
        }
        let strict = Config { loopback_allowed: false, ..config };
        for address in ["127.0.0.1", "::1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1"] {
            assert_eq!(passed(&strict, "www.example", &[address]).2, Some(15), "{address}");
        }
        assert_eq!(passed(&strict, "www.example", &["64:ff9b::c612:1", "2002:c612:1::1"]).2, None);
    }

    #[test]
    fn rfc9460_7_3_hints_and_addresses_of_servers_are_addresses_too() {
        let config = config("private_addresses = true");
        let name: Name = "www.example".parse().unwrap();
        let question = Question { name: name.clone(), qtype: Type::HTTPS, qclass: Class::IN };
        let bare = Query::of(question).response(Rcode::NOERROR);
        let service = |parameters: &[u8]| {
            let octets = [&[0, 1, 1, b'x', 0], parameters].concat().into();
            Record::new(name.clone(), 60, RData::Opaque { record_type: Type::HTTPS, octets })
        };
        let v6 = |address: &str| [&[0, 6, 0, 16], &address.parse::<std::net::Ipv6Addr>().unwrap().octets()[..]].concat();
        for (parameters, is_passed) in [
            (vec![0, 4, 0, 8, 198, 18, 0, 1, 127, 0, 0, 1], false),
            (vec![0, 1, 0, 3, 2, b'h', b'3', 0, 4, 0, 4, 10, 0, 0, 1], false),
            (v6("::1"), false),
            (v6("2001:2::1"), true),
            (vec![0, 4, 0, 4, 198, 18, 0, 1], true),
            (vec![0, 4, 0, 200, 10], true),
            (Vec::new(), true),
        ] {
            let reply = Message { answers: vec![service(&parameters)], ..bare.clone() }.compose(true);
            let passed = Message::parse(&config.apply(reply).unwrap()).unwrap();
            assert_eq!(passed.answers.len(), usize::from(is_passed), "{parameters:?}");
        }
        let glue = |text: &str| Record::address(name.clone(), 60, text.parse().unwrap());
        let additionals = vec![glue("198.18.0.1"), glue("192.168.1.1"), glue("::1"), service(&[0, 4, 0, 4, 10, 0, 0, 1])];
        let reply = Message { answers: vec![service(&[])], additionals, ..bare }.compose(true);
        let passed = Message::parse(&config.apply(reply).unwrap()).unwrap();
        assert_eq!((passed.answers.len(), passed.additionals), (1, vec![glue("198.18.0.1")]));
    }

    #[test]
    fn addresses_that_stand_for_no_such_name_say_so() {
        let config = config("bogus = [\"198.51.100.0/24\", \"2001:db8::9\"]\nignored = [\"203.0.113.7\"]");
        assert_eq!(passed(&config, "www.example", &["198.51.100.77"]), (Rcode::NXDOMAIN, vec![], Some(15)));
        assert_eq!(passed(&config, "www.example", &["2001:db8::9"]).0, Rcode::NXDOMAIN);
        assert_eq!(passed(&config, "www.example", &["192.0.2.1"]).2, None);
        assert!(config.ignores(&reply("www.example", &["192.0.2.1", "203.0.113.7"])));
        assert!(!config.ignores(&reply("www.example", &["203.0.113.8"])));
        assert_eq!(config.apply(b"no message".to_vec()), None);
    }

    #[test]
    fn types_are_left_out_and_addresses_translated() {
        let config = config(
            "without = [\"AAAA\"]\n[[translate]]\nfrom = \"192.0.2.0\"\nto = \"10.8.0.0\"\nmask = \"255.255.255.0\"\n\
             [[translate]]\nfrom = \"198.51.100.10\"\nthrough = \"198.51.100.20\"\nto = \"10.9.0.0\"\nmask = \"255.255.0.0\"",
        );
        let given = ["192.0.2.7", "198.51.100.15", "198.51.100.21", "2001:db8::1"];
        let (rcode, addresses, code) = passed(&config, "www.example", &given);
        assert_eq!((rcode, code), (Rcode::NOERROR, Some(17)));
        assert_eq!(addresses, ["10.8.0.7", "10.9.100.15", "198.51.100.21"]);
        assert_eq!(passed(&config, "www.example", &["192.0.2.7"]), (Rcode::NOERROR, vec!["10.8.0.7".into()], Some(4)));
        assert!(
            toml::from_str::<Config>("without = [\"NOTYPE\"]").is_err() && toml::from_str::<Config>("bogus = [\"x\"]").is_err()
        );
    }
}
