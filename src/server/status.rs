//! How a server fares: its listeners, upstreams and block lists, as `rollcall status` shows them.

use serde_json::{Map, Value, json};

use super::responder::Responder;

impl Responder {
    /// Where it listens, whom it asks and how they fare, and its block lists; what is of a view says so.
    pub fn status(&self) -> Map<String, Value> {
        let setup = self.setup();
        let mut listeners = self.tallies.open();
        listeners.sort_by(|(one, _), (other, _)| one.cmp(other));
        let listeners =
            listeners.into_iter().map(|(address, transport)| json!({ "address": &*address, "transport": transport.label() }));
        let forwarders = setup.forwarders();
        let groups = forwarders.iter().flat_map(|(view, forwarder)| {
            forwarder.standings().into_iter().map(move |standing| of_view(*view, json!(standing)))
        });
        let lists = setup.block_lists();
        let lists = lists.iter().flat_map(|(view, blocks)| {
            blocks.lists().map(move |(path, names, answered)| {
                of_view(*view, json!({ "list": path.display().to_string(), "names": names, "answered": answered }))
            })
        });
        let parts: [(&str, Value); 3] =
            [("listeners", listeners.collect()), ("groups", groups.collect()), ("block_lists", lists.collect())];
        parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A JSON object that says of which view it is.
pub fn of_view(view: Option<&str>, mut value: Value) -> Value {
    if let (Some(view), Some(value)) = (view, value.as_object_mut()) {
        value.insert("view".into(), json!(view));
    }
    value
}
