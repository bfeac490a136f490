//! A bounded fuzz of all that reads what comes from outside: of the wire code with the recorded questions, answers made from
//! them, and seeded mutations of both; of the importers of other programs' configurations (`import`); of block lists (`lists`);
//! and of the other parsers with what ships and with what once was wrong (`tests/data/fuzz`).
//!
//! It runs for `FUZZ_SECONDS` (10) from `FUZZ_SEED` (by default the clock), and a failure prints the seed, the octets and
//! how to run them alone. The coverage-guided companion is in `fuzz/`; both hold the same properties.

mod import;
mod lists;
mod property;

use std::env;
use std::panic;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rollcall::dns::{Message, Name, RData, Rcode, Record, Soa, Srv, Type};

#[test]
fn any_octets_are_read_without_panic_and_survive_being_written() {
    let corpus = corpus();
    assert!(corpus.len() > 500, "the corpus of tests/golden is there: {} messages", corpus.len());
    for octets in &corpus {
        check(property::wire::holds, octets, "the corpus itself");
    }
    let seconds = number("FUZZ_SECONDS").unwrap_or(10);
    let seed = seed();
    let mut chance = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut tried = 0u64;
    let mut read = 0u64;
    while Instant::now() < end {
        for _ in 0..200 {
            let octets = mutated(&corpus, &mut chance);
            check(property::wire::holds, &octets, &format!("FUZZ_SEED={seed}, input {tried}"));
            read += u64::from(Message::parse(&octets).is_ok());
            tried += 1;
        }
    }
    // A fuzz whose every input is refused at the header would prove nothing.
    assert!(seconds == 0 || read * 50 > tried, "only {read} of {tried} mutations were messages (FUZZ_SEED={seed})");
}

#[test]
fn the_property_notices_what_it_is_for() {
    let looped = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1];
    assert!(Message::parse(&looped).is_err(), "a compression pointer to itself is no message");
    property::wire::holds(&looped);
    let unequal = panic::catch_unwind(|| assert_eq!(Message::parse(&corpus()[0]), Message::parse(&corpus()[1])));
    assert!(unequal.is_err(), "two questions of the corpus compare as different");
}

/// What must hold for any octets, and files to begin with. Files in `tests/data/fuzz/NAME` count too.
type Parser = (&'static str, fn(&[u8]), &'static [&'static str]);

const PARSERS: &[Parser] = &[
    ("api", property::api::holds, &[]),
    ("config", property::config::holds, &["zones/rollcall.toml"]),
    ("decode", property::wire::holds, &[]),
    ("disk", property::disk::holds, &[]),
    ("hop", property::hop::holds, &[]),
    ("import", property::import::holds, &["tests/data/dnsmasq/records.conf", "tests/golden/conf/tuned.json"]),
    ("lists", property::lists::holds, &[]),
    ("proofs", property::proofs::holds, &[]),
    ("reply", property::reply::holds, &[]),
    ("services", property::services::holds, &["zones/sample-service.json"]),
    ("text", property::text::holds, &[]),
    ("zone", property::zone::holds, &["zones/example.test.zone"]),
];

#[test]
fn every_parser_holds_for_what_ships_and_what_once_was_wrong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (seconds, seed) = (number("FUZZ_SECONDS").unwrap_or(10), seed());
    let mut chance = fastrand::Rng::with_seed(seed);
    for (name, holds, files) in PARSERS {
        assert!(root.join(format!("fuzz/fuzz_targets/{name}.rs")).exists(), "{name} has its coverage-guided target");
        let mut corpus: Vec<Vec<u8>> = files.iter().map(|file| read(&root.join(file))).collect();
        let wrong = std::fs::read_dir(root.join("tests/data/fuzz").join(name)).into_iter().flatten();
        corpus.extend(wrong.map(|entry| read(&entry.expect("an entry").path())));
        match *name {
            "decode" | "proofs" | "reply" => corpus.extend(self::corpus()),
            "api" => corpus.extend(requests()),
            _ => {}
        }
        assert!(!corpus.is_empty(), "{name} begins with something");
        for octets in &corpus {
            check(*holds, octets, &format!("{name}, a file of its own"));
        }
        let end = Instant::now() + Duration::from_millis(seconds * 1_000 / PARSERS.len() as u64);
        corpus.push(Vec::new());
        while Instant::now() < end {
            let octets = mutated(&corpus, &mut chance);
            check(*holds, &octets, &format!("{name}, FUZZ_SEED={seed}"));
        }
    }
}

fn check(holds: fn(&[u8]), octets: &[u8], origin: &str) {
    if let Err(cause) = panic::catch_unwind(|| holds(octets)) {
        let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let said = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
        panic!("{}\n  origin  {origin}\n  octets  {text}", said.unwrap_or("it panicked"));
    }
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    number("FUZZ_SEED").unwrap_or(now)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, got {text:?}")))
}

/// The questions of the conformance kit in wire form, its malformed packets, and answers with every kind of record.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for profile in ["base", "tuned"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus").join(profile).join("dns.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in text.lines() {
            let case: serde_json::Value = serde_json::from_str(line).expect("a case of the kit is JSON");
            if let Some(raw) = case["raw"].as_str() {
                corpus.push(octets(raw));
            } else if let (Some(name), Some(qtype)) = (case["name"].as_str(), case["type"].as_str()) {
                corpus.extend(question(name, qtype, case["edns"].as_u64(), !case["ecs"].is_null()));
            }
        }
    }
    let answers: Vec<_> = corpus.iter().filter_map(|octets| Message::parse(octets).ok()).step_by(3).flat_map(answers).collect();
    corpus.extend(answers);
    corpus
}

/// The requests of the conformance kit: a line of method and target, and the body.
fn requests() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus/base/http.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut requests = Vec::new();
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("a case of the kit is JSON");
        for step in case["steps"].as_array().into_iter().flatten() {
            let Some(target) = step["p"].as_str() else { continue };
            let body = step["b"].as_str().map_or_else(|| step["b"].to_string(), str::to_owned);
            requests.push(format!("{} {target}\n{body}", step["m"].as_str().unwrap_or("GET")).into_bytes());
        }
    }
    requests
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).expect("raw questions are hexadecimal") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Written by hand rather than by the code under test.
fn question(name: &str, qtype: &str, edns: Option<u64>, subnet: bool) -> Option<Vec<u8>> {
    let name: Name = name.parse().ok()?;
    let qtype: Type = qtype.parse().ok()?;
    let mut octets = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some() || subnet)];
    octets.extend(name.wire());
    octets.extend(qtype.0.to_be_bytes());
    octets.extend([0, 1]);
    if edns.is_some() || subnet {
        octets.extend([0, 0, 41]);
        octets.extend((edns.unwrap_or(1232) as u16).to_be_bytes());
        let option: &[u8] = if subnet { &[0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100] } else { &[] };
        octets.extend([0, 0, 0, 0, 0, option.len() as u8]);
        octets.extend(option);
    }
    Some(octets)
}

/// One answer with names to compress, and one with every kind of data.
fn answers(mut message: Message) -> [Vec<u8>; 2] {
    let Some(owner) = message.questions.first().map(|question| question.name.clone()) else {
        return [message.compose(true), message.compose(false)];
    };
    let target = owner.prefixed([b"7f000165".as_slice()]).unwrap_or_else(Name::root);
    message.flags.response = true;
    let record = |data| Record::new(owner.clone(), 30, data);
    for port in [80, 8080, 65535] {
        let srv = Srv { priority: 1, weight: 1, port, target: target.clone() };
        message.answers.push(record(RData::Srv(Box::new(srv))));
        message.additionals.push(Record::address(target.clone(), 0, [127, 0, 1, 101].into()));
    }
    let compressed = message.compose(true);
    message.rcode = Rcode::NXDOMAIN;
    let soa = Soa { mname: target.clone(), rname: owner.clone(), serial: 1, refresh: 2, retry: 3, expire: 4, minimum: 5 };
    message.authorities.push(record(RData::Soa(Box::new(soa))));
    message.answers.push(record(RData::Cname(target.clone())));
    message.answers.push(record(RData::Ns(target.clone())));
    message.answers.push(record(RData::Ptr(target.clone())));
    message.answers.push(record(RData::Mx { preference: 10, exchange: target }));
    message.answers.push(record(RData::text(&[b'x'; 700])));
    message.answers.push(record(RData::Opaque { record_type: Type(65280), octets: [0xc0, 12, 0].into() }));
    [compressed, message.compose(true)]
}

/// One to eight small injuries, of the kinds that break parsers: bits, lengths, counts, pointers, cuts, splices.
fn mutated(corpus: &[Vec<u8>], chance: &mut fastrand::Rng) -> Vec<u8> {
    let mut octets = corpus[chance.usize(..corpus.len())].clone();
    for _ in 0..chance.usize(1..=8) {
        if octets.is_empty() {
            octets.push(chance.u8(..));
        }
        let at = chance.usize(..octets.len());
        match chance.u8(..9) {
            0 => octets[at] ^= 1 << chance.u8(..8),
            1 => octets[at] = chance.u8(..),
            2 => octets[at] = [0, 1, 63, 64, 127, 128, 192, 255][chance.usize(..8)],
            3 => octets.truncate(at),
            4 => octets.insert(at, chance.u8(..)),
            5 => {
                // A pointer, mostly to somewhere that exists.
                let target = chance.u16(..octets.len().min(0x3fff) as u16 + 2) | 0xc000;
                octets.splice(at..(at + 2).min(octets.len()), target.to_be_bytes());
            }
            6 => {
                let length = octets.len().min(12);
                octets[chance.usize(..length)] = chance.u8(..4);
            }
            7 => {
                let other = &corpus[chance.usize(..corpus.len())];
                octets.truncate(at);
                octets.extend(&other[chance.usize(..=other.len())..]);
            }
            _ => {
                let end = chance.usize(at..=octets.len());
                let again = octets[at..end].to_vec();
                octets.extend(again);
            }
        }
    }
    octets.truncate(Message::MAX);
    octets
}
