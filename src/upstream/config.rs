//! Whom to ask, as it is written: the `[forward]` section, and its routes.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::address::{Host, Upstream};
use super::sockets::Ports;
use super::{system, tls, validator};
use crate::dns::Name;
use crate::duration;
use crate::limits;
use crate::problem::Problem;
use crate::resolve::dnssec::{self, Reach};
use crate::resolve::forward::Strategy;
use crate::resolve::{cache, filter};

/// The `[forward]` section.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom to ask about names that have no route of their own; the system's own servers when unset.
    pub upstreams: Option<Vec<Upstream>>,
    /// Where the system's own servers stand, when not in /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// Which of them is asked first.
    pub strategy: Strategy,
    /// Questions go out by UDP in random letter case, to upstreams that give it back (0x20).
    pub random_case: bool,
    /// They go with the cookie that the upstream has given, if it gives any (RFC 7873).
    pub cookies: bool,
    /// Ports of ours that plain questions leave from by UDP; those that the kernel gives when unset.
    pub ports: Option<Ports>,
    /// How long a look-up may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    pub cache: cache::Config,
    pub route: Vec<Route>,
    /// Addresses of names of one label are asked of nobody but a route of their own.
    pub domain_needed: bool,
    /// What of upstreams' answers is not passed on.
    pub filter: filter::Config,
    /// Whether they are validated.
    pub dnssec: dnssec::Config,
    /// Consul's way: one after the other, nothing kept, nothing changed.
    #[serde(skip)]
    pub sequential: Option<Sequential>,
}

/// Consul's `recursor_timeout` and `recursor_strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequential {
    pub timeout: Duration,
    pub random: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstreams: None,
            resolv_conf: None,
            strategy: Strategy::default(),
            random_case: true,
            cookies: true,
            ports: None,
            // So that whoever waits 2.5 s hears why there is no answer.
            timeout: Duration::from_millis(2_450),
            cache: cache::Config::default(),
            route: Vec::new(),
            domain_needed: false,
            filter: filter::Config::default(),
            dnssec: dnssec::Config::default(),
            sequential: None,
        }
    }
}

impl Config {
    /// The usual upstreams, and those of routes.
    pub(super) fn all_upstreams(&self) -> impl Iterator<Item = &Upstream> {
        let routed = self.route.iter().filter_map(|route| match &route.upstreams {
            Some(Whom::Own(upstreams)) => Some(upstreams),
            _ => None,
        });
        self.upstreams.iter().chain(routed).flatten()
    }

    /// Is all without a route asked of the servers that the system asks? Those may change.
    pub fn asks_the_system(&self) -> bool {
        self.upstreams.is_none() && self.sequential.is_none()
    }

    /// The servers that the system asks now. `own` are our listeners, which are never asked.
    pub(super) fn system_upstreams(&self, own: &[SocketAddr]) -> Result<Vec<SocketAddr>, Problem> {
        let resolv_conf = self.resolv_conf.as_deref().unwrap_or(Path::new(system::RESOLV_CONF));
        system::upstreams(resolv_conf, Path::new(system::RESOLVED_CONF), own)
    }

    /// The files that it names, to be taken relative to its own place.
    pub fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let routed = self.route.iter_mut().filter_map(|route| match &mut route.upstreams {
            Some(Whom::Own(upstreams)) => Some(upstreams),
            _ => None,
        });
        let authorities =
            self.upstreams.iter_mut().flatten().chain(routed.flatten()).filter_map(|upstream| upstream.identity.ca.as_mut());
        authorities.chain(&mut self.dnssec.trust_anchor_file)
    }

    /// Has it upstreams without connections that are written by name? Where they are has to be looked up again and again.
    pub fn has_names(&self) -> bool {
        self.all_upstreams().any(Upstream::is_to_be_found)
    }

    /// Upstreams that are these listeners of ours by their address; they are left out.
    pub fn asks_itself(&self, own: &[SocketAddr]) -> Vec<Problem> {
        let is_own = |upstream: &&Upstream| match &upstream.host {
            Host::Address(address) => {
                address.at(upstream.port).is_ok_and(|address| own.iter().any(|own| system::is_own(address, *own)))
            }
            Host::Name(_) => false,
        };
        self.all_upstreams().filter(is_own).map(Upstream::is_us).collect()
    }

    /// What is wrong with those files. Those of authorities are read again for each connection.
    pub fn check(&self) -> Vec<Problem> {
        let files = self.all_upstreams().filter_map(|upstream| upstream.identity.ca.as_ref());
        let wrong = |file: &PathBuf| {
            let problem =
                Problem::new(format!("expected certificates of authorities in PEM, got {}", tls::authorities(file).err()?));
            Some(problem.in_file(file).hint("`ca` names a file with -----BEGIN CERTIFICATE----- in it"))
        };
        let time = limits::LOOKUP_TIME_MIN..=limits::LOOKUP_TIME_MAX;
        let wrong_time = (!time.contains(&self.timeout)).then(|| {
            let (least, most, timeout) = (time.start(), time.end(), self.timeout);
            let problem = Problem::new(format!("forward.timeout: expected {least:?} to {most:?}, got {timeout:?}"));
            problem.hint("a look-up that takes longer than 2.5s is of no use to most clients")
        });
        let anchors = self.dnssec.trust_anchor_file.iter().flat_map(|file| validator::read_anchors(file).1);
        files.filter_map(wrong).chain(wrong_time).chain(anchors).collect()
    }
}

/// Who answers below some domains. What has upstreams of its own never falls back to the others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "RouteText")]
pub struct Route {
    pub domains: Vec<Name>,
    /// Names of one label that are no domain of another route.
    pub single_label: bool,
    /// A and AAAA records of the domains and of all names below them.
    pub addresses: Vec<IpAddr>,
    /// Who is asked for all else; without it, whoever is without this route.
    pub upstreams: Option<Whom>,
    /// Which of them is asked first; without it, as for all other names.
    pub strategy: Option<Strategy>,
    /// Answers of upstreams of its own are validated as those of the usual ones are.
    pub validate: bool,
}

/// A route as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct RouteText {
    #[serde(deserialize_with = "crate::resolve::domains::deserialize")]
    domains: Vec<Name>,
    single_label: bool,
    addresses: Vec<IpAddr>,
    upstreams: Option<Whom>,
    strategy: Option<Strategy>,
    validate: bool,
}

impl TryFrom<RouteText> for Route {
    type Error = &'static str;

    fn try_from(text: RouteText) -> Result<Self, &'static str> {
        let RouteText { domains, single_label, addresses, upstreams, strategy, validate } = text;
        if domains.is_empty() && !single_label {
            return Err("expected `domains` of this route, got none");
        }
        // A route that was to be private must not be none because a line of it is missing.
        if addresses.is_empty() && upstreams.is_none() {
            return Err("expected `upstreams` or `addresses` of this route, got neither (`upstreams = []` asks nobody)");
        }
        Ok(Self { domains, single_label, addresses, upstreams, strategy, validate })
    }
}

impl Route {
    /// What it means for validation: what only its own upstreams know is in no tree that others sign.
    pub(super) fn reach(&self) -> Option<Reach> {
        match &self.upstreams {
            Some(Whom::Own(_)) if !self.validate => Some(Reach::Private),
            Some(_) => Some(Reach::Public),
            None => None,
        }
    }

    /// What upstreams are called by whose first route this is.
    pub(super) fn called(&self) -> String {
        self.domains.first().map_or_else(|| "single_label".to_owned(), |domain| domain.to_lowercase().to_string())
    }
}

/// Whom a route asks: `["10.0.0.2"]`, nobody with `[]`, or the usual upstreams with `"default"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    Default,
    Own(Vec<Upstream>),
}

impl<'de> Deserialize<'de> for Whom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Whom;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of upstreams, [] for nobody, or \"default\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Whom, E> {
                if text == "default" {
                    Ok(Whom::Default)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Whom, A::Error> {
                let upstreams = Vec::deserialize(SeqAccessDeserializer::new(list));
                upstreams.map(Whom::Own).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_says_whom_it_asks() {
        let read = |text: &str| toml::from_str::<Route>(text).map_err(|error| error.message().to_owned());
        let route = read("domains = [\"a\"]\nupstreams = [\"192.0.2.1\"]").unwrap();
        assert_eq!(route.upstreams, Some(Whom::Own(vec!["192.0.2.1".parse().unwrap()])));
        assert_eq!(read("single_label = true\nupstreams = \"default\"").unwrap().upstreams, Some(Whom::Default));
        assert_eq!(read("domains = [\"a\"]\naddresses = [\"192.0.2.1\"]").unwrap().upstreams, None);
        for (text, said) in [
            ("domains = [\"a\"]", "expected `upstreams` or `addresses`"),
            ("upstreams = []", "expected `domains`"),
            ("domains = [\"a\"]\nupstreams = \"192.0.2.1\"", "a list of upstreams, [] for nobody, or \"default\""),
            ("domains = [\"a\"]\nupstreams = [\"http://x\"]", "expected an upstream such as"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
