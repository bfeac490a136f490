//! Reads of the catalog, which may wait: with `?index=N` an answer is held back until there is something newer than N,
//! or until `?wait=` is over.
//!
//! Each such endpoint is a [`Watch`]: how to tell the index of what it shows, and how to show it. Waiting costs a place
//! in the list of a `watch` channel; a client that goes away takes its future, and so its place, with it. An endpoint
//! looks only at the rows that it shows, so other writes do not end its waiting.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::filter::{Filter, Kind};
use super::reply::{Refusal, Reply};
use super::request::{Options, Request};
use crate::catalog::{Catalog, Index};
use crate::registry::{Identity, Registry};

/// What an endpoint looks at.
pub(super) struct View<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) identity: &'a Identity,
    pub(super) request: &'a Request,
    pub(super) options: &'a Options,
    pub(super) filter: Option<&'a Filter>,
}

impl View<'_> {
    /// A list of rows as JSON, those that the filter accepts.
    pub(super) fn list<T: Serialize>(&self, rows: impl Iterator<Item = T>) -> Result<Reply, Refusal> {
        Reply::json(self.request, &self.accepted(rows)?)
    }

    /// Those rows that the filter accepts.
    pub(super) fn accepted<T: Serialize>(&self, rows: impl Iterator<Item = T>) -> Result<Vec<T>, Refusal> {
        let Some(filter) = self.filter else { return Ok(rows.collect()) };
        let mut accepted = Vec::new();
        for row in rows {
            let value = serde_json::to_value(&row).map_err(|error| Refusal::internal(error.to_string()))?;
            if filter.accepts(&value) {
                accepted.push(row);
            }
        }
        Ok(accepted)
    }

    /// Whether a node's metadata has all that `?node-meta=` asks for.
    pub(super) fn has_meta(&self, node: &crate::catalog::Node) -> bool {
        let has =
            |key: &str, value: &str| node.meta.as_ref().and_then(|meta| meta.get(key)).is_some_and(|found| found == value);
        self.options.node_meta.iter().all(|(key, value)| has(key, value))
    }
}

/// Which headers about the answer's index go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    /// All, and with a refusal too.
    Full,
    /// All, but only with an answer; a waiting query is marked as streamed.
    Streamed,
    /// Without the consistency, and only with an answer.
    Plain,
}

/// An endpoint whose answer can be waited for.
pub(super) struct Watch {
    pub(super) meta: Meta,
    /// What `?filter=` may select, where there is a filter.
    pub(super) rows: Option<Kind>,
    /// Refuses what can be refused before anything is looked at.
    pub(super) check: fn(&Request) -> Result<(), Refusal>,
    /// The last change of what is shown.
    pub(super) index: fn(&View) -> Index,
    /// Nothing is there to show. Who waits for something to appear is not woken by nothing.
    pub(super) empty: fn(&View) -> bool,
    pub(super) show: fn(&View) -> Result<Reply, Refusal>,
}

impl Watch {
    pub(super) async fn answer(&self, registry: &Registry, request: &Request) -> Reply {
        let options = match Options::parse(request).and_then(|options| (self.check)(request).map(|()| options)) {
            Ok(options) => options,
            Err(refusal) => return refusal.into(),
        };
        let streamed = self.meta == Meta::Streamed && options.near.is_none() && (options.index > 0 || options.cached);
        let backend = if streamed { "streaming" } else { "blocking-query" };
        let (index, leader, reply) = match self.seen(registry, request, &options).await {
            Ok((index, reply)) => (index, !streamed, reply),
            Err(refusal) if self.meta != Meta::Full => return refusal.into(),
            Err(refusal) => (Index(1), false, refusal.into()),
        };
        let answered = !reply.status.is_server_error();
        let mut reply = reply
            .with("x-consul-index", index.0.max(1).to_string())
            .with("x-consul-knownleader", leader.to_string())
            .with("x-consul-lastcontact", "0")
            .with("x-consul-query-backend", backend);
        if answered && self.meta != Meta::Plain {
            reply = reply.with("x-consul-effective-consistency", options.consistency.as_str());
            if options.cached {
                reply = reply.with("x-cache", "HIT").with("age", "0");
            }
        }
        reply
    }

    async fn seen(&self, registry: &Registry, request: &Request, options: &Options) -> Result<(Index, Reply), Refusal> {
        let identity = registry.identity();
        if options.datacenter.as_ref().is_some_and(|datacenter| **datacenter != *identity.datacenter) {
            return Err(Refusal::unknown_datacenter());
        }
        let filter = match (self.rows, request.get("filter")) {
            (Some(rows), Some(text)) => Some(Filter::parse(text, rows).map_err(Refusal::internal)?),
            _ => None,
        };
        let catalog = self.newer(registry, request, options).await;
        let view = View { catalog: &catalog, identity, request, options, filter: filter.as_ref() };
        Ok(((self.index)(&view), (self.show)(&view)?))
    }

    /// The newest catalog, once it has something newer than asked for or the wait is over.
    async fn newer(&self, registry: &Registry, request: &Request, options: &Options) -> Arc<Catalog> {
        let mut published = registry.published();
        let mut catalog = published.borrow_and_update().clone();
        if options.index == 0 {
            return catalog;
        }
        let look = |catalog: &Catalog| {
            let view = View { catalog, identity: registry.identity(), request, options, filter: None };
            ((self.index)(&view) > Index(options.index), (self.empty)(&view))
        };
        let (mut newer, was_empty) = look(&catalog);
        let deadline = Instant::now() + options.wait + jitter(options.wait);
        while !newer {
            // An error is a registry that ends: what it last knew is the answer.
            let Ok(Ok(())) = tokio::time::timeout_at(deadline, published.changed()).await else { break };
            catalog = published.borrow_and_update().clone();
            let (moved, empty) = look(&catalog);
            newer = moved && !(was_empty && empty);
        }
        catalog
    }
}

/// Up to a sixteenth of the wait, so that clients that began together do not all come back together.
fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(fastrand::f64() / 16.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::Api;
    use crate::api::tests::{Answer, api, ask, get, put};

    fn service(node: &str, name: &str, port: u16) -> Value {
        json!({"Node": node, "Address": "10.0.0.1", "Service": {"ID": name, "Service": name, "Port": port}})
    }

    /// Starts a read that waits from the path's present index on.
    async fn waiting(api: &Api, path: &str, wait: &str) -> tokio::task::JoinHandle<Answer> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{joint}index={}&wait={wait}", get(api, path).await.index());
        let api = api.clone();
        let task = tokio::spawn(async move { get(&api, &path).await });
        // Lets it look and begin to wait before the caller writes.
        tokio::task::yield_now().await;
        task
    }

    #[tokio::test]
    async fn a_read_waits_for_what_it_shows_and_for_nothing_else() {
        let api = api();
        put(&api, "/v1/catalog/register", service("n", "web", 80)).await;
        put(&api, "/v1/catalog/register", service("m", "db", 90)).await;
        for path in
            ["/v1/catalog/service/web", "/v1/health/service/web", "/v1/health/checks/web", "/v1/kv/k", "/v1/kv/p/?recurse"]
        {
            let task = waiting(&api, path, "300ms").await;
            let began = std::time::Instant::now();
            put(&api, "/v1/catalog/register", service("m", "db", fastrand::u16(1..))).await;
            put(&api, "/v1/kv/other", json!(fastrand::u64(..))).await;
            let answer = task.await.unwrap();
            assert!(began.elapsed().as_millis() >= 250, "{path} was woken by another's change");
            assert!(answer.status == 200 || answer.status == 404);
        }
    }

    #[tokio::test]
    async fn each_kind_of_change_ends_the_waiting() {
        let api = api();
        put(&api, "/v1/catalog/register", service("n", "web", 80)).await;
        let node_check = json!({"Node": "n", "Address": "10.0.0.1", "Check": {"Name": "alive", "Status": "critical"}});
        let changes = [
            ("/v1/catalog/service/web", "/v1/catalog/register", service("n", "web", 81)),
            ("/v1/health/service/web?passing", "/v1/catalog/register", node_check),
            ("/v1/health/state/critical", "/v1/catalog/deregister", json!({"Node": "n", "CheckID": "alive"})),
            ("/v1/catalog/nodes", "/v1/catalog/register", json!({"Node": "n2", "Address": "10.0.0.2"})),
            ("/v1/catalog/service/new", "/v1/catalog/register", service("n", "new", 1)),
            ("/v1/catalog/services", "/v1/catalog/deregister", json!({"Node": "n", "ServiceID": "new"})),
            ("/v1/catalog/service/web", "/v1/catalog/deregister", json!({"Node": "n", "ServiceID": "web"})),
            ("/v1/kv/a/b", "/v1/kv/a/b", json!(1)),
            ("/v1/kv/a/?keys", "/v1/kv/a/c", json!(1)),
            ("/v1/coordinate/nodes", "/v1/coordinate/update", json!({"Node": "n", "Coord": {"Vec": vec![0.5; 8]}})),
        ];
        for (path, write, body) in changes {
            let before = get(&api, path).await.index();
            let task = waiting(&api, path, "60s").await;
            put(&api, write, body).await;
            let answer = tokio::time::timeout(std::time::Duration::from_secs(10), task).await;
            let answer = answer.unwrap_or_else(|_| panic!("{path} waits on")).unwrap();
            assert!(answer.index() > before, "{path}");
        }
        let task = waiting(&api, "/v1/kv/a/?recurse", "60s").await;
        ask(&api, "DELETE", "/v1/kv/a/b", "").await;
        assert_eq!(task.await.unwrap().json().as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_index_from_the_future_waits_and_comes_back_lower() {
        let api = api();
        let answer = get(&api, "/v1/catalog/nodes?index=999999&wait=50ms").await;
        assert!(answer.index() < 999_999 && answer.index() >= 1);
    }

    #[tokio::test]
    async fn writing_the_same_again_wakes_nobody() {
        let api = api();
        put(&api, "/v1/catalog/register", service("n", "web", 80)).await;
        let before = get(&api, "/v1/catalog/service/web").await.index();
        let task = waiting(&api, "/v1/catalog/service/web", "200ms").await;
        put(&api, "/v1/catalog/register", service("n", "web", 80)).await;
        assert_eq!(task.await.unwrap().index(), before);
    }

    #[tokio::test]
    async fn refusals_bear_the_headers_that_clients_look_for() {
        let api = api();
        let answer = get(&api, "/v1/catalog/nodes?dc=dc2").await;
        assert_eq!((answer.status, answer.text.as_str()), (500, "No path to datacenter"));
        assert_eq!((answer.header("x-consul-index"), answer.header("x-consul-knownleader")), ("1", "false"));
        assert_eq!(get(&api, "/v1/health/service/x?dc=dc2").await.header("x-consul-index"), "");
        assert_eq!(get(&api, "/v1/catalog/nodes?index=x").await.status, 400);
        let streamed = get(&api, "/v1/health/service/x?index=1&wait=10ms").await;
        assert_eq!(streamed.header("x-consul-query-backend"), "streaming");
        assert_eq!(get(&api, "/v1/catalog/nodes?stale").await.header("x-consul-effective-consistency"), "stale");
    }

    #[tokio::test]
    async fn rows_come_in_the_order_of_their_distance() {
        let api = api();
        for (node, seconds) in [("a", 0.5), ("b", 0.1), ("c", 0.0)] {
            put(&api, "/v1/catalog/register", json!({"Node": node, "Address": "10.0.0.1"})).await;
            let vec = [seconds, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
            put(&api, "/v1/coordinate/update", json!({"Node": node, "Coord": {"Vec": vec, "Height": 1e-5}})).await;
        }
        let order = async |path: &str| -> Vec<String> {
            let nodes = get(&api, path).await.json();
            nodes.as_array().unwrap().iter().map(|node| node["Node"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(order("/v1/catalog/nodes?near=c").await, ["c", "b", "a", "here"], "what has no place comes last");
        assert_eq!(order("/v1/catalog/nodes?near=_agent").await, ["a", "b", "c", "here"], "we have no place ourselves");
    }
}
