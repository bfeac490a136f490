//! What clients ask our own agent to do: services, checks, heartbeats, maintenance.
//!
//! A body is decoded as Go would decode it, for the sake of the errors that clients know; what it means is for
//! `registry::definition` to say.

use serde_json::Value;

use super::catalog::{SERVICE_ADDRESS, WEIGHTS};
use super::go::{self, Shape, Struct};
use super::reply::{Refusal, Reply};
use super::request::Request;
use super::{Api, catalog};
use crate::catalog::Health;
use crate::registry::{Error, checks, definition};

/// How an agent's refusals look to a client.
impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let text = error.to_string();
        match error {
            Error::UnknownService { .. } | Error::UnknownCheck { .. } | Error::NoSuchService { .. } => Refusal::not_found(text),
            Error::Invalid(_) => Refusal::bad(text),
            // Whoever asks over HTTP is remote, and to such the option for local files is no way out.
            Error::ScriptChecksOff => Refusal::internal(
                "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true",
            ),
            _ => Refusal::internal(text),
        }
    }
}

pub(super) async fn register_service(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let body = decode(&request, &SERVICE)?;
    let replace = match request.parameters.iter().find(|(key, _)| key == "replace-existing-checks") {
        None => false,
        Some((_, value)) => matches!(value.as_str(), "" | "true" | "1"),
    };
    let definition = definition::service(&body).map_err(|invalid| Refusal::bad(invalid.to_string()))?;
    if !api.registry.compat_consul() {
        definition::port_is_sound(&body).map_err(|invalid| Refusal::bad(invalid.to_string()))?;
    }
    api.registry.register_service(definition, replace).await?;
    Ok(Reply::done())
}

pub(super) async fn deregister_service(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    api.registry.deregister_service(&request.rest).await?;
    Ok(Reply::done())
}

pub(super) async fn service_maintenance(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    catalog::missing(&request, "Missing service ID")?;
    let enable = enable(&request)?;
    api.registry.service_maintenance(&request.rest, enable, request.get("reason").unwrap_or_default()).await?;
    Ok(Reply::done())
}

pub(super) async fn node_maintenance(api: Api, request: Request) -> Result<Reply, Refusal> {
    let enable = enable(&request)?;
    api.registry.node_maintenance(enable, request.get("reason").unwrap_or_default()).await?;
    Ok(Reply::done())
}

fn enable(request: &Request) -> Result<bool, Refusal> {
    let text = request.get("enable").ok_or_else(|| Refusal::bad("Missing value for enable"))?;
    go::parse_bool(text).map_err(|_| Refusal::bad(format!("Invalid value for enable: {}", go::quote(text))))
}

pub(super) async fn register_check(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let body = decode(&request, &CHECK)?;
    let definition = definition::check(&body).map_err(|invalid| Refusal::bad(invalid.to_string()))?;
    api.registry.register_check(definition).await?;
    Ok(Reply::done())
}

pub(super) async fn deregister_check(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    api.registry.deregister_check(&request.rest).await?;
    Ok(Reply::done())
}

pub(super) async fn pass(api: Api, request: Request) -> Result<Reply, Refusal> {
    beat(api, &request, Health::Passing).await
}

pub(super) async fn warn(api: Api, request: Request) -> Result<Reply, Refusal> {
    beat(api, &request, Health::Warning).await
}

pub(super) async fn fail(api: Api, request: Request) -> Result<Reply, Refusal> {
    beat(api, &request, Health::Critical).await
}

async fn beat(api: Api, request: &Request, status: Health) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    heartbeat(&api, &request.rest, status, request.get("note").unwrap_or_default()).await
}

pub(super) async fn update(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let body = decode(&request, &UPDATE)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    let status = text("Status").parse().map_err(|()| Refusal::bad(format!("Invalid check status: '{}'", text("Status"))))?;
    heartbeat(&api, &request.rest, status, text("Output")).await
}

async fn heartbeat(api: &Api, id: &str, status: Health, output: &str) -> Result<Reply, Refusal> {
    let output = checks::bounded(output, definition::OUTPUT_MAX_SIZE);
    api.registry.update_ttl(id, status, output.to_string()).await?;
    Ok(Reply::done())
}

fn decode(request: &Request, shape: &'static Struct) -> Result<Value, Refusal> {
    let value = go::decode(&request.body, Shape::Struct(shape))
        .map_err(|problem| Refusal::bad(format!("Request decode failed: {problem}")))?;
    Ok(if value.is_object() { value } else { Value::Object(serde_json::Map::new()) })
}

static UPDATE: Struct =
    Struct { package: "agent", name: "checkUpdate", alias: "", fields: &[("Status", Shape::Text), ("Output", Shape::Text)] };

static SERVICE: Struct = Struct {
    package: "",
    name: "struct { EnableTagOverrideSnake bool \"json:\\\"enable_tag_override\\\"\"; TaggedAddressesSnake map[string]structs.ServiceAddress \"json:\\\"tagged_addresses\\\"\"; *structs.Alias }",
    alias: "Alias",
    fields: &[
        ("Kind", Shape::Text),
        ("ID", Shape::Text),
        ("Name", Shape::Text),
        ("Tags", Shape::List(&Shape::Text)),
        ("Address", Shape::Text),
        ("TaggedAddresses", Shape::Map(&Shape::Struct(&SERVICE_ADDRESS))),
        ("tagged_addresses", Shape::Map(&Shape::Struct(&SERVICE_ADDRESS))),
        ("SocketPath", Shape::Text),
        ("socket_path", Shape::Text),
        ("Meta", Shape::Map(&Shape::Text)),
        ("Port", Shape::Int),
        ("Ports", Shape::Any),
        ("Check", Shape::Struct(&CHECK)),
        ("Checks", Shape::List(&Shape::Struct(&CHECK))),
        ("Weights", Shape::Struct(&WEIGHTS)),
        ("Token", Shape::Text),
        ("EnableTagOverride", Shape::Bool),
        ("enable_tag_override", Shape::Bool),
        ("Locality", Shape::Any),
        ("Proxy", Shape::Any),
        ("Connect", Shape::Any),
    ],
};

static CHECK: Struct = Struct {
    package: "structs",
    name: "CheckType",
    alias: "",
    fields: &[
        ("CheckID", Shape::Text),
        ("check_id", Shape::Text),
        ("ID", Shape::Text),
        ("Name", Shape::Text),
        ("Status", Shape::Text),
        ("Notes", Shape::Text),
        ("ServiceID", Shape::Text),
        ("service_id", Shape::Text),
        ("Token", Shape::Text),
        ("Args", Shape::List(&Shape::Text)),
        ("ScriptArgs", Shape::List(&Shape::Text)),
        ("script_args", Shape::List(&Shape::Text)),
        ("HTTP", Shape::Text),
        ("H2PING", Shape::Text),
        ("H2PingUseTLS", Shape::Bool),
        ("h2ping_use_tls", Shape::Bool),
        ("Header", Shape::Map(&Shape::List(&Shape::Text))),
        ("Method", Shape::Text),
        ("Body", Shape::Text),
        ("DisableRedirects", Shape::Bool),
        ("disable_redirects", Shape::Bool),
        ("TCP", Shape::Text),
        ("TCPUseTLS", Shape::Bool),
        ("tcp_use_tls", Shape::Bool),
        ("UDP", Shape::Text),
        ("Interval", Shape::Duration),
        ("AliasNode", Shape::Text),
        ("alias_node", Shape::Text),
        ("AliasService", Shape::Text),
        ("alias_service", Shape::Text),
        ("DockerContainerID", Shape::Text),
        ("docker_container_id", Shape::Text),
        ("Shell", Shape::Text),
        ("GRPC", Shape::Text),
        ("GRPCUseTLS", Shape::Bool),
        ("grpc_use_tls", Shape::Bool),
        ("OSService", Shape::Text),
        ("os_service", Shape::Text),
        ("TLSServerName", Shape::Text),
        ("tls_server_name", Shape::Text),
        ("TLSSkipVerify", Shape::Bool),
        ("tls_skip_verify", Shape::Bool),
        ("Timeout", Shape::Duration),
        ("TTL", Shape::Duration),
        ("SuccessBeforePassing", Shape::Int),
        ("success_before_passing", Shape::Int),
        ("FailuresBeforeWarning", Shape::Int),
        ("failures_before_warning", Shape::Int),
        ("FailuresBeforeCritical", Shape::Int),
        ("failures_before_critical", Shape::Int),
        ("DeregisterCriticalServiceAfter", Shape::Duration),
        ("deregister_critical_service_after", Shape::Duration),
        ("OutputMaxSize", Shape::Int),
        ("output_max_size", Shape::Int),
    ],
};
