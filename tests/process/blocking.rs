//! Block lists: what is blocked and how that is said, files that come and go while questions are asked, and what is seen of
//! it all.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::{dig, sorted_lines};
use crate::support::upstream::{Scripted, Server, Witness};
use crate::support::wire::{A, CNAME, record, reply};
use crate::support::{dns, within};

/// With a configuration of one line or more, before this upstream.
fn start(directory: &Path, upstream: &str, toml: &str) -> Rollcall {
    let path = directory.join("rollcall.toml");
    fs::write(&path, toml).expect("written");
    Launch::serve(directory).option("--config", path).option("--upstream", upstream).start()
}

/// Puts a file in the place of another, at once.
fn replace(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join("new"), text).expect("written");
    fs::rename(directory.join("new"), directory.join(name)).expect("renamed");
}

#[test]
fn blocked_names_are_answered_here_and_say_so() {
    let directory = directory();
    let witness = Witness::start();
    fs::write(directory.path().join("hosts.txt"), "# a hosts list\n0.0.0.0 ads.example.net\n127.0.0.1 localhost\n")
        .expect("written");
    fs::write(directory.path().join("domains.txt"), "tracker.example\n@@||good.tracker.example^\n").expect("written");
    let rollcall = start(
        directory.path(),
        &witness.address.to_string(),
        "hosts = []\n[[record]]\nname = \"own.tracker.example\"\ntype = \"A\"\nvalue = \"192.0.2.5\"\n\
         [[block]]\nlists = [\"hosts.txt\"]\nanswer = \"null\"\nttl = 7\n[[block]]\nlists = [\"domains.txt\"]\nexcept = [\"fine.tracker.example\"]\n",
    );
    for _ in 0..2 {
        assert_eq!(rollcall.ask("ADS.example.net", "A").records(), [("A 0.0.0.0".to_owned(), 7)]);
        assert_eq!(rollcall.ask("ads.example.net", "AAAA").records(), [("AAAA ::".to_owned(), 7)]);
        let other = rollcall.ask("ads.example.net", "HTTPS");
        assert_eq!((other.rcode(), other.answers().len(), other.authority_types().len()), (ResponseCode::NoError, 0, 1));
        assert_eq!(rollcall.ask("x.y.tracker.example", "A").rcode(), ResponseCode::NXDomain);
        assert_eq!(dns::tcp(rollcall.dns, "x.y.tracker.example", "A").expect("an answer").rcode(), ResponseCode::NXDomain);
    }
    let said = dig(rollcall.dns, "x.tracker.example A");
    assert!(said.contains("EDE: 15 (Blocked): (blocked by domains.txt)"), "{said}");
    assert!(said.contains("tracker.example.\t10\tIN\tSOA"), "{said}");
    let said = dig(rollcall.dns, "ads.example.net A");
    assert!(said.contains("EDE: 4 (Forged Answer): (blocked by hosts.txt)"), "{said}");
    assert_eq!(witness.asked(), [""; 0], "nobody was asked about any of them");
    for name in ["x.ads.example.net", "good.tracker.example", "x.fine.tracker.example", "nottracker.example"] {
        assert_eq!(rollcall.ask(name, "A").answers(), [Witness::ANSWER], "{name}");
    }
    // Data of our own is never blocked.
    assert_eq!(rollcall.ask("own.tracker.example", "A").answers(), ["192.0.2.5"]);
    assert_eq!(rollcall.ask("localhost", "A").answers(), ["127.0.0.1"]);

    let told = rollcall.cli(["explain", "x.tracker.example"]).ok();
    assert!(told.contains("a block list") && told.contains("domains.txt:1 has tracker.example."), "{told}");
    let page = rollcall.http.get("/metrics").body;
    let hosts = directory.path().join("hosts.txt");
    assert!(page.contains(&format!("rollcall_block_names{{list=\"{}\"}} 1", hosts.display())), "{page}");
    assert!(page.contains(&format!("rollcall_blocked_total{{list=\"{}\"}} 7", hosts.display())), "{page}");
    assert!(page.contains("rollcall_answers_total{source=\"blocked\"} 12"), "{page}");
    let said = Launch::bare(directory.path()).with("query").with("x.tracker.example").with(format!("@{}", rollcall.dns)).run();
    assert!(format!("{said:?}").contains("blocked by domains.txt"), "{said:?}");
}

#[test]
fn an_alias_of_a_blocked_name_is_blocked_wherever_it_is_seen() {
    let directory = directory();
    let nsd = Server::nsd(directory.path());
    fs::write(directory.path().join("list"), "www.example.net\n").expect("written");
    let toml = "[[block]]\nlists = [\"list\"]\n";
    let rollcall = start(directory.path(), &nsd.address.to_string(), toml);
    // From the upstream by UDP, by TCP, and from what is kept.
    for round in 0..3 {
        assert_eq!(rollcall.ask("alias.example.net", "A").rcode(), ResponseCode::NXDomain, "{round}");
        let tcp = dns::tcp(rollcall.dns, "second.example.net", "A").expect("an answer");
        assert_eq!(tcp.rcode(), ResponseCode::NXDomain, "{round}");
    }
    let said = dig(rollcall.dns, "alias.example.net A");
    assert!(said.contains("(blocked by list, as an alias of www.example.net.)"), "{said}");
    assert_eq!(rollcall.ask("ns.example.net", "A").answers(), ["192.0.2.53"]);
    let told = rollcall.cli(["explain", "alias.example.net"]).ok();
    assert!(told.contains("list:1 has www.example.net."), "{told}");
    // When it is not blocked any more, what was kept is right at once.
    replace(directory.path(), "list", "other.example.net\n");
    within(Duration::from_secs(20), "the alias is free", || match rollcall.ask("alias.example.net", "A").answers() {
        answers if answers.len() == 4 => Ok(()),
        answers => Err(format!("{answers:?}")),
    });
}

#[test]
fn lists_are_followed_without_a_gap() {
    let directory = directory();
    let witness = Witness::start();
    let list = |first: &str| {
        let mut text = format!("{first}\nalways.example\n");
        (0..20_000).for_each(|n| text.push_str(&format!("0.0.0.0 ads{n}.example\n")));
        text
    };
    fs::write(directory.path().join("list"), list("first.example")).expect("written");
    let rollcall = start(directory.path(), &witness.address.to_string(), "[[block]]\nlists = [\"list\"]\n");
    let blocked = |name: &str| rollcall.ask(name, "A").rcode() == ResponseCode::NXDomain;
    // It is near by then.
    for _ in 0..3 {
        assert!(blocked("first.example") && !blocked("second.example"));
    }
    let (is_over, asked, free) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for name in ["always.example", "x.always.example", "ads19999.example"] {
                        asked.fetch_add(1, Ordering::Relaxed);
                        free.fetch_add(u64::from(!blocked(name)), Ordering::Relaxed);
                    }
                }
            });
        }
        let follows = |what: &str, wanted: [bool; 2]| {
            within(Duration::from_secs(30), what, || match ["first.example", "second.example"].map(blocked) {
                seen if seen == wanted => Ok(()),
                seen => Err(format!("{seen:?}")),
            });
        };
        replace(directory.path(), "list", &list("second.example"));
        follows("another list counts", [false, true]);
        fs::remove_file(directory.path().join("list")).expect("removed");
        within(Duration::from_secs(30), "it is told", || {
            let said = rollcall.stderr();
            if said.contains("its last good state of 20002 names counts meanwhile") { Ok(()) } else { Err(said) }
        });
        follows("the last good list counts", [false, true]);
        replace(directory.path(), "list", &list("first.example"));
        follows("the list is back", [true, false]);
        is_over.store(true, Ordering::Relaxed);
    });
    let (asked, free) = (asked.into_inner(), free.into_inner());
    assert!(asked > 100 && free == 0, "{free} of {asked} answers were not blocked meanwhile");
    // A configuration without them frees all at once, and one with them blocks again.
    fs::write(directory.path().join("rollcall.toml"), "").expect("written");
    rollcall.signal("HUP");
    within(
        Duration::from_secs(20),
        "nothing is blocked",
        || if blocked("always.example") { Err(String::new()) } else { Ok(()) },
    );
    fs::write(directory.path().join("rollcall.toml"), "[[block]]\nlists = [\"list\"]\n").expect("written");
    rollcall.signal("HUP");
    within(Duration::from_secs(20), "it is blocked", || if blocked("always.example") { Ok(()) } else { Err(String::new()) });
    replace(directory.path(), "list", &list("other.example").replace("always.example\n", ""));
    within(Duration::from_secs(20), "followed", || if blocked("always.example") { Err(String::new()) } else { Ok(()) });
}

#[test]
fn a_list_that_a_download_empties_blocks_on() {
    let directory = directory();
    let witness = Witness::start();
    let full: String = (0..1000).map(|n| format!("ads{n}.example\n")).collect();
    let path = directory.path().join("list");
    fs::write(&path, &full).expect("written");
    let rollcall = start(directory.path(), &witness.address.to_string(), "[[block]]\nlists = [\"list\"]\n");
    let blocked = || rollcall.ask("ads999.example", "A").rcode() == ResponseCode::NXDomain;
    let told = |what: &str, times: usize| {
        within(Duration::from_secs(30), what, || match rollcall.stderr() {
            said if said.matches(what).count() == times => Ok(()),
            said => Err(said),
        });
    };
    // As `curl -o list URL` does, where the first thing is that the file is emptied.
    fs::write(&path, "").expect("written");
    told("expected most of the 1000 names that this list had, got 0; its last good state counts meanwhile", 1);
    assert!(blocked());
    fs::write(&path, &full).expect("written");
    fs::OpenOptions::new().append(true).open(&path).and_then(|mut file| writeln!(file, "more.example")).expect("written");
    told("they have 1001 names now", 1);
    assert!(blocked());
    fs::write(&path, "rate.limited\n").expect("written");
    told("expected most of the 1001 names that this list had, got 1;", 1);
    assert!(blocked());
    // Whoever has seen that, and means it.
    rollcall.signal("HUP");
    told("this list had 1001 names and has 1 now, which count from here on", 1);
    within(Duration::from_secs(20), "it counts", || if blocked() { Err(String::new()) } else { Ok(()) });
    assert_eq!(rollcall.ask("rate.limited", "A").rcode(), ResponseCode::NXDomain);
}

#[test]
fn what_leads_further_than_lists_are_asked_about_is_not_passed_on() {
    let directory = directory();
    // `NN.far.example` has so many aliases, the last of them a blocked name.
    let upstream = Scripted::start(|heard| {
        let digits = str::from_utf8(&heard.octets[13..15]).expect("two digits");
        let count: usize = digits.parse().expect("a number");
        let target = |number| if number == count { b"\x03ads\x07example\0" } else { b"\x03cdn\x07example\0" };
        let aliases = (1..=count).map(|number| record(CNAME, 60, target(number)));
        let records: Vec<_> = aliases.chain([record(A, 60, &[192, 0, 2, 1])]).collect();
        vec![reply(&heard.octets, [0, 0], [&records, &[], &[]])]
    });
    fs::write(directory.path().join("list"), "ads.example\n").expect("written");
    let rollcall = start(directory.path(), &upstream.address.to_string(), "[[block]]\nlists = [\"list\"]\n");
    let (blocked, unknown) = (ResponseCode::NXDomain, ResponseCode::ServFail);
    for (count, expected) in [(0, ResponseCode::NoError), (1, blocked), (16, blocked), (17, unknown), (40, unknown)] {
        let name = format!("{count:02}.far.example");
        for round in 0..2 {
            assert_eq!(rollcall.ask(&name, "A").rcode(), expected, "{name} {round}");
            assert_eq!(dns::tcp(rollcall.dns, &name, "A").expect("an answer").rcode(), expected, "{name} {round}");
        }
    }
    let said = dig(rollcall.dns, "40.far.example A");
    assert!(said.contains("EDE: 0 (Other): (the answer has too many aliases or addresses for block lists)"), "{said}");
    let told = rollcall.cli(["explain", "40.far.example"]).ok();
    assert!(told.contains("too many aliases"), "{told}");
}

#[test]
fn mistakes_in_lists_are_told_with_their_place() {
    let directory = directory();
    fs::write(directory.path().join("list"), "good.example\n192.0.2.1 nas\n").expect("written");
    fs::write(directory.path().join("rollcall.toml"), "[[block]]\nlists = [\"list\", \"absent\"]\n").expect("written");
    let check = |file: &str| Launch::bare(directory.path()).with("check").option("--config", file).run();
    let said = check("rollcall.toml").failed();
    assert!(said.contains("list:2:1: expected 0.0.0.0 or 127.0.0.1 before names to block, got 192.0.2.1"), "{said}");
    assert!(said.contains("absent: expected a readable list, got: No such file"), "{said}");
    fs::write(directory.path().join("list"), "good.example\n").expect("written");
    fs::write(directory.path().join("right.toml"), "[[block]]\nlists = [\"list\"]\n").expect("written");
    let said = check("right.toml").ok();
    assert!(said.contains("block lists: 1, with 1 names"), "{said}");
    fs::write(directory.path().join("wrong.toml"), "[[block]]\nlists = [\"list\"]\nanswer = \"zero\"\n").expect("written");
    let said = check("wrong.toml").failed();
    assert!(said.contains("\"nxdomain\", \"nodata\", \"null\", \"refused\" or a list of addresses"), "{said}");
}

/// What a server says to a question over UDP or TCP, but for TTLs and the authority section; or nothing.
fn seen(server: SocketAddr, name: &str, qtype: &str, by_tcp: bool) -> String {
    let reply =
        if by_tcp { dns::tcp(server, name, qtype) } else { dns::udp_within(server, name, qtype, Duration::from_millis(800)) };
    match reply {
        Err(_) => "nothing".to_owned(),
        Ok(reply) => {
            let records: Vec<String> = reply.records().into_iter().map(|(record, _)| record).collect();
            format!("{:?}{} {records:?}", reply.rcode(), if reply.truncated() { " TC" } else { "" })
        }
    }
}

const FIRST_ZONE: &str = "\
$TTL 60
@ SOA localhost. nobody.invalid. 1 3600 600 86400 60
@ NS localhost.
nx.wild.example.net CNAME .
*.deep.wild.example.net CNAME .
x.deep.wild.example.net CNAME *.
nodata.wild.example.net CNAME *.
pass.wild.example.net CNAME rpz-passthru.
tcp.wild.example.net CNAME rpz-tcp-only.
drop.wild.example.net CNAME rpz-drop.
data.wild.example.net A 198.51.100.7
data.wild.example.net TXT \"local\"
alias.wild.example.net CNAME www.example.net.
garden.wild.example.net CNAME *.wild.example.net.
32.53.2.0.192.rpz-ip CNAME .
32.9.0.0.127.rpz-client-ip CNAME *.
";

const SECOND_ZONE: &str = "\
$TTL 60
@ SOA localhost. nobody.invalid. 1 3600 600 86400 60
@ NS localhost.
pass.wild.example.net CNAME .
nx.wild.example.net CNAME *.
*.wild.example.net CNAME *.
nx2.wild.example.net CNAME .
text.example.net A 198.51.100.8
24.0.100.51.198.rpz-ip A 203.0.113.9
32.1.100.51.198.rpz-ip CNAME *.
32.8.0.0.127.rpz-client-ip CNAME rpz-passthru.
";

/// What Unbound, which has the same zones before the same upstream, says to the same questions.
#[test]
fn response_policy_zones_count_as_with_unbound() {
    let directory = directory();
    let nsd = Server::nsd(directory.path());
    let zones = [("first.rpz", FIRST_ZONE), ("second.rpz", SECOND_ZONE)].map(|(name, text)| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("written");
        path
    });
    let unbound = Server::unbound_with_policies(directory.path(), &zones, nsd.address);
    let rollcall = start(
        directory.path(),
        &nsd.address.to_string(),
        "[[block]]\nlists = [\"first.rpz\"]\n[[block]]\nlists = [\"second.rpz\"]\n",
    );
    let mut told = 0;
    for name in [
        "nx.wild",
        "NX.wild",
        "below.nx.wild",
        "x.deep.wild",
        "y.deep.wild",
        "z.y.deep.wild",
        "deep.wild",
        "nodata.wild",
        "pass.wild",
        "tcp.wild",
        "drop.wild",
        "data.wild",
        "below.data.wild",
        "alias.wild",
        "garden.wild",
        "nx2.wild",
        "other.wild",
        "wild",
        "www",
        "text",
        "ns",
        "alias",
        "medium",
        "big",
        "absent",
    ] {
        for qtype in ["A", "AAAA", "TXT", "MX"] {
            for by_tcp in [false, true] {
                // By TCP silence takes long; and what is cut has no data yet, so that whoever comes by TCP then is judged.
                if by_tcp && name == "drop.wild" || !by_tcp && ["medium", "big"].contains(&name) {
                    continue;
                }
                let name = format!("{name}.example.net");
                let theirs = seen(unbound.address, &name, qtype, by_tcp);
                // The second time it may be kept.
                for round in 0..2 {
                    let ours = seen(rollcall.dns, &name, qtype, by_tcp);
                    assert_eq!(ours, theirs, "{name} {qtype}, by TCP: {by_tcp}, round {round}");
                }
                told += usize::from(!theirs.contains("[]"));
            }
        }
    }
    assert!(told > 20, "only {told} answers had records");
    // By who asks: nothing for one of them, and for another all that no earlier zone forbids. Unbound lets the name count
    // although the client passes; in one zone the client comes before the name (draft-vixie-dnsop-dns-rpz, 5.4), as in BIND.
    for (client, name) in [("127.0.0.9", "www"), ("127.0.0.9", "pass.wild"), ("127.0.0.8", "nx.wild")] {
        let words = format!("-b {client} +short {name}.example.net A");
        assert_eq!(sorted_lines(&dig(rollcall.dns, &words)), sorted_lines(&dig(unbound.address, &words)), "{client} {name}");
    }
    assert_eq!(dig(rollcall.dns, "-b 127.0.0.8 +short nx2.wild.example.net A").trim(), "192.0.2.99");
    // What is near for others is not for a client of whom something is said.
    for _ in 0..3 {
        assert_eq!(rollcall.ask("www.example.net", "A").answers().len(), 2);
    }
    assert_eq!(dig(rollcall.dns, "-b 127.0.0.9 +short www.example.net A"), "");
    let told = rollcall.cli(["explain", "ns.example.net"]).ok();
    assert!(told.contains("first.rpz:15 has the address 192.0.2.53/32"), "{told}");
    let told = rollcall.cli(["explain", "garden.wild.example.net"]).ok();
    assert!(told.contains("first.rpz:14 has garden.wild.example.net."), "{told}");
    let page = rollcall.http.get("/metrics").body;
    assert!(page.contains(&format!("rollcall_block_names{{list=\"{}\"}} 13", zones[0].display())), "{page}");
}

#[test]
fn names_stand_for_others_openly_or_not() {
    let directory = directory();
    let nsd = Server::nsd(directory.path());
    let toml = "hosts = []\nlocal_ttl = 9\n[[record]]\nname = \"own.corp.example\"\ntype = \"A\"\nvalue = \"192.0.2.5\"\n\
        [[rewrite]]\nname = \"corp.example\"\nto = \"example.net\"\nbelow = true\n\
        [[rewrite]]\nname = \"quiet.example\"\nto = \"alias.example.net\"\nhide = true\n\
        [[rewrite]]\nname = \"db.example\"\nto = \"web.service.consul\"\n\
        [[rewrite]]\nname = \"old.service.consul\"\nto = \"web.service.consul\"\nhide = true\n\
        [[rewrite]]\nname = \"www.example.net\"\ntype = \"MX\"\nto = \"text.example.net\"\n\
        [[rewrite]]\nname = \"own2.example\"\nto = \"own.corp.example\"\n";
    let rollcall = start(directory.path(), &nsd.address.to_string(), toml);
    let service = serde_json::json!({"ID": "web", "Name": "web", "Address": "192.0.2.3", "Port": 80});
    rollcall.http.accepts("/v1/agent/service/register", &service);
    for by_tcp in [false, true] {
        for (name, qtype, expected) in [
            ("www.corp.example", "A", "NoError [\"A 192.0.2.80\", \"A 192.0.2.81\", \"CNAME www.example.net.\"]"),
            (
                "alias.corp.example",
                "AAAA",
                "NoError [\"AAAA 2001:db8::80\", \"CNAME alias.example.net.\", \"CNAME second.example.net.\", \"CNAME www.example.net.\"]",
            ),
            ("absent.corp.example", "A", "NXDomain [\"CNAME absent.example.net.\"]"),
            ("www.corp.example", "MX", "NoError [\"CNAME text.example.net.\", \"CNAME www.example.net.\"]"),
            ("own.corp.example", "A", "NoError [\"A 192.0.2.5\"]"),
            ("own2.example", "A", "NoError [\"A 192.0.2.5\", \"CNAME own.corp.example.\"]"),
            ("quiet.example", "A", "NoError [\"A 192.0.2.80\", \"A 192.0.2.81\"]"),
            ("quiet.example", "MX", "NoError []"),
            ("db.example", "A", "NoError [\"A 192.0.2.3\", \"CNAME web.service.consul.\"]"),
            ("old.service.consul", "A", "NoError [\"A 192.0.2.3\"]"),
            ("web.service.consul", "A", "NoError [\"A 192.0.2.3\"]"),
            ("www.example.net", "A", "NoError [\"A 192.0.2.80\", \"A 192.0.2.81\"]"),
        ] {
            assert_eq!(seen(rollcall.dns, name, qtype, by_tcp), expected, "{name} {qtype} by TCP: {by_tcp}");
        }
    }
    let said = dig(rollcall.dns, "+noall +answer QUIET.example A");
    assert!(said.lines().count() == 2 && said.lines().all(|line| line.starts_with("QUIET.example.")), "{said}");
    assert!(
        dig(rollcall.dns, "+noall +answer www.corp.example A").contains("www.corp.example.\t9\tIN\tCNAME\twww.example.net.")
    );
    let told = rollcall.cli(["explain", "www.corp.example"]).ok();
    assert!(told.contains("has it stand for www.example.net., which is looked up in turn"), "{told}");
    let circle =
        "[[rewrite]]\nname = \"a.example\"\nto = \"b.example\"\n[[rewrite]]\nname = \"b.example\"\nto = \"a.example\"\n";
    fs::write(directory.path().join("circle.toml"), circle).expect("written");
    let said = Launch::bare(directory.path()).with("check").option("--config", "circle.toml").run().failed();
    assert!(said.contains("got a circle: a.example. to b.example. to a.example."), "{said}");
}
