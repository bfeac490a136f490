//! SIGTERM, SIGHUP, and the ready line.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::support::rollcall::{Launch, directory};
use crate::support::upstream::Witness;
use crate::support::within;

#[test]
fn sigterm_ends_it_cleanly() {
    let directory = directory();
    for name in ["TERM", "INT"] {
        let mut rollcall = Launch::serve(directory.path()).start();
        rollcall
            .http
            .accepts("/v1/agent/service/register", &json!({"ID": name, "Name": "kept", "Address": "192.0.2.8", "Port": 1}));
        // A blocking query is open: it must not hold the end.
        let http = rollcall.http.clone();
        let waiting = std::thread::spawn(move || http.request("GET", "/v1/catalog/services?index=1000000&wait=5m", ""));
        rollcall.signal(name);
        assert_eq!(rollcall.ended().code(), Some(0), "SIG{name}");
        drop(waiting.join());
    }
    let rollcall = Launch::serve(directory.path()).start();
    let services = rollcall.http.json("/v1/agent/services");
    assert!(services.get("TERM").is_some() && services.get("INT").is_some(), "{services}");
}

#[test]
fn sighup_takes_a_good_configuration_and_refuses_a_bad_one() {
    let directory = directory();
    let (first, second) = (Witness::start(), Witness::start());
    let file = directory.path().join("rollcall.toml");
    let configure = |upstream: &str| fs::write(&file, format!("[forward]\nupstreams = [\"{upstream}\"]\n")).expect("written");
    configure(&first.address.to_string());
    let mut rollcall = Launch::serve(directory.path()).option("--config", &file).start();
    rollcall
        .http
        .accepts("/v1/agent/service/register", &json!({"ID": "kept", "Name": "kept", "Address": "192.0.2.8", "Port": 1}));
    rollcall.ask("a.example.net", "A");
    assert_eq!(first.count("a.example.net."), 1);

    fs::write(&file, "[forward]\nupstreams = [\n").expect("written");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the refusal of the new configuration", || {
        let said = rollcall.stderr();
        if ["rollcall.toml", "expected", "hint"].iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
    });
    assert!(rollcall.running());
    rollcall.ask("b.example.net", "A");
    assert_eq!(first.count("b.example.net."), 1, "the old configuration goes on");

    configure(&second.address.to_string());
    rollcall.signal("HUP");
    let mut number = 0;
    within(Duration::from_secs(10), "the new upstream is asked", || {
        number += 1;
        let name = format!("c{number}.example.net");
        rollcall.ask(&name, "A");
        if second.count(&format!("{name}.")) > 0 { Ok(()) } else { Err(format!("{:?}", first.asked())) }
    });
    assert_eq!(rollcall.ask("kept.service.consul", "A").answers(), ["192.0.2.8"], "what is registered stays");
}

#[test]
fn the_ready_line_is_true() {
    let directory = directory();
    // `start` waits for the line and compares the process id; what it names must answer at the first try.
    let rollcall = Launch::serve(directory.path()).start();
    assert_eq!(rollcall.http.get("/v1/status/leader").status, 200);
    assert!(rollcall.ask("absent.service.consul", "A").answers().is_empty());
    assert_ne!(rollcall.dns.port(), 0);
}
