//! Block lists: what is blocked and how that is said, files that come and go while questions are asked, and what is seen of
//! it all.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::ResponseCode;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::dig;
use crate::support::upstream::{Server, Witness};
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
    replace(directory.path(), "list", "other.example\n");
    within(Duration::from_secs(20), "followed", || if blocked("always.example") { Err(String::new()) } else { Ok(()) });
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
