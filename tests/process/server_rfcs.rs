//! What the standards ask of a server: of its listeners, of the answers that are its own, and of names that are nobody's.
//! Each test is named by document and section; what is decided elsewhere is shown there, and `tests/rfcs.md` has all.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use serde_json::json;

use crate::support::rollcall::{Launch, Rollcall, directory};
use crate::support::upstream::{Oracle, Scripted, Silent, Witness};
use crate::support::wire::{
    A, AAAA, ANY, HTTPS, NS, OPT, PTR, SOA, SRV, SVCB, Stream, TXT, ask, counts, extended_error, framed, has_edns, name, opt,
    query, question_end, rcode, record, records, reply, version,
};
use crate::support::{dns, slack};

const NOERROR: u16 = 0;
const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const BADVERS: u16 = 16;

const QR: u8 = 0x80;
const AA: u8 = 4;
const TC: u8 = 2;
const RD: u8 = 1;
const RA: u8 = 0x80;
const Z: u8 = 0x40;
const AD: u8 = 0x20;
const CD: u8 = 0x10;

/// A server with two instances of `web`, sixty of `many`, and an upstream that gives every name one address.
struct Stage {
    rollcall: Rollcall,
    witness: Witness,
    directory: tempfile::TempDir,
}

impl Stage {
    fn set() -> Self {
        Self::with("")
    }

    /// With this configuration besides.
    fn with(config: &str) -> Self {
        let (directory, witness) = (directory(), Witness::start());
        let file = directory.path().join("rollcall.toml");
        std::fs::write(&file, config).expect("written");
        let launch = Launch::serve(directory.path()).option("--config", &file);
        let rollcall = launch.option("--upstream", witness.address.to_string()).start();
        for (service, count) in [("web", 2), ("many", 60)] {
            for number in 1..=count {
                let service = json!({"ID": format!("{service}-{number}"), "Service": service, "Address": format!("127.1.0.{number}"), "Port": 80});
                let body = json!({"Node": "n", "Address": "127.0.0.1", "Service": service});
                rollcall.http.accepts("/v1/catalog/register", &body);
            }
        }
        Self { rollcall, witness, directory }
    }

    fn ask(&self, octets: &[u8]) -> Vec<u8> {
        ask(self.rollcall.dns, octets)
    }

    fn stream(&self) -> Stream {
        Stream::open(self.rollcall.dns)
    }

    /// The answer to a plain query.
    fn answer(&self, name: &str, qtype: u16) -> Vec<u8> {
        self.ask(&query(name, qtype, &[]))
    }

    /// Asserts that these names are answered with this code and without asking anybody, whatever the type.
    fn keeps(&self, names: &[&str], code: u16) {
        for name in names {
            for qtype in [A, AAAA, TXT, PTR, HTTPS, 1000] {
                let answer = self.answer(name, qtype);
                assert_eq!(rcode(&answer), code, "{name} {qtype}");
                // RFC 2308, 2: for how long that holds.
                let soa = records(&answer).iter().filter(|record| record.kind == SOA).count();
                assert_eq!((counts(&answer), soa), ([0, 1, 0], 1), "{name} {qtype}");
            }
        }
        assert_eq!(self.witness.asked(), [""; 0], "nobody was asked");
    }

    /// Asserts that these names are asked for upstream.
    fn passes(&self, names: &[&str]) {
        for name in names {
            assert_eq!(self.rollcall.ask(name, "A").answers(), [Witness::ANSWER], "{name}");
            assert!(self.witness.count(&format!("{name}.")) > 0, "{name}");
        }
    }
}

/// A query with this in its third octet: QR, opcode and RD.
fn with_bits(octets: &[u8], bits: u8) -> Vec<u8> {
    let mut octets = octets.to_vec();
    octets[2] = bits;
    octets
}

#[test]
fn rfc1035_4_1_1_the_header_says_whose_answer_it_is() {
    let stage = Stage::set();
    for (asked_for, own) in [("web.service.consul", true), ("no.service.consul", true), ("www.example.net", false)] {
        for (bits, low) in [(RD, 0), (0, 0), (RD, CD), (RD, AD), (RD, Z)] {
            let mut asked = with_bits(&query(asked_for, A, &[]), bits);
            (asked[0], asked[1], asked[3]) = (bits ^ 0x5a, low, low);
            let answer = stage.ask(&asked);
            assert_eq!(answer[..2], asked[..2], "{asked_for}: its id");
            assert_eq!(answer[2], QR | bits | if own { AA } else { 0 }, "{asked_for}: QR, opcode, AA, TC, RD");
            assert_eq!(answer[3] & (RA | Z), RA, "{asked_for}: RA, and the bit that is to be zero");
            assert_eq!(answer[3] & CD, low & CD, "{asked_for}: CD");
            assert!(!own || answer[3] & AD == 0, "{asked_for}: nobody has validated it");
            assert_eq!(answer[12..question_end(&answer)], asked[12..], "{asked_for}: the question");
        }
    }
}

#[test]
fn rfc1035_4_1_1_what_is_no_query_is_told_so_and_a_response_is_not_answered() {
    let stage = Stage::set();
    let good = query("web.service.consul", A, &[]);
    let mut header = good[..12].to_vec();
    let cut = [&good[..good.len() - 3], &[]].concat();
    for bad in [header.clone(), cut, [&good[..], &[0]].concat(), [&good[..12], &[0xff; 40]].concat()] {
        let answer = stage.ask(&bad);
        assert_eq!((rcode(&answer), &answer[..2]), (FORMERR, &good[..2]), "{bad:?}");
        assert_eq!(stage.stream().ask(&bad)[3] & 15, 1, "{bad:?}");
    }
    // What follows is answered, and what went before is not.
    header[2] |= QR;
    let (socket, mut room) = (UdpSocket::bind("127.0.0.1:0").expect("a port"), [0; 512]);
    socket.set_read_timeout(Some(slack(Duration::from_secs(2)))).expect("a timeout");
    for octets in [&header, &with_bits(&good, QR | RD), &good[..11].to_vec(), &Vec::new(), &[&[7, 7], &good[2..]].concat()] {
        socket.send_to(octets, stage.rollcall.dns).expect("sent");
    }
    let length = socket.recv(&mut room).expect("an answer");
    assert_eq!((&room[..2], counts(&room[..length])[0]), (&[7u8, 7][..], 2));
}

#[test]
fn rfc1035_4_2_1_a_datagram_has_512_octets_unless_its_client_takes_more() {
    let stage = Stage::set();
    let (mut lengths, plain) = (Vec::new(), stage.answer("many.service.consul", A));
    assert!(plain.len() <= 512 && plain[2] & TC != 0 && counts(&plain)[0] > 20, "what fits, and that there is more");
    for size in [0, 100, 512, 600, 1232, 4096, 65_535] {
        let answer = stage.ask(&query("many.service.consul", A, &[opt(size, false, &[])]));
        // RFC 6891, 6.2.3: what is below 512 counts as 512; RFC 9715, 3.2: no more than passes every path.
        assert!(answer.len() <= usize::from(size.clamp(512, 1232)), "{size}: {}", answer.len());
        assert_eq!(answer[2] & TC != 0, counts(&answer)[0] < 60, "{size}");
        lengths.push(answer.len());
    }
    assert!(lengths[0] == lengths[2] && lengths[2] < lengths[3] && lengths[3] < lengths[4], "{lengths:?}");
    let whole = stage.stream().ask(&query("many.service.consul", A, &[]));
    assert_eq!((whole[2] & TC, counts(&whole)[0]), (0, 60), "RFC 7766, 5: TCP gives all of it");
}

#[test]
fn rfc6891_6_2_3_a_size_below_512_counts_as_512() {
    let upstream = Scripted::start(|heard| {
        let addresses: Vec<Vec<u8>> = (0..27).map(|n| record(A, 300, &[192, 0, 2, n])).collect();
        let edns: Vec<Vec<u8>> = if heard.octets[11] > 0 { vec![opt(1232, false, &[])] } else { Vec::new() };
        vec![reply(&heard.octets, [0, 0], [&addresses, &[], &edns])]
    });
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    // The second time it is kept, and the third one near.
    for round in 0..4 {
        let answer = ask(rollcall.dns, &query("www.example.net", A, &[opt(16, false, &[])]));
        assert_eq!((answer[2] & TC, counts(&answer)[0], answer.len() <= 512), (0, 27, true), "round {round}");
    }
}

#[test]
fn rfc9715_3_2_forwarded_answers_above_1232_octets_go_by_tcp() {
    let upstream = Scripted::start(|heard| {
        let texts: Vec<Vec<u8>> = (0..8).map(|n| record(TXT, 300, &[&[200], &[n; 200][..]].concat())).collect();
        let edns: Vec<Vec<u8>> = if heard.octets[11] > 0 { vec![opt(4096, false, &[])] } else { Vec::new() };
        vec![reply(&heard.octets, [0, 0], [&texts, &[], &edns])]
    });
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    for n in [0, 0, 1] {
        let asked = query(&format!("n{n}.example.net"), TXT, &[opt(4096, false, &[])]);
        let answer = ask(rollcall.dns, &asked);
        assert!(answer[2] & TC != 0 && answer.len() <= 1232, "{}", answer.len());
        // RFC 5625, 4.4.1: what an upstream sends beyond that passes whole, where it may.
        assert_eq!(counts(&Stream::open(rollcall.dns).ask(&asked))[0], 8);
    }
}

#[test]
fn rfc1035_4_2_2_and_rfc7766_8_a_message_and_its_length_come_together() {
    let stage = Stage::set();
    for asked_for in ["web.service.consul", "www.example.net"] {
        let mut stream = stage.stream();
        stream.put(&query(asked_for, A, &[]));
        assert!(stream.read_once() > 14, "{asked_for}: the length did not come alone");
        // And whatever comes in pieces is read.
        for octet in framed(&query(asked_for, A, &[])).chunks(1) {
            stream.send(octet);
        }
        assert_eq!(rcode(&stream.get()), NOERROR, "{asked_for}");
    }
}

#[test]
fn rfc7766_6_2_1_1_queries_of_one_connection_are_answered_as_they_are_ready() {
    let (directory, silent) = (directory(), Silent::start());
    let rollcall = Launch::serve(directory.path()).option("--upstream", silent.address.to_string()).start();
    let mut stream = Stream::open(rollcall.dns);
    let mut slow = query("www.example.net", A, &[]);
    slow[1] = 1;
    let quick: Vec<Vec<u8>> = (2..40).map(|id| [&[0x5e, id], &query("localhost", A, &[])[2..]].concat()).collect();
    // All of them in one segment (RFC 7766, 6.2.1.1: pipelining).
    stream.send(&[framed(&slow), quick.iter().flat_map(|one| framed(one)).collect()].concat());
    let mut ids: Vec<u8> = (0..39).map(|_| stream.get()[1]).collect();
    assert_eq!(ids.pop(), Some(1), "the one that nobody answers comes last");
    ids.sort_unstable();
    assert_eq!(ids, (2..40).collect::<Vec<u8>>());
}

#[test]
fn rfc9210_3_and_4_3_queries_by_tcp_are_answered_at_once_and_counted_apart() {
    let stage = Stage::set();
    for _ in 0..3 {
        assert_eq!(counts(&stage.stream().ask(&query("web.service.consul", A, &[])))[0], 2);
    }
    stage.answer("web.service.consul", A);
    let metrics = stage.rollcall.http.get("/metrics").body;
    let of = |transport: &str| -> f64 {
        let wanted = format!("transport=\"{transport}\"");
        let lines = metrics.lines().filter(|line| line.starts_with("rollcall_queries_total{") && line.contains(&wanted));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert_eq!((of("tcp"), of("udp")), (3.0, 1.0), "{metrics}");
}

/// Asserts that this is not implemented, over UDP and TCP, of our names and others', and that the connection stays open.
fn not_implemented(opcode: u8, message: impl Fn(&str) -> Vec<u8>) {
    let stage = Stage::set();
    let mut stream = stage.stream();
    for name in ["web.service.consul", "consul", "www.example.net"] {
        let asked = with_bits(&message(name), opcode << 3);
        for answer in [stage.ask(&asked), stream.ask(&asked)] {
            assert_eq!((rcode(&answer), &answer[..2]), (NOTIMP, &asked[..2]), "{name}");
            assert_eq!(answer[2] & !RD, QR | opcode << 3, "{name}: the opcode comes back, and nothing is claimed");
        }
    }
    assert_eq!(counts(&stream.ask(&query("web.service.consul", A, &[])))[0], 2, "the connection goes on");
    assert_eq!(stage.witness.asked(), [""; 0], "and nobody was asked");
}

#[test]
fn rfc3425_3_inverse_queries_are_not_implemented() {
    not_implemented(1, |name| query(name, A, &[]));
}

#[test]
fn rfc1996_3_11_notifications_are_not_implemented() {
    not_implemented(4, |name| query(name, SOA, &[]));
}

#[test]
fn rfc2136_2_2_updates_are_not_implemented() {
    not_implemented(5, |zone| {
        // One zone, no prerequisite, one record to add.
        let mut update = query(zone, SOA, &[]);
        update[9] = 1;
        update.extend(record(A, 300, &[192, 0, 2, 66]));
        update
    });
}

#[test]
fn rfc8490_5_1_1_a_stateful_session_is_not_implemented_and_the_connection_goes_on() {
    // No question, and a TLV that asks for keepalive.
    let session = [&[0x5e, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 1, 0, 8, 0, 0, 0x3a, 0x98, 0, 0, 0x3a, 0x98]].concat();
    not_implemented(6, |_| session.clone());
}

#[test]
fn rfc8906_3_1_3_unknown_opcodes_are_not_implemented() {
    for opcode in [2, 3, 7, 15] {
        not_implemented(opcode, |name| query(name, A, &[]));
    }
}

#[test]
fn rfc5936_2_2_and_rfc1995_4_our_zones_are_not_transferred() {
    let stage = Stage::set();
    for qtype in [251, 252] {
        for answer in [stage.answer("consul", qtype), stage.stream().ask(&query("consul", qtype, &[]))] {
            assert_eq!((rcode(&answer), counts(&answer)), (NOTIMP, [0; 3]), "{qtype}");
        }
    }
    assert_eq!(stage.witness.asked(), [""; 0]);
}

#[test]
fn rfc9619_4_a_query_has_one_question() {
    let stage = Stage::set();
    let one = query("web.service.consul", A, &[]);
    for (count, questions) in [(0, &one[..0]), (2, &one[12..]), (2, &[&one[12..], &one[12..]].concat()), (255, &one[12..])] {
        let mut asked = [&one[..12], questions].concat();
        asked[5] = count;
        for answer in [stage.ask(&asked), stage.stream().ask(&asked)] {
            assert_eq!((rcode(&answer), counts(&answer)), (FORMERR, [0; 3]), "{count} questions");
        }
    }
}

#[test]
fn rfc6891_6_1_1_one_opt_record_and_only_for_who_sent_one() {
    let stage = Stage::set();
    for name in ["web.service.consul", "no.service.consul", "localhost", "x.onion", "www.example.net"] {
        assert!(!has_edns(&stage.answer(name, 1000)), "{name}");
        let answer = stage.ask(&query(name, 1000, &[opt(1232, false, &[])]));
        assert_eq!(records(&answer).iter().filter(|record| record.kind == 41).count(), 1, "{name}");
        // Unknown options are passed over (6.1.2), and so are flags (6.1.4).
        let mut odd = query(name, A, &[opt(1232, false, &[0xfd, 0xe9, 0, 1, 7])]);
        let flags = odd.len() - 8;
        odd[flags] |= 0x40;
        assert_ne!(rcode(&stage.ask(&odd)), FORMERR, "{name}");
        let two = query(name, A, &[opt(1232, false, &[]), opt(1232, false, &[])]);
        assert_eq!(stage.ask(&two)[3] & 15, 1, "{name}: FORMERR");
    }
}

#[test]
fn rfc6891_6_1_3_another_version_is_told_ours() {
    let stage = Stage::set();
    for name in ["web.service.consul", "localhost", "www.example.net"] {
        let mut asked = query(name, A, &[opt(1232, false, &[])]);
        let at = asked.len() - 5;
        asked[at] = 1;
        for answer in [stage.ask(&asked), stage.stream().ask(&asked)] {
            assert_eq!((rcode(&answer), counts(&answer)), (BADVERS, [0, 0, 1]), "{name}");
            assert_eq!(version(&answer), Some(0), "{name}");
        }
    }
    assert_eq!(stage.witness.asked(), [""; 0]);
}

#[test]
fn rfc2308_3_our_negative_answers_bear_their_ttl_in_both_places() {
    let stage = Stage::with("[[record]]\nname = \"mine.example\"\ntype = \"A\"\nvalue = \"192.0.2.7\"\n");
    for (name, qtype, code) in [
        ("no.service.consul", A, NXDOMAIN),
        ("web.service.consul", TXT, NOERROR),
        ("mine.example", TXT, NOERROR),
        ("x.invalid", A, NXDOMAIN),
    ] {
        let answer = stage.answer(name, qtype);
        let soa = &records(&answer)[0];
        assert_eq!((rcode(&answer), counts(&answer), soa.kind), (code, [0, 1, 0], SOA), "{name}");
        assert_eq!(soa.ttl.to_be_bytes(), soa.data[soa.data.len() - 4..], "{name}: TTL and MINIMUM");
        assert!((1..=60).contains(&soa.ttl), "{name}: {} s", soa.ttl);
    }
}

#[test]
fn rfc2782_a_service_is_found_by_its_own_form_of_name_with_the_addresses_of_its_targets() {
    let stage = Stage::set();
    for name in ["_web._tcp.service.consul", "web.service.consul"] {
        let answer = stage.ask(&query(name, SRV, &[opt(1232, false, &[])]));
        let all = records(&answer);
        let services: Vec<_> = all.iter().filter(|record| record.kind == SRV).collect();
        assert_eq!(services.len(), 2, "{name}");
        for service in services {
            assert_eq!(service.data[4..6], [0, 80], "{name}: the port");
            assert_ne!(service.data[6..], [0], "{name}: the root would mean that there is none");
            assert!(service.data[6..].ends_with(b"\x06consul\0"), "{name}: RFC 2782 has no compression in the target");
        }
        assert_eq!(all.iter().filter(|record| record.kind == A).count(), 2, "{name}: their addresses, which are no aliases");
    }
}

#[test]
fn rfc8482_4_any_is_never_answered_with_everything_by_a_datagram() {
    let upstream = Scripted::start(|heard| {
        let texts: Vec<Vec<u8>> = (0..4).map(|n| record(TXT, 300, &[3, n, n, n])).collect();
        vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &[192, 0, 2, 7]), texts.concat()][..1], &[], &[]])]
    });
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    for edns in [vec![], vec![opt(4096, true, &[])], vec![opt(4096, false, &[0xfd, 0xe9, 0, 0])]] {
        let answer = ask(rollcall.dns, &query("www.example.net", ANY, &edns));
        assert_eq!((answer[2] & TC, counts(&answer)[0], counts(&answer)[1]), (TC, 0, 0));
        assert!(answer.len() <= query("www.example.net", ANY, &edns).len() + 11, "it does not amplify");
    }
    assert_eq!(upstream.heard().len(), 0, "nobody was asked");
    assert_eq!(counts(&Stream::open(rollcall.dns).ask(&query("www.example.net", ANY, &[])))[0], 1);
    assert_eq!(upstream.heard().len(), 1, "whoever comes by TCP is there");
    // Of our own names there is one RRset to give.
    let stage = Stage::set();
    let answer = stage.answer("web.service.consul", ANY);
    assert!(answer[2] & TC == 0 && counts(&answer)[0] == 2 && answer.len() < 512);
    let kinds: Vec<u16> = records(&answer).iter().map(|record| record.kind).collect();
    assert!(kinds.iter().all(|kind| *kind == A), "{kinds:?}");
}

#[test]
fn rfc8305_3_a_family_without_addresses_is_told_at_once_and_asked_of_nobody() {
    let stage = Stage::set();
    for (name, qtype) in [("web.service.consul", AAAA), ("web.service.consul", HTTPS), ("web.service.consul", SVCB)] {
        let begun = Instant::now();
        let answer = stage.answer(name, qtype);
        assert_eq!((rcode(&answer), counts(&answer)), (NOERROR, [0, 1, 0]), "{name} {qtype}");
        assert!(begun.elapsed() < slack(Duration::from_millis(50)), "{:?}", begun.elapsed());
    }
    assert_eq!(stage.witness.asked(), [""; 0]);
    // A and AAAA together, as clients send them: both come, whichever is first.
    let mut stream = stage.stream();
    stream.send(&[framed(&query("web.service.consul", A, &[])), framed(&query("web.service.consul", AAAA, &[]))].concat());
    let mut answered = [counts(&stream.get())[0], counts(&stream.get())[0]];
    answered.sort_unstable();
    assert_eq!(answered, [0, 2]);
}

#[test]
fn rfc1982_3_2_our_serial_grows_over_a_crash() {
    let mut stage = Stage::set();
    let serial = |dns: SocketAddr| {
        let answer = ask(dns, &query("consul", SOA, &[]));
        let soa = records(&answer).into_iter().find(|record| record.kind == SOA).expect("a SOA record");
        assert_eq!((answer[2] & AA, counts(&answer)[0]), (AA, 1));
        let numbers = soa.data.len() - 20;
        u32::from_be_bytes(soa.data[numbers..numbers + 4].try_into().expect("four octets"))
    };
    let before = serial(stage.rollcall.dns);
    stage.rollcall.kill();
    stage.rollcall = Launch::serve(stage.directory.path()).start();
    let after = serial(stage.rollcall.dns);
    assert!(after.wrapping_sub(before) < 1 << 31, "{before}, then {after}");
    // As if the host's clock had been an hour ahead until then.
    stage.rollcall.kill();
    let file = stage.directory.path().join("data/serial");
    let promised: u32 = std::fs::read_to_string(&file).expect("kept").trim().parse().expect("a number");
    assert!(promised >= after, "a crash is no reason to go back: {promised} after {after}");
    std::fs::write(&file, (promised + 3_600).to_string()).expect("written");
    stage.rollcall = Launch::serve(stage.directory.path()).start();
    assert!(serial(stage.rollcall.dns) >= promised + 3_600, "whatever the clock says");
}

#[test]
fn rfc1034_4_2_1_the_zone_has_name_servers_with_addresses() {
    let stage = Stage::set();
    let answer = stage.ask(&query("consul", NS, &[opt(1232, false, &[])]));
    let all = records(&answer);
    assert_eq!((rcode(&answer), all[0].kind, answer[2] & AA), (NOERROR, NS, AA));
    assert!(all.iter().any(|record| record.kind == A), "glue: {all:?}");
    let mname = records(&stage.answer("consul", SOA))[0].clone();
    assert!(mname.data.starts_with(b"\x02ns"), "{mname:?}");
    assert_eq!(rcode(&stage.answer("ns.consul", A)), NOERROR);
    assert_eq!(counts(&stage.answer("ns.consul", A))[0], 1, "what the SOA record names has an address");
}

#[test]
fn rfc4343_4_1_letters_come_back_as_they_were_asked_for() {
    let stage = Stage::set();
    for asked_for in ["WEB.Service.consul", "No.SERVICE.Consul", "LocalHost", "X.ONION", "WwW.example.NET"] {
        let asked = query(asked_for, A, &[]);
        for answer in [stage.ask(&asked), stage.ask(&asked), stage.stream().ask(&asked)] {
            assert_eq!(answer[12..question_end(&answer)], asked[12..], "{asked_for}");
        }
        let lower = stage.answer(&asked_for.to_lowercase(), A);
        assert_eq!((rcode(&stage.ask(&asked)), counts(&stage.ask(&asked))), (rcode(&lower), counts(&lower)), "{asked_for}");
    }
}

#[test]
fn rfc2181_11_labels_are_octets() {
    let upstream = Scripted::start(|heard| vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &[192, 0, 2, 7])], &[], &[]])]);
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    let labels: [&[u8]; 5] = [b"\0", b"a.b", b"_dmarc", &[0xff; 63], b" *\\\""];
    for label in labels {
        let mut asked = query("www.example.net", A, &[]);
        asked.splice(12..16, [&[label.len() as u8], label].concat());
        for _ in 0..2 {
            let answer = ask(rollcall.dns, &asked);
            assert_eq!((answer[2] & TC, rcode(&answer), counts(&answer)[0]), (0, NOERROR, 1), "{label:?}");
            assert_eq!(answer[12..question_end(&answer)], asked[12..], "{label:?}");
        }
        assert_eq!(upstream.heard().len(), 1, "{label:?}: and it is kept");
    }
}

#[test]
fn rfc6604_3_the_code_is_that_of_the_end_of_the_chain_and_aa_that_of_its_begin() {
    let (directory, oracle, silent) = (directory(), Oracle::start(1), Silent::start());
    let file = directory.path().join("rollcall.toml");
    let alias = |name: &str, to: &str| format!("[[record]]\nname = \"{name}\"\ntype = \"CNAME\"\nvalue = \"{to}\"\n");
    let config = [
        alias("gone.test", "nx.example.net."),
        alias("there.test", "www.example.net."),
        alias("none.test", "x.invalid."),
        alias("dead.test", "www.dead.example."),
        format!(
            "[forward]\ntimeout = \"300ms\"\n[[forward.route]]\ndomains = [\"dead.example\"]\nupstreams = [\"{}\"]\n",
            silent.address
        ),
    ];
    std::fs::write(&file, config.concat()).expect("written");
    let launch = Launch::serve(directory.path()).option("--config", &file);
    let rollcall = launch.option("--upstream", oracle.address.to_string()).start();
    let cases =
        [("gone.test", NXDOMAIN, 1), ("there.test", NOERROR, 2), ("none.test", NXDOMAIN, 1), ("dead.test", SERVFAIL, 1)];
    for (name, code, answers) in cases {
        let answer = ask(rollcall.dns, &query(name, A, &[]));
        assert_eq!((rcode(&answer), counts(&answer)[0], answer[2] & AA), (code, answers, AA), "{name}");
        // RFC 1034, 4.3.2: the alias first.
        assert_eq!(records(&answer)[0].kind, 5, "{name}");
    }
}

#[test]
fn rfc8020_2_nothing_is_below_a_name_that_does_not_exist() {
    let upstream = Scripted::start(|heard| {
        let soa = record(SOA, 300, &[&[0, 0][..], &[0; 16], &300u32.to_be_bytes()].concat());
        match heard.octets[13].to_ascii_lowercase() {
            b'n' => vec![reply(&heard.octets, [0, AD | 3], [&[], &[soa], &[]])],
            b'u' => vec![reply(&heard.octets, [0, 3], [&[], &[soa], &[]])],
            _ => vec![reply(&heard.octets, [0, 0], [&[record(A, 300, &[192, 0, 2, 7])], &[], &[]])],
        }
    });
    let (directory, other) = (directory(), Witness::start());
    let file = directory.path().join("rollcall.toml");
    let config = format!(
        "[[forward.route]]\ndomains = [\"routed.no.example.net\"]\nupstreams = [\"{}\"]\n\
         [[record]]\nname = \"mine.no.example.net\"\ntype = \"A\"\nvalue = \"192.0.2.9\"\n",
        other.address
    );
    std::fs::write(&file, config).expect("written");
    let launch = Launch::serve(directory.path()).option("--config", &file);
    let rollcall = launch.option("--upstream", upstream.address.to_string()).start();
    let asked = |name: &str, qtype: u16| {
        let mut octets = query(name, qtype, &[]);
        octets[3] |= AD;
        octets
    };
    let code = |name: &str, qtype: u16| rcode(&ask(rollcall.dns, &asked(name, qtype)));
    assert_eq!((code("no.example.net", A), upstream.heard().len()), (NXDOMAIN, 1));
    // RFC 2308, 5: of no type; and of nothing below, over TCP neither.
    for (name, qtype) in [("no.example.net", AAAA), ("www.no.example.net", A), ("a.b.c.NO.example.net", TXT)] {
        let answers = [ask(rollcall.dns, &asked(name, qtype)), Stream::open(rollcall.dns).ask(&asked(name, qtype))];
        for answer in answers {
            assert_eq!((rcode(&answer), counts(&answer), records(&answer)[0].kind), (NXDOMAIN, [0, 1, 0], SOA), "{name}");
        }
    }
    assert_eq!(upstream.heard().len(), 0, "nobody was asked again");
    // Not across what others are asked about, nor what is known here.
    assert_eq!(rollcall.ask("www.routed.no.example.net", "A").answers(), [Witness::ANSWER]);
    assert_eq!(rollcall.ask("mine.no.example.net", "A").answers(), ["192.0.2.9"]);
    assert_eq!((code("example.net", A), code("xno.example.net", A)), (NOERROR, NOERROR));
    // What nobody has proved holds for the name alone: an upstream may know what is below all the same.
    assert_eq!(
        (code("unproved.net", A), code("www.unproved.net", A), code("unproved.net", AAAA)),
        (NXDOMAIN, NOERROR, NXDOMAIN)
    );
}

#[test]
fn rfc2181_5_4_1_a_route_s_upstream_says_nothing_of_names_beyond_it() {
    // It leads its alias, and whoever believes it, to an address of its own.
    let liar = Scripted::start(|heard| {
        let alias = record(5, 300, &name("www.bank.example"));
        let address = [&name("www.bank.example")[..], &[0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 66]].concat();
        let server = [&name("bank.example")[..], &[0, 2, 0, 1, 0, 0, 1, 44, 0, 1, 0]].concat();
        vec![reply(&heard.octets, [AA, 0], [&[alias, address.clone()], &[server], &[address]])]
    });
    let (directory, witness) = (directory(), Witness::start());
    let file = directory.path().join("rollcall.toml");
    let config = format!("[[forward.route]]\ndomains = [\"corp.example\"]\nupstreams = [\"{}\"]\n", liar.address);
    std::fs::write(&file, config).expect("written");
    let launch = Launch::serve(directory.path()).option("--config", &file);
    let rollcall = launch.option("--upstream", witness.address.to_string()).start();
    let at = |name: &str| rollcall.ask(name, "A").answers().pop();
    for _ in 0..2 {
        assert_eq!(at("x.corp.example").as_deref(), Some("192.0.2.66"), "of its own names it may say what it likes");
        assert_eq!(at("www.bank.example").as_deref(), Some(Witness::ANSWER));
        assert_eq!(rcode(&ask(rollcall.dns, &query("web.service.consul", A, &[]))), NXDOMAIN);
    }
    assert_eq!(witness.count("web.service.consul."), 0, "below our own domain nobody is asked at all");
}

#[test]
fn rfc5001_2_1_who_asks_is_told_which_instance_answers() {
    let (asked, name) = ([0, 3, 0, 0], [&[0, 3, 0, 5][..], b"dns-1"].concat());
    for (stage, is_named) in [(Stage::with("[dns]\nnsid = \"dns-1\"\n"), true), (Stage::set(), false)] {
        for asked_for in ["web.service.consul", "no.service.consul", "localhost", "x.onion", "www.example.net"] {
            let query = |options: &[u8]| query(asked_for, A, &[opt(1232, false, options)]);
            for answer in [stage.ask(&query(&asked)), stage.stream().ask(&query(&asked))] {
                let edns = records(&answer).pop().expect("an OPT record").data;
                assert_eq!(edns.windows(9).any(|octets| octets == name), is_named, "{asked_for}");
            }
            let unasked = records(&stage.ask(&query(&[]))).pop().expect("an OPT record").data;
            assert!(!unasked.windows(9).any(|octets| octets == name), "{asked_for}: only when asked");
        }
        // It is of this hop: whoever is asked further on is not asked that.
        assert!(stage.witness.count("www.example.net.") <= 1, "one answer is good for all");
    }
}

#[test]
fn rfc4892_3_a_server_says_what_it_is_called_where_that_is_written() {
    for (config, code) in [("[dns]\nnsid = \"dns-1\"\n", NOERROR), ("", REFUSED)] {
        let stage = Stage::with(config);
        let asked = |name: &str, qtype: u16| {
            let mut octets = query(name, qtype, &[]);
            *octets.last_mut().expect("a class") = 3;
            stage.ask(&octets)
        };
        for name in ["id.server", "HostName.Bind"] {
            let answer = asked(name, TXT);
            assert_eq!(rcode(&answer), code, "{name}");
            let told: Vec<Vec<u8>> = records(&answer).into_iter().map(|record| record.data).collect();
            assert_eq!(told, if code == NOERROR { vec![b"\x05dns-1".to_vec()] } else { Vec::new() }, "{name}");
            let answer = asked(name, A);
            assert_eq!((rcode(&answer), records(&answer).len()), (code, 0), "{name}");
        }
        for name in ["version.server", "version.bind"] {
            assert_eq!(rcode(&asked(name, TXT)), REFUSED, "{name}");
        }
        for name in ["id.server.", "hostname.bind.", "version.bind."] {
            assert_eq!(stage.witness.count(name), 0, "{name}: no other server's");
        }
        assert_eq!(rcode(&stage.answer("id.server", A)), NOERROR, "in class IN it is a name like any other");
        assert_eq!(stage.witness.count("id.server."), 1);
    }
}

#[test]
fn rfc8914_4_a_look_up_that_failed_says_why() {
    let (directory, silent) = (directory(), Silent::start());
    let file = directory.path().join("rollcall.toml");
    std::fs::write(&file, "[forward]\ntimeout = \"300ms\"\n").expect("written");
    let launch = Launch::serve(directory.path()).option("--config", &file);
    let rollcall = launch.option("--upstream", silent.address.to_string()).start();
    let asked = |name: &str| query(name, A, &[opt(1232, false, &[])]);
    for round in ["asked", "remembered"] {
        let answer = ask(rollcall.dns, &asked("www.example.net"));
        let expected = if round == "asked" { vec![22] } else { vec![13, 22] };
        let code = extended_error(&answer).expect("a reason");
        assert!(rcode(&answer) == SERVFAIL && expected.contains(&code), "{round}: {code}");
        assert_eq!(answer[3] & RA, RA);
    }
    let alone = Launch::serve(&directory.path().join("alone"));
    std::fs::create_dir_all(directory.path().join("alone")).expect("a directory");
    let file = directory.path().join("alone/rollcall.toml");
    std::fs::write(&file, "[forward]\nupstreams = []\n").expect("written");
    let alone = alone.option("--config", &file).start();
    let answer = ask(alone.dns, &asked("www.example.net"));
    assert_eq!((rcode(&answer), extended_error(&answer)), (REFUSED, Some(18)));
}

/// A zone file, a list, routes, names of one label and private ones that are all answered here, and clients that are not.
const SHUT: &str = r#"
private_names = "block"

[[record]]
name = "round.example"
type = "CNAME"
value = "round.example"

[zones]
folder = "."

[forward]
domain_needed = true

[[forward.route]]
domains = ["shut.example"]
upstreams = []

[[block]]
lists = ["ads"]
"#;

#[test]
fn rfc8914_4_whatever_we_answer_with_an_error_says_which() {
    const OTHER: Option<u16> = Some(0);
    const BLOCKED: Option<u16> = Some(15);
    const NOT_SUPPORTED: Option<u16> = Some(21);
    const CHAOS: u16 = 3;
    let (directory, witness) = (directory(), Witness::start());
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("rollcall.toml", SHUT);
    write("ads", "ads.example\n");
    write("own.example.zone", "@ 60 SOA ns hostmaster 1 2 3 4 5\nround 60 CNAME round\n");
    let launch = Launch::serve(directory.path()).option("--config", directory.path().join("rollcall.toml"));
    let rollcall = launch.option("--upstream", witness.address.to_string()).start();
    let of_class = |mut octets: Vec<u8>, class: u16| {
        let end = question_end(&octets);
        octets[end - 2..end].copy_from_slice(&class.to_be_bytes());
        octets
    };
    let ours = query("web.service.consul", A, &[]);
    let with_two = [&ours[..4], &[0, 2], &ours[6..], &ours[12..]].concat();
    let cut_record = [&ours[..6], &[0, 1], &ours[8..], &[0xc0, 12, 0, 1]].concat();
    let edns = |mut octets: Vec<u8>, options: &[u8]| {
        octets[11] += 1;
        [octets, opt(1232, true, options)].concat()
    };
    let nothing = |name: &str| (name.to_owned(), query(name, A, &[]), NXDOMAIN, OTHER);
    let mut all = ["x.onion", "x.local", "x.test", "x.invalid", "x.alt", "1.1.254.169.in-addr.arpa", "x.shut.example", "short"]
        .map(nothing)
        .to_vec();
    for name in ["1.1.168.192.in-addr.arpa", "nas.home.arpa", "1.1.16.172.in-addr.arpa", "ads.example"] {
        all.push((name.to_owned(), query(name, A, &[]), NXDOMAIN, BLOCKED));
    }
    for name in ["web.service.consul", "localhost", "round.example", "own.example", "x.onion", "x.shut.example"] {
        all.push((format!("CH {name}"), of_class(query(name, A, &[]), CHAOS), REFUSED, NOT_SUPPORTED));
    }
    for qtype in [251, 252] {
        all.push((format!("a transfer, {qtype}"), query("consul", qtype, &[]), NOTIMP, NOT_SUPPORTED));
        all.push((format!("a transfer of a zone, {qtype}"), query("own.example", qtype, &[]), REFUSED, NOT_SUPPORTED));
    }
    for opcode in [1, 2, 3, 4, 5, 7, 15] {
        all.push((format!("opcode {opcode}"), with_bits(&ours, opcode << 3), NOTIMP, NOT_SUPPORTED));
    }
    for name in ["round.example", "round.own.example"] {
        all.push((name.to_owned(), query(name, A, &[]), SERVFAIL, OTHER));
    }
    all.push(("two questions".into(), with_two, FORMERR, OTHER));
    all.push(("no question".into(), [&ours[..4], &[0, 0], &ours[6..12]].concat(), FORMERR, OTHER));
    for (what, octets, code, reason) in all {
        for stream in [false, true] {
            let ask = |octets: &[u8]| if stream { Stream::open(rollcall.dns).ask(octets) } else { ask(rollcall.dns, octets) };
            let answer = ask(&edns(octets.clone(), &[]));
            assert_eq!((rcode(&answer), extended_error(&answer)), (code, reason), "{what}");
            let own = records(&answer).pop().expect("an OPT record");
            let dnssec_ok = answer[own.at + 7];
            assert_eq!((own.kind, dnssec_ok), (OPT, 0x80), "{what}: RFC 3225, 3");
            assert_eq!(answer[own.at + 3..own.at + 5], 1232u16.to_be_bytes(), "{what}: what we take");
            // RFC 6891, 7: who sent no OPT record gets none.
            assert!(!has_edns(&ask(&octets)), "{what}");
        }
    }
    let options: [(&str, Vec<u8>); 4] = [
        ("a cookie of two octets", edns(ours.clone(), &[0, 10, 0, 2, 1, 2])),
        ("a subnet of 33 bits", edns(ours.clone(), &[0, 8, 0, 5, 0, 1, 33, 0, 10])),
        ("half an option", edns(ours.clone(), &[0, 10, 0, 9, 1])),
        ("two OPT records", edns(edns(ours.clone(), &[]), &[])),
    ];
    for (what, octets) in options {
        let answer = ask(rollcall.dns, &octets);
        assert_eq!((rcode(&answer), extended_error(&answer)), (FORMERR, OTHER), "{what}");
    }
    let mut later = edns(ours.clone(), &[]);
    later[ours.len() + 6] = 1;
    let answer = ask(rollcall.dns, &later);
    assert_eq!((rcode(&answer), extended_error(&answer)), (BADVERS, NOT_SUPPORTED));
    // What stands behind an OPT record spoils nothing, and what stands before it may hide it.
    let answer = ask(rollcall.dns, &[edns(ours.clone(), &[]), vec![0]].concat());
    assert_eq!((rcode(&answer), extended_error(&answer)), (FORMERR, OTHER));
    let answer = ask(rollcall.dns, &edns(cut_record, &[]));
    assert_eq!((rcode(&answer), has_edns(&answer)), (FORMERR, false));
    // What is true of our own data is no error: there is no such name, or no such data.
    for name in ["no.service.consul", "no.own.example", "resolver.arpa"] {
        let answer = ask(rollcall.dns, &edns(query(name, TXT, &[]), &[]));
        assert_eq!((extended_error(&answer), counts(&answer)), (None, [0, 1, 1]), "{name}");
    }
    assert_eq!(witness.asked(), [""; 0], "nobody was asked");
}

#[test]
fn rfc6891_6_1_1_errors_have_an_opt_record_for_who_sent_one() {
    let stage = Stage::set();
    let own = opt(1232, false, &[]);
    for opcode in [1, 2, 5, 6, 15] {
        let asked = with_bits(&query("web.service.consul", A, std::slice::from_ref(&own)), opcode << 3);
        for answer in [stage.ask(&asked), stage.stream().ask(&asked)] {
            assert_eq!((rcode(&answer), counts(&answer)), (NOTIMP, [0, 0, 1]), "opcode {opcode}");
        }
    }
    // An update has records before it.
    let mut update = query("consul", SOA, &[]);
    (update[2], update[7], update[9], update[11]) = (5 << 3, 1, 1, 1);
    let exists = [&[0xc0, 12][..], &A.to_be_bytes(), &[0, 255], &[0; 6]].concat();
    let update = [update, exists, record(A, 300, &[192, 0, 2, 66]), own.clone()].concat();
    assert_eq!((rcode(&stage.ask(&update)), has_edns(&stage.ask(&update))), (NOTIMP, true));
    // Elsewhere it is none.
    let mut elsewhere = query("web.service.consul", A, &[]);
    elsewhere[7] = 1;
    let answer = stage.ask(&[with_bits(&elsewhere, 2 << 3), own].concat());
    assert_eq!((rcode(&answer), has_edns(&answer)), (NOTIMP, false));
}

#[test]
fn rfc6303_4_reverse_names_of_this_host_and_link_stay_here() {
    let stage = Stage::set();
    stage.keeps(
        &[
            "0.in-addr.arpa",
            "7.0.0.127.in-addr.arpa",
            "1.1.254.169.in-addr.arpa",
            "255.255.255.255.in-addr.arpa",
            "1.8.e.f.ip6.arpa",
            "1.b.e.f.ip6.arpa",
            "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
        ],
        NXDOMAIN,
    );
    assert_eq!(stage.rollcall.ask("1.0.0.127.in-addr.arpa", "PTR").answers(), ["localhost."]);
    // Of private networks those know who are asked, unless they are not to be.
    stage.passes(&["1.1.168.192.in-addr.arpa", "1.0.0.10.in-addr.arpa"]);
}

#[test]
fn rfc6303_4_1_and_rfc7793_reverse_names_of_private_networks_stay_here_when_told_so() {
    for mode in ["block", "block-reverse"] {
        let stage = Stage::with(&format!("private_names = \"{mode}\"\n"));
        stage.keeps(
            &[
                "1.0.0.10.in-addr.arpa",
                "10.in-addr.arpa",
                "1.16.172.in-addr.arpa",
                "9.31.172.in-addr.arpa",
                "1.1.168.192.in-addr.arpa",
                "1.64.100.in-addr.arpa",
                "1.127.100.in-addr.arpa",
                "0.0.d.f.ip6.arpa",
                "1.c.f.ip6.arpa",
            ],
            NXDOMAIN,
        );
        // From the registry, if it is known there.
        assert_eq!(rcode(&stage.answer("1.0.1.127.in-addr.arpa", PTR)), NOERROR);
        stage.passes(&["1.32.172.in-addr.arpa", "1.63.100.in-addr.arpa"]);
    }
}

#[test]
fn rfc6761_6_3_localhost_is_this_host() {
    let stage = Stage::set();
    for name in ["localhost", "app.localhost", "a.b.LOCALHOST"] {
        assert_eq!(stage.rollcall.ask(name, "A").answers(), ["127.0.0.1"], "{name}");
        assert_eq!(stage.rollcall.ask(name, "AAAA").answers(), ["::1"], "{name}");
        let other = stage.answer(name, TXT);
        assert_eq!((rcode(&other), counts(&other)), (NOERROR, [0, 1, 0]), "{name}");
    }
    assert_eq!(stage.witness.asked(), [""; 0]);
}

#[test]
fn rfc6761_6_2_and_6_4_test_and_invalid_are_nowhere() {
    let stage = Stage::set();
    stage.keeps(&["test", "www.test", "invalid", "a.b.invalid"], NXDOMAIN);
    // RFC 6761, 6.5: nothing is special about these.
    stage.passes(&["example", "www.example.com"]);
}

#[test]
fn rfc6762_22_1_local_is_for_multicast() {
    let stage = Stage::set();
    stage.keeps(&["local", "printer.local", "_http._tcp.local"], NXDOMAIN);
    drop(stage);
    // Some networks have it in DNS all the same, and say so.
    let own = Witness::start();
    let stage = Stage::with(&format!("[[forward.route]]\ndomains = [\"local\"]\nupstreams = [\"{}\"]\n", own.address));
    assert_eq!(stage.rollcall.ask("printer.local", "A").answers(), [Witness::ANSWER]);
    assert_eq!((own.count("printer.local."), stage.witness.asked().len()), (1, 0));
}

#[test]
fn rfc7686_2_onion_is_nowhere() {
    Stage::set().keeps(&["onion", "x.onion", "a.b.ONION"], NXDOMAIN);
}

#[test]
fn rfc9476_2_alt_is_not_of_the_dns() {
    Stage::set().keeps(&["alt", "x.alt", "a.b.Alt"], NXDOMAIN);
}

#[test]
fn rfc8375_4_home_arpa_is_answered_at_home() {
    let stage = Stage::with("private_names = \"block\"\n");
    stage.keeps(&["home.arpa", "nas.home.arpa", "internal", "db.internal"], NXDOMAIN);
    // The only resolver of a host asks the home's router, unless it is told not to.
    Stage::set().passes(&["nas.home.arpa", "metadata.google.internal"]);
}

#[test]
fn rfc9462_6_4_resolver_arpa_is_of_this_hop() {
    Stage::set().keeps(&["resolver.arpa", "x.resolver.arpa"], NOERROR);
    Stage::set().keeps(&["_dns.resolver.arpa"], NOERROR);
}

#[test]
fn rfc8880_7_1_and_rfc6147_5_what_an_upstream_makes_of_addresses_passes() {
    let made = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 0, 170];
    let upstream = Scripted::start(move |heard| vec![reply(&heard.octets, [0, 0], [&[record(AAAA, 300, &made)], &[], &[]])]);
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    for name in ["ipv4only.arpa", "www.example.net"] {
        let answer = ask(rollcall.dns, &query(name, AAAA, &[]));
        assert_eq!(records(&answer)[0].data, made, "{name}");
    }
    assert_eq!(dns::udp(rollcall.dns, "localhost", "AAAA").expect("an answer").answers(), ["::1"]);
    assert_eq!(dns::udp(rollcall.dns, "x.service.consul", "AAAA").expect("an answer").rcode(), ResponseCode::NXDomain);
    assert_eq!(upstream.heard().len(), 2, "none is made for our own names");
}

#[test]
fn rfc9460_10_service_bindings_pass_to_the_octet() {
    // A parameter that nobody knows, whose value looks like a pointer.
    let data = [&[0, 1][..], &name("svc.example.net"), &[0, 1, 0, 3, 2, b'h', b'3', 0xfe, 0, 0, 2, 0xc0, 12]].concat();
    let copy = data.clone();
    let upstream = Scripted::start(move |heard| {
        let kind = heard.octets[question_end(&heard.octets) - 3];
        vec![reply(&heard.octets, [0, 0], [&[record(u16::from(kind), 300, &copy)], &[], &[]])]
    });
    let directory = directory();
    let rollcall = Launch::serve(directory.path()).option("--upstream", upstream.address.to_string()).start();
    for qtype in [SVCB, HTTPS] {
        for _ in 0..2 {
            assert_eq!(records(&ask(rollcall.dns, &query("www.example.net", qtype, &[])))[0].data, data, "{qtype}");
        }
    }
}
