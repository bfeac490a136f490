//! `[[view]]`: some clients are answered by other upstreams, records and filters than the rest, and nothing is ever mixed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::tools::dig;
use crate::support::upstream::Oracle;
use crate::support::within;

const SOON: Duration = Duration::from_secs(20);

fn configure(directory: &Path, main: &Oracle, own: &Oracle, more: &str) {
    let config = format!(
        "hosts = []\nhosts_domain = \"corp.example\"\n[forward]\nupstreams = [\"{}\"]\n[forward.cache]\nmax_ttl = 3000\n\
         [[record]]\nname = \"printer.corp.example\"\ntype = \"A\"\nvalue = \"192.0.2.1\"\n\
         [[view]]\nname = \"guests\"\nclients = [\"127.0.0.8/29\"]\n\
         forward.upstreams = [\"{}\"]\n\
         [[view.record]]\nname = \"portal.corp.example\"\ntype = \"A\"\nvalue = \"192.0.2.2\"\n\
         [[view]]\nname = \"boss\"\nclients = [\"127.0.0.9\"]\nhosts = [\"boss.hosts\"]\n{more}",
        main.address, own.address
    );
    fs::write(directory.join("rollcall.toml"), config).expect("written");
    fs::write(directory.join("boss.hosts"), "192.0.2.3 safe\n").expect("written");
}

fn start(directory: &Path, main: &Oracle, own: &Oracle) -> Rollcall {
    configure(directory, main, own, "");
    Launch::serve(directory).option("--config", "rollcall.toml").option("--workers", "1").start()
}

#[test]
fn each_client_has_the_answers_of_its_view_and_no_others() {
    let (directory, main, own) = (directory(), Oracle::start(1), Oracle::start(2));
    let rollcall = start(directory.path(), &main, &own);
    rollcall.http.accepts("/v1/agent/service/register", &json!({"ID": "w", "Name": "web", "Address": "192.0.2.9", "Port": 80}));
    let ask = |client: &str, words: &str| dig(rollcall.dns, &format!("+short -b {client} {words}")).trim().to_owned();
    let (everybody, guest, boss) = ("127.0.0.1", "127.0.0.10", "127.0.0.9");
    let names = ["www.example.net", "ftp.example.net"];
    // Asked, from the cache, from what is near, over TCP; and again, as one follows the other.
    for how in ["", "", "", "+tcp", ""] {
        for name in names {
            let answers = [everybody, guest, boss].map(|client| ask(client, &format!("{how} {name}")));
            assert!(
                !answers[0].is_empty() && answers[0] == answers[2] && answers[0] != answers[1],
                "{how} {name}: {answers:?}"
            );
        }
    }
    assert_eq!((main.asked().len(), own.asked().len()), (2, 2), "{:?} {:?}", main.asked(), own.asked());
    // Services are everybody's; records and hosts files are those of the view, where it has some.
    let local = |name: &str| [everybody, guest, boss].map(|client| ask(client, name));
    assert_eq!(local("web.service.consul"), ["192.0.2.9"; 3]);
    assert_eq!(local("safe.corp.example")[2], "192.0.2.3", "with the hosts_domain of all");
    let printer = local("printer.corp.example");
    assert_eq!((&*printer[0], &*printer[2]), ("192.0.2.1", "192.0.2.1"));
    assert_ne!(printer[1], "192.0.2.1", "a list is taken whole or replaced whole");
    assert_eq!(local("portal.corp.example")[1], "192.0.2.2");

    // What is shown of them.
    let explain = |client: &str| rollcall.cli(["explain", "www.example.net", "--client", client]).ok();
    assert!(explain(guest).contains("view         guests"), "{}", explain(guest));
    assert!(explain(boss).contains("view         boss") && !explain(everybody).contains("view "));
    let stats: Value = rollcall.http.json("/v1/rollcall/cache");
    let entries = stats["entries"].as_u64().expect("a number");
    assert!(entries >= 4, "{stats}");
    let kept = rollcall.http.json("/v1/rollcall/cache/entries/www.example.net");
    let views: Vec<_> = kept.as_array().expect("a list").iter().map(|entry| entry["view"].as_str()).collect();
    assert_eq!(views, [None, Some("guests")], "the boss has those of all: {kept}");
    let page = rollcall.http.get("/metrics").body;
    assert!(page.contains("rollcall_cache_misses_total{view=\"guests\"} "), "{page}");
    assert!(
        page.contains(&format!(
            "rollcall_upstream_sent_total{{view=\"guests\",group=\"default\",upstream=\"{}\"}}",
            own.address
        ))
    );
    assert!(page.contains("\nrollcall_cache_misses_total ") && !page.contains("view=\"boss\""), "{page}");

    // What is forgotten is forgotten everywhere.
    rollcall.cli(["cache", "flush", "www.example.net"]).ok();
    assert!([&main, &own].iter().all(|oracle| oracle.asked().iter().all(|name| !name.starts_with("www."))));
    assert!([everybody, guest].iter().all(|client| !ask(client, "www.example.net").is_empty()));
    assert_eq!((main.asked(), own.asked()), (vec!["www.example.net.".to_owned()], vec!["www.example.net.".to_owned()]));
}

#[test]
fn a_reload_keeps_what_views_have_and_takes_what_is_new() {
    let (directory, main, own) = (directory(), Oracle::start(1), Oracle::start(2));
    let rollcall = start(directory.path(), &main, &own);
    let ask = |client: &str, name: &str| dig(rollcall.dns, &format!("+short -b {client} {name}")).trim().to_owned();
    let kept = ask("127.0.0.10", "www.example.net");
    assert_eq!((main.asked().len(), own.asked().len()), (0, 1));
    // Another view comes, and this one stays as it is.
    let more = "[[view]]\nname = \"late\"\nclients = [\"127.0.0.2\"]\nhosts = []\n[[view.record]]\nname = \"late.example\"\n\
                type = \"A\"\nvalue = \"192.0.2.4\"\n";
    configure(directory.path(), &main, &own, more);
    rollcall.signal("HUP");
    within(SOON, "the new view", || match &*ask("127.0.0.2", "late.example") {
        "192.0.2.4" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(ask("127.0.0.10", "www.example.net"), kept);
    assert!(own.asked().is_empty(), "kept over the reload");
    // A mistake in one changes none.
    for (wrong, told) in [
        ("[[view]]\nname = \"x\"\nclients = [\"127.0.0.9\"]\n", "127.0.0.9/32 is in the view \"boss\" already"),
        ("[[view]]\nname = \"x\"\nclients = []\n", "expected the networks of its clients, got none"),
        ("[[view]]\nname = \"boss\"\nclients = [\"127.1.0.0/16\"]\n", "expected a name of its own, got \"boss\" again"),
        ("[[view]]\nname = \"x\"\nclients = [\"127.1.0.0/16\"]\nforwrad = {}\n", "did you mean `forward`?"),
        (
            "[[view]]\nname = \"x\"\nclients = [\"127.1.0.0/16\"]\nlocal_ttl = \"long\"\n",
            "[[view]] \"x\": expected seconds, such as 300 or \"5m\"; got string \"long\"",
        ),
        ("[[view]]\nname = \"x\"\nclients = [\"127.1.0.0/16\"]\nforward.filter.bogus = [\"a\"]\n", "expected an address"),
        ("[[view]]\nname = \"../x\"\nclients = [\"127.1.0.0/16\"]\n", "expected a name of letters"),
        ("[[view]]\nclients = [\"127.1.0.0/16\"]\n", "expected the key `name`, got none"),
    ] {
        configure(directory.path(), &main, &own, wrong);
        let output = Launch::bare(directory.path()).with("check").option("--config", "rollcall.toml").run();
        assert!(output.status == 2 && output.stderr.contains(told), "{wrong}: {output:?}");
    }
    rollcall.signal("HUP");
    within(SOON, "the mistake to be told", || {
        let said = rollcall.stderr();
        if said.contains("the last good one stays in force") { Ok(()) } else { Err(said) }
    });
    assert_eq!(ask("127.0.0.2", "late.example"), "192.0.2.4");
}

#[test]
fn a_view_may_have_block_lists_that_others_have_not() {
    let (directory, main) = (directory(), Oracle::start(1));
    let config = format!(
        "forward.upstreams = [\"{}\"]\n[[view]]\nname = \"children\"\nclients = [\"127.0.0.9\"]\n[[view.block]]\nlists = [\"games.hosts\"]\n\
         [[view]]\nname = \"parents\"\nclients = [\"127.0.0.8\"]\n",
        main.address
    );
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    let list = directory.path().join("games.hosts");
    fs::write(&list, "0.0.0.0 games.example\n").expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").option("--workers", "1").start();
    let ask = |client: &str, name: &str| dig(rollcall.dns, &format!("+short -b {client} {name}")).trim().to_owned();
    let open = "203.0.113.1".to_owned();
    for _ in 0..3 {
        for name in ["games.example", "www.example"] {
            assert_eq!(["127.0.0.1", "127.0.0.8"].map(|client| ask(client, name)), [open.clone(), open.clone()]);
        }
        assert_ne!(ask("127.0.0.9", "games.example"), open, "it is kept for the others, and blocked for them");
        assert_eq!(ask("127.0.0.9", "www.example"), open);
    }
    assert_eq!(main.asked().len(), 2, "all have the same upstream, and its answers in common");
    assert!(rollcall.http.get("/metrics").body.contains("rollcall_block_names{view=\"children\",list="));
    // The list of a view is watched as any other.
    fs::write(&list, "0.0.0.0 www.example\n").expect("written");
    within(SOON, "the list to be read again", || match ask("127.0.0.9", "www.example") {
        answer if answer != open => Ok(()),
        answer => Err(answer),
    });
    assert_eq!((ask("127.0.0.9", "games.example"), ask("127.0.0.1", "www.example")), (open.clone(), open.clone()));
}

/// Answers of views outlive a restart as all do, and do not come back as another's.
#[test]
fn answers_of_a_view_are_kept_over_a_restart() {
    let (directory, main, own) = (directory(), Oracle::start(1), Oracle::start(2));
    let mut rollcall = start(directory.path(), &main, &own);
    let ask = |rollcall: &Rollcall, client: &str| dig(rollcall.dns, &format!("+short -b {client} www.example.net"));
    let before = ["127.0.0.1", "127.0.0.10"].map(|client| ask(&rollcall, client));
    rollcall.signal("TERM");
    rollcall.ended();
    drop(rollcall);
    let rollcall = start(directory.path(), &main, &own);
    within(SOON, "what was kept to be read", || match rollcall.http.json("/v1/rollcall/cache")["entries"].as_u64() {
        Some(2) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(["127.0.0.1", "127.0.0.10"].map(|client| ask(&rollcall, client)), before);
    assert_eq!((main.asked().len(), own.asked().len()), (1, 1));
}
