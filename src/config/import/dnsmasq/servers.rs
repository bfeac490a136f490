//! Who is asked about which domain: `server`, `local`, `rev-server`, `address`, and what dnsmasq answers by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::draft::{Item, quoted};
use super::super::{Left, Origin};
use super::line::{domain_of, domains, expected, network, plain, ranges, reverse_zones, shown, upstream};
use super::{Dnsmasq, Taken};

/// What is said of one domain.
#[derive(Debug, Default)]
pub(super) struct Domain {
    pub(super) addresses: Vec<IpAddr>,
    /// `address=/domain/`
    pub(super) nothing: bool,
    /// `server=/domain/#`
    pub(super) default: bool,
    /// `server=/domain/`
    pub(super) nobody: bool,
    pub(super) upstreams: Vec<String>,
    /// A server line for it could not be carried over, and its names must not go elsewhere.
    pub(super) lost: bool,
    pub(super) from: Vec<Origin>,
}

impl Domain {
    /// Takes down a line that says something of it, however often it does.
    pub(super) fn note(&mut self, origin: &Origin) {
        if self.from.last() != Some(origin) {
            self.from.push(origin.clone());
        }
    }
}

impl Dnsmasq {
    /// `server=[/domain/…/][target]`
    pub(super) fn server(&mut self, origin: &Origin, value: &str) -> Taken {
        let (domains, target) = domains(value)?;
        let target = plain(target);
        let upstream = match &*target {
            "" | "#" => Ok(None),
            target => upstream(target).map(Some),
        };
        if domains.is_empty() {
            return match upstream? {
                Some(upstream) => {
                    self.general.push(Item { value: quoted(upstream), from: vec![origin.clone()] });
                    Ok(())
                }
                None => Err(Left::new("expected a server, got none")),
            };
        }
        let mut taken = Ok(());
        // A domain that cannot be read keeps no other of its line from going its own way.
        for domain in &domains {
            match (self.entry(origin, domain), &upstream, &*target) {
                (Ok(Some(entry)), Ok(Some(upstream)), _) => entry.upstreams.push(upstream.clone()),
                (Ok(Some(entry)), Ok(None), "#") => entry.default = true,
                (Ok(Some(entry)), Ok(None), _) => entry.nobody = true,
                (Ok(Some(entry)), Err(_), _) => entry.lost = true,
                (Ok(None), Ok(Some(upstream)), _) => {
                    self.general.push(Item { value: quoted(upstream), from: vec![origin.clone()] });
                }
                (Ok(None), ..) => taken = Err(Left::new("a line about all names says nothing without a server")),
                (Err(left), ..) => taken = Err(left),
            }
        }
        upstream.map_err(asked_of_nobody).and(taken)
    }

    /// What is said of a domain so far; `None` for `#`, which stands for all names.
    pub(super) fn entry(&mut self, origin: &Origin, domain: &str) -> Result<Option<&mut Domain>, Left> {
        let entry = match domain {
            "#" => return Ok(None),
            "" => &mut self.single_label,
            domain => {
                // `.x` is the old spelling of `x`.
                let (bare, is_below) = match domain.strip_prefix("*.") {
                    Some(bare) => (bare, true),
                    None => (domain.strip_prefix('.').unwrap_or(domain), false),
                };
                if let Some(end) = bare.strip_prefix('*') {
                    let left = Left::new(format!("rollcall knows domains of whole labels only, not {:?}", shown(domain)));
                    let left = left.hint("write each domain that is meant");
                    return Err(self.lose(origin, &[end.to_owned()], left));
                }
                let name = domain_of(bare)?;
                if is_below {
                    self.remarks.changed(origin, format!("the name {name} itself goes this way too"));
                }
                self.domains.entry(name.to_lowercase().to_string()).or_default()
            }
        };
        entry.note(origin);
        Ok(Some(entry))
    }

    /// A line about names that dnsmasq answers by itself did not come over.
    pub(super) fn unanswered(&mut self, origin: &Origin, option: &str, fields: &[String], left: Left) -> Left {
        match option {
            "synth-domain" => self.lose(origin, fields, left),
            "dynamic-host" => self.lose(origin, &fields[..fields.len().min(1)], left),
            "domain" | "domain-suffix" if fields.last().is_some_and(|last| last == "local") => self.lose(origin, fields, left),
            "auth-zone" => {
                // A network without a length has the usual one.
                let with_length = |field: &String| match field.parse::<IpAddr>() {
                    Ok(IpAddr::V4(_)) => format!("{field}/24"),
                    Ok(IpAddr::V6(_)) => format!("{field}/64"),
                    Err(_) => field.clone(),
                };
                let fields: Vec<String> = fields.iter().map(with_length).collect();
                self.lose(origin, &fields, left)
            }
            _ => left,
        }
    }

    /// `domain[,range…]`: a line that did not come over was about these names and the reverse names of these ranges, which are
    /// asked of nobody unless another line says of whom.
    pub(super) fn lose(&mut self, origin: &Origin, fields: &[String], left: Left) -> Left {
        let Some((domain, behind)) = fields.split_first() else { return left };
        let domain = domain_of(domain).ok().map(|domain| domain.to_lowercase().to_string()).filter(|domain| domain != "#.");
        let zones: Vec<String> = domain.into_iter().chain(ranges(behind).into_iter().flat_map(reverse_zones)).collect();
        if zones.is_empty() {
            return left;
        }
        for zone in zones {
            let entry = self.domains.entry(zone).or_default();
            entry.lost = true;
            entry.note(origin);
        }
        asked_of_nobody(left)
    }

    pub(super) fn rev_server(&mut self, origin: &Origin, value: &str) -> Taken {
        let (range, target) = value.split_once(',').unwrap_or((value, ""));
        let zones = reverse_zones(network(range)?);
        let target = plain(target.trim());
        let upstream = if target.is_empty() { None } else { Some(upstream(&target)) };
        for zone in zones {
            let entry = self.domains.entry(zone).or_default();
            entry.note(origin);
            match &upstream {
                None => entry.nobody = true,
                Some(Ok(upstream)) => entry.upstreams.push(upstream.clone()),
                Some(Err(_)) => entry.lost = true,
            }
        }
        upstream.map_or(Ok(()), |upstream| upstream.map(|_| ()).map_err(asked_of_nobody))
    }

    /// `address=/domain/…/[address]`
    pub(super) fn address(&mut self, origin: &Origin, value: &str) -> Taken {
        let (domains, target) = domains(value)?;
        let target = plain(target);
        let addresses: Vec<IpAddr> = match &*target {
            "" => Vec::new(),
            "#" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            target => vec![target.parse().map_err(|_| expected("an address", target))?],
        };
        let all = vec!["#".to_owned()];
        let mut taken = Ok(());
        for domain in if domains.is_empty() { &all } else { &domains } {
            let entry = match self.entry(origin, domain) {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    let entry = self.domains.entry(".".to_owned()).or_default();
                    entry.note(origin);
                    entry
                }
                Err(left) => {
                    taken = Err(left);
                    continue;
                }
            };
            match addresses.is_empty() {
                true => entry.nothing = true,
                false => entry.addresses.extend(&addresses),
            }
        }
        taken
    }
}

/// A server could not come over, and its domains go to no other.
fn asked_of_nobody(left: Left) -> Left {
    let why = format!("{}; its domains are asked of nobody, lest they go to the usual upstreams", left.why);
    Left { why, ..left }
}
