//! Who asks us in HTTP? The API of Consul: paths, parameters, headers, JSON and error texts as its clients know them.
//!
//! Reads look at a snapshot of the catalog, writes go through the [`Registry`]. [`ROUTES`] says which paths there are,
//! by which methods, and who answers; a new endpoint is a line there and a function in its family's file. Families that
//! Consul has and we do not (sessions, transactions, events, prepared queries, the mesh) have their paths here too, so
//! that methods are checked as there, and answer 404.
//!
//! Nothing here knows DNS. Start with [`serve`], then [`ROUTES`].

mod agent;
mod blocking;
mod catalog;
mod coordinate;
mod filter;
mod go;
mod health;
mod json;
mod kv;
mod near;
mod register;
mod reply;
mod request;
mod rollcall;
mod status;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;

use self::blocking::Watch;
use self::reply::{Refusal, Reply, TEXT};
use self::request::Request;
pub use self::rollcall::Resolver;
use crate::catalog::{Catalog, Edit};
use crate::limits;
use crate::registry::{Identity, Registry, WriteError};

/// What the endpoints work with.
#[derive(Clone)]
pub struct Api {
    registry: Registry,
    /// Who answers names, when somebody does.
    resolver: Option<Arc<dyn Resolver>>,
}

impl Api {
    pub fn new(registry: Registry) -> Api {
        Api { registry, resolver: None }
    }

    /// With `/v1/rollcall`, which shows how names are answered.
    pub fn with_resolver(self, resolver: Arc<dyn Resolver>) -> Api {
        Api { resolver: Some(resolver), ..self }
    }

    fn identity(&self) -> &Identity {
        self.registry.identity()
    }

    fn snapshot(&self) -> Arc<Catalog> {
        self.registry.snapshot()
    }

    /// Refuses another datacenter than ours; none given is ours.
    fn own_datacenter(&self, asked: Option<&str>) -> Result<(), Refusal> {
        match asked {
            Some(datacenter) if *datacenter != *self.identity().datacenter => Err(Refusal::unknown_datacenter()),
            _ => Ok(()),
        }
    }

    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Edit) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.registry.write(change).await.map_err(|error| match error {
            WriteError::Refused(refusal) => refusal,
            other => Refusal::internal(other.to_string()),
        })
    }
}

/// How often it is told that connections cannot be accepted.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Answers what comes to `listener` until told to stop; then lets answers that are under way go out.
pub async fn serve(listener: TcpListener, api: Api, shutdown: CancellationToken) {
    let service = router(api);
    let places = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async { (places.clone().acquire_owned().await, listener.accept().await) } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let connection = serve_connection(stream, service.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            (Err(_), _) => break,
            (_, Err(error)) => {
                // Out of descriptors, most likely: give those that are open the time to close.
                if told.is_none_or(|told: Instant| told.elapsed() >= TOLD_EVERY) {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve_connection(stream: TcpStream, service: Router, shutdown: CancellationToken) {
    // Failing to set it costs some milliseconds now and then, nothing else.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_SECONDS_MAX))
        .max_buf_size(limits::HTTP_HEAD_OCTETS_MAX)
        // As Consul's server writes them; some clients compare.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // Blocking queries would hold it for minutes; their clients ask again elsewhere.
            match tokio::time::timeout(Duration::from_millis(500), connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Consul compresses answers from about this many octets on.
const COMPRESS_OCTETS_MIN: u64 = 1_400;

/// The answer to a request that came by no connection, its status and its body; `None` for what is no request. For the fuzz
/// targets.
#[doc(hidden)]
pub async fn exchange(api: &Api, method: &str, target: &str, body: &[u8]) -> Option<(u16, Bytes)> {
    let request = axum::http::Request::builder().method(method).uri(target).body(Body::from(body.to_vec())).ok()?;
    let (parts, body) = answer(axum::extract::State(api.clone()), request).await.into_parts();
    Some((parts.status.as_u16(), axum::body::to_bytes(body, usize::MAX).await.ok()?))
}

fn router(api: Api) -> Router {
    let compression = CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_OCTETS_MIN));
    Router::new().fallback(answer).layer(compression).with_state(api)
}

/// Who answers a path.
#[derive(Clone, Copy)]
enum Handler {
    /// From the snapshot, and may be waited for.
    Watch(&'static Watch),
    /// At once, from what is at hand.
    Read(fn(&Api, &Request) -> Result<Reply, Refusal>),
    /// By asking the registry for a change, or waiting for something else.
    Call(fn(Api, Request) -> Answering),
    /// Access control lists, which are off.
    AclOff,
    /// A family that we do not have.
    Absent,
}

type Answering = Pin<Box<dyn Future<Output = Result<Reply, Refusal>> + Send>>;

/// A path, and its methods with who answers each. A path that ends in `/` stands for all below it.
struct Route {
    path: &'static str,
    methods: &'static [(&'static str, Handler)],
}

const fn route(path: &'static str, methods: &'static [(&'static str, Handler)]) -> Route {
    Route { path, methods }
}

macro_rules! call {
    ($function:path) => {
        Handler::Call(|api, request| Box::pin($function(api, request)))
    };
}

use Handler::{Absent, AclOff, Read};

/// All paths. The longest that fits decides.
static ROUTES: &[Route] = &[
    route("/v1/agent/self", &[("GET", Read(agent::this))]),
    route("/v1/agent/host", &[("GET", Read(agent::host))]),
    route("/v1/agent/version", &[("GET", Read(agent::version))]),
    route("/v1/agent/metrics", &[("GET", Read(agent::metrics))]),
    route("/v1/agent/metrics/stream", &[("GET", Absent)]),
    route("/v1/agent/monitor", &[("GET", Absent)]),
    route("/v1/agent/members", &[("GET", Read(agent::members))]),
    route("/v1/agent/join/", &[("PUT", Read(agent::nothing_to_do))]),
    route("/v1/agent/leave", &[("PUT", Read(agent::nothing_to_do))]),
    route("/v1/agent/force-leave/", &[("PUT", Read(agent::nothing_to_do))]),
    route("/v1/agent/reload", &[("PUT", call!(agent::reload))]),
    route("/v1/agent/maintenance", &[("PUT", call!(register::node_maintenance))]),
    route("/v1/agent/token/", &[("PUT", AclOff)]),
    route("/v1/agent/services", &[("GET", Read(agent::services))]),
    route("/v1/agent/service/", &[("GET", call!(agent::service))]),
    route("/v1/agent/service/register", &[("PUT", call!(register::register_service))]),
    route("/v1/agent/service/deregister/", &[("PUT", call!(register::deregister_service))]),
    route("/v1/agent/service/maintenance/", &[("PUT", call!(register::service_maintenance))]),
    route("/v1/agent/checks", &[("GET", Read(agent::checks))]),
    route("/v1/agent/check/register", &[("PUT", call!(register::register_check))]),
    route("/v1/agent/check/deregister/", &[("PUT", call!(register::deregister_check))]),
    route("/v1/agent/check/pass/", &[("PUT", call!(register::pass))]),
    route("/v1/agent/check/warn/", &[("PUT", call!(register::warn))]),
    route("/v1/agent/check/fail/", &[("PUT", call!(register::fail))]),
    route("/v1/agent/check/update/", &[("PUT", call!(register::update))]),
    route("/v1/agent/health/service/id/", &[("GET", Read(agent::health_by_id))]),
    route("/v1/agent/health/service/name/", &[("GET", Read(agent::health_by_name))]),
    route("/v1/agent/connect/authorize", &[("POST", Absent)]),
    route("/v1/agent/connect/ca/roots", &[("GET", Absent)]),
    route("/v1/agent/connect/ca/leaf/", &[("GET", Absent)]),
    route("/v1/catalog/register", &[("PUT", call!(catalog::register))]),
    route("/v1/catalog/deregister", &[("PUT", call!(catalog::deregister))]),
    route("/v1/catalog/datacenters", &[("GET", Read(catalog::datacenters))]),
    route("/v1/catalog/nodes", &[("GET", Handler::Watch(&catalog::NODES))]),
    route("/v1/catalog/services", &[("GET", Handler::Watch(&catalog::SERVICES))]),
    route("/v1/catalog/service/", &[("GET", Handler::Watch(&catalog::SERVICE))]),
    route("/v1/catalog/connect/", &[("GET", Handler::Watch(&catalog::CONNECT))]),
    route("/v1/catalog/node/", &[("GET", Handler::Watch(&catalog::NODE))]),
    route("/v1/catalog/node-services/", &[("GET", Handler::Watch(&catalog::NODE_SERVICES))]),
    route("/v1/catalog/gateway-services/", &[("GET", Absent)]),
    route("/v1/health/node/", &[("GET", Handler::Watch(&health::NODE))]),
    route("/v1/health/checks/", &[("GET", Handler::Watch(&health::CHECKS))]),
    route("/v1/health/state/", &[("GET", Handler::Watch(&health::STATE))]),
    route("/v1/health/service/", &[("GET", Handler::Watch(&health::SERVICE))]),
    route("/v1/health/connect/", &[("GET", Handler::Watch(&health::CONNECT))]),
    route("/v1/health/ingress/", &[("GET", Handler::Watch(&health::INGRESS))]),
    route("/v1/status/leader", &[("GET", Read(status::leader))]),
    route("/v1/status/peers", &[("GET", Read(status::peers))]),
    route("/v1/kv/", &[("GET", Handler::Watch(&kv::READ)), ("PUT", call!(kv::write)), ("DELETE", call!(kv::write))]),
    route("/v1/coordinate/datacenters", &[("GET", Read(coordinate::datacenters))]),
    route("/v1/coordinate/nodes", &[("GET", Handler::Watch(&coordinate::NODES))]),
    route("/v1/coordinate/node/", &[("GET", Handler::Watch(&coordinate::NODE))]),
    route("/v1/coordinate/update", &[("PUT", call!(coordinate::update))]),
    route("/v1/acl/bootstrap", &[("PUT", AclOff)]),
    route("/v1/acl/login", &[("POST", AclOff)]),
    route("/v1/acl/logout", &[("POST", AclOff)]),
    route("/v1/acl/replication", &[("GET", AclOff)]),
    route("/v1/acl/policies", &[("GET", AclOff)]),
    route("/v1/acl/policy", &[("PUT", AclOff)]),
    route("/v1/acl/policy/", &[("GET", AclOff), ("PUT", AclOff), ("DELETE", AclOff)]),
    route("/v1/acl/policy/name/", &[("GET", AclOff)]),
    route("/v1/acl/roles", &[("GET", AclOff)]),
    route("/v1/acl/role", &[("PUT", AclOff)]),
    route("/v1/acl/role/", &[("GET", AclOff), ("PUT", AclOff), ("DELETE", AclOff)]),
    route("/v1/acl/role/name/", &[("GET", AclOff)]),
    route("/v1/acl/binding-rules", &[("GET", AclOff)]),
    route("/v1/acl/binding-rule", &[("PUT", AclOff)]),
    route("/v1/acl/binding-rule/", &[("GET", AclOff), ("PUT", AclOff), ("DELETE", AclOff)]),
    route("/v1/acl/auth-methods", &[("GET", AclOff)]),
    route("/v1/acl/auth-method", &[("PUT", AclOff)]),
    route("/v1/acl/auth-method/", &[("GET", AclOff), ("PUT", AclOff), ("DELETE", AclOff)]),
    route("/v1/acl/templated-policies", &[("GET", AclOff)]),
    route("/v1/acl/templated-policy/name/", &[("GET", AclOff)]),
    route("/v1/acl/templated-policy/preview/", &[("POST", AclOff)]),
    route("/v1/acl/tokens", &[("GET", AclOff)]),
    route("/v1/acl/token", &[("PUT", AclOff)]),
    route("/v1/acl/token/self", &[("GET", AclOff)]),
    route("/v1/acl/token/", &[("GET", AclOff), ("PUT", AclOff), ("DELETE", AclOff)]),
    route("/v1/session/create", &[("PUT", Absent)]),
    route("/v1/session/destroy/", &[("PUT", Absent)]),
    route("/v1/session/renew/", &[("PUT", Absent)]),
    route("/v1/session/info/", &[("GET", Absent)]),
    route("/v1/session/node/", &[("GET", Absent)]),
    route("/v1/session/list", &[("GET", Absent)]),
    route("/v1/txn", &[("PUT", Absent)]),
    route("/v1/event/fire/", &[("PUT", Absent)]),
    route("/v1/event/list", &[("GET", Absent)]),
    route("/v1/query", &[("GET", Absent), ("POST", Absent)]),
    route("/v1/query/", &[("GET", Absent), ("PUT", Absent), ("DELETE", Absent)]),
    route("/v1/config", &[("PUT", Absent)]),
    route("/v1/config/", &[("GET", Absent), ("DELETE", Absent)]),
    route("/v1/connect/ca/configuration", &[("GET", Absent), ("PUT", Absent)]),
    route("/v1/connect/ca/roots", &[("GET", Absent)]),
    route("/v1/connect/intentions", &[("GET", Absent), ("POST", Absent)]),
    route("/v1/connect/intentions/", &[("GET", Absent), ("PUT", Absent), ("DELETE", Absent)]),
    route("/v1/connect/intentions/match", &[("GET", Absent)]),
    route("/v1/connect/intentions/check", &[("GET", Absent)]),
    route("/v1/connect/intentions/exact", &[("GET", Absent), ("PUT", Absent), ("DELETE", Absent)]),
    route("/v1/discovery-chain/", &[("GET", Absent), ("POST", Absent)]),
    route("/v1/exported-services", &[("GET", Absent)]),
    route("/v1/imported-services", &[("GET", Absent)]),
    route("/v1/operator/raft/configuration", &[("GET", Absent)]),
    route("/v1/operator/raft/transfer-leader", &[("POST", Absent)]),
    route("/v1/operator/raft/peer", &[("DELETE", Absent)]),
    route("/v1/operator/keyring", &[("GET", Absent), ("POST", Absent), ("PUT", Absent), ("DELETE", Absent)]),
    route("/v1/operator/usage", &[("GET", Absent)]),
    route("/v1/operator/autopilot/configuration", &[("GET", Absent), ("PUT", Absent)]),
    route("/v1/operator/autopilot/health", &[("GET", Absent)]),
    route("/v1/operator/autopilot/state", &[("GET", Absent)]),
    route("/v1/peering/token", &[("POST", Absent)]),
    route("/v1/peering/establish", &[("POST", Absent)]),
    route("/v1/peering/", &[("GET", Absent), ("DELETE", Absent)]),
    route("/v1/peerings", &[("GET", Absent)]),
    route("/v1/snapshot", &[("GET", Absent), ("PUT", Absent)]),
    route("/metrics", &[("GET", call!(rollcall::metrics))]),
    route("/v1/rollcall/status", &[("GET", call!(rollcall::status))]),
    route("/v1/rollcall/cache", &[("GET", call!(rollcall::cache))]),
    route("/v1/rollcall/cache/entries/", &[("GET", call!(rollcall::entries))]),
    route("/v1/rollcall/explain/", &[("GET", call!(rollcall::explain))]),
    route("/v1/rollcall/cache/flush", &[("PUT", call!(rollcall::flush))]),
];

const NOT_OURS: &str = "Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n";
const NO_SUCH_ENDPOINT: &str = "Invalid URL path: not a recognized HTTP API endpoint\n";
const ROBOTS: &str = "# http://www.robotstxt.org\nUser-agent: *\nDisallow: /\n";

type Response = axum::http::Response<Body>;

/// From a request to its response: path, method, parameters, body, and then the route's handler.
async fn answer(axum::extract::State(api): axum::extract::State<Api>, http: axum::extract::Request) -> Response {
    let raw_path = http.uri().path();
    let Some(path) = request::unescape(raw_path) else {
        return Reply::new(StatusCode::BAD_REQUEST, Some(TEXT), "400 Bad Request").into_response();
    };
    if path.chars().any(|c| c.is_control() || c == '\u{fffd}') {
        return Reply::new(StatusCode::BAD_REQUEST, None, Bytes::new()).into_response();
    }
    let query = http.uri().query().unwrap_or("");
    let clean = clean_path(raw_path);
    if clean != raw_path {
        return redirect(http.method(), &clean, query);
    }
    let path = clean_path(&path);
    let Some((route, rest)) = find(&path) else {
        if path.starts_with("/v1/") && find(&format!("{path}/")).is_some_and(|(_, rest)| rest.is_empty()) {
            return redirect(http.method(), &format!("{path}/"), query);
        }
        return unrouted(&path).into_response();
    };
    let reply = match request::parameters(query) {
        Some(parameters) => dispatch(api, route, rest.to_owned(), parameters, http).await,
        None => Reply::new(StatusCode::INTERNAL_SERVER_ERROR, Some(TEXT), Bytes::new()),
    };
    let absent = reply.status == StatusCode::NOT_FOUND && reply.body == NO_SUCH_ENDPOINT;
    let mut response = reply.into_response();
    if !absent {
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert("x-consul-default-acl-policy", HeaderValue::from_static("allow"));
    }
    response
}

async fn dispatch(
    api: Api,
    route: &Route,
    rest: String,
    parameters: Vec<(String, String)>,
    http: axum::extract::Request,
) -> Reply {
    let method = http.method().clone();
    let Some((_, handler)) = route.methods.iter().find(|(name, _)| *name == method.as_str()) else {
        let known: Vec<&str> = std::iter::once("OPTIONS").chain(route.methods.iter().map(|(name, _)| *name)).collect();
        let reply = match method {
            Method::OPTIONS => Reply::done(),
            _ => Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed")).into(),
        };
        return reply.with("allow", known.join(","));
    };
    let (parts, body) = http.into_parts();
    let body = match method {
        Method::GET => Bytes::new(),
        _ => match read(body).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into(),
        },
    };
    let request = Request { method, rest, parameters, headers: parts.headers, body };
    let answered = match handler {
        Handler::Watch(watch) => return watch.answer(&api.registry, &request).await,
        Read(read) => read(&api, &request),
        Handler::Call(call) => call(api, request).await,
        AclOff => Err(Refusal::new(StatusCode::UNAUTHORIZED, "ACL support disabled")),
        Absent => Err(Refusal::not_found(NO_SUCH_ENDPOINT)),
    };
    answered.unwrap_or_else(Reply::from)
}

/// Was it cut by us, rather than broken by the client?
fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(next) = cause {
        if next.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = next.source();
    }
    false
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let all = axum::body::to_bytes(body, limits::HTTP_BODY_OCTETS_MAX);
    match tokio::time::timeout(Duration::from_secs(limits::HTTP_BODY_SECONDS_MAX), all).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if !is_too_long(&error) => Err(Refusal::bad(format!("cannot read the request's body: {error}"))),
        Ok(Err(_)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request body too large, max size: {} bytes", limits::HTTP_BODY_OCTETS_MAX),
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("Request body did not arrive within {} seconds", limits::HTTP_BODY_SECONDS_MAX),
        )),
    }
}

/// The route of a path, and what the path says after it.
fn find(path: &str) -> Option<(&'static Route, &str)> {
    let fits = |route: &&Route| path == route.path || (route.path.ends_with('/') && path.starts_with(route.path));
    let route = ROUTES.iter().filter(fits).max_by_key(|route| route.path.len())?;
    Some((route, path.get(route.path.len()..).unwrap_or("")))
}

fn unrouted(path: &str) -> Reply {
    match path {
        "/" => Reply::new(StatusCode::OK, Some(TEXT), "rollcall: the HTTP API is below /v1/\n"),
        // No part of a registry belongs into a search engine.
        "/robots.txt" => Reply::new(StatusCode::OK, Some(TEXT), ROBOTS).with("accept-ranges", "bytes"),
        path if path.starts_with("/v1/") => Reply::new(StatusCode::NOT_FOUND, Some(TEXT), NO_SUCH_ENDPOINT),
        _ => Reply::new(StatusCode::NOT_FOUND, Some(TEXT), NOT_OURS),
    }
}

/// A path without empty, `.` and `..` parts; a slash at the end stays.
fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

fn redirect(method: &Method, path: &str, query: &str) -> Response {
    let location = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let shown = location.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;");
    let (content_type, body) = match *method {
        Method::GET => (Some("text/html; charset=utf-8"), format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n")),
        Method::HEAD => (Some("text/html; charset=utf-8"), String::new()),
        _ => (None, String::new()),
    };
    Reply::new(StatusCode::TEMPORARY_REDIRECT, content_type, body).with("location", location).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::Request as HttpRequest;
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::Config;

    /// An API on a real registry that keeps nothing on disk.
    pub(in crate::api) fn api() -> Api {
        let identity = Identity {
            node_name: "here".into(),
            node_id: "0a000000-0000-4000-8000-0000000000ff".into(),
            datacenter: "dc1".into(),
            address: "127.0.0.1".into(),
            node_meta: Default::default(),
        };
        Api::new(Registry::open(Config::default(), identity).unwrap())
    }

    /// An answer: its status, its headers, its body as text.
    pub(in crate::api) struct Answer {
        pub(in crate::api) status: u16,
        pub(in crate::api) headers: axum::http::HeaderMap,
        pub(in crate::api) text: String,
    }

    impl Answer {
        pub(in crate::api) fn header(&self, name: &str) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().unwrap())
        }

        pub(in crate::api) fn json(&self) -> Value {
            serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{} {}", self.status, self.text))
        }

        pub(in crate::api) fn index(&self) -> u64 {
            self.header("x-consul-index").parse().unwrap()
        }
    }

    pub(in crate::api) async fn ask(api: &Api, method: &str, path: &str, body: &str) -> Answer {
        let request = HttpRequest::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        let response = answer(axum::extract::State(api.clone()), request).await;
        let (parts, body) = response.into_parts();
        let octets = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(octets.to_vec()).unwrap() }
    }

    pub(in crate::api) async fn put(api: &Api, path: &str, body: Value) {
        let answer = ask(api, "PUT", path, &body.to_string()).await;
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.text);
    }

    pub(in crate::api) async fn get(api: &Api, path: &str) -> Answer {
        ask(api, "GET", path, "").await
    }

    async fn with_web() -> Api {
        let api = api();
        let body = json!({
            "Node": "N1", "Address": "10.0.0.1", "NodeMeta": {"env": "prod"},
            "Service": {"ID": "web-1", "Service": "web", "Port": 80, "Tags": ["V1"]},
            "Checks": [{"CheckID": "alive", "Name": "alive", "Status": "passing"},
                       {"CheckID": "c", "Name": "c", "Status": "warning", "ServiceID": "web-1"}],
        });
        put(&api, "/v1/catalog/register", body).await;
        api
    }

    #[tokio::test]
    async fn a_method_that_a_path_does_not_have_is_told_those_that_it_has() {
        let api = api();
        let answer = ask(&api, "POST", "/v1/kv/x", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, "OPTIONS,GET,PUT,DELETE"));
        assert_eq!(answer.text, "method POST not allowed");
        let answer = ask(&api, "OPTIONS", "/v1/catalog/nodes", "").await;
        assert_eq!((answer.status, answer.header("allow")), (200, "OPTIONS,GET"));
        assert_eq!(ask(&api, "HEAD", "/v1/catalog/nodes", "").await.status, 405);
    }

    #[tokio::test]
    async fn paths_lead_to_the_longest_route_or_say_why_to_none() {
        let api = api();
        assert_eq!(get(&api, "/v1/health").await.text, NO_SUCH_ENDPOINT);
        assert_eq!(get(&api, "/v2/x").await.text, NOT_OURS);
        assert_eq!(get(&api, "/v1/session/list").await.status, 404);
        assert_eq!(get(&api, "/v1/agent/service/register").await.status, 405, "not the service called register");
        let bare = get(&api, "/v1/catalog/service?near=x").await;
        assert_eq!((bare.status, bare.header("location")), (307, "/v1/catalog/service/?near=x"));
        assert_eq!(get(&api, "/v1//kv/../kv/a").await.header("location"), "/v1/kv/a");
        assert_eq!(get(&api, "/v1/catalog/service/a%00").await.status, 400);
        assert_eq!(get(&api, "/v1/catalog/nodes?%zz").await.status, 500);
    }

    #[tokio::test]
    async fn an_instance_reads_the_same_from_all_sides() {
        let api = with_web().await;
        let row = &get(&api, "/v1/catalog/service/WEB").await.json()[0];
        assert_eq!((&row["Node"], &row["ServicePort"], &row["ServiceTags"]), (&json!("N1"), &json!(80), &json!(["V1"])));
        assert_eq!((&row["ServiceMeta"], &row["ServiceAddress"], &row["ServicePorts"]), (&json!({}), &json!(""), &Value::Null));
        assert_eq!(row["ServiceWeights"], json!({"Passing": 1, "Warning": 1}));
        assert!(row.get("ServiceTaggedAddresses").is_none());

        let health = &get(&api, "/v1/health/service/web?tag=v1").await.json()[0];
        assert_eq!((&health["Service"]["Meta"], &health["Node"]["TaggedAddresses"]), (&Value::Null, &Value::Null));
        assert_eq!(health["Service"]["Proxy"], json!({"Mode": "", "MeshGateway": {}, "Expose": {}}));
        let checks: Vec<_> = health["Checks"].as_array().unwrap().iter().map(|check| check["CheckID"].clone()).collect();
        assert_eq!(checks, ["alive", "c"], "the node's come first");
        assert_eq!(health["Checks"][1]["ServiceName"], "web");

        assert_eq!(get(&api, "/v1/health/service/web?passing").await.text, "[]", "a warning does not pass");
        assert_eq!(get(&api, "/v1/catalog/service/web?tag=v1&tag=v2").await.text, "[]");
        assert_eq!(get(&api, "/v1/catalog/node/n1").await.json()["Services"]["web-1"]["Service"], "web");
        assert_eq!(get(&api, "/v1/catalog/node/none").await.text, "null");
        assert_eq!(get(&api, "/v1/catalog/services?node-meta=env:prod").await.json(), json!({"web": ["V1"]}));
        assert!(get(&api, "/v1/catalog/nodes?pretty").await.text.contains("\n        \"ID\": "), "indented by four");
    }

    #[tokio::test]
    async fn a_refused_registration_leaves_nothing_behind() {
        let api = api();
        let body = r#"{"Node":"n","Address":"10.0.0.1","Check":{"Name":"c","ServiceID":"none"}}"#;
        let answer = ask(&api, "PUT", "/v1/catalog/register", body).await;
        assert_eq!((answer.status, answer.text.as_str()), (500, "Unknown service ID 'none' for check ID 'c'"));
        assert_eq!(get(&api, "/v1/catalog/node/n").await.text, "null");
        for (body, status, text) in [
            ("", 400, "Request decode failed: EOF"),
            ("{}", 500, "Must provide node"),
            (r#"{"Node":"n"}"#, 500, "Must provide address if SkipNodeUpdate is not set"),
            (r#"{"Node":"n","Address":"a","Datacenter":"dc2"}"#, 500, "No path to datacenter"),
        ] {
            let answer = ask(&api, "PUT", "/v1/catalog/register", body).await;
            assert_eq!((answer.status, answer.text.as_str()), (status, text), "{body}");
        }
    }

    #[tokio::test]
    async fn what_our_agent_holds_is_not_for_the_catalog_to_take() {
        let api = api();
        put(&api, "/v1/agent/service/register", json!({"Name": "mine", "Port": 1})).await;
        put(&api, "/v1/catalog/deregister", json!({"Node": "here", "ServiceID": "mine"})).await;
        put(&api, "/v1/catalog/deregister", json!({"Node": "here"})).await;
        let stolen = json!({"Node": "here", "Address": "9.9.9.9", "Service": {"Service": "mine", "Port": 2}});
        put(&api, "/v1/catalog/register", stolen).await;
        let row = &get(&api, "/v1/catalog/service/mine").await.json()[0];
        assert_eq!((&row["Address"], &row["ServicePort"]), (&json!("127.0.0.1"), &json!(1)));
        assert_eq!(get(&api, "/v1/agent/services").await.json()["mine"]["Port"], 1);
    }

    #[tokio::test]
    async fn a_node_known_by_its_id_takes_a_new_name() {
        let api = api();
        let id = "0a000000-0000-4000-8000-000000000001";
        put(&api, "/v1/catalog/register", json!({"Node": "old", "ID": id, "Address": "10.0.0.1"})).await;
        put(&api, "/v1/catalog/register", json!({"Node": "new", "ID": id, "Address": "10.0.0.1"})).await;
        assert_eq!(get(&api, "/v1/catalog/node/old").await.text, "null");
        assert_eq!(get(&api, "/v1/catalog/node/new").await.json()["Node"]["ID"], id);
        let thief = json!({"Node": "thief", "ID": "0a000000-0000-4000-8000-0000000000ff", "Address": "10.0.0.9"});
        assert_eq!(ask(&api, "PUT", "/v1/catalog/register", &thief.to_string()).await.status, 500);
    }

    #[tokio::test]
    async fn keys_are_compared_set_and_removed() {
        let api = api();
        let put = async |path: &str| ask(&api, "PUT", path, "v").await.text;
        assert_eq!(put("/v1/kv/a/b?cas=0").await, "true");
        assert_eq!(put("/v1/kv/a/b?cas=0").await, "false", "it is there now");
        let entry = get(&api, "/v1/kv/a/b").await.json()[0].clone();
        assert_eq!((&entry["Value"], &entry["Flags"]), (&json!("dg=="), &json!(0)));
        let index = entry["ModifyIndex"].as_u64().unwrap();
        assert_eq!(put(&format!("/v1/kv/a/b?cas={}&flags=7", index + 9)).await, "false");
        assert_eq!(put(&format!("/v1/kv/a/b?cas={index}&flags=7")).await, "true");
        assert_eq!(put("/v1/kv/a/c/d").await, "true");
        assert_eq!(get(&api, "/v1/kv/a/?keys&separator=/").await.json(), json!(["a/b", "a/c/"]));
        assert_eq!(get(&api, "/v1/kv/a/b?raw").await.text, "v");
        let missing = get(&api, "/v1/kv/a").await;
        assert_eq!((missing.status, missing.header("x-consul-index").is_empty()), (404, false));
        let conflict = ask(&api, "PUT", "/v1/kv/a?cas=0&acquire=x%26", "").await;
        assert_eq!((conflict.status, conflict.text.as_str()), (400, "Conflicting flags: acquire=x%26&cas=0\n"));
        assert_eq!(ask(&api, "DELETE", "/v1/kv/a/b?cas=0", "").await.text, "false");
        assert_eq!(ask(&api, "DELETE", "/v1/kv/a?recurse", "").await.text, "true");
        assert_eq!(get(&api, "/v1/kv/?keys").await.text, "[]");
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused() {
        let api = api();
        let value = "x".repeat(limits::KV_VALUE_OCTETS_MAX + 1);
        assert_eq!(ask(&api, "PUT", "/v1/kv/a", &value).await.status, 413);
        let body = "x".repeat(limits::HTTP_BODY_OCTETS_MAX + 1);
        assert_eq!(ask(&api, "PUT", "/v1/catalog/register", &body).await.status, 413);
    }

    #[tokio::test]
    async fn maintenance_is_a_verdict_of_its_own() {
        let api = api();
        put(&api, "/v1/agent/service/register", json!({"Name": "s", "Check": {"TTL": "1h", "Status": "passing"}})).await;
        let verdict = get(&api, "/v1/agent/health/service/id/s?format=text").await;
        assert_eq!((verdict.status, verdict.text.as_str()), (200, "passing"));
        put(&api, "/v1/agent/check/warn/service:s", json!({})).await;
        assert_eq!(get(&api, "/v1/agent/health/service/name/s").await.status, 429);
        put(&api, "/v1/agent/service/maintenance/s?enable=true", json!({})).await;
        let verdict = get(&api, "/v1/agent/health/service/id/s").await;
        assert_eq!((verdict.status, verdict.header("x-consul-reason")), (503, "maintenance"));
        assert_eq!(verdict.json()["Checks"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn an_agents_service_is_waited_for_by_its_hash() {
        let api = api();
        put(&api, "/v1/agent/service/register", json!({"Name": "s", "Port": 1})).await;
        let hash = get(&api, "/v1/agent/service/s").await.header("x-consul-contenthash").to_owned();
        let path = format!("/v1/agent/service/s?hash={hash}&wait=20s");
        let waiting = tokio::spawn({
            let api = api.clone();
            async move { get(&api, &path).await.json()["Port"].clone() }
        });
        put(&api, "/v1/agent/service/register", json!({"Name": "s", "Port": 2})).await;
        let port = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
        assert_eq!(port, 2);
    }

    #[tokio::test]
    async fn the_server_speaks_http_on_a_socket_and_ends_when_told() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, with_web().await, shutdown.clone()));
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = "GET /v1/catalog/service/web HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 400];
        let size = stream.read(&mut head).await.unwrap();
        let head = String::from_utf8_lossy(&head[..size]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for line in ["X-Consul-Index: ", "X-Consul-Knownleader: true", "X-Consul-Default-Acl-Policy: allow", "Vary: "] {
            assert!(head.contains(line), "{line} in {head}");
        }
        // One that waits does not hold the end up.
        stream.write_all(b"GET /v1/catalog/service/none?index=999 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
    }
}
