//! How many pages that workers share does an answer write to? None: what grows with the number of processors is what they
//! have to tell one another, and a written line is one that all others have to fetch again.
//!
//! The kernel counts. A child process shares all pages with its parent until it writes to one, which is then its own alone;
//! so the pages that became its own while it answered are those that it wrote to.
#![allow(unsafe_code, reason = "fork has no safe form")]
#![allow(clippy::print_stdout, reason = "the count is what people run it for")]

use std::fs;

use rollcall::catalog::{Catalog, Instance, Node, Rows};
use rollcall::dns::{Class, Flags, Opcode, PlainQuery, Query, Question, Type};
use rollcall::resolve::Room;
use rollcall::resolve::answer::{Discovery, Settings};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Some 12 MB of catalog, 3,000 pages.
const SERVICES: usize = 20_000;
/// Those of the child's own stack, of what it writes its answers into, and of how it reads these numbers.
const OWN: u64 = 16;

fn row<T: DeserializeOwned>(mut row: Value) -> T {
    for (key, value) in [("source", json!(0)), ("create_index", json!(1)), ("modify_index", json!(1))] {
        row[key] = value;
    }
    serde_json::from_value(row).unwrap()
}

fn catalog() -> Catalog {
    let node: Node = row(json!({"name": "n", "id": "", "datacenter": "dc1", "address": "127.0.0.1"}));
    let instance = |service: usize, number: usize| -> Instance {
        let address = format!("10.{}.{}.{number}", service >> 8 & 255, service & 255);
        let id = format!("i{service}-{number}");
        row(json!({"node": "n", "id": id, "service": format!("svc-{service}"), "address": address, "port": 80}))
    };
    let instances = (0..SERVICES).flat_map(|service| (0..3).map(move |number| instance(service, number))).collect();
    Catalog::restore(Rows { nodes: vec![node], instances, ..Rows::default() })
}

fn query(service: usize) -> Vec<u8> {
    let name = format!("svc-{service}.service.consul").parse().unwrap();
    let question = Question { name, qtype: Type::A, qclass: Class::IN };
    let flags = Flags { recursion_desired: true, ..Flags::default() };
    Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: None }.compose()
}

/// Pages that are this process's alone.
fn own_pages() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 4
}

/// How many pages of memory a child writes to that does this; 255 for so many or more.
fn pages_written(what: impl FnOnce()) -> u64 {
    // SAFETY: the child runs nothing but this, reads a file, and ends without a word to anybody.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // Once for what reading itself takes.
        own_pages();
        let before = own_pages();
        what();
        let written = own_pages() - before;
        // SAFETY: no destructor has anything to do here.
        unsafe { libc::_exit(written.min(255) as i32) };
    }
    let mut status = 0;
    // SAFETY: `status` is written by the call alone.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "the child ended by a signal: {status}");
    libc::WEXITSTATUS(status) as u64
}

#[test]
fn answers_from_memory_write_to_nothing_that_workers_share() {
    let (catalog, discovery) = (catalog(), Discovery::new(Settings::default()));
    let queries: Vec<Vec<u8>> = (0..SERVICES).map(query).collect();
    let (mut out, mut rng) = (Vec::with_capacity(4_096), fastrand::Rng::with_seed(7));
    let mut answer_all = |rounds: usize| {
        for octets in (0..rounds).flat_map(|_| &queries) {
            out.clear();
            let plain = PlainQuery::parse(octets).unwrap();
            assert!(discovery.answer_at_once(&catalog, &plain, Room::Datagram, &mut rng, 1_800_000_000, &mut out));
        }
    };
    assert_eq!(pages_written(|| answer_all(1)), 255, "the first answer of a service is prepared, and kept with it");
    answer_all(1);
    let written = pages_written(|| answer_all(10));
    assert!(written <= OWN, "{} answers wrote to {written} pages", 10 * SERVICES);
    println!("shared writes: 0 in {} answers ({written} pages written, all of them the worker's own)", 10 * SERVICES);
}
