//! Networks that rules are of: the longest that an address is in counts. IPv4 networks are kept as those of IPv6 that stand
//! for them (RFC 4291, 2.5.5.2).

use std::net::{IpAddr, Ipv4Addr};

use super::names::Rule;

/// A network: its first address, and how many bits of it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Network {
    /// First, so that networks are sorted by it.
    length: u8,
    bits: u128,
}

/// Bits before those of an IPv4 address.
const V4: u8 = 96;

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first `length` bits, and no others.
fn first(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128u32.saturating_sub(length.into())).unwrap_or(0)
}

impl Network {
    /// `None` when bits are set that do not count, or more are to count than there are.
    pub(super) fn new(address: IpAddr, length: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let whole = if address.is_ipv4() { length.checked_add(V4)? } else { length };
        (length <= most && first(bits(address), whole) == bits(address)).then(|| Self { length: whole, bits: bits(address) })
    }
}

impl Network {
    /// Which of two networks counts first: the longer one, and of two as long the one with the smaller address.
    pub(super) fn first_before(&self, other: &Self) -> std::cmp::Ordering {
        other.length.cmp(&self.length).then(self.bits.cmp(&other.bits))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mapped = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().to_bits();
        match self.length.checked_sub(V4) {
            Some(length) if first(self.bits, V4) == mapped => write!(f, "{}/{length}", Ipv4Addr::from_bits(self.bits as u32)),
            _ => write!(f, "{}/{}", std::net::Ipv6Addr::from_bits(self.bits), self.length),
        }
    }
}

/// Networks and their rules.
#[derive(Debug, Default)]
pub(super) struct Networks {
    /// Sorted; one network may have the rules of several lists.
    rows: Box<[(Network, Rule)]>,
    /// How long they are, the longest first.
    lengths: Box<[u8]>,
}

impl Networks {
    pub(super) fn new(mut rows: Vec<(Network, Rule)>) -> Self {
        rows.sort_unstable();
        rows.dedup();
        let mut lengths: Vec<u8> = rows.iter().map(|(network, _)| network.length).collect();
        lengths.dedup();
        lengths.reverse();
        Self { rows: rows.into(), lengths: lengths.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Network, Rule)> + '_ {
        self.rows.iter().copied()
    }

    /// The rules of the networks that an address is in, those of the longest first.
    pub(super) fn of(&self, address: IpAddr) -> impl Iterator<Item = (Network, Rule)> + '_ {
        let bits = bits(address);
        self.lengths.iter().flat_map(move |length| {
            let network = Network { length: *length, bits: first(bits, *length) };
            let start = self.rows.partition_point(|(other, _)| *other < network);
            self.rows.get(start..).unwrap_or_default().iter().take_while(move |(other, _)| *other == network).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::{Action, Reach};
    use super::*;

    fn network(text: &str) -> Network {
        let (address, length) = text.split_once('/').unwrap();
        Network::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_longest_network_comes_first() {
        let texts = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1/128", "::/0"];
        let rows = texts.iter().zip(0..).map(|(text, list)| (network(text), Rule::new(list, Action::Given, Reach::ITSELF)));
        let networks = Networks::new(rows.collect());
        let of =
            |address: &str| networks.of(address.parse().unwrap()).map(|(network, _)| network.to_string()).collect::<Vec<_>>();
        assert_eq!(of("10.1.2.3"), ["10.1.2.3/32", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "::/0"]);
        assert_eq!(of("192.0.2.1"), ["0.0.0.0/0", "::/0"]);
        assert_eq!(of("2001:db8::1"), ["2001:db8::1/128", "2001:db8::/32", "::/0"]);
        assert_eq!(Networks::default().of("10.1.2.3".parse().unwrap()).count(), 0);
    }

    #[test]
    fn bits_that_do_not_count_are_not_set() {
        for (address, length) in [("10.0.0.1", 8), ("10.0.0.0", 33), ("2001:db8::1", 32), ("::", 129)] {
            assert_eq!(Network::new(address.parse().unwrap(), length), None, "{address}/{length}");
        }
    }
}
