//! Which look-up a name asks for.
//!
//! The labels are read from the domain leftwards up to the first one that names a kind (`service`, `node`, …): left of
//! it stands what is looked up, right of it where. So a service may be called `node`, and a datacenter may not be
//! called `service`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dns::Type;

/// What a name below the discovery domain asks for. Texts are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The domain itself.
    Apex,
    /// `ns`, the name that the SOA record gives as the primary server.
    NameServer,
    Service {
        name: String,
        tag: Option<String>,
        /// `service`, `connect` or `ingress`.
        form: Form,
        place: Place,
    },
    /// A service's virtual address.
    Virtual {
        name: String,
        peer: Option<String>,
    },
    Node {
        name: String,
        place: Place,
    },
    /// A prepared query.
    Query,
    /// A literal address.
    Address(IpAddr),
    /// Nothing stands here, but something may stand below: `service`, `node.dc1`, `dc1`.
    Branch(Place),
    /// No form that names have here.
    Nothing,
}

/// Which instances of a service are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Its own.
    Service,
    /// Those that take mesh connections for it.
    Connect,
    /// The gateways that expose it.
    Ingress,
}

/// Where to look: what stands between the kind and the domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) datacenter: Option<String>,
    pub(super) peer: Option<String>,
    /// A port by its name, for instances that have several.
    pub(super) port: Option<String>,
}

impl Lookup {
    /// Reads the labels left of the domain, leftmost first.
    pub(super) fn parse(labels: &[&[u8]], qtype: Type) -> Self {
        let labels: Vec<String> = labels.iter().map(|label| text(label)).collect();
        match labels.as_slice() {
            [] => return Lookup::Apex,
            [only] if only == "ns" => return Lookup::NameServer,
            _ => {}
        }
        for at in (0..labels.len()).rev() {
            let (parts, [kind, suffixes @ ..]) = labels.split_at(at) else { break };
            match kind.as_str() {
                "service" | "connect" | "ingress" | "virtual" | "node" | "query" | "addr" => {
                    return Self::of_kind(kind, parts, suffixes);
                }
                // The label `service` may be left out of RFC 2782 names, in SRV questions only.
                _ if qtype == Type::SRV && kind.starts_with('_') => {
                    return Self::of_kind("service", labels.get(..=at).unwrap_or_default(), suffixes);
                }
                _ => {}
            }
        }
        Place::parse(&labels).map_or(Lookup::Nothing, Lookup::Branch)
    }

    fn of_kind(kind: &str, parts: &[String], suffixes: &[String]) -> Self {
        if kind == "addr" {
            return match parts {
                [] => Lookup::Branch(Place::default()),
                [digits] => address(digits).map_or(Lookup::Nothing, Lookup::Address),
                _ => Lookup::Nothing,
            };
        }
        if kind == "query" && suffixes.len() > 1 {
            return Lookup::Nothing;
        }
        let Some(place) = Place::parse(suffixes) else { return Lookup::Nothing };
        let Some((last, before)) = parts.split_last() else { return Lookup::Branch(place) };
        let service = |form| Lookup::Service { name: last.clone(), tag: None, form, place: place.clone() };
        match kind {
            "connect" => service(Form::Connect),
            "ingress" => service(Form::Ingress),
            // Virtual addresses mean nothing in another datacenter, so the lone label is a peer here.
            "virtual" => {
                let peer = place.peer.or(if suffixes.len() == 1 { place.datacenter } else { None });
                Lookup::Virtual { name: last.clone(), peer }
            }
            "node" => Lookup::Node { name: parts.join("."), place },
            "query" => Lookup::Query,
            _ => {
                let rfc2782 = match parts {
                    [service, tag] => service.strip_prefix('_').zip(tag.strip_prefix('_')),
                    _ => None,
                };
                let (name, tag) = match rfc2782 {
                    Some((service, "tcp" | "")) => (service.to_owned(), None),
                    Some((service, tag)) => (service.to_owned(), Some(tag.to_owned())),
                    None if before.is_empty() => (last.clone(), None),
                    None => (last.clone(), Some(before.join("."))),
                };
                Lookup::Service { name, tag, form: Form::Service, place }
            }
        }
    }
}

impl Place {
    /// Nothing, a lone datacenter, or pairs `X.dc`, `X.peer`, `X.port`. A datacenter and a peer exclude each other.
    fn parse(suffixes: &[String]) -> Option<Self> {
        let mut place = Place::default();
        if let [datacenter] = suffixes {
            place.datacenter = Some(datacenter.clone());
            return Some(place);
        }
        for pair in suffixes.chunks(2) {
            let [value, kind] = pair else { return None };
            let slot = match kind.as_str() {
                "dc" => &mut place.datacenter,
                "peer" => &mut place.peer,
                "port" => &mut place.port,
                _ => return None,
            };
            if slot.replace(value.clone()).is_some() {
                return None;
            }
        }
        (place.datacenter.is_none() || place.peer.is_none()).then_some(place)
    }
}

/// A label as text in lower case. What is no plain text stays escaped, as in a master file (RFC 1035, 5.1), so that a dot
/// inside a label cannot pass for one between labels.
fn text(label: &[u8]) -> String {
    let mut text = String::with_capacity(label.len());
    for &octet in label {
        match octet {
            b'.' | b' ' | b'\'' | b'@' | b';' | b'(' | b')' | b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            b'!'..=b'~' => text.push(char::from(octet.to_ascii_lowercase())),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
    text
}

/// The address that 8 or 32 hexadecimal digits stand for.
fn address(digits: &str) -> Option<IpAddr> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => u32::from_str_radix(digits, 16).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => u128::from_str_radix(digits, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Name;

    fn parse(name: &str, qtype: Type) -> Lookup {
        let name: Name = name.parse().unwrap();
        Lookup::parse(&name.labels().collect::<Vec<_>>(), qtype)
    }

    fn service(name: &str, tag: &str, datacenter: &str) -> Lookup {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let place = Place { datacenter: some(datacenter), ..Place::default() };
        Lookup::Service { name: name.into(), tag: some(tag), form: Form::Service, place }
    }

    #[test]
    fn services() {
        for (name, expected) in [
            ("web.service", service("web", "", "")),
            ("WEB.Service.DC1", service("web", "", "dc1")),
            ("web.service.dc1.dc", service("web", "", "dc1")),
            ("v1.web.service", service("web", "v1", "")),
            ("v1.primary.web.service", service("web", "v1.primary", "")),
            ("_web._tcp.service", service("web", "", "")),
            ("_web._udp.service", service("web", "udp", "")),
            ("_web._v1.service.dc1", service("web", "v1", "dc1")),
            ("_web.service", service("_web", "", "")),
            ("_a._b._c.service", service("_c", "_a._b", "")),
            ("_._.service", service("", "", "")),
            ("node.service", service("node", "", "")),
            ("service.service", service("service", "", "")),
            ("web.node.service", service("node", "web", "")),
            ("my_app.service", service("my_app", "", "")),
            ("a\\.b.service", service("a\\.b", "", "")),
            ("a\\032b.service", service("a\\ b", "", "")),
            ("a\\255b.service", service("a\\255b", "", "")),
        ] {
            assert_eq!(parse(name, Type::A), expected, "{name}");
        }
    }

    #[test]
    fn the_word_service_may_be_left_out_in_srv_questions_only() {
        assert_eq!(parse("_web._tcp", Type::SRV), service("web", "", ""));
        assert_eq!(parse("_web._v1.dc1", Type::SRV), service("web", "v1", "dc1"));
        assert_eq!(parse("_web", Type::SRV), service("_web", "", ""));
        assert_eq!(parse("_web._tcp", Type::A), Lookup::Nothing);
    }

    #[test]
    fn places() {
        let port = |name| match parse(name, Type::SRV) {
            Lookup::Service { place, .. } => (place.datacenter, place.peer, place.port),
            other => panic!("{other:?}"),
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(port("web.service.http.port"), (None, None, some("http")));
        assert_eq!(port("web.service.dc1.dc.http.port"), (some("dc1"), None, some("http")));
        assert_eq!(port("web.service.http.port.p.peer"), (None, some("p"), some("http")));
        for name in [
            "web.service.a.b",
            "web.service.a.b.c",
            "web.service.default.ns",
            "web.service.default.ap",
            "web.service.x.sg",
            "web.service.dc1.dc.p.peer",
            "web.service.dc1.dc.dc2.dc",
            "node-a.node.a.b",
            "q.query.dc1.dc",
            "foo.bar",
        ] {
            assert_eq!(parse(name, Type::A), Lookup::Nothing, "{name}");
        }
    }

    #[test]
    fn other_kinds() {
        let place = Place::default();
        let form = |form| Lookup::Service { name: "web".into(), tag: None, form, place: Place::default() };
        let virtual_of = |peer: Option<&str>| Lookup::Virtual { name: "web".into(), peer: peer.map(Into::into) };
        for (name, expected) in [
            ("", Lookup::Apex),
            ("ns", Lookup::NameServer),
            ("web.connect", form(Form::Connect)),
            ("v1.web.connect", form(Form::Connect)),
            ("web.ingress", form(Form::Ingress)),
            ("web.virtual", virtual_of(None)),
            ("web.virtual.east", virtual_of(Some("east"))),
            ("web.virtual.east.peer", virtual_of(Some("east"))),
            ("web.virtual.dc1.dc", virtual_of(None)),
            ("foo.bar.node", Lookup::Node { name: "foo.bar".into(), place: place.clone() }),
            ("some.query.we.like.query", Lookup::Query),
            ("7f000002.addr", Lookup::Address([127, 0, 0, 2].into())),
            ("7F000002.addr.any.thing.at.all", Lookup::Address([127, 0, 0, 2].into())),
            ("20010db8000100000000000000000005.addr", Lookup::Address("2001:db8:1::5".parse().unwrap())),
            ("7f00000.addr", Lookup::Nothing),
            ("7f0000022.addr", Lookup::Nothing),
            ("+f000002.addr", Lookup::Nothing),
            ("7f00000x.addr", Lookup::Nothing),
            ("x.7f000002.addr", Lookup::Nothing),
            ("service", Lookup::Branch(place.clone())),
            ("addr.x.y.z", Lookup::Branch(place.clone())),
            ("node.dc1", Lookup::Branch(Place { datacenter: Some("dc1".into()), ..place.clone() })),
            ("dc1", Lookup::Branch(Place { datacenter: Some("dc1".into()), ..place })),
        ] {
            assert_eq!(parse(name, Type::A), expected, "{name}");
        }
    }
}
