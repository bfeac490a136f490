//! `/v1/rollcall`: what Consul has no word for. How names are answered, and what is kept of others' answers.
//!
//! Who answers names is not known here; [`Resolver`] is what it lets be seen and done. Keys are in snake case, as in all
//! JSON that is our own.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Api;
use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::dns::{Class, Name, Names, Question, Type};

/// What answers names, seen from the HTTP API. All of it may take as long as it takes to look at each kept answer.
pub trait Resolver: Send + Sync {
    /// What the server is made of, and how that fares.
    fn status(&self) -> Value;
    /// How much is kept, and how often it was of use.
    fn cache(&self) -> Value;
    /// All that is counted, as Prometheus reads it.
    fn metrics(&self) -> String;
    /// What is kept of a name.
    fn kept(&self, name: &Name, qtype: Option<Type>) -> Value;
    /// Tells who answers a question and why, to this client or to one who may ask for everything; with `ask`, what each
    /// upstream says to it now.
    fn explain(
        &self,
        question: Question,
        client: Option<IpAddr>,
        ask: bool,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + '_>>;
    /// Forgets what is kept of these names; says how many answers that were.
    fn forget(&self, names: &Names) -> usize;
}

/// The text format's own type, which is not plain text to those who ask for it.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`.
pub(super) async fn metrics(api: Api, _: Request) -> Result<Reply, Refusal> {
    Ok(Reply::new(StatusCode::OK, Some(EXPOSITION), with(&api, |resolver| resolver.metrics()).await?))
}

/// `GET /v1/rollcall/status`.
pub(super) async fn status(api: Api, request: Request) -> Result<Reply, Refusal> {
    let shown = with(&api, |resolver| resolver.status()).await?;
    Reply::json(&request, &shown)
}

/// `GET /v1/rollcall/cache`.
pub(super) async fn cache(api: Api, request: Request) -> Result<Reply, Refusal> {
    let shown = with(&api, |resolver| resolver.cache()).await?;
    Reply::json(&request, &shown)
}

/// `GET /v1/rollcall/cache/entries/NAME?type=TYPE`.
pub(super) async fn entries(api: Api, request: Request) -> Result<Reply, Refusal> {
    let (name, qtype) = (name_of_path(&request)?, request.get("type").map(record_type).transpose()?);
    let shown = with(&api, move |resolver| resolver.kept(&name, qtype)).await?;
    Reply::json(&request, &shown)
}

/// `PUT /v1/rollcall/cache/flush?name=NAME`, `?below=DOMAIN` or `?all`.
pub(super) async fn flush(api: Api, request: Request) -> Result<Reply, Refusal> {
    debug_assert_eq!(request.method, Method::PUT);
    // Each is counted that is there at all: what was meant to be a name and is empty must not be everything.
    let is_one = ["name", "below", "all"].iter().flat_map(|key| request.all(key)).count() == 1;
    let names = match (request.get("name"), request.get("below"), request.all("all").next()) {
        (Some(text), ..) if is_one => Names::One(name(text)?),
        (_, Some(text), _) if is_one => Names::Below(name(text)?),
        (.., Some("" | "true")) if is_one => Names::All,
        _ => return Err(Refusal::bad("expected one of ?name=NAME, ?below=DOMAIN and ?all")),
    };
    let forgotten = with(&api, move |resolver| resolver.forget(&names)).await?;
    Reply::json(&request, &json!({ "forgotten": forgotten }))
}

/// `GET /v1/rollcall/explain/NAME?type=TYPE&client=ADDRESS&ask`.
pub(super) async fn explain(api: Api, request: Request) -> Result<Reply, Refusal> {
    let (name, qtype) = (name_of_path(&request)?, request.get("type").map_or(Ok(Type::A), record_type)?);
    let client = request
        .get("client")
        .map(|text| text.parse().map_err(|_| Refusal::bad(format!("expected the address of a client, got {text:?}"))));
    let question = Question { name, qtype, qclass: Class::IN };
    let resolver = api.resolver.as_ref().ok_or_else(|| Refusal::not_found(NO_RESOLVER))?;
    Reply::json(&request, &resolver.explain(question, client.transpose()?, request.has("ask")).await)
}

const NO_RESOLVER: &str = "this server answers no names";

/// Does what takes long where it keeps nobody waiting.
async fn with<T: Send + 'static>(api: &Api, what: impl FnOnce(&dyn Resolver) -> T + Send + 'static) -> Result<T, Refusal> {
    let resolver: Arc<dyn Resolver> = api.resolver.clone().ok_or_else(|| Refusal::not_found(NO_RESOLVER))?;
    let done = tokio::task::spawn_blocking(move || what(&*resolver)).await;
    done.map_err(|error| Refusal::internal(error.to_string()))
}

/// The name behind the path; the root is none, since a path loses a dot there (RFC 3986, 5.2.4).
fn name_of_path(request: &Request) -> Result<Name, Refusal> {
    if request.rest.is_empty() { Ok(Name::root()) } else { name(&request.rest) }
}

fn name(text: &str) -> Result<Name, Refusal> {
    Name::from_idn(text).map_err(|error| Refusal::bad(format!("expected a name: {error}")))
}

fn record_type(word: &str) -> Result<Type, Refusal> {
    word.parse().map_err(Refusal::bad)
}
