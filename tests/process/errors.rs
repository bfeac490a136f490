//! Bad input: the message says what was expected, what came, where and what to do; neighbours load; the last good state stays.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::within;
use crate::support::{dns, free_port};

/// The shape of a message about bad input, with the place it is about.
fn tells(text: &str, place: &[&str]) {
    for part in ["expected", "got", "hint"].iter().chain(place) {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

fn present(rollcall: &Rollcall, name: &str) -> bool {
    !rollcall.ask(&format!("{name}.service.consul"), "A").answers().is_empty()
}

const GOOD: &str = r#"{"service": {"name": "good", "address": "192.0.2.4", "port": 80}}"#;

#[test]
fn a_bad_services_file_is_told_and_its_neighbours_load() {
    let directory = directory();
    let folder = directory.path().join("services.d");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("good.json"), GOOD).expect("written");
    fs::write(folder.join("bad-json.json"), "{\n  \"services\": [\n    {\"name\": \"cut\"\n").expect("written");
    // One entry of three is wrong: a port that is no number.
    fs::write(
        folder.join("bad-entry.json"),
        "{\"services\": [\n{\"name\": \"left\", \"address\": \"192.0.2.5\", \"port\": 1},\n{\"name\": \"middle\", \"port\": \"eighty\"},\n\
         {\"name\": \"right\", \"address\": \"192.0.2.6\", \"port\": 2}\n]}\n",
    )
    .expect("written");

    let checked = Launch::bare(directory.path()).with("check").option("--services", &folder).run().failed();
    tells(&checked, &["bad-json.json", "bad-entry.json", "middle", "eighty"]);
    assert!(!checked.contains("good.json: "), "nothing is wrong with good.json:\n{checked}");

    let rollcall = Launch::serve(directory.path()).option("--services", &folder).start();
    for name in ["good", "left", "right"] {
        within(Duration::from_secs(10), &format!("{name} is answered"), || {
            if present(&rollcall, name) { Ok(()) } else { Err("absent".into()) }
        });
    }
    assert!(!present(&rollcall, "middle") && !present(&rollcall, "cut"));
    tells(&rollcall.stderr(), &["bad-json.json", "bad-entry.json", "middle", "eighty"]);

    // A good file that turns bad keeps its last good state.
    fs::write(folder.join("good.json"), "{\"service\": {\"name\": \"good\", \"port\": ").expect("written");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the message about good.json", || {
        let said = rollcall.stderr();
        if said.contains("good.json") { Ok(()) } else { Err(said) }
    });
    assert!(present(&rollcall, "good"), "the last good state stays");
}

#[test]
fn a_bad_configuration_ends_before_a_port_is_bound() {
    let directory = directory();
    let port = free_port();
    for (text, place) in [
        ("[dns]\nlisten = [\"127.0.0.1:53\"\n", "bad.toml"),
        ("[dns]\nlistn = [\"127.0.0.1:53\"]\n", "listn"),
        ("[dns]\nlisten = [\"not an address\"]\n", "not an address"),
        ("[forward]\nupstreams = [\"gopher://192.0.2.1\"]\n", "gopher"),
        ("[forward]\ntimeout = \"1ns\"\n", "expected 100ms to 60s"),
        ("[forward]\ntimeout = \"2562047h\"\n", "expected 100ms to 60s"),
        ("[dns]\nworkers = 0\n", "expected 1 to 1024"),
        ("[log]\nlevel = \"verbose\"\n", "expected one of error, warn, info"),
        ("[dns]\nworkers = 1000000\n", "expected 1 to 1024"),
    ] {
        fs::write(directory.path().join("bad.toml"), text).expect("written");
        let address = format!("127.0.0.1:{port}");
        let serve = Launch::serve_on(directory.path(), &address, "127.0.0.1:0").option("--config", "bad.toml").run();
        assert_eq!(serve.status, 2, "{serve:?}");
        tells(&serve.failed(), &["bad.toml", place]);
        let checked = Launch::bare(directory.path()).with("check").option("--config", "bad.toml").run().failed();
        tells(&checked, &["bad.toml", place]);
    }
    let itself = "[dns]\nlisten = [\"0.0.0.0:5300\"]\n[forward]\nupstreams = [\"127.0.0.1:5300\", \"192.0.2.1\"]\n";
    fs::write(directory.path().join("itself.toml"), itself).expect("written");
    let told = Launch::bare(directory.path()).with("check").option("--config", "itself.toml").run().failed();
    assert_eq!(told.matches("upstream 127.0.0.1:5300 is this server itself").count(), 1, "{told}");
    fs::write(directory.path().join("good.toml"), "[dns]\ndomain = \"consul\"\n").expect("written");
    Launch::bare(directory.path()).with("check").option("--config", "good.toml").run().ok();
}

#[test]
fn a_fifo_is_told_where_a_file_is_expected() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    assert!(Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo").success());
    for (text, reads) in [
        ("[dns.encrypted]\ntls = [\"127.0.0.1:0\"]\ncertificate = \"fifo\"\nkey = \"fifo\"\n", "certificate"),
        ("[forward]\nupstreams = [{ url = \"tls://127.0.0.1:9\", ca = \"fifo\" }]\n", "certificates"),
        ("hosts = [\"fifo\"]\n", "cannot read"),
        ("[registry]\nservices = \"fifo\"\n", "readable"),
        ("[registry]\nservices = \"/dev/zero\"\n", "readable"),
    ] {
        fs::write(path("odd.toml"), text).expect("written");
        let told = Launch::bare(directory.path()).with("check").option("--config", "odd.toml").run().failed();
        assert!(told.contains("no regular file") && told.contains(reads), "{text}: {told}");
    }
    let told = Launch::bare(directory.path()).with("check").option("--config", "fifo").run().failed();
    assert!(told.contains("fifo: cannot read the configuration: no regular file"), "{told}");

    // One that comes to be there at run time changes nothing, and signals are heard.
    fs::write(path("hosts"), "192.0.2.7 first.example\n").expect("written");
    fs::write(path("good.toml"), "hosts = [\"hosts\"]\n[forward]\nupstreams = []\n").expect("written");
    let mut rollcall = Launch::serve(directory.path()).option("--config", "good.toml").start();
    fs::remove_file(path("good.toml")).expect("removed");
    fs::rename(path("fifo"), path("good.toml")).expect("moved");
    rollcall.signal("HUP");
    within(Duration::from_secs(10), "the refusal of a fifo", || {
        let said = rollcall.stderr();
        if said.contains("no regular file") { Ok(()) } else { Err(said) }
    });
    assert_eq!(rollcall.ask("first.example", "A").answers(), ["192.0.2.7"]);
    rollcall.signal("TERM");
    assert_eq!(rollcall.ended().code(), Some(0));
}

#[test]
fn a_bad_json_body_is_refused_and_changes_nothing() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    let good =
        json!({"ID": "good", "Name": "good", "Address": "192.0.2.4", "Port": 80, "Check": {"TTL": "1h", "Status": "passing"}});
    rollcall.http.accepts("/v1/agent/service/register", &good);
    let before = rollcall.http.json("/v1/agent/services");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"good\"",
        "{\"Name\": \"good\", \"Port\": \"eighty\"}",
        "{\"Name\": 5}",
        "{\"Address\": \"192.0.2.9\"}",
        "{\"Name\": \"good\", \"Check\": {\"TTL\": \"soon\"}}",
        "{\"Name\": \"good\", \"ID\": \"good\", \"Check\": {\"HTTP\": \"http://192.0.2.1/\"}}",
        "{\"Name\": \"good\", \"Port\": 1e99}",
        "\u{fffd}\u{0}",
    ] {
        let response = rollcall.http.put("/v1/agent/service/register", body);
        assert!((400..500).contains(&response.status), "{body:?}: {response:?}");
        assert!(!response.body.trim().is_empty(), "{body:?}: the answer says why");
    }
    let deep = "[".repeat(100_000);
    let response = rollcall.http.put("/v1/agent/service/register", &deep);
    assert!((400..500).contains(&response.status), "deep nesting: {}", response.status);
    assert_eq!(rollcall.http.json("/v1/agent/services"), before);
    assert!(present(&rollcall, "good"));
}

#[test]
fn a_bad_zone_file_is_told_and_its_neighbours_load() {
    let directory = directory();
    let zones = directory.path().join("zones");
    fs::create_dir(&zones).expect("a folder");
    let head = "$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n";
    fs::write(
        zones.join("good.example.zone"),
        format!("$ORIGIN good.example.\n{head}www A 192.0.2.20\n*.w A 192.0.2.21\nalias CNAME www\n"),
    )
    .expect("written");
    fs::write(zones.join("bad.example.zone"), format!("$ORIGIN bad.example.\n{head}www A 192.0.2.300\n")).expect("written");
    fs::write(directory.path().join("rollcall.toml"), "[zones]\nfolder = \"zones\"\n").expect("written");

    let checked = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run().failed();
    tells(&checked, &["bad.example.zone", "192.0.2.300"]);

    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    assert_eq!(rollcall.ask("www.good.example", "A").answers(), ["192.0.2.20"]);
    assert_eq!(rollcall.ask("any.w.good.example", "A").answers(), ["192.0.2.21"]);
    assert_eq!(rollcall.ask("alias.good.example", "A").answers(), ["www.good.example.", "192.0.2.20"]);
    tells(&rollcall.stderr(), &["bad.example.zone", "192.0.2.300"]);
}

#[test]
fn a_port_in_use_is_told_with_its_holder() {
    let directory = directory();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let me = std::process::id().to_string();

    let udp = UdpSocket::bind(&address).expect("a free port");
    let said = Launch::serve_on(directory.path(), &address, "127.0.0.1:0").run().failed();
    tells(&said, &[&address, &me]);
    drop(udp);

    let tcp = TcpListener::bind(&address).expect("a free port");
    let said = Launch::serve_on(directory.path(), &address, "127.0.0.1:0").run().failed();
    tells(&said, &[&address, &me]);
    let said = Launch::serve_on(directory.path(), "127.0.0.1:0", &address).run().failed();
    tells(&said, &[&address, &me]);
    drop(tcp);

    // Our own: no process has to be looked for.
    let everywhere = format!("0.0.0.0:{port}");
    for dns in [&address, &everywhere] {
        let said = Launch::serve_on(directory.path(), dns, &address).run().failed();
        tells(&said, &["an address of its own for dns", dns, "the HTTP API"]);
    }
    // And where one has the other, in the same way, it is told.
    for (one, other) in [(&everywhere, &address), (&address, &everywhere), (&address, &address)] {
        let rollcall = Launch::serve_on(directory.path(), one, "127.0.0.1:0").option("--dns", other).start();
        tells(&rollcall.stderr(), &["each address to listen on once", &format!("got {one} and {other} (dns)")]);
        let reply = dns::udp(address.parse().expect("an address"), "consul", "SOA").expect("an answer");
        assert_eq!(reply.rcode(), ResponseCode::NoError);
    }

    // Two of us: the second names the first.
    let first = Launch::serve_on(directory.path(), &address, "127.0.0.1:0").start();
    let other = crate::support::rollcall::directory();
    let said = Launch::serve_on(other.path(), &address, "127.0.0.1:0").run().failed();
    tells(&said, &[&address, &first.pid().to_string()]);
    // And two on one data directory: neither harms the other's store.
    let said = Launch::serve(directory.path()).option("--workers", "1").run().failed();
    assert!(said.contains("data") && said.contains("hint"), "{said}");
}
