//! Reverse look-ups: which node or service has an address (RFC 1035, 3.5; RFC 3596, 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::catalog::Catalog;
use crate::dns::Name;

use super::{Settings, records};

/// Is this a name below `arpa`?
pub(super) fn is_reverse(name: &Name) -> bool {
    name.labels().last().is_some_and(|label| label.eq_ignore_ascii_case(b"arpa"))
}

/// The name of whoever has the address that this reverse name stands for: the first node, else the first service
/// instance. Always below the primary domain.
pub(super) fn look_up(catalog: &Catalog, name: &Name, settings: &Settings) -> Option<Name> {
    let address = parse(name)?;
    if let Some(node) = catalog.node_at(address) {
        return records::node_name(node, &settings.domain, settings);
    }
    let instance = catalog.instance_at(address)?;
    let node = catalog.node_of(instance)?;
    records::service_name(&instance.service, node, &settings.domain, settings)
}

/// The address that a reverse name stands for: all four octets or all 32 nibbles, nothing in between.
fn parse(name: &Name) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.labels().collect();
    let (digits, [family, _arpa]) = labels.split_last_chunk::<2>()?;
    if family.eq_ignore_ascii_case(b"in-addr") {
        let mut octets = [0u8; 4];
        if digits.len() != 4 {
            return None;
        }
        for (octet, label) in octets.iter_mut().rev().zip(digits) {
            let text = std::str::from_utf8(label).ok()?;
            let canonical = text == "0" || !text.starts_with(['0', '+']);
            *octet = text.parse().ok().filter(|_| canonical)?;
        }
        return Some(Ipv4Addr::from(octets).into());
    }
    if family.eq_ignore_ascii_case(b"ip6") && digits.len() == 32 {
        let mut bits = 0u128;
        for label in digits.iter().rev() {
            let &[digit] = *label else { return None };
            bits = bits << 4 | u128::from(char::from(digit).to_digit(16)?);
        }
        return Some(Ipv6Addr::from_bits(bits).into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_addresses_are_read() {
        let read = |text: &str| parse(&text.parse().unwrap());
        assert_eq!(read("1.2.0.127.IN-ADDR.arpa."), Some([127, 0, 2, 1].into()));
        let nibbles = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.8.B.D.0.1.0.0.2.ip6.arpa.";
        assert_eq!(read(nibbles), Some("2001:db8:1::5".parse().unwrap()));
        for text in [
            "arpa.",
            "in-addr.arpa.",
            "ip6.arpa.",
            "0.127.in-addr.arpa.",
            "1.1.2.0.127.in-addr.arpa.",
            "x.1.0.127.in-addr.arpa.",
            "300.1.0.127.in-addr.arpa.",
            "01.1.0.127.in-addr.arpa.",
            "+1.1.0.127.in-addr.arpa.",
            "0.0.8.b.d.0.1.0.0.2.ip6.arpa.",
            "1.2.3.4.uri.arpa.",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
