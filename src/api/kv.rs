//! `/v1/kv`: keys and values. Locks are taken through sessions, and no session can exist yet, so none is ever held.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{Method, StatusCode};

use super::Api;
use super::blocking::{Meta, View, Watch};
use super::go;
use super::json::KvView;
use super::reply::{Refusal, Reply, TEXT};
use super::request::Request;
use crate::catalog::{Change, Index, KvEntry};
use crate::limits;

pub(super) static READ: Watch = Watch {
    meta: Meta::Plain,
    rows: None,
    check: |request| if many(request) { Ok(()) } else { named(request) },
    index,
    empty: |view| entries(view).next().is_none(),
    show,
};

/// `?keys` and `?recurse` ask for all below a prefix.
fn many(request: &Request) -> bool {
    request.has("keys") || request.has("recurse")
}

fn named(request: &Request) -> Result<(), Refusal> {
    if request.rest.is_empty() { Err(Refusal::bad("Missing key name")) } else { Ok(()) }
}

fn index(view: &View) -> Index {
    let key = view.request.rest.as_str();
    let last = if many(view.request) {
        view.catalog.kv_prefix_index(key)
    } else {
        view.catalog.kv().get(key).map(|entry| entry.modify_index)
    };
    last.unwrap_or(view.catalog.tables().kv)
}

/// The entry asked for, or all below the prefix.
fn entries<'a>(view: &View<'a>) -> Box<dyn Iterator<Item = &'a Arc<KvEntry>> + 'a> {
    let key = view.request.rest.as_str();
    if !many(view.request) {
        return Box::new(view.catalog.kv().get(key).into_iter());
    }
    let below = view.catalog.kv().range(Arc::from(key)..).take_while(move |(found, _)| found.starts_with(key));
    Box::new(below.map(|(_, entry)| entry))
}

fn show(view: &View) -> Result<Reply, Refusal> {
    let request = view.request;
    if request.has("keys") {
        let keys = keys(view);
        // The root is there even when nothing is in it.
        return if keys.is_empty() && !request.rest.is_empty() { Ok(absent()) } else { Reply::json(request, &keys) };
    }
    let mut entries = entries(view).peekable();
    let Some(first) = entries.peek() else { return Ok(absent()) };
    if request.has("raw") && !request.has("recurse") {
        let reply = Reply::new(StatusCode::OK, Some(TEXT), Bytes::copy_from_slice(&first.value));
        return Ok(reply.with("x-content-type-options", "nosniff").with("content-security-policy", "sandbox"));
    }
    view.list(entries.map(|entry| KvView::from(&**entry)))
}

fn absent() -> Reply {
    Reply::new(StatusCode::NOT_FOUND, None, Bytes::new())
}

/// The keys below the prefix, each cut behind the first separator that follows the prefix.
fn keys<'a>(view: &View<'a>) -> Vec<&'a str> {
    let prefix = view.request.rest.as_str();
    // Clients of long ago spell it so.
    let separator = view.request.get("separator").or_else(|| view.request.get("seperator")).unwrap_or("");
    let cut = |key: &'a str| {
        let after = key.get(prefix.len()..).unwrap_or("");
        match after.find(separator).filter(|_| !separator.is_empty()) {
            Some(at) => key.get(..prefix.len() + at + separator.len()).unwrap_or(key),
            None => key,
        }
    };
    let mut keys: Vec<&str> = entries(view).map(|entry| cut(&entry.key)).collect();
    keys.dedup();
    keys
}

pub(super) async fn write(api: Api, request: Request) -> Result<Reply, Refusal> {
    request.refuse_partitions()?;
    let done = if request.method == Method::PUT { put(&api, &request).await? } else { delete(&api, &request).await? };
    Reply::json(&request, &done)
}

async fn put(api: &Api, request: &Request) -> Result<bool, Refusal> {
    named(request)?;
    refuse_conflict(request, &["cas", "acquire", "release"])?;
    let number = |name: &str| request.get(name).map(go::parse_uint).transpose().map_err(Refusal::internal);
    let flags = number("flags")?.unwrap_or(0);
    let cas = number("cas")?;
    if request.body.len() > limits::KV_VALUE_OCTETS_MAX {
        return Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "Request body({} bytes) too large, max size: {} bytes. See https://www.consul.io/docs/agent/config/config-files#kv_max_value_size.",
                request.body.len(),
                limits::KV_VALUE_OCTETS_MAX
            ),
        ));
    }
    api.own_datacenter(request.get("dc"))?;
    if let Some(session) = request.get("acquire") {
        return Err(Refusal::internal(format!("raft apply failed: invalid session {}", go::quote(session))));
    }
    if request.has("release") {
        return Ok(false);
    }
    let entry = KvEntry {
        key: request.rest.as_str().into(),
        value: Arc::from(&*request.body),
        flags,
        lock_index: 0,
        session: None,
        create_index: Index(0),
        modify_index: Index(0),
    };
    api.write(move |edit| {
        let old = edit.catalog().kv().get(&*entry.key);
        let fits = match (cas, old) {
            (None, _) | (Some(0), None) => true,
            (Some(index), Some(old)) => index != 0 && old.modify_index == Index(index),
            (Some(_), None) => false,
        };
        if fits {
            edit.apply(Change::PutKv(entry)).map_err(Refusal::from)?;
        }
        Ok(fits)
    })
    .await
}

async fn delete(api: &Api, request: &Request) -> Result<bool, Refusal> {
    let recurse = request.has("recurse");
    if !recurse {
        named(request)?;
    }
    refuse_conflict(request, &["recurse", "cas"])?;
    let cas = request.get("cas").map(go::parse_uint).transpose().map_err(Refusal::internal)?;
    api.own_datacenter(request.get("dc"))?;
    let key: Arc<str> = request.rest.as_str().into();
    api.write(move |edit| {
        let gone: Vec<Arc<str>> = match (recurse, edit.catalog().kv().get(&*key)) {
            (true, _) => {
                let below = edit.catalog().kv().range(key.clone()..).take_while(|(found, _)| found.starts_with(&*key));
                below.map(|(found, _)| found.clone()).collect()
            }
            (false, Some(old)) if cas.is_some_and(|index| old.modify_index != Index(index)) => return Ok(false),
            (false, Some(_)) => vec![key],
            (false, None) => Vec::new(),
        };
        for key in gone {
            edit.apply(Change::RemoveKv(key)).map_err(Refusal::from)?;
        }
        Ok(true)
    })
    .await
}

/// What a query string escapes; a space becomes a plus.
const ESCAPED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// Of these parameters only one may be given.
fn refuse_conflict(request: &Request, names: &[&str]) -> Result<(), Refusal> {
    if names.iter().filter(|name| request.has(name)).count() < 2 {
        return Ok(());
    }
    let mut sorted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, value) in &request.parameters {
        sorted.entry(key).or_default().push(value);
    }
    let escape = |text: &str| percent_encoding::utf8_percent_encode(text, ESCAPED).to_string().replace(' ', "+");
    let pairs = sorted.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)));
    let encoded: Vec<String> = pairs.map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
    Err(Refusal::bad(format!("Conflicting flags: {}\n", encoded.join("&"))))
}
