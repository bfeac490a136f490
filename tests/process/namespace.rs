//! The sample as it stands in manuals: 192.168.1.101 to 103 on port 80, rollcall on port 53 of the host's only resolver
//! address, no flag given to any client. That needs a network of its own, and root to make it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::health::HealthServer;
use crate::support::namespace::enter;
use crate::support::rollcall::{BINARY, Launch, directory};
use crate::support::tools::{run, says, sorted_lines};
use crate::support::{slack, within};

const SAMPLE: &str = r#"//sample-service.json
{"services":[
 {"ID":"sample-service-1","Name":"sample-service","Address":"192.168.1.101","Port":80,"Check":{"DeregisterCriticalServiceAfter":"20s","HTTP":"http://192.168.1.101/health","Interval":"5s"}},
 {"ID":"sample-service-2","Name":"sample-service","Address":"192.168.1.102","Port":80,"Check":{"DeregisterCriticalServiceAfter":"20s","HTTP":"http://192.168.1.102/health","Interval":"5s"}},
 {"ID":"sample-service-3","Name":"sample-service","Address":"192.168.1.103","Port":80,"Check":{"DeregisterCriticalServiceAfter":"20s","HTTP":"http://192.168.1.103/health","Interval":"5s"}}
]}
"#;

const ADDRESSES: [&str; 3] = ["192.168.1.101", "192.168.1.102", "192.168.1.103"];

#[test]
fn the_sample_as_written() {
    let script: String = ADDRESSES.iter().map(|address| format!("ip address add {address}/32 dev lo\n")).collect();
    if !enter("namespace::the_sample_as_written", &script) {
        return;
    }
    let directory = directory();
    let mut servers =
        ADDRESSES.map(|address| HealthServer::start_on(SocketAddr::new(address.parse().expect("an address"), 80)));
    let sample = directory.path().join("sample-service.json");
    fs::write(&sample, SAMPLE).expect("written");
    let rollcall = Launch::serve_on(directory.path(), "127.0.0.1:53", "127.0.0.1:8500").start();

    let mut register = Command::new(BINARY);
    register.env_remove("ROLLCALL_HTTP_ADDR").env_remove("CONSUL_HTTP_ADDR").args(["services", "register"]).arg(&sample);
    let said = run(&mut register).ok();
    assert_eq!(said.matches("Registered service: sample-service").count(), 3, "{said}");

    let short = || run(Command::new("dig").args(["+short", "sample-service.service.consul"])).ok();
    let interval = Duration::from_secs(5);
    within(slack(interval), "three healthy instances", || {
        let lines = sorted_lines(&short());
        if lines == ADDRESSES { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    let said = says(interval, &ADDRESSES, || run(Command::new("nslookup").arg("sample-service.service.consul")).ok());
    assert!(said.contains("127.0.0.1"), "{said}");
    let services = run(Command::new("curl").args(["-sS", "--noproxy", "*", "http://127.0.0.1:8500/v1/catalog/services"])).ok();
    assert!(services.contains("\"sample-service\":[]"), "{services}");
    // As a program of the machine asks, through its C library.
    let hosts = run(Command::new("getent").args(["ahostsv4", "sample-service.service.consul"])).ok();
    assert!(ADDRESSES.iter().all(|address| hosts.contains(address)), "{hosts}");

    servers[2].kill();
    let died = Instant::now();
    within(slack(interval), "the dead instance is gone from DNS", || {
        let lines = sorted_lines(&short());
        if lines == ADDRESSES[..2] { Ok(()) } else { Err(format!("{lines:?}")) }
    });
    within(slack(Duration::from_secs(25)), "it is deregistered", || {
        let services = rollcall.http.json("/v1/agent/services");
        if services.get("sample-service-3").is_none() { Ok(()) } else { Err(services.to_string()) }
    });
    assert!(died.elapsed() >= Duration::from_secs(20), "deregistered {:?} after its end; it asked for 20 s", died.elapsed());
}
