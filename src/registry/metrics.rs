//! What the registry holds and does, in numbers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::Registry;
use crate::catalog::{Catalog, Health, Index};
use crate::metrics::{Count, Histogram, Kind, Page};

/// What the writer counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Writes that somebody waited for.
    pub(super) writes: Count,
    /// How long it took until a batch of them was on disk.
    pub(super) sync: Histogram,
    /// Instances by health, and the index at which they were counted: of a million that takes a moment.
    counted: Mutex<Option<(Index, [u64; 3])>>,
}

const HEALTHS: [Health; 3] = [Health::Passing, Health::Warning, Health::Critical];

impl Counters {
    fn instances(&self, catalog: &Catalog) -> [u64; 3] {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((index, counts)) = *counted
            && index == catalog.index()
        {
            return counts;
        }
        let mut counts = [0; HEALTHS.len()];
        for instance in catalog.instances().iter() {
            counts[catalog.health(instance) as usize % HEALTHS.len()] += 1;
        }
        *counted = Some((catalog.index(), counts));
        counts
    }
}

impl Registry {
    /// How much is registered, as JSON. Looks at each instance, unless nothing changed since the last time.
    pub fn status(&self) -> Value {
        let (catalog, counters) = (self.snapshot(), &self.inner.published.counters);
        let instances = HEALTHS.iter().map(Health::to_string).zip(counters.instances(&catalog));
        json!({
            "services": catalog.services().len(),
            "nodes": catalog.nodes().len(),
            "instances": instances.collect::<BTreeMap<_, _>>(),
            "index": catalog.index(),
        })
    }

    /// What is registered, and what it takes to keep it. Looks at each instance, unless nothing changed since the last time.
    pub fn metrics(&self, page: &mut Page) {
        use Kind::{Counter, Gauge};
        let (catalog, counters) = (self.snapshot(), &self.inner.published.counters);
        page.number(Gauge, "rollcall_registry_services", "Services that have an instance.", catalog.services().len());
        page.number(Gauge, "rollcall_registry_nodes", "Nodes.", catalog.nodes().len());
        let instances = HEALTHS.iter().zip(counters.instances(&catalog));
        let instances = instances.map(|(health, count)| (vec![("health", health.to_string())], count));
        page.family(Gauge, "rollcall_registry_instances", "Instances, by the worst of their checks.", instances);
        page.number(Counter, "rollcall_registry_index", "The index of the last change.", catalog.index());
        page.number(Counter, "rollcall_registry_writes_total", "Writes that somebody waited for.", counters.writes.get());
        let sync = [(Vec::new(), &counters.sync)];
        page.histograms("rollcall_registry_sync_seconds", "How long it took until a batch of them was on disk.", sync);
        page.number(Counter, "rollcall_check_runs_total", "Health checks that were run.", self.inner.runner.runs.get());
    }
}
