//! Lines that give a name data: `host-record` and its like.

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::{Left, Origin};
use super::line::{expected, fields, generic, host_of, name_data, name_of, number, reverse_zones};
use super::{Dnsmasq, Taken, addresses_of};
use crate::dns::{Name, Type};
use crate::resolve::local::RecordConfig;

impl Dnsmasq {
    /// `name[,name…],[IPv4],[IPv6][,TTL]`
    pub(super) fn host_record(&mut self, origin: &Origin, value: &str) -> Taken {
        // Of two addresses of a kind the last one counts.
        let (mut names, mut v4, mut v6, mut ttl) = (Vec::new(), None, None, None);
        for field in fields(value).iter().filter(|field| !field.is_empty()) {
            match field.parse::<IpAddr>() {
                Ok(address) if address.is_ipv4() => v4 = Some(address),
                Ok(address) => v6 = Some(address),
                Err(_) if field.chars().all(|c| c.is_ascii_digit()) => ttl = Some(number(field)?),
                Err(_) => names.push(name_of(field)?),
            }
        }
        let addresses: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
        if names.is_empty() || addresses.is_empty() {
            return Err(expected("names and addresses", value));
        }
        self.addresses(origin, &names, &addresses, ttl)
    }

    /// Names with addresses, and the way back from each address to the first name.
    pub(super) fn addresses(&mut self, origin: &Origin, names: &[Name], addresses: &[IpAddr], ttl: Option<u32>) -> Taken {
        for address in addresses {
            let record_type = if address.is_ipv4() { "A" } else { "AAAA" };
            for name in names {
                self.record(origin, name.clone(), record_type, address, ttl)?;
            }
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let reverse = IpNet::new(*address, bits).map(reverse_zones).unwrap_or_default();
            if let (Some(Ok(reverse)), Some(name)) = (reverse.first().map(|zone| zone.parse::<Name>()), names.first())
                && self.reversed.insert(reverse.clone())
            {
                self.record(origin, reverse, "PTR", name_data(name), ttl)?;
            }
        }
        Ok(())
    }

    pub(super) fn interface_name(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        let [names @ .., interface] = &fields[..] else { return Err(expected("NAME,INTERFACE", value)) };
        let (interface, family) = interface.split_once('/').unwrap_or((interface, ""));
        let wanted = |address: &IpAddr| match family {
            "4" => address.is_ipv4(),
            "6" => address.is_ipv6(),
            _ => true,
        };
        let addresses: Vec<IpAddr> = addresses_of(|name| name == interface).into_iter().filter(wanted).collect();
        if names.is_empty() || addresses.is_empty() {
            return Err(Left::new(format!("the interface {interface} has no address on this machine"))
                .hint("write the address: [[record]] with type = \"A\""));
        }
        let names = names.iter().map(|name| name_of(name)).collect::<Result<Vec<_>, _>>()?;
        self.remarks.changed(origin, "these are the addresses that the interface has now; rollcall does not follow it");
        self.addresses(origin, &names, &addresses, None)
    }

    /// `alias[,alias…],target[,TTL]`
    pub(super) fn cname(&mut self, origin: &Origin, value: &str) -> Taken {
        let mut fields = fields(value);
        let is_ttl = |field: &String| field.chars().all(|c| c.is_ascii_digit()) && !field.is_empty();
        let ttl = fields.pop_if(|field| is_ttl(field)).map(|field| number(&field)).transpose()?;
        let target = name_of(&fields.pop().unwrap_or_default())?;
        if fields.is_empty() {
            return Err(expected("ALIAS,TARGET", value));
        }
        for alias in fields {
            self.record(origin, name_of(&alias)?, "CNAME", name_data(&target), ttl)?;
        }
        Ok(())
    }

    /// `name[,target[,port[,priority[,weight]]]]`; a name of two labels is in the domain.
    pub(super) fn srv_host(&mut self, origin: &Origin, fields: &[String]) -> Taken {
        let field = |at: usize| fields.get(at).map_or("", |field| field);
        let mut name = name_of(field(0))?;
        if name.label_count() == 2
            && let Some((domain, _)) = &self.domain
        {
            let labels: Vec<&[u8]> = name.labels().collect();
            name = domain.prefixed(labels).ok_or_else(|| expected("a shorter name", field(0)))?;
        }
        let or = |at: usize, default: u16| if field(at).is_empty() { Ok(default) } else { number(field(at)) };
        let (port, priority, weight) = (or(2, 1)?, or(3, 0)?, or(4, 0)?);
        let target = if field(1).is_empty() { Name::root() } else { host_of(field(1))? };
        self.record(origin, name, "SRV", format!("{priority} {weight} {port} {target}"), None)
    }

    /// `name[[,host],preference]`; the host of `mx-target` is meant where there is none.
    pub(super) fn mx_host(&mut self, origin: &Origin, fields: &[String], target: Option<&str>) -> Taken {
        let (name, host, preference) = match (fields, target) {
            ([name], Some(target)) => (name, target, "1"),
            ([name, host], _) => (name, &**host, "1"),
            ([name, host, preference], _) => (name, &**host, &**preference),
            _ => {
                let left = expected("NAME,HOST,PREFERENCE", &fields.join(","));
                return Err(left.hint("dnsmasq would name its own host: write the host"));
            }
        };
        let value = format!("{} {}", number::<u16>(preference)?, host_of(host)?);
        self.record(origin, name_of(name)?, "MX", value, None)
    }

    pub(super) fn naptr_record(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        let [name, order, preference, flags, service, regexp, rest @ ..] = &fields[..] else {
            return Err(expected("NAME,ORDER,PREFERENCE,FLAGS,SERVICE,REGEXP[,REPLACEMENT]", value));
        };
        let replacement = match rest {
            [] => Name::root(),
            [replacement] => name_of(replacement)?,
            _ => return Err(expected("no more than one replacement", value)),
        };
        // By its octets, as the text form of a regular expression is read differently here and there.
        let mut octets = Vec::new();
        octets.extend(number::<u16>(order)?.to_be_bytes());
        octets.extend(number::<u16>(preference)?.to_be_bytes());
        for text in [flags, service, regexp] {
            octets.push(u8::try_from(text.len()).map_err(|_| expected("at most 255 octets", text))?);
            octets.extend(text.as_bytes());
        }
        octets.extend(replacement.wire());
        self.record(origin, name_of(name)?, "NAPTR", generic(&octets), None)
    }

    pub(super) fn dns_rr(&mut self, origin: &Origin, value: &str) -> Taken {
        let fields = fields(value);
        let (name, kind, hex) = match &fields[..] {
            [name, kind] => (name, kind, ""),
            [name, kind, hex] => (name, kind, &**hex),
            _ => return Err(expected("NAME,NUMBER,HEX", value)),
        };
        let digits: Vec<u32> = hex
            .chars()
            .filter(|c| *c != ':' && !c.is_whitespace())
            .map(|c| c.to_digit(16).ok_or_else(|| expected("hexadecimal digits", hex)))
            .collect::<Result<_, _>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(expected("two digits for each octet", hex));
        }
        let octets: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
        self.record(origin, name_of(name)?, &format!("TYPE{}", number::<u16>(kind)?), generic(&octets), None)
    }

    /// Takes note of one record, unless its data is wrong or the name cannot have it.
    pub(super) fn record(
        &mut self,
        origin: &Origin,
        name: Name,
        record_type: &str,
        value: impl Display,
        ttl: Option<u32>,
    ) -> Taken {
        let ttl = ttl.map(|ttl| ttl.min(i32::MAX.cast_unsigned()));
        let record = RecordConfig { name, record_type: record_type.to_owned(), value: value.to_string(), ttl };
        let data = record.data().map_err(|(error, _)| Left::new(error))?;
        self.claim(&record.name, (data.record_type() == Type::CNAME).then_some(&record.value))?;
        self.records.push((record, origin.clone()));
        Ok(())
    }

    /// An alias is the only record of its name (RFC 1034, 3.6.2), and wildcards have no place among records.
    pub(super) fn claim(&mut self, name: &Name, alias: Option<&String>) -> Taken {
        if name.labels().next() == Some(b"*") {
            return Err(
                Left::new("a [[record]] has one exact name").hint("write a zone file with the wildcard: `zones.folder`")
            );
        }
        match self.claimed.entry(name.clone()).or_insert_with(|| alias.cloned()).as_ref() == alias {
            true => Ok(()),
            false => Err(Left::new(format!("an alias is the only record of its name, and {name} has others"))),
        }
    }
}
