//! `/metrics` as a monitor reads it, by a parser that is not ours.

use std::collections::BTreeSet;
use std::fs;

use prometheus_parse::{Sample, Scrape, Value};
use serde_json::json;

use crate::support::dns;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::Witness;

fn scrape(rollcall: &Rollcall) -> Scrape {
    let response = rollcall.http.get("/metrics");
    assert_eq!(response.status, 200, "{response:?}");
    Scrape::parse(response.body.lines().map(|line| Ok(line.to_owned()))).expect("well-formed")
}

/// The sum of all samples of a name that have these labels.
fn sum(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits =
        |sample: &&Sample| sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value));
    let value = |sample: &Sample| match &sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => *value,
        Value::Histogram(buckets) => buckets.last().map_or(0.0, |bucket| bucket.count),
        Value::Summary(_) => panic!("{sample:?}"),
    };
    scrape.samples.iter().filter(fits).map(value).sum()
}

#[test]
fn what_happened_is_counted() {
    let directory = directory();
    let witness = Witness::start();
    let rollcall = Launch::serve(directory.path()).option("--upstream", witness.address.to_string()).start();
    for (id, status) in [("well", "passing"), ("ill", "critical")] {
        rollcall.http.accepts(
            "/v1/agent/service/register",
            &json!({"ID": id, "Name": "web", "Address": "192.0.2.3", "Port": 1, "Check": {"TTL": "1h", "Status": status}}),
        );
    }
    for _ in 0..5 {
        assert_eq!(rollcall.ask("web.service.consul", "A").answers(), ["192.0.2.3"]);
    }
    for _ in 0..10 {
        assert_eq!(rollcall.ask("www.example.net", "A").answers(), [Witness::ANSWER]);
    }
    rollcall.ask("absent.service.consul", "A");
    rollcall.ask("localhost", "A");
    dns::tcp(rollcall.dns, "www.example.net", "A").expect("an answer over TCP");

    let page = scrape(&rollcall);
    let queries = |labels: &[(&str, &str)]| sum(&page, "rollcall_queries_total", labels);
    assert_eq!(queries(&[("transport", "udp"), ("rcode", "NOERROR")]), 16.0);
    assert_eq!(queries(&[("transport", "udp"), ("rcode", "NXDOMAIN")]), 1.0);
    assert_eq!(queries(&[("transport", "tcp")]), 1.0);
    assert_eq!(queries(&[("listener", &rollcall.dns.to_string())]), 18.0);
    let answers = |source| sum(&page, "rollcall_answers_total", &[("source", source)]);
    assert_eq!(["discovery", "local", "forwarded", "cache", "failed"].map(answers), [6.0, 1.0, 1.0, 10.0, 0.0]);
    assert_eq!(sum(&page, "rollcall_cache_hits_total", &[]), 10.0);
    assert_eq!(sum(&page, "rollcall_cache_misses_total", &[]), 1.0);
    assert_eq!(sum(&page, "rollcall_cache_entries", &[]), 1.0);
    let upstream = [("upstream", &*witness.address.to_string()), ("group", "default")];
    for name in [
        "rollcall_upstream_sent_total",
        "rollcall_upstream_answered_total",
        "rollcall_upstream_up",
        "rollcall_upstream_seconds",
    ] {
        assert_eq!(sum(&page, name, &upstream), 1.0, "{name}");
    }
    // `consul` is the service by which Consul's clients find servers.
    assert_eq!(sum(&page, "rollcall_registry_services", &[]), 2.0);
    assert_eq!(sum(&page, "rollcall_registry_instances", &[("health", "passing")]), 2.0);
    assert_eq!(sum(&page, "rollcall_registry_instances", &[("health", "critical")]), 1.0);
    assert_eq!(sum(&page, "rollcall_registry_writes_total", &[]), 2.0);
    assert!(sum(&page, "rollcall_registry_sync_seconds", &[]) >= 1.0);
    assert!(sum(&page, "process_resident_memory_bytes", &[]) > 1e6);

    let stats: serde_json::Value = rollcall.http.json("/v1/rollcall/cache");
    assert_eq!((stats["hits"].as_u64(), stats["misses"].as_u64()), (Some(10), Some(1)), "{stats}");

    // A reload begins no count anew.
    rollcall.signal("HUP");
    crate::support::within(std::time::Duration::from_secs(10), "the reload", || {
        let said = rollcall.stderr();
        if said.contains("was read again") { Ok(()) } else { Err(said) }
    });
    let later = scrape(&rollcall);
    for name in ["rollcall_queries_total", "rollcall_upstream_sent_total", "rollcall_cache_misses_total"] {
        assert_eq!(sum(&later, name, &[]), sum(&page, name, &[]), "{name}");
    }
}

/// The table of `docs/metrics.md` names each metric, and nothing else.
#[test]
fn the_page_of_metrics_names_each() {
    let directory = directory();
    let witness = Witness::start();
    // With all that is counted only where it is wanted.
    let config = "[log]\nqueries = \"queries.log\"\n[[block]]\nlists = [\"ads.hosts\"]\n";
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    fs::write(directory.path().join("ads.hosts"), "0.0.0.0 ads.example.net\n").expect("written");
    let launch = Launch::serve(directory.path()).option("--config", "rollcall.toml");
    let rollcall = launch.option("--upstream", witness.address.to_string()).start();
    rollcall.ask("www.example.net", "A");
    let text = rollcall.http.get("/metrics").body;
    let told: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let with_help: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert_eq!(told, with_help);
    assert_eq!(told.len(), text.lines().filter(|line| line.starts_with("# TYPE ")).count(), "each family once: {text}");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let named: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`')).filter(|word| word.contains('_')).collect();
    assert_eq!(named, told);
    // And each has a sample by now.
    let page = scrape(&rollcall);
    let of_histogram =
        |name: &str| ["_sum", "_count"].iter().any(|end| name.strip_suffix(end).is_some_and(|of| told.contains(of)));
    let sampled = page.samples.iter().map(|sample| &*sample.metric).filter(|name| !of_histogram(name));
    let sampled: BTreeSet<&str> = sampled.collect();
    assert_eq!(sampled, told);
}
