//! What the HTTP API shows of how names are answered: the ends of both sides, tied together.

use std::fs;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::api::Resolver;
use crate::dns::{Name, Names, Question, Type};
use crate::duration;
use crate::metrics::{Kind, Page};
use crate::registry::Registry;
use crate::server::{Responder, of_view};
use crate::upstream::Forwarder;

/// Sees all sides.
pub(super) struct Insight {
    responder: Arc<Responder>,
    registry: Registry,
    begun: Instant,
}

impl Insight {
    pub(super) fn new(responder: Arc<Responder>, registry: Registry) -> Self {
        Self { responder, registry, begun: Instant::now() }
    }
}

impl Resolver for Insight {
    fn status(&self) -> Value {
        let mut status = self.responder.status();
        status.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
        let uptime = Duration::from_secs(self.begun.elapsed().as_secs());
        status.insert("uptime".into(), json!(duration::write(uptime)));
        status.insert("registry".into(), self.registry.status());
        status.insert("cache".into(), self.cache());
        Value::Object(status)
    }

    fn cache(&self) -> Value {
        let setup = self.responder.setup();
        let forwarders = setup.forwarders();
        let sum = |of: fn(&Forwarder) -> u64| -> u64 { forwarders.iter().map(|(_, forwarder)| of(forwarder)).sum() };
        json!({
            "hits": self.responder.hits(),
            "misses": sum(|forwarder| forwarder.counters.misses.get()),
            "stale": sum(|forwarder| forwarder.counters.stale.get()),
            "prefetched": sum(|forwarder| forwarder.counters.prefetched.get()),
            "entries": sum(|forwarder| forwarder.stock().entries as u64),
            "octets": sum(|forwarder| forwarder.stock().octets),
            "octets_max": sum(|forwarder| forwarder.stock().octets_max),
            "evicted": sum(|forwarder| forwarder.stock().evicted),
        })
    }

    fn metrics(&self) -> String {
        let mut page = Page::default();
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.family(Kind::Gauge, "rollcall_build_info", "Which rollcall this is; always 1.", [(version, 1)]);
        let uptime = self.begun.elapsed().as_secs_f64();
        page.number(Kind::Gauge, "rollcall_uptime_seconds", "How long it has served.", uptime);
        process(&mut page);
        self.responder.metrics(&mut page);
        self.registry.metrics(&mut page);
        page.into_text()
    }

    fn kept(&self, name: &Name, qtype: Option<Type>) -> Value {
        let now = Instant::now();
        let (setup, names) = (self.responder.setup(), Names::One(name.clone()));
        let mut all = Vec::new();
        for (view, forwarder) in setup.forwarders() {
            let found = forwarder.find(&names, now);
            let wanted = found.iter().filter(|entry| qtype.is_none_or(|qtype| entry.qtype() == qtype));
            let mut shown: Vec<_> = wanted.map(|entry| entry.shown(now)).collect();
            shown.sort_by(|one, other| (&one.qtype, one.group, &one.flags).cmp(&(&other.qtype, other.group, &other.flags)));
            all.extend(shown.into_iter().map(|shown| of_view(view, json!(shown))));
        }
        Value::Array(all)
    }

    fn explain(
        &self,
        question: Question,
        client: Option<IpAddr>,
        ask: bool,
    ) -> Pin<Box<dyn Future<Output = Value> + Send + '_>> {
        Box::pin(self.responder.explain(question, client, ask))
    }

    fn forget(&self, names: &Names) -> usize {
        self.responder.forget(names)
    }
}

/// What the system says of this process, by the names that Prometheus's own clients use. What it does not say is left out.
fn process(page: &mut Page) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    if let Some(resident) = kilobytes("VmRSS") {
        page.number(Kind::Gauge, "process_resident_memory_bytes", "Memory that is in use.", resident * 1024);
    }
    if let Some(threads) = kilobytes("Threads") {
        page.number(Kind::Gauge, "process_threads", "Threads.", threads);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        page.number(Kind::Gauge, "process_open_fds", "Files and sockets that are open.", files.count());
    }
    let limit = getrlimit(Resource::Nofile).current;
    page.number(
        Kind::Gauge,
        "process_max_fds",
        "Files and sockets that may be open at most.",
        limit.map_or(f64::INFINITY, |limit| limit as f64),
    );
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    page.number(Kind::Counter, "process_cpu_seconds_total", "Processor time that it has used.", cpu);
}
