//! `/v1/agent`: ourselves, and the services and checks that are registered with us.
//!
//! What the agent holds stands in the catalog too, marked as the agent's; the output of checks that run is asked of the
//! registry, since the catalog learns of it late.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::Api;
use super::filter::{self, Filter, Kind};
use super::json::{AgentServiceView, CheckView, agent_health_check};
use super::reply::{JSON, Refusal, Reply};
use super::request::{Options, Request};
use crate::catalog::{Catalog, Check, Health, InstanceEntry, InstanceKey, NodeKey};

const SERVER_PORT: u16 = 8300;
const GOSSIP_PORT: u16 = 8301;
const REVISION: &str = "rollcall";
const BUILD_DATE: &str = "1970-01-01T00:00:00Z";

/// The version that clients see; some ask for features by it.
fn shown_version(api: &Api) -> &str {
    api.identity().node_meta.get("consul-version").map_or(env!("CARGO_PKG_VERSION"), String::as_str)
}

/// agent/self.
pub(super) fn this(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let identity = api.identity();
    let catalog = api.snapshot();
    let coordinate = catalog.coordinates().get(&(own_node(api), "".into()));
    let coord = match coordinate {
        Some(at) => json!({"Vec": at.vec, "Error": at.error, "Adjustment": at.adjustment, "Height": at.height}),
        None => json!({"Vec": vec![0.0; 8], "Error": 1.5, "Adjustment": 0, "Height": 1e-5}),
    };
    let (checks, services) = (own_checks(api, &catalog).count(), own_services(api, &catalog).count());
    let shown = json!({
        "Config": {
            "Datacenter": identity.datacenter,
            "PrimaryDatacenter": identity.datacenter,
            "NodeName": identity.node_name,
            "NodeID": identity.node_id,
            "Revision": REVISION,
            "Server": true,
            "Version": shown_version(api),
            "BuildDate": BUILD_DATE,
            "BindAddr": identity.address,
        },
        "DebugConfig": {"Datacenter": identity.datacenter, "NodeName": identity.node_name, "ServerMode": true},
        "Coord": coord,
        "Member": member(api),
        "Stats": {
            "agent": {"checks": checks.to_string(), "services": services.to_string()},
            "build": {"version": shown_version(api), "revision": REVISION},
            "consul": {"server": "true", "leader": "true"},
            "catalog": {"index": catalog.index().to_string()},
        },
        "Meta": identity.node_meta,
    });
    Reply::json(request, &shown)
}

pub(super) fn members(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    Reply::json(request, &[member(api)])
}

/// Ourselves, as a member of a cluster of one.
fn member(api: &Api) -> Value {
    let identity = api.identity();
    json!({
        "Name": identity.node_name,
        "Addr": identity.address,
        "Port": GOSSIP_PORT,
        "Tags": {
            "role": "consul",
            "dc": identity.datacenter,
            "id": identity.node_id,
            "port": SERVER_PORT.to_string(),
            "build": format!("{}:{REVISION}", shown_version(api)),
            "bootstrap": "1",
            "raft_vsn": "3",
            "segment": "",
            "vsn": "2",
            "vsn_max": "3",
            "vsn_min": "2",
        },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

pub(super) fn host(_: &Api, request: &Request) -> Result<Reply, Refusal> {
    let shown = json!({
        "Host": {"os": std::env::consts::OS, "kernelArch": std::env::consts::ARCH},
        "CPU": [],
        "Memory": {},
        "Disk": {},
        "CollectionTime": 0,
        "Errors": null,
    });
    Reply::json(request, &shown)
}

pub(super) fn version(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let shown = json!({"SHA": REVISION, "BuildDate": BUILD_DATE, "HumanVersion": shown_version(api), "FIPS": ""});
    Reply::json(request, &shown)
}

/// The shape that clients expect; the numbers themselves are elsewhere.
pub(super) fn metrics(_: &Api, request: &Request) -> Result<Reply, Refusal> {
    if request.get("format") == Some("prometheus") {
        let text = "Prometheus is not enabled since its retention time is not positive";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let none: [Value; 0] = [];
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let timestamp = now.replace('T', " ").replace('Z', " +0000 UTC");
    let shown = json!({"Timestamp": timestamp, "Gauges": none, "Points": none, "Counters": none, "Samples": none});
    Reply::json(request, &shown)
}

/// join, leave and force-leave: we are a cluster of one.
pub(super) fn nothing_to_do(_: &Api, _: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::done())
}

pub(super) async fn reload(api: Api, _: Request) -> Result<Reply, Refusal> {
    let problems = api.registry.reload().await;
    if problems.is_empty() {
        return Ok(Reply::done());
    }
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Refusal::internal(texts.join("\n")))
}

fn own_node(api: &Api) -> NodeKey {
    NodeKey::local(&api.identity().node_name)
}

fn own_services<'a>(api: &Api, catalog: &'a Catalog) -> impl Iterator<Item = &'a InstanceEntry> + use<'a> {
    catalog.instances_on(&own_node(api)).filter(|instance| instance.origin.is_agent())
}

fn own_checks<'a>(api: &Api, catalog: &'a Catalog) -> impl Iterator<Item = &'a Check> + use<'a> {
    catalog.checks_on(&own_node(api)).map(|check| &**check).filter(|check| check.agent)
}

/// What the check said last.
fn output(api: &Api, check: &Check) -> String {
    api.registry.check_output(&check.key()).unwrap_or_else(|| check.output.clone()).to_string()
}

/// Rows by id, those that the filter accepts.
fn listed<T: Serialize>(request: &Request, kind: Kind, rows: impl Iterator<Item = (String, T)>) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let filter = request.get("filter").map(|text| Filter::parse(text, kind)).transpose().map_err(Refusal::internal)?;
    let mut shown = BTreeMap::new();
    for (id, row) in rows {
        let row = serde_json::to_value(&row).map_err(|error| Refusal::internal(error.to_string()))?;
        if filter.as_ref().is_none_or(|filter| filter.accepts(&row)) {
            shown.insert(id, row);
        }
    }
    Reply::json(request, &shown)
}

pub(super) fn services(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let catalog = api.snapshot();
    let datacenter = &api.identity().datacenter;
    let rows =
        own_services(api, &catalog).map(|instance| (instance.id.to_string(), AgentServiceView::new(instance, datacenter)));
    listed(request, filter::SERVICE, rows)
}

pub(super) fn checks(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let catalog = api.snapshot();
    let outputs: Vec<(&Check, String)> = own_checks(api, &catalog).map(|check| (check, output(api, check))).collect();
    let rows = outputs.iter().map(|(check, output)| (check.id.to_string(), CheckView::of_agent(check, output)));
    listed(request, filter::CHECK, rows)
}

/// agent/service/:id, which may wait until what it says is no longer what `?hash=` stands for.
pub(super) async fn service(api: Api, request: Request) -> Result<Reply, Refusal> {
    let options = Options::parse(&request)?;
    let mut published = api.registry.published();
    let deadline = tokio::time::Instant::now() + options.wait;
    loop {
        let catalog = published.borrow_and_update().clone();
        let (hash, reply) = hashed_service(&api, &request, &catalog)?;
        if request.get("hash") != Some(hash.as_str()) {
            return Ok(reply);
        }
        let Ok(Ok(())) = tokio::time::timeout_at(deadline, published.changed()).await else { return Ok(reply) };
    }
}

fn hashed_service(api: &Api, request: &Request, catalog: &Catalog) -> Result<(String, Reply), Refusal> {
    let key = InstanceKey { node: own_node(api), id: request.rest.as_str().into() };
    let instance = catalog.instances().get(&key).filter(|instance| instance.origin.is_agent());
    let instance = instance.ok_or_else(|| Refusal::not_found(format!("unknown service ID: {}", request.rest)))?;
    let mut shown = AgentServiceView::new(instance, &api.identity().datacenter);
    let plain = serde_json::to_string(&shown).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut hasher = DefaultHasher::new();
    plain.hash(&mut hasher);
    let hash = format!("{:016x}", hasher.finish());
    shown.content_hash = Some(hash.clone());
    let reply = Reply::json(request, &shown)?.with("x-consul-contenthash", hash.clone());
    Ok((hash, reply))
}

/// An instance's verdict: its own checks and the node's together.
struct Verdict {
    status: &'static str,
    code: StatusCode,
    shown: Value,
}

fn verdict(api: &Api, catalog: &Catalog, instance: &InstanceEntry) -> Verdict {
    let checks: Vec<&Check> =
        own_checks(api, catalog).filter(|check| check.service_id.is_empty() || check.service_id == instance.id).collect();
    let maintained =
        checks.iter().any(|check| &*check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:"));
    let worst = Health::worst(checks.iter().map(|check| check.status));
    let (status, code) = match worst {
        _ if maintained => ("maintenance", StatusCode::SERVICE_UNAVAILABLE),
        Health::Passing => ("passing", StatusCode::OK),
        Health::Warning => ("warning", StatusCode::TOO_MANY_REQUESTS),
        Health::Critical => ("critical", StatusCode::SERVICE_UNAVAILABLE),
    };
    let checks: Vec<Value> = checks.iter().map(|check| agent_health_check(check, &output(api, check))).collect();
    let service = AgentServiceView::new(instance, &api.identity().datacenter);
    Verdict { status, code, shown: json!({"AggregatedStatus": status, "Service": service, "Checks": checks}) }
}

fn verdict_reply(request: &Request, code: StatusCode, reason: &str, shown: &Value) -> Result<Reply, Refusal> {
    let accept = request.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or("");
    let reply = if accept.starts_with("text/plain") || request.get("format") == Some("text") {
        Reply::new(code, Some("text/plain"), reason.to_owned())
    } else {
        Reply { status: code, content_type: Some(JSON), ..Reply::json(request, shown)? }
    };
    Ok(reply.with("x-consul-reason", reason))
}

pub(super) fn health_by_id(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let id = request.rest.as_str();
    if id.is_empty() {
        return Err(Refusal::internal("Missing serviceID"));
    }
    request.refuse_partitions()?;
    let catalog = api.snapshot();
    match own_services(api, &catalog).find(|instance| &*instance.id == id) {
        Some(instance) => {
            let verdict = verdict(api, &catalog, instance);
            verdict_reply(request, verdict.code, verdict.status, &verdict.shown)
        }
        None => {
            let nothing = json!({"AggregatedStatus": "critical", "Service": null, "Checks": null});
            verdict_reply(request, StatusCode::NOT_FOUND, &format!("ServiceId {id} not found"), &nothing)
        }
    }
}

pub(super) fn health_by_name(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    let name = request.rest.as_str();
    if name.is_empty() {
        return Err(Refusal::internal("Missing service Name"));
    }
    request.refuse_partitions()?;
    let catalog = api.snapshot();
    let instances = own_services(api, &catalog).filter(|instance| &*instance.service == name);
    let verdicts: Vec<Verdict> = instances.map(|instance| verdict(api, &catalog, instance)).collect();
    let shown: Value = verdicts.iter().map(|verdict| verdict.shown.clone()).collect();
    // The first of the worst speaks for all.
    let mut worst: Option<&Verdict> = None;
    for verdict in &verdicts {
        if worst.is_none_or(|worst| verdict.code > worst.code) {
            worst = Some(verdict);
        }
    }
    match worst {
        Some(worst) => verdict_reply(request, worst.code, worst.status, &shown),
        None => verdict_reply(request, StatusCode::NOT_FOUND, &format!("ServiceName {name} Not Found"), &shown),
    }
}
