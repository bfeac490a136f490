//! Cookies that upstreams give (RFC 7873, RFC 9018): BIND, which wants to see them, and between it and rollcall one who
//! listens, and forges replies with all that can be guessed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::{Heard, Scripted, Server, is_of_the_sentry};
use crate::support::wire::{self, A, Stream, has_edns, opt, query, record, reply};
use crate::support::within;

const COOKIE: [u8; 2] = [0, 10];
/// `*.wild.example.net`.
const TRUTH: [u8; 4] = [192, 0, 2, 99];
const LIE: [u8; 4] = [203, 0, 113, 66];

fn forwarding_to(upstream: &Scripted, more: &str, directory: &Path) -> Rollcall {
    let text = format!("hosts = []\n[forward]\nupstreams = [\"{}\"]\n{more}\n", upstream.address);
    fs::write(directory.join("rollcall.toml"), text).expect("written");
    Launch::serve(directory).option("--config", "rollcall.toml").start()
}

fn port(server: &Server) -> Arc<AtomicU16> {
    Arc::new(server.address.port().into())
}

/// Waits until the upstream is known to give cookies and to bear random letter case, so that workers ask it by themselves.
fn gives_cookies(rollcall: &Rollcall) {
    // It refuses what rollcall asks by itself.
    wire::ask(rollcall.dns, &query("first.wild.example.net", A, &[]));
    within(Duration::from_secs(10), "the upstream gives cookies", || {
        let said = rollcall.cli(["explain", "www.example.net", "--json"]).ok();
        let shown: serde_json::Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let upstream = &shown["route"]["upstreams"][0];
        if upstream["cookies"] == true && upstream["random_case"] == true { Ok(()) } else { Err(said) }
    });
}

/// The cookie in an OPT record that is the last one.
fn cookie(heard: &Heard) -> &[u8] {
    let octets = &heard.octets;
    let place = octets.windows(4).rposition(|four| four[..2] == COOKIE && usize::from(four[3]) + 4 <= octets.len());
    let place = place.unwrap_or_else(|| panic!("a cookie in {octets:?}"));
    &octets[place + 4..][..usize::from(octets[place + 3])]
}

/// What clients send: nothing but a question, an OPT record, and one with a cookie of their own.
fn forms() -> [Vec<Vec<u8>>; 3] {
    let own = [&COOKIE[..], &[0, 8], &[7; 8]].concat();
    [Vec::new(), vec![opt(1232, false, &[])], vec![opt(1232, true, &own)]]
}

#[test]
fn rfc7873_5_each_datagram_shows_the_cookie_and_no_client_sees_it() {
    let directory = directory();
    let bind = Server::named(directory.path());
    let upstream = Scripted::before(port(&bind), |_, reply| vec![reply]);
    let rollcall = forwarding_to(&upstream, "", directory.path());
    gives_cookies(&rollcall);
    upstream.heard();
    let mut number = 0;
    let mut own = Vec::new();
    for by_stream in [false, true] {
        for form in forms() {
            for _ in 0..5 {
                number += 1;
                let asked = query(&format!("n{number}.wild.example.net"), A, &form);
                let answer = if by_stream { Stream::open(rollcall.dns).ask(&asked) } else { wire::ask(rollcall.dns, &asked) };
                assert!(answer.windows(4).any(|four| four == TRUTH), "{answer:?}");
                assert_eq!(has_edns(&answer), !form.is_empty(), "{answer:?}");
                let heard = upstream.heard();
                let [heard] = &heard[..] else { panic!("one datagram for {number}: {heard:?}") };
                let cookie = cookie(heard);
                assert!(!heard.by_stream && cookie.len() == 24 && !cookie.starts_with(&[7; 8]), "{cookie:?}");
                own.push(cookie[..8].to_vec());
                // The client gets its own cookie at most.
                assert!(!answer.windows(8).any(|eight| eight == &cookie[..8]), "{answer:?}");
            }
        }
    }
    own.dedup();
    assert_eq!(own.len(), 1, "one for this upstream");
}

#[test]
fn rfc7873_5_3_who_has_guessed_all_but_the_cookie_is_not_believed() {
    let directory = directory();
    let bind = Server::named(directory.path());
    let forges = Arc::new(AtomicBool::new(false));
    let does = Arc::clone(&forges);
    let upstream = Scripted::before(port(&bind), move |heard, right| {
        let edns = if heard.octets[11] > 0 { vec![opt(1232, false, &[])] } else { Vec::new() };
        let forged = reply(&heard.octets, [0, 0], [&[record(A, 300, &LIE)], &[], &edns]);
        if does.load(Ordering::SeqCst) && !is_of_the_sentry(&heard.octets) { vec![forged, right] } else { vec![right] }
    });
    for (more, believed) in [("", TRUTH), ("cookies = false", LIE)] {
        forges.store(false, Ordering::SeqCst);
        let rollcall = forwarding_to(&upstream, more, directory.path());
        if more.is_empty() {
            gives_cookies(&rollcall);
        }
        let mut number = 0;
        for by_stream in [false, true] {
            for form in forms() {
                let mut ask = |forged: bool| {
                    number += 1;
                    forges.store(forged, Ordering::SeqCst);
                    let asked = query(&format!("n{number}.wild.example.net"), A, &form);
                    if by_stream { Stream::open(rollcall.dns).ask(&asked) } else { wire::ask(rollcall.dns, &asked) }
                };
                let (answer, after) = (ask(true), ask(false));
                assert!(answer.windows(4).any(|four| four == believed), "{more} {by_stream} {form:?}: {answer:?}");
                assert!(after.windows(4).any(|four| four == TRUTH), "{after:?}");
            }
        }
        assert_eq!(upstream.heard().iter().any(|heard| heard.by_stream), more.is_empty(), "it is asked by TCP instead");
        let metrics = rollcall.http.get("/metrics").body;
        let number = |begin: &str, end: &str| {
            let line = metrics.lines().find(|line| line.starts_with(begin) && line.contains(end));
            line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).unwrap_or_else(|| panic!("{begin} in {metrics}"))
        };
        assert_eq!(number("rollcall_upstream_cookies{", "") == 1, more.is_empty());
        assert_eq!(number("rollcall_upstream_untaken_total{", "wrong=\"cookie\"") >= 6, more.is_empty());
    }
}

#[test]
fn rfc7873_5_3_where_cookies_do_not_come_through_none_are_shown() {
    let directory = directory();
    let bind = Server::named(directory.path());
    // What has more than our own part of a cookie is lost on the way.
    let is_whole = |heard: &Heard| heard.octets.windows(4).any(|four| four == [0, 10, 0, 24]);
    let upstream = Scripted::before(port(&bind), move |heard, reply| if is_whole(heard) { Vec::new() } else { vec![reply] });
    let rollcall = forwarding_to(&upstream, "", directory.path());
    within(Duration::from_secs(10), "the upstream is asked with its cookie", || {
        if upstream.heard().iter().any(is_whole) { Ok(()) } else { Err("it was not".into()) }
    });
    for number in 0..10 {
        let answer = wire::ask(rollcall.dns, &query(&format!("n{number}.wild.example.net"), A, &[]));
        assert!(answer.windows(4).any(|four| four == TRUTH), "{answer:?}");
    }
    let heard = upstream.heard();
    let for_clients = heard.iter().filter(|heard| heard.octets.to_ascii_lowercase().windows(5).any(|five| five == b"\x04wild"));
    assert_eq!(for_clients.count(), 10, "no question is lost for it: {heard:?}");
}

#[test]
fn rfc7873_5_3_a_server_that_has_forgotten_its_cookies_is_shown_the_new_one() {
    let [directory, other] = [directory(), directory()];
    let (first, second) = (Server::named(directory.path()), Server::named(other.path()));
    let now = port(&first);
    let upstream = Scripted::before(Arc::clone(&now), |_, reply| vec![reply]);
    let rollcall = forwarding_to(&upstream, "", directory.path());
    gives_cookies(&rollcall);
    for (turn, by_stream) in [false, true, false, true].into_iter().enumerate() {
        upstream.heard();
        now.store([&second, &first][turn % 2].address.port(), Ordering::SeqCst);
        let asked = query(&format!("n{turn}.wild.example.net"), A, &[]);
        let answer = if by_stream { Stream::open(rollcall.dns).ask(&asked) } else { wire::ask(rollcall.dns, &asked) };
        assert!(answer.windows(4).any(|four| four == TRUTH), "{answer:?}");
        let heard = upstream.heard();
        assert!(heard.len() == 2 && !heard[1].by_stream, "{heard:?}");
        assert_eq!(cookie(&heard[0])[..8], cookie(&heard[1])[..8]);
        assert_ne!(cookie(&heard[0]), cookie(&heard[1]));
    }
}
