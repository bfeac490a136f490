//! What the discovery domain's owner may set. Options carry Consul's names and defaults.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::dns::Name;
use crate::duration;

/// Whose side to take where Consul's answers and the RFCs part ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    Consul,
    #[default]
    Rfc,
}

/// Everything that shapes an answer beside the catalog.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub domain: Name,
    /// A second zone with the same content.
    pub alt_domain: Option<Name>,
    /// The datacenter that is meant when a name has none.
    pub datacenter: String,
    /// Our own node.
    pub node_name: String,
    /// Are names outside the domain forwarded? Says RA, and whether reverse look-ups go on upstream.
    pub recursors: bool,
    pub compat: Compat,
    /// Prefer `wan` addresses for what lives in another datacenter.
    pub translate_wan_addrs: bool,
    pub dns_config: DnsConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: Name::from_labels([&b"consul"[..]]).unwrap_or_else(Name::root),
            alt_domain: None,
            datacenter: "dc1".into(),
            node_name: String::new(),
            recursors: false,
            compat: Compat::default(),
            translate_wan_addrs: false,
            dns_config: DnsConfig::default(),
        }
    }
}

/// Consul's `dns_config` block.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// TTL of what belongs to nodes: node, addr and virtual names, NS and its addresses.
    #[serde(deserialize_with = "duration::deserialize")]
    pub node_ttl: Duration,
    /// TTLs of services by name, by `prefix*`, or `*` for all; no match is 0.
    #[serde(deserialize_with = "duration::deserialize_map")]
    pub service_ttl: BTreeMap<String, Duration>,
    /// Leave out instances in warning, not only critical ones.
    pub only_passing: bool,
    /// Set TC when records were cut.
    pub enable_truncate: bool,
    /// The most answers over UDP to a client without a useful EDNS size.
    pub udp_answer_limit: Option<u16>,
    /// The most instances in an answer that is not SRV; 0 is no limit.
    pub a_record_limit: u32,
    pub enable_additional_node_meta_txt: bool,
    pub soa: SoaConfig,
    pub disable_compression: bool,
    /// Accepted for the sake of Consul's files: the catalog at hand is always the one that answers.
    pub allow_stale: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_stale: Duration,
    pub use_cache: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    pub cache_max_age: Duration,
    /// For the forwarder: how long one attempt at one recursor may take.
    #[serde(deserialize_with = "duration::deserialize")]
    pub recursor_timeout: Duration,
    pub recursor_strategy: RecursorStrategy,
    /// Accepted, without effect: there are no namespaces here.
    pub prefer_namespace: bool,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            node_ttl: Duration::ZERO,
            service_ttl: BTreeMap::new(),
            only_passing: false,
            enable_truncate: false,
            udp_answer_limit: None,
            a_record_limit: 0,
            enable_additional_node_meta_txt: true,
            soa: SoaConfig::default(),
            disable_compression: false,
            allow_stale: true,
            max_stale: Duration::from_secs(87_600 * 3600),
            use_cache: false,
            cache_max_age: Duration::ZERO,
            recursor_timeout: Duration::from_secs(2),
            recursor_strategy: RecursorStrategy::Sequential,
            prefer_namespace: false,
        }
    }
}

/// In which order recursors are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecursorStrategy {
    Sequential,
    Random,
}

/// The SOA record's numbers, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SoaConfig {
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// How long a negative answer may be kept; unset is 0 as Consul has it, and 1 by default.
    pub min_ttl: Option<u32>,
}

impl Default for SoaConfig {
    fn default() -> Self {
        Self { refresh: 3600, retry: 600, expire: 86_400, min_ttl: None }
    }
}

impl Settings {
    pub(super) fn is_consul(&self) -> bool {
        self.compat == Compat::Consul
    }

    /// The TTL of a service's records: the exact key, else the longest `prefix*`, else 0.
    pub(super) fn service_ttl(&self, service: &str) -> u32 {
        let ttls = &self.dns_config.service_ttl;
        let exact = || ttls.get(service);
        let prefixed = || {
            let prefixes = ttls.iter().filter_map(|(key, ttl)| Some((key.strip_suffix('*')?, ttl)));
            prefixes
                .filter(|(prefix, _)| service.starts_with(prefix))
                .max_by_key(|(prefix, _)| prefix.len())
                .map(|(_, ttl)| ttl)
        };
        exact().or_else(prefixed).map_or(0, |ttl| seconds(*ttl))
    }

    pub(super) fn node_ttl(&self) -> u32 {
        seconds(self.dns_config.node_ttl)
    }

    pub(super) fn negative_ttl(&self) -> u32 {
        self.dns_config.soa.min_ttl.unwrap_or(if self.is_consul() { 0 } else { 1 })
    }
}

fn seconds(duration: Duration) -> u32 {
    // RFC 2181, section 8: a TTL has 31 bits.
    duration.as_secs().min(i32::MAX as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_gives_the_ttl() {
        let dns_config =
            serde_json::from_str(r#"{"service_ttl": {"d*": "42s", "db": "10s", "db*": "66s", "*": "5s"}}"#).unwrap();
        let settings = Settings { dns_config, ..Settings::default() };
        for (service, ttl) in [("db", 10), ("dblb", 66), ("dk", 42), ("api", 5)] {
            assert_eq!(settings.service_ttl(service), ttl, "{service}");
        }
        assert_eq!(Settings::default().service_ttl("db"), 0);
    }

    #[test]
    fn missing_options_keep_their_defaults() {
        let settings: Settings = serde_json::from_str(
            r#"{"domain": "Corp.", "compat": "consul", "dns_config": {"soa": {"retry": 7}, "udp_answer_limit": 5}}"#,
        )
        .unwrap();
        assert_eq!(settings.domain, "corp.".parse().unwrap());
        assert_eq!(settings.dns_config.soa, SoaConfig { retry: 7, ..SoaConfig::default() });
        assert!(settings.dns_config.enable_additional_node_meta_txt && settings.dns_config.allow_stale);
        assert_eq!((settings.negative_ttl(), Settings::default().negative_ttl()), (0, 1));
    }
}
