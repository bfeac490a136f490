//! Imports of other programs' configurations, injured: whatever stands in the files, what comes of them is our configuration.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::property;

/// Words that the importers look for, so that an injury is not only noise.
const WORDS: &[&str] = &[
    "server=/",
    "address=/",
    "#",
    "\"",
    "\\",
    "/#/",
    "//",
    "=",
    ",",
    "*",
    "@",
    "[Resolve]\nDNS=",
    "cname=",
    "host-record=",
    "rev-server=0.0.0.0/",
    "rev-server=::/",
    "txt-record=",
    "dns-rr=",
    "alias=",
    "65536",
    "-1",
    "é",
    "\u{e000}",
    "\r\n",
    "domain=",
    "conf-file=/proc/self/mem",
    "conf-dir=/dev",
    "srv-host=",
    "{\"",
    "1.2.3.4",
    "::1",
    ".example",
    "mx-host=",
];

#[test]
fn any_text_is_imported_as_a_configuration_of_ours() {
    let corpus = corpus();
    assert!(corpus.len() > 20, "{} texts", corpus.len());
    let seconds = super::number("FUZZ_SECONDS").unwrap_or(10);
    let seed = super::seed();
    let mut chance = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut tried, mut carried) = (0u64, 0u64);
    for text in &corpus {
        check(text, "the corpus itself");
    }
    while Instant::now() < end {
        let text = injured(&corpus, &mut chance);
        carried += u64::from(check(&text, &format!("FUZZ_SEED={seed}, text {tried}")));
        tried += 1;
    }
    // Texts of which nothing comes over would prove nothing.
    assert!(seconds == 0 || carried * 2 > tried, "something came over of {carried} of {tried} texts (FUZZ_SEED={seed})");
}

/// Does any import of it have a setting that came over?
fn check(text: &str, origin: &str) -> bool {
    panic::catch_unwind(|| property::import::carries(text)).unwrap_or_else(|cause| {
        let said = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
        panic!("{}\n  origin  {origin}\n  text    {text:?}", said.unwrap_or("it panicked"))
    })
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dnsmasq");
    let paths = fs::read_dir(&folder).expect("it is there").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    paths.sort();
    let mut corpus: Vec<String> = paths.iter().map(|path| fs::read_to_string(path).expect("a text")).collect();
    for text in &mut corpus {
        for (place, filled) in [("@GENERAL@", "192.0.2.1"), ("@PRIVATE@", "10.0.0.2#5353"), ("@CONSUL@", "127.0.0.1#8600")] {
            *text = text.replace(place, filled);
        }
        // Places of the disk are for the tests of the importer itself.
        *text = text.replace("@FILES@", "/nonexistent");
    }
    corpus.push("[Resolve]\nDNS=192.0.2.1 [2001:db8::1]:53%eth0#dns.example\nDomains=~corp.example lan\nCache=no\n".to_owned());
    corpus.push(fs::read_to_string(folder.join("../../golden/conf/tuned.json")).expect("a text"));
    corpus
}

/// A text with lines of others, and with characters taken out, put in and doubled.
fn injured(corpus: &[String], chance: &mut fastrand::Rng) -> String {
    let mut text = corpus[chance.usize(..corpus.len())].clone();
    for _ in 0..chance.usize(1..=6) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let mut at = || places[chance.usize(..places.len())];
        let (one, other) = (at(), at());
        let (start, end) = (one.min(other), one.max(other));
        match chance.u8(..6) {
            0 => text.insert_str(start, WORDS[chance.usize(..WORDS.len())]),
            1 if end - start < 40 => text.replace_range(start..end, ""),
            2 => {
                let again = text[start..end].to_owned();
                text.push_str(&again);
            }
            3 => text.push_str(&corpus[chance.usize(..corpus.len())]),
            4 => text.insert(start, char::from(chance.u8(..128))),
            _ => {
                let lines: Vec<&str> = corpus[chance.usize(..corpus.len())].lines().collect();
                let line = lines.get(chance.usize(..lines.len().max(1))).copied().unwrap_or_default();
                text.push_str(&format!("\n{line}\n"));
            }
        }
    }
    text.truncate(text.floor_char_boundary(20_000));
    text
}
