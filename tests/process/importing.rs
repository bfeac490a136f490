//! `rollcall import`: what another program's configuration became, beside that program.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::namespace::enter;
use crate::support::rollcall::{BINARY, Launch, directory};
use crate::support::tools::{dig, run};
use crate::support::upstream::{Oracle, Server};
use crate::support::{dns, project};

/// Where rollcall differs from dnsmasq on purpose: file, name and type asked, and why. The test fails for a difference
/// that does not stand here, and for one that stands here and is none any more.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    ("below-only", "only.example", "A", "a domain of a route has its own name in it"),
    ("bogus-nxdomain", "www.example", "AAAA", "each type is judged by its own answer, not by what is kept of another"),
    ("cache", "www.example", "A", "the first answer has the TTL that the next ones have"),
    ("ignore-address", "www.example", "A", "a client is told that nobody answered"),
    ("min-cache-ttl", "www.example", "A", "the first answer has the TTL that the next ones have"),
    ("records", "h.out.example", "AAAA", "what is local is never mixed with what others say of a name"),
    ("records", "c.loc.example", "A", "an alias is followed to its end"),
    ("special", "x.invalid", "A", "there is no such name (RFC 6761, 6.4)"),
    ("special", "x.onion", "A", "such a name is never told to DNS (RFC 7686, 2)"),
    ("reverse", "8.100.51.198.in-addr.arpa", "PTR", "laboratories use the documentation ranges"),
];

/// How long an answer is waited for that may not come at all; rollcall says so after 2.5 s.
const SILENCE: Duration = Duration::from_secs(4);

#[test]
fn the_imported_configuration_answers_as_dnsmasq_does() {
    let folder = project("tests/data/dnsmasq");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "conf"));
    files.sort();
    assert!(files.len() >= 20, "only {} configurations", files.len());
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for file in &files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        compare(&folder, &name, &mut seen, &mut found);
    }
    for (file, name, qtype, why) in DIFFERENCES {
        if !seen.contains(&(file.to_string(), name.to_string(), qtype.to_string())) {
            found.push(format!("{file}: {name} {qtype}: no difference any more ({why}); take it out of the list"));
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// Asks both the questions of one file.
fn compare(folder: &Path, file: &str, seen: &mut BTreeSet<(String, String, String)>, found: &mut Vec<String>) {
    let directory = directory();
    let (general, private) = (Oracle::start(1), Oracle::start(2));
    let services = directory.path().join("web.json");
    fs::write(&services, r#"{"service": {"name": "web", "address": "10.9.9.9", "port": 80}}"#).expect("written");
    let consul = (file == "replaced").then(|| {
        let own = directory.path().join("consul");
        fs::create_dir(&own).expect("a folder");
        Launch::serve(&own).with("--compat=consul").option("--services", &services).start()
    });
    let place = |address: SocketAddr| format!("{}#{}", address.ip(), address.port());
    let files = directory.path().join("files");
    let filled = |text: String| {
        text.replace("@GENERAL@", &place(general.address))
            .replace("@PRIVATE@", &place(private.address))
            .replace("@CONSUL@", &consul.as_ref().map_or_else(String::new, |consul| place(consul.dns)))
            .replace("@FILES@", &files.display().to_string())
    };
    copy(&folder.join("files"), &files, &filled);
    let config = directory.path().join("import.conf");
    fs::write(&config, filled(read(&folder.join(format!("{file}.conf"))))).expect("written");
    let dnsmasq = Server::dnsmasq(directory.path(), &config);

    let toml = directory.path().join("rollcall.toml");
    let imported = run(Command::new(BINARY).args(["import", "dnsmasq", "--json"]).arg(&config).arg("--output").arg(&toml));
    let told: Value = serde_json::from_str(&imported.stdout).unwrap_or_else(|error| panic!("{file}: {error}: {imported:?}"));
    let remarks = told["remarks"].as_array().expect("a list").iter();
    let lost: Vec<String> =
        remarks.filter(|remark| remark["fate"] == "left_out").map(|remark| remark["line"].to_string()).collect();
    let questions = read(&folder.join(format!("{file}.questions")));
    let expected = questions.lines().find_map(|line| line.strip_prefix("not carried over: ")).unwrap_or_default();
    assert_eq!(lost.join(" "), expected, "{file}: {imported:?}");
    assert_eq!(imported.status, i32::from(!lost.is_empty()), "{file}: {imported:?}");

    let rollcall = Launch::serve(directory.path()).option("--config", &toml).option("--services", &services).start();
    assert!(!rollcall.stderr().contains("WARN"), "{file}: what was imported loads without a warning\n{}", rollcall.stderr());
    for line in questions.lines().filter(|line| !line.starts_with("not carried over")) {
        let (name, qtype) = line.split_once(' ').unwrap_or_else(|| panic!("{file}: NAME TYPE, not {line:?}"));
        let asked = |oracle: &Oracle| oracle.asked().iter().any(|other| other == &format!("{}.", name.to_lowercase()));
        let (theirs, their_way) = (outcome(dnsmasq.address, name, qtype), (asked(&general), asked(&private)));
        let (ours, our_way) = (outcome(rollcall.dns, name, qtype), (asked(&general), asked(&private)));
        // Who was asked matters where both asked somebody: dnsmasq may know a type from the answer to another.
        let asked_others = their_way != our_way && their_way != (false, false) && our_way != (false, false);
        if theirs != ours || asked_others {
            seen.insert((file.to_owned(), name.to_owned(), qtype.to_owned()));
            if !DIFFERENCES.iter().any(|(f, n, t, _)| (*f, *n, *t) == (file, name, qtype)) {
                let ways = if asked_others { format!("\n    asked     {their_way:?} {our_way:?}") } else { String::new() };
                found.push(format!("{file}: {name} {qtype}\n    dnsmasq   {theirs}\n    rollcall  {ours}{ways}"));
            }
        }
        assert!(!our_way.0 || !our_way.1, "{file}: {name} {qtype}: rollcall asked both upstreams");
    }
}

/// RCODE and answers with their TTLs, as text.
fn outcome(server: SocketAddr, name: &str, qtype: &str) -> String {
    match dns::udp_within(server, name, qtype, SILENCE) {
        Ok(reply) => {
            // A second may pass on the way.
            let records =
                reply.records().into_iter().map(|(data, ttl)| format!("{data} ttl {}", if ttl == 59 { 60 } else { ttl }));
            format!("{} {}", reply.rcode(), records.collect::<Vec<_>>().join(", "))
        }
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => "no answer".to_owned(),
        Err(error) => panic!("{server}: {name} {qtype}: {error}"),
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Copies a folder with its places filled in.
fn copy(from: &Path, to: &Path, filled: &impl Fn(String) -> String) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() { copy(&entry, &target, filled) } else { fs::write(target, filled(read(&entry))).expect("written") }
    }
}

#[test]
fn every_option_of_the_dnsmasq_that_is_here_has_a_verdict() {
    let directory = directory();
    let help = run(Command::new("env").args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "dnsmasq", "--help"])).ok();
    let names: Vec<&str> =
        help.lines().filter_map(|line| line.split("--").nth(1)?.split([' ', '=', ',', '[']).next()).collect();
    assert!(names.len() > 150, "{help}");
    let file = directory.path().join("all.conf");
    fs::write(&file, names.join("\n")).expect("written");
    let told = json(run(Command::new(BINARY).args(["import", "dnsmasq", "--json"]).arg(&file)).stdout);
    let unknown: Vec<&Value> = told["remarks"].as_array().expect("a list").iter().filter(|remark| is_unknown(remark)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    fs::write(&file, "no-such-option").expect("written");
    let told = json(run(Command::new(BINARY).args(["import", "dnsmasq", "--json"]).arg(&file)).stdout);
    assert!(told["remarks"].as_array().expect("a list").iter().any(is_unknown), "{told}");
}

fn is_unknown(remark: &Value) -> bool {
    remark["why"].as_str().is_some_and(|why| why.contains("knows no option"))
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn an_import_says_what_is_lost_and_writes_over_nothing() {
    let directory = directory();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("whole.conf"), "no-resolv\nserver=192.0.2.1\nlisten-address=127.0.0.1\n").expect("written");
    fs::write(file("partly.conf"), "no-resolv\nserver=192.0.2.1\nenable-ra\n").expect("written");
    let import = |words: &str| run(Command::new(BINARY).arg("import").args(words.split(' ')).current_dir(directory.path()));

    let whole = import("dnsmasq whole.conf");
    assert!(whole.stdout.contains("# whole.conf:2: server=192.0.2.1\nupstreams = [\"192.0.2.1\"]\n"), "{whole:?}");
    assert!(whole.stderr.contains("3 settings read: 0 not carried over"), "{whole:?}");
    assert_eq!(whole.status, 0, "{whole:?}");
    let partly = import("dnsmasq partly.conf --output out.toml");
    assert_eq!((partly.status, &*partly.stdout), (1, ""), "{partly:?}");
    assert!(partly.stderr.contains("not carried over: partly.conf:3: enable-ra\n  "), "{partly:?}");
    assert!(partly.stderr.contains("\n  hint: "), "{partly:?}");
    let first = read(&file("out.toml"));
    let again = import("dnsmasq whole.conf --output out.toml");
    assert_eq!((again.status, read(&file("out.toml"))), (2, first), "{again:?}");
    assert!(again.stderr.contains("--force"), "{again:?}");
    assert_eq!(import("dnsmasq whole.conf --output out.toml --force").status, 0);
    assert!(read(&file("out.toml")).contains("whole.conf:3"));
    let checked = run(Command::new(BINARY).args(["check", "--config", "out.toml"]).current_dir(directory.path()));
    assert_eq!(checked.status, 0, "{checked:?}");
    for wrong in ["dnsmasq", "dnsmasq absent.conf", "dnsmasq .", "consul whole.conf", "named whole.conf"] {
        assert_eq!(import(wrong).status, 2, "{wrong}");
    }
}

#[test]
fn an_option_that_must_not_vanish_has_to_be_let_go_by_name() {
    let directory = directory();
    let file = |name: &str| directory.path().join(name);
    let text = "no-resolv\nserver=192.0.2.1\nipset=/example/set\nno-such-option\nnftset=/example/set\nno-0x20-encode\n";
    fs::write(file("set.conf"), text).expect("written");
    let import = |words: &str| run(Command::new(BINARY).arg("import").args(words.split(' ')).current_dir(directory.path()));
    for refused in ["dnsmasq set.conf", "dnsmasq set.conf --allow ipset,nftset"] {
        let told = import(&format!("{refused} --output out.toml"));
        assert!(told.status == 2 && !file("out.toml").exists(), "{told:?}");
        assert!(told.stderr.contains("nothing was written: without") && told.stderr.contains("no-such-option"), "{told:?}");
        assert!(told.stderr.contains("not carried over: set.conf:3: ipset=/example/set\n"), "{told:?}");
        assert_eq!(import(refused).stdout, "");
    }
    let told = json(import("dnsmasq set.conf --json").stdout);
    assert_eq!((&told["toml"], &told["refused"]), (&Value::Null, &serde_json::json!(["ipset", "no-such-option", "nftset"])));
    let allowed = import("dnsmasq set.conf --allow ipset --allow nftset,no-such-option");
    assert_eq!(allowed.status, 1, "{allowed:?}");
    assert!(allowed.stdout.contains("upstreams = [\"192.0.2.1\"]") && allowed.stdout.contains("random_case = false"));
}

/// Neither an exception's neighbour nor a private server that is dead sends a private name to a public server.
#[test]
fn an_imported_private_domain_never_reaches_the_public_server() {
    let directory = directory();
    let public = Oracle::start(1);
    let dead = crate::support::upstream::Silent::start();
    let (config, toml) = (directory.path().join("dnsmasq.conf"), directory.path().join("rollcall.toml"));
    let place = |address: SocketAddr| format!("{}#{}", address.ip(), address.port());
    let text = format!(
        "no-resolv\nno-hosts\nserver={}\nserver=/corp.example/{}\nserver=/bound.example/{}@eth9\nlocal=/lan.example/\n\
         rev-server=10.0.0.0/8,{}\ncname=out.test.example,x.corp.example\n",
        place(public.address),
        place(dead.address),
        place(public.address),
        place(dead.address)
    );
    fs::write(&config, text).expect("written");
    run(Command::new(BINARY).args(["import", "dnsmasq"]).arg(&config).arg("--output").arg(&toml));
    let rollcall = Launch::serve(directory.path()).option("--config", &toml).start();
    let names = ["x.corp.example", "corp.example", "X.Corp.EXAMPLE", "y.bound.example", "z.lan.example", "out.test.example"];
    for name in names {
        for qtype in ["A", "TXT"] {
            let reply = rollcall.ask(name, qtype);
            // So is what leads there: it is not known what is at the end.
            let is_dead = name.to_lowercase().ends_with("corp.example") || name.starts_with("out.");
            assert_eq!(reply.rcode().to_string() == "Server Failure", is_dead, "{name} {qtype}: {reply:?}");
        }
    }
    rollcall.ask("4.3.2.10.in-addr.arpa", "PTR");
    assert_eq!(public.asked(), [""; 0], "a private name was told to the public server");
    assert_eq!(rollcall.ask("www.example", "A").answers(), ["203.0.113.1"]);
    assert_eq!(public.asked().first().map(String::as_str), Some("www.example."));
}

/// A router's dnsmasq says nothing of where it listens, and its clients come from its network.
#[test]
fn who_says_nothing_of_where_is_reached_where_dnsmasq_was() {
    let script = "ip link add lan7 type veth peer name lan8\nip link set lan7 up\nip link set lan8 up\n\
        ip address add 192.168.7.1/24 dev lan7\nip address add 2001:db8::7/64 dev lan7 nodad\n";
    if !enter("importing::who_says_nothing_of_where_is_reached_where_dnsmasq_was", script) {
        return;
    }
    let directory = directory();
    let (config, toml) = (directory.path().join("dnsmasq.conf"), directory.path().join("rollcall.toml"));
    fs::write(&config, "no-resolv\nno-hosts\nhost-record=nas.lan,192.168.7.5\nlocal=/lan/\n").expect("written");
    run(Command::new(BINARY).args(["import", "dnsmasq"]).arg(&config).arg("--output").arg(&toml)).ok();
    let launch = Launch::bare(directory.path()).with("serve").with("--ready-json").option("--config", &toml);
    let _rollcall = launch.option("--http", "127.0.0.1:0").option("--data", directory.path().join("data")).start();
    for server in ["127.0.0.1:53", "192.168.7.1:53", "[2001:db8::7]:53"] {
        let server = server.parse().expect("an address");
        assert_eq!(dig(server, "+short nas.lan A").trim(), "192.168.7.5", "{server}");
    }
}
