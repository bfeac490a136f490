//! Clients that ask for more than they take: it costs little memory, and nobody else anything.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::dns;
use crate::support::encrypted::{framed, query};
use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::{Oracle, Silent};
use crate::support::within;

/// Connections, of which one client may have 128.
const CONNECTIONS: usize = 24;
/// Queries that each sends at once; a connection holds 64 that wait.
const QUERIES: usize = 300;

/// Octets of memory that a server has.
fn memory(rollcall: &Rollcall) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", rollcall.pid())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Answers that it has counted.
fn answered(rollcall: &Rollcall) -> String {
    let page = rollcall.http.get("/metrics").body;
    page.lines().filter(|line| line.starts_with("rollcall_answers_total")).collect::<Vec<_>>().join("\n")
}

#[test]
fn answers_that_nobody_reads_take_little_memory() {
    let directory = directory();
    let record = |n: usize| {
        let (third, fourth) = (n / 250, n % 250);
        format!("[[record]]\nname = \"big.example\"\ntype = \"A\"\nvalue = \"198.18.{third}.{fourth}\"\n")
    };
    // Some 48 KB.
    fs::write(directory.path().join("rollcall.toml"), (0..3_000).map(record).collect::<String>()).expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    assert_eq!(dns::tcp(rollcall.dns, "big.example", "A").expect("an answer").answers().len(), 3_000);
    let queries = framed(&query(7, "big.example", &[])).repeat(QUERIES);
    // Who reads what it asks for gets all of it.
    let mut client = TcpStream::connect(rollcall.dns).expect("a connection");
    client.write_all(&queries).expect("sent");
    for number in 0..QUERIES {
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap_or_else(|error| panic!("answer {number}: {error}"));
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut answer).expect("the whole of it");
        assert_eq!((&answer[..2], answer[3] & 15), (&[0, 7][..], 0));
    }

    let before = memory(&rollcall);
    let clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(rollcall.dns).expect("a connection");
            stream.write_all(&queries).expect("sent");
            stream
        })
        .collect();
    let mut last = (0, String::new());
    within(Duration::from_secs(30), "no more is answered", || {
        let now = answered(&rollcall);
        last = if now == last.1 { (last.0 + 1, now) } else { (0, now) };
        if last.0 == 20 { Ok(()) } else { Err(last.1.clone()) }
    });
    let grown = memory(&rollcall).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets for {CONNECTIONS} connections");
    assert_eq!(dns::tcp(rollcall.dns, "big.example", "A").expect("an answer").answers().len(), 3_000);
    drop(clients);
}

#[test]
fn a_query_by_tcp_has_a_longest_length() {
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).start();
    let mut stream = TcpStream::connect(rollcall.dns).expect("a connection");
    // One that is answered stands before it.
    stream.write_all(&framed(&query(7, "nobody.service.consul", &[]))).expect("sent");
    stream.write_all(&65_000_u16.to_be_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut octets = Vec::new();
    let end = stream.read_to_end(&mut octets);
    assert!(end.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");
    assert_eq!(octets.get(2..4), Some(&[0, 7][..]), "the first is answered");
}

#[test]
fn who_asks_for_names_of_dead_servers_leaves_places_for_others() {
    let (directory, silent, oracle) = (directory(), Silent::start(), Oracle::start(1));
    let config = format!(
        "[forward]\nupstreams = [\"{}\"]\ntimeout = \"20s\"\n[[forward.route]]\ndomains = [\"dead.example\"]\nupstreams = [\"{}\"]\n",
        oracle.address, silent.address
    );
    fs::write(directory.path().join("rollcall.toml"), config).expect("written");
    let rollcall = Launch::serve(directory.path()).option("--config", "rollcall.toml").start();
    let flooder = UdpSocket::bind("127.0.0.9:0").expect("an address of loopback");
    flooder.connect(rollcall.dns).expect("a way");
    let waiting = || {
        let page = rollcall.http.get("/metrics").body;
        let line = page.lines().find(|line| line.starts_with("rollcall_lookups_under_way")).expect("the metric").to_owned();
        line.rsplit(' ').next().and_then(|count| count.parse::<usize>().ok()).expect("a number")
    };
    // Until some are refused: as many wait as may.
    let mut refused = None;
    for number in 0..16_000 {
        flooder.send(&query(number as u16, &format!("n{number}.dead.example"), &[])).expect("sent");
        if number % 64 == 0 {
            flooder.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
            let mut room = [0; 512];
            if let Ok(length) = flooder.recv(&mut room) {
                refused = Some(room[..length].to_vec());
                break;
            }
        }
    }
    let refused = refused.expect("not all may wait");
    assert_eq!(refused[3] & 15, 2, "SERVFAIL at once");
    let under_way = waiting();
    assert!((4_000..=12_000).contains(&under_way), "half of the places at most, and first attempts: {under_way}");
    for number in 0..50 {
        let reply = rollcall.ask(&format!("n{number}.alive.example"), "A");
        assert_eq!(reply.answers(), ["203.0.113.1"], "question {number} of another client");
    }
}
