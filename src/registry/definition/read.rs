//! From JSON to a definition: keys in any of their spellings, values by Consul's rules and in its order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use smol_str::SmolStr;

use super::{CheckDefinition, CheckKind, Invalid, MetaFault, OUTPUT_MAX_SIZE, ServiceDefinition};
use crate::catalog::{Address, Health, ServiceAddress, Weights};
use crate::duration;

/// Keys of a service, as they are to be spelled.
pub(super) const SERVICE_KEYS: &[&str] = &[
    "name",
    "id",
    "tags",
    "address",
    "port",
    "ports",
    "socket_path",
    "tagged_addresses",
    "meta",
    "weights",
    "enable_tag_override",
    "check",
    "checks",
    "kind",
    "proxy",
    "connect",
    "token",
    "namespace",
    "partition",
    "locality",
];

/// Keys of a check, as they are to be spelled.
pub(super) const CHECK_KEYS: &[&str] = &[
    "name",
    "id",
    "check_id",
    "notes",
    "service_id",
    "status",
    "interval",
    "timeout",
    "ttl",
    "http",
    "method",
    "header",
    "body",
    "disable_redirects",
    "tcp",
    "tcp_use_tls",
    "udp",
    "args",
    "script_args",
    "shell",
    "docker_container_id",
    "grpc",
    "grpc_use_tls",
    "h2ping",
    "h2ping_use_tls",
    "os_service",
    "alias_node",
    "alias_service",
    "tls_server_name",
    "tls_skip_verify",
    "output_max_size",
    "success_before_passing",
    "failures_before_warning",
    "failures_before_critical",
    "deregister_critical_service_after",
    "token",
    "namespace",
    "partition",
];

/// Reads the definition of a service; keys that are not known are passed over.
pub fn service(json: &Json) -> Result<ServiceDefinition, Invalid> {
    Reader::default().service(json)
}

/// Reads the definition of a check that stands by itself; keys that are not known are passed over.
pub fn check(json: &Json) -> Result<CheckDefinition, Invalid> {
    Reader::default().check(json)
}

/// Reads definitions, and notes on the way what it did not know.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Keys that mean nothing in a service (`false`) or a check (`true`), as they are spelled.
    pub(super) unknown: Vec<(String, bool)>,
    folded: String,
    last_name: Arc<str>,
}

impl Reader {
    pub(super) fn service(&mut self, json: &Json) -> Result<ServiceDefinition, Invalid> {
        let empty = Map::new();
        let mut id = SmolStr::default();
        let mut service = ServiceDefinition {
            id: SmolStr::default(),
            name: Arc::default(),
            kind: Arc::default(),
            tags: Vec::new(),
            address: Address::OfNode,
            port: 0,
            ports: None,
            socket_path: Arc::default(),
            tagged_addresses: BTreeMap::new(),
            meta: BTreeMap::new(),
            weights: Weights::default(),
            enable_tag_override: false,
            proxy: None,
            connect: None,
            checks: Vec::new(),
        };
        let (mut port, mut any) = (0, false);
        let mut weights = None;
        let (mut one, mut several) = (None, [].as_slice());
        for (key, value) in object("service", json)?.unwrap_or(&empty) {
            if value.is_null() {
                continue;
            }
            match fold(&mut self.folded, key) {
                "name" => service.name = self.name(text(key, value)?),
                "id" => id = text(key, value)?.into(),
                "kind" => service.kind = text(key, value)?.into(),
                "tags" => service.tags = texts(key, value)?,
                "address" => {
                    let address = text(key, value)?;
                    (service.address, any) = (address.into(), is_any(address));
                }
                "port" => port = integer(key, value)?,
                "ports" => service.ports = Some(value.clone()),
                "socketpath" => service.socket_path = text(key, value)?.into(),
                "taggedaddresses" => service.tagged_addresses = self.tagged_addresses(key, value)?,
                "meta" => service.meta = pairs(key, value)?,
                "weights" => weights = Some(self.weights(key, value)?),
                "enabletagoverride" => service.enable_tag_override = truth(key, value)?,
                "proxy" => service.proxy = Some(value.clone()),
                "connect" => service.connect = Some(value.clone()),
                "check" => one = Some(value),
                "checks" => several = list(key, value)?,
                "token" | "namespace" | "partition" | "locality" => {}
                _ => self.unknown.push((key.clone(), false)),
            }
        }
        if service.name.is_empty() {
            return Err(Invalid::ServiceName);
        }
        service.id = if id.is_empty() { (&*service.name).into() } else { id };
        if any {
            return Err(Invalid::Address { key: "address" });
        }
        if let Some(weights) = weights {
            service.weights = weights_within_bounds(weights)?;
        }
        meta_is_sound(&service.meta)?;
        if port != 0 && !service.socket_path.is_empty() {
            return Err(Invalid::Service("both a port and the path of a socket were given"));
        }
        // Consul takes any number and answers its low 16 bits; see `port_is_sound`.
        service.port = port as u16;
        service.checks = self.checks_of(&service, one, several)?;
        Ok(service)
    }

    /// Instances of one service most often stand together, and hold its name once.
    fn name(&mut self, name: &str) -> Arc<str> {
        if *self.last_name != *name {
            self.last_name = name.into();
        }
        self.last_name.clone()
    }

    fn checks_of(
        &mut self,
        service: &ServiceDefinition,
        one: Option<&Json>,
        several: &[Json],
    ) -> Result<Vec<CheckDefinition>, Invalid> {
        let mut checks = Vec::new();
        let mut statuses = Vec::new();
        for json in one.into_iter().chain(several) {
            let Some(fields) = object("check", json)? else { continue };
            let draft = self.draft(fields)?;
            if draft == Draft::default() {
                continue;
            }
            statuses.push(draft.status.clone());
            checks.push(draft.finish()?);
        }
        // Every check's form is judged before any status is: clients see the first complaint only.
        for (check, status) in checks.iter_mut().zip(statuses) {
            check.status = health(&status).map_err(|()| Invalid::StatusOfServiceCheck)?;
        }
        let numbered = checks.len() > 1;
        for (place, check) in checks.iter_mut().enumerate() {
            check.service_id = service.id.clone();
            check.within_service = true;
            if check.id.is_empty() {
                check.id = if numbered {
                    format!("service:{}:{}", service.id, place + 1).into()
                } else {
                    format!("service:{}", service.id).into()
                };
            }
            if check.name.is_empty() {
                check.name = format!("Service '{}' check", service.name).into();
            }
        }
        Ok(checks)
    }

    pub(super) fn check(&mut self, json: &Json) -> Result<CheckDefinition, Invalid> {
        let empty = Map::new();
        let draft = self.draft(object("check", json)?.unwrap_or(&empty))?;
        if draft.name.is_empty() {
            return Err(Invalid::CheckName);
        }
        let status = health(&draft.status).map_err(|()| Invalid::StatusOfCheck)?;
        let mut check = draft.finish()?;
        check.status = status;
        if check.id.is_empty() {
            check.id = check.name.clone();
        }
        Ok(check)
    }

    fn draft(&mut self, fields: &Map<String, Json>) -> Result<Draft, Invalid> {
        let mut draft = Draft::default();
        for (key, value) in fields {
            if value.is_null() {
                continue;
            }
            match fold(&mut self.folded, key) {
                "checkid" => draft.id = text(key, value)?.into(),
                "id" if draft.id.is_empty() => draft.id = text(key, value)?.into(),
                "id" => {}
                "name" => draft.name = text(key, value)?.into(),
                "notes" => draft.notes = text(key, value)?.into(),
                "serviceid" => draft.service_id = text(key, value)?.into(),
                "status" => draft.status = text(key, value)?.to_owned(),
                "interval" => draft.interval = span(key, value)?,
                "timeout" => draft.timeout = span(key, value)?,
                "ttl" => draft.ttl = span(key, value)?,
                "http" => draft.http = text(key, value)?.to_owned(),
                "method" => draft.method = text(key, value)?.to_owned(),
                "header" => draft.header = headers(key, value)?,
                "body" => draft.body = text(key, value)?.to_owned(),
                "disableredirects" => draft.disable_redirects = truth(key, value)?,
                "tcp" => draft.tcp = text(key, value)?.to_owned(),
                "tcpusetls" => draft.tcp_use_tls = truth(key, value)?,
                "udp" => draft.udp = text(key, value)?.to_owned(),
                "args" | "scriptargs" => draft.args = texts(key, value)?.iter().map(|arg| arg.to_string()).collect(),
                "shell" => draft.shell = text(key, value)?.to_owned(),
                "dockercontainerid" => draft.docker = text(key, value)?.to_owned(),
                "grpc" => draft.grpc = text(key, value)?.to_owned(),
                "grpcusetls" => draft.other_tls = truth(key, value)?,
                "h2ping" => draft.h2ping = text(key, value)?.to_owned(),
                "h2pingusetls" => draft.other_tls = truth(key, value)?,
                "osservice" => draft.os_service = text(key, value)?.to_owned(),
                "aliasnode" => draft.alias_node = text(key, value)?.into(),
                "aliasservice" => draft.alias_service = text(key, value)?.into(),
                "tlsservername" => draft.tls_server_name = text(key, value)?.to_owned(),
                "tlsskipverify" => draft.tls_skip_verify = truth(key, value)?,
                "outputmaxsize" => draft.output_max_size = integer(key, value)?,
                "successbeforepassing" => draft.success_before_passing = integer(key, value)?,
                "failuresbeforewarning" => draft.failures_before_warning = integer(key, value)?,
                "failuresbeforecritical" => draft.failures_before_critical = integer(key, value)?,
                "deregistercriticalserviceafter" => draft.deregister_after = span(key, value)?,
                "token" | "namespace" | "partition" | "proxyhttp" | "proxygrpc" => {}
                _ => self.unknown.push((key.clone(), true)),
            }
        }
        Ok(draft)
    }

    fn tagged_addresses(&mut self, key: &str, json: &Json) -> Result<BTreeMap<String, ServiceAddress>, Invalid> {
        let mut addresses = BTreeMap::new();
        for (tag, value) in object(key, json)?.into_iter().flatten() {
            let mut tagged = ServiceAddress { address: String::new(), port: 0 };
            for (key, value) in object(tag, value)?.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
                match fold(&mut self.folded, key) {
                    "address" => text(key, value)?.clone_into(&mut tagged.address),
                    "port" => tagged.port = integer(key, value)? as u16,
                    _ => self.unknown.push((key.clone(), false)),
                }
            }
            addresses.insert(tag.clone(), tagged);
        }
        Ok(addresses)
    }

    fn weights(&mut self, key: &str, json: &Json) -> Result<(i64, i64), Invalid> {
        let (mut passing, mut warning) = (0, 0);
        for (key, value) in object(key, json)?.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            match fold(&mut self.folded, key) {
                "passing" => passing = integer(key, value)?,
                "warning" => warning = integer(key, value)?,
                _ => self.unknown.push((key.clone(), false)),
            }
        }
        Ok((passing, warning))
    }
}

/// The fields of a check before they are judged together.
#[derive(Debug, Default, PartialEq)]
struct Draft {
    id: Arc<str>,
    name: Arc<str>,
    notes: Arc<str>,
    service_id: SmolStr,
    status: String,
    interval: Duration,
    timeout: Duration,
    ttl: Duration,
    http: String,
    method: String,
    header: BTreeMap<String, Vec<String>>,
    body: String,
    disable_redirects: bool,
    tcp: String,
    tcp_use_tls: bool,
    udp: String,
    args: Vec<String>,
    shell: String,
    docker: String,
    grpc: String,
    h2ping: String,
    os_service: String,
    other_tls: bool,
    alias_node: Arc<str>,
    alias_service: Arc<str>,
    tls_server_name: String,
    tls_skip_verify: bool,
    output_max_size: i64,
    success_before_passing: i64,
    failures_before_warning: i64,
    failures_before_critical: i64,
    deregister_after: Duration,
}

impl Draft {
    /// Judges the form of the check; its id, name and status are its owner's business.
    fn finish(self) -> Result<CheckDefinition, Invalid> {
        let wrong = |key, reason| Err(Invalid::Check { key, reason });
        let alias = !self.alias_node.is_empty() || !self.alias_service.is_empty();
        let runs = !self.args.is_empty()
            || [&self.http, &self.tcp, &self.udp, &self.grpc, &self.h2ping, &self.os_service]
                .iter()
                .any(|target| !target.is_empty());
        if !self.interval.is_zero() && !self.ttl.is_zero() {
            return wrong("ttl", "Interval and TTL cannot both be specified");
        }
        if runs && self.interval.is_zero() {
            return wrong("interval", "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks");
        }
        if runs && alias {
            return wrong("interval", "Interval cannot be set for Alias checks");
        }
        if alias && !self.ttl.is_zero() {
            return wrong("ttl", "TTL must be not be set for Alias checks");
        }
        if !runs && !alias && self.ttl.is_zero() {
            return wrong("ttl", "TTL must be > 0 for TTL checks");
        }
        if self.output_max_size < 0 {
            return wrong("outputmaxsize", "MaxOutputMaxSize must be positive");
        }
        // What is not given is as the one for critical.
        let warning =
            if self.failures_before_warning == 0 { self.failures_before_critical } else { self.failures_before_warning };
        if warning > self.failures_before_critical {
            return wrong("failuresbeforewarning", "FailuresBeforeWarning can't be higher than FailuresBeforeCritical");
        }
        let count = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        let output_max_size = usize::try_from(self.output_max_size).unwrap_or(0);
        let other = |name: &str| CheckKind::Other { name: name.to_owned() };
        // The order is Consul's, for those who give several at once.
        let kind = if !self.grpc.is_empty() {
            other("grpc")
        } else if !self.http.is_empty() {
            CheckKind::Http {
                url: self.http,
                method: self.method,
                header: self.header,
                body: self.body,
                disable_redirects: self.disable_redirects,
                tls_server_name: self.tls_server_name,
                tls_skip_verify: self.tls_skip_verify,
            }
        } else if !self.ttl.is_zero() {
            CheckKind::Ttl { ttl: self.ttl }
        } else if !self.tcp.is_empty() {
            CheckKind::Tcp {
                address: self.tcp,
                tls: self.tcp_use_tls,
                tls_server_name: self.tls_server_name,
                tls_skip_verify: self.tls_skip_verify,
            }
        } else if !self.udp.is_empty() {
            CheckKind::Udp { address: self.udp }
        } else if alias {
            CheckKind::Alias { service: self.alias_service, node: self.alias_node }
        } else if !self.docker.is_empty() {
            other("docker")
        } else if !self.args.is_empty() {
            CheckKind::Script { args: self.args }
        } else if !self.h2ping.is_empty() {
            other("h2ping")
        } else {
            other("os_service")
        };
        Ok(CheckDefinition {
            id: self.id,
            name: self.name,
            notes: self.notes,
            service_id: self.service_id,
            within_service: false,
            kind,
            interval: self.interval,
            timeout: self.timeout,
            status: None,
            success_before_passing: count(self.success_before_passing),
            failures_before_warning: count(warning),
            failures_before_critical: count(self.failures_before_critical),
            deregister_critical_service_after: (!self.deregister_after.is_zero()).then_some(self.deregister_after),
            output_max_size: if output_max_size == 0 { OUTPUT_MAX_SIZE } else { output_max_size.min(OUTPUT_MAX_SIZE) },
        })
    }
}

/// `TaggedAddresses`, `tagged_addresses`, `TAGGEDADDRESSES`: all the same key.
pub(super) fn fold<'a>(folded: &'a mut String, key: &str) -> &'a str {
    folded.clear();
    folded.extend(key.chars().filter(|&c| c != '_').map(|c| c.to_ascii_lowercase()));
    folded
}

fn wrong_type(key: &str, expected: &'static str, json: &Json) -> Invalid {
    let got = match json {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => {
            let mut got = format!("the string {:?}", text.chars().take(40).collect::<String>());
            if text.chars().nth(40).is_some() {
                got.push('…');
            }
            got
        }
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "an object".to_owned(),
    };
    Invalid::Type { key: key.to_owned(), expected, got }
}

fn text<'a>(key: &str, json: &'a Json) -> Result<&'a str, Invalid> {
    json.as_str().ok_or_else(|| wrong_type(key, "a string", json))
}

/// Is a service's port one? [`service`] takes any number, as Consul does; who need not follow it there asks this too.
pub fn port_is_sound(service: &Json) -> Result<(), Invalid> {
    let fields = service.as_object().into_iter().flatten();
    let mut ports = fields.filter(|(key, _)| key.eq_ignore_ascii_case("port")).filter_map(|(_, port)| port.as_i64());
    match ports.find(|port| !(0..=65535).contains(port)) {
        Some(got) => Err(Invalid::Port { got }),
        None => Ok(()),
    }
}

fn truth(key: &str, json: &Json) -> Result<bool, Invalid> {
    json.as_bool().ok_or_else(|| wrong_type(key, "true or false", json))
}

fn integer(key: &str, json: &Json) -> Result<i64, Invalid> {
    json.as_i64().ok_or_else(|| wrong_type(key, "a whole number", json))
}

fn list<'a>(key: &str, json: &'a Json) -> Result<&'a [Json], Invalid> {
    json.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(key, "a list", json))
}

fn object<'a>(key: &str, json: &'a Json) -> Result<Option<&'a Map<String, Json>>, Invalid> {
    match json {
        Json::Null => Ok(None),
        Json::Object(fields) => Ok(Some(fields)),
        _ => Err(wrong_type(key, "an object", json)),
    }
}

fn texts(key: &str, json: &Json) -> Result<Vec<Arc<str>>, Invalid> {
    list(key, json)?
        .iter()
        .map(|item| item.as_str().map(Into::into).ok_or_else(|| wrong_type(key, "a list of strings", item)))
        .collect()
}

fn pairs(key: &str, json: &Json) -> Result<BTreeMap<String, String>, Invalid> {
    let pairs = object(key, json)?.into_iter().flatten();
    pairs.map(|(key, value)| Ok((key.clone(), text(key, value)?.to_owned()))).collect()
}

fn headers(key: &str, json: &Json) -> Result<BTreeMap<String, Vec<String>>, Invalid> {
    let headers = object(key, json)?.into_iter().flatten().filter(|(_, values)| !values.is_null());
    headers
        .map(|(name, values)| Ok((name.clone(), texts(name, values)?.iter().map(|value| value.to_string()).collect())))
        .collect()
}

/// A text in Go's form, or a number of nanoseconds.
fn span(key: &str, json: &Json) -> Result<Duration, Invalid> {
    match json {
        Json::String(text) if text.is_empty() => Ok(Duration::ZERO),
        Json::String(text) => duration::parse(text).map_err(|fault| Invalid::Duration { key: key.to_owned(), fault }),
        Json::Number(number) => Ok(Duration::from_nanos(number.as_f64().unwrap_or(0.0).max(0.0) as u64)),
        _ => Err(wrong_type(key, "a duration such as \"10s\"", json)),
    }
}

fn health(status: &str) -> Result<Option<Health>, ()> {
    if status.is_empty() { Ok(None) } else { status.parse().map(Some) }
}

/// Whether it stands for every address of a host, which nobody can connect to.
fn is_any(address: &str) -> bool {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    bare.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
}

fn weights_within_bounds((passing, warning): (i64, i64)) -> Result<Weights, Invalid> {
    if passing < 1 {
        return Err(Invalid::Weights("Passing must be greater than 0"));
    }
    if warning < 0 {
        return Err(Invalid::Weights("Warning must be greater or equal than 0"));
    }
    match (u16::try_from(passing), u16::try_from(warning)) {
        (Ok(passing), Ok(warning)) => Ok(Weights { passing, warning }),
        _ => Err(Invalid::Weights("DNS Weight must be between 0 and 65535")),
    }
}

const META_PAIRS_MAX: usize = 64;
const META_KEY_MAX: usize = 128;
const META_VALUE_MAX: usize = 512;
const META_RESERVED: &str = "consul-";

fn meta_is_sound(meta: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if meta.len() > META_PAIRS_MAX {
        return Err(Invalid::Meta(MetaFault::TooMany(META_PAIRS_MAX)));
    }
    for (key, value) in meta {
        let mut reason = String::new();
        // Writing to a string does not fail.
        let _ = if key.is_empty() {
            write!(reason, "Key cannot be blank")
        } else if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            write!(reason, "Key contains invalid characters")
        } else if key.len() > META_KEY_MAX {
            write!(reason, "Key is too long (limit: {META_KEY_MAX} characters)")
        } else if key.to_ascii_lowercase().starts_with(META_RESERVED) {
            write!(reason, "Key prefix '{META_RESERVED}' is reserved for internal use")
        } else if value.len() > META_VALUE_MAX {
            write!(reason, "Value is too long (limit: {META_VALUE_MAX} characters)")
        } else {
            continue;
        };
        return Err(Invalid::Meta(MetaFault::Pair { key: key.clone(), value: value.clone(), reason }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::Origin;

    #[test]
    fn keys_are_read_in_every_spelling() {
        let camel = service(&json!({"ID": "w-1", "Name": "web", "Port": 80, "Tags": ["a"], "EnableTagOverride": true,
            "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 8}}, "Weights": {"Passing": 5, "Warning": 2}, "Meta": {"k": "v"},
            "Check": {"HTTP": "http://10.0.0.1/", "Interval": "5s", "DeregisterCriticalServiceAfter": "20s", "TLSSkipVerify": true}}));
        let snake = service(&json!({"id": "w-1", "name": "web", "port": 80, "tags": ["a"], "enable_tag_override": true,
            "tagged_addresses": {"lan": {"address": "10.0.0.1", "port": 8}}, "weights": {"passing": 5, "warning": 2}, "meta": {"k": "v"},
            "checks": [{}, {"http": "http://10.0.0.1/", "interval": 5_000_000_000u64, "deregister_critical_service_after": "20s", "tls_skip_verify": true}]}));
        assert_eq!(camel, snake);
        let service = camel.unwrap();
        assert_eq!((&*service.id, service.port, service.weights.passing), ("w-1", 80, 5));
        let check = &service.checks[0];
        assert_eq!((&*check.id, &*check.name, &*check.service_id), ("service:w-1", "Service 'web' check", "w-1"));
        assert_eq!(
            (check.kind.name(), check.interval, check.deregister_critical_service_after),
            ("http", Duration::from_secs(5), Some(Duration::from_secs(20)))
        );
        assert_eq!(check.initial_status(), Health::Critical);
        let row = service.instance(&"node-1".into(), None);
        assert_eq!(
            (&*row.service, row.extra().meta.as_ref().unwrap()["k"].as_str(), &row.extra().socket_path, &row.origin),
            ("web", "v", &None, &Origin::Agent)
        );
        assert_eq!((check.interval_text(), check.timeout_text()), ("5s".to_owned(), String::new()));
        let kept = serde_json::to_string(&service).unwrap();
        assert_eq!(serde_json::from_str::<ServiceDefinition>(&kept).unwrap(), service);
    }

    #[test]
    fn several_checks_are_numbered_by_position() {
        let service = service(
            &json!({"name": "web", "check": {"ttl": "10s"}, "checks": [{"CheckID": "own", "Name": "n", "TTL": "1s"}, {"args": ["/bin/true"], "interval": "1m"}]}),
        );
        let ids: Vec<_> = service.unwrap().checks.iter().map(|check| check.id.to_string()).collect();
        assert_eq!(ids, ["service:web:1", "own", "service:web:3"]);
    }

    #[test]
    fn what_consul_refuses_is_refused_in_its_words() {
        let refused = |json| service(&json).unwrap_err().to_string();
        assert_eq!(refused(json!(null)), "Missing service name");
        assert_eq!(refused(json!({"Name": "x", "Address": "[::]"})), "Invalid service address");
        assert_eq!(refused(json!({"Name": "x", "Address": "0.0.0.0"})), "Invalid service address");
        assert_eq!(refused(json!({"Name": "x", "Weights": {"Passing": 0}})), "Invalid Weights: Passing must be greater than 0");
        assert_eq!(
            refused(json!({"Name": "x", "Weights": {"Passing": 70000}})),
            "Invalid Weights: DNS Weight must be between 0 and 65535"
        );
        assert_eq!(
            refused(json!({"Name": "x", "Meta": {"bad key": "v"}})),
            "Invalid Service Meta: Couldn't load metadata pair ('bad key', 'v'): Key contains invalid characters"
        );
        assert_eq!(
            refused(json!({"Name": "x", "Check": {"HTTP": "http://127.0.0.1:1/"}})),
            "Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
        );
        assert_eq!(
            refused(json!({"Name": "x", "Check": {"TTL": "1s", "Interval": "1s"}})),
            "Invalid check: Interval and TTL cannot both be specified"
        );
        assert_eq!(refused(json!({"Name": "x", "Check": {"Notes": "?"}})), "Invalid check: TTL must be > 0 for TTL checks");
        assert_eq!(
            refused(
                json!({"Name": "x", "Check": {"TCP": "a:1", "Interval": "1s", "FailuresBeforeWarning": 3, "FailuresBeforeCritical": 2}})
            ),
            "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical"
        );
        assert_eq!(
            refused(json!({"Name": "x", "Check": {"TTL": "10s", "Status": "nope"}})),
            "Status for checks must 'passing', 'warning', 'critical'"
        );
        assert_eq!(refused(json!({"Name": "x", "Port": "80"})), "Port has to be a whole number, got the string \"80\"");
        assert_eq!(check(&json!({"Name": "n", "TTL": "24h", "Status": "what"})).unwrap_err().to_string(), "Bad check status");
        assert_eq!(check(&json!({"TTL": "24h"})).unwrap_err(), Invalid::CheckName);
    }

    #[test]
    fn failures_before_warning_follow_those_before_critical() {
        let check = check(&json!({"name": "c", "tcp": "127.0.0.1:1", "interval": "1s", "failures_before_critical": 3, "output_max_size": 99999})).unwrap();
        assert_eq!(
            (check.failures_before_warning, check.failures_before_critical, check.output_max_size),
            (3, 3, OUTPUT_MAX_SIZE)
        );
        assert_eq!((&*check.id, check.initial_status()), ("c", Health::Critical));
        let alias = super::check(&json!({"name": "a", "alias_service": "w"})).unwrap();
        assert_eq!((alias.kind.name(), alias.initial_status()), ("alias", Health::Passing));
    }

    #[test]
    fn a_port_beyond_the_range_keeps_its_low_bits_as_in_consul() {
        assert_eq!(service(&json!({"Name": "x", "Port": 70000})).unwrap().port, 4464);
        let refused = port_is_sound(&json!({"Name": "x", "Port": 70000})).unwrap_err();
        assert_eq!(refused.to_string(), "expected a port of 0 to 65535, got 70000");
        assert_eq!(port_is_sound(&json!({"Name": "x", "Port": 65535})), Ok(()));
    }
}
