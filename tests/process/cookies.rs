//! Cookies that clients get (RFC 7873, RFC 9018), as dig and kdig ask for them.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, run};
use crate::support::upstream::Witness;

/// The cookie in what dig says, and whether it knows its own part again.
fn cookie(said: &str) -> (String, bool) {
    let line = said.lines().find(|line| line.contains("COOKIE: ")).unwrap_or_else(|| panic!("a cookie in {said}"));
    (line.split_whitespace().nth(2).expect("it stands there").to_owned(), line.ends_with("(good)"))
}

fn register(rollcall: &Rollcall) {
    rollcall.http.accepts("/v1/agent/service/register", &json!({"ID": "w", "Name": "web", "Address": "192.0.2.3", "Port": 80}));
}

#[test]
fn rfc7873_5_2_3_every_answer_has_the_cookie_that_is_due() {
    let (directory, witness) = (directory(), Witness::start());
    let config = "[[record]]\nname = \"printer.corp.example\"\ntype = \"A\"\nvalue = \"192.0.2.9\"\n";
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    let launch = Launch::serve(directory.path()).option("--config", "rollcall.toml").option("--workers", "1");
    let rollcall = launch.option("--upstream", witness.address.to_string()).start();
    register(&rollcall);
    let mut known = String::new();
    for how in ["", "+tcp", "+nsid", "+bufsize=512"] {
        // The second time from the cache, the third from what the worker has near.
        for turn in 0..3 {
            for (name, part) in [
                ("web.service.consul A", "192.0.2.3"),
                ("absent.service.consul A", "NXDOMAIN"),
                ("printer.corp.example A", "192.0.2.9"),
                ("www.example.net A", Witness::ANSWER),
            ] {
                let said = dig(rollcall.dns, &format!("{how} {name}"));
                let (given, is_good) = cookie(&said);
                assert!(said.contains(part) && is_good && given.len() == 48, "{turn} {how} {name}: {said}");
                known = given;
            }
        }
    }
    // Who brings it back gets it again as long as it is young, and another client does not.
    assert_eq!(cookie(&dig(rollcall.dns, &format!("+cookie={known} web.service.consul"))).0, known);
    assert_ne!(cookie(&dig(rollcall.dns, &format!("-b 127.0.0.9 +cookie={known} web.service.consul"))).0, known);
    assert_eq!(witness.asked(), ["www.example.net. a"], "one answer for who has a cookie and who has none");
    assert!(!dig(rollcall.dns, "+nocookie www.example.net").contains("COOKIE"));

    let kdig = |options: &str| {
        let (address, port) = (rollcall.dns.ip().to_string(), rollcall.dns.port().to_string());
        let mut command = Command::new("kdig");
        run(command.args([&format!("@{address}"), "-p", &port]).args(options.split(' ')))
    };
    let said = kdig("+cookie=2464c4abcf10c957 web.service.consul").ok();
    assert!(said.contains("COOKIE: 2464C4ABCF10C957") && said.contains("192.0.2.3"), "{said}");
    let alone = dig(rollcall.dns, "+header-only +cookie=2464c4abcf10c957");
    assert!(alone.contains("status: NOERROR") && cookie(&alone).1, "RFC 7873, 5.4: {alone}");
}

#[test]
fn rfc9018_5_servers_of_one_secret_know_each_others_cookies() {
    let secret = "[dns]\ncookie_secret = \"e5e973e5a6b2a43f48e7dc849e37bfcf\"\n";
    let servers = [secret, secret, ""].map(|config| {
        let directory = directory();
        fs::write(directory.path().join("rollcall.toml"), config).expect("written");
        let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
        register(&rollcall);
        (rollcall, directory)
    });
    let given = cookie(&dig(servers[0].0.dns, "web.service.consul")).0;
    let again = |number: usize| cookie(&dig(servers[number].0.dns, &format!("+cookie={given} web.service.consul"))).0;
    assert_eq!(again(1), given);
    assert_ne!(again(2), given);
    servers[1].0.signal("HUP");
    assert_eq!(again(1), given, "nor is it forgotten at a reload");
}

#[test]
fn rfc7873_5_2_4_who_brings_a_good_cookie_is_not_held_up_by_who_forges_its_address() {
    let directory = directory();
    fs::write(directory.path().join("rollcall.toml"), "[clients]\nrate = 1\nburst = 10\n").expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    register(&rollcall);
    let given = cookie(&dig(rollcall.dns, "web.service.consul")).0;
    let ask = |words: &str| dig(rollcall.dns, &format!("+ignore {words} web.service.consul"));
    let forged = |said: &String| said.contains("flags: qr aa tc") || said.contains(" tc ");
    assert!((0..40).map(|_| ask("+nocookie")).any(|said| forged(&said)), "all that the address may ask is used up");
    let said = ask(&format!("+cookie={given}"));
    assert!(!forged(&said) && said.contains("192.0.2.3"), "{said}");
}
