//! What the HTTP API shows of how names are answered: the ends of both sides, tied together.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::api::{Forget, Resolver};
use crate::dns::{Name, Type};
use crate::resolve::cache::Names;
use crate::server::Responder;

/// Sees all sides.
pub(super) struct Insight {
    responder: Arc<Responder>,
}

impl Insight {
    pub(super) fn new(responder: Arc<Responder>) -> Self {
        Self { responder }
    }
}

impl Resolver for Insight {
    fn cache(&self) -> Value {
        let stock = self.responder.setup().forwarder.stock();
        json!({
            "entries": stock.entries,
            "octets": stock.octets,
            "octets_max": stock.octets_max,
            "evicted": stock.evicted,
        })
    }

    fn kept(&self, name: &Name, qtype: Option<Type>) -> Value {
        let now = Instant::now();
        let found = self.responder.setup().forwarder.find(&Names::One(name.clone()), now);
        let mut shown: Vec<_> = found
            .iter()
            .filter(|entry| qtype.is_none_or(|qtype| entry.qtype() == qtype))
            .map(|entry| entry.shown(now))
            .collect();
        shown.sort_by(|one, other| (&one.qtype, one.group, &one.flags).cmp(&(&other.qtype, other.group, &other.flags)));
        json!(shown)
    }

    fn forget(&self, what: Forget) -> usize {
        self.responder.forget(&match what {
            Forget::All => Names::All,
            Forget::Name(name) => Names::One(name),
            Forget::Below(domain) => Names::Below(domain),
        })
    }
}
