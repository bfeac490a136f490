//! What a server says in JSON, for people: texts, lists and tables of it.

use serde_json::Value;

use super::Error;
use super::output::{Output, printable};

/// What stands under a key, as one printable line; nothing for what is not there.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a group of upstreams is called, and of which view it is.
pub(super) fn group(value: &Value) -> String {
    match value["view"].as_str() {
        Some(view) => format!("{} of {}", text(&value["group"]), printable(view)),
        None => text(&value["group"]),
    }
}

/// What is told of each upstream.
pub(super) const UPSTREAM: [&str; 7] = ["Upstream", "State", "Latency", "Sent", "Answered", "Failed", "Missed"];

pub(super) fn upstream_row(upstream: &Value) -> Vec<String> {
    let state = match (&upstream["up"], &upstream["leads_back"]) {
        (_, Value::Bool(true)) => "leads back here: set aside",
        (Value::Bool(true), _) => "up",
        _ => "failing: asked last",
    };
    let latency = upstream["latency_ms"].as_f64().map_or_else(|| "unknown".to_owned(), |ms| format!("{ms} ms"));
    let counts = ["sent", "answered", "failed", "missed"].map(|key| text(&upstream[key]));
    [text(&upstream["upstream"]), state.to_owned(), latency].into_iter().chain(counts).collect()
}

/// A table behind an empty line; nothing without rows.
pub(super) fn table(
    output: &mut Output,
    values: &[Value],
    heading: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<(), Error> {
    if values.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let heading = heading.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<_> = std::iter::once(heading).chain(values.iter().map(row)).collect();
    output.table(&rows)
}
