//! Which address an instance has for a question, and the records that say so.

use std::net::IpAddr;

use crate::catalog::{Address, Node, NodeEntry};
use crate::dns::{Name, RData, Record, Srv, Type};

use super::Settings;
use super::presence::Candidate;

/// Where an instance is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot<'a> {
    /// At its node: SRV records point to the node's name.
    Node(IpAddr),
    /// At an address of its own: SRV records point to an `addr` name.
    Address(IpAddr),
    /// At a host that only DNS knows the address of.
    Host(&'a str),
}

impl<'a> Spot<'a> {
    /// Where this instance is reached, for a question of this type about `asked`.
    pub(super) fn of(candidate: &Candidate<'a>, asked: &Name, qtype: Type, settings: &Settings) -> Option<Self> {
        let own = match InstanceAddress::of(candidate, qtype, settings) {
            InstanceAddress::OfNode => "",
            InstanceAddress::Ip(address) => return Some(Spot::Address(address)),
            InstanceAddress::Host(host) => host,
        };
        let node = node_address(candidate.node, qtype, settings);
        let node_ip = ip(node);
        if own.is_empty() {
            return match node_ip {
                // A translated address is not what the node's name leads to.
                Some(address) if node != &*candidate.node.address => Some(Spot::Address(address)),
                Some(address) => Some(Spot::Node(address)),
                None => (!node.is_empty()).then_some(Spot::Host(node)),
            };
        }
        // A service whose address is its own DNS name would lead round in a circle.
        let circular = own.parse::<Name>().is_ok_and(|own| match settings.is_consul() {
            true => own.wire() == asked.wire(),
            false => own == *asked,
        });
        match node_ip {
            Some(address) if circular => Some(Spot::Node(address)),
            _ => Some(Spot::Host(own)),
        }
    }
}

/// The tagged address that fits the question better than the address itself, if there is one.
fn choose<'a>(tagged: impl Fn(&str) -> Option<&'a str>, translate: bool, qtype: Type) -> Option<&'a str> {
    let tagged = |tag: &str| tagged(tag).filter(|address| !address.is_empty());
    let pick = |wan: &str, lan: &str| if translate { tagged(wan).or_else(|| tagged(lan)) } else { tagged(lan) };
    let default = || if translate { tagged("wan") } else { None };
    let v6 = if qtype == Type::A { None } else { pick("wan_ipv6", "lan_ipv6") };
    let v4 = if qtype == Type::AAAA { None } else { pick("wan_ipv4", "lan_ipv4") };
    v6.or(v4).or_else(default)
}

fn is_far(datacenter: &str, settings: &Settings) -> bool {
    settings.translate_wan_addrs && !datacenter.eq_ignore_ascii_case(&settings.datacenter)
}

/// A node's address for a question of this type.
pub(super) fn node_address<'a>(node: &'a Node, qtype: Type, settings: &Settings) -> &'a str {
    let tagged = |tag: &str| Some(node.tagged_addresses.as_ref()?.get(tag)?.as_str());
    choose(tagged, is_far(&node.datacenter, settings), qtype).unwrap_or(&node.address)
}

/// An instance's own address for a question of some type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum InstanceAddress<'a> {
    /// It has none.
    OfNode,
    Ip(IpAddr),
    /// A host that only DNS knows the address of.
    Host(&'a str),
}

impl<'a> InstanceAddress<'a> {
    pub(super) fn of(candidate: &Candidate<'a>, qtype: Type, settings: &Settings) -> Self {
        let instance = &candidate.instance.instance;
        if let Some(addresses) = &instance.extra().tagged_addresses {
            let tagged = |tag: &str| Some(addresses.get(tag)?.address.as_str());
            if let Some(chosen) = choose(tagged, is_far(&candidate.node.datacenter, settings), qtype) {
                return ip(chosen).map_or(Self::Host(chosen), Self::Ip);
            }
        }
        match &instance.address {
            Address::OfNode => Self::OfNode,
            Address::Ip(address) => Self::Ip(address.to_canonical()),
            Address::Text(text) => ip(text).map_or(Self::Host(text), Self::Ip),
        }
    }
}

/// The port of an instance, or the one of that name; `None` when it has none of that name.
pub(super) fn port(candidate: &Candidate<'_>, name: Option<&str>, settings: &Settings) -> Option<u16> {
    let instance = &candidate.instance.instance;
    if let Some(name) = name {
        return instance.extra().ports.iter().find(|port| port.name.eq_ignore_ascii_case(name)).map(|port| port.port);
    }
    let wan = instance.extra().tagged_addresses.as_ref().and_then(|tagged| tagged.get("wan")).map(|wan| wan.port);
    if let Some(port @ 1..) = wan.filter(|_| is_far(&candidate.node.datacenter, settings)) {
        return Some(port);
    }
    let default = || instance.extra().ports.iter().find(|port| port.default).or(instance.extra().ports.first());
    Some(if instance.port == 0 { default().map_or(0, |port| port.port) } else { instance.port })
}

/// An address from text; an IPv4 address in IPv6 clothes is an IPv4 address.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Would a question of this type be answered with this address?
pub(super) fn suits(address: IpAddr, qtype: Type, settings: &Settings) -> bool {
    match qtype {
        Type::A => address.is_ipv4(),
        Type::AAAA => address.is_ipv6(),
        Type::ANY | Type::SRV => true,
        // Consul answers TXT questions about services with addresses.
        Type::TXT => settings.is_consul(),
        _ => false,
    }
}

/// `<node>.node.<datacenter>.<domain>`; `None` when that is no name.
pub(super) fn node_name(node: &Node, domain: &Name, settings: &Settings) -> Option<Name> {
    below(&[&node.name, "node", datacenter(node, settings)], domain)
}

/// `<service>.service.<datacenter>.<domain>`.
pub(super) fn service_name(service: &str, node: &Node, domain: &Name, settings: &Settings) -> Option<Name> {
    below(&[service, "service", datacenter(node, settings)], domain)
}

/// `<hex>.addr.<datacenter>.<domain>`: 8 digits for IPv4, 32 for IPv6.
pub(super) fn address_name(address: IpAddr, node: &Node, domain: &Name, settings: &Settings) -> Option<Name> {
    let digits = match address {
        IpAddr::V4(v4) => format!("{:08x}", v4.to_bits()),
        IpAddr::V6(v6) => format!("{:032x}", v6.to_bits()),
    };
    below(&[&digits, "addr", datacenter(node, settings)], domain)
}

fn datacenter<'a>(node: &'a Node, settings: &'a Settings) -> &'a str {
    if node.datacenter.is_empty() { &settings.datacenter } else { &node.datacenter }
}

/// Texts in front of a domain. A text with dots is several labels: nodes may be called so.
fn below(texts: &[&str], domain: &Name) -> Option<Name> {
    domain.prefixed(texts.iter().flat_map(|text| text.split('.')).map(str::as_bytes))
}

/// The SRV record of an instance (RFC 2782). There is one priority.
pub(super) fn srv(owner: Name, ttl: u32, weight: u16, port: u16, target: Name) -> Record {
    Record::new(owner, ttl, RData::Srv(Box::new(Srv { priority: 1, weight, port, target })))
}

/// A node's metadata, one TXT record a pair.
pub(super) fn meta_txt(node: &NodeEntry, owner: &Name, ttl: u32) -> Vec<Record> {
    let pairs = node.meta.iter().flatten();
    pairs.map(|(key, value)| Record::new(owner.clone(), ttl, RData::text(pair_text(key, value).as_bytes()))).collect()
}

/// A pair as RFC 1464 has it: `key=value`, where a backquote says that the next character of the key is meant as it is.
/// A key that begins with `rfc1035-` gives its value alone.
fn pair_text(key: &str, value: &str) -> String {
    if key.get(..8).is_some_and(|prefix| prefix.eq_ignore_ascii_case("rfc1035-")) {
        return value.to_owned();
    }
    let body = key.trim_matches(' ');
    let leading = key.len() - key.trim_start_matches(' ').len();
    let trailing = if body.is_empty() { 0 } else { key.len() - leading - body.len() };
    let mut text = "` ".repeat(leading);
    text.push_str(&body.replace('`', "``").replace('=', "`="));
    text.push_str(&"` ".repeat(trailing));
    text.push('=');
    text.push_str(&value.replace('`', "``"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_written_as_rfc_1464_has_it() {
        for (key, value, text) in [
            ("color", "blue", "color=blue"),
            ("equation", "a=4", "equation=a=4"),
            ("a=a", "true", "a`=a=true"),
            ("=", "\\=", "`==\\="),
            ("string2", "`abc`", "string2=``abc``"),
            ("novalue", "", "novalue="),
            ("abc ", "123 ", "abc` =123 "),
            (" abc", " 321", "` abc= 321"),
            ("  ", "x", "` ` =x"),
            ("a`b", "c", "a``b=c"),
            ("rfc1035-00", "v=spf1 -all", "v=spf1 -all"),
            ("RFC1035-x", "`", "`"),
        ] {
            assert_eq!(pair_text(key, value), text, "{key:?} {value:?}");
        }
    }

    #[test]
    fn the_best_tagged_address_is_chosen() {
        let tags = |tag: &str| match tag {
            "lan_ipv4" => Some("10.0.0.4"),
            "lan_ipv6" => Some("fd00::6"),
            "wan" => Some("198.51.100.1"),
            "wan_ipv6" => Some("2001:db8::6"),
            _ => None,
        };
        for (translate, qtype, expected) in [
            (false, Type::A, "10.0.0.4"),
            (false, Type::AAAA, "fd00::6"),
            (false, Type::SRV, "fd00::6"),
            (true, Type::A, "10.0.0.4"),
            (true, Type::AAAA, "2001:db8::6"),
            (true, Type::ANY, "2001:db8::6"),
        ] {
            assert_eq!(choose(tags, translate, qtype), Some(expected), "{translate} {qtype}");
        }
        let wan_only = |tag: &str| (tag == "wan").then_some("198.51.100.1");
        assert_eq!(choose(wan_only, false, Type::A), None);
        assert_eq!(choose(wan_only, true, Type::A), Some("198.51.100.1"));
    }

    #[test]
    fn addresses_are_spelled_out_in_names() {
        let settings = Settings::default();
        let node: Node = serde_json::from_value(serde_json::json!({
            "source": 0, "name": "a.b", "id": "", "datacenter": "dc1", "address": "", "create_index": 0, "modify_index": 0
        }))
        .unwrap();
        let text = |name: Option<Name>| name.unwrap().to_string();
        let domain = &settings.domain;
        assert_eq!(text(address_name([127, 0, 0, 2].into(), &node, domain, &settings)), "7f000002.addr.dc1.consul.");
        let v6 = "2607:20:4005:808::200e".parse().unwrap();
        let expected = "2607002040050808000000000000200e.addr.dc1.consul.";
        assert_eq!(text(address_name(v6, &node, domain, &settings)), expected);
        assert_eq!(text(node_name(&node, domain, &settings)), "a.b.node.dc1.consul.");
        assert_eq!(node_name(&Node { name: "a..b".into(), ..node }, domain, &settings), None);
    }
}
