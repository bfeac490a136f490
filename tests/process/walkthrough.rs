//! What a new user does, from registration to recovery, by the commands they would type.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::health::HealthServer;
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, nslookup, run, says, sorted_lines};
use crate::support::{dns, slack, within};

const ADDRESSES: [&str; 3] = ["127.0.1.101", "127.0.1.102", "127.0.1.103"];
const NAME: &str = "sample-service.service.consul";
const INTERVAL: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
const DEREGISTER: Duration = Duration::from_secs(3);

fn health_servers() -> [HealthServer; 3] {
    ADDRESSES.map(|address| HealthServer::start(address.parse::<std::net::IpAddr>().expect("an address")))
}

/// The well-known form of the file, with the comment that people leave on top.
fn services_file(servers: &[HealthServer]) -> String {
    let services: Vec<Value> = servers.iter().enumerate().map(|(number, server)| service(number + 1, server)).collect();
    format!("//sample-service.json\n{}", json!({ "services": services }))
}

fn service(number: usize, server: &HealthServer) -> Value {
    json!({
        "ID": format!("sample-service-{number}"), "Name": "sample-service",
        "Address": server.address.ip(), "Port": server.address.port(), "Tags": [if number == 1 { "primary" } else { "replica" }],
        "Check": {
            "DeregisterCriticalServiceAfter": "3s", "HTTP": format!("http://{}/health", server.address),
            "Interval": "1s", "Timeout": "1s"
        }
    })
}

fn answered(rollcall: &Rollcall, wanted: &[&str], limit: Duration) -> Duration {
    let what = format!("{NAME} is {wanted:?}");
    within(limit, &what, || {
        let got = rollcall.ask(NAME, "A").sorted();
        if got == wanted { Ok(()) } else { Err(format!("{got:?}")) }
    })
    .1
}

#[test]
fn register_ask_kill_and_come_back() {
    let directory = directory();
    let mut servers = health_servers();
    let rollcall = Launch::serve(directory.path()).start();
    let file = directory.path().join("sample-service.json");
    fs::write(&file, services_file(&servers)).expect("the file can be written");

    let said = rollcall.cli(["services", "register", "sample-service.json"]).ok();
    assert_eq!(said.matches("Registered service: sample-service").count(), 3, "{said}");
    answered(&rollcall, &ADDRESSES, slack(INTERVAL + TIMEOUT));

    // Real dig and nslookup, over UDP and TCP.
    for transport in ["+notcp", "+tcp"] {
        let short = dig(rollcall.dns, &format!("{NAME} A +short {transport}"));
        assert_eq!(sorted_lines(&short), ADDRESSES, "dig {transport}");
        let whole = dig(rollcall.dns, &format!("{NAME} SRV {transport}"));
        for part in ["status: NOERROR", "ANSWER: 3", ";; ADDITIONAL SECTION:"] {
            assert!(whole.contains(part), "{part} in {whole}");
        }
        for server in &servers {
            let (port, ip) = (server.address.port(), server.address.ip());
            let srv = whole.lines().any(|line| line.contains("\tSRV\t") && line.contains(&format!(" {port} ")));
            let address = whole.lines().any(|line| line.ends_with(&format!("\tA\t{ip}")));
            assert!(srv && address, "port {port} and address {ip} in {whole}");
        }
    }
    for transport in ["-novc", "-vc"] {
        let said = nslookup(rollcall.dns, &format!("{transport} {NAME}"));
        for address in ADDRESSES {
            assert!(said.contains(address), "nslookup {transport}: {said}");
        }
    }
    let empty = dig(rollcall.dns, "absent.service.consul A");
    assert!(empty.contains("status: NXDOMAIN") && empty.contains("\tSOA\t"), "{empty}");

    commands_show_it(&rollcall);
    http_shows_it(&rollcall);

    // One server dies: out of DNS within a check, out of the registry after the time it asked for.
    servers[1].kill();
    let died = Instant::now();
    answered(&rollcall, &["127.0.1.101", "127.0.1.103"], slack(INTERVAL + TIMEOUT));
    let critical = rollcall.http.json("/v1/health/checks/sample-service");
    let critical: Vec<&Value> =
        critical.as_array().expect("a list").iter().filter(|check| check["Status"] == "critical").collect();
    assert!(critical.len() <= 1, "{critical:?}");
    within(slack(INTERVAL + TIMEOUT + DEREGISTER), "sample-service-2 is deregistered", || {
        let services = rollcall.http.json("/v1/agent/services");
        if services.get("sample-service-2").is_none() { Ok(()) } else { Err(services.to_string()) }
    });
    assert!(
        died.elapsed() >= DEREGISTER,
        "deregistered {:?} after its end, although it asked for {DEREGISTER:?}",
        died.elapsed()
    );
    assert_eq!(rollcall.http.json("/v1/agent/services").as_object().map(|services| services.len()), Some(2));

    // It comes back, registers, and is answered.
    servers[1].revive();
    rollcall.http.accepts("/v1/agent/service/register", &service(2, &servers[1]));
    answered(&rollcall, &ADDRESSES, slack(INTERVAL + TIMEOUT));

    let said = rollcall.cli(["services", "deregister", "sample-service.json"]).ok();
    assert_eq!(said.matches("Deregistered service: ").count(), 3, "{said}");
    within(slack(INTERVAL), "no instance is left", || {
        let reply = rollcall.ask(NAME, "A");
        if reply.answers().is_empty() { Ok(()) } else { Err(format!("{reply:?}")) }
    });
}

fn commands_show_it(rollcall: &Rollcall) {
    let services = rollcall.cli(["catalog", "services"]).ok();
    assert!(services.lines().any(|line| line == "sample-service"), "{services}");
    let tags = rollcall.cli(["catalog", "services", "-tags"]).ok();
    assert!(tags.lines().any(|line| line.starts_with("sample-service ") && line.ends_with("primary,replica")), "{tags}");
    let nodes = rollcall.cli(["catalog", "nodes"]).ok();
    let header: Vec<&str> = nodes.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["Node", "ID", "Address", "DC"], "{nodes}");
    assert_eq!(nodes.lines().count(), 2, "one node: {nodes}");
    assert_eq!(rollcall.cli(["catalog", "datacenters"]).ok().trim(), "dc1");
    let members = rollcall.cli(["members"]).ok();
    let mut lines = members.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["Node", "Address", "Status", "Type", "Build", "Protocol", "DC", "Partition", "Segment"], "{members}");
    assert!(lines.next().is_some_and(|line| line.contains(" alive ") && line.contains(" server ")), "{members}");
    for command in ["services", "nodes", "datacenters"] {
        let text = rollcall.cli(["catalog", command, "--json"]).ok();
        let json: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("catalog {command} --json: {error} in {text}"));
        assert!(json.is_array() || json.is_object(), "{json}");
    }
}

fn http_shows_it(rollcall: &Rollcall) {
    let curl = |path: &str| -> Value {
        let address = format!("http://{}{path}", rollcall.http.address);
        let text = run(Command::new("curl").args(["--silent", "--show-error", "--fail", "--noproxy", "*", &address])).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{address}: {error} in {text}"))
    };
    assert_eq!(curl("/v1/catalog/services")["sample-service"], json!(["primary", "replica"]));
    let ids = |path: &str| -> BTreeSet<String> {
        let list = curl(path);
        let list = list.as_array().unwrap_or_else(|| panic!("{path}: a list, not {list}"));
        list.iter().map(|service| service["ServiceID"].as_str().expect("an ID").to_owned()).collect()
    };
    assert_eq!(ids("/v1/catalog/service/sample-service?tag=primary"), BTreeSet::from(["sample-service-1".to_owned()]));
    assert_eq!(ids("/v1/catalog/service/sample-service?tag=replica").len(), 2);
    assert_eq!(ids("/v1/catalog/service/sample-service").len(), 3);
    assert_eq!(ids("/v1/catalog/service/sample-service?tag=absent").len(), 0);
}

#[test]
fn each_instance_comes_first_sometimes() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    for address in ADDRESSES {
        rollcall.http.accepts(
            "/v1/agent/service/register",
            &json!({"ID": address, "Name": "sample-service", "Address": address, "Port": 80}),
        );
    }
    answered(&rollcall, &ADDRESSES, slack(INTERVAL));
    for (transport, ask) in [("UDP", dns::udp as fn(_, &str, &str) -> _), ("TCP", dns::tcp)] {
        let mut first = [0u32; 3];
        for _ in 0..300 {
            let reply = ask(rollcall.dns, NAME, "A").expect("an answer");
            assert_eq!(reply.sorted(), ADDRESSES, "{transport}");
            let position = ADDRESSES.iter().position(|address| reply.answers()[0] == *address);
            first[position.expect("one of the three")] += 1;
        }
        // 100 each on average; a fair shuffle falls below 55 or above 145 less than once in ten million runs.
        assert!(first.iter().all(|count| (55..=145).contains(count)), "{transport}: first place went {first:?}");
    }
}

#[test]
fn heartbeats_keep_a_service_and_their_end_takes_it_away() {
    const TTL: Duration = Duration::from_secs(2);
    const DEREGISTER: Duration = Duration::from_secs(2);
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    let present = || rollcall.ask("beating.service.consul", "A").answers() == ["192.0.2.7"];
    let beat = || rollcall.http.accepts("/v1/agent/check/pass/service:beating-1", &Value::Null);
    rollcall.http.accepts(
        "/v1/agent/service/register",
        &json!({"ID": "beating-1", "Name": "beating", "Address": "192.0.2.7", "Port": 80, "Check": {"TTL": "2s", "DeregisterCriticalServiceAfter": "2s"}}),
    );
    assert!(!present(), "before the first heartbeat a TTL check is critical");

    // As long as heartbeats come it stays, for longer than two heartbeats' lives.
    let start = Instant::now();
    let mut last = Instant::now();
    beat();
    within(slack(TTL), "the service in DNS", || if present() { Ok(()) } else { Err("absent".into()) });
    within(slack(TTL), "three lives of a heartbeat", || {
        if last.elapsed() > TTL / 4 {
            let asked = Instant::now();
            beat();
            last = asked;
        }
        // Only what the last heartbeat promised is held against it: a machine that stalls may be late with the next.
        let absent = !present();
        assert!(!absent || last.elapsed() >= TTL, "gone {:?} after a heartbeat", last.elapsed());
        if start.elapsed() > 3 * TTL { Ok(()) } else { Err(format!("{:?}", start.elapsed())) }
    });

    // Without them it goes after the TTL, not earlier, and is deregistered after the time it asked for, not earlier.
    let asked = Instant::now();
    beat();
    within(slack(TTL), "the service gone from DNS", || if present() { Err("present".into()) } else { Ok(()) });
    assert!(asked.elapsed() >= TTL, "gone {:?} after the last heartbeat", asked.elapsed());
    within(slack(TTL + DEREGISTER), "the service deregistered", || {
        let services = rollcall.http.json("/v1/agent/services");
        if services.get("beating-1").is_none() { Ok(()) } else { Err(services.to_string()) }
    });
    assert!(asked.elapsed() >= TTL + DEREGISTER, "deregistered {:?} after the last heartbeat", asked.elapsed());

    // A heartbeat for what is no longer there is an error that names it.
    let late = rollcall.http.put("/v1/agent/check/pass/service:beating-1", "");
    assert_eq!(late.status, 404, "{late:?}");
    assert!(late.body.contains("service:beating-1"), "{late:?}");
}

#[test]
fn a_file_of_services_is_loaded_at_start_and_its_folder_watched() {
    let directory = directory();
    let servers = health_servers();
    let folder = directory.path().join("services.d");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("sample.json"), services_file(&servers)).expect("the file can be written");
    let rollcall = Launch::serve(directory.path()).option("--services", &folder).start();
    answered(&rollcall, &ADDRESSES, slack(INTERVAL + TIMEOUT));
    assert!(servers.iter().all(|server| server.asked.load(Ordering::SeqCst) > 0), "every server was asked for its health");

    fs::write(folder.join("more.json"), r#"{"service": {"name": "more", "address": "192.0.2.9", "port": 1}}"#)
        .expect("written");
    says(slack(INTERVAL), &["192.0.2.9"], || format!("{:?}", rollcall.ask("more.service.consul", "A").answers()));
    fs::remove_file(folder.join("more.json")).expect("removed");
    within(slack(INTERVAL), "more is gone with its file", || {
        let got = rollcall.ask("more.service.consul", "A").answers();
        if got.is_empty() { Ok(()) } else { Err(format!("{got:?}")) }
    });
    assert_eq!(rollcall.ask(NAME, "A").sorted(), ADDRESSES, "its neighbours stay");
}
