//! The steps of a query and of a write, each by itself: `cargo bench --bench micro`. What they come to together is measured by
//! `scripts/bench`.

use std::net::IpAddr;

use divan::{Bencher, black_box};
use fastrand::Rng;
use rollcall::catalog::{Catalog, Change, Check, Instance, Node, Rows};
use rollcall::dns::{Class, Edns, Flags, Message, Opcode, PlainQuery, Query, Question, Type};
use rollcall::resolve::Room;
use rollcall::resolve::answer::{Client, Discovery, Settings, Step};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn main() {
    divan::main();
}

const SIZES: [usize; 2] = [1_000, 100_000];

fn row<T: DeserializeOwned>(mut row: Value) -> T {
    for (key, value) in [("source", json!(0)), ("create_index", json!(1)), ("modify_index", json!(1))] {
        row[key] = value;
    }
    serde_json::from_value(row).expect("a row")
}

fn check(service: usize, status: &str) -> Check {
    let id = format!("c{service}");
    row(json!({"node": "n", "id": id, "name": "c", "status": status, "service_id": format!("i{service}-0")}))
}

/// So many services of three instances each, the first of which has a check.
fn catalog(services: usize) -> Catalog {
    let node: Node = row(json!({"name": "n", "id": "", "datacenter": "dc1", "address": "127.0.0.1"}));
    let instance = |service: usize, number: usize| -> Instance {
        let address = format!("10.{}.{}.{number}", service >> 8 & 255, service & 255);
        row(
            json!({"node": "n", "id": format!("i{service}-{number}"), "service": format!("svc-{service}"), "address": address, "port": 80}),
        )
    };
    Catalog::restore(Rows {
        nodes: vec![node],
        instances: (0..services).flat_map(|service| (0..3).map(move |number| instance(service, number))).collect(),
        checks: (0..services).map(|service| check(service, "passing")).collect(),
        ..Rows::default()
    })
}

fn query(service: usize, qtype: Type) -> Query {
    let name = format!("svc-{service}.service.consul").parse().expect("a name");
    let flags = Flags { recursion_desired: true, ..Flags::default() };
    let question = Question { name, qtype, qclass: Class::IN };
    Query { id: 7, opcode: Opcode::QUERY, flags, question, edns: Some(Edns::new(1232)) }
}

const CLIENT: Client = Client { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), room: Room::Datagram };

#[divan::bench]
fn decode_a_plain_query(bencher: Bencher<'_, '_>) {
    let octets = query(1, Type::A).compose();
    bencher.bench(|| PlainQuery::parse(black_box(&octets)).is_some());
}

#[divan::bench]
fn decode_any_query(bencher: Bencher<'_, '_>) {
    let octets = query(1, Type::A).compose();
    bencher.bench(|| Query::parse(black_box(&octets)).is_ok());
}

/// From octets to octets, questions going round all services.
#[divan::bench(args = SIZES)]
fn answer_at_once(bencher: Bencher<'_, '_>, services: usize) {
    let (catalog, discovery) = (catalog(services), Discovery::new(Settings::default()));
    let queries: Vec<Vec<u8>> = (0..services).map(|service| query(service, Type::A).compose()).collect();
    let (mut rng, mut out) = (Rng::with_seed(1), Vec::with_capacity(1232));
    let mut ask = |octets: &[u8]| {
        out.clear();
        let plain = PlainQuery::parse(octets).expect("plain");
        assert!(discovery.answer_at_once(&catalog, &plain, Room::Datagram, &mut rng, 1, &mut out));
    };
    queries.iter().for_each(|octets| ask(octets));
    let mut next = queries.iter().cycle();
    bencher.bench_local(|| ask(next.next().expect("a cycle has no end")));
}

#[divan::bench]
fn answer_in_general(bencher: Bencher<'_, '_>) {
    let (catalog, discovery, query) = (catalog(1_000), Discovery::new(Settings::default()), query(1, Type::A));
    let mut rng = Rng::with_seed(1);
    bencher.bench_local(|| match discovery.answer(&catalog, &query, CLIENT, &mut rng, 1) {
        Step::Reply(message) => discovery.compose(&message),
        Step::Chase(_) | Step::Forward => Vec::new(),
    });
}

#[divan::bench]
fn encode_a_message(bencher: Bencher<'_, '_>) {
    let (catalog, discovery) = (catalog(1_000), Discovery::new(Settings::default()));
    let answer = discovery.answer(&catalog, &query(1, Type::SRV), CLIENT, &mut Rng::with_seed(1), 1);
    let Step::Reply(message) = answer else { return };
    bencher.bench(|| Message::compose(black_box(&message), true));
}

/// One check changes, and the next snapshot is ready: what it costs must not depend on how many others there are.
#[divan::bench(args = SIZES)]
fn publish_a_change(bencher: Bencher<'_, '_>, services: usize) {
    let mut published = catalog(services);
    let mut count = 0;
    bencher.bench_local(|| {
        count += 1;
        let status = if (count / services).is_multiple_of(2) { "critical" } else { "passing" };
        let mut edit = published.edit();
        edit.apply(Change::PutCheck(check(count % services, status))).expect("its instance is there");
        // A reader may hold the former snapshot.
        let former = std::mem::replace(&mut published, edit.finish().0);
        black_box(former);
    });
}
