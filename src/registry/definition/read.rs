//! From JSON to a definition: keys in any of their spellings, values by Consul's rules and in its order.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{CheckDefinition, CheckKind, Invalid, MetaFault, OUTPUT_MAX_SIZE, ServiceDefinition, duration};
use crate::catalog::{Health, ServiceAddress, Weights};

/// Keys of a service, as they are to be spelled.
pub(super) const SERVICE_KEYS: &[&str] = &[
    "name", "id", "tags", "address", "port", "ports", "socket_path", "tagged_addresses", "meta", "weights",
    "enable_tag_override", "check", "checks", "kind", "proxy", "connect", "token", "namespace", "partition", "locality",
];

/// Keys of a check, as they are to be spelled.
pub(super) const CHECK_KEYS: &[&str] = &[
    "name", "id", "check_id", "notes", "service_id", "status", "interval", "timeout", "ttl", "http", "method", "header",
    "body", "disable_redirects", "tcp", "tcp_use_tls", "udp", "args", "script_args", "shell", "docker_container_id",
    "grpc", "grpc_use_tls", "h2ping", "h2ping_use_tls", "os_service", "alias_node", "alias_service", "tls_server_name",
    "tls_skip_verify", "output_max_size", "success_before_passing", "failures_before_warning",
    "failures_before_critical", "deregister_critical_service_after", "token", "namespace", "partition",
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
}

impl Reader {
    pub(super) fn service(&mut self, json: &Json) -> Result<ServiceDefinition, Invalid> {
        let empty = Map::new();
        let mut id: Arc<str> = Arc::default();
        let mut service = ServiceDefinition {
            id: Arc::default(),
            name: Arc::default(),
            kind: Arc::default(),
            tags: Vec::new(),
            address: Arc::default(),
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
        let mut port = 0;
        let mut weights = None;
        let (mut one, mut several) = (None, [].as_slice());
        for (key, value) in object("service", json)?.unwrap_or(&empty) {
            if value.is_null() {
                continue;
            }
            match fold(&mut self.folded, key) {
                "name" => service.name = text(key, value)?.into(),
                "id" => id = text(key, value)?.into(),
                "kind" => service.kind = text(key, value)?.into(),
                "tags" => service.tags = texts(key, value)?,
                "address" => service.address = text(key, value)?.into(),
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
        service.id = if id.is_empty() { service.name.clone() } else { id };
        if is_any(&service.address) {
            return Err(Invalid::Address { key: "address" });
        }
        if let Some(weights) = weights {
            service.weights = weights_within_bounds(weights)?;
        }
        meta_is_sound(&service.meta)?;
        if port != 0 && !service.socket_path.is_empty() {
            return Err(Invalid::Service("both a port and the path of a socket were given"));
        }
        // Consul takes any number and answers its low 16 bits; so do we, and a services file is warned of it.
        service.port = port as u16;
        service.checks = self.checks_of(&service, one, several)?;
        Ok(service)
    }

    fn checks_of(&mut self, service: &ServiceDefinition, one: Option<&Json>, several: &[Json]) -> Result<Vec<CheckDefinition>, Invalid> {
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
    service_id: Arc<str>,
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
            || [&self.http, &self.tcp, &self.udp, &self.grpc, &self.h2ping, &self.os_service].iter().any(|target| !target.is_empty());
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
        let warning = if self.failures_before_warning == 0 { self.failures_before_critical } else { self.failures_before_warning };
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
