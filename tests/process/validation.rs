//! Validation, with zones that are really signed, and Unbound as a second opinion of each answer.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::support::dns::{Reply, Signatures};
use crate::support::rollcall::{BINARY, Launch, Rollcall, directory};
use crate::support::signed::Tree;
use crate::support::tools::run;
use crate::support::upstream::{Scripted, Server};
use crate::support::{slack, within};

/// Asks this upstream and validates by these rules.
fn serve(directory: &Path, upstream: std::net::SocketAddr, rules: &str) -> Rollcall {
    let file = directory.join("rollcall.toml");
    let text = format!("[forward]\nupstreams = [\"{upstream}\"]\n[forward.dnssec]\nvalidate = true\n{rules}\n");
    fs::write(&file, text).expect("written");
    Launch::serve(directory).option("--config", file).start()
}

fn code(reply: &Reply) -> Option<u16> {
    reply.extended_error().map(|(code, _)| code)
}

const BOGUS: Option<u16> = Some(6);
const EXPIRED: Option<u16> = Some(7);
const NOT_YET_VALID: Option<u16> = Some(8);
const UNSIGNED: Option<u16> = Some(10);

/// What is asked, and the extended error of what is bogus.
const QUESTIONS: &[(&str, &str, Option<u16>)] = &[
    ("www.good.example", "A", None),
    ("www.good.example", "AAAA", None),
    ("alias.good.example", "A", None),
    ("alias.good.example", "CNAME", None),
    ("across.good.example", "A", None),
    ("far.good.example", "A", None),
    ("gone.good.example", "A", None),
    ("empty.good.example", "AAAA", None),
    ("bad.good.example", "A", EXPIRED),
    ("wildalias.good.example", "A", None),
    ("x.wild.good.example", "A", None),
    ("x.y.wild.good.example", "A", None),
    ("x.wild.good.example", "AAAA", None),
    ("*.wild.good.example", "A", None),
    ("x.alias.good.example", "A", None),
    ("no.good.example", "A", None),
    ("no.no.good.example", "A", None),
    ("www.good.example", "MX", None),
    ("deep.good.example", "A", None),
    ("good.example", "MX", None),
    ("odd.good.example", "TYPE65280", None),
    ("www.tree.good.example", "A", None),
    ("x.wild.tree.good.example", "A", None),
    ("no.tree.good.example", "A", None),
    ("tree.good.example", "DNAME", None),
    ("www.three.example", "A", None),
    ("www.three.example", "MX", None),
    ("no.three.example", "A", None),
    ("no.no.three.example", "A", None),
    ("x.wild.three.example", "A", None),
    ("x.y.wild.three.example", "A", None),
    ("x.wild.three.example", "AAAA", None),
    ("deep.three.example", "A", None),
    ("www.iterated.example", "A", None),
    ("no.iterated.example", "A", None),
    ("www.rsa.example", "A", None),
    ("no.rsa.example", "A", None),
    ("www.p384.example", "A", None),
    ("www.expired.example", "A", EXPIRED),
    ("no.expired.example", "A", EXPIRED),
    ("www.future.example", "A", NOT_YET_VALID),
    ("www.late.example", "A", EXPIRED),
    ("www.stripped.example", "A", UNSIGNED),
    ("no.stripped.example", "A", UNSIGNED),
    ("www.wrongkey.example", "A", BOGUS),
    ("www.oddalg.example", "A", None),
    ("no.oddalg.example", "A", None),
    ("www.mangled.example", "A", BOGUS),
    ("other.mangled.example", "A", None),
    ("www.insecure.example", "A", None),
    ("no.insecure.example", "A", None),
    ("www.insecure.example", "MX", None),
    ("insecure.example", "NS", None),
    ("www.plain.optout", "A", None),
    ("no.plain.optout", "A", None),
    ("www.signed.optout", "A", None),
    ("no.optout", "A", None),
    ("optout", "MX", None),
    ("plain.optout", "DS", None),
    ("signed.optout", "DS", None),
    ("good.example", "DS", None),
    ("insecure.example", "DS", None),
    ("good.example", "DNSKEY", None),
    ("good.example", "SOA", None),
    ("good.example", "NS", None),
    ("example", "DNSKEY", None),
    (".", "DNSKEY", None),
    (".", "NS", None),
    (".", "MX", None),
    ("nothing", "A", None),
    ("no.such.nothing", "A", None),
];

#[test]
fn rfc4035_5_each_answer_is_judged_as_unbound_judges_it() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let validator = tree.validator(directory.path());
    let rules = format!("trust_anchors = [\"{}\"]\ntime_tolerance = \"0s\"", tree.anchor);
    let rollcall = serve(directory.path(), tree.resolver.address, &rules);
    let signed = [RecordType::RRSIG, RecordType::NSEC, RecordType::NSEC3];
    let bits = |dnssec_ok, authentic_data| Signatures { dnssec_ok, authentic_data, size: 4096, ..Signatures::WANTED };
    let mut wrong = Vec::new();
    for &(name, qtype, fault) in QUESTIONS {
        let other = bits(true, false).ask(validator.address, name, qtype);
        let told = |reply: &Reply| (reply.rcode(), reply.is_authentic());
        // Asked twice, since the second answer is one that is kept.
        for (asking, time) in [(bits(true, false), 0), (bits(true, false), 1), (bits(false, true), 0), (bits(false, false), 0)]
        {
            let own = asking.ask(rollcall.dns, name, qtype);
            let wanted = (other.rcode(), other.is_authentic() && (asking.dnssec_ok || asking.authentic_data));
            if told(&own) != wanted
                || own.sorted().len() != if asking.dnssec_ok { other.answers().len() } else { own.answers().len() }
            {
                wrong.push(format!(
                    "{name} {qtype} {asking:?}, time {time}: {wanted:?} of Unbound, got {:?} {own:?}",
                    told(&own)
                ));
            }
            if code(&own) != fault {
                wrong.push(format!("{name} {qtype} {asking:?}, time {time}: error {fault:?}, got {:?}", own.extended_error()));
            }
            let has_proofs = own.types().iter().any(|found| signed.contains(found));
            if has_proofs && !asking.dnssec_ok {
                wrong.push(format!("{name} {qtype} {asking:?}: RFC 4035, 3.2.1: {own:?}"));
            }
        }
        // RFC 4035, 3.2.2: who checks by himself gets what there is.
        let unchecked = Signatures { checking_disabled: true, ..bits(true, false) };
        let (own, other) = (unchecked.ask(rollcall.dns, name, qtype), unchecked.ask(tree.resolver.address, name, qtype));
        if own.octets_of_records() != other.octets_of_records() || own.is_authentic() {
            wrong.push(format!("{name} {qtype} with CD: {own:?} and not {other:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));

    let told = rollcall.cli(["explain", "www.good.example", "--ask"]).ok();
    assert!(told.contains("trust anchor of .") && told.contains("secure"), "{told}");
    let told = rollcall.cli(["explain", "www.expired.example", "--ask"]).ok();
    assert!(told.contains("bogus") && told.contains("expired at"), "{told}");
    let page = rollcall.http.get("/metrics").body;
    let counted = |state: &str| {
        let line = format!("rollcall_validations_total{{state=\"{state}\"}} ");
        let found = page.lines().find_map(|text| text.strip_prefix(&line));
        found.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line} in {page}"))
    };
    assert!(counted("secure") > 50 && counted("insecure") > 5 && counted("bogus") > 5, "{page}");
    let query = |name: &str| Launch::bare(directory.path()).with("query").with(name).with(format!("@{}", rollcall.dns)).run();
    assert!(query("www.good.example").ok().contains("authentic: validated"));
    let said = query("www.expired.example").failed();
    assert!(said.contains("signature expired") && said.contains("rollcall explain"), "{said}");
}

#[test]
fn anchors_below_the_root_exceptions_and_a_clock_that_is_a_little_wrong() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let file = directory.path().join("anchors");
    fs::write(&file, format!("; of this company\n{}\n{}\n", tree.key_of("three.example"), tree.anchor)).expect("written");
    let rules = format!(
        "trust_anchor_file = \"anchors\"\ntrust_anchors = [\"{}\"]\nexceptions = [\"example\", \"wrongkey.example\"]",
        tree.ds_of("late.example").lines().next().expect("a record").replace('\t', " ")
    );
    let rollcall = serve(directory.path(), tree.resolver.address, &rules);
    let asked = |name: &str, qtype: &str| {
        let reply = Signatures::WANTED.ask(rollcall.dns, name, qtype);
        (reply.rcode(), reply.is_authentic())
    };
    let (secure, insecure) = ((ResponseCode::NoError, true), (ResponseCode::NoError, false));
    for (name, qtype, expected) in [
        ("www.good.example", "A", insecure),
        ("www.expired.example", "A", insecure),
        ("www.three.example", "A", secure),
        ("no.three.example", "A", (ResponseCode::NXDomain, true)),
        ("www.signed.optout", "A", secure),
        ("across.good.example", "A", insecure),
        // Ten minutes late, of the hour that is borne with.
        ("www.late.example", "A", secure),
        ("www.wrongkey.example", "A", insecure),
    ] {
        assert_eq!(asked(name, qtype), expected, "{name} {qtype}");
    }
    // The root's own keys are not those of this tree.
    drop(rollcall);
    let rollcall = serve(directory.path(), tree.resolver.address, "exceptions = [\"good.example\"]");
    let reply = Signatures::WANTED.ask(rollcall.dns, "www.three.example", "A");
    assert_eq!((reply.rcode(), code(&reply)), (ResponseCode::ServFail, Some(9)), "{reply:?}");
    assert_eq!(Signatures::WANTED.ask(rollcall.dns, "www.good.example", "A").rcode(), ResponseCode::NoError);
    assert_eq!(rollcall.stderr().matches("no answer can be validated below .").count(), 1, "{}", rollcall.stderr());
}

/// What the resolver replies to these octets.
fn ask_on(resolver: std::net::SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(slack(Duration::from_secs(1)))).expect("a timeout");
    socket.send_to(query, resolver).expect("sent");
    let mut room = [0; 65_535];
    let length = socket.recv(&mut room).ok()?;
    Some(room[..length].to_vec())
}

#[test]
fn an_upstream_that_strips_signatures_is_told_of_once_and_an_island_is_not_taken_for_unsigned() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let resolver = tree.resolver.address;
    // It asks without DO, and so hears no signatures.
    let stripping = Scripted::start(move |heard| {
        let mut query = heard.octets.clone();
        let length = query.len();
        query[length - 4] = 0;
        ask_on(resolver, &query).into_iter().collect()
    });
    let rollcall = serve(directory.path(), stripping.address, &format!("trust_anchors = [\"{}\"]", tree.anchor));
    for name in ["www.good.example", "www.three.example", "www.good.example"] {
        let reply = Signatures::WANTED.ask(rollcall.dns, name, "A");
        assert_eq!((reply.rcode(), code(&reply)), (ResponseCode::ServFail, UNSIGNED), "{reply:?}");
    }
    let said = rollcall.stderr();
    assert_eq!((said.matches("strip signatures").count(), said.matches("validate = false").count()), (1, 1), "{said}");
    drop(rollcall);

    // The keys come signed, all else of the zone without signatures: as somebody on the way would have it.
    let stripping = Scripted::start(move |heard| {
        let mut query = heard.octets.clone();
        let length = query.len();
        if !query.windows(4).any(|octets| octets == [0, 48, 0, 1]) {
            query[length - 4] = 0;
        }
        ask_on(resolver, &query).into_iter().collect()
    });
    let rules = format!("trust_anchors = [\"{}\"]\nexceptions = [\".\"]", tree.key_of("good.example"));
    let rollcall = serve(directory.path(), stripping.address, &rules);
    for (name, qtype) in [("www.good.example", "A"), ("no.good.example", "A"), ("www.good.example", "MX")] {
        let reply = Signatures::WANTED.ask(rollcall.dns, name, qtype);
        assert_eq!(reply.rcode(), ResponseCode::ServFail, "{name}: an anchor says that it is signed: {reply:?}");
    }
    assert_eq!(Signatures::WANTED.ask(rollcall.dns, "www.three.example", "A").rcode(), ResponseCode::NoError);
}

#[test]
fn rfc8767_4_what_is_bogus_takes_the_place_of_nothing_that_was_proved() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let resolver = tree.resolver.address;
    let strips = Arc::new(AtomicBool::new(false));
    let stripped = strips.clone();
    let upstream = Scripted::start(move |heard| {
        let mut query = heard.octets.clone();
        let length = query.len();
        if stripped.load(Ordering::SeqCst) {
            query[length - 4] = 0;
        }
        ask_on(resolver, &query).into_iter().collect()
    });
    let rules = format!("trust_anchors = [\"{}\"]\n[forward.cache]\nmax_ttl = 1", tree.anchor);
    let rollcall = serve(directory.path(), upstream.address, &rules);
    let asked = |name: &str| Signatures::WANTED.ask(rollcall.dns, name, "A");
    assert!(asked("www.good.example").is_authentic());
    strips.store(true, Ordering::SeqCst);
    let (stale, _) = within(slack(Duration::from_secs(2)), "a stale answer", || {
        let reply = asked("www.good.example");
        assert_eq!((reply.rcode(), reply.is_authentic()), (ResponseCode::NoError, true), "{reply:?}");
        if code(&reply) == Some(3) { Ok(reply) } else { Err(format!("{reply:?}")) }
    });
    assert_eq!(stale.types(), [RecordType::A, RecordType::A, RecordType::RRSIG]);
    assert_eq!(asked("www.three.example").rcode(), ResponseCode::ServFail);
}

#[test]
fn what_dnsmasq_validates_the_import_of_its_configuration_validates() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let digest = tree.ds_of("");
    let words: Vec<&str> = digest.split_ascii_whitespace().skip_while(|word| *word != "DS").skip(1).collect();
    let anchor = format!("{},{}", words[..3].join(","), words[3..].concat());
    let place = tree.resolver.address;
    let config = directory.path().join("import.conf");
    let text = format!("no-resolv\nno-hosts\nserver={}#{}\ndnssec\ntrust-anchor=.,{anchor}\n", place.ip(), place.port());
    fs::write(&config, text).expect("written");
    let dnsmasq = Server::dnsmasq(directory.path(), &config);
    let toml = directory.path().join("rollcall.toml");
    run(Command::new(BINARY).args(["import", "dnsmasq"]).arg(&config).arg("--output").arg(&toml)).ok();
    let rollcall = Launch::serve(directory.path()).option("--config", &toml).start();
    for name in ["www.good", "far.good", "www.three", "no.three", "www.insecure", "www.wrongkey", "www.mangled", "www.stripped"]
    {
        let told = |server| {
            let reply = Signatures::WANTED.ask(server, &format!("{name}.example"), "A");
            (reply.rcode(), reply.is_authentic())
        };
        assert_eq!(told(rollcall.dns), told(dnsmasq.address), "{name}");
    }
}

#[test]
fn what_is_mangled_on_the_way_is_bogus_and_ends_nothing() {
    let directory = directory();
    let tree = Tree::plant(directory.path());
    let resolver = tree.resolver.address;
    // The same places in every run.
    let seed = Mutex::new(0x2545_f491_4f6c_dd1d_u64);
    let mangling = Scripted::start(move |heard| {
        let Some(mut reply) = ask_on(resolver, &heard.octets) else { return Vec::new() };
        let mut state = seed.lock().expect("no thread panics with it");
        let question = 17 + heard.octets[12..].iter().position(|octet| *octet == 0).unwrap_or_default();
        for _ in 0..2 {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            if reply.len() > question + 1 && !(*state).is_multiple_of(3) {
                let at = question + (*state >> 8) as usize % (reply.len() - question);
                reply[at] ^= (*state >> 40) as u8 | 1;
            }
        }
        vec![reply]
    });
    let rules = format!("trust_anchors = [\"{}\"]\n[forward.cache]\nsize = 0\nmax_failure_ttl = 1", tree.anchor);
    let rollcall = serve(directory.path(), mangling.address, &rules);
    let right = Signatures::WANTED.ask(resolver, "www.good.example", "A").sorted();
    let (mut well, mut bogus) = (0, 0);
    for n in 0..150 {
        let (name, qtype, _) = QUESTIONS[n % QUESTIONS.len()];
        // What is in no signed zone passes, however it was mangled.
        let Ok(reply) = Signatures::WANTED.try_to_ask(rollcall.dns, name, qtype) else {
            well += 1;
            continue;
        };
        match reply.rcode() {
            ResponseCode::ServFail => bogus += 1,
            _ => well += 1,
        }
        if name == "www.good.example" && qtype == "A" && reply.is_authentic() {
            assert_eq!(reply.sorted(), right, "what is called authentic is right");
        }
    }
    assert!(bogus > 20 && well + bogus == 150, "{well} {bogus}");
    let said = rollcall.stderr();
    assert!(!said.contains("panicked"), "{said}");
    assert!(rollcall.http.get("/metrics").body.contains("rollcall_validations_total"), "it still serves");
}
