//! Block lists of all forms, injured: whatever stands in a file, it is read to its end, and what is said of it is bounded.

use std::panic;
use std::time::{Duration, Instant};

const CORPUS: &[&str] = &[
    "# hosts\n127.0.0.1 localhost\n::1 ip6-localhost\n0.0.0.0 ads.example tracker.example # both\n",
    "ads.example\n*.wild.example\n.dot.example\nb\u{fc}cher.example\nxn--bcher-kva.example\n",
    "[Adblock Plus 2.0]\n! list\n||ads.example^\n@@||good.ads.example^|\n||*.wild.example^$important\nexample##.ad\n/banner/\n",
    "$TTL 60\n@ SOA localhost. nobody.invalid. 1 3600 600 86400 60\n@ NS localhost.\nads.example CNAME .\n*.ads.example CNAME *.\n\
     pass.example CNAME rpz-passthru.\ndrop.example CNAME rpz-drop.\ntcp.example CNAME rpz-tcp-only.\n\
     data.example A 192.0.2.1\ndata.example TXT \"a\" \"b\"\ngarden.example CNAME *.garden.example.\n\
     24.0.2.0.192.rpz-ip CNAME .\n128.1.zz.db8.2001.rpz-ip AAAA 2001:db8::9\n8.0.0.0.127.rpz-client-ip CNAME *.\n\
     ns.example.rpz-nsdname CNAME .\n32.1.2.0.192.rpz-nsip CNAME .\n",
];

const WORDS: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "\t",
    "#",
    "||",
    "@@||",
    "^",
    "$important",
    "*.",
    ".",
    "..",
    "0.0.0.0 ",
    "::",
    "$ORIGIN ",
    "$INCLUDE /etc/hostname",
    "$TTL",
    " CNAME .",
    " CNAME ",
    "rpz-",
    ".rpz-ip",
    "zz",
    "(",
    ")",
    "\"",
    "\\",
    "\\000",
    ";",
    "\u{0}",
    "\u{feff}",
    "é",
    "SOA",
    "@",
    "[",
    "]",
];

#[test]
fn any_list_is_read_and_what_is_said_of_it_is_bounded() {
    let seconds = super::number("FUZZ_SECONDS").unwrap_or(10);
    let seed = super::seed();
    let mut chance = fastrand::Rng::with_seed(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut tried, mut blocked) = (0u64, 0u64);
    for text in CORPUS {
        assert!(check(text.as_bytes(), "the corpus itself") > 0, "{text} blocks something");
    }
    while Instant::now() < end {
        let octets = injured(&mut chance);
        blocked += u64::from(check(&octets, &format!("FUZZ_SEED={seed}, input {tried}")) > 0);
        tried += 1;
    }
    assert!(seconds == 0 || blocked * 10 > tried, "only {blocked} of {tried} lists blocked anything (FUZZ_SEED={seed})");
}

/// Says how many names a list has.
fn check(octets: &[u8], origin: &str) -> usize {
    panic::catch_unwind(|| super::property::lists::names(octets)).unwrap_or_else(|cause| {
        let said = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
        panic!("{}\n  origin  {origin}\n  octets  {octets:02x?}", said.unwrap_or("it panicked"))
    })
}

/// A list with words of others put in, and octets taken out, put in, changed and doubled.
fn injured(chance: &mut fastrand::Rng) -> Vec<u8> {
    let mut octets = CORPUS[chance.usize(..CORPUS.len())].as_bytes().to_vec();
    for _ in 0..chance.usize(1..=8) {
        let (one, other) = (chance.usize(..=octets.len()), chance.usize(..=octets.len()));
        let (start, end) = (one.min(other), one.max(other));
        match chance.u8(..6) {
            0 | 1 => drop(octets.splice(start..start, WORDS[chance.usize(..WORDS.len())].bytes())),
            2 if end - start < 40 => drop(octets.drain(start..end)),
            3 => {
                let again = octets[start..end].to_vec();
                octets.extend(again);
            }
            4 => octets.extend(CORPUS[chance.usize(..CORPUS.len())].as_bytes()),
            _ => octets.insert(start, chance.u8(..)),
        }
    }
    octets
}
