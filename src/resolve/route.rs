//! Which way does a name go? Domains that are answered elsewhere than the rest: by upstreams of their own, by the usual
//! ones although a longer domain says otherwise, by nobody, or by addresses that hold for all of a domain.
//!
//! The longest domain that has something to say of a question decides. Not here: exact local data, which comes before all
//! routes, and whoever is behind a group's number.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::dns::{Class, Name, Question, Type};

/// All routes, found by their domains.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    domains: HashMap<Name, Route, RandomState>,
    /// Where names of one label go that are no domain of a route.
    single_label: Option<Route>,
    /// Addresses of names of one label are asked of nobody but a route of their own.
    domain_needed: bool,
}

/// Compared by what they say, so that a reload can tell whether they changed.
impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        (&self.domains, &self.single_label, self.domain_needed) == (&other.domains, &other.single_label, other.domain_needed)
    }
}

/// What holds for a domain and all names below it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Route {
    /// Their A and AAAA records. A family without any is not spoken of.
    pub addresses: Box<[IpAddr]>,
    /// Who is asked about the rest; `None` leaves that to shorter domains.
    pub to: Option<To>,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Group(u16),
    /// What is not known here does not exist.
    Nobody,
}

/// The way of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// No route leads anywhere.
    None,
    Group(u16),
    /// It ends here.
    Here(Here),
}

/// What a route answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Here {
    Addresses(Box<[IpAddr]>),
    /// Nobody is asked about this domain; it may have addresses all the same.
    Nothing {
        domain: Name,
        has_addresses: bool,
    },
    /// Nobody is asked for addresses of a name of one label.
    ShortName,
}

impl Routes {
    pub fn new(domain_needed: bool) -> Self {
        Self { domain_needed, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.single_label.is_none() && !self.domain_needed
    }

    /// Has a domain go this way. Of two routes of one domain, the addresses of both count, and who is asked the last one says.
    pub fn add(&mut self, domain: &Name, route: Route) {
        self.domains.entry(domain.to_lowercase()).or_default().join(route);
    }

    /// Has names of one label go this way.
    pub fn add_single_label(&mut self, route: Route) {
        self.single_label.get_or_insert_default().join(route);
    }

    /// The way of a question: that of the longest domain that has one for it. Whether a domain is signed stands in the zone
    /// above it, so that its DS records are asked of whoever knows that one, unless nobody is asked about it at all (RFC
    /// 4035, 3.1.4.1).
    pub fn way(&self, question: &Question) -> Way {
        if self.is_empty() {
            return Way::None;
        }
        let name = &question.name;
        let is_single = name.label_count() == 1;
        let is_of_parent = |domain: &Name, way: &Way| {
            question.qtype == Type::DS && domain == name && !name.is_root() && matches!(way, Way::Group(_))
        };
        let mut rest = Some(name.clone());
        while let Some(domain) = rest {
            let way = self.domains.get(&domain).and_then(|route| route.way(&domain, question.qtype));
            if let Some(way) = way.filter(|way| !is_of_parent(&domain, way)) {
                return way;
            }
            if is_single && !domain.is_root() {
                let way = self.single_label.as_ref().and_then(|route| route.way(name, question.qtype));
                if let Some(way) = way.filter(|way| !is_of_parent(&domain, way)) {
                    return way;
                }
                if self.domain_needed && [Type::A, Type::AAAA].contains(&question.qtype) {
                    return Way::Here(Here::ShortName);
                }
            }
            rest = domain.parent();
        }
        Way::None
    }

    /// The group that is asked: 0, the usual upstreams, when no route says otherwise; none for what is answered here.
    pub fn group(&self, question: &Question) -> Option<u16> {
        match self.way(question) {
            Way::Group(group) => Some(group),
            Way::None => Some(0),
            Way::Here(_) => None,
        }
    }

    /// The domains that are asked of a group, in order.
    pub fn domains_of(&self, group: u16) -> Vec<String> {
        let own = self.domains.iter().filter(|(_, route)| route.to == Some(To::Group(group)));
        let mut domains: Vec<String> = own.map(|(domain, _)| domain.to_string()).collect();
        domains.sort();
        domains
    }

    /// All that the routes say, the same for the same routes.
    pub fn written(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.domains.iter().map(|(domain, route)| format!("{domain} {route:?}")).collect();
        lines.sort();
        lines.push(format!("{:?} {}", self.single_label, self.domain_needed));
        lines
    }

    /// Is a name in a domain that is answered here, at least in part?
    pub fn is_answered_here(&self, name: &Name) -> bool {
        matches!(self.way(&Question { name: name.clone(), qtype: Type::ANY, qclass: Class::IN }), Way::Here(_))
    }
}

impl Route {
    fn join(&mut self, other: Route) {
        let all = self.addresses.iter().chain(&other.addresses).copied();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in all {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        (self.addresses, self.to) = (addresses.into(), other.to.or(self.to));
    }

    fn way(&self, domain: &Name, qtype: Type) -> Option<Way> {
        let wanted = |address: &&IpAddr| match qtype {
            Type::A => address.is_ipv4(),
            Type::AAAA => address.is_ipv6(),
            Type::ANY => true,
            _ => false,
        };
        let addresses: Box<[IpAddr]> = self.addresses.iter().filter(wanted).copied().collect();
        if !addresses.is_empty() {
            return Some(Way::Here(Here::Addresses(addresses)));
        }
        self.to.map(|to| match to {
            To::Group(group) => Way::Group(group),
            To::Nobody => Way::Here(Here::Nothing { domain: domain.clone(), has_addresses: !self.addresses.is_empty() }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn route(addresses: &[&str], to: Option<To>) -> Route {
        Route { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(), to }
    }

    fn way(routes: &Routes, text: &str, qtype: Type) -> Way {
        routes.way(&Question { name: name(text), qtype, qclass: Class::IN })
    }

    #[test]
    fn the_longest_domain_decides_and_exceptions_are_longer_domains() {
        let mut routes = Routes::default();
        for (domain, to) in [("corp.example", To::Group(1)), ("open.corp.example", To::Group(0)), ("shut.example", To::Nobody)]
        {
            routes.add(&name(domain), route(&[], Some(to)));
        }
        assert_eq!(way(&routes, "a.b.CORP.example", Type::A), Way::Group(1));
        assert_eq!(way(&routes, "x.open.corp.example", Type::A), Way::Group(0));
        assert_eq!(way(&routes, "corp.example.net", Type::A), Way::None);
        assert_eq!(way(&routes, "xcorp.example", Type::A), Way::None, "whole labels only");
        let nothing = Way::Here(Here::Nothing { domain: name("shut.example"), has_addresses: false });
        assert_eq!(way(&routes, "x.shut.example", Type::MX), nothing);
        assert!(routes.is_answered_here(&name("x.shut.example")) && !routes.is_answered_here(&name("corp.example")));
    }

    #[test]
    fn rfc4035_3_1_4_1_ds_records_are_asked_of_those_who_know_the_zone_above() {
        let mut routes = Routes::default();
        for (domain, to) in [("corp.example", To::Group(1)), ("lab.corp.example", To::Group(2)), ("lan", To::Nobody)] {
            routes.add(&name(domain), route(&[], Some(to)));
        }
        routes.add_single_label(route(&[], Some(To::Group(3))));
        assert_eq!(way(&routes, "CORP.example", Type::DS), Way::None);
        assert_eq!(way(&routes, "lab.corp.example", Type::DS), Way::Group(1));
        assert_eq!(way(&routes, "www.corp.example", Type::DS), Way::Group(1), "no apex is known there");
        assert_eq!(way(&routes, "corp.example", Type::DNSKEY), Way::Group(1));
        assert_eq!((way(&routes, "nas", Type::A), way(&routes, "nas", Type::DS)), (Way::Group(3), Way::None));
        assert!(matches!(way(&routes, "lan", Type::DS), Way::Here(_)), "what never leaves the host does not now");
        routes.add(&Name::root(), route(&[], Some(To::Group(4))));
        assert_eq!(way(&routes, "corp.example", Type::DS), Way::Group(4));
        assert_eq!(way(&routes, ".", Type::DS), Way::Group(4), "nothing is above the root");
    }

    #[test]
    fn a_family_without_addresses_is_asked_further_up() {
        let mut routes = Routes::default();
        routes.add(&name("example"), route(&[], Some(To::Group(3))));
        routes.add(&name("web.example"), route(&["192.0.2.1", "192.0.2.2"], None));
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert_eq!(way(&routes, "x.web.example", Type::A), Way::Here(Here::Addresses(addresses.into())));
        assert_eq!(way(&routes, "x.web.example", Type::AAAA), Way::Group(3));
        // The same domain twice is one route.
        routes.add(&name("web.example"), route(&[], Some(To::Nobody)));
        let nothing = Way::Here(Here::Nothing { domain: name("web.example"), has_addresses: true });
        assert_eq!(way(&routes, "x.web.example", Type::AAAA), nothing);
        assert_eq!(way(&routes, "x.web.example", Type::A), Way::Here(Here::Addresses(addresses.into())));
    }

    #[test]
    fn names_of_one_label_have_a_way_of_their_own() {
        let mut routes = Routes::new(true);
        assert_eq!(way(&routes, "printer", Type::A), Way::Here(Here::ShortName));
        assert_eq!(way(&routes, "printer", Type::MX), Way::None, "what validators ask of top-level domains passes");
        assert_eq!(way(&routes, "printer.example", Type::A), Way::None);
        assert_eq!(way(&routes, ".", Type::A), Way::None);
        routes.add_single_label(route(&[], Some(To::Group(2))));
        routes.add(&name("nas"), route(&[], Some(To::Group(4))));
        assert_eq!(way(&routes, "printer", Type::A), Way::Group(2));
        assert_eq!(way(&routes, "nas", Type::A), Way::Group(4));
        routes.add(&Name::root(), route(&["192.0.2.9"], None));
        assert_eq!(
            way(&routes, "any.where.example", Type::A),
            Way::Here(Here::Addresses(["192.0.2.9".parse().unwrap()].into()))
        );
        assert_eq!(way(&routes, "printer", Type::A), Way::Group(2));
    }
}
