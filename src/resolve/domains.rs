//! Lists of domains, as the configuration has them: each stands for all names below it. A network stands for the names that
//! lead back from its addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::value::{self, StrDeserializer};
use serde::{Deserialize, Deserializer, de};

use super::filter::read_network;
use crate::dns::Name;

/// A list of domains and networks. What others write as `*.example` is `example`; taken as it is, it would be the name of an
/// asterisk, which nobody asks for.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Name>, D::Error> {
    Ok(Vec::<Entry>::deserialize(deserializer)?.into_iter().flat_map(|Entry(domains)| domains).collect())
}

/// What one text of such a list stands for.
struct Entry(Vec<Name>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(&String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

fn read(text: &str) -> Result<Vec<Name>, String> {
    if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return Ok(reverse(read_network(text)?));
    }
    let domain = Name::deserialize(StrDeserializer::<value::Error>::new(text)).map_err(|error| error.to_string())?;
    if domain.wire().contains(&b'*') {
        let text = domain.to_string();
        let meant = text.trim_start_matches("*.");
        let meant = if meant.contains('*') { "each that is meant" } else { meant };
        return Err(format!("expected domains, which stand for all names below them, got {text:?}: write {meant}"));
    }
    Ok(vec![domain])
}

/// The domains of the names that lead from a network's addresses back to names (RFC 1035, 3.5; RFC 3596, 2.5): several, 128 at
/// most, where its length is none of whole labels.
pub fn reverse(network: IpNet) -> Vec<Name> {
    let (bits_per_label, labels, end): (u8, Vec<u8>, _) = match network.network() {
        IpAddr::V4(v4) => (8, v4.octets().to_vec(), "in-addr"),
        IpAddr::V6(v6) => (4, v6.octets().iter().flat_map(|octet| [octet >> 4, octet & 15]).collect(), "ip6"),
    };
    let whole = usize::from(network.prefix_len() / bits_per_label);
    let rest = network.prefix_len() % bits_per_label;
    let text = |label: u8| if bits_per_label == 8 { label.to_string() } else { format!("{label:x}") };
    let head = labels.get(..whole).unwrap_or_default().iter().rev().map(|label| text(*label));
    let above: Vec<String> = head.chain([end.into(), "arpa".into()]).collect();
    let domain = |first: Option<String>| Name::from_labels(first.iter().chain(&above).map(String::as_bytes));
    match labels.get(whole).filter(|_| rest > 0) {
        None => domain(None).into_iter().collect(),
        Some(first) => (0..1u16 << (bits_per_label - rest)).filter_map(|n| domain(Some(text(first | n as u8)))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_the_domains_of_its_reverse_names() {
        let domains = |text: &str| read(text).map(|names| names.iter().map(Name::to_string).collect::<Vec<_>>());
        for (text, first, count) in [
            ("10.0.0.0/8", "10.in-addr.arpa.", 1),
            ("192.0.2.1/32", "1.2.0.192.in-addr.arpa.", 1),
            ("192.0.2.1", "1.2.0.192.in-addr.arpa.", 1),
            ("172.16.0.0/12", "16.172.in-addr.arpa.", 16),
            ("10.32.0.0/9", "", 0),
            ("10.128.0.0/9", "128.10.in-addr.arpa.", 128),
            ("0.0.0.0/0", "in-addr.arpa.", 1),
            ("2001:db8::/31", "8.b.d.0.1.0.0.2.ip6.arpa.", 2),
            ("fd00::/8", "d.f.ip6.arpa.", 1),
            ("10.in-addr.arpa", "10.in-addr.arpa.", 1),
            // A name of RFC 2317.
            ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa.", 1),
        ] {
            match domains(text) {
                Ok(found) => assert_eq!((found[0].as_str(), found.len()), (first, count), "{text}"),
                Err(error) => assert!(count == 0 && error.contains("write \"10.0.0.0/9\""), "{text}: {error}"),
            }
        }
        assert_eq!(domains("172.16.0.0/12").unwrap()[15], "31.172.in-addr.arpa.");
        assert_eq!(domains("2001:db8::/31").unwrap()[1], "9.b.d.0.1.0.0.2.ip6.arpa.");
    }
}
