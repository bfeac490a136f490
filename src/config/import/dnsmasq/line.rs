//! How dnsmasq's lines read: options and values, and the forms that values have.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::super::Left;
use crate::dns::Name;
use crate::resolve::domains;
use crate::upstream::{Address, Upstream};

/// Characters that mean nothing within quotes; each is hidden behind one of these meanwhile.
const HIDDEN: [(char, char); 4] = [(',', '\u{e000}'), ('.', '\u{e001}'), (':', '\u{e002}'), ('#', '\u{e003}')];

/// One line: an option and its value. A comment begins at the start or behind a blank; within quotes it does not.
pub(super) fn statement(line: &str) -> Result<Option<(String, Option<String>)>, String> {
    if line.contains(HIDDEN.map(|(_, hidden)| hidden)) {
        return Err("expected text, got characters of no meaning".to_owned());
    }
    let mut text = String::new();
    let mut chars = line.chars();
    let mut quoted = false;
    let mut after_blank = true;
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => text.push(match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('e') => '\u{1b}',
                Some(other) => other,
                None => return Err("expected a character behind the backslash".to_owned()),
            }),
            '#' if !quoted && after_blank => break,
            c => match HIDDEN.iter().find(|(own, _)| quoted && *own == c) {
                Some((_, hidden)) => text.push(*hidden),
                None => text.push(c),
            },
        }
        after_blank = c.is_whitespace();
    }
    if quoted {
        return Err("expected a closing quotation mark".to_owned());
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.trim().to_owned())),
        None => (text, None),
    };
    Ok(Some((plain(name.trim()), value)))
}

/// A part of a value as it was meant.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| HIDDEN.iter().find(|(_, hidden)| *hidden == c).map_or(c, |(own, _)| *own)).collect()
}

/// The same, to be shown.
pub(super) fn shown(text: &str) -> String {
    plain(text).chars().take(60).collect()
}

/// The parts of a value between commas.
pub(super) fn fields(value: &str) -> Vec<String> {
    value.split(',').map(|field| plain(field.trim())).collect()
}

/// `/domain/…/target`; no domains when the value is a target alone.
pub(super) fn domains(value: &str) -> Result<(Vec<String>, &str), Left> {
    let Some(rest) = value.strip_prefix('/') else { return Ok((Vec::new(), value)) };
    let Some((domains, target)) = rest.rsplit_once('/') else { return Err(expected("/DOMAIN/", value)) };
    Ok((domains.split('/').map(|domain| plain(domain.trim())).collect(), target.trim()))
}

pub(super) fn expected(what: &str, got: &str) -> Left {
    Left::new(format!("expected {what}, got {:?}", shown(got)))
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, Left> {
    plain(text).parse().map_err(|_| expected("a number that fits", text))
}

pub(super) fn name_of(text: &str) -> Result<Name, Left> {
    match text.parse::<Name>() {
        Ok(name) if text.is_ascii() && !name.is_root() && !text.contains(|c: char| c.is_control() || c == '\\') => Ok(name),
        _ if !text.is_ascii() => Err(expected("a name in ASCII", text).hint("write it as xn--…; `idn` shows how")),
        _ => Err(expected("a name", text)),
    }
}

/// A domain with all that is below it, in the letters of any language.
pub(super) fn domain_of(text: &str) -> Result<Name, Left> {
    match Name::from_idn(text) {
        Ok(name) if !name.is_root() && !text.contains(|c: char| c.is_control() || "\\*".contains(c)) => Ok(name),
        _ => Err(expected("a domain", text)),
    }
}

/// A name where a record's data has one beside others.
pub(super) fn host_of(text: &str) -> Result<Name, Left> {
    name_of(text).and_then(|name| if is_simple(text) { Ok(name) } else { Err(expected("the name of a host", text)) })
}

/// Does a text read as a name wherever a zone file has one?
fn is_simple(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

/// A name that is all of a record's data; names of services may have any characters.
pub(super) fn name_data(name: &Name) -> String {
    let text = name.to_string();
    if is_simple(&text) { text } else { generic(name.wire()) }
}

/// `address[/length]`
pub(super) fn network(text: &str) -> Result<IpNet, Left> {
    let text = plain(text.trim());
    let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(alone).map(|network: IpNet| network.trunc()).ok_or_else(|| expected("ADDRESS/LENGTH", &text))
}

/// The networks of `address/length`, `first,last` and single addresses; what is none of them is passed over.
pub(super) fn ranges(mut fields: &[String]) -> Vec<IpNet> {
    let mut networks = Vec::new();
    while let [first, rest @ ..] = fields {
        let last = rest.first().and_then(|last| last.parse().ok());
        fields = match (first.parse().ok(), last) {
            (Some(IpAddr::V4(first)), Some(IpAddr::V4(last))) if first <= last => {
                networks.extend(Ipv4Subnets::new(first, last, 0).map(IpNet::V4));
                &rest[1..]
            }
            (Some(IpAddr::V6(first)), Some(IpAddr::V6(last))) if first <= last => {
                networks.extend(Ipv6Subnets::new(first, last, 0).map(IpNet::V6));
                &rest[1..]
            }
            _ => {
                networks.extend(network(first));
                rest
            }
        };
    }
    networks
}

/// `host[#port][@…]`
pub(super) fn upstream(text: &str) -> Result<String, Left> {
    let (host, bind) = text.split_once('@').map_or((text, None), |(host, bind)| (host, Some(bind)));
    if bind.is_some() {
        return Err(Left::new("rollcall leaves the way to an upstream to the routing table")
            .hint("write the upstream without it, and a route: ip route add UPSTREAM dev INTERFACE src ADDRESS"));
    }
    let (host, port) = host.split_once('#').map_or((host, 53), |(host, port)| (host, port.parse::<u16>().unwrap_or(0)));
    if port == 0 {
        return Err(expected("a port from 1 to 65535", text));
    }
    let written = match host.parse::<Address>() {
        Ok(address) if address.ip.is_ipv6() => format!("[{address}]:{port}"),
        Ok(address) => format!("{address}:{port}"),
        Err(_) if host.contains([':', '%', '/']) => return Err(expected("ADDRESS#PORT", text)),
        Err(_) => format!("{host}:{port}"),
    };
    written.parse::<Upstream>().map_err(|_| expected("ADDRESS#PORT", text))?;
    // The usual port goes without saying.
    Ok(match port {
        53 => host.to_owned(),
        _ => written,
    })
}

/// The domains below which the reverse names of a network are.
pub(super) fn reverse_zones(network: IpNet) -> Vec<String> {
    domains::reverse(network).iter().map(Name::to_string).collect()
}

/// Text as character strings of at most 255 octets, as a zone file has them.
pub(super) fn character_strings(text: &str) -> Vec<String> {
    let chunks = text.as_bytes().chunks(255);
    let chunks: Vec<&[u8]> = if text.is_empty() { vec![&[]] } else { chunks.collect() };
    let string = |octets: &&[u8]| {
        let mut string = String::from("\"");
        for octet in *octets {
            match octet {
                b'"' | b'\\' => string.extend(['\\', char::from(*octet)]),
                b' '..=b'~' => string.push(char::from(*octet)),
                _ => string.push_str(&format!("\\{octet:03}")),
            }
        }
        string + "\""
    };
    chunks.iter().map(string).collect()
}

/// Octets in the form that any type has (RFC 3597, 5).
pub(super) fn generic(octets: &[u8]) -> String {
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("\\# {} {hex}", octets.len()).trim_end().to_owned()
}
