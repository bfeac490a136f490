//! What the standards ask of a forwarder, each test named by document and section. More of it stands where it is decided:
//! `rfc…` tests of `resolve::forward`, `resolve::cache`, `upstream` and `server`, and in `forwarding`; `tests/rfcs.md` has all.
//!
//! Queries are written by hand where an encoder would not write them, and the upstream is one that does as it is told.

use std::collections::HashSet;
use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::{Heard, Scripted};
use crate::support::wire::{self, A, AAAA, CNAME, Stream, TXT, has_edns, has_option, opt, query, question_end, record, reply};
use crate::support::{dns, slack, within};

const ANSWER: [u8; 4] = [192, 0, 2, 7];

/// The right reply.
fn right(heard: &Heard) -> Vec<u8> {
    let edns: Vec<Vec<u8>> = if heard.octets[11] > 0 { vec![opt(1232, false, &[])] } else { Vec::new() };
    reply(&heard.octets, [0, 0], [&[record(A, 300, &ANSWER)], &[], &edns])
}

fn serve(upstream: &Scripted, directory: &std::path::Path) -> Rollcall {
    Launch::serve(directory).option("--upstream", upstream.address.to_string()).start()
}

/// What comes back by UDP.
fn ask(rollcall: &Rollcall, octets: &[u8]) -> Vec<u8> {
    wire::ask(rollcall.dns, octets)
}

/// The address in an answer of one A record, asked for without more ado.
fn address(rollcall: &Rollcall, name: &str) -> Vec<String> {
    dns::udp(rollcall.dns, name, "A").expect("an answer").answers()
}

#[test]
fn rfc5452_9_1_wrong_replies_end_no_wait() {
    let upstream = Scripted::start(|heard| {
        let (good, query) = (right(heard), &heard.octets);
        let changed = |at: usize, by: u8| {
            let mut wrong = right(heard);
            wrong[at] ^= by;
            *wrong.last_mut().expect("it has octets") = 66;
            wrong
        };
        let end = question_end(query);
        // The id, the first letter, QTYPE, QCLASS, QR, no question, a record that is not there, half of it, nothing.
        let mut more = changed(11, 0);
        more[11] += 1;
        let no_question = [&query[..2], &[0x80, 0x80, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
        let cut = good[..end + 7].to_vec();
        let mut wrong =
            vec![changed(0, 1), changed(1, 0x80), changed(13, 1), changed(end - 3, 2), changed(end - 1, 2), changed(2, 0x80)];
        wrong.extend([more, no_question, cut, vec![0; 3], Vec::new(), vec![0xff; 600], good]);
        // And somebody else knows the id, the port and the question.
        let stranger = UdpSocket::bind("127.0.0.2:0").expect("an address of loopback");
        drop(stranger.send_to(&changed(0, 0), heard.from));
        wrong
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    // The first are looked up on the runtime, further ones by the worker itself, who knows the upstream by then.
    for n in 0..10 {
        assert_eq!(address(&rollcall, &format!("n{n}.example.net")), ["192.0.2.7"], "question {n}");
    }
}

/// What a record or an OPT record may not be, and octets that are nobody's.
fn malformed(heard: &Heard) -> Option<Vec<u8>> {
    let with = |record: Vec<u8>, additionals: &[Vec<u8>]| reply(&heard.octets, [0, 0], [&[record], &[], additionals]);
    let address = || record(A, 300, &ANSWER);
    Some(match heard.octets.get(13)?.to_ascii_lowercase() {
        b'a' => with(record(A, 300, &[192, 0, 2, 66, 0]), &[]),
        b'b' => with(record(A, 300, &[]), &[]),
        b'c' => with(record(AAAA, 300, &[0; 4]), &[]),
        b'd' => with(record(CNAME, 300, b"\x01x\0\0"), &[]),
        b'e' => with(record(TXT, 300, b"\x09x"), &[]),
        b'f' => with(address(), &[opt(1232, false, &[]), opt(1232, false, &[])]),
        b'g' => with(address(), &[opt(1232, false, &[0, 10, 0])]),
        b'h' => [with(address(), &[]), vec![0; 3]].concat(),
        _ => return None,
    })
}

#[test]
fn rfc9267_a_malformed_reply_is_none() {
    let bad = |heard: &Heard| malformed(heard).unwrap_or_else(|| right(heard));
    let first_bad = Scripted::start(move |heard| vec![bad(heard), right(heard)]);
    let (good, bad) = (Scripted::start(|heard| vec![right(heard)]), Scripted::start(move |heard| vec![bad(heard)]));
    let (directory, edns) = (directory(), [opt(1232, false, &[])]);
    let start = |upstreams: &[&Scripted]| {
        let launch = Launch::serve(directory.path());
        upstreams.iter().fold(launch, |launch, upstream| launch.option("--upstream", upstream.address.to_string())).start()
    };
    // Whoever waits goes on waiting, or asks another. The first are looked up on the runtime, further ones by the worker
    // itself, who knows the upstream by then.
    for upstreams in [&[&first_bad][..], &[&bad, &good]] {
        let rollcall = start(upstreams);
        for (round, letter) in (0..3).flat_map(|round| ('a'..='h').map(move |letter| (round, letter))) {
            for edns in [&[][..], &edns] {
                let answer = ask(&rollcall, &query(&format!("{letter}{round}.{}.example", upstreams.len()), A, edns));
                let end = question_end(&answer);
                assert_eq!(answer[end..end + 16], record(A, 300, &ANSWER), "{letter}, round {round}");
                assert_eq!((answer[3] & 15, answer.len()), (0, end + 16 + edns.concat().len()), "{letter}, round {round}");
            }
        }
    }
    assert!(!bad.heard().is_empty(), "it was asked too");
    let rollcall = start(&[&bad]);
    for letter in ['a', 'f', 'h'] {
        let answer = wire::ask_within(rollcall.dns, &query(&format!("{letter}.example.net"), A, &edns), Duration::from_secs(8));
        assert_eq!((answer[3] & 15, answer[7]), (2, 0), "{letter}");
        assert!(wire::extended_error(&answer).is_some(), "{letter}");
    }
}

#[test]
fn rfc5452_9_2_ports_are_drawn_at_random_among_those_that_are_written() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let config = directory.path().join("rollcall.toml");
    let write = |first: u16| {
        fs::write(&config, format!("[forward]\nports = \"{first}-{}\"\ncookies = false\n", first + 1999)).expect("written");
    };
    write(20_000);
    let launch = Launch::serve(directory.path()).option("--config", &config);
    let rollcall = launch.option("--upstream", upstream.address.to_string()).start();
    for first in [20_000, 30_000] {
        if first == 30_000 {
            write(first);
            rollcall.signal("HUP");
            within(Duration::from_secs(20), "the configuration is read again", || {
                let said = rollcall.stderr();
                if said.contains("the configuration was read again") { Ok(()) } else { Err(said) }
            });
            upstream.heard();
        }
        for n in 0..150 {
            // By a worker itself, and by a look-up.
            address(&rollcall, &format!("u{n}-{first}.example.net"));
            dns::tcp(rollcall.dns, &format!("t{n}-{first}.example.net"), "A").expect("an answer");
        }
        let heard = upstream.heard();
        let ports: HashSet<u16> = heard.iter().map(|one| one.from.port()).collect();
        assert!(heard.len() >= 300);
        assert!(ports.len() > 130 && ports.iter().all(|port| (first..first + 2000).contains(port)), "{ports:?}");
    }
}

#[test]
fn rfc5452_9_2_ids_and_ports_are_drawn_at_random() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for n in 0..300 {
        address(&rollcall, &format!("n{n}.example.net"));
    }
    let heard = upstream.heard();
    assert!(heard.len() >= 300);
    let ids: Vec<u16> = heard.iter().map(|one| u16::from_be_bytes([one.octets[0], one.octets[1]])).collect();
    let ports: Vec<u16> = heard.iter().map(|one| one.from.port()).collect();
    let (different_ids, different_ports) = (HashSet::<&u16>::from_iter(&ids).len(), HashSet::<&u16>::from_iter(&ports).len());
    // 300 draws of 256 ports are 177 on average.
    assert!(different_ids > 285 && different_ports > 130, "{different_ids} ids, {different_ports} ports");
    let steps = ids.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) < 16).count();
    assert!(steps < 10, "{steps} of the ids follow the one before");
}

#[test]
fn rfc5452_9_3_a_forger_who_guesses_is_escaped_by_a_stream() {
    let upstream = Scripted::start(|heard| match heard.by_stream {
        true => vec![right(heard)],
        false => {
            let guess = |n: u16| {
                let mut wrong = right(heard);
                *wrong.last_mut().expect("it has octets") = 66;
                (wrong[0], wrong[1]) = (wrong[0] ^ 1, n as u8);
                wrong
            };
            (0..250).map(guess).collect()
        }
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for n in 0..5 {
        let begun = Instant::now();
        assert_eq!(address(&rollcall, &format!("n{n}.example.net")), ["192.0.2.7"]);
        assert!(begun.elapsed() < slack(Duration::from_millis(100)), "{:?}", begun.elapsed());
    }
}

#[test]
fn rfc2181_5_4_1_what_was_not_asked_for_is_no_answer_later() {
    let upstream = Scripted::start(|heard| {
        let other = [&b"\x05other\x07example\x03net\0"[..], &[0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 66]].concat();
        let other = std::slice::from_ref(&other);
        let sections: [&[Vec<u8>]; 3] = [&[record(A, 300, &ANSWER)], other, other];
        vec![reply(&heard.octets, [0, 0], sections)]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for _ in 0..2 {
        assert_eq!(address(&rollcall, "www.example.net"), ["192.0.2.7"]);
    }
    assert_eq!(upstream.heard().len(), 1, "the answer itself is kept");
    assert_eq!(address(&rollcall, "other.example.net"), ["192.0.2.7"]);
    assert_eq!(upstream.heard().len(), 1, "and what came along with it is not");
}

#[test]
fn rfc2181_9_what_is_truncated_is_neither_kept_nor_given() {
    // Some servers cut within a record.
    for missing in [0, 1, 4, 15] {
        let upstream = Scripted::start(move |heard| match heard.by_stream {
            true => vec![right(heard)],
            false => {
                let mut cut = reply(&heard.octets, [2, 0], [&[record(A, 300, &[192, 0, 2, 66])], &[], &[]]);
                cut.truncate(cut.len() - missing);
                vec![cut]
            }
        });
        let directory = directory();
        let rollcall = serve(&upstream, directory.path());
        for n in [0, 0, 1, 2] {
            assert_eq!(address(&rollcall, &format!("n{n}.example.net")), ["192.0.2.7"]);
        }
        let heard = upstream.heard();
        let streams = heard.iter().filter(|one| one.by_stream).count();
        // Who is not heard is asked three times by datagram, and by TCP a second later.
        assert!(streams == 3 && heard.len() < 9, "each is asked by TCP at once; {missing} octets are missing: {heard:?}");
    }
}

#[test]
fn rfc2308_5_negative_answers_are_kept_by_their_soa_or_not_at_all() {
    let upstream = Scripted::start(|heard| {
        let soa = record(6, 300, &[&[0, 0][..], &[0; 16], &60u32.to_be_bytes()].concat());
        let authorities = if heard.octets[13].eq_ignore_ascii_case(&b'k') { vec![soa] } else { Vec::new() };
        vec![reply(&heard.octets, [0, 3], [&[], &authorities, &[]])]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for (name, times) in [("kept.example.net", 1), ("other.example.net", 3)] {
        for _ in 0..3 {
            let answer = ask(&rollcall, &query(name, A, &[]));
            assert_eq!(
                (answer[3] & 15, answer[9]),
                (3, u8::from(times == 1)),
                "NXDOMAIN, and the SOA record that came with it"
            );
        }
        assert_eq!(upstream.heard().len(), times, "{name}");
    }
}

#[test]
fn rfc3597_4_what_nobody_knows_passes_as_it_is() {
    // Octets that look like a compressed name and are none.
    const DATA: [u8; 8] = [0xc0, 12, 0xc0, 0xff, 3, b'w', b'w', 0];
    let upstream = Scripted::start(|heard| vec![reply(&heard.octets, [0, 0], [&[record(65_280, 300, &DATA)], &[], &[]])]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for spelling in ["www.example.net", "WWW.example.net"] {
        let asked = query(spelling, 65_280, &[]);
        let answer = ask(&rollcall, &asked);
        assert_eq!(answer[question_end(&answer) + 12..], DATA);
        assert_eq!(answer[12..question_end(&answer)], asked[12..], "RFC 4343, 4.1: as this client spelled it");
    }
}

#[test]
fn rfc6672_3_1_a_dname_and_its_alias_pass_as_they_are() {
    let upstream = Scripted::start(|heard| {
        let dname = [&b"\x07example\x03net\0"[..], &[0, 39, 0, 1, 0, 0, 1, 44, 0, 13], b"\x07example\x03org\0"].concat();
        let alias = record(5, 300, b"\x03www\x07example\x03org\0");
        // RFC 6604, 2.1: the code is that of the last name of the chain.
        vec![reply(&heard.octets, [0, 3], [&[dname, alias], &[], &[]])]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    let asked = query("www.example.net", A, &[]);
    let (answer, heard) = (ask(&rollcall, &asked), upstream.heard());
    // From the cache too, with the alias that goes with it.
    let again = ask(&rollcall, &asked);
    assert_eq!((again[3] & 15, again[7], again.len()), (3, 2, answer.len()));
    assert_eq!((answer[3] & 15, answer[7]), (3, 2));
    let sent = reply(&heard[0].octets, [0, 3], [&[], &[], &[]]);
    assert!(answer[12..sent.len()].eq_ignore_ascii_case(&sent[12..]));
    assert!(answer.ends_with(b"\x03www\x07example\x03org\0"));
}

#[test]
fn rfc4035_3_2_do_and_cd_are_the_clients_own() {
    let upstream = Scripted::start(|heard| {
        let query = &heard.octets;
        let dnssec_ok = has_edns(query) && query[question_end(query) + 7] & 0x80 != 0;
        let data: &[u8] = if dnssec_ok { b"\x06signed" } else { b"\x05plain" };
        let edns: Vec<Vec<u8>> = if has_edns(query) { vec![opt(1232, dnssec_ok, &[])] } else { Vec::new() };
        vec![reply(query, [0, 0], [&[record(TXT, 300, data)], &[], &edns])]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for _ in 0..2 {
        for dnssec_ok in [true, false] {
            let answer = ask(&rollcall, &query("www.example.net", TXT, &[opt(1232, dnssec_ok, &[])]));
            let end = question_end(&answer);
            let data = &answer[end + 12..];
            assert_eq!(data.starts_with(b"\x06signed"), dnssec_ok, "{answer:?}");
            let flags = answer[answer.len() - 4];
            assert_eq!(flags & 0x80 != 0, dnssec_ok, "DO comes back as it came (RFC 3225, 3)");
        }
    }
    upstream.heard();
    let mut unchecked = query("cd.example.net", TXT, &[]);
    unchecked[3] |= 0x10;
    assert_eq!(ask(&rollcall, &unchecked)[3] & 0x10, 0x10);
    assert_eq!(upstream.heard()[0].octets[3] & 0x10, 0x10);
}

#[test]
fn rfc6891_6_1_1_an_opt_record_is_of_one_hop() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for (n, edns) in [None, Some(512), Some(4096), Some(65_535), Some(0)].into_iter().cycle().take(10).enumerate() {
        let options: Vec<Vec<u8>> = edns.map(|size| opt(size, false, &[])).into_iter().collect();
        let answer = ask(&rollcall, &query(&format!("n{n}.example.net"), A, &options));
        assert_eq!(has_edns(&answer), edns.is_some(), "an OPT record comes back to who sent one");
        let heard = upstream.heard().remove(0).octets;
        let end = question_end(&heard);
        match edns {
            None => assert_eq!(heard.len(), end),
            // RFC 9715, 3.2: what passes every path unfragmented, whatever the client takes.
            Some(_) => assert_eq!(heard[end..], opt(1232, false, &[])),
        }
    }
}

#[test]
fn rfc6891_6_1_1_what_an_opt_record_says_of_an_upstream_is_not_passed_on() {
    // How long datagrams it takes, a version that is not ours, DO unasked and bits that mean nothing, in front of other records
    // or behind them.
    for is_last in [true, false] {
        let upstream = Scripted::start(move |heard| {
            let mut own = opt(8192, false, &[]);
            own[6..9].copy_from_slice(&[1, 0xff, 0xff]);
            let mut more = vec![record(A, 300, &ANSWER), own];
            if !is_last {
                more.reverse();
            }
            more.retain(|record| heard.octets[11] > 0 || record[0] != 0);
            vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &ANSWER)], &[], &more])]
        });
        let directory = directory();
        let rollcall = serve(&upstream, directory.path());
        let is_ours = |answer: Vec<u8>| answer.windows(11).any(|octets| octets == opt(1232, false, &[]));
        // Looked up, asked for by a worker, and kept.
        for name in ["a.example.net", "b.example.net", "c.example.net", "b.example.net"] {
            let asked = query(name, A, &[opt(1400, false, &[])]);
            assert!(is_ours(ask(&rollcall, &asked)) && is_ours(Stream::open(rollcall.dns).ask(&asked)), "{name} {is_last}");
        }
        assert!(is_ours(Stream::open(rollcall.dns).ask(&query("d.example.net", A, &[opt(1400, false, &[])]))));
        for name in ["b.example.net", "e.example.net", "e.example.net"] {
            let with_cookie = opt(1400, false, &[&[0, 10, 0, 8][..], &[7; 8]].concat());
            let answer = ask(&rollcall, &query(name, A, &[with_cookie]));
            assert!(
                answer.windows(12).any(|octets| octets == [0, 10, 0, 24, 7, 7, 7, 7, 7, 7, 7, 7]),
                "{name} {is_last} {answer:?}"
            );
        }
    }
}

#[test]
fn rfc4035_3_2_1_who_does_not_ask_for_proofs_gets_none() {
    const RRSIG: u16 = 46;
    // Type covered, algorithm, labels, TTL, times, key tag, the root as signer, and a signature.
    let data = [&[0, 1, 13, 3][..], &[0; 14], &[0], &[7; 64]].concat();
    let upstream = Scripted::start(move |heard| {
        let end = question_end(&heard.octets);
        let is_for_proofs = heard.octets[end - 4..end - 2] == RRSIG.to_be_bytes();
        let own = if heard.octets[11] > 0 { vec![opt(1232, true, &[])] } else { Vec::new() };
        let records = [record(RRSIG, 300, &data), record(A, 300, &ANSWER)];
        vec![reply(&heard.octets, [0, 0], [if is_for_proofs { &records[..1] } else { &records }, &records[..1], &own])]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    let [none, plain, proofs] = [vec![], vec![opt(1232, false, &[])], vec![opt(1232, true, &[])]];
    for (qtype, extra, answers, authorities) in
        [(A, &none, 1, 0), (A, &plain, 1, 0), (A, &proofs, 2, 1), (RRSIG, &none, 1, 1), (RRSIG, &plain, 1, 1)]
    {
        // Looked up, asked for by a worker, and kept.
        for name in ["a.example.net", "b.example.net", "c.example.net", "b.example.net"] {
            let answer = ask(&rollcall, &query(name, qtype, extra));
            assert_eq!((answer[7], answer[9]), (answers, authorities), "{name} {qtype} {extra:?}: {answer:?}");
        }
        let answer = Stream::open(rollcall.dns).ask(&query("d.example.net", qtype, extra));
        assert_eq!((answer[7], answer[9]), (answers, authorities), "{qtype} {extra:?}: {answer:?}");
    }
}

#[test]
fn rfc6891_6_1_2_unknown_options_pass_and_their_answers_are_nobody_elses() {
    let upstream = Scripted::start(|heard| {
        let option = [0xfd, 0xe9, 0, 2, b'h', b'i'];
        vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &ANSWER)], &[], &[opt(1232, false, &option)]])]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for _ in 0..2 {
        let answer = ask(&rollcall, &query("www.example.net", A, &[opt(1232, false, &[0xfd, 0xea, 0, 2, b'h', b'o'])]));
        assert!(has_option(&answer, 65_001, b"hi"));
        assert!(has_option(&upstream.heard().remove(0).octets, 65_002, b"ho"), "and it is asked each time");
    }
}

#[test]
fn rfc7873_5_4_and_rfc7871_11_1_what_tells_of_the_client_stays_here() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    let (cookie, subnet, keepalive) = ([7; 8], [0, 1, 24, 0, 198, 51, 100], []);
    let with = |code: u16, data: &[u8]| [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat();
    for (code, data) in [(10, &cookie[..]), (8, &subnet), (11, &keepalive)] {
        let answer = ask(&rollcall, &query("www.example.net", A, &[opt(1232, false, &with(code, data))]));
        assert_eq!(answer[7], 1);
    }
    let heard = upstream.heard();
    assert_eq!(heard.len(), 1, "one answer is good for all of them");
    assert_eq!(heard[0].octets[question_end(&heard[0].octets)..], opt(1232, false, &[]));
}

#[test]
fn rfc5625_4_5_what_is_signed_passes_to_the_octet() {
    let tsig = [&b"\x03key\0"[..], &[0, 250, 0, 255, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat();
    let signed_reply = [opt(4096, false, &[]), tsig.clone()];
    let sent = signed_reply.concat();
    let upstream = Scripted::start(move |heard| match heard.octets[11] {
        0 => vec![right(heard)],
        _ => vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &ANSWER)], &[], &signed_reply])],
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    assert_eq!(address(&rollcall, "www.example.net"), ["192.0.2.7"], "kept without a signature");
    upstream.heard();
    for _ in 0..2 {
        let signed = query("WWW.example.net", A, std::slice::from_ref(&tsig));
        let answer = ask(&rollcall, &signed);
        assert_eq!(upstream.heard().remove(0).octets[2..], signed[2..], "but for the id, which the signature has for itself");
        assert!(answer.ends_with(&sent), "{answer:?}");
    }
}

#[test]
fn rfc5625_4_whatever_is_asked_is_asked_as_it_came() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    let end = question_end(&query("n0.example.net", A, &[]));
    let option = [0xfd, 0xe9, 0, 2, b'h', b'i'];
    // Flags, type, class and options, each as nobody writes them, and what has to come out on the other side.
    for (n, (high, low, qtype, qclass, edns)) in [
        (1, 0, A, 1, vec![]),
        (0, 0, A, 1, vec![]),
        (1, 0x20, A, 1, vec![]),
        (1, 0x10, A, 1, vec![]),
        (1, 0x30, 65_280, 1, vec![]),
        (1, 0, 1_000, 3, vec![]),
        (1, 0, A, 254, vec![]),
        (1, 0, A, 65_280, vec![]),
        (1, 0, A, 1, vec![opt(1232, true, &[])]),
        (1, 0x10, TXT, 1, vec![opt(1232, false, &option)]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut asked = query(&format!("n{n}.example.net"), qtype, &edns);
        (asked[2], asked[3]) = (high, low);
        asked[end - 2..end].copy_from_slice(&u16::to_be_bytes(qclass));
        let answer = ask(&rollcall, &asked);
        let mut heard = upstream.heard().remove(0).octets;
        heard.make_ascii_lowercase();
        assert_eq!(heard[2..], asked[2..], "query {n}");
        assert_eq!(answer[7], 1, "query {n}");
    }
}

#[test]
fn rfc8906_8_whatever_is_asked_has_an_answer() {
    let upstream = Scripted::start(|heard| vec![right(heard)]);
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    let mut stream = Stream::open(rollcall.dns);
    for name in ["www.example.net", "localhost", "x.onion", "x.service.consul", "consul"] {
        let changed = |at: usize, to: u8, edns: &[Vec<u8>]| {
            let mut octets = query(name, A, edns);
            octets[at] = to;
            octets
        };
        let end = question_end(&query(name, A, &[]));
        let edns = |at: usize, to: u8, options: &[u8]| changed(end + at, to, &[opt(1232, false, options)]);
        let (unknown, version, flag) = ([0, 100, 0, 0], 6, 7);
        let many = [&[0, 3, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0, 0, 9, 0, 0, 0, 10, 0, 8][..], &[7; 8]].concat();
        let all = [
            // 8.1: without EDNS.
            ("plain", query(name, A, &[]), vec![0, 3]),
            ("an unknown type", query(name, 1000, &[]), vec![0, 3]),
            ("a class that is not IN", changed(end - 1, 3, &[]), vec![0, 3, 5]),
            ("the last flag of the header", changed(3, 0x40, &[]), vec![0, 3]),
            ("AD", changed(3, 0x20, &[]), vec![0, 3]),
            ("CD", changed(3, 0x10, &[]), vec![0, 3]),
            ("no RD", changed(2, 0, &[]), vec![0, 3]),
            ("opcode 15", changed(2, 15 << 3 | 1, &[]), vec![4]),
            // 8.2: with EDNS.
            ("EDNS", query(name, A, &[opt(4096, false, &[])]), vec![0, 3]),
            ("a small size", query(name, A, &[opt(512, false, &[])]), vec![0, 3]),
            ("version 100", edns(version, 100, &[]), vec![16]),
            ("an unknown option", query(name, A, &[opt(1232, false, &unknown)]), vec![0, 3]),
            ("an unknown flag", edns(flag, 0x40, &[]), vec![0, 3]),
            (
                "version 100 with an unknown flag",
                {
                    let mut octets = edns(version, 100, &[]);
                    octets[end + flag] = 0x40;
                    octets
                },
                vec![16],
            ),
            ("version 100 with an unknown option", edns(version, 100, &unknown), vec![16]),
            ("DO", query(name, A, &[opt(1232, true, &[])]), vec![0, 3]),
            ("NSID, a subnet, EXPIRE and a cookie together", query(name, A, &[opt(1232, false, &many)]), vec![0, 3]),
        ];
        for (what, octets, codes) in all {
            for (way, answer) in [("UDP", ask(&rollcall, &octets)), ("TCP", stream.ask(&octets))] {
                assert!(codes.contains(&wire::rcode(&answer)), "{name}, {what} by {way}: {answer:?}");
                assert_eq!(
                    (answer[2] & 0x80, answer[2] & 2, answer[3] & 0x40),
                    (0x80, 0, 0),
                    "{name}, {what} by {way}: QR, TC, Z"
                );
                assert_eq!(answer[..2], octets[..2], "{name}, {what} by {way}");
                if what.starts_with("version") {
                    assert_eq!(wire::version(&answer), Some(0), "{name}, {what} by {way}: our version");
                }
            }
        }
    }
}

/// An upstream may stumble over bits that mean nothing in a query. Whoever sets them spoils the name for nobody.
#[test]
fn rfc1035_4_1_1_bits_of_a_response_in_a_query_go_no_further() {
    let upstream = Scripted::start(|heard| {
        let stray = heard.octets[2] & 0x06 | heard.octets[3] & 0xc0;
        vec![if stray == 0 { right(heard) } else { reply(&heard.octets, [0, 1], [&[], &[], &[]]) }]
    });
    let directory = directory();
    let rollcall = serve(&upstream, directory.path());
    for (number, (at, bit)) in [(2, 0x02), (2, 0x04), (3, 0x80), (3, 0x40)].into_iter().enumerate() {
        let name = format!("bit{number}.example.net");
        let mut octets = query(&name, A, &[]);
        octets[at] |= bit;
        assert_eq!(ask(&rollcall, &octets)[3] & 15, 0, "octet {at}, bit {bit:#x}");
        assert_eq!(address(&rollcall, &name), ["192.0.2.7"]);
    }
}
