//! `rollcall explain`: who answers a name and why, as the running server has it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::{Silent, Witness};
use crate::support::within;

fn explain<const N: usize>(rollcall: &Rollcall, words: [&str; N]) -> Value {
    let mut query = String::new();
    for word in &words[1..] {
        query.push_str(&format!("&{word}"));
    }
    rollcall.http.json(&format!("/v1/rollcall/explain/{}?{query}", words[0]))
}

#[test]
fn each_instance_is_in_or_out_for_a_reason() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--node", "here").start();
    for (id, status, tags) in
        [("well", "passing", json!(["blue"])), ("ill", "critical", json!([])), ("resting", "passing", json!([]))]
    {
        rollcall.http.accepts(
            "/v1/agent/service/register",
            &json!({"ID": id, "Name": "web", "Address": "192.0.2.3", "Port": 80, "Tags": tags,
                "Check": {"CheckID": format!("beat-{id}"), "TTL": "1h", "Status": status}}),
        );
    }
    rollcall.http.accepts("/v1/agent/service/maintenance/resting?enable=true&reason=new+disks", &Value::Null);
    let far = json!({"Node": "far", "Address": "192.0.2.9", "Datacenter": "dc1", "Service": {"Service": "web", "ID": "far", "Port": 80},
        "Check": {"CheckID": "disk", "Name": "disk", "Status": "critical", "Output": "full"}});
    rollcall.http.accepts("/v1/catalog/register", &far);

    let told = explain(&rollcall, ["web.service.consul", "type=SRV"]);
    assert_eq!((told["source"].as_str(), told["rcode"].as_str()), (Some("discovery"), Some("NOERROR")), "{told}");
    assert_eq!(told["asks_for"], "the service web");
    let instances = told["instances"].as_array().expect("a list");
    let of = |id: &str| instances.iter().find(|instance| instance["id"] == id).unwrap_or_else(|| panic!("{id} in {told}"));
    assert_eq!((of("well")["given"].as_bool(), of("well")["because"].as_array().map(Vec::len)), (Some(true), Some(0)));
    for (id, why) in [
        ("ill", "its check beat-ill is critical"),
        ("resting", "it is in maintenance: new disks"),
        ("far", "its node's check disk is critical: full"),
    ] {
        assert_eq!((of(id)["given"].as_bool(), of(id)["because"][0].as_str()), (Some(false), Some(why)), "{told}");
    }
    assert_eq!(of("far")["address"], "192.0.2.9", "its node's");
    // It tells what the answer says.
    assert_eq!(rollcall.ask("web.service.consul", "SRV").answers().len(), 1);
    let tagged = explain(&rollcall, ["blue.web.service.consul"]);
    let untagged = &tagged["instances"].as_array().expect("a list")[0];
    assert_eq!(
        (tagged["asks_for"].as_str(), untagged["given"].as_bool()),
        (Some("the service web with the tag blue"), Some(false))
    );
    let shown = rollcall.cli(["explain", "web.service.consul"]).ok();
    assert!(
        shown.lines().any(|line| line.contains("resting") && line.ends_with("out  it is in maintenance: new disks")),
        "{shown}"
    );
    let absent = explain(&rollcall, ["absent.service.consul"]);
    assert_eq!(
        (absent["rcode"].as_str(), absent["instances"].as_array().map(Vec::len)),
        (Some("NXDOMAIN"), Some(0)),
        "{absent}"
    );
}

#[test]
fn a_forwarded_name_has_its_route_its_kept_answer_and_its_upstreams() {
    let directory = directory();
    let (witness, silent) = (Witness::start(), Silent::start());
    let config = directory.path().join("rollcall.toml");
    fs::create_dir(directory.path().join("zones")).expect("a folder");
    let zone = "$ORIGIN zone.example.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n";
    fs::write(directory.path().join("zones/zone.example.zone"), zone).expect("written");
    let text = format!(
        "[forward]\nupstreams = [\"{}\"]\n[[forward.route]]\ndomains = [\"corp.example\"]\nupstreams = [\"{}\"]\n\
         [[forward.route]]\ndomains = [\"apps.example\"]\naddresses = [\"192.0.2.9\"]\nupstreams = []\n\
         [[record]]\nname = \"printer.home.example\"\ntype = \"A\"\nvalue = \"192.0.2.7\"\n[zones]\nfolder = \"zones\"\n",
        witness.address, silent.address
    );
    fs::write(&config, text).expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", &config).start();
    for (name, source) in [
        ("printer.home.example", "local"),
        ("localhost", "local"),
        ("a.onion", "local"),
        ("www.apps.example", "local"),
        ("ns.zone.example", "zone"),
        ("www.consul", "discovery"),
        ("www.example.net", "forwarded"),
    ] {
        let told = explain(&rollcall, [name]);
        assert_eq!(told["source"], source, "{told}");
    }
    let because = explain(&rollcall, ["www.apps.example"])["because"].to_string();
    assert!(because.contains("[[forward.route]]"), "{because}");
    let fresh = explain(&rollcall, ["www.example.net"]);
    assert_eq!(
        (fresh["kept"].as_array().map(Vec::len), fresh["route"]["group"].as_str()),
        (Some(0), Some("default")),
        "{fresh}"
    );
    assert_eq!(witness.asked(), Vec::<String>::new(), "to explain is not to ask");
    rollcall.ask("www.example.net", "A");
    let kept = explain(&rollcall, ["www.example.net"]);
    assert_eq!(kept["kept"][0]["fresh"], true, "{kept}");
    assert_eq!(kept["route"]["upstreams"][0]["answered"], 1, "{kept}");

    let tried = explain(&rollcall, ["www.example.net", "ask"]);
    assert_eq!(tried["tries"][0]["upstream"], witness.address.to_string(), "{tried}");
    assert_eq!(tried["tries"][0]["outcome"], "NOERROR, 1 record");
    let routed = explain(&rollcall, ["www.corp.example", "ask"]);
    assert_eq!(routed["route"]["domains"], json!(["corp.example."]));
    assert_eq!(routed["tries"][0]["outcome"], "silent for 2 s", "{routed}");
    let shown = rollcall.cli(["explain", "www.example.net", "--ask"]).ok();
    for part in ["answered by  the cache", "route        default", "Asked now", "NOERROR, 1 record"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let wrong = rollcall.cli(["explain", "www.example.net", "NONSENSE"]).failed();
    assert!(wrong.contains("expected a record type"), "{wrong}");
}

#[test]
fn a_query_shows_which_upstreams_were_tried_for_it() {
    let (directory, silent, witness) = (directory(), Silent::start(), Witness::start());
    let config = format!(
        "[log]\nqueries = \"log.json\"\nformat = \"json\"\n[forward]\nupstreams = [\"{}\", \"{}\"]\nstrategy = \"strict\"\n",
        silent.address, witness.address
    );
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    let server = format!("@{}", rollcall.dns);
    let ask = |name: &str| Launch::bare(directory.path()).with("query").with(name).with(&server);
    let query = |name: &str| -> Value { serde_json::from_str(&ask(name).with("--json").run().stdout).expect("JSON") };
    let trace = &query("www.example.net")["trace"];
    assert_eq!((&trace["source"], &trace["route"], &trace["view"]), (&json!("forwarded"), &json!("default"), &Value::Null));
    let tries: Vec<_> = trace["tries"].as_array().expect("a list").iter().collect();
    let upstreams = [silent.address, witness.address].map(|address| json!(address.to_string()));
    assert_eq!([&tries[0]["upstream"], &tries[1]["upstream"]], upstreams.each_ref());
    assert_eq!([&tries[0]["outcome"], &tries[1]["outcome"]], [&json!("silent"), &json!("NOERROR")], "{trace}");
    assert!(
        tries[1]["after_ms"].as_f64() > Some(0.0) && tries[0]["took_ms"].as_f64() > tries[1]["took_ms"].as_f64(),
        "{trace}"
    );
    let kept = &query("www.example.net")["trace"];
    assert_eq!((&kept["source"], kept["tries"].as_array().map(Vec::len)), (&json!("cache"), Some(0)));
    assert_eq!(query("absent.service.consul")["trace"]["source"], "discovery");
    let shown = ask("other.example.net").run().ok();
    assert!(shown.contains("answered by an upstream") && shown.contains("Asked after"), "{shown}");
    // What is asked upstream bears nothing of it, and the log says whose answer it was.
    assert!(witness.asked().len() >= 2);
    let (log, _) = within(Duration::from_secs(10), "the log", || {
        let log = fs::read_to_string(directory.path().join("log.json")).unwrap_or_default();
        let line = log.lines().find(|line| line.contains("other.example.net")).map(str::to_owned);
        line.ok_or(log)
    });
    let line: Value = serde_json::from_str(&log).expect("JSON");
    assert_eq!(line["upstream"], json!(witness.address.to_string()), "{line}");
}

#[test]
fn status_shows_what_there_is_and_says_no_when_nobody_answers() {
    let directory = directory();
    let (witness, silent) = (Witness::start(), Silent::start());
    let config = format!(
        "[forward]\nupstreams = [\"{}\"]\ntimeout = \"300ms\"\n\
         [[forward.route]]\ndomains = [\"corp.example\"]\nupstreams = [\"{}\"]\n\
         [[block]]\nlists = [\"ads.txt\"]\n",
        witness.address, silent.address
    );
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    fs::write(directory.path().join("ads.txt"), "ads.example\ntrack.example\n").expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    assert_eq!(rollcall.ask("www.example.net", "A").answers(), [Witness::ANSWER]);
    let status = rollcall.cli(["status", "--json"]);
    let shown: Value = serde_json::from_str(&status.ok()).expect("JSON");
    assert_eq!((&shown["registry"]["services"], &shown["registry"]["instances"]["passing"]), (&json!(1), &json!(1)), "{shown}");
    let listener = json!({ "address": rollcall.dns.to_string(), "transport": "udp" });
    assert!(shown["listeners"].as_array().expect("a list").contains(&listener), "{shown}");
    assert_eq!((&shown["block_lists"][0]["names"], &shown["cache"]["entries"]), (&json!(2), &json!(1)), "{shown}");
    let groups: Vec<_> = shown["groups"].as_array().expect("a list").iter().map(|group| &group["group"]).collect();
    assert_eq!(groups, ["default", "corp.example."]);
    assert_eq!(shown["groups"][0]["upstreams"][0]["upstream"], witness.address.to_string());
    within(Duration::from_secs(20), "the silent one is asked last", || {
        rollcall.ask(&format!("n{}.corp.example", fastrand::u32(..)), "A");
        let status = rollcall.cli(["status"]);
        let line = status.stdout.lines().find(|line| line.starts_with("corp.example.")).unwrap_or_default();
        let has_failed = line.contains("failing: asked last") && status.status == 1;
        if has_failed && status.stdout.contains("2 names of ") { Ok(()) } else { Err(format!("{status:?}")) }
    });
}
